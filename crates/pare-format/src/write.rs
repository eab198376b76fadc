//! Writing so that a crash at any moment leaves the old file or the new one, never a part of either.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::map::identity;

mod file;
mod output;
mod partial;

pub use file::NewFile;
pub use output::{OutputDir, OutputFile};

static SERIAL: AtomicU64 = AtomicU64::new(0);

fn failed(path: &Path) -> impl Fn(std::io::Error) -> FormatError + '_ {
    move |error| FormatError::new(path, FormatErrorKind::Write(error))
}

/// Whether `a` and `b` are the same file or directory: by path, through links, or as two names of one inode.
///
/// Paths that do not exist are the same as nothing.
#[must_use]
pub fn same_file(a: impl AsRef<Path>, b: impl AsRef<Path>) -> bool {
    let (Ok(first), Ok(second)) = (fs::metadata(&a), fs::metadata(&b)) else { return false };
    match (identity(&first), identity(&second)) {
        (Some(first), Some(second)) => first == second,
        _ => matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b),
    }
}

/// Fails when `output` is one of `inputs`, or when one lies inside the other.
///
/// # Errors
/// `SameFile`, naming the input.
pub fn refuse_inputs<P: AsRef<Path>>(output: impl AsRef<Path>, inputs: impl IntoIterator<Item = P>) -> Result<()> {
    let output = output.as_ref();
    let above = |path: &Path| fs::canonicalize(path).ok();
    for input in inputs {
        let input = input.as_ref();
        let nested = match (above(input), above(output)) {
            (Some(input), Some(output)) => input.starts_with(&output) || output.starts_with(&input),
            _ => false,
        };
        if nested || same_file(output, input) {
            let kind = FormatErrorKind::SameFile(input.display().to_string());
            return Err(FormatError::new(output, kind).hint("choose another output"));
        }
    }
    Ok(())
}

/// Replaces the content of `path` by `bytes` in one step.
///
/// The bytes go to a new file beside it, which is synchronised and then takes its name. The permissions of an existing file are kept; a new
/// one gets what the process's mask allows. When `path` is a symbolic link, the file that it leads to is replaced.
///
/// # Errors
/// `Write` when the system refuses, `NotAFile` when something else than a file has this name; the old content is then untouched.
pub fn write_file_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let given = path.as_ref();
    let failed = failed(given);
    let (path, permissions) = target(given)?;
    let (parent, name) = partial::split(&path)?;
    partial::remove_stale_files(&parent, &name);
    let temporary = Temporary::new(&parent, &name).map_err(&failed)?;
    temporary.fill(bytes, permissions).map_err(&failed)?;
    fs::rename(&temporary.path, &path).map_err(&failed)?;
    sync_directory(&parent).map_err(&failed)
}

/// The file that `given` leads to, through links, and its permissions; they are none when there is no such file yet.
fn target(given: &Path) -> Result<(PathBuf, Option<fs::Permissions>)> {
    let failed = failed(given);
    match fs::symlink_metadata(given) {
        Ok(_) => {
            let path = fs::canonicalize(given).map_err(&failed)?;
            let metadata = fs::metadata(&path).map_err(&failed)?;
            if !metadata.is_file() {
                let found = if metadata.is_dir() { "a directory" } else { "not a regular file" };
                return Err(FormatError::new(given, FormatErrorKind::NotAFile { found }));
            }
            Ok((path, Some(metadata.permissions())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((given.to_owned(), None)),
        Err(error) => Err(failed(error)),
    }
}

/// A new file that removes itself unless it was renamed.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn new(parent: &Path, name: &OsStr) -> std::io::Result<Self> {
        loop {
            let mut file_name = partial::prefix(name, partial::NEW);
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            file_name.push(format!("{}-{serial}", std::process::id()));
            let path = parent.join(file_name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    // Tells other processes that the file is in use. Without locks, as on some network file systems, the number of the
                    // process in its name does.
                    let _ = file.try_lock();
                    return Ok(Self { path, file });
                }
                // Left by a process that had our number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn fill(&self, bytes: &[u8], permissions: Option<fs::Permissions>) -> std::io::Result<()> {
        (&self.file).write_all(bytes)?;
        self.finish(permissions)
    }

    /// Sets the permissions and waits until everything is on the disk.
    fn finish(&self, permissions: Option<fs::Permissions>) -> std::io::Result<()> {
        if let Some(permissions) = permissions {
            self.file.set_permissions(permissions)?;
        }
        self.file.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes renames inside `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
