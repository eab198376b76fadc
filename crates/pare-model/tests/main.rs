//! The forward pass against transformers, and the law that its numbers keep: no result depends on threads, batches or layout, and what is
//! cut away counts as zeros.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod families;
mod forms;
mod fuzz_replay;
mod passes;
mod plans;
mod quantised;
mod removal;
mod shortcuts;
mod storages;
mod tiny;
