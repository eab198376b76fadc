//! How much memory it takes to run a model, from its shapes: nothing is read and nothing repacked.

use crate::block::Block;
use crate::model::{Model, PackAs};
use crate::storage::{Element, Packed};
use crate::weight::{Composed, Linear, Weight};
use pare_kernels::attention::KvBlock;
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::panels::Panels;
use pare_kernels::product::Product as _;
use pare_kernels::quant::QuantPanels;

/// What is run: one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens that are read in one pass.
    pub prompt: usize,
    /// Positions that the cache has room for, the prompt's included.
    pub context: usize,
    /// Threads that compute.
    pub threads: usize,
}

/// Bytes that a run holds beside the files that the model was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Weights repacked for running, as [`Model::packed`] makes them.
    pub weights_bytes: u64,
    /// Of those, what decoding one token reads.
    pub weights_per_token_bytes: u64,
    /// Keys and values of every position.
    pub cache_bytes: u64,
    /// Activations of the prompt, scores of attention, rotary positions and logits.
    pub work_bytes: u64,
}

impl Memory {
    /// Of one sequence of `model`, its weights repacked as `pack`.
    pub fn of(model: &Model, pack: PackAs, tokens: Tokens) -> Memory {
        let embedding = model.embedding.as_ref();
        let head = match &model.head {
            Some(head) => packed_bytes(head.weight.as_ref(), pack),
            None => packed_bytes(embedding, pack),
        };
        let linears = |block: &Block| {
            block.linears().map(|(_, linear)| linear).chain(block.shortcuts()).map(bytes(pack)).sum::<u64>()
        };
        let weights_per_token_bytes = head + model.blocks.iter().map(linears).sum::<u64>();
        let head_dim = model.architecture.head_dim;
        let cache = |block: &Block| {
            block.attention().map_or(0, |part| KvBlock::bytes_of(part.groups, head_dim, tokens.context))
        };
        Memory {
            weights_bytes: weights_per_token_bytes,
            weights_per_token_bytes,
            cache_bytes: model.blocks.iter().map(cache).sum(),
            work_bytes: work_bytes(model, tokens),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.weights_bytes + self.cache_bytes + self.work_bytes
    }
}

fn bytes(pack: PackAs) -> impl Fn(&Linear) -> u64 {
    move |linear| packed_bytes(linear.weight.as_ref(), pack)
}

/// Bytes of what [`crate::model::repack`] makes.
pub fn packed_bytes(weight: &dyn Weight, pack: PackAs) -> u64 {
    let of = |part: &dyn Weight| packed_bytes(part, pack);
    match weight.composed() {
        Some(Composed::LowRank(low_rank)) => {
            let (a, b) = low_rank.factors();
            return of(a.as_ref()) + of(b.as_ref());
        }
        Some(Composed::Sum(sum)) => return sum.terms().iter().map(|term| of(term.as_ref())).sum(),
        Some(Composed::Wrapped(wrapped)) => {
            let diagonals: usize = wrapped.diagonals().into_iter().map(BlockDiagonal::bytes).sum();
            return diagonals as u64 + of(wrapped.core().as_ref());
        }
        None => {}
    }
    if pack == PackAs::Stored && weight.product().is_some() {
        return weight.bytes() as u64;
    }
    if let (PackAs::Stored, Some(Element::Block(ty))) = (pack, weight.as_stored().map(|stored| stored.element())) {
        return QuantPanels::bytes_of(ty, weight.shape());
    }
    let ty = match pack {
        PackAs::Stored | PackAs::Exact => Packed::exact_type(weight),
        PackAs::Type(ty) => ty,
    };
    Panels::bytes_of(ty, weight.shape())
}

/// Buffers that are not weights and not the cache: the largest block's, since they are used again from block to block.
fn work_bytes(model: &Model, Tokens { prompt, context, threads }: Tokens) -> u64 {
    let (hidden, d) = (model.architecture.hidden, model.architecture.head_dim);
    let (mut attention, mut ffn, mut widest, mut scores) = (0, 0, hidden, 0);
    for block in &model.blocks {
        if let Some(part) = block.attention() {
            let heads_per_group = (part.heads / part.groups.max(1)).max(1);
            attention = attention.max(2 * part.heads * d + 2 * part.groups * d);
            widest = widest.max(part.heads * d);
            // A tile of a prompt, or every head of one token, for each thread.
            let rows = part.heads.max(36usize.next_multiple_of(heads_per_group));
            scores = scores
                .max(rows * (context.next_multiple_of(32) + 2 * d) * threads.min(part.groups.max(1) * prompt.max(1)));
        }
        if let Some(part) = &block.ffn {
            ffn = ffn.max(2 * part.width());
            widest = widest.max(part.width());
        }
    }
    // The residual stream, its norm and the output of a part; queries, keys, values and what is mixed; gate and up.
    let row = 4 * (3 * hidden + attention + ffn);
    // Rows rounded to 8 bits: a byte each, a scale and two sums for 32.
    let rounded = widest + widest.div_ceil(32) * 12;
    let rope = context * d * 4;
    (prompt.max(1) * (row + rounded) + 4 * scores + rope + 4 * model.architecture.vocab) as u64
}
