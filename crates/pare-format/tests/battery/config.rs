//! Configurations and contents of model directories.

use std::fs::{self, File};
use std::path::Path;

use pare_format::directory::ModelDirectory;
use pare_format::safetensors::Dtype;
use pare_format::safetensors::shard::SINGLE;
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};

use super::super::Expect::{Fails, Fine, Warns};
use super::super::Row;
use super::{config, edit, field, open, row, single, specs, weights};

pub(super) fn rows() -> Vec<Row> {
    configs().into_iter().chain(contents()).collect()
}

fn configs() -> Vec<Row> {
    let layers = "\"num_hidden_layers\": 2";
    let own_code = |dir: &Path| {
        edit(
            &dir.join("config.json"),
            "\"model_type\": \"llama\"",
            "\"model_type\": \"own\", \"auto_map\": {\"AutoModel\": \"m.X\"}",
        )
    };
    let head = |dir: &Path, value: u8| {
        let mut all = specs(&config());
        all.push(TensorSpec { name: "lm_head.weight".into(), dtype: Dtype::F32, shape: vec![10, 8] });
        let path = dir.join(SINGLE);
        let total: u64 = all.iter().map(|spec| spec.bytes(&path).unwrap()).sum();
        let mut writer = SafetensorsWriter::new(&path, File::create(&path).unwrap(), all, &[]).unwrap();
        writer.write(&vec![0; total as usize - 320]).unwrap();
        writer.write(&[value; 320]).unwrap();
        writer.finish().unwrap();
    };
    let tied = move |value: u8| {
        move |dir: &Path| {
            single(dir);
            head(dir, value)
        }
    };
    fn cache(dir: &Path) {
        fs::remove_file(dir.join("config.json")).unwrap();
        fs::create_dir_all(dir.join("snapshots/0abc")).unwrap();
    }
    let instead = |name: &'static str, says: &'static [&'static str]| {
        let make = move |dir: &Path| {
            single(dir);
            fs::remove_file(dir.join("config.json")).unwrap();
            fs::write(dir.join(name), "x").unwrap();
        };
        Row::new("I07", name, make, open, Fails(says))
    };
    vec![
        row(
            "I07",
            "no config",
            |dir| fs::remove_file(dir.join("config.json")).unwrap(),
            Fails(&["config.json: is missing"]),
        ),
        row("I07", "a cache of downloads", cache, Fails(&["config.json: is missing", "give snapshots/0abc"])),
        instead("m-Q4.gguf", &["give the file m-Q4.gguf itself"]),
        instead("adapter_config.json", &["merge it into its model first"]),
        instead("params.json", &["convert them for transformers first"]),
        instead("x.onnx", &["weights for ONNX"]),
        row(
            "I07",
            "config is a page",
            |dir| fs::write(dir.join("config.json"), "<html>").unwrap(),
            Fails(&["config.json: this is an HTML page"]),
        ),
        row(
            "I07",
            "config is too deep",
            |dir| fs::write(dir.join("config.json"), "[".repeat(100_000)).unwrap(),
            Fails(&["JSON depth is 65"]),
        ),
        row(
            "I07",
            "config of 17 MB",
            |dir| fs::write(dir.join("config.json"), " ".repeat(17_000_000)).unwrap(),
            Fails(&["config.json: file size is 17000000, the limit is 16000000"]),
        ),
        row(
            "I07",
            "config of many values",
            |dir| fs::write(dir.join("config.json"), format!("[{}0]", "0,".repeat(7_000_000))).unwrap(),
            Fails(&["number of JSON values"]),
        ),
        field(
            "I07",
            layers,
            "\"num_hidden_layers\": -1",
            &["field \"num_hidden_layers\": -1; expected a whole number"],
        ),
        field("I07", layers, "\"num_hidden_layers\": 0", &["field \"num_hidden_layers\": 0;"]),
        field("I07", layers, "\"num_hidden_layers\": 1000000000", &["field \"num_hidden_layers\": 1000000000;"]),
        field("I07", layers, "\"num_hidden_layers\": \"12\"", &["field \"num_hidden_layers\": \"12\";"]),
        field("I07", layers, "\"num_hidden_layers\": 12.5", &["field \"num_hidden_layers\": 12.5;"]),
        field("I07", layers, "\"num_hidden_layers\": null", &["field \"num_hidden_layers\": null;"]),
        field(
            "I07",
            "\"num_attention_heads\": 2",
            "\"num_attention_heads\": 3",
            &["field \"hidden_size\": 8; expected a multiple of num_attention_heads, 3"],
        ),
        field(
            "I07",
            "\"num_key_value_heads\": 1",
            "\"num_key_value_heads\": 4",
            &["field \"num_key_value_heads\": 4; expected a divisor of num_attention_heads, 2"],
        ),
        field(
            "I07",
            "\"vocab_size\": 10",
            "\"vocab_size\": 11",
            &["config.json: field \"vocab_size\": 11; expected 10, the rows of tensor \"model.embed_tokens.weight\""],
        ),
        field(
            "I07",
            "\"hidden_size\": 8",
            "\"hidden_size\": 16",
            &["field \"hidden_size\": 16; expected 8, the columns"],
        ),
        field(
            "I08",
            layers,
            "\"num_hidden_layers\": 3",
            &["missing 9 (\"model.layers.2.input_layernorm.weight\"", ", ...)"],
        ),
        field(
            "I08",
            layers,
            "\"num_hidden_layers\": 1",
            &["not expected 9 (\"model.layers.1.input_layernorm.weight\"", ", ...)"],
        ),
        field(
            "I09",
            "\"llama\"",
            "\"gpt_neox\"",
            &[
                "field \"model_type\": model type \"gpt_neox\" is not supported; supported: llama, mistral, qwen2, qwen3",
            ],
        ),
        row("I09", "remote code", own_code, Fails(&["\"own\" is not supported", "pare never runs code from a model"])),
        row("I10", "tied without head", |_| (), Fine),
        Row::new("I10", "tied with the same head", tied(0), open, Fine),
        Row::new(
            "I10",
            "tied with another head",
            tied(1),
            open,
            Warns(&["lm_head.weight differs from it: the stored head is used"]),
        ),
        row(
            "I10",
            "no head where one is announced",
            |dir| {
                let path = dir.join("config.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"))
                    .unwrap();
            },
            Warns(&["there is no lm_head.weight: the embedding is used"]),
        ),
        field(
            "I12",
            "\"vocab_size\"",
            "\"quantization_config\": {\"quant_method\": \"aqlm\"}, \"vocab_size\"",
            &["field \"quantization_config\": quantised weights (\"aqlm\") is not supported"],
        ),
    ]
}

fn contents() -> Vec<Row> {
    fn packed(dir: &Path) {
        single(dir);
        let mut all = specs(&config());
        all[1].dtype = Dtype::F4;
        weights(dir, &all, u64::MAX);
    }
    let require =
        |dir: &Path| ModelDirectory::open(dir)?.require("model.layers.0.input_layernorm.weight").map(|_| Vec::new());
    let none = |dir: &Path| ModelDirectory::open(dir)?.require("ghost").map(|_| Vec::new());
    let lfs = |dir: &Path| {
        fs::write(dir.join(SINGLE), "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n")
            .unwrap()
    };
    let pickle = |dir: &Path| {
        fs::remove_file(dir.join(SINGLE)).unwrap();
        fs::write(dir.join("pytorch_model.bin"), "PK\x03\x04").unwrap();
    };
    vec![
        row(
            "I06",
            "shard is an LFS pointer",
            lfs,
            Fails(&["model.safetensors: this is a Git LFS pointer, the content was not downloaded"]),
        ),
        row(
            "I06",
            "shard is a page",
            |dir| fs::write(dir.join(SINGLE), "<!doctype HTML>").unwrap(),
            Fails(&["model.safetensors: this is an HTML page"]),
        ),
        row(
            "I11",
            "pickles only",
            pickle,
            Fails(&["\"pytorch_model.bin\"", "run code when opened and are never read", "safe_serialization"]),
        ),
        row(
            "I11",
            "no weights at all",
            |dir| fs::remove_file(dir.join(SINGLE)).unwrap(),
            Fails(&["model.safetensors: is missing"]),
        ),
        row(
            "I11",
            "zip under our name",
            |dir| fs::write(dir.join(SINGLE), "PK\x03\x04zip archive of a pickle").unwrap(),
            Fails(&["header length", "PyTorch pickle"]),
        ),
        Row::new(
            "I12",
            "packed type where numbers are needed",
            packed,
            require,
            Fails(&["tensor \"model.layers.0.input_layernorm.weight\": dtype F4 is not supported"]),
        ),
        Row::new("I12", "no such tensor", single, none, Fails(&["tensor \"ghost\": is missing"])),
        Row::new(
            "I11",
            "not a directory",
            single,
            |dir| open(&dir.join(SINGLE)),
            Fails(&["is not a directory; expected a model directory"]),
        ),
    ]
}
