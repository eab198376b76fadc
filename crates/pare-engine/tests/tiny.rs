//! Tiny models of the goldens, alone and with a tokenizer, and what all work is given.

use pare_engine::bundle::Bundle;
use pare_engine::progress::{Interrupt, Silent, Work};
use pare_format::directory::ModelDirectory;
use pare_kernels::pool::Pool;
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::load::from_directory;
use pare_model::model::Model;
use pare_model::rng::SplitMix64;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

static NEVER: Interrupt = Interrupt::new();

pub(crate) fn work(pool: &Pool) -> Work<'_> {
    Work { pool, progress: &Silent, interrupt: &NEVER }
}

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name)
}

pub(crate) fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(crate) fn family(name: &str) -> Model {
    from_directory(&ModelDirectory::open(golden("families").join(name)).unwrap()).unwrap().model
}

/// Five different blocks: C 64, four heads of 16 in two groups, and 72 channels, which is no multiple of 32.
pub(crate) fn five_blocks() -> Model {
    let mut model = family("llama-tied");
    model.blocks.extend(family("llama-yarn").blocks);
    model.blocks.extend(family("llama-linear").blocks.into_iter().take(1));
    for block in &mut model.blocks {
        let ffn = block.ffn.as_ref().unwrap();
        block.ffn = Some(ffn.keep_channels(&(0..72).collect::<Vec<_>>()));
    }
    model
}

/// The model that a built-in recipe is tried on: five blocks of 72 channels, or of 64 where matrices are taken in blocks of 32.
pub(crate) fn model_for(recipe: &str) -> Model {
    let mut model = five_blocks();
    if ["armor", "armor-solved", "gptq", "gptq-eora"].contains(&recipe) {
        for block in &mut model.blocks {
            let ffn = block.ffn.as_ref().unwrap();
            block.ffn = Some(ffn.keep_channels(&(0..64).collect::<Vec<_>>()));
        }
    }
    model
}

/// Sequences of tokens below `vocab`.
pub(crate) fn sequences(count: usize, length: usize, vocab: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut rng = SplitMix64::new(seed);
    (0..count).map(|_| (0..length).map(|_| rng.below(vocab) as u32).collect()).collect()
}

/// Logits of every position, `[T, V]`.
pub(crate) fn logits(model: &Model, tokens: &[u32], pool: &Pool) -> Vec<f32> {
    let mut runner = Runner::new(model, pool);
    let mut caches = [KvCache::new(model, tokens.len())];
    runner.hidden(tokens, &[Segment { sequence: 0, start: 0, len: tokens.len() }], &mut caches, None);
    runner.logits(&(0..tokens.len()).collect::<Vec<_>>()).to_vec()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The bits of every weight and bias of every block.
pub(crate) fn weights(model: &Model) -> Vec<Vec<u32>> {
    let of_linear = |linear: &pare_model::weight::Linear| {
        let mut all = bits(linear.to_matrix().data());
        all.extend(linear.bias.iter().flat_map(|bias| bits(bias)));
        all
    };
    model
        .blocks
        .iter()
        .flat_map(|block| block.linears().map(|(_, linear)| of_linear(linear)).collect::<Vec<_>>())
        .collect()
}

/// A tokenizer of the printable letters of ASCII, a space and a line break: below 128 tokens, as the tiny models have.
pub(crate) fn tokenizer_json() -> String {
    let mut vocab: Map<String, Value> = Map::new();
    // In the alphabet of byte-level tokenizers a line break is U+010A and a space U+0120.
    for character in (0x21..=0x7e_u8).map(char::from).chain(['\u{10a}', '\u{120}']) {
        vocab.insert(character.to_string(), vocab.len().into());
    }
    vocab.insert("<|end|>".into(), vocab.len().into());
    let end = json!({ "id": vocab.len() - 1, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    json!({
        "version": "1.0",
        "added_tokens": [end],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "unk_token": null, "vocab": vocab, "merges": [] },
    })
    .to_string()
}

/// A family's model with its configuration and a tokenizer, opened from a copy in `folder`.
pub(crate) fn bundle(name: &str, folder: &Path) -> Bundle {
    let copy = folder.join(name);
    std::fs::create_dir(&copy).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("families").join(name).join(file), copy.join(file)).unwrap();
    }
    std::fs::write(copy.join("tokenizer.json"), tokenizer_json()).unwrap();
    Bundle::open(&copy.display().to_string(), work(&Pool::new(1))).unwrap()
}
