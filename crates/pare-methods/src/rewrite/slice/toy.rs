//! Tiny models with calibration text, for tests.

use super::{Calibration, MethodError};
use pare_kernels::pool::Pool;
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::forward::{KvCache, Observer, Runner, Segment};
use pare_model::matrix::Matrix;
use pare_model::model::{Architecture, Family, Model};
use pare_model::rng::SplitMix64;
use pare_model::rope::{Rope, Scaling};
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a tiny model has.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) blocks: usize,
    pub(crate) tied: bool,
    pub(crate) biases: bool,
    pub(crate) head_norms: bool,
}

/// Numbers in -1..1 times `scale`, around `centre`.
fn many(rng: &mut SplitMix64, count: usize, centre: f64, scale: f64) -> Vec<f32> {
    (0..count).map(|_| (centre + scale * (2.0 * rng.unit() - 1.0)) as f32).collect()
}

/// Width 24, four heads of 6 in two groups, 20 channels, 41 tokens.
pub(crate) fn model(seed: u64, kind: Kind) -> Model {
    const C: usize = 24;
    let rng = &mut SplitMix64::new(seed);
    let linear = |rng: &mut SplitMix64, out: usize, inn: usize| Linear {
        weight: Arc::new(Dense(Matrix::from_vec(out, inn, many(rng, out * inn, 0.0, 1.5 / (inn as f64).sqrt())))),
        bias: kind.biases.then(|| many(rng, out, 0.0, 0.3).into()),
    };
    let gain = |rng: &mut SplitMix64, len: usize| -> Arc<[f32]> { many(rng, len, 1.0, 0.5).into() };
    let mut blocks = Vec::new();
    for _ in 0..kind.blocks {
        let attention = Attention {
            norm: gain(rng, C),
            q: linear(rng, 24, C),
            k: linear(rng, 12, C),
            v: linear(rng, 12, C),
            o: linear(rng, C, 24),
            q_norm: kind.head_norms.then(|| gain(rng, 6)),
            k_norm: kind.head_norms.then(|| gain(rng, 6)),
            shortcut: None,
            heads: 4,
            groups: 2,
        };
        let norm = gain(rng, C);
        let (gate, up, down) = (linear(rng, 20, C), linear(rng, 20, C), linear(rng, C, 20));
        blocks.push(Block {
            mixer: Some(Mixer::Attention(attention)),
            ffn: Some(Ffn { norm, gate, up, down, shortcut: None }),
        });
    }
    let table = |rng: &mut SplitMix64| Dense(Matrix::from_vec(41, C, many(rng, 41 * C, 0.0, 1.0)));
    Model {
        architecture: Architecture {
            family: Family::Llama,
            hidden: C,
            vocab: 41,
            context: 64,
            head_dim: 6,
            norm_eps: 1e-3,
            rope: Rope { theta: 10_000.0, scaling: Scaling::None },
        },
        embedding: Arc::new(table(rng)),
        blocks,
        final_norm: gain(rng, C),
        head: (!kind.tied).then(|| Linear::new(Arc::new(table(rng)))),
    }
}

/// Sequences of `length` tokens.
pub(crate) fn sequences(count: usize, length: usize, seed: u64) -> Vec<Vec<u32>> {
    let rng = &mut SplitMix64::new(seed);
    (0..count).map(|_| (0..length).map(|_| rng.below(41) as u32).collect()).collect()
}

/// Logits of every position, `[T, V]`.
pub(crate) fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let pool = Pool::new(1);
    let mut runner = Runner::new(model, &pool);
    run(&mut runner, tokens, None);
    runner.logits(&(0..tokens.len()).collect::<Vec<_>>()).to_vec()
}

fn run(runner: &mut Runner<'_>, tokens: &[u32], observer: Option<&mut dyn Observer>) {
    let mut caches = [KvCache::new(runner.model(), tokens.len())];
    runner.hidden(tokens, &[Segment { sequence: 0, start: 0, len: tokens.len() }], &mut caches, observer);
}

/// Calibration text, the plain way.
pub(crate) struct OnText {
    pub(crate) original: Model,
    pub(crate) sequences: Vec<Vec<u32>>,
    /// What every divergence is said to be, when it is not measured.
    pub(crate) told: Option<f64>,
    pub(crate) asked: usize,
}

impl OnText {
    pub(crate) fn new(original: &Model) -> Self {
        Self { original: original.clone(), sequences: sequences(8, 40, 77), told: None, asked: 0 }
    }
}

/// Sums of second moments and cosines.
struct Sums<'a> {
    needs: &'a BTreeSet<(Site, Stat)>,
    sums: BTreeMap<(Site, Stat), Vec<f64>>,
}

impl Observer for Sums<'_> {
    fn input(&mut self, block: usize, point: Point, x: &[f32], width: usize) {
        let at = (Site::new(block, point), Stat::Gram);
        if self.needs.contains(&at) {
            let sum = self.sums.entry(at).or_insert_with(|| vec![0.0; width * width]);
            for row in x.chunks_exact(width) {
                for (index, sum) in sum.iter_mut().enumerate() {
                    *sum += f64::from(row[index / width]) * f64::from(row[index % width]);
                }
            }
        }
    }

    fn part(&mut self, block: usize, point: Point, before: &[f32], after: &[f32], width: usize) {
        let at = (Site::new(block, point), Stat::Cosine);
        if self.needs.contains(&at) {
            let sum = self.sums.entry(at).or_insert_with(|| vec![0.0]);
            for (a, b) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
                let dot =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                sum[0] += dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            }
        }
    }
}

impl Calibration for OnText {
    fn observe(&mut self, model: &Model, needs: &BTreeSet<(Site, Stat)>) -> Result<Stats, MethodError> {
        let pool = Pool::new(1);
        let mut runner = Runner::new(model, &pool);
        let mut sums = Sums { needs, sums: BTreeMap::new() };
        self.sequences.iter().for_each(|tokens| run(&mut runner, tokens, Some(&mut sums)));
        let tokens = self.sequences.iter().map(Vec::len).sum::<usize>() as u64;
        let mut stats = Stats::new(tokens);
        for ((site, stat), values) in sums.sums {
            stats.insert(site, stat, values.into_iter().map(|value| value / tokens as f64).collect());
        }
        Ok(stats)
    }

    fn divergence(&mut self, model: &Model) -> Result<f64, MethodError> {
        self.asked += 1;
        if let Some(told) = self.told {
            return Ok(told);
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for tokens in &self.sequences {
            let (reference, tested) = (logits(&self.original, tokens), logits(model, tokens));
            let vocab = model.architecture.vocab;
            let last = (tokens.len() - 1) * vocab;
            for (reference, tested) in reference[..last].chunks_exact(vocab).zip(tested[..last].chunks_exact(vocab)) {
                (sum, count) = (sum + kl(reference, tested), count + 1.0);
            }
        }
        Ok(sum / count)
    }
}

/// `KL(p || q)` of two rows of logits, in nats.
fn kl(p: &[f32], q: &[f32]) -> f64 {
    let ln = |row: &[f32]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        row.iter().map(|&logit| f64::from(logit) - sum.ln()).collect()
    };
    ln(p).iter().zip(ln(q)).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// The largest difference of two lists, relative to the largest number of the second.
pub(crate) fn off(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0_f64, |most, &value| most.max(f64::from(value).abs()));
    got.iter().zip(want).fold(0.0_f64, |most, (&a, &b)| most.max((f64::from(a) - f64::from(b)).abs())) / largest
}
