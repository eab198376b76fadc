//! A file that is written piece by piece and appears whole or not at all.

use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::unfinished::{self, Parents};
use super::{Temporary, failed, in_the_way, own, partial, require_room, sync_directory, target};
use crate::error::Result;

/// A file in the making, beside its target until [`NewFile::commit`]. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    given: PathBuf,
    target: PathBuf,
    permissions: Option<Permissions>,
    parent: PathBuf,
    replaces: Replaces,
    temporary: BufWriter<Inner>,
    parents: Parents,
}

/// What the new file may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaces {
    Nothing,
    /// A file that shows that pare wrote it.
    OwnFile,
    /// Any file: the folder is pare's own.
    Anything,
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
    /// Starts writing the file `path`; directories that are missing are made. With `force` it may replace a file that pare wrote: a GGUF
    /// file with [`GGUF_KEY`](super::GGUF_KEY), JSON that begins with [`VERSION_KEY`](super::VERSION_KEY), a page with
    /// [`GENERATOR`](super::GENERATOR) in its head, and an empty file. A symbolic link is followed, permissions are kept.
    ///
    /// # Errors
    /// `Exists` for a file that is there without `force`, `NotOurs` for one that pare did not write, `NotAFile` for a directory or device,
    /// `Write` when the system refuses.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<Self> {
        Self::start(path.as_ref(), if force { Replaces::OwnFile } else { Replaces::Nothing })
    }

    /// Starts writing the file `path` in a folder that is pare's own: whatever file has the name is replaced.
    ///
    /// # Errors
    /// As [`NewFile::create`], but for `Exists` and `NotOurs`.
    pub fn in_own_folder(path: impl AsRef<Path>) -> Result<Self> {
        Self::start(path.as_ref(), Replaces::Anything)
    }

    fn start(given: &Path, replaces: Replaces) -> Result<Self> {
        let (target, permissions) = target(given)?;
        if permissions.is_some() {
            refuse(given, &target, replaces)?;
        }
        let (parent, name) = partial::split(&target)?;
        let parents = Parents::make(&parent).map_err(failed(given))?;
        partial::remove_stale_files(&parent, &name);
        let temporary = Temporary::new(&parent, &name).map_err(failed(given))?;
        let temporary = BufWriter::with_capacity(1 << 20, Inner(temporary));
        Ok(Self { given: given.to_owned(), target, permissions, parent, replaces, temporary, parents })
    }

    /// Fails when the disk has less room than `bytes`, so that long work does not end in a full disk.
    ///
    /// # Errors
    /// `Write`, with both numbers.
    pub fn require_room(&self, bytes: u64) -> Result<()> {
        require_room(&self.parent, bytes, &self.given)
    }

    /// The path that the file will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.given
    }

    /// Writes all of it and gives the file its name.
    ///
    /// # Errors
    /// As [`NewFile::commit`].
    pub fn write_whole(mut self, bytes: &[u8]) -> Result<()> {
        let written = self.write_all(bytes);
        written.map_err(failed(&self.given))?;
        self.commit()
    }

    /// Waits until all is on the disk and gives the file its name.
    ///
    /// # Errors
    /// `Exists` or `NotOurs` when another file took the name meanwhile and may not be replaced, `Write` when the system refuses; the old
    /// state is then in place.
    pub fn commit(mut self) -> Result<()> {
        let failed = failed(&self.given);
        self.temporary.flush().map_err(&failed)?;
        let temporary = &self.temporary.get_ref().0;
        temporary.finish(self.permissions).map_err(&failed)?;
        let mut held = unfinished::hold();
        if fs::symlink_metadata(&self.target).is_ok() {
            refuse(&self.given, &self.target, self.replaces)?;
        }
        let renamed = if self.replaces == Replaces::Nothing {
            rename_to_nothing(temporary.path(), &self.target)
        } else {
            fs::rename(temporary.path(), &self.target)
        };
        renamed.map_err(&failed)?;
        self.parents.keep(&mut held);
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

/// Refuses to replace the file that is there, unless that is allowed.
fn refuse(given: &Path, target: &Path, replaces: Replaces) -> Result<()> {
    if replaces == Replaces::Anything {
        return Ok(());
    }
    match own::not_our_file(target) {
        None if replaces == Replaces::OwnFile => Ok(()),
        stranger => Err(in_the_way(given, stranger)),
    }
}

/// Renames in one step that fails when the name is taken, where the system and the file system can.
#[cfg(target_os = "linux")]
fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(from, to),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FormatErrorKind;

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
        let (old, new) = (&br#"{ "pare": "0.1.0", "x": 1 }"#[..], &b"new"[..]);
        let late = NewFile::create(&path, false).unwrap();
        fs::write(&path, old).unwrap();
        assert!(matches!(late.commit().unwrap_err().kind, FormatErrorKind::Exists));
        assert!(matches!(NewFile::create(&path, false).unwrap_err().kind, FormatErrorKind::Exists));
        assert_eq!(fs::read(&path).unwrap(), old);
        let mut file = NewFile::create(&path, true).unwrap();
        file.write_all(new).unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), new);
        assert!(NewFile::create(folder.path(), true).is_err(), "a directory");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_pare_did_not_write_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let late = NewFile::create(&path, true).unwrap();
        let page = format!("<!doctype html>\n<html><head>{}0.1.0\">", own::GENERATOR);
        for (content, ours) in [
            ("mine", false),
            (r#"{"model_type": "llama", "pare": "0.1.0"}"#, false),
            (r#"{"pare": {}}"#, false),
            ("{", false),
            ("GGUF", false),
            ("<html><head></head>", false),
            ("", true),
            ("{\n  \"pare\": \"0.1.0\",\n  \"x\": 1\n}", true),
            (r#"{"pare":"0.1.0"}"#, true),
            (&page, true),
        ] {
            fs::write(&path, content).unwrap();
            let error = NewFile::create(&path, false).unwrap_err();
            assert_eq!(error.to_string().contains("--force"), ours, "{content}: {error}");
            match NewFile::create(&path, true) {
                Ok(_) => assert!(ours, "{content}"),
                Err(error) => assert!(!ours && matches!(error.kind, FormatErrorKind::NotOurs { .. }), "{error}"),
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::write(&path, "mine").unwrap();
        assert!(matches!(late.commit().unwrap_err().kind, FormatErrorKind::NotOurs { .. }));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        NewFile::in_own_folder(&path).unwrap().commit().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (Vec::new(), vec!["a".to_owned()]));
    }

    #[test]
    fn missing_directories_are_made_and_stay_only_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b/c/a");
        let file = NewFile::create(&path, false).unwrap();
        assert!(path.parent().unwrap().is_dir());
        drop(file);
        assert!(names(folder.path()).is_empty());
        let file = NewFile::create(&path, false).unwrap();
        fs::write(folder.path().join("b/mine"), "").unwrap();
        drop(file);
        assert_eq!(names(&folder.path().join("b")), ["mine"]);
        NewFile::create(&path, false).unwrap().commit().unwrap();
        assert!(path.is_file());
        super::super::try_directory(folder.path().join("d/e")).unwrap();
        assert!(super::super::try_directory(path.join("d")).is_err(), "below a file");
        assert_eq!(names(folder.path()), ["b"]);
    }
}
