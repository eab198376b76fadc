//! Files as bytes: mapped into memory, or read whole when they are small.
//!
//! The only module with `unsafe`. Only regular files are opened, so a pipe or a device cannot make a reader hang.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::{Mmap, MmapOptions};

use crate::error::{FormatError, FormatErrorKind, Result};

#[derive(Clone)]
enum Owner {
    Map(Arc<Mmap>),
    Memory(Arc<Vec<u8>>),
}

/// A range of bytes that keeps its source alive. Cloning copies no bytes.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

impl Bytes {
    /// The bytes `range`, counted from the start of these bytes, or `None` when it does not lie inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        Some(Self { owner: self.owner.clone(), range: start..end })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Owner::Memory(Arc::new(bytes)), range }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.owner {
            Owner::Map(map) => map,
            Owner::Memory(bytes) => bytes,
        };
        all.get(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}

/// What tells one state of a file from another: length, time of change, identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last change, when the file system keeps one.
    pub modified: Option<SystemTime>,
    /// Device and inode, where the platform has them.
    pub id: Option<(u64, u64)>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { len: metadata.len(), modified: metadata.modified().ok(), id: identity(metadata) }
    }

    /// Fails when the file at `path` is not the one with this stamp any more.
    ///
    /// # Errors
    /// `Changed`, saying what changed.
    pub fn check(&self, path: &Path) -> Result<()> {
        let changed = |what: String| Err(FormatError::new(path, FormatErrorKind::Changed(what)));
        let now = match std::fs::metadata(path) {
            Ok(metadata) => Self::of(&metadata),
            Err(error) => return changed(error.to_string()),
        };
        if now.len != self.len {
            return changed(format!("it had {} bytes when it was opened, now {}", self.len, now.len));
        }
        if now.id != self.id {
            return changed("another file took its place".to_owned());
        }
        if now.modified != self.modified {
            return changed("it was written to after it was opened".to_owned());
        }
        Ok(())
    }
}

/// Device and inode of a file, where the platform has them.
#[cfg(unix)]
pub(crate) fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

/// Device and inode of a file, where the platform has them.
#[cfg(not(unix))]
pub(crate) fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// A regular file, mapped read-only.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    bytes: Bytes,
    stamp: Stamp,
}

impl MappedFile {
    /// Maps the file at `path`; an empty file gives no bytes.
    ///
    /// # Errors
    /// `NotAFile` for a directory, pipe, device or socket, found without opening it; `Io` when the system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, stamp) = open_regular(path)?;
        Self::map(path, &file, stamp)
    }

    /// Maps `file`, opened at `path` in the state `stamp`.
    pub(crate) fn map(path: &Path, file: &File, stamp: Stamp) -> Result<Self> {
        let io = |error: std::io::Error| FormatError::new(path, error);
        let len = usize::try_from(stamp.len).map_err(|e| io(std::io::Error::other(e)))?;
        let bytes = if len == 0 {
            Bytes::from(Vec::new())
        } else {
            // SAFETY: the map is private to this module, read-only and only handed out as `&[u8]`. Rust cannot rule out that another
            // process writes to the file meanwhile: pare itself never writes in place (see `write`), and `unchanged` reports others.
            let map = unsafe { MmapOptions::new().len(len).map(file) }.map_err(io)?;
            Bytes { owner: Owner::Map(Arc::new(map)), range: 0..len }
        };
        Ok(Self { path: path.to_owned(), bytes, stamp })
    }

    /// The whole content.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The path it was opened at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state it was opened in.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Fails when the file was truncated, written to, replaced or removed since it was opened.
    ///
    /// # Errors
    /// `Changed`, saying what changed.
    pub fn unchanged(&self) -> Result<()> {
        self.stamp.check(&self.path)
    }
}

/// Opens a regular file for reading, and nothing else; never waits.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Stamp)> {
    let io = |error: std::io::Error| FormatError::new(path, error);
    regular(path, &std::fs::metadata(path).map_err(io)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe that took the place of the file after the check would block a plain open.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    regular(path, &metadata)?;
    Ok((file, Stamp::of(&metadata)))
}

/// The content of a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`MappedFile::open`], and `TooLarge` above the limit.
pub fn read(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let (file, stamp) = open_regular(path)?;
    let too_large = |found| FormatError::new(path, FormatErrorKind::TooLarge { what: "file size", found, limit });
    if stamp.len > limit {
        return Err(too_large(stamp.len));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| FormatError::new(path, e))?;
    // Files of /proc have length 0 and content; a file may also grow between the two looks.
    if bytes.len() as u64 > limit { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

fn regular(path: &Path, metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let mut found = if kind.is_dir() { "a directory" } else { "not a regular file" };
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            found = "a pipe";
        } else if kind.is_socket() {
            found = "a socket";
        } else if kind.is_char_device() || kind.is_block_device() {
            found = "a device";
        }
    }
    Err(FormatError::new(path, FormatErrorKind::NotAFile { found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_checked_and_keep_the_source_alive() {
        let bytes = Bytes::from(vec![0, 1, 2, 3, 4, 5]);
        let middle = bytes.slice(2..5).unwrap();
        drop(bytes);
        assert_eq!(&*middle, &[2, 3, 4]);
        assert_eq!(&*middle.slice(1..3).unwrap(), &[3, 4]);
        assert!(middle.slice(1..4).is_none() && middle.slice(4..4).is_none());
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = 2..1;
        assert!(middle.slice(reversed).is_none() && middle.slice(0..usize::MAX).is_none());
        assert!(middle.slice(3..3).unwrap().is_empty());
    }

    #[test]
    fn empty_files_and_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"").unwrap();
        let empty = MappedFile::open(&path).unwrap();
        assert!(empty.bytes().is_empty());
        empty.unchanged().unwrap();
        std::fs::write(&path, b"abc").unwrap();
        assert!(empty.unchanged().unwrap_err().to_string().contains("had 0 bytes when it was opened, now 3"));

        let mapped = MappedFile::open(&path).unwrap();
        assert_eq!(&**mapped.bytes(), b"abc");
        std::fs::write(dir.path().join("y"), b"abd").unwrap();
        std::fs::rename(dir.path().join("y"), &path).unwrap();
        assert!(mapped.unchanged().unwrap_err().to_string().contains("another file took its place"));
        assert_eq!(&**mapped.bytes(), b"abc");
        std::fs::remove_file(&path).unwrap();
        assert!(mapped.unchanged().unwrap_err().to_string().contains("changed while reading"));
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"abcd").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"abcd");
        assert!(read(&path, 3).unwrap_err().to_string().contains("file size is 4, the limit is 3"));
    }
}
