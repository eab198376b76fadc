//! A slice that several threads write at once, each its own elements.

use crate::pool::Pool;
use std::marker::PhantomData;

/// Values that one part of [`each_row`] takes at least: less is not worth a thread.
const PIECE: usize = 1 << 13;

/// `job(t, row)` for each row of `rows` `[T, width]`, shared by threads when there are enough values. No allocation.
///
/// # Panics
/// When `rows` is not whole rows.
pub fn each_row(rows: &mut [f32], width: usize, pool: &Pool, job: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let count = rows.len().checked_div(width).unwrap_or(0);
    assert_eq!(rows.len(), count * width, "{} values in rows of {width}", rows.len());
    let each = PIECE.div_ceil(width.max(1));
    let rows = Shared::new(rows);
    pool.run(count.div_ceil(each), &|part| {
        for t in part * each..count.min((part + 1) * each) {
            // SAFETY: each row belongs to one part.
            job(t, unsafe { rows.slice_mut(t * width, width) });
        }
    });
}

/// The address of a mutable slice, for jobs that write disjoint elements of it.
#[derive(Clone, Copy)]
pub struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only carries the address; `window` gives no access, and `slice_mut` makes its user promise that no element has two.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Takes a slice for as long as the jobs run.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shared { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// Elements of the slice.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the slice has no element.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The address of element `start`, from which `rows` rows of `width` elements, one every `stride`, all lie in the slice.
    ///
    /// # Panics
    /// When they do not.
    pub fn window(&self, start: usize, rows: usize, stride: usize, width: usize) -> *mut T {
        let before = rows.saturating_sub(1).checked_mul(stride);
        let end = before.and_then(|before| before.checked_add(width)?.checked_add(start));
        let inside = end.is_some_and(|end| end <= self.length);
        assert!(inside, "{rows} rows of {width}, one every {stride}, from {start}: a shared slice of {}", self.length);
        // SAFETY: within the slice or one past its end.
        unsafe { self.start.add(start) }
    }

    /// Elements `start..start + length`.
    ///
    /// # Panics
    /// When they are not all in the slice.
    ///
    /// # Safety
    /// No other thread may read or write these elements while the result lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice_mut(&self, start: usize, length: usize) -> &mut [T] {
        assert!(
            start <= self.length && length <= self.length - start,
            "a shared slice of {} is too short",
            self.length
        );
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}
