//! What the pool's protocol is made of. `model.rs` puts loom's in its place, which tries every order of events.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
pub(super) use std::sync::{Arc, Mutex};
pub(super) use std::thread::{Builder, JoinHandle, Thread, park, yield_now};
use std::time::{Duration, Instant};

/// How long a worker without work spins before it sleeps.
const SPIN: Duration = Duration::from_micros(20);
/// Looks at the shared state between two looks at the clock.
const LOOKS: u32 = 16;

/// Says when a worker has spun for long enough.
#[derive(Default)]
pub(super) struct Patience {
    since: Option<Instant>,
    looks: u32,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Counts a look at the shared state; whether it was the last.
    pub(super) fn is_over(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        self.looks.is_multiple_of(LOOKS) && self.since.get_or_insert_with(Instant::now).elapsed() > SPIN
    }
}

/// A value that threads reach by other means than a borrow.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Hands on the address, to read.
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Hands on the address, to write.
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
