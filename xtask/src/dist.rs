//! What is handed out: a program that needs nothing of the system, and a Python wheel that carries it, tried where nothing else is installed.
//!
//! CI tries a wheel with the program that its tests run; building the program that is handed out, and a whole demonstration by it, take
//! minutes more and are `cargo xtask dist`.

use crate::project::{MODEL, Project, capture, run};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files that go with the program.
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];
const VERSION: &str = env!("CARGO_PKG_VERSION");
const ARCH: &str = std::env::consts::ARCH;

/// Builds both under `target/dist`, installs the wheel into an empty environment, and has the program fetch and pare the demonstration's
/// model there, without Python.
///
/// # Errors
/// Another system than Linux; the build; a program that asks the system for a library; Python with `venv` or the package index is missing;
/// the installed program does not do what it should.
pub(crate) fn dist(project: &Project, profile: &str) -> Result<()> {
    let program = build(project, profile)?;
    let folder = project.target.join("dist");
    fs::create_dir_all(&folder)?;
    let handed_out = folder.join("pare");
    fs::copy(&program, &handed_out).with_context(|| format!("cannot copy {}", program.display()))?;
    // A program without libraries runs on the systems of either C library.
    let installed =
        Installed::by_pip(project, &handed_out, &format!("manylinux2014_{ARCH}.musllinux_1_1_{ARCH}"), folder)?;
    installed.starts()?;
    installed.finds_hosts()?;
    installed.demonstrates()?;
    for file in [&handed_out, &installed.wheel] {
        println!("{:>12} bytes  {}", fs::metadata(file)?.len(), file.display());
    }
    Ok(())
}

/// Installs a wheel with the program that the tests run, and tries it on the model in the user's cache.
///
/// # Errors
/// As [`dist`], but for the build and the demonstration.
pub(crate) fn trial(project: &Project) -> Result<()> {
    if !cfg!(target_os = "linux") {
        println!("not tried: wheels are made for Linux");
        return Ok(());
    }
    let program = project.target.join("ci/pare");
    let folder = project.target.join("ci/wheel");
    let installed = Installed::by_pip(project, &program, &format!("linux_{ARCH}"), folder)?;
    installed.starts()?;
    installed.finds_hosts()?;
    installed.runs()
}

/// A wheel, and the program as pip installed it from there.
struct Installed<'a> {
    project: &'a Project,
    folder: PathBuf,
    wheel: PathBuf,
}

impl<'a> Installed<'a> {
    /// Makes the wheel in `folder` and installs it into an empty environment there.
    fn by_pip(project: &'a Project, program: &Path, platform: &str, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let python = std::env::var_os("PARE_PYTHON").unwrap_or_else(|| "python3".into());
        let mut write = project.command(&python);
        write.args(["tools/wheel.py".as_ref(), program.as_os_str(), VERSION.as_ref(), platform.as_ref()]);
        let wheel = capture(write.arg(&folder).args(LICENCES))?;
        let wheel = PathBuf::from(wheel.trim());
        let venv = folder.join("venv");
        run(project.command(&python).args(["-m", "venv", "--clear"]).arg(&venv))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"];
        run(project.command(venv.join("bin/python")).args(install).arg(&wheel))?;
        Ok(Self { project, folder, wheel })
    }

    /// The program, with no other in its reach: no Python and no pip.
    fn pare(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(self.folder.join("venv/bin/pare"));
        command.args(arguments).env("PATH", "").env("PARE_PYTHON", "/none");
        command
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let said = capture(&mut self.pare(arguments))?;
        serde_json::from_str(&said).with_context(|| format!("{arguments:?} printed {said:?}"))
    }

    fn starts(&self) -> Result<()> {
        let said = capture(&mut self.pare(&["--version"]))?;
        if said.trim() != format!("pare {VERSION}") {
            bail!("the installed program says {said:?}, expected pare {VERSION}");
        }
        for licence in LICENCES {
            if !below(&self.folder.join("venv"), licence)? {
                bail!("{licence} was not installed");
            }
        }
        Ok(())
    }

    /// A hub that is named, not numbered, answers: the resolver of the C library is the part of a program without libraries that may fail.
    fn finds_hosts(&self) -> Result<()> {
        let hub = TcpListener::bind("localhost:0")?;
        let address = format!("http://localhost:{}", hub.local_addr()?.port());
        let answering = std::thread::spawn(move || -> std::io::Result<()> {
            let (stream, _) = hub.accept()?;
            let head = BufReader::new(&stream).lines().map_while(std::io::Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            (&stream).write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        });
        let cache = self.folder.join("hub");
        let pull =
            self.pare(&["pull", "nobody/nothing"]).env("HF_ENDPOINT", address).env("HF_HUB_CACHE", cache).output()?;
        let said = String::from_utf8_lossy(&pull.stderr);
        if !said.contains("no such repository (404)") {
            bail!(
                "a hub at localhost was asked for a model that it does not have; the installed program says {said:?}"
            );
        }
        answering.join().ok().context("the hub failed")?.context("the hub failed")
    }

    /// What a user asks first of a model that is there.
    fn runs(&self) -> Result<()> {
        let fit = self.json(&["fit", MODEL, "--context", "512", "--json"])?;
        let decode = fit["speed"]["decode_tok_s"].as_f64().unwrap_or_default();
        if fit["fit"]["context"] != 512 || decode <= 0.0 {
            bail!("fit: {fit}");
        }
        let text = capture(&mut self.pare(&["run", MODEL, "The capital of France is", "-n", "8", "--quiet"]))?;
        if !text.contains("Paris") {
            bail!("the capital of France is {text:?}");
        }
        Ok(())
    }

    /// The first command of a new user, everything fetched through the package index.
    fn demonstrates(&self) -> Result<()> {
        let cache = self.folder.join("cache");
        if cache.exists() {
            fs::remove_dir_all(&cache)?;
        }
        let output = self.folder.join("demo");
        println!("$ pare demo");
        let demo = self.pare(&["demo", "--json", "-o"]).arg(&output).env("PARE_CACHE", &cache).output()?;
        let said = String::from_utf8_lossy(&demo.stderr);
        if !demo.status.success() || said.contains("without the packaged text") {
            bail!("pare demo: {}: {said}", demo.status);
        }
        let report: Value = serde_json::from_slice(&demo.stdout).context("pare demo --json")?;
        let of = |label: &str, figure: &str| {
            let all = report["figures"].as_array().into_iter().flatten();
            all.into_iter().find(|figures| figures["label"] == label).and_then(|figures| figures[figure].as_f64())
        };
        let (read, slim) = (of("as read", "bytes"), of("slim", "bytes"));
        if slim.zip(read).is_none_or(|(slim, read)| slim >= read) || of("slim", "kl_mean").is_none_or(|kl| kl > 2.0) {
            bail!("pare demo: {}", report["figures"]);
        }
        if !output.join("report.html").is_file() {
            bail!("{}: has no report.html", output.display());
        }
        print!("{said}");
        Ok(())
    }
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
