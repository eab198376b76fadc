//! Models of a hub, by `organisation/name`.

use crate::Error;
use std::path::PathBuf;

/// The local directory of a repository, fetched when needed.
///
/// # Errors
/// This build has no hub client; the name is no `organisation/name`; the hub cannot be reached or does not have it.
pub fn fetch(repository: &str) -> Result<PathBuf, Error> {
    Err(Error::Refused(format!("hf:{repository}: this build has no hub client; build with --features hub")))
}
