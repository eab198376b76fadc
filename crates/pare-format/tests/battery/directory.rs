//! Model directories.

use std::fs::{self, File};
use std::path::Path;

use pare_format::config::ModelConfig;
use pare_format::directory::ModelDirectory;
use pare_format::json::{self, Bounds, Json};
use pare_format::safetensors::shard::{INDEX, SINGLE, plan_shards};
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};
use pare_format::safetensors::{Dtype, SafetensorsFile};
use pare_format::write::OutputDir;

use super::Expect::{Fails, Fine, Warns};
use super::{Expect, Outcome, Row};

#[path = "config.rs"]
mod config_rows;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10, "tie_word_embeddings": true}"#;

fn open(dir: &Path) -> Outcome {
    let model = ModelDirectory::open(dir)?;
    model.check_tensor_names()?;
    model.unchanged()?;
    for name in model.names() {
        assert_eq!(
            model.tensor(name).unwrap().bytes.len() as u64,
            Dtype::F32.bytes(&model.info(name).unwrap().1.shape).unwrap()
        );
    }
    Ok(model.warnings().to_vec())
}

fn parse(text: &str) -> json::Object {
    match json::parse(Path::new("x"), text.as_bytes(), Bounds::CONFIG).unwrap() {
        Json::Object(object) => object,
        other => panic!("{other:?}"),
    }
}

fn config() -> ModelConfig {
    ModelConfig::from_json(Path::new("x"), parse(CONFIG)).unwrap()
}

fn specs(config: &ModelConfig) -> Vec<TensorSpec> {
    let shape = |name: &str| match name {
        _ if name.contains("embed_tokens") || name == "lm_head.weight" => vec![config.vocab, config.hidden],
        _ if name.contains("norm") => vec![config.hidden],
        _ => vec![2, 3],
    };
    let spec = |name: String| TensorSpec { shape: shape(&name), name, dtype: Dtype::F32 };
    config.tensor_names().map(spec).collect()
}

/// Writes `specs` in shards of at most `most` bytes.
fn weights(dir: &Path, specs: &[TensorSpec], most: u64) {
    let plan = plan_shards(specs, most).unwrap();
    for shard in &plan.shards {
        let path = dir.join(&shard.file);
        let mut writer =
            SafetensorsWriter::new(&path, File::create(&path).unwrap(), specs[shard.tensors.clone()].to_vec(), &[])
                .unwrap();
        writer.write(&vec![0; shard.bytes as usize]).unwrap();
        writer.finish().unwrap();
    }
    if let Some(index) = plan.index(specs) {
        fs::write(dir.join(INDEX), index).unwrap();
    }
}

fn single(dir: &Path) {
    fs::write(dir.join("config.json"), CONFIG).unwrap();
    weights(dir, &specs(&config()), u64::MAX);
}

/// The second shard of [`sharded`], of many tensors.
const SECOND: &str = "model-00002-of-00003.safetensors";
/// The first shard of [`sharded`], the embedding alone.
const FIRST: &str = "model-00001-of-00003.safetensors";

fn sharded(dir: &Path) {
    fs::write(dir.join("config.json"), CONFIG).unwrap();
    weights(dir, &specs(&config()), 330);
    assert!(dir.join(FIRST).exists());
}

/// A valid model, changed.
fn row(id: &'static str, case: &'static str, change: fn(&Path), expect: Expect) -> Row {
    let make = move |dir: &Path| {
        single(dir);
        change(dir);
    };
    Row::new(id, case, make, open, expect)
}

/// A valid model of several shards, changed.
fn shards(id: &'static str, case: &'static str, change: fn(&Path), expect: Expect) -> Row {
    let make = move |dir: &Path| {
        sharded(dir);
        change(dir);
    };
    Row::new(id, case, make, open, expect)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// A valid model whose index gives the embedding to the file `name`.
fn traversal(name: &'static str, fragment: &'static [&'static str]) -> Row {
    let make = move |dir: &Path| {
        sharded(dir);
        let quoted = Json::from(name).to_text();
        edit(
            &dir.join(INDEX),
            &format!("\"model.embed_tokens.weight\": \"{FIRST}\""),
            &format!("\"model.embed_tokens.weight\": {}", quoted.trim()),
        );
    };
    Row::new("I01", format!("{name:?}"), make, open, Fails(fragment))
}

/// A valid model, one entry of `config.json` replaced.
fn field(id: &'static str, from: &'static str, to: &'static str, fragments: &'static [&'static str]) -> Row {
    let make = move |dir: &Path| {
        single(dir);
        edit(&dir.join("config.json"), from, to);
    };
    Row::new(id, to, make, open, Fails(fragments))
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = ["../x", "/etc/passwd", "a/../../x", "C:\\x", "\\\\host\\x", "", ".", "a/..", "./x"]
        .into_iter()
        .map(|name| {
            traversal(
                name,
                &[
                    "model.safetensors.index.json",
                    "weight_map",
                    "model.embed_tokens.weight",
                    "escapes the model directory",
                ],
            )
        })
        .collect();
    rows.extend(links());
    rows.extend(indices());
    rows.extend(config_rows::rows());
    rows.extend(outputs());
    rows
}

#[cfg(not(unix))]
fn links() -> Vec<Row> {
    Vec::new()
}

#[cfg(unix)]
fn links() -> Vec<Row> {
    use std::os::unix::fs::symlink;
    /// Puts the model into `sub` with its weights outside.
    fn outside(dir: &Path) {
        fs::create_dir(dir.join("sub")).unwrap();
        single(&dir.join("sub"));
        fs::rename(dir.join("sub").join(SINGLE), dir.join("secret")).unwrap();
        symlink("../secret", dir.join("sub").join(SINGLE)).unwrap();
    }
    fn cache(dir: &Path) {
        let snapshot = dir.join("models--x/snapshots/0123");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir(dir.join("models--x/blobs")).unwrap();
        single(&snapshot);
        for (i, name) in [SINGLE, "config.json"].into_iter().enumerate() {
            fs::rename(snapshot.join(name), dir.join(format!("models--x/blobs/{i}"))).unwrap();
            symlink(format!("../../blobs/{i}"), snapshot.join(name)).unwrap();
        }
    }
    fn cache_out(dir: &Path) {
        cache(dir);
        fs::rename(dir.join("models--x/blobs/0"), dir.join("models--x/secret")).unwrap();
        symlink("../secret", dir.join("models--x/blobs/0")).unwrap();
    }
    let sub = |dir: &Path| open(&dir.join("sub"));
    let snapshot = |dir: &Path| open(&dir.join("models--x/snapshots/0123"));
    let allowed = |dir: &Path| {
        let roots = [dir.to_owned()];
        ModelDirectory::open_following(dir.join("sub"), &roots).map(|model| model.warnings().to_vec())
    };
    let linked = |dir: &Path| {
        fs::rename(dir.join(SINGLE), dir.join("x")).unwrap();
        symlink("x", dir.join(SINGLE)).unwrap();
    };
    let looped = |dir: &Path| {
        fs::remove_file(dir.join(SINGLE)).unwrap();
        symlink(SINGLE, dir.join(SINGLE)).unwrap();
    };
    let dangling = |dir: &Path| {
        fs::remove_file(dir.join(SINGLE)).unwrap();
        symlink("/gone", dir.join(SINGLE)).unwrap();
    };
    let config_out = |dir: &Path| {
        fs::remove_file(dir.join("config.json")).unwrap();
        symlink("/etc/passwd", dir.join("config.json")).unwrap();
    };
    vec![
        Row::new(
            "I02",
            "link out",
            outside,
            sub,
            Fails(&["sub/model.safetensors: the symbolic link to", "secret\" escapes the model directory"]),
        ),
        Row::new("I02", "link out, allowed", outside, allowed, Fine),
        row(
            "I02",
            "config links out",
            config_out,
            Fails(&["config.json: the symbolic link to \"/etc/passwd\" escapes"]),
        ),
        row(
            "I02",
            "loop",
            looped,
            Fails(&["model.safetensors: the symbolic link to", "leads nowhere (Too many levels"]),
        ),
        row(
            "I02",
            "link to what is gone",
            dangling,
            Fails(&["symbolic link to \"/gone\" leads nowhere", "expected a file"]),
        ),
        row("I02", "link inside", linked, Fine),
        Row::new("I02", "cache layout", cache, snapshot, Fine),
        Row::new(
            "I02",
            "cache layout that leads out",
            cache_out,
            snapshot,
            Fails(&["secret\" escapes the model directory"]),
        ),
        row("I03", "hard link", |dir| fs::hard_link(dir.join(SINGLE), dir.join("other")).unwrap(), Fine),
    ]
}

fn indices() -> Vec<Row> {
    /// Adds the tensors of the first shard to a new file, under the name of a shard that is listed.
    fn same_tensor_twice(dir: &Path) {
        let first = SafetensorsFile::open(dir.join(FIRST)).unwrap();
        let second = SECOND;
        let mut specs: Vec<TensorSpec> =
            SafetensorsFile::open(dir.join(second)).unwrap().tensors().iter().map(spec).collect();
        specs.push(spec(&first.tensors()[0]));
        fs::remove_file(dir.join(second)).unwrap();
        weights(dir, &specs, u64::MAX);
        fs::rename(dir.join(SINGLE), dir.join(second)).unwrap();
    }
    fn spec(info: &pare_format::safetensors::TensorInfo) -> TensorSpec {
        TensorSpec { name: info.name.clone(), dtype: info.dtype, shape: info.shape.clone() }
    }
    fn unlisted(dir: &Path) {
        edit(&dir.join(INDEX), &format!("    \"model.layers.0.input_layernorm.weight\": \"{SECOND}\",\n"), "");
    }
    fn same_inode(dir: &Path) {
        fs::remove_file(dir.join(FIRST)).unwrap();
        fs::hard_link(dir.join(SECOND), dir.join(FIRST)).unwrap();
    }
    fn replaced(dir: &Path) -> Outcome {
        let model = ModelDirectory::open(dir)?;
        fs::copy(dir.join(FIRST), dir.join("new")).unwrap();
        fs::rename(dir.join("new"), dir.join(FIRST)).unwrap();
        model.unchanged().map(|()| Vec::new())
    }
    fn config_replaced(dir: &Path) -> Outcome {
        let model = ModelDirectory::open(dir)?;
        fs::write(dir.join("config.json"), "{}").unwrap();
        model.unchanged().map(|()| Vec::new())
    }
    let total = |dir: &Path| edit(&dir.join(INDEX), "\"total_size\": ", "\"total_size\": 1");
    let index = |text: &'static str| {
        move |dir: &Path| {
            sharded(dir);
            fs::write(dir.join(INDEX), text).unwrap()
        }
    };
    vec![
        shards("I04", "valid shards", |_| (), Fine),
        shards(
            "I04",
            "missing shard",
            |dir| fs::remove_file(dir.join(SECOND)).unwrap(),
            Fails(&[SECOND, "is missing, with tensor \"model.", "more"]),
        ),
        shards(
            "I04",
            "tensor not in its shard",
            |dir| {
                edit(
                    &dir.join(INDEX),
                    "    \"model.embed",
                    "    \"ghost\": \"model-00001-of-00003.safetensors\",\n    \"model.embed",
                )
            },
            Fails(&[FIRST, "tensor \"ghost\": is missing from the shard"]),
        ),
        shards(
            "I04",
            "tensor not in the index",
            unlisted,
            Warns(&[
                SECOND,
                "holds tensors that the index does not list: 1 (\"model.layers.0.input_layernorm.weight\")",
            ]),
        ),
        shards(
            "I04",
            "tensor in two shards",
            same_tensor_twice,
            Fails(&[
                "tensor \"model.embed_tokens.weight\": is in model-00001-of-00003.safetensors and in model-00002-of-00003.safetensors",
            ]),
        ),
        shards(
            "I04",
            "file of no index",
            |dir| {
                fs::copy(dir.join(FIRST), dir.join("old.safetensors")).unwrap();
            },
            Warns(&["no index lists: 1 (\"old.safetensors\")"]),
        ),
        shards("I05", "total_size", total, Warns(&["total_size is 1", "the shards hold 816 bytes"])),
        Row::new(
            "I06",
            "index is an LFS pointer",
            index("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
            open,
            Fails(&["index.json: this is a Git LFS pointer, the content was not downloaded", "git lfs pull"]),
        ),
        Row::new(
            "I06",
            "index is a page",
            index("\n<!DOCTYPE html><html>"),
            open,
            Fails(&["index.json: this is an HTML page"]),
        ),
        Row::new(
            "I06",
            "index is empty",
            index(""),
            open,
            Fails(&["index.json: an empty file; expected a JSON object"]),
        ),
        Row::new("I06", "index is an array", index("[]"), open, Fails(&["index.json: []; expected a JSON object"])),
        Row::new("I06", "index without map", index("{}"), open, Fails(&["field \"weight_map\": is missing"])),
        Row::new(
            "I06",
            "index with an empty map",
            index(r#"{"weight_map": {}}"#),
            open,
            Fails(&["field \"weight_map\": an empty object"]),
        ),
        Row::new(
            "I06",
            "index with a number",
            index(r#"{"weight_map": {"a": 1}}"#),
            open,
            Fails(&["\"weight_map\": tensor \"a\": 1; expected a file name"]),
        ),
        Row::new(
            "I06",
            "index with a key twice",
            index(r#"{"weight_map": {"a": "x", "a": "y"}}"#),
            open,
            Fails(&["key \"a\": occurs twice"]),
        ),
        Row::new(
            "I13",
            "shards that differ in case",
            index(r#"{"weight_map": {"a": "X.safetensors", "b": "x.safetensors"}}"#),
            open,
            Fails(&["the shards \"X.safetensors\" and \"x.safetensors\" differ in case only"]),
        ),
        Row::new(
            "I13",
            "names of two Unicode forms",
            index(r#"{"weight_map": {"a": "mod\u00e9l", "b": "mode\u0301l"}}"#),
            open,
            Fails(&["plain ASCII", "NFC, NFD"]),
        ),
        shards("I14", "two shards, one inode", same_inode, Fails(&["weight_map", FIRST, "are the same file"])),
        Row::new(
            "I15",
            "shard replaced",
            sharded,
            replaced,
            Fails(&[FIRST, "changed while reading: another file took its place"]),
        ),
        Row::new("I15", "config rewritten", sharded, config_replaced, Fails(&["config.json: changed while reading"])),
    ]
}

fn outputs() -> Vec<Row> {
    let below_file = |dir: &Path| OutputDir::create(dir.join(SINGLE).join("out"), true).map(|_| Vec::new());
    let over_file = |dir: &Path| OutputDir::create(dir.join(SINGLE), true).map(|_| Vec::new());
    let over_model = |dir: &Path| {
        let result = OutputDir::create(dir, false).map(|_| Vec::new());
        open(dir).unwrap();
        result
    };
    let inside = |dir: &Path| pare_format::write::refuse_inputs(dir, [dir.join(SINGLE)]).map(|()| Vec::new());
    vec![
        Row::new(
            "I16",
            "output below a file",
            single,
            below_file,
            Fails(&["model.safetensors/out: cannot write: Not a directory"]),
        ),
        Row::new(
            "I16",
            "output is a file",
            single,
            over_file,
            Fails(&["model.safetensors: is a file; expected a directory"]),
        ),
        Row::new(
            "I16",
            "output has content",
            single,
            over_model,
            Fails(&["is a directory that pare did not write", "nothing was written"]),
        ),
        Row::new("I16", "output holds the input", single, inside, Fails(&["is also an input", "nothing was written"])),
    ]
}
