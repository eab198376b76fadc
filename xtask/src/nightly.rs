//! What only a nightly compiler can check: Miri and fuzzing. Not a part of CI, which needs none.

use crate::project::{Project, capture, run};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// Where fuzzers stand; each folder is a workspace of its own.
const FUZZERS: &[&str] = &["crates/pare-format/fuzz", "crates/pare-engine/fuzz"];

/// What cargo-fuzz passes: counters at every edge, comparisons that are seen, addresses checked; and our own checks on.
const FUZZ_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing \
    -Zsanitizer=address -Cdebug-assertions -Coverflow-checks";

fn cargo(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.command("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments);
    command
}

/// Refuses to go on without what is asked for: then nothing was checked, and that is no success.
fn needs(project: &Project, what: &str, asked: &[&str], install: &str) -> Result<()> {
    let status = cargo(project, asked).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    bail!("{what} DID NOT RUN: it is not installed (`{install}`)")
}

/// The machine that nightly builds for.
fn host(project: &Project) -> Result<String> {
    let said = capture(project.command("rustup").args(["run", "nightly", "rustc", "-vV"]))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// Runs the tests of the portable kernels, the pool and their memory under Miri, which finds reads, writes and orders that the language
/// forbids.
///
/// # Errors
/// A test fails, or Miri is not installed.
pub(crate) fn miri(project: &Project) -> Result<()> {
    let install = "rustup toolchain install nightly --component miri,rust-src";
    needs(project, "Miri", &["miri", "--version"], install)?;
    run(cargo(project, &["miri", "test", "--package", "pare-kernels", "--lib", "--"]).args(MODULES))
}

/// Builds every fuzzer and runs each for `seconds`, over a copy of its corpus; the crash files of all that fail are named.
///
/// # Errors
/// A fuzzer finds something, or there is no nightly compiler.
pub(crate) fn fuzz(project: &Project, seconds: &str) -> Result<()> {
    let seconds: u32 =
        seconds.parse().ok().filter(|&seconds| seconds > 0).context("fuzz: expected seconds, above 0")?;
    needs(project, "The fuzzers", &["--version"], "rustup toolchain install nightly")?;
    let host = host(project)?;
    let target = project.target.join("fuzz");
    let mut failed = Vec::new();
    for folder in FUZZERS.iter().map(|folder| project.root.join(folder)) {
        let build = ["build", "--release", "--target", &host, "--target-dir"];
        run(cargo(project, &build).arg(&target).current_dir(&folder).env("RUSTFLAGS", FUZZ_FLAGS))?;
        for name in names(&folder.join("fuzz_targets"))? {
            let program = target.join(&host).join("release").join(&name);
            let [corpus, crashes] = ["corpus", "crashes"].map(|kind| target.join(kind).join(&name));
            fs::create_dir_all(&crashes)?;
            copy_new(&folder.join("corpus").join(&name), &corpus)?;
            let mut fuzzer = project.command(program);
            fuzzer.arg(&corpus).arg(format!("-max_total_time={seconds}"));
            fuzzer.arg(format!("-artifact_prefix={}/", crashes.display()));
            fuzzer.args(["-timeout=20", "-rss_limit_mb=4096", "-verbosity=0", "-print_final_stats=1"]);
            let dictionary = folder.join(format!("{name}.dict"));
            if dictionary.is_file() {
                fuzzer.arg(format!("-dict={}", dictionary.display()));
            }
            if let Err(error) = run(&mut fuzzer) {
                failed.push(format!("{name}: {error}; see {}", crashes.display()));
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

/// The fuzzers of a folder, in the order of their names.
fn names(folder: &Path) -> Result<Vec<String>> {
    let files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let stem = |file: &PathBuf| file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut names: Vec<String> = files.iter().filter_map(stem).collect();
    names.sort();
    Ok(names)
}

/// Adds the files of `from` that `to` does not have: what a fuzzer found before stays.
fn copy_new(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}: a fuzzer needs seeds", from.display()))? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if !copy.exists() {
            fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}
