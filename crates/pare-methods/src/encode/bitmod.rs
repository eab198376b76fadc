//! BitMoD: each group of weights takes the small float grid, of four, that suits it best.
//!
//! Source     Chen et al. 2025, BitMoD: Bit-serial Mixture-of-Datatype LLM Acceleration, HPCA 2025, arXiv:2411.11745
//! Formula    w' = s v_k, v_k the value of the grid nearest to w / s (the lower of two), s = max |w| / max |grid|; grid = basic values and one special value, chosen per group for the least sum (w - w')^2, the first of equals. 3 bits: 0, +-1, +-2, +-4 and one of 3, -3, 6, -6. 4 bits: 0, +-0.5, +-1, +-1.5, +-2, +-3, +-4, +-6 and one of 5, -5, 8, -8
//! Shapes     W [out, in]; groups of `group` neighbouring inputs of a row, the last of a row may be shorter
//! Needs      Stat::Gram [in, in] only for the error in `Info`, when it was observed
//! Parameters bits, 3 or 4, default 4; group, default 128
//! Cost       O(out * in) for each special value; f32 in memory
//! Departs    emulated: the values of the format in f32, no bytes of its own yet; scales are f32, where the source rounds them to 8-bit integers of a scale per row; a row that is no whole number of groups ends with a shorter one
//! Errors     Params (bits, group); Shape, Numeric
//! Exactness  1e-7: against goldens/encode/bitmod (the scale and the product are rounded to f32)

use super::{Encode, Encoded, Entry, Info, Task};
use crate::card::Card;
use crate::error::{Built, MethodError};
use crate::moments;
use crate::settings::Settings;
use pare_kernels::pool::Pool;
use pare_model::stats::Stats;
use pare_model::storage::Dense;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "bitmod",
        about: "chooses a 3- or 4-bit float grid per group of weights (emulated: values of the format in f32)",
        source: "BitMoD: Bit-serial Mixture-of-Datatype LLM Acceleration, arXiv:2411.11745",
        formula: "w' = s v_k, v_k the value of the grid nearest to w / s (the lower of two), s = max |w| / max \
            |grid|; grid = basic values and one special value, chosen per group for the least sum (w - w')^2, the \
            first of equals. 3 bits: 0, +-1, +-2, +-4 and one of 3, -3, 6, -6. 4 bits: 0, +-0.5, +-1, +-1.5, +-2, \
            +-3, +-4, +-6 and one of 5, -5, 8, -8",
        needs: &[],
        parameters: &["bits", "group"],
        grains: &[],
        cost: "four passes over the weights; f32 in memory",
        departs: "emulated, no bytes of its own; scales in f32 instead of 8-bit integers; a short last group",
        exactness: 1e-7,
    },
    removes: false,
    composes: false,
    build: |settings| BitMod::build(settings),
};

const THREE_BITS: [f64; 7] = [-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0];
const FOUR_BITS: [f64; 15] = [-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// A grid per group. See the head of the file.
#[derive(Clone, Debug)]
pub struct BitMod {
    /// The four grids, each ascending.
    grids: [Vec<f64>; 4],
    /// Inputs that share a grid and a scale.
    group: usize,
}

impl BitMod {
    fn build(settings: &Settings) -> Built<dyn Encode> {
        settings.only(ENTRY.card.parameters)?;
        let (basic, special): (&[f64], [f64; 4]) = match settings.bits.unwrap_or(4) {
            3 => (&THREE_BITS, [3.0, -3.0, 6.0, -6.0]),
            4 => (&FOUR_BITS, [5.0, -5.0, 8.0, -8.0]),
            other => return Err(MethodError::Params { key: "bits", why: format!("{other}, expected 3 or 4") }),
        };
        let group = settings.group.unwrap_or(128);
        if group == 0 {
            return Err(MethodError::Params { key: "group", why: "0, expected at least 1".into() });
        }
        let grid = |special: f64| {
            let mut grid = [basic, &[special]].concat();
            grid.sort_by(f64::total_cmp);
            grid
        };
        Ok(Box::new(Self { grids: special.map(grid), group }))
    }

    /// Puts the values of the best grid for `from` into `to`.
    fn round(&self, from: &[f32], to: &mut [f32]) {
        let largest = from.iter().fold(0.0_f32, |largest, w| largest.max(w.abs()));
        let mut least = f64::INFINITY;
        let mut trial = vec![0.0; from.len()];
        for grid in &self.grids {
            let reach = grid.iter().fold(0.0_f64, |reach, value| reach.max(value.abs()));
            let scale = f64::from((f64::from(largest) / reach) as f32);
            let mut error = 0.0;
            for (&w, value) in from.iter().zip(&mut trial) {
                let w = f64::from(w);
                // A group of zeros has no scale.
                let code = if scale > 0.0 { nearest(grid, w / scale) } else { 0.0 };
                *value = (code * scale) as f32;
                error += (w - f64::from(*value)).powi(2);
            }
            if error < least {
                least = error;
                to.copy_from_slice(&trial);
            }
        }
    }
}

/// The value of an ascending grid nearest to `x`, the lower of two.
fn nearest(grid: &[f64], x: f64) -> f64 {
    let above = grid.partition_point(|&value| value < x).min(grid.len() - 1);
    let below = above.saturating_sub(1);
    if x - grid[below] <= grid[above] - x { grid[below] } else { grid[above] }
}

impl Encode for BitMod {
    fn encode(&self, task: &Task<'_>, stats: &Stats, _: &Pool) -> Result<Encoded, MethodError> {
        task.check()?;
        let mut rounded = task.weight.clone();
        for row in 0..rounded.rows() {
            let (from, to) = (task.weight.row(row), rounded.row_mut(row));
            from.chunks(self.group).zip(to.chunks_mut(self.group)).for_each(|(from, to)| self.round(from, to));
        }
        let error = moments::change(stats, task.site, task.weight, &rounded)?;
        Ok(Encoded { weight: Arc::new(Dense(rounded)), info: Info { error, ..Info::default() } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::matrix::Matrix;
    use pare_model::site::{Point, Site};

    fn encoded(settings: &Settings, weights: &[f32]) -> Vec<f32> {
        let weight = Matrix::from_vec(1, weights.len(), weights.to_vec());
        let site = Site::new(0, Point::FfnIn);
        let task = Task { site, weight: &weight, keep: 1.0, compare: Default::default() };
        let encode = BitMod::build(settings).unwrap();
        let encoded = encode.encode(&task, &Stats::default(), &Pool::new(1)).unwrap();
        let mut row = vec![0.0; weights.len()];
        encoded.weight.decode_row(0, &mut row);
        row
    }

    #[test]
    fn each_group_takes_the_grid_that_fits() {
        let three = Settings { bits: Some(3), group: Some(4), ..Settings::default() };
        // Exact in one grid each: with 3, with -3, with 6 at scale 1/2, and with -6; the last group is shorter.
        let weights = [4.0, 3.0, 1.0, -2.0, 4.0, -3.0, 1.0, 2.0, 3.0, 2.0, -1.0, 0.5, -6.0, 4.0, -2.0];
        assert_eq!(encoded(&three, &weights), weights);
        assert_eq!(encoded(&three, &[0.0, 0.0, 0.0, 0.0]), [0.0; 4]);
        let four = Settings { group: Some(8), ..Settings::default() };
        let weights = [6.0, 5.0, -0.5, 1.5, -8.0, 3.0, -6.0, 4.0];
        assert_eq!(encoded(&four, &weights)[4..], weights[4..]);
        assert_eq!(encoded(&Settings { group: Some(4), ..Settings::default() }, &weights), weights);
    }

    #[test]
    fn of_two_equally_near_values_the_lower() {
        assert_eq!(
            [-9.0, 3.0, -3.0, 2.9, 3.1, 9.0].map(|x| nearest(&[-4.0, -2.0, 2.0, 4.0], x)),
            [-4.0, 2.0, -4.0, 2.0, 4.0, 4.0]
        );
    }

    #[test]
    fn other_numbers_of_bits_have_no_grid() {
        let message = BitMod::build(&Settings { bits: Some(5), ..Settings::default() }).err().unwrap().to_string();
        assert_eq!(message, "parameter bits: 5, expected 3 or 4");
    }
}
