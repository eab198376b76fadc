//! What is measured of models, as data: what reports show, tables print and caches keep.

use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that a report shows. Also written as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was done, as in `smollm2-135m shrunk by slim`.
    pub title: String,
    /// The model before.
    pub model: ModelFacts,
    /// What was done to it; none for `inspect`.
    pub recipe: Option<RecipeFacts>,
    /// Kept share of each part of each block, by the original numbering.
    pub picture: Vec<BlockShare>,
    /// What `inspect` found per block; empty otherwise.
    pub redundancy: Vec<BlockRedundancy>,
    /// Distortion curves per block, where `inspect --curve` measured them; empty otherwise.
    pub curves: Vec<BlockCurve>,
    /// Figures: the dense model first, then the model as it was read, the result and the baselines. One entry for `inspect`.
    pub figures: Vec<Figures>,
    /// The same prompts continued by several models.
    pub samples: Vec<Sample>,
    /// How the figures were made: texts, windows, seeds, versions, machine.
    pub conditions: Vec<(String, String)>,
    /// Warnings and remarks, in plain words.
    pub notes: Vec<String>,
}

/// Sizes of the model before.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFacts {
    /// As given by the user.
    pub name: String,
    /// `llama`, `qwen2`, ...
    pub family: String,
    /// Number of blocks.
    pub blocks: usize,
    /// C.
    pub hidden: usize,
    /// H of the first block that has attention.
    pub heads: usize,
    /// G of the same block.
    pub groups: usize,
    /// F of the first block that has a feed-forward part.
    pub ffn: usize,
    /// V.
    pub vocab: usize,
    /// Stored numbers, tied head once.
    pub parameters: u64,
    /// Of these, in the blocks.
    pub block_parameters: u64,
    /// How the weights are stored, as in `q4_1`.
    pub storage: String,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct RecipeFacts {
    /// Key.
    pub name: String,
    /// One line.
    pub about: String,
    /// Paper.
    pub source: String,
    /// Asked share of projection weights.
    pub keep: f64,
    /// Seconds from the first observation to the last repair.
    pub seconds: f64,
}

/// Kept share of the two parts of one block, 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BlockShare {
    /// Of the attention part.
    pub attention: f64,
    /// Of the feed-forward part.
    pub ffn: f64,
}

/// Signs of redundancy in one block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BlockRedundancy {
    /// 1 - mean cosine of the residual before and after attention (0: it changes nothing).
    pub attention_influence: f64,
    /// The same for the feed-forward part.
    pub ffn_influence: f64,
    /// The same for the whole block.
    pub block_influence: f64,
    /// Share of FFN channels that together carry the least 5 % of the summed Wanda score.
    pub idle_channels: f64,
    /// Largest over smallest Wanda score among KV groups.
    pub group_spread: f64,
    /// Effective rank of what the block reads (the residual stream after its norm) over the width, 0..=1.
    pub effective_rank: f64,
    /// Its nuclear norm over the largest that activations of the same energy and width can have, 0..=1.
    pub nuclear_norm: f64,
    /// Mean over heads of the largest correlation of what a head writes with what another one writes, 0..=1.
    pub head_correlation: f64,
    /// Mean over FFN channels of the largest correlation with another channel, 0..=1.
    pub channel_correlation: f64,
    /// Share of the FFN channels (of at most 512, evenly spaced, scaled to one length) that merge into others: nearer than half of the
    /// largest distance of two, 0..=1.
    pub mergeable_channels: f64,
    /// Entropy of the energies that FFN channels write, over that of equal energies, 0..=1.
    pub energy_entropy: f64,
    /// How many FFN channels of equal energy would have that entropy, over all of them, 0..=1.
    pub effective_channels: f64,
}

/// What leaves the model's answers as they were, and what does not: parts of one block removed alone, without repair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockCurve {
    /// FFN channels removed, those with the lowest Wanda scores first; by level. Empty without a feed-forward part.
    pub channels: Vec<CurvePoint>,
    /// Mean KL divergence of the whole model without the block, nats; none where it cannot leave.
    pub dropped: Option<f64>,
}

/// One removal and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Share of the block's channels that was to be removed, 0..=1; at 1 the whole feed-forward part leaves.
    pub level: f64,
    /// How many channels that is.
    pub removed_channels: usize,
    /// Mean KL divergence of the whole model from the one before, nats.
    pub kl_mean: f64,
}

/// What a model in the report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Before, in plain numbers: what quality is measured against.
    Dense,
    /// The files that the user gave, run as they are stored: the dense model's answers, with bytes and a speed of their own.
    AsRead,
    /// What the recipe made.
    Result,
    /// A simple method at the same keep.
    Baseline,
}

/// Figures of one model. What was not measured is none.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Shown name.
    pub label: String,
    /// What it is.
    pub role: Role,
    /// Natural-log perplexity on the first of the verification texts.
    pub perplexity: Option<f64>,
    /// Perplexity over that of the dense model.
    pub perplexity_ratio: Option<f64>,
    /// Mean KL divergence from the dense model, nats.
    pub kl_mean: Option<f64>,
    /// 99th percentile of the same.
    pub kl_p99: Option<f64>,
    /// Share of positions with the same most likely token.
    pub top1_agreement: Option<f64>,
    /// The same figures on every verification text, the first included.
    pub texts: Vec<OnText>,
    /// Stored numbers, tied head once.
    pub parameters: u64,
    /// Bytes of the files that were written, or were read.
    pub bytes: Option<u64>,
    /// Tokens per second of a 512-token prompt.
    pub prefill_tok_s: Option<f64>,
    /// Tokens per second of greedy decoding.
    pub decode_tok_s: Option<f64>,
    /// Most memory of a process that has only this model in it, at the context that the report's conditions name.
    pub peak_memory_bytes: Option<u64>,
    /// Accuracy per probe; `name` by likelihood among four, `name_generated` by greedy decoding.
    pub probes: BTreeMap<String, f64>,
}

/// What one text says of one model. What was not measured is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnText {
    /// The text, as in `speeches`.
    pub name: String,
    /// Natural-log perplexity.
    pub perplexity: Option<f64>,
    /// Perplexity over that of the dense model.
    pub perplexity_ratio: Option<f64>,
    /// Mean KL divergence from the dense model, nats.
    pub kl_mean: Option<f64>,
    /// 99th percentile of the same.
    pub kl_p99: Option<f64>,
    /// Share of positions with the same most likely token.
    pub top1_agreement: Option<f64>,
}

/// One prompt continued by several models.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The prompt.
    pub prompt: String,
    /// `(label, continuation)`.
    pub texts: Vec<(String, String)>,
}
