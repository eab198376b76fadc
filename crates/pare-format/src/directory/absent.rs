//! What to give or to make when a directory is not the model itself.

use std::path::Path;

use super::resolve::files;
use crate::config::CONFIG;
use crate::quote::quoted;
use crate::safetensors::shard::SINGLE;

/// What the directory holds in place of the model, for the end of a message: what to give instead, or what to convert.
pub(super) fn instead(root: &Path) -> Option<String> {
    let names = files(root);
    let ends = |end: &str| names.iter().find(|name| name.to_lowercase().ends_with(end));
    let is = |name: &str| names.iter().any(|found| found == name);
    if is("snapshots")
        && let Some(revision) = files(&root.join("snapshots")).first()
    {
        return Some(format!("this is a cache of downloads: give snapshots/{revision}"));
    }
    if let Some(file) = ends(".gguf") {
        return Some(format!("give the file {file} itself"));
    }
    if is("adapter_config.json") {
        return Some(
            "this is an adapter: merge it into its model first (peft: merge_and_unload, save_pretrained)".into(),
        );
    }
    if is("params.json") || ends(".00.pth").is_some() {
        return Some("these are weights in the layout of their makers: convert them for transformers first".into());
    }
    let has_config = |name: &&String| root.join(name.as_str()).join(CONFIG).is_file();
    if let Some(name) = names.iter().find(has_config) {
        return Some(format!("the folder {} in it is a model: give its path", quoted(name)));
    }
    if let Some(name) = names.iter().find(|name| name.ends_with(".safetensors") && *name != SINGLE) {
        return Some(format!("there is {}: give the file with all weights that name", quoted(name)));
    }
    let other = [(".onnx", "ONNX"), (".npz", "MLX"), (".h5", "TensorFlow"), (".msgpack", "Flax")];
    let (_, kind) = other.iter().find(|(end, _)| ends(end).is_some())?;
    Some(format!("these are weights for {kind}: give the original model, or save it with transformers"))
}
