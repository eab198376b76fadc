//! Small models: those of the goldens, and one of uneven blocks drawn from a seed.

use pare_format::config::{Family, Rope, Scaling};
use pare_format::directory::ModelDirectory;
use pare_kernels::pool::Pool;
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::load::from_directory;
use pare_model::matrix::Matrix;
use pare_model::model::{Architecture, Model};
use pare_model::rng::SplitMix64;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The goldens' tiny models, one per rule of a family.
pub(crate) const FAMILIES: [&str; 7] =
    ["llama-linear", "llama-llama3-biases", "llama-tied", "llama-yarn", "mistral", "qwen2", "qwen3"];

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name)
}

pub(crate) fn family(name: &str) -> Model {
    from_directory(&ModelDirectory::open(golden("families").join(name)).unwrap()).unwrap().model
}

/// Every model that a property is checked on, with its name.
pub(crate) fn all() -> Vec<(&'static str, Model)> {
    FAMILIES.iter().map(|name| (*name, family(name))).chain([("uneven", uneven())]).collect()
}

pub(crate) struct Draw(SplitMix64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Numbers in -1..1 times `scale`, around `centre`.
    pub(crate) fn many(&mut self, count: usize, centre: f32, scale: f32) -> Vec<f32> {
        (0..count).map(|_| centre + scale * (2.0 * self.0.unit() - 1.0) as f32).collect()
    }

    pub(crate) fn tokens(&mut self, count: usize, vocab: usize) -> Vec<u32> {
        (0..count).map(|_| self.0.below(vocab) as u32).collect()
    }

    fn linear(&mut self, out: usize, inn: usize) -> Linear {
        let scale = 2.5 / (inn as f32).sqrt();
        let matrix = Matrix::from_vec(out, inn, self.many(out * inn, 0.0, scale));
        Linear { weight: Arc::new(Dense(matrix)), bias: Some(self.many(out, 0.0, 0.3).into()) }
    }
}

/// Width 24, heads of width 6, a bias on every projection. Blocks: 6 heads in 3 groups and 20 channels; 4 heads in 2 groups alone;
/// 37 channels alone; 1 head and 33 channels.
pub(crate) fn uneven() -> Model {
    const HIDDEN: usize = 24;
    const HEAD: usize = 6;
    const VOCAB: usize = 41;
    let mut draw = Draw::new(11);
    let mut block = |attention: Option<(usize, usize)>, ffn: Option<usize>| Block {
        mixer: attention.map(|(heads, groups)| {
            Mixer::Attention(Attention {
                norm: draw.many(HIDDEN, 1.0, 0.5).into(),
                q: draw.linear(heads * HEAD, HIDDEN),
                k: draw.linear(groups * HEAD, HIDDEN),
                v: draw.linear(groups * HEAD, HIDDEN),
                o: draw.linear(HIDDEN, heads * HEAD),
                q_norm: Some(draw.many(HEAD, 1.0, 0.5).into()),
                k_norm: Some(draw.many(HEAD, 1.0, 0.5).into()),
                shortcut: None,
                heads,
                groups,
            })
        }),
        ffn: ffn.map(|width| Ffn {
            norm: draw.many(HIDDEN, 1.0, 0.5).into(),
            gate: draw.linear(width, HIDDEN),
            up: draw.linear(width, HIDDEN),
            down: draw.linear(HIDDEN, width),
            shortcut: None,
        }),
    };
    let blocks = vec![
        block(Some((6, 3)), Some(20)),
        block(Some((4, 2)), None),
        block(None, Some(37)),
        block(Some((1, 1)), Some(33)),
    ];
    Model {
        architecture: Architecture {
            family: Family::Llama,
            hidden: HIDDEN,
            vocab: VOCAB,
            context: 64,
            head_dim: HEAD,
            norm_eps: 1e-5,
            rope: Rope { theta: 10_000.0, scaling: Scaling::None },
        },
        embedding: Arc::new(Dense(Matrix::from_vec(VOCAB, HIDDEN, draw.many(VOCAB * HIDDEN, 0.0, 1.0)))),
        blocks,
        final_norm: draw.many(HIDDEN, 1.0, 0.5).into(),
        head: Some(draw.linear(VOCAB, HIDDEN)),
    }
}

/// Tokens of `model`, always the same.
pub(crate) fn tokens(model: &Model, count: usize, seed: u64) -> Vec<u32> {
    Draw::new(seed).tokens(count, model.architecture.vocab)
}

/// Logits of every position, `[T, V]`, in one pass.
pub(crate) fn logits(model: &Model, tokens: &[u32], pool: &Pool) -> Vec<f32> {
    let mut runner = Runner::new(model, pool);
    let mut caches = [KvCache::new(model, tokens.len())];
    runner.hidden(tokens, &[Segment { sequence: 0, start: 0, len: tokens.len() }], &mut caches, None);
    runner.logits(&(0..tokens.len()).collect::<Vec<_>>()).to_vec()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Equal, where 0.0 and -0.0 are one number and nothing else is: adding a part that gives zeros can turn one into the other.
#[track_caller]
pub(crate) fn same_numbers(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let differs = got.iter().zip(want).position(|(got, want)| got != want);
    assert_eq!(differs, None, "{what}: the first value that differs");
}

/// `model` with a shortcut that changes nothing beside every part.
pub(crate) fn with_shortcuts(model: &Model) -> Model {
    let width = model.architecture.hidden;
    let mut identity = Matrix::zeros(width, width);
    (0..width).for_each(|at| identity.row_mut(at)[at] = 1.0);
    let shortcut = Linear::new(Arc::new(Dense(identity)));
    let mut model = model.clone();
    for block in &mut model.blocks {
        if let Some(part) = block.attention_mut() {
            part.shortcut = Some(shortcut.clone());
        }
        if let Some(part) = &mut block.ffn {
            part.shortcut = Some(shortcut.clone());
        }
    }
    model
}
