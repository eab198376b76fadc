//! Zeroed memory aligned to a cache line, and in huge pages when it is large.

#[cfg(all(target_os = "linux", not(miri)))]
mod huge;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const LINE: usize = 64;

/// Plain numbers.
///
/// # Safety
/// All-zero bytes are a value of the type, and it asks for no larger alignment than a cache line.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: a number.
unsafe impl Plain for f32 {}
// SAFETY: a number.
unsafe impl Plain for u16 {}
// SAFETY: a number.
unsafe impl Plain for u8 {}

/// A fixed number of values, zero at first, aligned to 64 bytes at least.
pub(crate) struct Aligned<T: Plain> {
    start: NonNull<T>,
    length: usize,
    origin: Origin,
}

/// Where memory is from, and with that who takes it back.
enum Origin {
    Allocator(Layout),
    #[cfg(all(target_os = "linux", not(miri)))]
    HugePages {
        /// Gives the memory back when it is dropped.
        _piece: huge::Piece,
    },
}

// SAFETY: it owns its memory as a `Vec` would, and `Plain` values have no ties to a thread.
unsafe impl<T: Plain + Send> Send for Aligned<T> {}
// SAFETY: shared use only reads.
unsafe impl<T: Plain + Sync> Sync for Aligned<T> {}

impl<T: Plain> Aligned<T> {
    pub(crate) fn zeroed(length: usize) -> Self {
        const { assert!(align_of::<T>() <= LINE) };
        let bytes = length.checked_mul(size_of::<T>()).expect("the number of bytes fits usize");
        #[cfg(all(target_os = "linux", not(miri)))]
        if bytes >= huge::LARGE
            && let Some(piece) = huge::Piece::zeroed(bytes)
        {
            return Aligned { start: piece.start().cast::<T>(), length, origin: Origin::HugePages { _piece: piece } };
        }
        let layout = Layout::from_size_align(bytes.max(LINE), LINE).expect("the number of bytes fits isize");
        // SAFETY: the layout is never of size zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast::<T>()) else { handle_alloc_error(layout) };
        Aligned { start, length, origin: Origin::Allocator(layout) }
    }
}

impl<T: Plain> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `length` values were allocated and zeroed, and zero is a value of `T`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Plain> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T: Plain> Drop for Aligned<T> {
    fn drop(&mut self) {
        if let Origin::Allocator(layout) = self.origin {
            // SAFETY: allocated by `zeroed` with this very layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

impl<T: Plain> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({} values)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_aligned() {
        for length in [0usize, 1, 1000, if cfg!(miri) { 3000 } else { 3 << 20 }] {
            let memory = Aligned::<f32>::zeroed(length);
            assert_eq!(memory.len(), length);
            assert_eq!(memory.as_ptr() as usize % LINE, 0);
            assert!(memory.iter().all(|&value| value.to_bits() == 0));
        }
    }
}
