//! A directory that appears complete or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::partial::{self, NEW, OLD};
use super::unfinished::{self, Parents, Unfinished};
use super::{failed, in_the_way, own, require_room, sync_directory};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::map::identity;
use serde_json::Value;

/// A directory in the making: files go to `.NAME.partial-PID` beside the target, and [`OutputDir::commit`] gives it its name.
///
/// Dropped without a commit it removes what it wrote. A process that is killed leaves the old state or the new one; when it is killed
/// between the two renames of a replacement, [`OutputDir::recover`] finishes the replacement. Every `create` does so first.
#[derive(Debug)]
pub struct OutputDir {
    given: PathBuf,
    target: PathBuf,
    parent: PathBuf,
    name: OsString,
    force: bool,
    open_files: Arc<AtomicUsize>,
    temporary: Unfinished,
    /// Held until the end: its lock tells other processes that this one lives.
    _lock: File,
    parents: Parents,
}

/// A file inside an [`OutputDir`]. It counts only after [`OutputFile::finish`].
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    shown: PathBuf,
    open_files: Arc<AtomicUsize>,
}

impl OutputDir {
    /// Starts writing the directory `path`; directories that are missing above it are made. With `force` it may replace a directory that
    /// pare wrote: one whose record, see [`OutputDir::write_record`], lists all that is in it.
    ///
    /// # Errors
    /// `Exists` for a directory with content without `force`, `NotOurs` for one with content that pare did not write, `Locked` while another
    /// process writes it, `Found` when it is a file or (with `force`) the current directory or one above, `Write` when the system refuses.
    /// Nothing has been changed then.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<Self> {
        let shown = path.as_ref();
        let failed = failed(shown);
        let given = shown.to_owned();
        let target = resolve(&given)?;
        let (parent, name) = partial::split(&target)?;
        Self::recover(&target)?;
        if let Some((pid, _)) = partial::directories(&parent, &name, NEW).first() {
            return Err(locked(&given, *pid));
        }
        if occupied(&target)? {
            refuse_strangers(&given, &target, force)?;
            refuse_precious(&given, &target)?;
        }
        let parents = Parents::make(&parent).map_err(&failed)?;
        let pid = std::process::id();
        let temporary = partial::directory(&parent, &name, NEW, pid);
        match fs::create_dir(&temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(locked(&given, pid)),
            other => other.map_err(&failed)?,
        }
        let temporary = Unfinished::new(temporary);
        let lock = lock(temporary.path()).map_err(&failed)?;
        let open_files = Arc::default();
        let output = Self { given, target, parent, name, temporary, force, open_files, _lock: lock, parents };
        if let Ok(metadata) = fs::metadata(&output.target) {
            let kept = fs::set_permissions(output.temporary(), metadata.permissions());
            kept.map_err(|error| FormatError::new(&output.given, FormatErrorKind::Write(error)))?;
        }
        Ok(output)
    }

    /// The directory that the files are in until the commit.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// The directory that the commit makes.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Fails when the disk has less room than `bytes`, so that long work does not end in a full disk.
    ///
    /// Where the system does not say how much there is, nothing is refused.
    ///
    /// # Errors
    /// `Write`, with both numbers.
    pub fn require_room(&self, bytes: u64) -> Result<()> {
        require_room(self.temporary(), bytes, &self.given)
    }

    /// Starts the file `name`, a plain name without directories.
    ///
    /// # Errors
    /// `Escapes` for another kind of name, `Write` when the file is there already or the system refuses.
    pub fn create_file(&self, name: &str) -> Result<OutputFile> {
        let mut parts = Path::new(name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name) {
            let kind = FormatErrorKind::Escapes { found: format!("file name {}", crate::quote::quoted(name)) };
            return Err(FormatError::new(&self.given, kind));
        }
        let shown = self.given.join(name);
        let path = self.temporary().join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed(&shown))?;
        self.open_files.fetch_add(1, Ordering::Relaxed);
        Ok(OutputFile { file: BufWriter::with_capacity(1 << 20, file), shown, open_files: self.open_files.clone() })
    }

    /// Writes the whole file `name`.
    ///
    /// # Errors
    /// As [`OutputDir::create_file`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create_file(name)?;
        file.write_all(bytes).map_err(failed(&file.shown))?;
        file.finish()
    }

    /// Writes `pare.json`, the last file: `record`, with the version of pare as its `pare`, and the names of all files of the directory. By
    /// it a later run knows that the directory is pare's, and may replace it when told to.
    ///
    /// # Errors
    /// As [`OutputDir::create_file`].
    ///
    /// # Panics
    /// `record` is no object.
    pub fn write_record(&self, mut record: Value) -> Result<()> {
        assert!(record.is_object(), "a record is an object");
        let failed = failed(&self.given);
        let entries = fs::read_dir(self.temporary()).map_err(&failed)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<String>>>().map_err(&failed)?;
        names.push(own::RECORD.to_owned());
        names.sort();
        record[own::VERSION_KEY] = Value::from(env!("CARGO_PKG_VERSION"));
        record[own::FILES_KEY] = Value::from(names);
        self.write(own::RECORD, format!("{record:#}\n").as_bytes())
    }

    /// Makes the directory appear under its name.
    ///
    /// # Errors
    /// `Found` when a file was not finished, `Exists` or `NotOurs` when the target was filled meanwhile and may not be replaced, `Write` when
    /// the system refuses. The old state is then in place.
    pub fn commit(mut self) -> Result<()> {
        let failed = failed(&self.given);
        let unfinished = self.open_files.load(Ordering::Relaxed);
        if unfinished > 0 {
            let kind = FormatErrorKind::Found {
                found: format!("{unfinished} unfinished files"),
                expected: "every file to be finished before the commit".into(),
            };
            return Err(FormatError::new(&self.given, kind));
        }
        sync_directory(self.temporary()).map_err(&failed)?;
        let mut held = unfinished::hold();
        if !occupied(&self.target)? {
            fs::rename(self.temporary.path(), &self.target).map_err(&failed)?;
            self.parents.keep(&mut held);
            return sync_directory(&self.parent).map_err(&failed);
        }
        refuse_strangers(&self.given, &self.target, self.force)?;
        if exchange(self.temporary.path(), &self.target) {
            // The old directory now has the temporary name: dropping removes it, and a killed process leaves a stale one to the next.
            return sync_directory(&self.parent).map_err(&failed);
        }
        let old = partial::directory(&self.parent, &self.name, OLD, std::process::id());
        fs::rename(&self.target, &old).map_err(&failed)?;
        if let Err(error) = fs::rename(self.temporary.path(), &self.target) {
            fs::rename(&old, &self.target).map_err(&failed)?;
            return Err(failed(error));
        }
        sync_directory(&self.parent).map_err(&failed)?;
        // The new directory is in place; what cannot be removed now is removed at the next start.
        let _ = fs::remove_dir_all(&old);
        Ok(())
    }

    /// Cleans up beside `path` what killed processes left: finishes a replacement that had begun, removes unfinished directories.
    ///
    /// # Errors
    /// `Locked` while a live process is replacing it, `Write` when the system refuses.
    pub fn recover(path: impl AsRef<Path>) -> Result<()> {
        let given = path.as_ref();
        let failed = failed(given);
        let target = resolve(given)?;
        let (parent, name) = partial::split(&target)?;
        for (pid, old) in partial::directories(&parent, &name, OLD) {
            let new = partial::directory(&parent, &name, NEW, pid);
            match (target.exists(), new.exists()) {
                (false, true) if partial::held(&new) => return Err(locked(given, pid)),
                // Files are synchronised before the first rename: the new directory is complete.
                (false, true) => {
                    fs::rename(&new, &target).map_err(&failed)?;
                    sync_directory(&parent).map_err(&failed)?;
                    fs::remove_dir_all(&old).map_err(&failed)?;
                }
                (false, false) => fs::rename(&old, &target).map_err(&failed)?,
                (true, false) if !partial::held(&target) => fs::remove_dir_all(&old).map_err(&failed)?,
                // A live process is removing it, or somebody else put a directory in this place: leave all three alone.
                (true, _) => {}
            }
        }
        for (pid, new) in partial::directories(&parent, &name, NEW) {
            let has_old = partial::directory(&parent, &name, OLD, pid).exists();
            if !has_old && partial::is_stale(&new, pid) {
                fs::remove_dir_all(&new).map_err(&failed)?;
            }
        }
        Ok(())
    }
}

/// Swaps two directories in one step, where the system and the file system can: then there is no moment without either.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

impl OutputFile {
    /// Writes out what is buffered and waits until it is on the disk.
    ///
    /// # Errors
    /// `Write` when the system refuses.
    pub fn finish(mut self) -> Result<()> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(failed(&self.shown))?;
        self.open_files.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// The path that the file will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shown
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn locked(path: &Path, pid: u32) -> FormatError {
    FormatError::new(path, FormatErrorKind::Locked(pid)).hint("wait for it or choose another output")
}

/// `path` with links resolved, when it exists; it must be a directory then.
fn resolve(path: &Path) -> Result<PathBuf> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(path.to_owned());
    }
    let resolved = match fs::canonicalize(path) {
        // A link whose directory is missing: a replacement that was interrupted brings it back.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let link = fs::read_link(path).map_err(failed(path))?;
            return Ok(path.parent().map_or(link.clone(), |parent| parent.join(&link)));
        }
        other => other.map_err(failed(path))?,
    };
    if resolved.is_dir() {
        return Ok(resolved);
    }
    let kind = FormatErrorKind::Found { found: "is a file".into(), expected: "a directory, or nothing yet".into() };
    Err(FormatError::new(path, kind))
}

/// Whether there is a directory with content at `path`.
fn occupied(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Refuses to replace a directory with content, unless that is allowed and pare wrote all of it.
fn refuse_strangers(given: &Path, target: &Path, force: bool) -> Result<()> {
    match own::not_our_directory(target).map_err(failed(given))? {
        None if force => Ok(()),
        stranger => Err(in_the_way(given, stranger)),
    }
}

/// Replacing a directory removes all that is in it: never the one that the user stands in.
fn refuse_precious(given: &Path, target: &Path) -> Result<()> {
    let inside = std::env::current_dir().and_then(fs::canonicalize).is_ok_and(|current| current.starts_with(target));
    if !inside {
        return Ok(());
    }
    let kind = FormatErrorKind::Found {
        found: "is the current directory or one above it, with files in it".into(),
        expected: "another output".into(),
    };
    Err(FormatError::new(given, kind))
}

/// Opens and locks the new directory, and makes sure that it was not taken for a leftover in between.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    // Where locks are not supported the number of the process in the name protects the directory.
    let _ = file.lock();
    let same = identity(&file.metadata()?) == identity(&fs::metadata(directory)?);
    if same { Ok(file) } else { Err(io::Error::other("the temporary directory was replaced")) }
}
