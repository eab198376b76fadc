//! A slice that several threads write at once, each its own elements.

use std::marker::PhantomData;

/// The address of a mutable slice, for jobs that write disjoint elements of it.
#[derive(Clone, Copy)]
pub struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only carries the address; `at` and `slice_mut` make the user promise that no element has two users.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Takes a slice for as long as the jobs run.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shared { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// The address of element `index`, which may be one past the end.
    ///
    /// # Panics
    /// When it is further.
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index <= self.length, "element {index} of a shared slice of {}", self.length);
        // SAFETY: within the slice or one past its end.
        unsafe { self.start.add(index) }
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
