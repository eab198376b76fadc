//! What CI runs, step by step, and the part of it that runs the tests.

use crate::project::{self, Project, run};
use crate::python::{self, NUMPY};
use crate::{catalogue, dist, tidy};
use anyhow::{Context as _, Result};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Everything that `cargo test` builds, and the program beside it: one resolution of features, so nothing is built twice.
const BUILD: &[&str] =
    &["build", "--workspace", "--all-features", "--bins", "--tests", "--examples", "--profile", "ci", "--locked"];
const TEST: &[&str] = &["test", "--workspace", "--all-features", "--profile", "ci", "--locked"];
const CLIPPY: &[&str] =
    &["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"];
const DOC: &[&str] = &["doc", "--workspace", "--no-deps", "--all-features", "--locked"];

/// Steps that were run, with their seconds.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, f64)>,
}

impl Steps {
    /// Announces a step, runs it and notes its time; a failure ends the run with the table.
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let begun = Instant::now();
        let result = work();
        let seconds = begun.elapsed().as_secs_f64();
        self.done.push((name, seconds));
        println!("== {name}: {} after {seconds:.1} s", if result.is_ok() { "passed" } else { "FAILED" });
        if result.is_err() {
            println!("\n{}", self.table());
        }
        result.with_context(|| format!("step {name:?}"))
    }

    fn table(&self) -> String {
        let rows = self.done.iter().map(|(name, seconds)| format!("{name:<12} {seconds:>8.1} s\n"));
        let total: f64 = self.done.iter().map(|(_, seconds)| seconds).sum();
        format!("{}{:<12} {total:>8.1} s", rows.collect::<String>(), "all")
    }
}

/// Runs every step, up to the first that fails.
pub(crate) fn check(project: &Project) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("fmt", || run(&mut project.cargo(&["fmt", "--all", "--", "--check"])))?;
    steps.step("tidy", || tidy::run(&project.root))?;
    steps.step("dependencies", || dependencies(project))?;
    steps.step("clippy", || run(&mut project.cargo(CLIPPY)))?;
    steps.step("rustdoc", || run(project.cargo(DOC).env("RUSTDOCFLAGS", "-D warnings")))?;
    steps.step("build", || run(&mut project.cargo(BUILD)))?;
    steps.step("catalogue", || catalogue::compare(project, project.tested_pare()))?;
    steps.step("tests", || test(project, &[]))?;
    steps.step("wheel", || dist::trial(project))?;
    println!("\n{}", steps.table());
    Ok(())
}

/// Runs the tests with what they need; `arguments` go to `cargo test`.
pub(crate) fn test(project: &Project, arguments: &[&str]) -> Result<()> {
    run(&mut prepared(project, arguments)?)
}

/// `cargo test` with the model in the cache and Python with numpy at hand.
pub(crate) fn prepared(project: &Project, arguments: &[&str]) -> Result<Command> {
    let python = python::environment(project, &project.target.join("venv"), NUMPY)?;
    run(&mut project.cargo(BUILD))?;
    run(project.tested_pare().args(project::FETCH))?;
    let mut tests = project.cargo(TEST);
    tests.args(arguments).env("PARE_PYTHON_NUMPY", python);
    Ok(tests)
}

/// `cargo deny check`, where it is installed.
fn dependencies(project: &Project) -> Result<()> {
    let asked = project.cargo(&["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if asked.is_ok_and(|status| status.success()) {
        return run(&mut project.cargo(&["deny", "check"]));
    }
    println!("not checked: cargo-deny is not installed (`cargo install cargo-deny`)");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Steps;

    #[test]
    fn the_table_adds_up() {
        let steps = Steps { done: vec![("fmt", 1.5), ("clippy", 60.0)] };
        assert_eq!(steps.table(), "fmt               1.5 s\nclippy           60.0 s\nall              61.5 s");
    }

    #[test]
    fn a_failed_step_is_named() {
        let error = Steps::default().step("tidy", || anyhow::bail!("two faults")).unwrap_err();
        assert_eq!(format!("{error:#}"), "step \"tidy\": two faults");
    }
}
