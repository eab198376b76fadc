//! Which files a model needs, by the index of its weights.

use super::name::is_shard;
use crate::Error;
use pare_format::config::CONFIG;
use pare_format::json::{Bounds, Json, read_object};
use pare_format::limits;
use pare_format::safetensors::shard::{INDEX, SINGLE};
use pare_format::{FormatError, FormatErrorKind};
use std::collections::BTreeSet;
use std::path::Path;

/// The shards that an index lists, in the order of their names.
///
/// # Errors
/// It is no index; a shard is not a plain file name that ends in `.safetensors`.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>, Error> {
    let object = read_object(index, Bounds { bytes: limits::INDEX_BYTES, ..Bounds::CONFIG })?;
    let wrong = |found: String, expected: &str| {
        let kind = FormatErrorKind::Found { found, expected: expected.to_owned() };
        Err(FormatError::new(index, kind).item("field \"weight_map\"").into())
    };
    let map = match object.get("weight_map") {
        Some(Json::Object(map)) if !map.is_empty() => map,
        Some(other) => return wrong(other.shown(), "an object from tensor names to file names"),
        None => return wrong("is missing".to_owned(), "an object from tensor names to file names"),
    };
    let mut shards = BTreeSet::new();
    for (_, value) in map.iter() {
        match value {
            Json::String(name) if shards.contains(name) => {}
            Json::String(name) if is_shard(name) => _ = shards.insert(name.clone()),
            other => return wrong(other.shown(), "plain names of safetensors files"),
        }
    }
    let found = shards.len() as u64;
    if found > limits::SHARDS {
        let kind = FormatErrorKind::TooLarge { what: "number of shards", found, limit: limits::SHARDS };
        return Err(FormatError::new(index, kind).item("field \"weight_map\"").into());
    }
    Ok(shards)
}

/// The first file that a model needs and `snapshot` does not have. What is wrong with an index is left to those who open it.
pub(super) fn missing(snapshot: &Path) -> Option<String> {
    let has = |name: &str| snapshot.join(name).is_file();
    if !has(CONFIG) {
        return Some(CONFIG.to_owned());
    }
    if has(SINGLE) {
        return None;
    }
    if !has(INDEX) {
        return Some(SINGLE.to_owned());
    }
    shards(&snapshot.join(INDEX)).ok()?.into_iter().find(|shard| !has(shard))
}
