//! Where the shared cache keeps the files of a repository.

use super::name::{Name, is_hash};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one repository in the cache.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    #[cfg(feature = "hub")]
    locks: PathBuf,
}

impl Layout {
    pub(super) fn new(cache: &Path, name: &Name) -> Self {
        let folder = format!("models--{}--{}", name.organisation, name.name);
        Self {
            #[cfg(feature = "hub")]
            locks: cache.join(".locks").join(&folder),
            folder: cache.join(folder),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the files of a commit appear under their names.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The file that says which commit a branch or tag meant when it was last fetched.
    pub(super) fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    /// The commit of a revision, as far as the cache knows.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_hash(revision) {
            return Some(revision.to_owned());
        }
        let path = self.reference(revision);
        // A reference holds one hash: a longer file is none.
        if fs::metadata(&path).ok()?.len() > 80 {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_hash(commit))
    }

    /// Where the bytes of a file are, by their hash.
    #[cfg(feature = "hub")]
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// What is locked while a blob is written; other tools that share the cache lock it too.
    #[cfg(feature = "hub")]
    pub(super) fn lock(&self, hash: &str) -> PathBuf {
        self.locks.join(format!("{hash}.lock"))
    }
}
