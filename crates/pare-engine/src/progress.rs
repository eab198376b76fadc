//! Progress and interruption: the engine reports, the binary shows.

use std::sync::atomic::{AtomicBool, Ordering};

/// Receives progress of long work.
pub trait Progress: Sync {
    /// A stage begins: its name, and how many steps it has.
    fn begin(&self, stage: &str, steps: u64);
    /// Some steps are done; `note` says how it goes (may be empty).
    fn advance(&self, steps: u64, note: &str);
    /// The stage is over.
    fn end(&self);
    /// Something that the user should know, and that does not end the work. Ignored where nobody reads it.
    fn note(&self, _text: &str) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
}

/// Set by Ctrl-C; long work looks at it between steps and stops with [`Interrupted`].
#[derive(Debug, Default)]
pub struct Interrupt(AtomicBool);

/// The work was stopped by the user. Nothing half-written is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// A flag that is not set.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks the work to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error once the work was asked to stop.
    ///
    /// # Errors
    /// [`Interrupted`] when the flag is set.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}

/// What all long work is given: threads, where to report, and when to stop.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Threads.
    pub pool: &'a pare_kernels::pool::Pool,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}
