//! Tiny models: the random ones of `goldens/families` with a tokenizer of one token per ASCII character.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Characters of the vocabulary, and size of the tiny models' vocabularies.
const TOKENS: u32 = 128;

/// A scratch directory with the model `model` in it.
pub(crate) struct Tiny {
    folder: tempfile::TempDir,
}

impl Tiny {
    /// The tied llama of `goldens/families`: 2 blocks, C 64, F 80, context 64.
    pub(crate) fn new() -> Self {
        Self::of_family("llama-tied")
    }

    pub(crate) fn of_family(family: &str) -> Self {
        let tiny = Self { folder: tempfile::tempdir().unwrap() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families").join(family);
        fs::create_dir(tiny.model()).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::copy(source.join(name), tiny.model().join(name)).unwrap();
        }
        tiny.write("model/tokenizer.json", tokenizer(None).to_string());
        tiny
    }

    /// A llama of five random blocks whose widths are whole blocks of 32: every recipe finds something to do on it. C 64, F 64, context 64.
    pub(crate) fn five_blocks() -> Self {
        let tiny = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(tiny.model()).unwrap();
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "vocab_size": TOKENS, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "float32",
        });
        tiny.write("model/config.json", config.to_string());
        tiny.write("model/model.safetensors", random_llama(5));
        tiny.write("model/tokenizer.json", tokenizer(None).to_string());
        tiny
    }

    /// The model's directory.
    pub(crate) fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    /// The model's directory as an argument.
    pub(crate) fn name(&self) -> String {
        self.model().to_str().unwrap().to_owned()
    }

    /// The scratch directory.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of `name` in the scratch directory, as an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file in the scratch directory; its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.folder.path().join(name), content).unwrap();
        self.path(name)
    }

    /// Replaces the model's only file of weights by what `change` makes of it.
    pub(crate) fn change_weights(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.model().join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
    }
}

/// Weights of [`Tiny::five_blocks`]: matrices of numbers that are spread evenly around 0, norms around 1.
fn random_llama(blocks: usize) -> Vec<u8> {
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![TOKENS as usize, 64])];
    for block in 0..blocks {
        for (name, shape) in [
            ("input_layernorm", vec![64]),
            ("self_attn.q_proj", vec![64, 64]),
            ("self_attn.k_proj", vec![32, 64]),
            ("self_attn.v_proj", vec![32, 64]),
            ("self_attn.o_proj", vec![64, 64]),
            ("post_attention_layernorm", vec![64]),
            ("mlp.gate_proj", vec![64, 64]),
            ("mlp.up_proj", vec![64, 64]),
            ("mlp.down_proj", vec![64, 64]),
        ] {
            shapes.push((format!("model.layers.{block}.{name}.weight"), shape));
        }
    }
    shapes.push(("model.norm.weight".to_owned(), vec![64]));
    let (mut header, mut data, mut state) = (Map::new(), Vec::new(), 1u64);
    for (name, shape) in shapes {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            let value = if shape.len() == 1 { 1.0 + 0.2 * unit } else { 0.4 * unit };
            data.extend(value.to_le_bytes());
        }
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Where the bytes of a tensor begin in a safetensors file, and its length.
pub(crate) fn tensor(file: &[u8], name: &str) -> (usize, usize) {
    let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let offset = |index: usize| header[name]["data_offsets"][index].as_u64().unwrap() as usize;
    (8 + length + offset(0), offset(1) - offset(0))
}

/// How byte-level vocabularies spell a byte: printable ones as themselves, the others from U+0100 on.
fn spelt(byte: u32) -> char {
    let code = match byte {
        33..=126 => byte,
        127 => 0x121,
        _ => 0x100 + byte,
    };
    char::from_u32(code).unwrap()
}

/// A byte-level tokenizer whose id is the ASCII code; `last` takes the place of the last one as a token of its own.
pub(crate) fn tokenizer(last: Option<&str>) -> Value {
    let plain = TOKENS - u32::from(last.is_some());
    let vocab: Map<String, Value> = (0..plain).map(|byte| (spelt(byte).to_string(), json!(byte))).collect();
    let added: Vec<Value> = last
        .iter()
        .map(|text| {
            json!({
                "id": plain, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": false,
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [],
        },
    })
}
