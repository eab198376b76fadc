//! Off grid: other weights for the same function, so that a quantiser meets numbers that no quantiser has made.
//!
//! Source     folklore: scale symmetries of gated feed-forward layers and of values and outputs; norm gains folded as in SliceGPT, arXiv:2401.15024
//! Formula    W' = W diag(g) for q, k, v, gate, up, and g' = 1; V' = diag(s) V, b_v' = s b_v, O' = O diag(1/s); U' = diag(t) U, b_u' = t b_u, D' = D diag(1/t)
//! Shapes     q [H D, C], k, v [G D, C], o [C, H D]; gate, up [F, C], down [C, F]; g [C]; s [G D], repeated for the H/G heads of a group; t [F]
//! Needs      no statistic
//! Parameters seed of s and t, which are log-uniform in 0.8..1.25
//! Cost       one pass over the weights; the result is f32 in memory
//! Departs    embedding, head, last norm, norms of heads and the biases of q, k, gate, o and down stay as they are
//! Errors     Numeric for weights that are not finite
//! Exactness  f64, each weight rounded to f32 once: the function is kept to the rounding of f32

use crate::check;
use crate::error::MethodError;
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::rng::SplitMix64;
use pare_model::site::{Point, Site};
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// ln 1.25, which is -ln 0.8.
const REACH: f64 = 0.223_143_551_314_209_76;

/// A model of the same function whose weights lie on no grid. See the head of this file.
///
/// # Errors
/// A weight that is not finite.
pub fn off_grid(model: &Model, seed: u64) -> Result<Model, MethodError> {
    let mut model = model.clone();
    for (index, block) in model.blocks.iter_mut().enumerate() {
        let streams = [2 * index as u64, 2 * index as u64 + 1].map(|stream| SplitMix64::stream(seed, stream));
        rewrite(block, index, streams)?;
    }
    Ok(model)
}

fn rewrite(block: &mut Block, index: usize, streams: [SplitMix64; 2]) -> Result<(), MethodError> {
    let [mut values, mut channels] = streams;
    if let Some(part) = block.attention_mut() {
        let site = Site::new(index, Point::AttentionIn);
        let gain = fold(&mut part.norm);
        let scales = draw(&mut values, part.v.outputs());
        let width = part.v.outputs() / part.groups;
        let queries = part.heads / part.groups;
        // Query head h reads the values of group h / (H / G).
        let inverse = |column: usize| 1.0 / scales[column / width / queries * width + column % width];
        let columns: Vec<f64> = (0..part.o.inputs()).map(inverse).collect();
        part.q = scaled(&part.q, None, Some(&gain), site)?;
        part.k = scaled(&part.k, None, Some(&gain), site)?;
        part.v = scaled(&part.v, Some(&scales), Some(&gain), site)?;
        part.o = scaled(&part.o, None, Some(&columns), Site::new(index, Point::AttentionOut))?;
    }
    if let Some(part) = &mut block.ffn {
        let site = Site::new(index, Point::FfnIn);
        let gain = fold(&mut part.norm);
        let scales = draw(&mut channels, part.width());
        let columns: Vec<f64> = scales.iter().map(|scale| 1.0 / scale).collect();
        part.gate = scaled(&part.gate, None, Some(&gain), site)?;
        part.up = scaled(&part.up, Some(&scales), Some(&gain), site)?;
        part.down = scaled(&part.down, None, Some(&columns), Site::new(index, Point::FfnOut))?;
    }
    Ok(())
}

/// Takes the gain of a norm, which becomes 1.
fn fold(norm: &mut Arc<[f32]>) -> Vec<f64> {
    let gain = norm.iter().map(|&gain| f64::from(gain)).collect();
    *norm = vec![1.0; norm.len()].into();
    gain
}

fn draw(rng: &mut SplitMix64, count: usize) -> Vec<f64> {
    (0..count).map(|_| exp(REACH * (2.0 * rng.unit() - 1.0))).collect()
}

/// The exponential of a number within ±0.25 by its series, which is the same on every system.
fn exp(x: f64) -> f64 {
    (1..16).rev().fold(1.0, |sum, n| 1.0 + sum * x / f64::from(n))
}

/// `diag(rows) W diag(columns)`, and the bias times `rows`.
fn scaled(linear: &Linear, rows: Option<&[f64]>, columns: Option<&[f64]>, site: Site) -> Result<Linear, MethodError> {
    let mut matrix: Matrix = linear.to_matrix();
    check::weights(site, "weight", &matrix)?;
    for row in 0..matrix.rows() {
        let by_row = rows.map_or(1.0, |rows| rows[row]);
        for (at, value) in matrix.row_mut(row).iter_mut().enumerate() {
            *value = (f64::from(*value) * columns.map_or(1.0, |columns| columns[at]) * by_row) as f32;
        }
    }
    let by_rows = |bias: &Arc<[f32]>| -> Arc<[f32]> {
        let scale = |row: usize| rows.map_or(1.0, |rows| rows[row]);
        bias.iter().enumerate().map(|(row, &b)| (f64::from(b) * scale(row)) as f32).collect()
    };
    Ok(Linear { weight: Arc::new(Dense(matrix)), bias: linear.bias.as_ref().map(by_rows) })
}

#[cfg(test)]
mod tests;
