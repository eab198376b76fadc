//! What is being written and has no name of its own yet: removed when it is dropped, or when the process is told to end at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything that this process has not finished. Held while something gets its name: nothing is abandoned in the middle of that.
static PATHS: Mutex<BTreeMap<PathBuf, Content>> = Mutex::new(BTreeMap::new());

/// Attempts to remove a directory into which another thread is still writing.
const ATTEMPTS: usize = 20;

/// Whose what is inside is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Ours: it goes too.
    Ours,
    /// Perhaps somebody else's: a directory that holds anything stays.
    Any,
}

/// A temporary file or directory. Dropped, it is removed when it is still there, with what is in it.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
}

/// Directories that were made for an output. Dropped before [`Parents::keep`], those that are still empty are removed.
#[derive(Debug, Default)]
pub(super) struct Parents {
    made: Vec<PathBuf>,
}

/// While it is held, nothing is abandoned.
pub(super) struct Held(MutexGuard<'static, BTreeMap<PathBuf, Content>>);

/// Nothing is abandoned until the answer is dropped.
pub(super) fn hold() -> Held {
    Held(PATHS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Removes everything that this process has not finished, for a process that ends at once. Nothing can be finished afterwards: a thread
/// that tries waits for ever.
pub fn abandon() {
    let held = hold();
    // What is inside a directory stands behind it.
    for (path, &content) in held.0.iter().rev() {
        remove(path, content);
    }
    std::mem::forget(held);
}

fn remove(path: &Path, content: Content) {
    for _ in 0..ATTEMPTS {
        let removed = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() && content == Content::Ours => fs::remove_dir_all(path),
            Ok(found) if found.is_dir() => return fs::remove_dir(path).unwrap_or_default(),
            Ok(_) => fs::remove_file(path),
            Err(_) => return,
        };
        if removed.is_ok() {
            return;
        }
    }
}

impl Unfinished {
    /// Takes charge of `path`, which may not be there yet.
    pub(super) fn new(path: PathBuf) -> Self {
        hold().0.insert(path.clone(), Content::Ours);
        Self { path }
    }

    /// Makes the directory `path`, with the parents that are missing.
    ///
    /// # Errors
    /// The system refuses.
    pub fn directory(path: impl Into<PathBuf>) -> io::Result<Self> {
        let made = Self::new(path.into());
        fs::create_dir_all(&made.path)?;
        Ok(made)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        remove(&self.path, Content::Ours);
        hold().0.remove(&self.path);
    }
}

impl Parents {
    /// Makes `directory` and what is missing above it.
    ///
    /// # Errors
    /// The system refuses; what was made is removed again.
    pub(super) fn make(directory: &Path) -> io::Result<Self> {
        let missing: Vec<&Path> = directory
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err())
            .collect();
        let mut parents = Self::default();
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => {
                    hold().0.insert(path.to_owned(), Content::Any);
                    parents.made.push(path.to_owned());
                }
                // Another process was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(parents)
    }

    /// Keeps them: the output is in place.
    pub(super) fn keep(&mut self, held: &mut Held) {
        for path in self.made.drain(..) {
            held.0.remove(&path);
        }
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for path in self.made.drain(..).rev() {
            remove(&path, Content::Any);
            hold().0.remove(&path);
        }
    }
}
