//! Neighbour average: two neighbouring blocks become their mean, where that hurts least. A probe, not a way to a good model.
//!
//! Source     after Blagoev et al. 2025, All is Not Lost: LLM Recovery without Checkpoints (CheckFree), arXiv:2506.15461
//! Formula    W = (W_i + W_(i+1)) / 2 for every weight, bias and gain of both blocks, at the i whose model diverges least
//! Shapes     those of the blocks, which are all alike
//! Needs      divergences
//! Parameters none
//! Cost       for each block that leaves one divergence per pair of neighbours
//! Departs    CheckFree rebuilds a lost stage in the middle of training from its two neighbours, weighted by gradients, and trains on; here the mean
//!            of two neighbours replaces both without training, which shows how far neighbours are from interchangeable
//! Errors     Params for a keep that leaves no block; Unsupported for blocks of different shapes or shortcuts; Row: not finite
//! Exactness  each number rounded to f32 once

use super::flatten::removed_blocks;
use super::{Calibration, Entry, Rewrite, Rewritten};
use crate::basis::{Name, dense, doubles};
use crate::card::Card;
use crate::check;
use crate::error::MethodError;
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::site::{Projection, Site};
use pare_model::weight::Linear;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "neighbour-average",
        about: "a probe: replaces two neighbouring blocks by their mean where that hurts least",
        source: "after All is Not Lost: LLM Recovery without Checkpoints (CheckFree), arXiv:2506.15461",
        formula: "W = (W_i + W_(i+1)) / 2 for every weight, bias and gain of both blocks, at the i whose model \
            diverges least",
        needs: &[],
        parameters: &[],
        grains: &[],
        cost: "one divergence per pair of neighbours for each block that leaves",
        departs: "two neighbours become their mean, unweighted and without training; the paper rebuilds a lost block between two and trains on",
        exactness: 1e-5,
    },
    removes: true,
    uniform: true,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(NeighbourAverage))
    },
};

/// Replaces neighbours by their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourAverage;

impl Rewrite for NeighbourAverage {
    fn rewrite(&self, model: &Model, keep: f64, calibration: &mut dyn Calibration) -> Result<Rewritten, MethodError> {
        let removed = removed_blocks("neighbour-average", model, keep)?;
        let mut result = Rewritten { model: model.clone(), notes: Vec::new() };
        for _ in 0..removed {
            let now = &result.model;
            let mut best: Option<(f64, usize, Model)> = None;
            for pair in 0..now.blocks.len() - 1 {
                let mut averaged = now.clone();
                averaged.blocks[pair] = mean(&now.blocks[pair], &now.blocks[pair + 1], pair)?;
                averaged.blocks.remove(pair + 1);
                let divergence = calibration.divergence(&averaged)?;
                let divergence = if divergence.is_nan() { f64::INFINITY } else { divergence };
                if best.as_ref().is_none_or(|best| divergence < best.0) {
                    best = Some((divergence, pair, averaged));
                }
            }
            let Some((divergence, pair, averaged)) = best else { break };
            let (next, count) = (pair + 1, now.blocks.len());
            result
                .notes
                .push(format!("of {count} blocks {pair} and {next} became their mean (divergence {divergence:.4})"));
            result.model = averaged;
        }
        if removed > 0 {
            result
                .notes
                .push("neighbour-average is a probe: compare it with dropping blocks before using its result".into());
        }
        Ok(result)
    }

    fn check(&self, model: &Model, keep: f64) -> Result<(), MethodError> {
        removed_blocks("neighbour-average", model, keep).map(|_| ())
    }
}

/// The mean of two blocks of one shape; `index` is that of the first, for messages.
fn mean(a: &Block, b: &Block, index: usize) -> Result<Block, MethodError> {
    let linear = |projection: Projection, a: &Linear, b: &Linear| -> Result<Linear, MethodError> {
        let of = |linear: &Linear, block| {
            let name = Name::At(Site::new(block, projection.input()));
            doubles(linear.weight.as_ref(), 0..linear.outputs(), &name)
        };
        let values = of(a, index)?.iter().zip(of(b, index + 1)?).map(|(a, b)| (0.5 * (a + b)) as f32).collect();
        let none = vec![0.0; a.outputs()];
        let bias = (a.bias.is_some() || b.bias.is_some())
            .then(|| halfway(a.bias.as_deref().unwrap_or(&none), b.bias.as_deref().unwrap_or(&none)));
        Ok(dense(Matrix::from_vec(a.outputs(), a.inputs(), values), bias))
    };
    let gain = |a: &Option<Arc<[f32]>>, b: &Option<Arc<[f32]>>| Some(halfway(a.as_deref()?, b.as_deref()?));
    let mixer = match (a.attention(), b.attention()) {
        (Some(a), Some(b)) => Some(Mixer::Attention(Attention {
            norm: halfway(&a.norm, &b.norm),
            q: linear(Projection::Q, &a.q, &b.q)?,
            k: linear(Projection::K, &a.k, &b.k)?,
            v: linear(Projection::V, &a.v, &b.v)?,
            o: linear(Projection::O, &a.o, &b.o)?,
            q_norm: gain(&a.q_norm, &b.q_norm),
            k_norm: gain(&a.k_norm, &b.k_norm),
            ..a.clone()
        })),
        _ => None,
    };
    let ffn = match (&a.ffn, &b.ffn) {
        (Some(a), Some(b)) => Some(Ffn {
            norm: halfway(&a.norm, &b.norm),
            gate: linear(Projection::Gate, &a.gate, &b.gate)?,
            up: linear(Projection::Up, &a.up, &b.up)?,
            down: linear(Projection::Down, &a.down, &b.down)?,
            shortcut: None,
        }),
        _ => None,
    };
    let block = Block { mixer, ffn };
    for (row, values) in [
        ("attention norm", block.attention().map(|part| &part.norm)),
        ("ffn norm", block.ffn.as_ref().map(|part| &part.norm)),
    ] {
        let values = values.map_or(&[][..], |values| values);
        if let Some(cause) = check::not_finite("mean gain", values.iter().map(|&value| f64::from(value))) {
            return Err(MethodError::Row { row: format!("{row} of blocks {index} and {}", index + 1), cause });
        }
    }
    Ok(block)
}

fn halfway(a: &[f32], b: &[f32]) -> Arc<[f32]> {
    a.iter().zip(b).map(|(&a, &b)| (0.5 * (f64::from(a) + f64::from(b))) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(value: f32, bias: Option<f32>) -> Block {
        let linear = |out: usize, inn: usize| {
            dense(Matrix::from_vec(out, inn, vec![value; out * inn]), bias.map(|bias| vec![bias; out].into()))
        };
        let (gate, up, down) = (linear(1, 2), linear(1, 2), linear(2, 1));
        Block { mixer: None, ffn: Some(Ffn { norm: vec![value, 1.0].into(), gate, up, down, shortcut: None }) }
    }

    #[test]
    fn by_hand() {
        let part = mean(&block(1.0, None), &block(4.0, Some(3.0)), 0).unwrap().ffn.unwrap();
        assert_eq!(part.up.to_matrix().data(), [2.5, 2.5]);
        assert_eq!((&*part.down.bias.unwrap(), &*part.norm), ([1.5, 1.5].as_slice(), [2.5, 1.0].as_slice()));
    }
}
