//! The portable kernels, the pool and their memory under Miri, which finds reads, writes and orders that the language forbids.

use crate::project::{Project, run};
use anyhow::{Result, bail};
use std::process::Stdio;

/// The modules of pare-kernels that hold `unsafe` which Miri can run: all but what needs the processor's own instructions.
const MODULES: &[&str] = &[
    "attention",
    "block_diagonal",
    "convert",
    "gram",
    "int8",
    "memory",
    "panels",
    "pool::tests",
    "product",
    "quant",
    "rows",
    "shared",
    "sparse",
    "tile",
];

/// Runs their tests under Miri.
///
/// # Errors
/// A test fails, or Miri is not installed: then nothing was checked, and that is no success.
pub(crate) fn check(project: &Project) -> Result<()> {
    let miri = |arguments: &[&str]| {
        let mut command = project.command("rustup");
        command.args(["run", "nightly", "cargo", "miri"]).args(arguments);
        command
    };
    let there =
        miri(&["--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        bail!("Miri DID NOT RUN: it is not installed (`rustup toolchain install nightly --component miri,rust-src`)");
    }
    run(miri(&["test", "--package", "pare-kernels", "--lib", "--"]).args(MODULES))
}
