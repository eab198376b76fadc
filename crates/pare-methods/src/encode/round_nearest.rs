//! Round to nearest: each weight to the nearest value of its group's grid.
//!
//! Source     folklore: every quantiser's baseline; the block types are those of ggml
//! Formula    symmetric: step = max |w| / (2^(b-1) - 1), q = step round(w / step); asymmetric: step = (max - min) / (2^b - 1), q = min + step round((w - min) / step)
//! Shapes     W [out, in]; groups of neighbouring inputs of a row
//! Needs      nothing; Stat::Gram [in, in] only for the error in `Info`, when it was observed
//! Parameters bits: of a code (4, 2..=8); group: inputs that share a grid (32, the last of a row may be shorter); symmetric (false); type: a block type of GGUF in their place
//! Cost       a few operations per weight
//! Departs    nothing
//! Errors     Params (type with another parameter, bits, group), Numeric (not finite), Unsupported (rows that are no whole blocks)
//! Exactness  1e-5 against goldens/encode/round_nearest (grids in f32)

use super::{Encode, Encoded, Entry, Info, Task, block_type};
use crate::card::Card;
use crate::check;
use crate::error::{Built, MethodError};
use crate::linalg;
use crate::select::Compare;
use crate::settings::Settings;
use pare_kernels::blocks::BlockType;
use pare_kernels::pool::Pool;
use pare_model::matrix::Matrix;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use pare_model::weight::{Linear, Weight};
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "round-nearest",
        about: "each weight to the nearest value of its group's grid, or of a block type of GGUF",
        source: "folklore: every quantiser's baseline",
        formula: "symmetric: step = max |w| / (2^(b-1) - 1), q = step round(w / step); asymmetric: step = (max - \
            min) / (2^b - 1), q = min + step round((w - min) / step)",
        needs: &[],
        parameters: &["type", "bits", "group", "symmetric"],
        grains: &[],
        cost: "a few operations per weight; no memory",
        departs: "nothing",
        exactness: 1e-5,
    },
    removes: false,
    composes: false,
    build,
};

fn build(settings: &Settings) -> Built<dyn Encode> {
    settings.only(ENTRY.card.parameters)?;
    if let Some(name) = &settings.storage {
        if let Some(key) = settings.set().find(|key| *key != "type") {
            return Err(MethodError::Params { key: "type", why: format!("{name} has its own grid; leave {key} out") });
        }
        return Ok(Box::new(RoundNearest::Blocks(block_type(name)?)));
    }
    let (bits, group) = (settings.bits.unwrap_or(4), settings.group.unwrap_or(32));
    if !(2..=8).contains(&bits) {
        return Err(MethodError::Params { key: "bits", why: format!("{bits}, expected 2..=8") });
    }
    if group == 0 {
        return Err(MethodError::Params { key: "group", why: "0, expected at least 1".into() });
    }
    Ok(Box::new(RoundNearest::Grid { bits, group, symmetric: settings.symmetric.unwrap_or(false) }))
}

/// Rounds each weight to a grid.
#[derive(Clone, Copy, Debug)]
pub enum RoundNearest {
    /// The grid of a block type.
    Blocks(BlockType),
    /// A grid for each group; the result is dense.
    Grid {
        /// Bits of a code, 2..=8.
        bits: u32,
        /// Neighbouring inputs that share a grid.
        group: usize,
        /// Whether it is symmetric around zero.
        symmetric: bool,
    },
}

impl Encode for RoundNearest {
    fn blocks(&self) -> Option<BlockType> {
        match self {
            Self::Blocks(ty) => Some(*ty),
            Self::Grid { .. } => None,
        }
    }

    fn fits(&self, [_, columns]: [usize; 2], _: f64, _: Compare) -> Result<(), MethodError> {
        match self {
            Self::Blocks(ty) => super::whole_blocks(ENTRY.card.name, *ty, columns),
            Self::Grid { .. } => Ok(()),
        }
    }

    fn encode(&self, task: &Task<'_>, stats: &Stats, _: &Pool) -> Result<Encoded, MethodError> {
        task.check()?;
        self.fits(task.weight.shape(), task.keep, task.compare)?;
        let ([rows, columns], site) = (task.weight.shape(), task.site);
        let weight: Arc<dyn Weight> = match *self {
            Self::Blocks(ty) => {
                let none = || super::no_blocks(ENTRY.card.name, ty, columns);
                let mut bytes = vec![0; rows * columns / ty.values_per_block() * ty.bytes_per_block()];
                ty.encode(task.weight.data(), &mut bytes);
                Arc::new(super::stored(ty, [rows, columns], bytes).ok_or_else(none)?)
            }
            Self::Grid { bits, group, symmetric } => {
                let mut matrix = task.weight.clone();
                for row in 0..rows {
                    matrix.row_mut(row).chunks_mut(group).for_each(|values| round(values, bits, symmetric));
                }
                Arc::new(Dense(matrix))
            }
        };
        let error = match stats.get(site, Stat::Gram) {
            None => None,
            Some(_) => {
                let gram = check::stat(stats, site, Stat::Gram, columns * columns)?;
                Some(error(task.weight, &Linear::new(Arc::clone(&weight)).to_matrix(), gram))
            }
        };
        Ok(Encoded { weight, info: Info { error, ..Info::default() } })
    }
}

fn round(values: &mut [f32], bits: u32, symmetric: bool) {
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let (offset, step) = match symmetric {
        true => (0.0, low.abs().max(high.abs()) / ((1 << (bits - 1)) - 1) as f32),
        false => (low, (high - low) / ((1 << bits) - 1) as f32),
    };
    if step > 0.0 {
        values.iter_mut().for_each(|value| *value = offset + step * ((*value - offset) / step).round_ties_even());
    }
}

/// Mean over outputs of the squared calibration error.
fn error(before: &Matrix, after: &Matrix, gram: &[f64]) -> f64 {
    let [rows, columns] = before.shape();
    let change: Vec<f64> = before.data().iter().zip(after.data()).map(|(a, b)| f64::from(a - b)).collect();
    let spread = linalg::product(&change, gram, [rows, columns, columns]);
    change.iter().zip(&spread).map(|(a, b)| a * b).sum::<f64>() / rows.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_by_hand() {
        // Two bits from -1 to 2: a step of 1. Symmetric: -2, 0 and 2.
        let mut values = [-1.0, 0.4, 0.6, 2.0];
        round(&mut values, 2, false);
        assert_eq!(values, [-1.0, 0.0, 1.0, 2.0]);
        let mut values = [-1.5, 0.4, 0.6, 2.0];
        round(&mut values, 2, true);
        assert_eq!(values, [-2.0, 0.0, 0.0, 2.0]);
        let mut values = [0.5; 3];
        round(&mut values, 4, false);
        assert_eq!(values, [0.5; 3]);
    }

    #[test]
    fn a_type_has_its_own_grid() {
        let both = Settings { storage: Some("q8_0".into()), bits: Some(4), ..Settings::default() };
        let message = build(&both).err().unwrap().to_string();
        assert_eq!(message, "parameter type: q8_0 has its own grid; leave bits out");
        assert!(build(&Settings { bits: Some(9), ..Settings::default() }).is_err());
        assert!(build(&Settings { group: Some(0), ..Settings::default() }).is_err());
    }
}
