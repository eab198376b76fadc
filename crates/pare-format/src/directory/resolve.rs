//! From a name inside a model to a file, without leaving the model.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::quote::quoted;

/// A model directory and where its symbolic links may lead.
pub(super) struct Roots {
    /// The directory as it was given.
    pub(super) given: PathBuf,
    allowed: Vec<PathBuf>,
}

impl Roots {
    /// The directory `given` and the extra directories `allowed`.
    pub(super) fn new(given: &Path, allowed: &[PathBuf]) -> Result<Self> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| FormatError::new(path, error)
        };
        let root = fs::canonicalize(given).map_err(io(given))?;
        if !root.is_dir() {
            let kind =
                FormatErrorKind::Found { found: "is not a directory".into(), expected: "a model directory".into() };
            return Err(FormatError::new(given, kind));
        }
        let mut all = vec![root.clone()];
        // The Hugging Face cache: models--X/snapshots/REVISION/file leads to models--X/blobs/HASH.
        if let Some(snapshots) = root.parent()
            && snapshots.file_name().is_some_and(|name| name == "snapshots")
            && let Some(blobs) = snapshots.parent().and_then(|model| fs::canonicalize(model.join("blobs")).ok())
            && blobs.parent() == snapshots.parent()
        {
            all.push(blobs);
        }
        for path in allowed {
            all.push(fs::canonicalize(path).map_err(io(path))?);
        }
        Ok(Self { given: given.to_owned(), allowed: all })
    }

    /// The path of the file `name`, whose symbolic links were followed and found to stay inside; `None` when there is none.
    pub(super) fn find(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.given.join(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| FormatError::new(&path, error))?,
        };
        let target = fs::canonicalize(&path).map_err(|error| nowhere(&path, error))?;
        if self.allowed.iter().any(|root| target.starts_with(root)) || is_blob(&target) {
            return Ok(Some(path));
        }
        let found = format!("the symbolic link to {}", quoted(&target.to_string_lossy()));
        let hint =
            "if that is meant, put the file itself in its place, or give the directory that it leads to as the model";
        Err(FormatError::new(path, FormatErrorKind::Escapes { found }).hint(hint))
    }
}

/// Why the links at `path` cannot be followed.
fn nowhere(path: &Path, error: std::io::Error) -> FormatError {
    let Ok(target) = fs::read_link(path) else { return FormatError::new(path, error) };
    let found = format!("the symbolic link to {} leads nowhere ({error})", quoted(&target.to_string_lossy()));
    FormatError::new(path, FormatErrorKind::Found { found, expected: "a file".into() })
}

/// Whether `target`, a path without links, is content in a cache of the Hugging Face hub: `models--X--Y/blobs/HASH`. Its clients put
/// links there into directories of models, and the name of such a file is the hash of what it holds.
fn is_blob(target: &Path) -> bool {
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default().to_owned()
    };
    let hash = name(Some(target));
    let folder = target.parent();
    matches!(hash.len(), 40 | 64)
        && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && name(folder) == "blobs"
        && name(folder.and_then(Path::parent)).starts_with("models--")
}

/// Whether `name`, from an index, is a relative path that stays inside the directory on every platform, in plain ASCII.
pub(super) fn check_shard_name(name: &str) -> Result<(), FormatErrorKind> {
    let parts = || Path::new(name).components();
    let inside = !name.is_empty()
        && parts().all(|part| matches!(part, Component::Normal(_)))
        && !name.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        && !name.contains(['\\', ':']);
    if !inside {
        return Err(FormatErrorKind::Escapes { found: format!("the file name {}", quoted(name)) });
    }
    if name.chars().any(|c| !c.is_ascii() || c.is_ascii_control()) {
        return Err(FormatErrorKind::Found {
            found: format!("the file name {}", quoted(name)),
            expected: "plain ASCII: file systems store other characters in more than one form (NFC, NFD)".into(),
        });
    }
    Ok(())
}

/// The names in the directory, sorted; those that are not UTF-8 belong to nobody here.
pub(super) fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::check_shard_name;

    #[test]
    fn only_plain_relative_names() {
        for name in ["model.safetensors", "model-00001-of-00002.safetensors", "sub/x.safetensors", "..x"] {
            assert!(check_shard_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/x",
            "a/../../x",
            "a/../x",
            "a/./x",
            "./x",
            "a//x",
            "x/",
            "C:\\x",
            "C:x",
            "\\\\host\\x",
            "a\\x",
        ] {
            let error = check_shard_name(name).unwrap_err().to_string();
            assert!(error.contains("escapes the model directory"), "{name}: {error}");
        }
        for name in ["x\0", "x\n", "mod\u{e9}l", "mode\u{301}l"] {
            assert!(check_shard_name(name).unwrap_err().to_string().contains("plain ASCII"), "{name}");
        }
    }
}
