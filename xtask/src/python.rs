//! Virtual environments of Python under `target/`, with pinned packages.

use crate::project::{Project, run};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the goldens' scripts and the independent reader of checkpoints need.
pub(crate) const NUMPY: &[(&str, &str)] = &[("numpy", "2.4.6")];

/// The interpreter of the environment `folder`, which is made when it is missing or holds other versions.
///
/// # Errors
/// Python, its `venv` module or the package index is missing.
pub(crate) fn environment(project: &Project, folder: &Path, packages: &[(&str, &str)]) -> Result<PathBuf> {
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if holds(&python, packages) {
        return Ok(python);
    }
    let system = std::env::var_os("PARE_PYTHON").unwrap_or_else(|| "python3".into());
    run(project.command(system).args(["-m", "venv", "--clear"]).arg(folder)).context(
        "tests need Python 3.11 or later with the modules venv and pip; PARE_PYTHON names another interpreter",
    )?;
    let pinned = packages.iter().map(|(name, version)| format!("{name}=={version}"));
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    run(project.command(&python).args(options).args(pinned)).context("cannot install the pinned packages")?;
    Ok(python)
}

/// Whether the interpreter is there and sees exactly these versions.
fn holds(python: &Path, packages: &[(&str, &str)]) -> bool {
    let tests = packages.iter().map(|(name, version)| format!("version({name:?}) == {version:?}"));
    let all = tests.collect::<Vec<_>>().join(" and ");
    let program = format!("from importlib.metadata import version; raise SystemExit(not ({all}))");
    let quiet = Command::new(python).arg("-c").arg(program).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}
