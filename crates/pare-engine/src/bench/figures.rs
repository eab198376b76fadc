//! From the turns of a run to its figures.

use super::machine::Machine;
use super::measure::{Sizes, Turn};
use super::peer::{Build, Peer};
use super::spread::Spread;
use super::{Entry, Rival};
use pare_kernels::product::Product;
use pare_model::block::Block;
use pare_model::model::Model;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Figures of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFigures {
    /// As the user named it.
    pub model: String,
    /// Types of its weights as they were run, as in `f16`.
    pub weights: String,
    /// Prompt tokens per second.
    pub prefill_tok_s: Option<Spread>,
    /// Floating-point operations of the prompt, a multiply-add counted as two: matrix products, attention, and the head for one token.
    pub prefill_flops: f64,
    /// Share of the machine's peak that they reach, each operation held to the peak of the arithmetic that computes it.
    pub prefill_flops_share: Option<f64>,
    /// Decoding at each context.
    pub decode: Vec<Decode>,
    /// Contexts that were not measured.
    pub skipped: Vec<Skipped>,
    /// Most memory of the process while this model alone was in it; nothing where the system does not say.
    pub peak_memory_bytes: Option<u64>,
}

/// Decoding at one context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decode {
    /// Tokens in the cache before the first.
    pub context: usize,
    /// Tokens per second.
    pub tok_s: Option<Spread>,
    /// Bytes read per token: weights and cache.
    pub bytes_per_token: u64,
    /// Bytes of weights among them.
    pub weight_bytes_per_token: u64,
    /// Bytes of keys and values among them, at the mean position.
    pub cache_bytes_per_token: u64,
    /// Share of the machine's read bandwidth. Above 1 where caches hold what is read.
    pub bandwidth_share: Option<f64>,
}

/// A context that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Tokens in the cache before the first.
    pub context: usize,
    /// Why not.
    pub why: String,
}

/// Figures of the peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerFigures {
    /// Its name.
    pub name: String,
    /// The program.
    pub program: String,
    /// Each file that it measured.
    pub runs: Vec<PeerRun>,
}

/// Figures of the peer on one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerRun {
    /// Name of the file, without its folder: records are compared between machines.
    pub file: String,
    /// Which build it was.
    #[serde(flatten)]
    pub build: Build,
    /// Prompt tokens per second.
    pub prefill_tok_s: Option<Spread>,
    /// Decoding at each context.
    pub decode: Vec<PeerDecode>,
}

/// Decoding of the peer at one context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerDecode {
    /// Tokens in the cache before the first.
    pub context: usize,
    /// Tokens per second.
    pub tok_s: Option<Spread>,
}

/// One beside another: above 1, `of` was faster than `over`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Whose speed is divided.
    pub of: String,
    /// By whose.
    pub over: String,
    /// Of the prompt.
    pub prefill: Option<Spread>,
    /// Of decoding, at the contexts that both have.
    pub decode: Vec<DecodeRatio>,
}

/// One beside another at one context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecodeRatio {
    /// Tokens in the cache before the first.
    pub context: usize,
    /// Of decoded tokens per second.
    pub ratio: Spread,
}

/// What is known of a model besides its turns.
pub(super) struct Facts<'a> {
    pub(super) entry: &'a Entry,
    pub(super) model: &'a Model,
    pub(super) cache_bytes_per_position: usize,
    pub(super) peak_memory_bytes: Option<u64>,
}

impl Facts<'_> {
    pub(super) fn figures(&self, turns: &[Turn], machine: &Machine) -> ModelFigures {
        let Self { entry, model, .. } = *self;
        let Sizes { prompt, tokens, .. } = entry.sizes;
        let prefill_tok_s = prefill(turns);
        let flops = PrefillFlops::of(model, prompt);
        let least_seconds = flops.f32 / machine.peak_flops + flops.int8 / machine.peak_int8_ops;
        let prefill_flops = flops.f32 + flops.int8;
        let share = |spread: Spread| spread.median * least_seconds / prompt as f64;
        let weights = model.bytes_per_token();
        let decode = entry.sizes.contexts.iter().map(|&context| {
            let tok_s = decode(&entry.sizes, turns, context);
            let cache = cache_bytes_per_token(self.cache_bytes_per_position, context, tokens);
            let bytes = weights + cache;
            Decode {
                context,
                tok_s,
                bytes_per_token: bytes,
                weight_bytes_per_token: weights,
                cache_bytes_per_token: cache,
                bandwidth_share: tok_s.map(|tok_s| tok_s.median * bytes as f64 / machine.read_bandwidth_bytes_s),
            }
        });
        ModelFigures {
            model: entry.label.clone(),
            weights: weight_types(model),
            prefill_tok_s,
            prefill_flops,
            prefill_flops_share: prefill_tok_s.map(share),
            decode: decode.collect(),
            skipped: entry.skipped.clone(),
            peak_memory_bytes: self.peak_memory_bytes,
        }
    }
}

impl PeerFigures {
    pub(super) fn new(peer: &Peer, builds: &[Build], runs: &[(&Path, Sizes)], turns: &[Vec<Turn>]) -> Self {
        let run = |((build, (file, sizes)), turns): ((&Build, &(&Path, Sizes)), &Vec<Turn>)| PeerRun {
            file: file_name(file),
            build: build.clone(),
            prefill_tok_s: prefill(turns),
            decode: sizes
                .contexts
                .iter()
                .map(|&context| PeerDecode { context, tok_s: decode(sizes, turns, context) })
                .collect(),
        };
        let program = peer.program.display().to_string();
        Self { name: peer.name().to_owned(), program, runs: builds.iter().zip(runs).zip(turns).map(run).collect() }
    }
}

/// The first model beside each other one, and each model beside its peer.
pub(super) fn ratios(
    entries: &[Entry],
    turns: &[Vec<Turn>],
    rival: Option<&Rival>,
    runs: &[(&Path, Sizes)],
    peer_turns: &[Vec<Turn>],
) -> Vec<Ratio> {
    let models = || entries.iter().zip(turns);
    let mut ratios = Vec::new();
    if let Some(first) = models().next() {
        for other in models().skip(1) {
            let of = (first.0.label.as_str(), &first.0.sizes, first.1.as_slice());
            ratios.push(ratio(of, (&other.0.label, &other.0.sizes, other.1)));
        }
    }
    let Some(rival) = rival else { return ratios };
    for ((entry, turns), file) in models().zip(&rival.files) {
        if let Some(((_, sizes), peer_turns)) = runs.iter().zip(peer_turns).find(|(run, _)| run.0 == file) {
            let label = format!("{} {}", rival.peer.name(), file_name(file));
            ratios.push(ratio((&entry.label, &entry.sizes, turns), (&label, sizes, peer_turns)));
        }
    }
    ratios
}

fn ratio(of: (&str, &Sizes, &[Turn]), over: (&str, &Sizes, &[Turn])) -> Ratio {
    let prefills = |turns: &[Turn]| turns.iter().map(|turn| turn.prefill_tok_s).collect::<Vec<f64>>();
    let decode = of.1.contexts.iter().filter_map(|&context| {
        let ratio = Spread::of_ratios(&rates(of.1, of.2, context), &rates(over.1, over.2, context))?;
        Some(DecodeRatio { context, ratio })
    });
    let decode = decode.collect();
    let prefill = Spread::of_ratios(&prefills(of.2), &prefills(over.2));
    Ratio { of: of.0.to_owned(), over: over.0.to_owned(), prefill, decode }
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().display().to_string()
}

fn prefill(turns: &[Turn]) -> Option<Spread> {
    Spread::of(turns.iter().map(|turn| turn.prefill_tok_s))
}

fn decode(sizes: &Sizes, turns: &[Turn], context: usize) -> Option<Spread> {
    Spread::of(rates(sizes, turns, context))
}

/// Decoded tokens per second of each turn at `context`; none when it was not measured.
fn rates(sizes: &Sizes, turns: &[Turn], context: usize) -> Vec<f64> {
    let Some(index) = sizes.contexts.iter().position(|&own| own == context) else { return Vec::new() };
    turns.iter().filter_map(|turn| turn.decode_tok_s.get(index).copied()).collect()
}

/// Token `t` of `tokens` reads `context + t` positions, itself included: `context + (tokens + 1) / 2` on average.
fn cache_bytes_per_token(bytes_per_position: usize, context: usize, tokens: usize) -> u64 {
    bytes_per_position as u64 * (2 * context as u64 + tokens as u64 + 1) / 2
}

/// Operations of a prompt, by the arithmetic that computes them.
struct PrefillFlops {
    f32: f64,
    /// Products of rows rounded to 8 bits.
    int8: f64,
}

impl PrefillFlops {
    /// Of a prompt of `tokens`, of which the last one reaches the head.
    fn of(model: &Model, tokens: usize) -> Self {
        let attention = model.blocks.iter().filter_map(Block::attention);
        let queries: usize = attention.map(|part| part.heads * model.architecture.head_dim).sum();
        // Each query meets the keys up to its own, and their values.
        let pairs = tokens as f64 * (tokens as f64 + 1.0) / 2.0;
        let mut flops = Self { f32: 4.0 * queries as f64 * pairs, int8: 0.0 };
        let head = model.head.as_ref().map_or(&model.embedding, |head| &head.weight);
        let all = blocks_of(model).map(|weight| (weight, tokens)).chain([(head.as_ref(), 1)]);
        for (weight, rows) in all {
            let [out, inn] = weight.shape();
            let own = 2.0 * rows as f64 * out as f64 * inn as f64;
            match weight.product().is_some_and(Product::reads_int8) {
                true => flops.int8 += own,
                false => flops.f32 += own,
            }
        }
        flops
    }
}

fn weight_types(model: &Model) -> String {
    let head = model.head.as_ref().map_or(model.embedding.name(), |head| head.weight.name());
    let mut names: BTreeSet<&str> = blocks_of(model).map(|weight| weight.name()).collect();
    names.insert(head);
    names.into_iter().collect::<Vec<_>>().join("+")
}

fn blocks_of(model: &Model) -> impl Iterator<Item = &dyn pare_model::weight::Weight> {
    model.blocks.iter().flat_map(Block::linears).map(|(_, linear)| linear.weight.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(contexts: &[usize]) -> Sizes {
        Sizes { prompt: 8, tokens: 4, contexts: contexts.to_vec() }
    }

    fn turns(figures: &[(f64, &[f64])]) -> Vec<Turn> {
        let turn = |&(prefill_tok_s, decode): &(f64, &[f64])| Turn { prefill_tok_s, decode_tok_s: decode.to_vec() };
        figures.iter().map(turn).collect()
    }

    #[test]
    fn cache_bytes_by_hand() {
        // 4 tokens after 10 read 11, 12, 13 and 14 positions: 12.5 on average.
        assert_eq!(cache_bytes_per_token(8, 10, 4), 100);
        assert_eq!(cache_bytes_per_token(8, 0, 1), 8);
    }

    #[test]
    fn ratios_are_made_at_contexts_that_both_have() {
        let (a, b) = (turns(&[(4.0, &[2.0, 1.0]), (9.0, &[3.0, 1.0])]), turns(&[(2.0, &[1.0]), (3.0, &[6.0])]));
        let found = ratio(("a", &sizes(&[0, 16]), &a), ("b", &sizes(&[0]), &b));
        assert_eq!(found.prefill, Some(Spread { min: 2.0, median: 2.5, max: 3.0 }));
        let ratio = Spread { min: 0.5, median: 1.25, max: 2.0 };
        assert_eq!(found.decode, [DecodeRatio { context: 0, ratio }]);
    }
}
