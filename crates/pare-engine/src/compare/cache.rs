//! The folder of a comparison: what was measured is kept under a hash of everything that it depends on.

use super::entry::Outcome;
use crate::Error;
use pare_format::write::{OutputDir, write_file_atomic};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Changes with the meaning of the figures: what an older program kept is then measured anew.
const FORMAT: u32 = 3;
/// Name of the folder in which entries are kept.
const ENTRIES: &str = "entries";
/// Largest entry that is read: a real one has a few thousand bytes.
const MAX_ENTRY_BYTES: u64 = 1 << 20;

/// Everything that an entry depends on, and the name under which it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    made_from: Value,
    name: String,
}

impl Key {
    /// The key of `made_from`, which holds all that the figures depend on but the version; `label` is for people who look at the files.
    pub(super) fn new(mut made_from: Value, label: &str) -> Self {
        made_from["format"] = json!(FORMAT);
        made_from["pare"] = json!(env!("CARGO_PKG_VERSION"));
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' };
        let label: String = label.chars().take(40).map(plain).collect();
        let name = format!("{}-{}", label.trim_matches(['.', '-']), &hash(made_from.to_string().as_bytes())[..16]);
        Self { made_from, name }
    }

    /// A name that no other key has, as in `slim-0.8-0123456789abcdef`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// What was found of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// It was measured before.
    Outcome(Outcome),
    /// A file that is not what was written; why, with its path.
    Corrupt(String),
}

/// Refuses a folder that exists and is not that of a comparison.
///
/// # Errors
/// It is a file, holds something else, or cannot be read.
pub fn check_folder(path: &Path) -> Result<(), Error> {
    let shown = path.display();
    let io = |source| Error::Io { path: path.display().to_string(), source };
    if !path.exists() {
        return Ok(());
    }
    if !path.is_dir() {
        return Err(Error::Refused(format!("{shown}: is a file; give a directory for the comparison")));
    }
    let names = fs::read_dir(path).map_err(io)?.collect::<Result<Vec<_>, _>>().map_err(io)?;
    let own = |name: &str| name == ENTRIES || name.starts_with(".unfinished.") || name.starts_with(".compare.");
    if !names.is_empty() && !names.iter().any(|entry| entry.file_name().to_str().is_some_and(own)) {
        let why = "is not empty, and no comparison was begun there; give another directory";
        return Err(Error::Refused(format!("{shown}: {why}")));
    }
    Ok(())
}

/// The folder, held by this process until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    scratch: OutputDir,
}

impl Folder {
    /// Opens or makes the folder, and removes what a killed process left in it.
    ///
    /// # Errors
    /// It is a file, holds something else than a comparison, cannot be read or written, or another process works in it.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.display().to_string(), source };
        check_folder(path)?;
        fs::create_dir_all(path).map_err(io)?;
        match fs::create_dir(path.join(ENTRIES)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(io)?,
        }
        let scratch = OutputDir::create(path.join("unfinished"), true)?;
        Ok(Self { path: path.to_owned(), scratch })
    }

    /// A directory in the making for `key`: removed with what it holds unless it is committed to [`Folder::model`].
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn artefact(&self, key: &Key, keep: bool) -> Result<OutputDir, Error> {
        if !keep {
            return Ok(OutputDir::create(self.scratch.temporary().join(key.name()), true)?);
        }
        let path = self.model(key);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| Error::Io { path: parent.display().to_string(), source })?;
        }
        Ok(OutputDir::create(path, true)?)
    }

    /// Where the artefact of `key` is when it is kept.
    pub(super) fn model(&self, key: &Key) -> PathBuf {
        self.path.join("models").join(key.name())
    }

    /// A message about a file of the artefact, without the folder, which has another name each time.
    pub(super) fn without_path(&self, message: &str, key: &Key) -> String {
        let folders = [self.scratch.temporary().join(key.name()), self.model(key)];
        folders.iter().fold(message.to_owned(), |text, folder| text.replace(&format!("{}/", folder.display()), ""))
    }

    /// What an earlier run found.
    pub(super) fn load(&self, key: &Key) -> Found {
        let path = self.file(key);
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Found::Nothing,
            Ok(metadata) if metadata.len() > MAX_ENTRY_BYTES => {
                return Found::Corrupt(format!("{}: {} bytes are too many", path.display(), metadata.len()));
            }
            _ => {}
        }
        let read = fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| parse(&bytes, key));
        read.map_or_else(|why| Found::Corrupt(format!("{}: {why}", path.display())), Found::Outcome)
    }

    /// Keeps what was found; the file appears whole or not at all.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn store(&self, key: &Key, outcome: &Outcome) -> Result<(), Error> {
        let json = |error| Error::Refused(format!("an entry could not be written ({error}); please report this"));
        let entry = serde_json::to_value(outcome).map_err(json)?;
        let file = json!({ "made_from": key.made_from, "sha256": hash(entry.to_string().as_bytes()), "entry": entry });
        Ok(write_file_atomic(self.file(key), format!("{file:#}\n").as_bytes())?)
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.path.join(ENTRIES).join(format!("{}.json", key.name()))
    }
}

fn parse(bytes: &[u8], key: &Key) -> Result<Outcome, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|error| format!("is no JSON: {error}"))?;
    if file["made_from"] != key.made_from {
        return Err("was made from something else".to_owned());
    }
    if file["sha256"] != *hash(file["entry"].to_string().as_bytes()) {
        return Err("its figures are not those that were written".to_owned());
    }
    serde_json::from_value(file["entry"].clone()).map_err(|error| format!("is no entry: {error}"))
}

/// A hash of all tokens of a text and of how they are cut.
pub(super) fn tokens(sequences: &[Vec<u32>]) -> String {
    let mut bytes = Vec::new();
    for sequence in sequences {
        bytes.extend_from_slice(&(sequence.len() as u64).to_le_bytes());
        sequence.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
    }
    hash(&bytes)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::measured;
    use super::*;

    fn key(keep: f64) -> Key {
        Key::new(json!({ "recipe": "a", "keep": keep }), &format!("../a b {keep}"))
    }

    #[test]
    fn what_is_kept_is_found_again_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(&scratch.path().join("out")).unwrap();
        let outcome = Outcome::Measured(Box::new(measured(0.1 + 0.2, 7, 1.0 / 3.0)));
        assert_eq!(folder.load(&key(0.5)), Found::Nothing);
        folder.store(&key(0.5), &outcome).unwrap();
        assert_eq!(folder.load(&key(0.5)), Found::Outcome(outcome));
        assert_eq!(folder.load(&key(0.6)), Found::Nothing);
        assert!(key(0.5).name().starts_with("a-b-0.5-"), "{}", key(0.5).name());
    }

    #[test]
    fn no_changed_byte_of_the_figures_goes_unseen() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let outcome = Outcome::Measured(Box::new(measured(0.25, 7, 1.5)));
        folder.store(&key(0.5), &outcome).unwrap();
        let file = folder.file(&key(0.5));
        let whole = fs::read(&file).unwrap();
        let mut seen = 0;
        for at in 0..whole.len() {
            let mut corrupt = whole.clone();
            corrupt[at] ^= 1;
            fs::write(&file, &corrupt).unwrap();
            match folder.load(&key(0.5)) {
                Found::Outcome(read) => assert_eq!(read, outcome, "byte {at} of white space"),
                Found::Corrupt(why) => {
                    assert!(why.contains("a-b-0.5"), "{why}");
                    seen += 1;
                }
                Found::Nothing => panic!("byte {at}"),
            }
        }
        assert!(seen > whole.len() / 2, "{seen} of {}", whole.len());
        for short in [0, 1, whole.len() / 2] {
            fs::write(&file, &whole[..short]).unwrap();
            assert!(matches!(folder.load(&key(0.5)), Found::Corrupt(_)), "{short} bytes");
        }
    }

    #[test]
    fn folders_of_something_else_are_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let refused = |path: &Path| match Folder::open(path) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{} was taken", path.display()),
        };
        fs::write(scratch.path().join("notes"), "mine").unwrap();
        assert!(refused(scratch.path()).contains("not empty"));
        assert!(refused(&scratch.path().join("notes")).contains("is a file"));
        assert!(refused(&scratch.path().join("notes/below")).contains("notes/below"));
        Folder::open(&scratch.path().join("no/such")).unwrap();
        let own = scratch.path().join("own");
        let held = Folder::open(&own).unwrap();
        assert!(refused(&own).contains("is being written by process"));
        drop(held);
        Folder::open(&own).unwrap();
    }

    #[test]
    fn texts_differ_by_their_cuts_too() {
        assert_ne!(tokens(&[vec![1, 2], vec![3]]), tokens(&[vec![1], vec![2, 3]]));
        assert_ne!(tokens(&[vec![1]]), tokens(&[vec![1], vec![]]));
    }
}
