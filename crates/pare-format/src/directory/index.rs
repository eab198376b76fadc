//! The weight files of a model: one file, or shards and their index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::absent::instead;
use super::resolve::{Roots, check_shard_name, files};
use super::{listed, places};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::{self, Bounds, Json};
use crate::limits;
use crate::quote::{self, quoted};
use crate::safetensors::SafetensorsFile;
use crate::safetensors::shard::{INDEX, SINGLE};

/// The open weight files.
pub(super) struct Weights {
    pub(super) shards: Vec<SafetensorsFile>,
    pub(super) by_name: Vec<(u32, u32)>,
    pub(super) warnings: Vec<String>,
}

/// Opens the weights of a model: the single file when it is there, else what the index lists.
pub(super) fn open(roots: &Roots) -> Result<Weights> {
    let (single, index) = (roots.find(SINGLE)?, roots.find(INDEX)?);
    let mut warnings = Vec::new();
    let used: BTreeSet<String>;
    let shards;
    match (single, index) {
        (Some(single), index) => {
            if index.is_some() {
                warnings.push(format!("both {SINGLE} and {INDEX} are there; the index is not used"));
            }
            used = BTreeSet::from([SINGLE.to_owned()]);
            shards = vec![SafetensorsFile::open(single)?];
        }
        (None, Some(index)) => {
            let map = read(&index)?;
            used = map.by_shard.keys().cloned().collect();
            shards = open_shards(roots, &index, &map)?;
            warnings.extend(compare(&index, &map, &shards)?);
        }
        (None, None) => return Err(no_weights(roots)),
    }
    let by_name = places(&roots.given.join(INDEX), &shards)?;
    let unused: BTreeSet<String> =
        files(&roots.given).into_iter().filter(|name| name.ends_with(".safetensors") && !used.contains(name)).collect();
    if !unused.is_empty() {
        warnings.push(format!("safetensors files that no index lists: {}", listed(&unused)));
    }
    Ok(Weights { shards, by_name, warnings })
}

/// What an index says.
struct Map {
    by_shard: BTreeMap<String, BTreeSet<String>>,
    total_size: Option<Json>,
}

fn read(index: &Path) -> Result<Map> {
    let object = json::read_object(index, Bounds { bytes: limits::INDEX_BYTES, ..Bounds::CONFIG })?;
    let wrong = |item: String, found: String, expected: &str| {
        Err(FormatError::new(index, FormatErrorKind::Found { found, expected: expected.into() }).item(item))
    };
    let Some(Json::Object(map)) = object.get("weight_map") else {
        let found = object.get("weight_map").map_or("is missing".to_owned(), Json::shown);
        return wrong(quote::field("weight_map"), found, "an object from tensor names to file names");
    };
    let mut by_shard: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, value) in map.iter() {
        let item = || format!("field \"weight_map\": {}", quote::tensor(tensor));
        let Json::String(name) = value else { return wrong(item(), value.shown(), "a file name") };
        if let Some(tensors) = by_shard.get_mut(name) {
            tensors.insert(tensor.to_owned());
            continue;
        }
        check_shard_name(name).map_err(|kind| FormatError::new(index, kind).item(item()))?;
        by_shard.insert(name.clone(), BTreeSet::from([tensor.to_owned()]));
    }
    let found = by_shard.len() as u64;
    if found == 0 {
        return wrong(quote::field("weight_map"), "an empty object".into(), "at least one tensor");
    }
    if found > limits::SHARDS {
        let kind = FormatErrorKind::TooLarge { what: "number of shards", found, limit: limits::SHARDS };
        return Err(FormatError::new(index, kind).item(quote::field("weight_map")));
    }
    let mut folded: BTreeMap<String, &String> = BTreeMap::new();
    for name in by_shard.keys() {
        if let Some(other) = folded.insert(name.to_lowercase(), name) {
            let found = format!("the shards {} and {} differ in case only", quoted(other), quoted(name));
            return wrong(quote::field("weight_map"), found, "names that every file system keeps apart");
        }
    }
    let total_size = match object.get("metadata") {
        Some(Json::Object(metadata)) => metadata.get("total_size").cloned(),
        _ => None,
    };
    Ok(Map { by_shard, total_size })
}

fn open_shards(roots: &Roots, index: &Path, map: &Map) -> Result<Vec<SafetensorsFile>> {
    let mut shards = Vec::new();
    let mut inodes: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for (name, tensors) in &map.by_shard {
        let Some(path) = roots.find(name)? else {
            let found = format!("is missing, with {}", quote::tensor(tensors.first().map_or("", String::as_str)));
            let found = if tensors.len() > 1 { format!("{found} and {} more", tensors.len() - 1) } else { found };
            let kind = FormatErrorKind::Found { found, expected: format!("every shard that {INDEX} lists") };
            return Err(FormatError::new(roots.given.join(name), kind).hint("download the model again"));
        };
        let shard = SafetensorsFile::open(&path)?;
        if let Some(id) = shard.file().stamp().id
            && let Some(other) = inodes.insert(id, name)
        {
            let found = format!("the shards {} and {} are the same file", quoted(other), quoted(name));
            let kind = FormatErrorKind::Found { found, expected: "a file for each shard".into() };
            return Err(FormatError::new(index, kind).item(quote::field("weight_map")));
        }
        shards.push(shard);
    }
    Ok(shards)
}

/// Compares what the index says with what the shards hold, both in the order of shard names; returns warnings.
fn compare(index: &Path, map: &Map, shards: &[SafetensorsFile]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let mut total = 0_u64;
    for ((name, expected), shard) in map.by_shard.iter().zip(shards) {
        let missing: BTreeSet<String> = expected.iter().filter(|tensor| shard.get(tensor).is_none()).cloned().collect();
        if let Some(first) = missing.first() {
            let found = format!("is missing from the shard, with {} listed ones in all", missing.len());
            let kind = FormatErrorKind::Found { found, expected: format!("every tensor that {INDEX} lists") };
            return Err(FormatError::new(shard.path(), kind).item(quote::tensor(first)));
        }
        let extra = shard.tensors().iter().filter(|info| !expected.contains(&info.name));
        let extra: BTreeSet<String> = extra.map(|info| info.name.clone()).collect();
        // A tensor that the index gives to another shard is a duplicate, which `places` refuses.
        if !extra.is_empty() {
            warnings.push(format!("{name} holds tensors that the index does not list: {}", listed(&extra)));
        }
        total += shard.tensors().iter().map(|info| info.range.len() as u64).sum::<u64>();
    }
    if let Some(declared) = &map.total_size
        && *declared != Json::from(total)
        && !matches!(declared, Json::Number(n) if n.as_f64() == Some(total as f64))
    {
        let file = index.file_name().unwrap_or_default().display();
        warnings.push(format!("{file}: total_size is {}, the shards hold {total} bytes", declared.shown()));
    }
    Ok(warnings)
}

fn no_weights(roots: &Roots) -> FormatError {
    let pickles: Vec<String> = files(&roots.given)
        .into_iter()
        .filter(|name| {
            let known = [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|end| name.ends_with(end));
            known || name == "pytorch_model.bin.index.json"
        })
        .collect();
    if let Some(first) = pickles.first() {
        let first = quoted(first);
        let names = if pickles.len() > 1 { format!("{first} and {} more", pickles.len() - 1) } else { first };
        let hint = "convert them where you trust them: save_pretrained(..., safe_serialization=True)";
        return FormatError::new(&roots.given, FormatErrorKind::Pickle(names)).hint(hint);
    }
    let path: PathBuf = roots.given.join(SINGLE);
    let instead = instead(&roots.given).map_or(String::new(), |instead| format!("; {instead}"));
    let kind = FormatErrorKind::Found { found: "is missing".into(), expected: format!("{SINGLE} or {INDEX}{instead}") };
    FormatError::new(path, kind)
}
