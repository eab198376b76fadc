//! Off grid: weights that lie on no grid, for quantisers to be measured on; that they were quantised before leaves no trace.
//!
//! Source     dither: Roberts 1962, IRE Trans. Inf. Theory 8; scale symmetries of gated feed-forward layers and of values and outputs: folklore;
//!            norm gains folded as in SliceGPT, arXiv:2401.15024
//! Formula    X = W + e for every matrix, e uniform within half a step; then X' = X diag(g) for q, k, v, gate, up, and g' = 1; V' = diag(s) V,
//!            b_v' = s b_v, O' = O diag(1/s); U' = diag(t) U, b_u' = t b_u, D' = D diag(1/t)
//! Shapes     q [H D, C], k, v [G D, C], o [C, H D]; gate, up [F, C], down [C, F]; embedding, head [V, C]; g [C]; s [G D], repeated for the H/G
//!            heads of a group; t [F]
//! Needs      no statistic
//! Parameters seed of e, and of s and t, which are log-uniform in 0.8..1.25
//! Cost       one pass over the weights; the result is f32 in memory
//! Departs    the step is read from the numbers: the least distance of two different ones among 16 neighbours of a row. Codebooks of uneven
//!            levels (IQ types) keep a part of their grid where it is wider
//! Errors     Numeric for weights that are not finite
//! Exactness  f64, each weight rounded to f32 once per step. The function is that of the dithered weights: it is its own reference

use crate::check;
use crate::error::MethodError;
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::rng::SplitMix64;
use pare_model::site::{Point, Projection, Site};
use pare_model::storage::Dense;
use pare_model::weight::{Linear, Weight};
use std::sync::Arc;

/// ln 1.25, which is -ln 0.8.
const REACH: f64 = 0.223_143_551_314_209_76;

/// Neighbours of a row that share a step in every type of blocks.
const RUN: usize = 16;

/// Streams of chance of one block: values, channels, and a dither for each projection. Those of embedding and head count from the other end.
const STREAMS: u64 = 16;

/// A model whose weights lie on no grid. Every matrix moves by less than a step of its blocks; see the head of this file.
///
/// # Errors
/// A weight that is not finite.
pub fn off_grid(model: &Model, seed: u64) -> Result<Model, MethodError> {
    let mut model = model.clone();
    let last = Site::new(model.blocks.len(), Point::AttentionIn);
    model.embedding = dithered(&model.embedding, last, SplitMix64::stream(seed, u64::MAX))?;
    if let Some(head) = &mut model.head {
        head.weight = dithered(&head.weight, last, SplitMix64::stream(seed, u64::MAX - 1))?;
    }
    for (index, block) in model.blocks.iter_mut().enumerate() {
        let streams = [0, 1].map(|own| SplitMix64::stream(seed, STREAMS * index as u64 + own));
        for (at, projection) in (2..).zip(Projection::ALL) {
            if let Some(linear) = block.linear_mut(projection) {
                let rng = SplitMix64::stream(seed, STREAMS * index as u64 + at);
                linear.weight = dithered(&linear.weight, Site::new(index, projection.input()), rng)?;
            }
        }
        rewrite(block, index, streams)?;
    }
    Ok(model)
}

/// The weight with noise of half a step to either side: between two neighbours of a grid every number is as likely.
fn dithered(weight: &Arc<dyn Weight>, site: Site, mut rng: SplitMix64) -> Result<Arc<dyn Weight>, MethodError> {
    let mut matrix = Linear::new(Arc::clone(weight)).to_matrix();
    check::weights(site, "weight", &matrix)?;
    for row in 0..matrix.rows() {
        for run in matrix.row_mut(row).chunks_mut(RUN) {
            let step = step(run);
            for value in run {
                *value = (f64::from(*value) + step * (rng.unit() - 0.5)) as f32;
            }
        }
    }
    Ok(Arc::new(Dense(matrix)))
}

/// The least distance of two different numbers; 0 when all are equal.
fn step(run: &[f32]) -> f64 {
    let mut sorted = [0.0; RUN];
    let sorted = &mut sorted[..run.len()];
    sorted.copy_from_slice(run);
    sorted.sort_by(f32::total_cmp);
    let distances =
        sorted.windows(2).map(|pair| f64::from(pair[1]) - f64::from(pair[0])).filter(|&distance| distance > 0.0);
    distances.reduce(f64::min).unwrap_or(0.0)
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
