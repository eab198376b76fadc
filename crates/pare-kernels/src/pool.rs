//! A persistent pool of threads for fork-join work.

#[cfg(all(test, not(miri)))]
mod model;
mod protocol;
mod sync;
#[cfg(test)]
mod tests;

pub use protocol::Pool;

/// The number of threads that this machine runs at once.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}
