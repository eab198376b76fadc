//! What is handed out: a program that needs nothing of the system, and a Python wheel that carries it, tried where nothing else is installed.
//!
//! Not a part of CI: the program is built once more, with all its dependencies, which takes minutes.

use crate::project::{Project, capture, run};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Files that go with the program.
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// Builds both under `target/dist`, and runs the program as pip installs it into an empty environment.
///
/// # Errors
/// Another system than Linux; the build; a program that asks the system for a library; Python with `venv` is missing; the installed
/// program does not run.
pub(crate) fn dist(project: &Project, profile: &str) -> Result<()> {
    let program = build(project, profile)?;
    let folder = project.target.join("dist");
    fs::create_dir_all(&folder)?;
    let version = env!("CARGO_PKG_VERSION");
    let handed_out = folder.join("pare");
    fs::copy(&program, &handed_out).with_context(|| format!("cannot copy {}", program.display()))?;

    let arch = std::env::consts::ARCH;
    // A program without libraries runs on the systems of either C library.
    let platform = format!("manylinux2014_{arch}.musllinux_1_1_{arch}");
    let python = std::env::var_os("PARE_PYTHON").unwrap_or_else(|| "python3".into());
    let mut write = project.command(&python);
    write.args(["tools/wheel.py".as_ref(), handed_out.as_os_str(), version.as_ref(), platform.as_ref()]);
    let wheel = capture(write.arg(&folder).args(LICENCES))?;
    let wheel = Path::new(wheel.trim());

    let venv = folder.join("venv");
    run(project.command(&python).args(["-m", "venv", "--clear"]).arg(&venv))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"];
    run(project.command(venv.join("bin/python")).args(install).arg(wheel))?;
    let installed = || {
        let mut command = project.command(venv.join("bin/pare"));
        // Nothing of this machine but the program itself.
        command.env_clear();
        command
    };
    let said = capture(installed().arg("--version"))?;
    if said.trim() != format!("pare {version}") {
        bail!("the installed program says {said:?}, expected pare {version}");
    }
    for arguments in [&["demo", "--help"][..], &["pull", "--help"], &["methods"]] {
        let said = capture(installed().args(arguments))?;
        if said.is_empty() {
            bail!("the installed program says nothing to {arguments:?}");
        }
    }
    for licence in LICENCES {
        if !below(&venv, licence)? {
            bail!("{licence} was not installed");
        }
    }
    println!("program: {}\nwheel:   {}", handed_out.display(), wheel.display());
    Ok(())
}

/// The program with the client of hubs, linked with all that it needs.
fn build(project: &Project, profile: &str) -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        bail!("dist builds for Linux, on Linux");
    }
    let host = capture(project.command("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", host.to_uppercase().replace('-', "_"));
    let fixed =
        ["build", "--locked", "--package", "pare-llm", "--features", "hub", "--target", host, "--profile", profile];
    // With a target of its own, the flag leaves build scripts and macros alone.
    let strip = format!("CARGO_PROFILE_{}_STRIP", profile.to_uppercase());
    run(project.cargo(&fixed).env(flags, "-C target-feature=+crt-static").env(strip, "symbols"))?;
    let program = project.target.join(host).join(profile).join("pare");
    if asks_for_a_loader(&fs::read(&program)?)? {
        bail!("{}: is linked with libraries of this system", program.display());
    }
    Ok(program)
}

/// Whether an ELF program of 64 bits, little endian, names a loader, which brings libraries in.
fn asks_for_a_loader(elf: &[u8]) -> Result<bool> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, bytes: usize| -> Result<usize> {
        let field = elf.get(at..at + bytes).context("the program is too short")?;
        Ok(field.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        bail!("the program is no ELF file of 64 bits");
    }
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(start + index * size, 4)? == INTERPRETER as usize {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file of this name is anywhere below `folder`.
fn below(folder: &Path, name: &str) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == name || entry.file_type()?.is_dir() && below(&entry.path(), name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::asks_for_a_loader;

    #[test]
    fn a_program_of_this_build_names_a_loader_and_one_without_the_header_does_not() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(asks_for_a_loader(&own).unwrap());
        let mut none = own.clone();
        none[56..58].fill(0);
        assert!(!asks_for_a_loader(&none).unwrap());
        assert!(asks_for_a_loader(b"MZ").is_err() && asks_for_a_loader(&own[..20]).is_err());
    }
}
