//! Writing so that a crash at any moment leaves the old file or the new one, never a part of either.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::map::identity;
use unfinished::Parents;

mod file;
mod output;
mod own;
mod partial;
mod unfinished;

pub use file::NewFile;
pub use output::{OutputDir, OutputFile};
pub use own::{GENERATOR, GGUF_KEY, RECORD, VERSION_KEY};
pub use unfinished::{Unfinished, abandon};

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
    for input in inputs {
        let input = input.as_ref();
        let nested = match (resolved(input), resolved(output)) {
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

/// `path` through its links; the part of it that is not there yet stays as it is.
fn resolved(path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().find(|part| part.as_os_str().is_empty() || fs::symlink_metadata(part).is_ok())?;
    let rest = path.strip_prefix(there).ok()?;
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    fs::canonicalize(there).ok().map(|there| there.join(rest))
}

/// Fails when no file can be written to `directory`, so that this is known before long work. Directories that are missing are made for the
/// trial and removed again.
///
/// # Errors
/// `Write` when the system refuses.
pub fn try_directory(directory: impl AsRef<Path>) -> Result<()> {
    let directory = directory.as_ref();
    let failed = failed(directory);
    let _parents = Parents::make(directory).map_err(&failed)?;
    Temporary::new(directory, OsStr::new("trial")).map_err(&failed)?;
    Ok(())
}

/// Replaces the content of `path` by `bytes` in one step, whoever wrote it: for files in folders that are pare's own. An output that a
/// user named is a [`NewFile`].
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
    let _held = unfinished::hold();
    fs::rename(temporary.path(), &path).map_err(&failed)?;
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
    place: Unfinished,
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
                    let place = Unfinished::new(path);
                    // Tells other processes that the file is in use. Without locks, as on some network file systems, the number of the
                    // process in its name does.
                    let _ = file.try_lock();
                    return Ok(Self { place, file });
                }
                // Left by a process that had our number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn path(&self) -> &Path {
        self.place.path()
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

/// Bytes that this user may still write to the disk of `path`.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Fails when the disk of `at` has less room than `bytes`. Where the system does not say how much there is, nothing is refused.
fn require_room(at: &Path, bytes: u64, given: &Path) -> Result<()> {
    match free_bytes(at) {
        Some(free) if free < bytes => {
            let why = format!("needs about {bytes} bytes, the disk has {free} left: make room, or choose another disk");
            Err(failed(given)(std::io::Error::new(ErrorKind::StorageFull, why)))
        }
        _ => Ok(()),
    }
}

/// The error for an output that is in the way: with the way out, where there is one.
fn in_the_way(given: &Path, stranger: Option<String>) -> FormatError {
    match stranger {
        None => {
            let hint = "choose another output, or replace it with --force";
            FormatError::new(given, FormatErrorKind::Exists).hint(hint)
        }
        Some(found) => {
            let kind = FormatErrorKind::NotOurs { found };
            FormatError::new(given, kind).hint("choose another output, or move it away yourself")
        }
    }
}

/// Makes renames inside `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
