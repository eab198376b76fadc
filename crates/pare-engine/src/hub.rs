//! Models of a hub, by `organisation/name` or `organisation/name@revision`.
//!
//! Files are kept in the cache that Hugging Face tools share (`models--ORGANISATION--NAME/{blobs,refs,snapshots}`), so that what another
//! tool has fetched is found, and the other way round. Only the description, the tokenizer and safetensors weights are fetched: no pickle,
//! no code.
//!
//! The client is behind the feature `hub`, which is off by default: it adds 32 crates (ureq 3.5, rustls, ring, the
//! certificates of the system; zip for wheels) and compiles C; ureq alone takes 56 s of processor time in a cold release build, most of it
//! for TLS. hf-hub 1.0 with `blocking` and `rustls-tls` adds 198 crates, among them
//! `cmake`, which `deny.toml` forbids, and takes more than 385 s (stopped after 196 of its 235 crates). Without the feature, models that
//! are in the cache can still be used.

#[cfg(feature = "hub")]
pub(crate) mod agent;
mod index;
mod layout;
mod name;
#[cfg(feature = "hub")]
mod remote;
mod settings;
#[cfg(feature = "hub")]
mod store;
#[cfg(feature = "hub")]
mod wanted;

pub use settings::Settings;

use crate::Error;
use crate::progress::{Interrupt, Progress, Work};
use layout::Layout;
use name::Name;
use std::path::PathBuf;

/// The local directory of `repository` (`organisation/name`, `organisation/name@revision`), fetched when needed, with the settings of the
/// environment: see [`Settings::from_environment`].
///
/// # Errors
/// As [`fetch_with`].
pub fn fetch(repository: &str, work: Work<'_>) -> Result<PathBuf, Error> {
    fetch_with(repository, &Settings::from_environment()?, work.progress, work.interrupt)
}

/// The local directory of `repository`, fetched when needed. Progress counts bytes.
///
/// The hub is asked each time which commit the revision means, unless [`Settings::offline`] is set. Where it cannot be reached, what the
/// cache has of the model is used, with a note. A file appears under its name once all
/// of it is there; the revision leads to the new commit once all files are there.
///
/// # Errors
/// The name is not of this form; the hub cannot be reached and the cache does not have all of the model; the hub does not have the repository, the revision or a file of it, or wants a token; an
/// index lists a file that is not in the repository or not a plain file name; the disk; the user stopped it. Offline, or in a build
/// without the feature `hub`: the cache does not have all of the model.
pub fn fetch_with(
    repository: &str,
    settings: &Settings,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<PathBuf, Error> {
    interrupt.check()?;
    let name = Name::parse(repository)?;
    let layout = Layout::new(&settings.cache, &name);
    if settings.offline {
        return cached(&name, &layout)
            .map_err(|why| Error::Refused(format!("hf:{name}: {why}, and HF_HUB_OFFLINE forbids to fetch it")));
    }
    online(&name, &layout, settings, progress, interrupt)
}

#[cfg(feature = "hub")]
fn online(
    name: &Name,
    layout: &Layout,
    settings: &Settings,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<PathBuf, Error> {
    let remote = remote::Remote::new(name, settings)?;
    let listing = match remote.listing() {
        // The network is away, not the model.
        Err(Error::Io { path, source }) => {
            let Ok(snapshot) = cached(name, layout) else { return Err(Error::Io { path, source }) };
            progress.note(&format!(
                "hf:{name}: {path}: {source}; the model that the cache has is used, which may be an older one"
            ));
            return Ok(snapshot);
        }
        other => other?,
    };
    store::Store { name, layout, remote: &remote, listing: &listing, progress, interrupt }.fetch()
}

#[cfg(not(feature = "hub"))]
fn online(
    name: &Name,
    layout: &Layout,
    _: &Settings,
    _: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<PathBuf, Error> {
    interrupt.check()?;
    cached(name, layout).map_err(|why| {
        Error::Refused(format!(
            "hf:{name}: {why}, and this build has no hub client: build it with `cargo build --release --features hub`, or fetch the model \
             with `hf download {}`",
            name.repository()
        ))
    })
}

/// The snapshot of the revision in the cache, when all that a model needs is there; else what is missing.
fn cached(name: &Name, layout: &Layout) -> Result<PathBuf, String> {
    let folder = || layout.folder().display();
    let commit = layout
        .commit(&name.revision)
        .ok_or_else(|| format!("the cache has no revision {:?} of it ({})", name.revision, folder()))?;
    let snapshot = layout.snapshot(&commit);
    match index::missing(&snapshot) {
        None => Ok(snapshot),
        Some(file) => Err(format!("the cache does not have its {file} ({})", snapshot.display())),
    }
}
