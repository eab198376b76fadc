//! Two blocks as one of double size, and that one back at its former size.

use crate::basis::{Name, dense, doubles};
use crate::check;
use crate::error::{MethodError, NumericCause};
use crate::linalg;
use crate::rewrite::{Calibration, fold_norm};
use crate::select::keep_top;
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::plan::spread;
use pare_model::site::{Point, Site};
use pare_model::stats::Stat;
use pare_model::weight::Linear;
use std::sync::Arc;

/// A block that computes both parts of `a` and `b` on the input of `a` and adds what both give. `index` is that of `a`, for messages.
pub(super) fn side_by_side(a: &Block, b: &Block, index: usize) -> Result<Block, MethodError> {
    let (mut a, mut b) = (a.clone(), b.clone());
    fold_norm::of_block(&mut a, index)?;
    fold_norm::of_block(&mut b, index + 1)?;
    let mixer = match (a.mixer, b.mixer) {
        (Some(Mixer::Attention(a)), Some(Mixer::Attention(b))) => Some(Mixer::Attention(Attention {
            q: below(&a.q, &b.q),
            k: below(&a.k, &b.k),
            v: below(&a.v, &b.v),
            o: beside(&a.o, &b.o),
            heads: a.heads + b.heads,
            groups: a.groups + b.groups,
            ..a
        })),
        (mixer, _) => mixer,
    };
    let ffn = match (a.ffn, b.ffn) {
        (Some(a), Some(b)) => {
            Some(Ffn { gate: below(&a.gate, &b.gate), up: below(&a.up, &b.up), down: beside(&a.down, &b.down), ..a })
        }
        (ffn, _) => ffn,
    };
    Ok(Block { mixer, ffn })
}

/// One map with the outputs of both.
fn below(a: &Linear, b: &Linear) -> Linear {
    let bias = |linear: &Linear| linear.bias.as_ref().map_or(vec![0.0; linear.outputs()], |bias| bias.to_vec());
    let both = (a.bias.is_some() || b.bias.is_some()).then(|| [bias(a), bias(b)].concat().into());
    let rows = [a.to_matrix().into_vec(), b.to_matrix().into_vec()].concat();
    dense(Matrix::from_vec(a.outputs() + b.outputs(), a.inputs(), rows), both)
}

/// One map with the inputs of both, which adds their outputs.
fn beside(a: &Linear, b: &Linear) -> Linear {
    let (left, right) = (a.to_matrix(), b.to_matrix());
    let rows = (0..a.outputs()).flat_map(|row| [left.row(row), right.row(row)].concat()).collect();
    let bias: Option<Arc<[f32]>> = match (&a.bias, &b.bias) {
        (Some(a), Some(b)) => Some(a.iter().zip(b.iter()).map(|(a, b)| a + b).collect()),
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    dense(Matrix::from_vec(a.outputs(), a.inputs() + b.inputs(), rows), bias)
}

/// Takes a block back to its former size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merger {
    pub(super) damping: Option<f64>,
    pub(super) factor: f64,
    /// Dampings with which the refits of o and down succeeded.
    pub(super) dampings: [f64; 2],
}

/// Damping per kept input and token, when none is given: what was measured for the repair by least squares.
const DAMPING: f64 = 4.0;

impl Merger {
    fn damping_of(&self, kept: usize, tokens: u64) -> f64 {
        self.damping.unwrap_or(DAMPING * kept.max(1) as f64 / tokens.max(1) as f64)
    }

    /// Keeps the `count` KV groups of block `index` that write the most.
    pub(super) fn prune_groups(
        &mut self,
        model: &mut Model,
        index: usize,
        count: usize,
        calibration: &mut dyn Calibration,
    ) -> Result<(), MethodError> {
        let site = Site::new(index, Point::AttentionOut);
        let Some(part) = model.blocks[index].attention() else { return Ok(()) };
        let (inputs, outputs, width) = (part.o.inputs(), part.o.outputs(), part.group_width());
        let (gram, tokens) = observed(model, site, inputs, calibration)?;
        let weight = doubles(part.o.weight.as_ref(), 0..outputs, &Name::At(site))?;
        // E||O_g z_g||^2 is the sum over outputs of row O_g M_gg O_g^T.
        let written: Vec<f64> = (0..part.groups)
            .map(|group| {
                let own: Vec<usize> = (group * width..(group + 1) * width).collect();
                let columns: Vec<f64> = (0..outputs)
                    .flat_map(|row| own.iter().map(move |at| row * inputs + at))
                    .map(|at| weight[at])
                    .collect();
                let spread = linalg::product(&columns, &block(&gram, inputs, &own, &own), [outputs, width, width]);
                spread.iter().zip(&columns).map(|(a, b)| a * b).sum()
            })
            .collect();
        check::finite(site, "what a group writes", &written)?;
        let kept = keep_top(&written, count);
        let columns = spread(&kept, width);
        let damping = self.damping_of(columns.len(), tokens);
        let (o, damping) = refitted(&part.o, &weight, &gram, &columns, damping, site)?;
        self.dampings[0] = damping;
        let mut part = part.keep_groups(&kept);
        part.o = o;
        model.blocks[index].mixer = Some(Mixer::Attention(part));
        Ok(())
    }

    /// Keeps the `count` channels of block `index` with the largest ridge leverages.
    pub(super) fn prune_channels(
        &mut self,
        model: &mut Model,
        index: usize,
        count: usize,
        calibration: &mut dyn Calibration,
    ) -> Result<(), MethodError> {
        let site = Site::new(index, Point::FfnOut);
        let Some(part) = model.blocks[index].ffn.as_ref() else { return Ok(()) };
        let (inputs, outputs) = (part.down.inputs(), part.down.outputs());
        let (gram, tokens) = observed(model, site, inputs, calibration)?;
        let kept = keep_top(&leverages(&gram, inputs, self.factor, site)?, count);
        let weight = doubles(part.down.weight.as_ref(), 0..outputs, &Name::At(site))?;
        let damping = self.damping_of(kept.len(), tokens);
        let (down, damping) = refitted(&part.down, &weight, &gram, &kept, damping, site)?;
        self.dampings[1] = damping;
        let mut part = part.keep_channels(&kept);
        part.down = down;
        model.blocks[index].ffn = Some(part);
        Ok(())
    }
}

/// Second moments at one site and the tokens behind them, of a model that need not go on behind it.
fn observed(
    model: &Model,
    site: Site,
    width: usize,
    calibration: &mut dyn Calibration,
) -> Result<(Vec<f64>, u64), MethodError> {
    let mut seen = model.clone();
    seen.blocks.truncate(site.block + 1);
    let stats = calibration.observe(&seen, &[(site, Stat::Gram)].into())?;
    Ok((check::stat(&stats, site, Stat::Gram, width * width)?.to_vec(), stats.tokens()))
}

/// `diag(M (M + f I)^-1)`, f relative to the mean diagonal: which inputs no combination of others replaces.
fn leverages(gram: &[f64], width: usize, factor: f64, site: Site) -> Result<Vec<f64>, MethodError> {
    let mean = (0..width).map(|at| gram[at * width + at]).sum::<f64>() / width.max(1) as f64;
    if mean <= 0.0 {
        return Ok(vec![0.0; width]);
    }
    let ridge = factor * mean;
    // With A = M + f I the product is I - f A^-1.
    let mut shifted = gram.to_vec();
    (0..width).for_each(|at| shifted[at * width + at] += ridge);
    let inverse = linalg::inverse_diagonal(shifted, width)
        .ok_or(MethodError::Numeric { site, cause: NumericCause::NotPositiveDefinite { damping: factor } })?;
    let leverages: Vec<f64> = inverse.iter().map(|inverse| 1.0 - ridge * inverse).collect();
    check::finite(site, "leverage", &leverages)?;
    Ok(leverages)
}

/// `W_K + W_P M_PK (M_KK + d I)^-1`, and the damping d that it took. `weight` holds the numbers of `linear`.
fn refitted(
    linear: &Linear,
    weight: &[f64],
    gram: &[f64],
    kept: &[usize],
    damping: f64,
    site: Site,
) -> Result<(Linear, f64), MethodError> {
    let [out, inputs] = linear.weight.shape();
    let lost: Vec<usize> = (0..inputs).filter(|at| kept.binary_search(at).is_err()).collect();
    let columns = |of: &[usize]| -> Vec<f64> {
        (0..out).flat_map(|row| of.iter().map(move |at| row * inputs + at)).map(|at| weight[at]).collect()
    };
    let mut update = linalg::product(&columns(&lost), &block(gram, inputs, &lost, kept), [out, lost.len(), kept.len()]);
    let among = block(gram, inputs, kept, kept);
    let mut used = damping;
    // Inputs that never were anything but zero can say nothing of the others.
    if (0..kept.len()).any(|at| among[at * kept.len() + at] > 0.0) {
        let solved = linalg::solve_spd(&among, kept.len(), &mut update, damping);
        used = solved.map_err(|cause| MethodError::Numeric { site, cause })?;
    } else {
        update.fill(0.0);
    }
    let values: Vec<f32> = columns(kept).iter().zip(&update).map(|(weight, update)| (weight + update) as f32).collect();
    if let Some(cause) = check::not_finite("refitted weight", values.iter().map(|&value| f64::from(value))) {
        return Err(MethodError::Numeric { site, cause });
    }
    Ok((dense(Matrix::from_vec(out, kept.len(), values), linear.bias.clone()), used))
}

fn block(gram: &[f64], width: usize, rows: &[usize], cols: &[usize]) -> Vec<f64> {
    rows.iter().flat_map(|&row| cols.iter().map(move |&col| gram[row * width + col])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: Site = Site { block: 0, point: Point::FfnOut };

    fn linear(rows: usize, cols: usize, values: &[f32], bias: Option<&[f32]>) -> Linear {
        dense(Matrix::from_vec(rows, cols, values.to_vec()), bias.map(Into::into))
    }

    #[test]
    fn maps_below_and_beside_each_other_by_hand() {
        let (a, b) = (linear(1, 2, &[1.0, 2.0], None), linear(1, 2, &[3.0, 4.0], Some(&[5.0])));
        let below = below(&a, &b);
        assert_eq!(below.to_matrix(), Matrix::from_vec(2, 2, vec![1.0, 2.0, 3.0, 4.0]));
        assert_eq!(*below.bias.unwrap(), [0.0, 5.0]);
        let beside = beside(&a, &b);
        assert_eq!(beside.to_matrix(), Matrix::from_vec(1, 4, vec![1.0, 2.0, 3.0, 4.0]));
        assert_eq!(*beside.bias.unwrap(), [5.0]);
    }

    #[test]
    fn leverages_by_hand() {
        // M = diag(1, 3), mean 2, factor 1/2: f = 1, so 1 / 2 and 3 / 4.
        let found = leverages(&[1.0, 0.0, 0.0, 3.0], 2, 0.5, SITE).unwrap();
        assert!((found[0] - 0.5).abs() < 1e-15 && (found[1] - 0.75).abs() < 1e-15, "{found:?}");
        assert_eq!(leverages(&[0.0; 4], 2, 0.5, SITE).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn an_input_that_is_twice_another_is_said_by_it() {
        // z_1 = 2 z_0: W = [1, 10] becomes 1 + 20 / (1 + damping).
        let map = linear(1, 2, &[1.0, 10.0], None);
        let (refit, damping) = refitted(&map, &[1.0, 10.0], &[1.0, 2.0, 2.0, 4.0], &[0], 0.25, SITE).unwrap();
        assert_eq!((refit.to_matrix().data(), damping), ([17.0].as_slice(), 0.25));
    }
}
