//! Large memory in huge pages, where the system has them (Linux): a decoded token reads every weight and the whole cache once, and a page
//! of 4 KiB is one look into the table of pages for every 64 lines of it.

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// What is smaller is left to the allocator.
pub(super) const LARGE: usize = 256 << 10;
/// Pieces that share a mapping share its huge pages: a matrix of a small model is smaller than one. Address space only: what is never
/// written takes no memory.
const CHUNK: usize = 64 << 20;
const HUGE: usize = 2 << 20;
/// Pieces begin and end with a page, so that each can be given back alone. No Linux that pare runs on has larger plain pages.
const PAGE: usize = 64 << 10;

/// Zeroed memory of its own within a mapping that others may share.
#[derive(Debug)]
pub(super) struct Piece {
    map: Arc<MmapRaw>,
    start: usize,
    bytes: usize,
}

/// The mapping that pieces are cut from, and how much of it is given away. Nothing is given twice, so that what is given is still zero.
static CURRENT: Mutex<Option<Chunk>> = Mutex::new(None);

struct Chunk {
    map: Arc<MmapRaw>,
    given: usize,
}

impl Piece {
    /// `bytes` zero bytes, aligned to a page; none where the system refuses.
    pub(super) fn zeroed(bytes: usize) -> Option<Self> {
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        if bytes > CHUNK / 2 {
            return Some(Self { map: map(bytes.checked_next_multiple_of(HUGE)?)?, start: 0, bytes });
        }
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, start) = match &*current {
            Some(chunk) if chunk.map.len() - chunk.given >= bytes => (Arc::clone(&chunk.map), chunk.given),
            _ => (map(CHUNK)?, 0),
        };
        *current = Some(Chunk { map: Arc::clone(&map), given: start + bytes });
        Some(Self { map, start, bytes })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        // SAFETY: the piece lies in the mapping, whose address is not null.
        unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(self.start)) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if Arc::strong_count(&self.map) > 1 {
            // SAFETY: nobody uses this piece any more, and no other shares a page with it. Where it fails the memory stays taken until
            // the mapping goes.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, self.start, self.bytes) };
        }
    }
}

fn map(bytes: usize) -> Option<Arc<MmapRaw>> {
    let map = MmapRaw::from(MmapOptions::new().len(bytes).map_anon().ok()?);
    // A system without huge pages says so; the memory is as good, if slower.
    let _ = map.advise(Advice::HugePage);
    Some(Arc::new(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(piece: &mut Piece) -> &mut [u8] {
        // SAFETY: the piece's own memory, which the test uses alone.
        unsafe { std::slice::from_raw_parts_mut(piece.start().as_ptr(), piece.bytes) }
    }

    #[test]
    fn pieces_are_zero_apart_and_stay_when_others_go() {
        let mut pieces: Vec<Piece> = [LARGE, LARGE + 1, 5 << 20, CHUNK / 2, CHUNK / 2 + 1, LARGE]
            .map(|bytes| Piece::zeroed(bytes).expect("address space for a few mappings"))
            .into();
        for (mark, piece) in pieces.iter_mut().enumerate() {
            assert_eq!(piece.start().as_ptr() as usize % PAGE, 0);
            assert!(bytes(piece).iter().all(|&byte| byte == 0), "{mark}");
            bytes(piece).fill(mark as u8 + 1);
        }
        pieces.remove(1);
        for (piece, mark) in pieces.iter_mut().zip([1, 3, 4, 5, 6]) {
            assert!(bytes(piece).iter().all(|&byte| byte == mark), "{mark}");
        }
        drop(pieces);
        let mut again = Piece::zeroed(LARGE).expect("address space for a mapping");
        assert!(bytes(&mut again).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn threads_get_pieces_of_their_own() {
        std::thread::scope(|scope| {
            for mark in 1..=4u8 {
                scope.spawn(move || {
                    let mut pieces: Vec<Piece> = (0..20).filter_map(|_| Piece::zeroed(LARGE)).collect();
                    assert_eq!(pieces.len(), 20);
                    pieces.iter_mut().for_each(|piece| bytes(piece).fill(mark));
                    std::thread::yield_now();
                    assert!(pieces.iter_mut().all(|piece| bytes(piece).iter().all(|&byte| byte == mark)));
                });
            }
        });
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        assert!(Piece::zeroed(usize::MAX).is_none());
        assert!(Piece::zeroed(usize::MAX / 2).is_none());
    }
}
