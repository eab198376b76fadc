//! Which files of a repository are fetched.

use super::name::Name;
use super::remote::Listing;
use crate::Error;
use pare_format::config::CONFIG;
use pare_format::directory::{COMPANIONS, MOST_TEMPLATES, is_other_template};
use pare_format::limits;
use pare_format::safetensors::shard::{INDEX, SINGLE};

/// The most bytes of a companion file: the largest vocabularies in use are below 40 MB.
const MAX_COMPANION_BYTES: u64 = 256 << 20;

/// The files that come before the weights: the description, the companions and templates that are there, the index when there is no single
/// file.
///
/// # Errors
/// There is no description, or there are no safetensors weights.
pub(super) fn first(name: &Name, listing: &Listing) -> Result<Vec<String>, Error> {
    let has = |file: &str| listing.files.contains_key(file);
    let refuse = |why: String| Err(Error::Refused(format!("hf:{name}: {why}")));
    let ending = |ends: &[&str]| listing.files.keys().find(|file| ends.iter().any(|end| file.ends_with(end)));
    if !has(SINGLE) && !has(INDEX) {
        if let Some(gguf) = ending(&[".gguf"]) {
            return refuse(format!("the repository holds GGUF files ({gguf:?}): download one, and give its path"));
        }
        if let Some(pickle) = ending(&[".bin", ".pt", ".pth", ".ckpt", ".pkl"]) {
            return refuse(format!(
                "the weights are pickle files ({pickle:?}), which can run code and are not read; expected {SINGLE} or {INDEX}"
            ));
        }
        return refuse(format!("the repository has no weights; expected {SINGLE} or {INDEX}"));
    }
    if !has(CONFIG) {
        return refuse(format!("the repository has no {CONFIG}, the model's description"));
    }
    let weights = if has(SINGLE) { SINGLE } else { INDEX };
    let templates = listing.files.keys().map(String::as_str).filter(|file| is_other_template(file));
    Ok([CONFIG]
        .into_iter()
        .chain(COMPANIONS)
        .filter(|file| has(file))
        .chain(templates.take(MOST_TEMPLATES))
        .chain([weights].into_iter().filter(|&file| file == INDEX))
        .map(str::to_owned)
        .collect())
}

/// The most bytes that are taken for a file.
pub(super) fn limit(file: &str) -> u64 {
    match file {
        CONFIG => limits::CONFIG_BYTES,
        INDEX => limits::INDEX_BYTES,
        _ if file.ends_with(".safetensors") => u64::MAX,
        _ => MAX_COMPANION_BYTES,
    }
}
