//! Where fetched models and generated texts are kept.

use crate::Error;
use crate::progress::Progress;
use pare_format::write::{Unfinished, write_file_atomic};
use std::fs;
use std::path::PathBuf;
use std::sync::Once;

/// The user's cache directory of pare: `$PARE_CACHE`, else `$XDG_CACHE_HOME/pare`, else `$HOME/.cache/pare`.
///
/// # Errors
/// None of the three is set.
pub fn directory() -> Result<PathBuf, Error> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("PARE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("pare")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/pare")))
        .ok_or_else(|| Error::Refused("no cache directory: set PARE_CACHE, XDG_CACHE_HOME or HOME".to_owned()))
}

/// What is kept as `name` in `folder` of the cache; nothing when it is not there or cannot be read.
pub fn read(folder: &str, name: &str) -> Option<Vec<u8>> {
    fs::read(directory().ok()?.join(folder).join(name)).ok()
}

/// Keeps `bytes` as `name` in `folder` of the cache. A cache that cannot be written costs the next run its time, not this one its answer:
/// that is a note, given once.
pub fn keep(folder: &str, name: &str, bytes: &[u8], progress: &dyn Progress) {
    static SAID: Once = Once::new();
    let Err(why) = store(folder, name, bytes) else { return };
    SAID.call_once(|| {
        progress.note(&format!(
            "the cache cannot be written ({why}): a later run does this again; set PARE_CACHE to a directory that can be written"
        ));
    });
}

/// A directory for what is fetched, removed when it is dropped: in `folder` of the cache, else among the temporary files of the system.
///
/// # Errors
/// Neither can be written; the error is that of the second.
pub fn scratch(folder: &str) -> Result<Unfinished, Error> {
    let name = format!(".fetch-{}", std::process::id());
    let in_cache = directory().ok().and_then(|cache| Unfinished::directory(cache.join(folder).join(&name)).ok());
    let elsewhere = || {
        let path = std::env::temp_dir().join(format!("pare{name}"));
        Unfinished::directory(&path).map_err(|source| Error::Io { path: path.display().to_string(), source })
    };
    in_cache.map_or_else(elsewhere, Ok)
}

fn store(folder: &str, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let folder = directory()?.join(folder);
    fs::create_dir_all(&folder).map_err(|source| Error::Io { path: folder.display().to_string(), source })?;
    Ok(write_file_atomic(folder.join(name), bytes)?)
}
