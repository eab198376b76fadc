//! Where the project is, and running programs in it.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The model that tests, goldens and peers run on.
pub(crate) const MODEL: &str = "smollm2-135m";
/// How it is fetched, as arguments of `pare`.
pub(crate) const FETCH: [&str; 2] = ["pull", MODEL];

/// The checkout.
pub(crate) struct Project {
    /// Its root.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    cargo: OsString,
}

impl Project {
    /// The checkout that this program was started from.
    ///
    /// # Errors
    /// Not started by cargo.
    pub(crate) fn find() -> Result<Self> {
        // At run time, not at build time: a checkout may be moved.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").context("not started by `cargo xtask`")?;
        let package = PathBuf::from(package);
        let root = package.parent().context("xtask has no folder above it")?.to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { root, target, cargo: std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()) })
    }

    /// A command that runs at the root.
    pub(crate) fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        command.current_dir(&self.root);
        command
    }

    /// `cargo ARGUMENTS`.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.cargo);
        command.args(arguments);
        command
    }

    /// The program `pare`, built when it has to be.
    pub(crate) fn pare(&self, profile: &str) -> Command {
        self.cargo(&["run", "--quiet", "--locked", "--profile", profile, "--package", "pare-llm", "--"])
    }

    /// The program `pare` as the last build of the tests left it.
    pub(crate) fn tested_pare(&self) -> Command {
        self.command(self.target.join("ci").join(format!("pare{}", std::env::consts::EXE_SUFFIX)))
    }
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let words = program.file_name().into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command, its output going where ours goes.
///
/// # Errors
/// It cannot be started, or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{}: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed; its errors go where ours go.
///
/// # Errors
/// It cannot be started, does not succeed, or prints something that is not UTF-8.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let (text, succeeded) = capture_any(command)?;
    if !succeeded {
        bail!("{} failed", shown(command));
    }
    Ok(text)
}

/// As [`capture`], with whether it succeeded.
///
/// # Errors
/// It cannot be started, or prints something that is not UTF-8.
pub(crate) fn capture_any(command: &mut Command) -> Result<(String, bool)> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot run {}", shown(command)))?;
    let text = String::from_utf8(output.stdout).with_context(|| format!("{}: output", shown(command)))?;
    Ok((text, output.status.success()))
}
