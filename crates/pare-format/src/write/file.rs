//! A file that is written piece by piece and appears whole or not at all.

use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Temporary, failed, partial, sync_directory, target};
use crate::error::{FormatError, FormatErrorKind, Result};

/// A file in the making, beside its target until [`NewFile::commit`]. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    given: PathBuf,
    target: PathBuf,
    permissions: Option<Permissions>,
    parent: PathBuf,
    force: bool,
    temporary: BufWriter<Inner>,
}

#[derive(Debug)]
struct Inner(Temporary);

impl Write for Inner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.file.flush()
    }
}

impl NewFile {
    /// Starts writing the file `path`; with `force` it may replace one. A symbolic link is followed, permissions are kept.
    ///
    /// # Errors
    /// `Exists` for a file that is there without `force`, `NotAFile` for a directory or device, `Write` when the system refuses.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<Self> {
        let given = path.as_ref();
        let (target, permissions) = target(given)?;
        if permissions.is_some() && !force {
            return Err(exists(given));
        }
        let (parent, name) = partial::split(&target)?;
        partial::remove_stale_files(&parent, &name);
        let temporary = Temporary::new(&parent, &name).map_err(failed(given))?;
        let temporary = BufWriter::with_capacity(1 << 20, Inner(temporary));
        Ok(Self { given: given.to_owned(), target, permissions, parent, force, temporary })
    }

    /// The path that the file will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.given
    }

    /// Waits until all is on the disk and gives the file its name.
    ///
    /// # Errors
    /// `Exists` when another file took the name meanwhile and may not be replaced, `Write` when the system refuses; the old state is
    /// then in place.
    pub fn commit(mut self) -> Result<()> {
        let failed = failed(&self.given);
        self.temporary.flush().map_err(&failed)?;
        let temporary = &self.temporary.get_ref().0;
        temporary.finish(self.permissions).map_err(&failed)?;
        if !self.force && fs::symlink_metadata(&self.target).is_ok() {
            return Err(exists(&self.given));
        }
        fs::rename(&temporary.path, &self.target).map_err(&failed)?;
        sync_directory(&self.parent).map_err(&failed)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

fn exists(path: &Path) -> FormatError {
    let hint = "choose another output, or replace it with --force";
    FormatError::new(path, FormatErrorKind::Exists).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn appears_at_the_commit_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = NewFile::create(&path, false).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(folder.path().join("a"), false).unwrap();
        file.write_all(b"one").unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_with_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let late = NewFile::create(&path, false).unwrap();
        fs::write(&path, b"old").unwrap();
        assert!(matches!(late.commit().unwrap_err().kind, FormatErrorKind::Exists));
        assert!(matches!(NewFile::create(&path, false).unwrap_err().kind, FormatErrorKind::Exists));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut file = NewFile::create(&path, true).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(NewFile::create(folder.path(), true).is_err(), "a directory");
        assert_eq!(names(folder.path()), ["a"]);
    }
}
