//! Independent pieces of work, shared among the threads, their results in order.

use pare_kernels::pool::Pool;
use std::sync::{Mutex, PoisonError};

/// `f(0), f(1), ..` up to `count`, in order; the first error in that order, when there is one.
///
/// `f` must not use the pool itself.
pub(crate) fn each<T: Send, E: Send>(
    count: usize,
    pool: &Pool,
    f: &(dyn Fn(usize) -> Result<T, E> + Sync),
) -> Result<Vec<T>, E> {
    let slots: Vec<Mutex<Option<Result<T, E>>>> = (0..count).map(|_| Mutex::new(None)).collect();
    pool.run(count, &|index| {
        let outcome = f(index);
        *slots[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    });
    slots.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_error_wins() {
        let pool = Pool::new(2);
        assert_eq!(each(5, &pool, &|index| Ok::<_, ()>(index * index)), Ok(vec![0, 1, 4, 9, 16]));
        assert_eq!(each(5, &pool, &|index| if index % 2 == 1 { Err(index) } else { Ok(()) }), Err(1));
        assert_eq!(each(0, &pool, &|_| Ok::<(), ()>(())), Ok(vec![]));
    }
}
