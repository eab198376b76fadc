//! The pool with real threads.

use super::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn count_parts(pool: &Pool, parts: usize) {
    let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
    pool.run(parts, &|part| {
        counts[part].fetch_add(1, Ordering::Relaxed);
    });
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
}

#[test]
fn every_part_runs_exactly_once() {
    for threads in [0, 1, 2, 3, 5] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for round in 0..if cfg!(miri) { 18 } else { 300 } {
            count_parts(&pool, round % 17);
        }
    }
}

#[test]
fn sleeping_workers_wake() {
    let pool = Pool::new(3);
    for _ in 0..if cfg!(miri) { 3 } else { 20 } {
        std::thread::sleep(Duration::from_millis(1));
        count_parts(&pool, 8);
    }
}

#[test]
fn a_second_thread_really_takes_part() {
    let pool = Pool::new(2);
    let both = std::sync::Barrier::new(2);
    pool.run(2, &|_| {
        both.wait();
    });
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads);
        for bad in 0..4 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(4, &|part| {
                    if part == bad {
                        resume_unwind(Box::new("bad part"));
                    }
                })
            }));
            let panic = outcome.expect_err("the panic must be raised again");
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"bad part"));
            count_parts(&pool, 9);
        }
    }
}

#[test]
fn nested_and_concurrent_calls_finish() {
    let pool = Pool::new(3);
    let total = AtomicUsize::new(0);
    let rounds = if cfg!(miri) { 3 } else { 50 };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..rounds {
                    pool.run(4, &|_| {
                        pool.run(5, &|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        })
                    });
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::Relaxed), 3 * rounds * 4 * 5);
}

/// A panic whose value panics again when it is dropped.
struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            resume_unwind(Box::new("dropped"));
        }
    }
}

#[test]
fn panics_that_panic_when_dropped_leave_no_thread_inside() {
    let pool = Pool::new(3);
    for _ in 0..20 {
        let both = std::sync::Barrier::new(3);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(3, &|_| {
                both.wait();
                resume_unwind(Box::new(Twice));
            })
        }));
        std::mem::forget(outcome.expect_err("the panic must be raised again"));
        count_parts(&pool, 9);
    }
}
