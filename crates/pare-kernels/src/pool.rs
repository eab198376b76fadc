//! A persistent pool of threads for fork-join work.

/// Threads that wait for work.
#[derive(Debug)]
pub struct Pool {}
