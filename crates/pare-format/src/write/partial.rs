//! The temporary names beside an output, and what dead processes left of them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{FormatError, FormatErrorKind, Result};

/// Marks what is not finished yet.
pub(super) const NEW: &str = "partial";
/// Marks what is about to be replaced.
pub(super) const OLD: &str = "old";

/// The directory of `path` and its name in it.
pub(super) fn split(path: &Path) -> Result<(PathBuf, OsString)> {
    let Some(name) = path.file_name() else {
        let kind = FormatErrorKind::Found { found: "not a name".into(), expected: "the name of an output".into() };
        return Err(FormatError::new(path, kind));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((parent, name.to_owned()))
}

/// `.NAME.partial-` or `.NAME.old-`, which the number of a process follows.
pub(super) fn prefix(name: &OsStr, mark: &str) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(format!(".{mark}-"));
    prefix
}

/// The name of the directory that process `pid` uses for `name`.
pub(super) fn directory(parent: &Path, name: &OsStr, mark: &str, pid: u32) -> PathBuf {
    let mut file_name = prefix(name, mark);
    file_name.push(pid.to_string());
    parent.join(file_name)
}

/// What follows the prefix in the names inside `parent`, with the paths, in the order of names.
fn suffixes(parent: &Path, name: &OsStr, mark: &str) -> Vec<(String, PathBuf)> {
    let prefix = prefix(name, mark);
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let file_name = entry.file_name();
            let suffix = file_name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes())?;
            Some((String::from_utf8(suffix.to_vec()).ok()?, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// The directories with `mark` for `name`, with the numbers of their processes.
pub(super) fn directories(parent: &Path, name: &OsStr, mark: &str) -> Vec<(u32, PathBuf)> {
    suffixes(parent, name, mark)
        .into_iter()
        .filter(|(_, path)| fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()))
        .filter_map(|(pid, path)| Some((pid.parse().ok()?, path)))
        .collect()
}

/// Whether a process holds the file or directory at `path`.
pub(super) fn held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Whether process `pid` left the file or directory at `path` behind.
pub(super) fn is_stale(path: &Path, pid: u32) -> bool {
    // A process that has just made it may not have locked it yet.
    let running = pid != std::process::id() && Path::new("/proc").join(pid.to_string()).exists();
    !running && !held(path)
}

/// Removes the temporary files for `name` whose processes are gone.
pub(super) fn remove_stale_files(parent: &Path, name: &OsStr) {
    for (suffix, path) in suffixes(parent, name, NEW) {
        let Some((pid, serial)) = suffix.split_once('-') else { continue };
        let (Ok(pid), Ok(_)) = (pid.parse::<u32>(), serial.parse::<u64>()) else { continue };
        let is_file = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
        if is_file && pid != std::process::id() && is_stale(&path, pid) {
            let _ = fs::remove_file(&path);
        }
    }
}
