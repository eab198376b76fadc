//! Results of independent pieces of work, in their order, however many threads there are.

use pare_kernels::pool::Pool;
use std::sync::{Mutex, PoisonError};

/// `[job(0), job(1) ... job(count - 1)]`, shared by the threads of the pool.
pub(crate) fn gather<R: Send>(pool: &Pool, count: usize, job: &(dyn Fn(usize) -> R + Sync)) -> Vec<R> {
    let slots: Vec<Mutex<Option<R>>> = (0..count).map(|_| Mutex::new(None)).collect();
    pool.run(count, &|part| {
        let result = job(part);
        *slots[part].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    // Every part has run, or its panic was raised again.
    slots.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        for threads in [1, 3] {
            assert_eq!(gather(&Pool::new(threads), 5, &|part| part * part), [0, 1, 4, 9, 16]);
        }
    }
}
