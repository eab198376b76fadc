//! A whole model, as data.

use crate::block::Block;
use crate::rope::Rope;
use crate::site::Projection;
use crate::storage::Packed;
use crate::weight::{Linear, Weight};
pub use pare_format::config::Family;
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use std::sync::Arc;

/// The sizes and constants that all blocks share.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Which family's rules apply.
    pub family: Family,
    /// Model width C.
    pub hidden: usize,
    /// Vocabulary V: rows of the embedding.
    pub vocab: usize,
    /// Longest context, in tokens.
    pub context: usize,
    /// Head width D.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub norm_eps: f32,
    /// Rotary positions.
    pub rope: Rope,
}

/// A decoder-only language model.
///
/// Cheap to clone: weights are shared until an edit replaces them.
#[derive(Clone, Debug)]
pub struct Model {
    /// Sizes and constants.
    pub architecture: Architecture,
    /// Token embedding `[V, C]`.
    pub embedding: Arc<dyn Weight>,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// Gain of the last norm, `[C]`.
    pub final_norm: Arc<[f32]>,
    /// Output head `[V, C]`; none when it is the embedding ("tied").
    pub head: Option<Linear>,
}

/// The type into which weights are repacked for running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackAs {
    /// Quantised blocks stay what they are, and are multiplied with rows rounded to 8 bits; everything else as [`PackAs::Exact`].
    Stored,
    /// The smallest type that holds every stored value exactly, multiplied with rows in f32.
    Exact,
    /// This type, rounding where it must.
    Type(PanelType),
}

/// Sizes of a model, in stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ParameterCount {
    /// Everything, a tied head counted once.
    pub total: u64,
    /// The blocks alone.
    pub blocks: u64,
    /// The embedding, and the head when it is not tied.
    pub embedding: u64,
}

impl Model {
    /// Counts stored numbers; a tied head is counted once.
    pub fn parameters(&self) -> ParameterCount {
        let [vocab, hidden] = self.embedding.shape();
        let embedding = vocab as u64 * hidden as u64 + self.head.as_ref().map_or(0, Linear::parameters);
        let blocks = self.blocks.iter().map(|block| block.attention_parameters() + block.ffn_parameters()).sum();
        ParameterCount { total: embedding + blocks + self.final_norm.len() as u64, blocks, embedding }
    }

    /// Bytes of weights that decoding one token reads (one row of an untied embedding is not counted).
    pub fn bytes_per_token(&self) -> u64 {
        let head = self.head.as_ref().map_or(self.embedding.bytes(), |head| head.weight.bytes());
        let blocks: usize = self.blocks.iter().flat_map(Block::linears).map(|(_, linear)| linear.weight.bytes()).sum();
        let shortcuts: usize = self.blocks.iter().flat_map(Block::shortcuts).map(|linear| linear.weight.bytes()).sum();
        (head + blocks + shortcuts) as u64
    }

    /// Whether all blocks have both parts and the same widths.
    pub fn is_uniform(&self) -> bool {
        let widths = |block: &Block| {
            let attention = block.attention().map(|part| (part.heads, part.groups));
            (attention, block.ffn.as_ref().map(|part| part.width()))
        };
        let Some(first) = self.blocks.first().map(widths) else { return true };
        first.0.is_some() && first.1.is_some() && self.blocks.iter().all(|block| widths(block) == first)
    }

    /// Whether a part of a block passes the residual stream through a shortcut.
    pub fn has_shortcuts(&self) -> bool {
        self.blocks.iter().any(|block| block.shortcuts().next().is_some())
    }

    /// The same model with its weights repacked for the decode kernel.
    #[must_use]
    pub fn packed(&self, pack: PackAs, pool: &Pool) -> Self {
        let repack = |weight: &Arc<dyn Weight>| repack(weight, pack, pool);
        let mut model = self.clone();
        // An untied embedding is only looked up, row by row: repacking it would cost memory and gain nothing.
        match &mut model.head {
            Some(head) => head.weight = repack(&head.weight),
            None => model.embedding = repack(&model.embedding),
        }
        for block in &mut model.blocks {
            for projection in Projection::ALL {
                if let Some(linear) = block.linear_mut(projection) {
                    linear.weight = repack(&linear.weight);
                }
            }
            block.shortcuts_mut().for_each(|linear| linear.weight = repack(&linear.weight));
        }
        model
    }
}

/// One weight of [`Model::packed`], for callers that repack a part of a model.
pub fn repack(weight: &Arc<dyn Weight>, pack: PackAs, pool: &Pool) -> Arc<dyn Weight> {
    if let Some(whole) = weight.repacked(&|part| repack(part, pack, pool)) {
        return whole;
    }
    // What is packed already has lost its file, not its values.
    if pack == PackAs::Stored && weight.product().is_some() {
        return Arc::clone(weight);
    }
    if let (PackAs::Stored, Some(stored)) = (pack, weight.as_stored())
        && let Some(packed) = Packed::blocks(stored, pool)
    {
        return Arc::new(packed);
    }
    if pack == PackAs::Stored && weight.stays() {
        return Arc::clone(weight);
    }
    let ty = match pack {
        PackAs::Stored | PackAs::Exact => Packed::exact_type(weight.as_ref()),
        PackAs::Type(ty) => ty,
    };
    Arc::new(Packed::pack(weight.as_ref(), ty, pool))
}
