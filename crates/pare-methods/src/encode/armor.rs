//! ARMOR: a 2:4 core between two block-diagonal matrices that make up for what it lacks.
//!
//! Source     Liu et al. 2025, "ARMOR: High-Performance Semi-Structured Pruning via Adaptive Matrix Factorization", arXiv:2510.05528
//! Formula    V = diag(r)^-1 W diag(c)^-1 with c the lengths of the columns of W and then r those of the rows; the least of
//!            sum_ij (V - A S B)_ij^2 E x_j^2 with S 2:4; W' = (diag(r) A) S (B diag(c))
//! Shapes     W, S [out, in]; A [out, out], B [in, in] of square blocks on their diagonals
//! Needs      Stat::MeanSquare [in]; the calibration error is told where Stat::Gram was observed
//! Parameters block: size of the blocks of A and B, a multiple of 4 that divides out and in, default 32. iterations: rounds, range 1..,
//!            default 20. A `keep` of 1 changes nothing; any other must be 0.5
//! Cost       about 10 block * out * in operations a round, 56 out * in bytes
//! Departs    blocks of A and B are solved by least squares instead of gradient steps; a round takes every group of four of the core once,
//!            in order, instead of one group per block drawn by chance, so that there is no chance at all. No step makes the loss larger
//! Errors     MissingStat, Shape, Params, Unsupported: blocks that do not divide the matrix; Numeric: not finite
//! Exactness  1e-4 against goldens/encode/armor (parts are rounded to f32)
//!
//! The default was measured on o and up of block 5 and down of block 20 of SmolLM2-135M, with inputs of sizes drawn by chance. Of the
//! error of the best two of four without wrappers, 1 round leaves 0.81 to 0.87, 5 rounds 0.54 to 0.60, 10 rounds 0.47 to 0.54,
//! 20 rounds 0.43 to 0.50, 40 rounds 0.40 to 0.48; blocks of 16 leave 0.57 to 0.61 after 20.

use super::{Encode, Encoded, Entry, Info, Task};
use crate::card::Card;
use crate::check;
use crate::distortion;
use crate::error::{MethodError, shown};
use crate::select::Compare;
use crate::wrapping::Wrapping;
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use pare_model::matrix::Matrix;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::{Dense, Wrapped};
use pare_model::weight::Weight;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "armor",
        about: "a 2:4 core between two block-diagonal matrices that make up for what it lacks",
        source: "ARMOR: High-Performance Semi-Structured Pruning via Adaptive Matrix Factorization, arXiv:2510.05528",
        formula: "V = diag(r)^-1 W diag(c)^-1 with c the lengths of the columns of W and then r those of the rows; \
            the least of sum_ij (V - A S B)_ij^2 E x_j^2 with S 2:4; W' = (diag(r) A) S (B diag(c))",
        needs: &[Stat::MeanSquare],
        parameters: &["block", "iterations"],
        grains: &[],
        cost: "10 * block * out * in operations a round; 56 out * in bytes",
        departs: "least squares for the wrappers, and every group of the core in each round, instead of gradients and chance",
        exactness: 1e-4,
    },
    removes: true,
    composes: true,
    build: |settings| {
        settings.only(ENTRY.card.parameters)?;
        let (block, iterations) = (settings.block.unwrap_or(BLOCK), settings.iterations.unwrap_or(ITERATIONS));
        if block == 0 || !block.is_multiple_of(4) {
            return Err(MethodError::Params { key: "block", why: format!("{block}, expected a multiple of 4") });
        }
        if iterations == 0 {
            return Err(MethodError::Params { key: "iterations", why: "0, expected at least 1".into() });
        }
        Ok(Box::new(Armor { block, iterations }))
    },
};

const BLOCK: usize = 32;
const ITERATIONS: usize = 20;

/// Wraps a 2:4 core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Armor {
    /// Rows and columns of a block of the wrappers.
    pub block: usize,
    /// Rounds of solving the wrappers and the core.
    pub iterations: usize,
}

impl Encode for Armor {
    fn pattern(&self, _: Compare) -> Option<Compare> {
        Some(Compare::TwoOfFour)
    }

    fn fits(&self, [out, width]: [usize; 2], keep: f64, _: Compare) -> Result<(), MethodError> {
        let b = self.block;
        if keep == 1.0 {
            return Ok(());
        }
        if (keep - 0.5).abs() > 1e-6 {
            let why = format!("{} of a core that keeps 0.5", shown(keep));
            return Err(MethodError::Params { key: "keep", why });
        }
        if !(out.is_multiple_of(b) && width.is_multiple_of(b)) {
            return Err(MethodError::Unsupported {
                method: ENTRY.card.name,
                what: format!("a [{out}, {width}] matrix in blocks of {b}"),
                why: "a parameter block must divide outputs and inputs",
            });
        }
        Ok(())
    }

    fn encode(&self, task: &Task<'_>, stats: &Stats, pool: &Pool) -> Result<Encoded, MethodError> {
        task.check()?;
        let ([out, width], b) = (task.weight.shape(), self.block);
        let squares = check::stat(stats, task.site, Stat::MeanSquare, width)?;
        if task.keep == 1.0 {
            let info = Info { error: Some(0.0), ..Info::default() };
            return Ok(Encoded { weight: Arc::new(Dense(task.weight.clone())), info });
        }
        self.fits([out, width], task.keep, task.compare)?;
        let values: Vec<f64> = task.weight.data().iter().map(|&value| f64::from(value)).collect();
        check::finite(task.site, "sum of squares", &[values.iter().map(|value| value * value).sum()])?;
        let (scaled, [rows, columns]) = normalised(values, width);
        let mut wrapping = Wrapping::new(scaled, importance(squares), b);
        for _ in 0..self.iterations {
            wrapping.solve_left(pool);
            wrapping.solve_right(pool);
            wrapping.sweep_core(pool);
        }
        let [left, right] = wrapping.scaled(&rows, &columns);
        let core = Matrix::from_vec(out, width, wrapping.core().iter().map(|&value| value as f32).collect());
        let after = wrapping.product(&left, &core, &right);
        check::weights(task.site, "wrapped weight", &after)?;
        let pack = |blocks: &[f32]| {
            let row =
                |block: usize, row: usize, to: &mut [f32]| to.copy_from_slice(&blocks[(block * b + row) * b..][..b]);
            Arc::new(BlockDiagonal::pack(PanelType::F32, blocks.len() / (b * b), b, &row, pool))
        };
        // Two of every four.
        let removed = (out * width / 2) as u64;
        let core: Arc<dyn Weight> = Arc::new(Dense(core));
        let weight = Wrapped::new(pack(&left), core, pack(&right)).expect("blocks that divide the matrix");
        let error = distortion::if_observed(stats, task.site, task.weight, &after)?;
        Ok(Encoded { weight: Arc::new(weight), info: Info { error, removed, ..Info::default() } })
    }
}

/// The matrix with columns, and then rows, of length 1; and the lengths that rows and columns had.
fn normalised(mut values: Vec<f64>, width: usize) -> (Vec<f64>, [Vec<f64>; 2]) {
    // What is zero throughout has no length to divide by.
    let length = |squares: f64| if squares > 0.0 { squares.sqrt() } else { 1.0 };
    let mut columns = vec![0.0; width];
    for row in values.chunks_exact(width.max(1)) {
        columns.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value);
    }
    columns.iter_mut().for_each(|sum| *sum = length(*sum));
    let mut rows = Vec::new();
    for row in values.chunks_exact_mut(width.max(1)) {
        row.iter_mut().zip(&columns).for_each(|(value, column)| *value /= column);
        let own = length(row.iter().map(|value| value * value).sum());
        row.iter_mut().for_each(|value| *value /= own);
        rows.push(own);
    }
    (values, [rows, columns])
}

/// The mean squares, their mean made 1; all alike where nothing was seen.
fn importance(squares: &[f64]) -> Vec<f64> {
    let mean = squares.iter().sum::<f64>() / squares.len().max(1) as f64;
    squares.iter().map(|square| if mean > 0.0 { square / mean } else { 1.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_then_rows_of_length_one() {
        let (values, [rows, columns]) = normalised(vec![3.0, 0.0, 4.0, 2.0], 2);
        assert_eq!(columns, [5.0, 2.0]);
        assert!((rows[0] - 0.6).abs() < 1e-15 && (rows[1] - 1.64_f64.sqrt()).abs() < 1e-15);
        assert!((values[0] - 1.0).abs() < 1e-15 && values[1] == 0.0);
        assert!((values[2] * values[2] + values[3] * values[3] - 1.0).abs() < 1e-15);
        let (values, [rows, columns]) = normalised(vec![0.0; 2], 1);
        assert_eq!((values, rows, columns), (vec![0.0; 2], vec![1.0; 2], vec![1.0]));
    }

    #[test]
    fn the_mean_importance_is_one() {
        assert_eq!(importance(&[1.0, 3.0]), [0.5, 1.5]);
        assert_eq!(importance(&[0.0, 0.0]), [1.0, 1.0]);
    }
}
