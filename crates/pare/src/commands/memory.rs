//! `pare memory`: the most memory of a process that runs one model alone; and the same asked of a process of its own.

use crate::show;
use anyhow::Result;
use pare_engine::bench::peak_memory;
use pare_engine::progress::Work;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn run(model: &str, work: Work<'_>) -> Result<()> {
    show::json(&json!({ "peak_memory_bytes": peak_memory(model, work)? }))
}

/// Asks a new process of this program, with as many threads; none when it cannot be started or cannot say.
pub(crate) fn of(model: &Path, threads: usize) -> Option<u64> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg("memory").arg(model).args(["--quiet", "--threads", &threads.to_string()]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    serde_json::from_slice::<Value>(&output.stdout).ok()?.get("peak_memory_bytes")?.as_u64()
}
