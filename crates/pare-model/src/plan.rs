//! Surgery as data: a plan says what leaves, [`Model::apply`] is the only place that cuts.

use crate::block::{Attention, Block, Ffn};
use crate::matrix::Matrix;
use crate::model::Model;
use crate::site::Projection;
use crate::storage::Dense;
use crate::weight::Linear;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One bit per weight of a projection, row by row: set means kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    rows: usize,
    cols: usize,
    bits: Vec<u64>,
}

impl Mask {
    /// A mask that keeps nothing yet.
    pub fn none(rows: usize, cols: usize) -> Self {
        Self { rows, cols, bits: vec![0; (rows * cols).div_ceil(64)] }
    }

    /// Marks weight `index = row * cols + col` as kept.
    pub fn keep(&mut self, index: usize) {
        self.bits[index / 64] |= 1 << (index % 64);
    }

    /// Whether weight `index` is kept.
    pub fn kept(&self, index: usize) -> bool {
        self.bits[index / 64] >> (index % 64) & 1 == 1
    }

    /// How many weights are kept.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Sets every weight that is not kept to zero (positive zero, which every runtime skips the same way).
    pub fn apply(&self, matrix: &mut Matrix) {
        for (index, value) in matrix.data_mut().iter_mut().enumerate() {
            if !self.kept(index) {
                *value = 0.0;
            }
        }
    }
}

/// One removal. Indices are those of the model before any edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "kebab-case")]
pub enum Edit {
    /// Weights of one projection become zero; nothing gets smaller.
    Mask {
        /// Which block.
        block: usize,
        /// Which projection.
        projection: Projection,
        /// What stays.
        mask: Mask,
    },
    /// Only these FFN channels stay: rows of gate and up, columns of down.
    KeepChannels {
        /// Which block.
        block: usize,
        /// Kept channels, ascending.
        channels: Vec<usize>,
    },
    /// Only these KV groups stay, each with all its query heads.
    KeepGroups {
        /// Which block.
        block: usize,
        /// Kept groups, ascending.
        groups: Vec<usize>,
    },
    /// The attention part leaves with its norm.
    DropAttention {
        /// Which block.
        block: usize,
    },
    /// The feed-forward part leaves with its norm.
    DropFfn {
        /// Which block.
        block: usize,
    },
    /// The whole block leaves; later blocks move up.
    DropBlock {
        /// Which block.
        block: usize,
    },
}

impl Edit {
    /// The block that is cut.
    pub fn block(&self) -> usize {
        match *self {
            Self::Mask { block, .. }
            | Self::KeepChannels { block, .. }
            | Self::KeepGroups { block, .. }
            | Self::DropAttention { block }
            | Self::DropFfn { block }
            | Self::DropBlock { block } => block,
        }
    }
}

/// A list of edits to one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The edits, in any order.
    pub edits: Vec<Edit>,
}

/// An edit that does not fit the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The block is not there.
    #[error("the plan cuts block {block}, the model has {blocks}")]
    NoBlock {
        /// Named by the plan.
        block: usize,
        /// What the model has.
        blocks: usize,
    },
    /// The part is not there (it was dropped before).
    #[error("the plan cuts the {part} of block {block}, which has none")]
    NoPart {
        /// Which block.
        block: usize,
        /// Attention or ffn.
        part: &'static str,
    },
    /// The residual stream would pass without its shortcut: what follows reads another basis.
    #[error("the plan drops the {part} of block {block}, which has a shortcut that must stay")]
    Shortcut {
        /// Which block.
        block: usize,
        /// Attention or ffn.
        part: &'static str,
    },
    /// Kept units are not ascending, out of range, or none at all.
    #[error("block {block}: kept {units} must be ascending, at least one, below {count}")]
    Units {
        /// Which block.
        block: usize,
        /// Channels or groups.
        units: &'static str,
        /// How many there are.
        count: usize,
    },
    /// Two edits of one kind in one block: indices of the second would mean other units.
    #[error("the plan cuts the {units} of block {block} twice; name what stays once")]
    Twice {
        /// Which block.
        block: usize,
        /// Channels or groups.
        units: &'static str,
    },
    /// A mask of another shape than its projection.
    #[error("block {block} {projection}: the mask is {got:?}, the weight is {want:?}")]
    MaskShape {
        /// Which block.
        block: usize,
        /// Which projection.
        projection: Projection,
        /// Shape of the mask.
        got: [usize; 2],
        /// Shape of the weight.
        want: [usize; 2],
    },
}

fn dense(matrix: Matrix, bias: Option<Arc<[f32]>>) -> Linear {
    Linear { weight: Arc::new(Dense(matrix)), bias }
}

fn keep_rows(linear: &Linear, rows: &[usize]) -> Linear {
    let bias = linear.bias.as_ref().map(|bias| rows.iter().map(|&row| bias[row]).collect());
    // Rows of a file stay its bytes: to decode them would only make them larger.
    if let Some(stored) = linear.weight.as_stored() {
        return Linear { weight: Arc::new(stored.keep_rows(rows)), bias };
    }
    dense(linear.to_matrix().select_rows(rows), bias)
}

fn keep_cols(linear: &Linear, cols: &[usize]) -> Linear {
    dense(linear.to_matrix().select_cols(cols), linear.bias.clone())
}

/// The rows (or columns) that units of `width` own.
pub fn spread(units: &[usize], width: usize) -> Vec<usize> {
    units.iter().flat_map(|unit| unit * width..(unit + 1) * width).collect()
}

impl Ffn {
    /// The part with only `channels`.
    #[must_use]
    pub fn keep_channels(&self, channels: &[usize]) -> Self {
        Self {
            norm: self.norm.clone(),
            gate: keep_rows(&self.gate, channels),
            up: keep_rows(&self.up, channels),
            down: keep_cols(&self.down, channels),
            shortcut: self.shortcut.clone(),
        }
    }
}

impl Attention {
    /// Columns of the output projection that KV group `group` owns.
    pub fn group_width(&self) -> usize {
        self.o.inputs() / self.groups
    }

    /// The part with only `groups`, each with all its query heads.
    #[must_use]
    pub fn keep_groups(&self, groups: &[usize]) -> Self {
        let queries = spread(groups, self.group_width());
        let keys = spread(groups, self.k.outputs() / self.groups);
        Self {
            q: keep_rows(&self.q, &queries),
            k: keep_rows(&self.k, &keys),
            v: keep_rows(&self.v, &keys),
            o: keep_cols(&self.o, &queries),
            heads: self.heads / self.groups * groups.len(),
            groups: groups.len(),
            ..self.clone()
        }
    }
}

fn check_units(block: usize, units: &'static str, kept: &[usize], count: usize) -> Result<(), PlanError> {
    let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
    if kept.is_empty() || !ascending || kept.last().is_some_and(|&last| last >= count) {
        return Err(PlanError::Units { block, units, count });
    }
    Ok(())
}

impl Block {
    /// Carries out one edit on this block (index `block`, for messages). `DropBlock` leaves both parts missing.
    ///
    /// # Errors
    /// The edit names a part, a unit or a shape that is not there.
    pub fn apply(&mut self, block: usize, edit: &Edit) -> Result<(), PlanError> {
        let no_part = |part| PlanError::NoPart { block, part };
        match edit {
            Edit::Mask { projection, mask, .. } => {
                let linear = self.linear_mut(*projection).ok_or(no_part("projection"))?;
                if mask.shape() != linear.weight.shape() {
                    let (got, want) = (mask.shape(), linear.weight.shape());
                    return Err(PlanError::MaskShape { block, projection: *projection, got, want });
                }
                let mut matrix = linear.to_matrix();
                mask.apply(&mut matrix);
                *linear = dense(matrix, linear.bias.clone());
            }
            Edit::KeepChannels { channels, .. } => {
                let ffn = self.ffn.as_mut().ok_or(no_part("ffn"))?;
                check_units(block, "channels", channels, ffn.width())?;
                *ffn = ffn.keep_channels(channels);
            }
            Edit::KeepGroups { groups, .. } => {
                let attention = self.attention_mut().ok_or(no_part("attention"))?;
                check_units(block, "groups", groups, attention.groups)?;
                *attention = attention.keep_groups(groups);
            }
            Edit::DropAttention { .. } => {
                self.check_shortcut(block, "attention")?;
                self.mixer.take().ok_or(no_part("attention"))?;
            }
            Edit::DropFfn { .. } => {
                self.check_shortcut(block, "ffn")?;
                self.ffn.take().ok_or(no_part("ffn"))?;
            }
            Edit::DropBlock { .. } => {
                self.check_shortcut(block, "attention")?;
                self.check_shortcut(block, "ffn")?;
                self.mixer = None;
                self.ffn = None;
            }
        }
        Ok(())
    }

    /// Refuses to drop a part whose shortcut carries the residual stream on.
    fn check_shortcut(&self, block: usize, part: &'static str) -> Result<(), PlanError> {
        let shortcut = match part {
            "ffn" => self.ffn.as_ref().and_then(|part| part.shortcut.as_ref()),
            _ => self.attention().and_then(|part| part.shortcut.as_ref()),
        };
        shortcut.map_or(Ok(()), |_| Err(PlanError::Shortcut { block, part }))
    }
}

impl Model {
    /// The model after the plan. Weights that the plan does not touch are shared with `self`.
    ///
    /// # Errors
    /// The first edit that does not fit.
    pub fn apply(&self, plan: &Plan) -> Result<Self, PlanError> {
        let mut model = self.clone();
        let mut seen = std::collections::BTreeSet::new();
        for edit in &plan.edits {
            let units = match edit {
                Edit::KeepChannels { .. } => "channels",
                Edit::KeepGroups { .. } => "groups",
                _ => continue,
            };
            if !seen.insert((edit.block(), units)) {
                return Err(PlanError::Twice { block: edit.block(), units });
            }
        }
        // A mask has the shape of the whole weight: it comes before the edits that make the weight smaller.
        let (masks, others): (Vec<&Edit>, Vec<&Edit>) =
            plan.edits.iter().partition(|edit| matches!(edit, Edit::Mask { .. }));
        for edit in masks.into_iter().chain(others) {
            let (block, blocks) = (edit.block(), model.blocks.len());
            model.blocks.get_mut(block).ok_or(PlanError::NoBlock { block, blocks })?.apply(block, edit)?;
        }
        model.remove_empty_blocks();
        Ok(model)
    }

    /// Removes blocks without any part: they pass the residual through unchanged.
    pub fn remove_empty_blocks(&mut self) {
        self.blocks.retain(|block| block.mixer.is_some() || block.ffn.is_some());
    }
}
