//! Merge features: the nearest FFN channels become one, again and again, without data.
//!
//! Source     Chen et al. 2023, Going Beyond Neural Network Feature Similarity: The Network Feature Complexity and Its Interpretation Using Category Theory (iterative feature merging), arXiv:2310.06756
//! Formula    channel i is p_i = (gate_i, up_i, down_:i) with n_i = 1; the pair i < j of least |p_i - p_j|, the first of equals, becomes p = (n_i p_i + n_j p_j) / (n_i + n_j), n = n_i + n_j, in the place of i; until keep is met. Then gate and up rows are those of p, the down column is n times that of p: producers are averaged, consumers summed
//! Shapes     gate, up [F, C] with their biases, down [C, F]
//! Needs      no statistic
//! Parameters none
//! Cost       O(F^2 C) per block for the distances, O(F) to O(F^2) per merge; 8 F^2 bytes
//! Departs    a number of channels instead of a threshold, the same in every block; gate and up rows together are the producers, since a gated layer has two; the source sums producers and averages consumers, which is the same where the activation is homogeneous (ReLU), and would scale a gated channel twice
//! Errors     Params (a keep that the channels cannot reach); Unsupported (a model without feed-forward parts); Numeric
//! Exactness  1e-6 against goldens/rewrite/merge_features (sums in f64, results rounded to f32)

use super::{Calibration, Entry, Rewrite, Rewritten};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::{Built, MethodError, shown};
use crate::nearest_pairs::{NearestPairs, Pair};
use crate::settings::Settings;
use pare_model::block::{Block, Ffn};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "merge-features",
        about: "merges the nearest FFN channels, producers averaged, consumers summed, without data",
        source: "Going Beyond Neural Network Feature Similarity (iterative feature merging), arXiv:2310.06756",
        formula: "channel i is p_i = (gate_i, up_i, down_:i) with n_i = 1; the pair i < j of least |p_i - p_j|, the \
            first of equals, becomes p = (n_i p_i + n_j p_j) / (n_i + n_j), n = n_i + n_j, in the place of i; until \
            keep is met. Then gate and up rows are those of p, the down column is n times that of p: producers are \
            averaged, consumers summed",
        needs: &[],
        parameters: &[],
        grains: &[Grain::Channel],
        cost: "F^2 C operations per block; 8 F^2 bytes",
        departs: "stops at a number of channels, the same in every block, not at a threshold; averages producers and sums consumers, not the other way round",
        exactness: 1e-6,
    },
    removes: true,
    uniform: true,
    build: |settings, _| MergeFeatures::build(settings),
};

/// Merges the nearest FFN channels. See the head of the file.
#[derive(Clone, Copy, Debug)]
pub struct MergeFeatures;

impl MergeFeatures {
    fn build(settings: &Settings) -> Built<dyn Rewrite> {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(Self))
    }
}

/// Weights of the projections of a block.
fn weights(block: &Block) -> u64 {
    block.linears().map(|(_, linear)| linear.inputs() as u64 * linear.outputs() as u64).sum()
}

/// The share of the channels of every block that stays when `keep` of all projection weights do.
fn channel_share(model: &Model, keep: f64) -> Result<f64, MethodError> {
    let refuse = |why: String| MethodError::Params { key: "keep", why };
    if !(keep > 0.0 && keep <= 1.0) {
        return Err(refuse(format!("{keep}, expected above 0 and at most 1")));
    }
    let whole: u64 = model.blocks.iter().map(weights).sum();
    let in_channels: usize =
        model.blocks.iter().filter_map(|block| block.ffn.as_ref()).map(|ffn| 3 * ffn.width() * ffn.gate.inputs()).sum();
    if in_channels == 0 {
        let what = "a model without feed-forward parts".to_owned();
        return Err(MethodError::Unsupported { method: "merge-features", what, why: "it merges FFN channels" });
    }
    let share = 1.0 - (1.0 - keep) * whole as f64 / in_channels as f64;
    if share <= 0.0 {
        let least = 1.0 - in_channels as f64 / whole as f64;
        let keep = shown(keep);
        return Err(refuse(format!("{keep}: FFN channels alone cannot give so much, expected more than {least:.3}")));
    }
    Ok(share)
}

impl Rewrite for MergeFeatures {
    fn rewrite(&self, model: &Model, keep: f64, _: &mut dyn Calibration) -> Result<Rewritten, MethodError> {
        let share = channel_share(model, keep)?;
        let (mut model, mut notes) = (model.clone(), Vec::new());
        for (index, block) in model.blocks.iter_mut().enumerate() {
            let Some(ffn) = &mut block.ffn else { continue };
            let width = ffn.width();
            let quota = ((share * width as f64).round() as usize).clamp(1, width.max(1));
            if quota >= width {
                continue;
            }
            let (merged, reach) = merge_channels(ffn, quota, index)?;
            notes.push(format!(
                "block {index}: {width} channels became {quota}; the farthest merge was {reach:.3} of the farthest pair"
            ));
            *ffn = merged;
        }
        Ok(Rewritten { model, notes })
    }

    fn check(&self, model: &Model, keep: f64) -> Result<(), MethodError> {
        channel_share(model, keep).map(|_| ())
    }
}

/// The part of block `index` with `quota` channels, at least 1 and at most as many as it has; and the largest distance that was merged,
/// relative to the largest between two channels.
///
/// # Errors
/// `Params` for another quota, `Numeric` for weights that are not finite.
pub fn merge_channels(ffn: &Ffn, quota: usize, index: usize) -> Result<(Ffn, f64), MethodError> {
    if !(1..=ffn.width()).contains(&quota) {
        let why = format!("{quota} channels, expected 1..={}", ffn.width());
        return Err(MethodError::Params { key: "quota", why });
    }
    let inputs = Site::new(index, Point::FfnIn);
    let [gate, up, down] =
        [(&ffn.gate, inputs), (&ffn.up, inputs), (&ffn.down, Site::new(index, Point::FfnOut))].map(|(linear, site)| {
            let matrix = linear.to_matrix();
            check::weights(site, "weight", &matrix).map(|()| matrix)
        });
    let (gate, up, down) = (gate?, up?, down?);
    for bias in [&ffn.gate.bias, &ffn.up.bias].into_iter().flatten() {
        check::floats(inputs, "bias", bias)?;
    }
    let (width, hidden) = (ffn.width(), gate.cols());
    let bias = |linear: &Linear, channel: usize| linear.bias.as_ref().map(|bias| bias[channel]);
    let features: Vec<Vec<f64>> = (0..width)
        .map(|channel| {
            let column = (0..down.rows()).map(|row| down.row(row)[channel]);
            let producers = gate.row(channel).iter().chain(up.row(channel)).copied();
            let biases = bias(&ffn.gate, channel).into_iter().chain(bias(&ffn.up, channel));
            producers.chain(column).chain(biases).map(f64::from).collect()
        })
        .collect();
    let groups = Groups::of(features, quota);
    let rows = |start: usize| {
        let values = groups.means.iter().flat_map(|mean| mean[start..start + hidden].iter().map(|&value| value as f32));
        Arc::new(Dense(Matrix::from_vec(quota, hidden, values.collect())))
    };
    let mut readers = Matrix::zeros(down.rows(), quota);
    for row in 0..down.rows() {
        for (value, (mean, size)) in readers.row_mut(row).iter_mut().zip(groups.means.iter().zip(&groups.sizes)) {
            *value = (mean[2 * hidden + row] * size) as f32;
        }
    }
    // Biases stand at the end, that of gate first.
    let mut at = 2 * hidden + down.rows();
    let mut biases = |linear: &Linear| -> Option<Arc<[f32]>> {
        linear.bias.as_ref()?;
        at += 1;
        Some(groups.means.iter().map(|mean| mean[at - 1] as f32).collect())
    };
    let (gate_bias, up_bias) = (biases(&ffn.gate), biases(&ffn.up));
    let ffn = Ffn {
        gate: Linear { weight: rows(0), bias: gate_bias },
        up: Linear { weight: rows(hidden), bias: up_bias },
        down: Linear { weight: Arc::new(Dense(readers)), bias: ffn.down.bias.clone() },
        ..ffn.clone()
    };
    Ok((ffn, groups.reach))
}

/// Features that were merged into fewer.
struct Groups {
    /// The mean of each group, in the order of its first member.
    means: Vec<Vec<f64>>,
    /// How many features each group holds.
    sizes: Vec<f64>,
    reach: f64,
}

impl Groups {
    fn of(mut means: Vec<Vec<f64>>, quota: usize) -> Self {
        let mut sizes = vec![1.0; means.len()];
        let mut pairs = NearestPairs::new(means.len(), |i, j| square(&means[i], &means[j]));
        let (farthest, mut merged) = (pairs.largest(), 0.0_f64);
        for _ in quota..means.len() {
            let Some(Pair { first, second, square, sizes: [n, m] }) = pairs.merge() else { break };
            merged = merged.max(square);
            let gone = std::mem::take(&mut means[second]);
            for (a, b) in means[first].iter_mut().zip(&gone) {
                *a = (n * *a + m * b) / (n + m);
            }
            (sizes[first], sizes[second]) = (n + m, 0.0);
        }
        means.retain(|mean| !mean.is_empty());
        sizes.retain(|&size| size > 0.0);
        let reach = if farthest > 0.0 { (merged / farthest).sqrt() } else { 0.0 };
        Self { means, sizes, reach }
    }
}

/// Squared distance, in an order of sums that suits vectors and does not depend on the machine.
fn square(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += (a - b) * (a - b);
        }
    }
    let rest: f64 = a.1.iter().zip(b.1).map(|(a, b)| (a - b) * (a - b)).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 0 and 1 meet at 0.5, then 0.5 (two of them) and 2 at 1: a pair farther apart than 4 and 5.
        let points = |values: &[f64]| values.iter().map(|&value| vec![value]).collect();
        let groups = Groups::of(points(&[0.0, 5.0, 1.0, 2.0, 4.0]), 3);
        assert_eq!((groups.means, groups.sizes), (points(&[0.5, 4.5, 2.0]), vec![2.0, 2.0, 1.0]));
        assert_eq!(groups.reach, 0.2);
        let groups = Groups::of(points(&[0.0, 5.0, 1.0, 2.0, 4.0]), 2);
        assert_eq!((groups.means, groups.sizes), (points(&[1.0, 4.5]), vec![3.0, 2.0]));
        // Of equal distances the first pair.
        let groups = Groups::of(points(&[1.0, 2.0, 3.0]), 2);
        assert_eq!((groups.means, groups.sizes), (points(&[1.5, 3.0]), vec![2.0, 1.0]));
    }

    #[test]
    fn sums_of_every_length() {
        for length in 0..20_usize {
            let a: Vec<f64> = (0..length).map(|i| i as f64).collect();
            assert_eq!(square(&a, &vec![0.0; length]), a.iter().map(|a| a * a).sum::<f64>());
        }
    }
}
