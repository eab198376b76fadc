//! How the threads of a pool hand a job to each other and take leave of it.

use super::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Builder, JoinHandle, Mutex, Patience, Thread, UnsafeCell, fence, park,
    spin_loop, yield_now,
};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, TryLockError};

/// In `State::word`: workers inside the job (low 16 bits), whether more may enter, and the job's number above.
const INSIDE: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const NUMBER: u64 = 1 << 17;

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
                let builder = Builder::new().name(format!("pare-{index}"));
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
        // SAFETY: this only lengthens the lifetime; no worker uses the pointer after `Inside` has seen all leave.
        let run = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(job)
        };
        // SAFETY: `entry` is held and the job before is closed and empty, so nobody else looks at the cell.
        state.job.0.with_mut(|cell| unsafe { *cell = Some(Job { run, parts }) });
        state.next.0.store(0, Ordering::Relaxed);
        let number = (state.word.load(Ordering::Relaxed) & !(NUMBER - 1)).wrapping_add(NUMBER);
        state.word.store(number | OPEN, Ordering::Release);
        let inside = Inside(state);
        // Orders the store of the word before the look at `sleeping`; `work` does the same the other way round.
        fence(Ordering::SeqCst);
        for (worker, sleeping) in self.workers.iter().zip(&state.sleeping).take(parts - 1) {
            if sleeping.load(Ordering::Relaxed) && sleeping.swap(false, Ordering::Relaxed) {
                worker.thread.unpark();
            }
        }
        state.take_parts(job, parts);
        drop(inside);
        let panic = state.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// An open job. Its end closes the job and waits for the workers inside, however the caller leaves.
struct Inside<'a>(&'a State);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Workers that have not entered yet are not waited for.
        let mut word = self.0.word.fetch_and(!OPEN, Ordering::Acquire) & !OPEN;
        let mut looks = 0u32;
        while word & INSIDE != 0 {
            looks += 1;
            if looks < 2000 {
                spin_loop()
            } else {
                yield_now()
            }
            word = self.0.word.load(Ordering::Acquire);
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
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match *first {
                None => *first = Some(panic),
                // Its value may panic when it is dropped, and nobody here could pass that on.
                Some(_) => std::mem::forget(panic),
            }
        }
    }

    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let mut last = 0;
        while let Some(number) = self.enter(index, last) {
            last = number;
            self.job.0.with(|cell| {
                // SAFETY: this thread entered, so the cell was written before and is not written until it leaves.
                if let Some(job) = unsafe { &*cell } {
                    // SAFETY: the caller of `run` borrows the target until this thread has left.
                    self.take_parts(unsafe { &*job.run }, job.parts);
                }
            });
            self.word.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an open job that is not number `last`, enters it and returns its number; `None` at the end.
    fn enter(&self, index: usize, last: u64) -> Option<u64> {
        let mut patience = Patience::new();
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
            spin_loop();
            if patience.is_over() {
                self.sleep(index, word);
                patience = Patience::new();
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
                park();
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
