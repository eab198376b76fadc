//! What becomes of each matrix: a type, or its bytes as they were read.

use crate::export::{ggml_type, tensors};
use pare_kernels::blocks::{BlockType, RowType};
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::site::Projection;
use pare_model::weight::Weight;
use std::collections::BTreeSet;

/// What becomes of one matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its numbers stay what they were read as, in this type: nothing is lost.
    AsRead(RowType),
    /// Codes are chosen for it in this type.
    Encoded(BlockType),
    /// Its numbers are rounded to f16: no block type fits its rows.
    Half,
}

impl Way {
    /// Leaves `weight` as it is.
    pub(super) fn as_read(weight: &dyn Weight) -> Self {
        Self::AsRead(tensors::as_read(weight))
    }

    /// `ty` for `weight`; when it is in that type already, it stays as it is.
    pub(super) fn of(weight: &dyn Weight, ty: BlockType) -> Self {
        match tensors::as_read(weight) {
            RowType::Blocks(own) if own == ty => Self::AsRead(RowType::Blocks(own)),
            _ => Self::Encoded(ty),
        }
    }

    /// The least that `weight` can be when no block type fits its rows.
    pub(super) fn without_blocks(weight: &dyn Weight) -> Self {
        match tensors::as_read(weight) {
            RowType::F32 => Self::Half,
            read => Self::AsRead(read),
        }
    }

    /// The type in the file.
    pub fn row_type(self) -> RowType {
        match self {
            Self::AsRead(ty) => ty,
            Self::Encoded(ty) => RowType::Blocks(ty),
            Self::Half => RowType::F16,
        }
    }

    /// The type as GGUF tools print it.
    pub fn name(self) -> &'static str {
        ggml_type(self.row_type()).name()
    }
}

/// What becomes of a model's matrices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    /// Of the embedding.
    pub embedding: Way,
    /// Of the head, when it is not the embedding.
    pub head: Way,
    /// Of each block's projections, in the order of [`Projection::ALL`].
    pub blocks: Vec<[Way; 7]>,
}

/// The names of [`Projection::ALL`] in the file.
pub(in crate::export) const NAMES: [&str; Projection::ALL.len()] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

impl Types {
    /// Every matrix of `model` as it was read.
    pub fn as_read(model: &Model) -> Self {
        let embedding = Way::as_read(model.embedding.as_ref());
        let head = model.head.as_ref().map_or(embedding, |head| Way::as_read(head.weight.as_ref()));
        let of = |block: &Block| {
            Projection::ALL.map(|projection| {
                block.linear(projection).map_or(embedding, |linear| Way::as_read(linear.weight.as_ref()))
            })
        };
        Self { embedding, head, blocks: model.blocks.iter().map(of).collect() }
    }

    /// Arguments by which llama-quantize gives every matrix this type, one a line: a regular expression of names for each projection and
    /// type, then embedding and head. An embedding that is the head too is looked up as either.
    pub fn for_llama_quantize(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, name) in NAMES.iter().enumerate() {
            let types: BTreeSet<&str> = self.blocks.iter().map(|own| own[at].name()).collect();
            for ty in types {
                let own = self.blocks.iter().enumerate().filter(|(_, own)| own[at].name() == ty);
                let blocks: Vec<String> = own.map(|(block, _)| block.to_string()).collect();
                let (blocks, ty) = (blocks.join("|"), ty.to_lowercase());
                lines.push(format!(r"--tensor-type '^blk\.({blocks})\.{name}\.weight$={ty}'"));
            }
        }
        lines.push(format!("--token-embedding-type {}", self.embedding.name().to_lowercase()));
        lines.push(format!("--output-tensor-type {}", self.head.name().to_lowercase()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_llama_quantize_by_hand() {
        let (small, large, read) =
            (Way::Encoded(BlockType::Q4_0), Way::Encoded(BlockType::Q6K), Way::AsRead(RowType::F16));
        let mut blocks = vec![[small; 7]; 12];
        blocks[3][2] = large;
        blocks[11][2] = large;
        blocks[5][6] = read;
        let lines = Types { embedding: large, head: read, blocks }.for_llama_quantize();
        assert_eq!(lines.len(), 7 + 2 + 2);
        assert_eq!(lines[0], r"--tensor-type '^blk\.(0|1|2|3|4|5|6|7|8|9|10|11)\.attn_q\.weight$=q4_0'");
        assert_eq!(lines[3], r"--tensor-type '^blk\.(3|11)\.attn_v\.weight$=q6_k'");
        assert_eq!(lines[7], r"--tensor-type '^blk\.(5)\.ffn_down\.weight$=f16'");
        assert_eq!(lines[9..], ["--token-embedding-type q6_k", "--output-tensor-type f16"]);
    }
}
