//! A persistent pool of threads for fork-join work.

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker without work spins before it sleeps.
const SPIN: Duration = Duration::from_micros(20);
/// Looks at the shared state between two looks at the clock.
const LOOKS: u32 = 16;

/// In `State::word`: workers inside the job (low 16 bits), whether more may enter, and the job's number above.
const INSIDE: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const NUMBER: u64 = 1 << 17;

/// The number of threads that this machine runs at once.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// Threads that wait for work and share it with the caller.
///
/// A job is dealt part by part through one atomic counter, so which thread runs which part is not fixed; jobs must not
/// depend on it. A call allocates nothing. Calls from inside a job, or from a second thread while a job runs, run in
/// the calling thread alone.
pub struct Pool {
    state: Arc<State>,
    workers: Vec<Worker>,
    entry: Mutex<()>,
}

struct Worker {
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

struct Job {
    run: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

#[repr(align(128))]
struct State {
    word: AtomicU64,
    next: Line<AtomicUsize>,
    job: Line<UnsafeCell<Option<Job>>>,
    stop: AtomicBool,
    sleeping: Vec<AtomicBool>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Keeps a busy atomic on a cache line of its own.
#[repr(align(128))]
struct Line<T>(T);

// SAFETY: `job` is written only by the holder of `entry` while no worker is inside the job, and read only by workers
// that entered; the word's acquire and release order the two.
unsafe impl Sync for State {}
// SAFETY: the pointer in `job` is used only while `Pool::run`, which borrows its target, waits.
unsafe impl Send for State {}

impl Pool {
    /// A pool of `threads` threads, the caller included; 0 is treated as 1.
    pub fn new(threads: usize) -> Pool {
        let extra = threads.clamp(1, INSIDE as usize) - 1;
        let state = Arc::new(State {
            word: AtomicU64::new(0),
            next: Line(AtomicUsize::new(0)),
            job: Line(UnsafeCell::new(None)),
            stop: AtomicBool::new(false),
            sleeping: (0..extra).map(|_| AtomicBool::new(false)).collect(),
            panic: Mutex::new(None),
        });
        // A system that refuses more threads leaves a smaller pool: results do not depend on the number.
        let workers = (0..extra)
            .map_while(|index| {
                let state = Arc::clone(&state);
                let builder = std::thread::Builder::new().name(format!("pare-{index}"));
                builder.spawn(move || state.work(index)).ok()
            })
            .map(|handle| Worker { thread: handle.thread().clone(), handle: Some(handle) })
            .collect();
        Pool { state, workers, entry: Mutex::new(()) }
    }

    /// The number of threads that take part in a job, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(0)`, `job(1)` ... `job(parts - 1)`, in any order, and returns when all are done.
    ///
    /// # Panics
    /// When a part panics: the parts not yet begun are dropped, and the first panic is raised again here. The pool
    /// stays usable.
    pub fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        let guard = match self.entry.try_lock() {
            _ if parts <= 1 || self.workers.is_empty() => None,
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let Some(guard) = guard else {
            return (0..parts).for_each(job);
        };
        let state = &*self.state;
        // SAFETY: this only lengthens the lifetime; no worker uses the pointer after this function has seen all leave.
        let run = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(job)
        };
        // SAFETY: `entry` is held and the job before is closed and empty, so nobody else looks at the cell.
        unsafe { *state.job.0.get() = Some(Job { run, parts }) };
        state.next.0.store(0, Ordering::Relaxed);
        let number = (state.word.load(Ordering::Relaxed) & !(NUMBER - 1)).wrapping_add(NUMBER);
        state.word.store(number | OPEN, Ordering::Release);
        // Orders the store of the word before the look at `sleeping`; `work` does the same the other way round.
        fence(Ordering::SeqCst);
        for (worker, sleeping) in self.workers.iter().zip(&state.sleeping).take(parts - 1) {
            if sleeping.load(Ordering::Relaxed) && sleeping.swap(false, Ordering::Relaxed) {
                worker.thread.unpark();
            }
        }
        state.take_parts(job, parts);
        // Workers that have not entered yet are not waited for.
        let mut word = state.word.fetch_and(!OPEN, Ordering::Acquire) & !OPEN;
        let mut looks = 0u32;
        while word & INSIDE != 0 {
            looks += 1;
            if looks < 2000 {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
            word = state.word.load(Ordering::Acquire);
        }
        let panic = state.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl State {
    /// Takes parts until none is left.
    fn take_parts(&self, job: &(dyn Fn(usize) + Sync), parts: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let part = self.next.0.fetch_add(1, Ordering::Relaxed);
                if part >= parts {
                    return;
                }
                job(part);
            }
        }));
        if let Err(panic) = outcome {
            self.next.0.store(parts, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }

    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let mut last = 0;
        while let Some(number) = self.enter(index, last) {
            last = number;
            // SAFETY: this thread entered, so the cell was written before and is not written until it leaves.
            if let Some(job) = unsafe { &*self.job.0.get() } {
                // SAFETY: the caller of `run` borrows the target until this thread has left.
                self.take_parts(unsafe { &*job.run }, job.parts);
            }
            self.word.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an open job that is not number `last`, enters it and returns its number; `None` at the end.
    fn enter(&self, index: usize, last: u64) -> Option<u64> {
        let mut since: Option<Instant> = None;
        let mut looks = 0u32;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let number = word & !(NUMBER - 1);
            if word & OPEN != 0 && number != last {
                if self.word.compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return Some(number);
                }
                continue;
            }
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            std::hint::spin_loop();
            looks += 1;
            if looks.is_multiple_of(LOOKS) && since.get_or_insert_with(Instant::now).elapsed() > SPIN {
                self.sleep(index, word);
                since = None;
            }
        }
    }

    /// Sleeps until woken, unless the word is no longer `seen`.
    fn sleep(&self, index: usize, seen: u64) {
        let sleeping = &self.sleeping[index];
        sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.word.load(Ordering::Relaxed) == seen && !self.stop.load(Ordering::Relaxed) {
            while sleeping.load(Ordering::Relaxed) {
                std::thread::park();
            }
        }
        sleeping.store(false, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        for (worker, sleeping) in self.workers.iter_mut().zip(&self.state.sleeping) {
            sleeping.store(false, Ordering::Relaxed);
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker catches every panic of a job, so there is nothing to hand on.
                let _ = handle.join();
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            for round in 0..300 {
                count_parts(&pool, round % 17);
            }
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(3);
        for _ in 0..20 {
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
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(4, &|_| {
                            pool.run(5, &|_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 3 * 50 * 4 * 5);
    }
}
