//! The pool's protocol under loom: the same source, every order of events and every value that a weak memory may show.

#[path = "protocol.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    reason = "the source under test, with other threads and atomics beneath"
)]
mod protocol;

/// loom's in the place of the standard library's.
mod sync {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
    pub(super) use loom::sync::{Arc, Mutex};
    pub(super) use loom::thread::{Builder, JoinHandle, Thread, park, yield_now};

    /// A model has no clock: a worker that finds nothing goes to sleep at once, which is where orders matter.
    pub(super) struct Patience;

    impl Patience {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) fn is_over(&mut self) -> bool {
            true
        }
    }
}

use loom::cell::Cell;
use loom::sync::atomic::AtomicUsize;
use protocol::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

/// Every order with at most so many switches away from a thread that could go on.
fn every_order(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(check);
}

/// A cell that loom watches: two threads at once in it, or a read that nothing orders after the write, is an error.
struct Watched(Cell<usize>);

// SAFETY: loom itself refuses a use that is not ordered.
unsafe impl Sync for Watched {}

fn jobs_are_done_once_and_seen_by_the_caller(pool: &Pool, parts: usize, jobs: usize) {
    let results: Vec<Watched> = (0..parts).map(|_| Watched(Cell::new(0))).collect();
    for job in 1..=jobs {
        pool.run(parts, &|part| results[part].0.set(results[part].0.get() + job));
    }
    assert!(results.iter().all(|result| result.0.get() == jobs * (jobs + 1) / 2));
}

#[test]
fn two_threads_share_jobs_one_after_the_other() {
    every_order(3, || jobs_are_done_once_and_seen_by_the_caller(&Pool::new(2), 2, 2));
}

#[test]
fn three_threads_share_a_job() {
    every_order(2, || jobs_are_done_once_and_seen_by_the_caller(&Pool::new(3), 3, 1));
}

#[test]
fn a_panic_is_raised_after_all_have_left() {
    every_order(2, || {
        let pool = Pool::new(2);
        let ended = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, &|part| {
                if part == 0 {
                    resume_unwind(Box::new("bad part"));
                }
                ended.fetch_add(1, Ordering::Relaxed);
            })
        }));
        assert_eq!(outcome.expect_err("it is raised again").downcast_ref::<&str>(), Some(&"bad part"));
        jobs_are_done_once_and_seen_by_the_caller(&pool, 2, 1);
    });
}

#[test]
fn a_pool_without_work_ends() {
    every_order(3, || drop(Pool::new(2)));
}
