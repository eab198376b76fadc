//! Entry points for fuzzing that reach the forward pass of tiny models: whatever is accepted runs, and runs by the law.

use super::{Tensors, assemble, from_gguf};
use crate::forward::{KvCache, Runner, Segment};
use crate::matrix::Matrix;
use crate::model::{Model, PackAs};
use crate::rng::SplitMix64;
use crate::storage::Dense;
use crate::weight::Weight;
use pare_format::Result;
use pare_format::config::ModelConfig;
use pare_format::gguf::GgufModel;
use pare_format::json::{self, Bounds, Json};
use pare_kernels::pool::Pool;
use std::path::Path;
use std::sync::Arc;

/// Most numbers of a model that is run.
const MOST: u64 = 1 << 18;

/// Loads `bytes` as a GGUF file and runs the model. Says whether there was one.
///
/// # Panics
/// When a model that was accepted does not run, or its rows depend on each other: that is a bug.
pub fn fuzz_gguf(bytes: &[u8]) -> bool {
    let loaded = GgufModel::from_bytes(Path::new("fuzz.gguf"), bytes.to_vec()).and_then(|file| from_gguf(&file));
    let Ok(loaded) = loaded else { return false };
    if loaded.model.parameters().total <= MOST {
        run(&loaded.model);
    }
    true
}

/// Reads `text` as a `config.json` and runs the model of its shape, with weights drawn from a seed. Says whether it was read; a model too large
/// to be cheap is not run.
///
/// # Panics
/// As [`fuzz_gguf`].
pub fn fuzz_config(text: &[u8]) -> bool {
    let file = Path::new("config.json");
    let Ok(Json::Object(raw)) = json::parse(file, text, Bounds::CONFIG) else { return false };
    let Ok(config) = ModelConfig::from_json(file, raw) else { return false };
    if size(&config) <= MOST {
        run(&assemble(&config, &Drawn).unwrap_or_else(|error| panic!("{error}")));
    }
    true
}

/// An upper bound of the numbers of the model.
fn size(config: &ModelConfig) -> u64 {
    let (hidden, head_dim) = (config.hidden as u64, config.head_dim as u64);
    let block = |index: usize| {
        let shape = config.block(index);
        let heads = shape.attention.map_or(0, |shape| 2 * (shape.heads + shape.kv_heads)) as u64;
        let ffn = shape.ffn.map_or(0, |width| 3 * width) as u64;
        hidden.saturating_mul(heads.saturating_mul(head_dim).saturating_add(ffn).saturating_add(2 * hidden + 8))
    };
    let blocks = (0..config.blocks).fold(head_dim, |sum, index| sum.saturating_add(block(index)));
    blocks.saturating_add((2 * config.vocab as u64).saturating_mul(hidden))
}

/// Numbers that depend on the name alone.
struct Drawn;

impl Drawn {
    fn numbers(name: &str, count: usize) -> Vec<f32> {
        let seed = name.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut rng = SplitMix64::new(seed);
        (0..count).map(|_| rng.unit() as f32 - 0.5).collect()
    }
}

impl Tensors for Drawn {
    fn matrix(&self, name: &str, [out, inn]: [usize; 2]) -> Result<Arc<dyn Weight>> {
        Ok(Arc::new(Dense(Matrix::from_vec(out, inn, Self::numbers(name, out * inn)))))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Arc<[f32]>> {
        Ok(Self::numbers(name, len).into())
    }
}

/// A few tokens at once and one by one: the same bits, in every packing.
fn run(model: &Model) {
    let pool = Pool::new(1);
    let last = model.architecture.vocab as u32 - 1;
    let tokens = [0, last, last / 2];
    for model in [model.clone(), model.packed(PackAs::Exact, &pool), model.packed(PackAs::Stored, &pool)] {
        let mut runner = Runner::new(&model, &pool);
        let mut caches = [KvCache::new(&model, tokens.len())];
        runner.hidden(&tokens, &[Segment { sequence: 0, start: 0, len: tokens.len() }], &mut caches, None);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let at_once = bits(runner.logits(&[tokens.len() - 1]));
        caches[0].clear();
        for (start, token) in tokens.into_iter().enumerate() {
            runner.hidden(&[token], &[Segment { sequence: 0, start, len: 1 }], &mut caches, None);
        }
        let logits = runner.logits(&[0]);
        assert_eq!(logits.len(), model.architecture.vocab, "a logit for each token");
        assert!(bits(logits) == at_once || logits.iter().any(|logit| logit.is_nan()), "rows depend on each other");
    }
}
