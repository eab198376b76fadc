//! Addresses: where in a model a statistic is taken and where an edit lands.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A place inside a block where activations pass and can be observed, in the order in which they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Input of q, k and v: the block's input after its norm, `[T, C]`.
    AttentionIn,
    /// Input of the output projection: the heads' results side by side, `[T, H * D]`.
    AttentionOut,
    /// Input of gate and up: the residual after its norm, `[T, C]`.
    FfnIn,
    /// Input of the down projection: silu(gate) * up, `[T, F]`.
    FfnOut,
    /// The residual stream around the attention part (before, after it is added), `[T, C]` each.
    AttentionPart,
    /// The residual stream around the feed-forward part, `[T, C]` each.
    FfnPart,
    /// The residual stream around the whole block, `[T, C]` each.
    BlockPart,
}

/// One point of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Site {
    /// Index of the block, from 0.
    pub block: usize,
    /// The point inside the block.
    pub point: Point,
}

impl Point {
    /// Where linear maps read.
    pub const INPUTS: [Self; 4] = [Self::AttentionIn, Self::AttentionOut, Self::FfnIn, Self::FfnOut];
}

impl Site {
    /// The point `point` of block `block`.
    pub fn new(block: usize, point: Point) -> Self {
        Self { block, point }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = match self.point {
            Point::AttentionIn => "attention input",
            Point::AttentionOut => "attention output",
            Point::FfnIn => "ffn input",
            Point::FfnOut => "ffn output",
            Point::AttentionPart => "attention part",
            Point::FfnPart => "ffn part",
            Point::BlockPart => "whole",
        };
        write!(f, "block {} {point}", self.block)
    }
}

/// One of the seven projections of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// Query projection `[H * D, C]`.
    Q,
    /// Key projection `[G * D, C]`.
    K,
    /// Value projection `[G * D, C]`.
    V,
    /// Attention output projection `[C, H * D]`.
    O,
    /// Gate projection `[F, C]`.
    Gate,
    /// Up projection `[F, C]`.
    Up,
    /// Down projection `[C, F]`.
    Down,
}

impl Projection {
    /// All seven, in the order of the forward pass.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The point whose activations this projection reads.
    pub fn input(self) -> Point {
        match self {
            Self::Q | Self::K | Self::V => Point::AttentionIn,
            Self::O => Point::AttentionOut,
            Self::Gate | Self::Up => Point::FfnIn,
            Self::Down => Point::FfnOut,
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::O => "o",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}
