//! From the hub into the cache.

use super::layout::Layout;
use super::name::{Name, is_hash};
use super::remote::{Entry, Listing, Remote};
use super::{index, wanted};
use crate::Error;
use crate::progress::{Interrupt, Progress};
use pare_format::safetensors::shard::{INDEX, SINGLE};
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// One fetch of a commit.
pub(super) struct Store<'a> {
    pub(super) name: &'a Name,
    pub(super) layout: &'a Layout,
    pub(super) remote: &'a Remote<'a>,
    pub(super) listing: &'a Listing,
    pub(super) progress: &'a dyn Progress,
    pub(super) interrupt: &'a Interrupt,
}

impl Store<'_> {
    /// The directory of the commit, once all files of the model are there.
    pub(super) fn fetch(&self) -> Result<PathBuf, Error> {
        let snapshot = self.layout.snapshot(&self.listing.commit);
        let first = wanted::first(self.name, self.listing)?;
        self.stage("fetching the description", &first)?;
        let weights = if first.iter().any(|file| file == INDEX) {
            self.shards(&snapshot.join(INDEX))?
        } else {
            vec![SINGLE.to_owned()]
        };
        self.stage("fetching the weights", &weights)?;
        if !is_hash(&self.name.revision) {
            write(&self.layout.reference(&self.name.revision), self.listing.commit.as_bytes())?;
        }
        Ok(snapshot)
    }

    /// The shards of an index, all of which the repository has.
    fn shards(&self, index: &Path) -> Result<Vec<String>, Error> {
        let shards: Vec<String> = index::shards(index)?.into_iter().collect();
        match shards.iter().find(|shard| !self.listing.files.contains_key(*shard)) {
            None => Ok(shards),
            Some(shard) => Err(Error::Refused(format!(
                "hf:{}: {INDEX} lists {shard:?}, which the repository does not have",
                self.name
            ))),
        }
    }

    fn stage<F: AsRef<str>>(&self, what: &str, files: &[F]) -> Result<(), Error> {
        let entries = || files.iter().filter_map(|file| self.listing.files.get_key_value(file.as_ref()));
        let total = entries().fold(0_u64, |sum, (_, entry)| sum.saturating_add(entry.size.unwrap_or(0)));
        self.progress.begin(what, total);
        let result = entries().try_for_each(|(file, entry)| self.ensure(file, entry));
        self.progress.end();
        result
    }

    /// Makes sure that `file` is in the snapshot.
    fn ensure(&self, file: &str, entry: &Entry) -> Result<(), Error> {
        self.interrupt.check()?;
        let most = wanted::limit(file);
        if let Some(size) = entry.size.filter(|&size| size > most) {
            return Err(Error::Refused(format!("hf:{}: {file}: has {size} bytes, at most {most} are read", self.name)));
        }
        let link = self.layout.snapshot(&self.listing.commit).join(file);
        let there = |path: &Path| {
            fs::metadata(path).is_ok_and(|found| found.is_file() && entry.size.is_none_or(|size| size == found.len()))
        };
        let done = || self.progress.advance(entry.size.unwrap_or(0), file);
        if there(&link) {
            done();
            return Ok(());
        }
        let blobs = self.layout.blob("");
        fs::create_dir_all(&blobs).map_err(|source| disk(&blobs, source))?;
        // A hub that tells no hash: what is fetched is called by its own.
        let key = entry.hash.clone().unwrap_or_else(|| format!("{}-{}", self.listing.commit, file.replace('/', "-")));
        let _lock = lock(&self.layout.lock(&key))?;
        if let Some(hash) = &entry.hash
            && there(&self.layout.blob(hash))
        {
            done();
            return show(hash, &self.layout.blob(hash), &link, file);
        }
        let mut part = Part { path: self.layout.blob(&format!("{key}.incomplete")), keep: false };
        // A part goes on only where the hash of the whole tells in the end; only large files go by their SHA-256.
        let verified = entry.hash.as_ref().is_some_and(|hash| hash.len() == 64);
        let sha256 = match self.download(file, entry, most, &part.path, verified) {
            Ok(sha256) => sha256,
            Err(Stopped { error, resumable }) => {
                part.keep = resumable && verified;
                return Err(error);
            }
        };
        let hash = entry.hash.as_ref().unwrap_or(&sha256);
        if verified && *hash != sha256 {
            let url = self.remote.address(&self.listing.commit, file);
            return Err(self.remote.broken(&url, format!("sha256 is {sha256}, expected {hash}; try again")));
        }
        let blob = self.layout.blob(hash);
        fs::rename(&part.path, &blob).map_err(|source| disk(&blob, source))?;
        show(hash, &blob, &link, file)
    }

    /// Writes `file` to `part`, going on with what an earlier fetch left there when `resume` is set; its SHA-256.
    fn download(&self, file: &str, entry: &Entry, most: u64, part: &Path, resume: bool) -> Result<String, Stopped> {
        let url = self.remote.address(&self.listing.commit, file);
        let most = entry.size.unwrap_or(most);
        let failed = |source| disk(part, source);
        let mut to = File::options().create(true).truncate(false).read(true).write(true).open(part).map_err(failed)?;
        let there = to.metadata().map_err(failed)?.len();
        let at = if resume && there < most { there } else { 0 };
        let opened = self.remote.open(&self.listing.commit, file, at);
        let (start, mut from) = opened.map_err(|error| Stopped { error, resumable: there > 0 })?;
        to.set_len(start).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut total = self.read_again(&mut to, file, &mut hash, &mut buffer).map_err(failed)?;
        loop {
            self.interrupt.check().map_err(|stopped| Stopped { error: stopped.into(), resumable: true })?;
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let why = format!("the connection broke after {total} bytes ({error}); try again");
                    return Err(Stopped { error: self.remote.broken(&url, why), resumable: true });
                }
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            total = total.saturating_add(read as u64);
            if total > most {
                return Err(self.remote.broken(&url, format!("sends more than {most} bytes; try again")).into());
            }
            hash.update(bytes);
            to.write_all(bytes).map_err(failed)?;
            self.progress.advance(read as u64, file);
        }
        if let Some(size) = entry.size.filter(|&size| size != total) {
            let why = format!("the connection ended after {total} of {size} bytes; try again");
            return Err(Stopped { error: self.remote.broken(&url, why), resumable: true });
        }
        to.sync_all().map_err(failed)?;
        Ok(format!("{:x}", hash.finalize()))
    }

    /// Hashes what is there already, to its end; how much it is.
    fn read_again(&self, part: &mut File, file: &str, hash: &mut Sha256, buffer: &mut [u8]) -> io::Result<u64> {
        let mut total = 0_u64;
        loop {
            let read = part.read(buffer)?;
            if read == 0 {
                return Ok(total);
            }
            hash.update(buffer.get(..read).unwrap_or_default());
            self.progress.advance(read as u64, file);
            total = total.saturating_add(read as u64);
        }
    }
}

/// Why a download ended early, and whether what came so far is worth keeping.
struct Stopped {
    error: Error,
    resumable: bool,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self { error, resumable: false }
    }
}

/// A file that is being written, removed unless it was renamed or is to be gone on with.
struct Part {
    path: PathBuf,
    keep: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.keep {
            // Gone already when the file is whole.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn disk(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// Keeps other processes from writing the same blob, until it is dropped.
fn lock(path: &Path) -> Result<File, Error> {
    let failed = |source| disk(path, source);
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            Err(failed(io::Error::other("another process is fetching this file: wait until it is done")))
        }
    }
}

/// A name beside `path` that no model has.
fn beside(path: &Path) -> PathBuf {
    let file = path.file_name().unwrap_or_default().display();
    path.with_file_name(format!(".{file}.{}", std::process::id()))
}

/// Puts `content` at `path` in one step.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |source| disk(path, source);
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    let part = Part { path: beside(path), keep: false };
    fs::write(&part.path, content).and_then(|()| fs::rename(&part.path, path)).map_err(failed)
}

/// Makes the blob appear as `link`, which is `file` of its snapshot, in one step.
fn show(hash: &str, blob: &Path, link: &Path, file: &str) -> Result<(), Error> {
    let failed = |source| disk(link, source);
    fs::create_dir_all(link.parent().unwrap_or(link)).map_err(failed)?;
    let part = Part { path: beside(link), keep: false };
    // What a process of the same number left behind.
    let _ = fs::remove_file(&part.path);
    #[cfg(unix)]
    let up = "../".repeat(2 + file.matches('/').count());
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(hash), &part.path).map(|()| _ = blob);
    #[cfg(not(unix))]
    let made = fs::hard_link(blob, &part.path).or_else(|_| fs::copy(blob, &part.path).map(|_| _ = (hash, file)));
    made.and_then(|()| fs::rename(&part.path, link)).map_err(failed)
}
