//! Where fetched models and generated texts are kept.

use crate::Error;
use std::path::PathBuf;

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
