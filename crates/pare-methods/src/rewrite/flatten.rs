//! Flatten: two neighbouring blocks work side by side as one, which is then pruned back to the shape of the others.
//!
//! Source     Xu et al. 2026, FlattenGPT: Depth Compression for Transformer with Layer Flattening, arXiv:2602.08858
//! Formula    of the neighbours whose inputs have the largest cosine: gains folded, q, k, v, gate, up one below the other, o and down side by side;
//!            groups by E||O_g z_g||^2; channels by s = diag(M (M + f I)^-1); O and W_down by W_K + W_P M_PK (M_KK + d I)^-1
//! Shapes     z [2 H D] or [2 F] inputs of o and down; M = E[z z^T]; K the kept inputs, P the others; f, d relative to mean diagonals
//! Needs      Stat::Cosine around blocks; Stat::Gram at the inputs of o and down of the merged block; divergences
//! Parameters damping: d, more than 0, default 4 * kept / tokens; factor: f, more than 0, default 10; levels: pairs that are tried for each merge, at least 1,
//!            default 1
//! Cost       per merge one pass over all blocks, three divergences per pair, (2 F)^3 operations; 32 F^2 bytes
//! Departs    cosines are observed anew after each merge, where the source deletes a row and a column of the first ones; heads leave in
//!            whole KV groups, by all of O_g^T O_g, where it takes the diagonal; d follows the number of tokens, where it is f; O is refitted
//!            too; a merge that diverges more than dropping one of its two blocks is undone and that block dropped
//! Errors     Params for a keep that leaves no block; Unsupported for blocks of different shapes, shortcuts or norms of heads; Numeric: not
//!            finite, not positive definite up to a damping of 1
//! Exactness  1e-4 of the logits of goldens/rewrite/flatten

mod merge;

use super::{Calibration, Entry, Rewrite, Rewritten};
use crate::card::Card;
use crate::check;
use crate::error::{MethodError, shown};
use merge::{Merger, side_by_side};
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::stats::Stat;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "flatten",
        about: "merges neighbouring blocks side by side and prunes them back to one; drops a block instead where that diverges less",
        source: "FlattenGPT: Depth Compression for Transformer with Layer Flattening, arXiv:2602.08858",
        formula: "of the neighbours whose inputs have the largest cosine: gains folded, q, k, v, gate, up one below \
            the other, o and down side by side; groups by E||O_g z_g||^2; channels by s = diag(M (M + f I)^-1); O \
            and W_down by W_K + W_P M_PK (M_KK + d I)^-1",
        needs: &[Stat::Cosine, Stat::Gram],
        parameters: &["damping", "factor", "levels"],
        grains: &[],
        cost: "per merge a pass over all blocks, three divergences per pair tried, (2 F)^3 operations and 32 F^2 bytes",
        departs: "cosines observed anew after each merge; whole KV groups; a ridge of its own for the refit; O refitted too; dropping a block where that diverges less",
        exactness: 1e-4,
    },
    removes: true,
    uniform: true,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        let flatten = Flatten {
            damping: settings.damping,
            factor: settings.factor.unwrap_or(10.0),
            pairs: settings.levels.unwrap_or(1),
        };
        for (key, value) in [("damping", flatten.damping.unwrap_or(1.0)), ("factor", flatten.factor)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(MethodError::Params { key, why: format!("{value}, expected a number more than 0") });
            }
        }
        if flatten.pairs == 0 {
            return Err(MethodError::Params { key: "levels", why: "0, expected at least 1".into() });
        }
        Ok(Box::new(flatten))
    },
};

/// Merges neighbouring blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flatten {
    /// Damping of the refits, relative to the mean diagonal of the kept inputs; none: 4 * kept / tokens, as for the repair by least squares.
    pub damping: Option<f64>,
    /// Ridge of the leverages, relative to the mean diagonal.
    pub factor: f64,
    /// How many pairs are tried for each merge, the most similar first.
    pub pairs: usize,
}

impl Rewrite for Flatten {
    fn rewrite(&self, model: &Model, keep: f64, calibration: &mut dyn Calibration) -> Result<Rewritten, MethodError> {
        self.check(model, keep)?;
        let removed = removed_blocks("flatten", model, keep)?;
        let mut result = Rewritten { model: model.clone(), notes: Vec::new() };
        // Blocks of the original that each block stands for, for people.
        let mut spans: Vec<(usize, usize)> = (0..model.blocks.len()).map(|index| (index, index)).collect();
        for _ in 0..removed {
            let now = &result.model;
            let mut best: Option<Step> = None;
            for (pair, cosine) in similar(now, calibration)?.into_iter().take(self.pairs) {
                let step = self.step(now, pair, cosine, calibration)?;
                if best.as_ref().is_none_or(|best| step.divergence < best.divergence) {
                    best = Some(step);
                }
            }
            let Some(step) = best else { break };
            result.notes.push(step.note(&spans));
            let (pair, merged) = (step.pair, step.model);
            result.model = merged;
            match step.gone {
                None => spans[pair].1 = spans[pair + 1].1,
                Some(gone) => spans[pair] = spans[pair + usize::from(gone == pair)],
            }
            spans.remove(pair + 1);
        }
        Ok(result)
    }

    fn check(&self, model: &Model, keep: f64) -> Result<(), MethodError> {
        removed_blocks("flatten", model, keep)?;
        refuse_head_norms(model)
    }
}

/// One block fewer.
struct Step {
    pair: usize,
    cosine: f64,
    model: Model,
    divergence: f64,
    /// Divergences of the merge and of dropping the first and the second.
    tried: [f64; 3],
    /// The block that was dropped instead.
    gone: Option<usize>,
    merger: Merger,
}

impl Step {
    fn note(&self, spans: &[(usize, usize)]) -> String {
        let name = |index: usize| match spans[index] {
            (first, last) if first == last => format!("block {first}"),
            (first, last) => format!("blocks {first} to {last}"),
        };
        let [merged, first, second] = self.tried;
        let (a, b) = (name(self.pair), name(self.pair + 1));
        let done = match self.gone {
            None => format!(
                "merged, damping {:e} and {:e} (divergence {merged:.4}; without {a} {first:.4}, without {b} {second:.4})",
                self.merger.dampings[0], self.merger.dampings[1]
            ),
            Some(gone) => format!(
                "{} was dropped: merging diverges more ({merged:.4}; without {a} {first:.4}, without {b} {second:.4})",
                name(gone)
            ),
        };
        format!("{a} and {b} (cosine {:.4}): {done}", self.cosine)
    }
}

impl Flatten {
    fn step(
        &self,
        model: &Model,
        pair: usize,
        cosine: f64,
        calibration: &mut dyn Calibration,
    ) -> Result<Step, MethodError> {
        let mut merger = Merger { damping: self.damping, factor: self.factor, dampings: [0.0; 2] };
        let mut merged = model.clone();
        merged.blocks[pair] = side_by_side(&model.blocks[pair], &model.blocks[pair + 1], pair)?;
        merged.blocks.remove(pair + 1);
        merger.prune_groups(
            &mut merged,
            pair,
            model.blocks[pair].attention().map_or(0, |part| part.groups),
            calibration,
        )?;
        merger.prune_channels(
            &mut merged,
            pair,
            model.blocks[pair].ffn.as_ref().map_or(0, |part| part.width()),
            calibration,
        )?;
        let without = |gone: usize| {
            let mut model = model.clone();
            model.blocks.remove(gone);
            model
        };
        let [first, second] = [without(pair), without(pair + 1)];
        let tried =
            [calibration.divergence(&merged)?, calibration.divergence(&first)?, calibration.divergence(&second)?];
        // What is no number counts as the worst.
        let [by_merge, by_first, by_second] = tried.map(|value| if value.is_nan() { f64::INFINITY } else { value });
        let (model, gone, divergence) = if by_merge <= by_first && by_merge <= by_second {
            (merged, None, by_merge)
        } else if by_first <= by_second {
            (first, Some(pair), by_first)
        } else {
            (second, Some(pair + 1), by_second)
        };
        Ok(Step { pair, cosine, model, divergence, tried, gone, merger })
    }
}

/// Pairs of neighbours by the cosine of their inputs, the most similar first; of equal ones the lower first.
fn similar(model: &Model, calibration: &mut dyn Calibration) -> Result<Vec<(usize, f64)>, MethodError> {
    let pairs = model.blocks.len().saturating_sub(1);
    // The stream behind block i is the input of block i + 1.
    let site = |pair| Site::new(pair, Point::BlockPart);
    let needs = (0..pairs).map(|pair| (site(pair), Stat::Cosine)).collect();
    let stats = calibration.observe(model, &needs)?;
    let cosine = |pair| Ok((pair, check::stat(&stats, site(pair), Stat::Cosine, 1)?[0]));
    let mut all = (0..pairs).map(cosine).collect::<Result<Vec<_>, MethodError>>()?;
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    Ok(all)
}

/// How many blocks leave, of a model whose blocks can stand for each other.
pub(super) fn removed_blocks(method: &'static str, model: &Model, keep: f64) -> Result<usize, MethodError> {
    let blocks = model.blocks.len();
    if !(keep > 0.0 && keep <= 1.0) {
        let why = format!("{keep}, expected more than 0 and at most 1");
        return Err(MethodError::Params { key: "keep", why });
    }
    let removed = ((1.0 - keep) * blocks as f64).round() as usize;
    if removed >= blocks && blocks > 0 {
        let why = format!("{} of {blocks} blocks leaves none, expected at least one", shown(keep));
        return Err(MethodError::Params { key: "keep", why });
    }
    let unsupported = |what: &str, why| Err(MethodError::Unsupported { method, what: what.into(), why });
    if model.has_shortcuts() {
        return unsupported("a model with shortcuts", "its residual stream has another basis in front of every part");
    }
    if !model.is_uniform() {
        return unsupported("blocks that differ in heads, channels or parts", "one could not stand for two of them");
    }
    Ok(removed)
}

fn refuse_head_norms(model: &Model) -> Result<(), MethodError> {
    let normed = |part: &pare_model::block::Attention| part.q_norm.is_some() || part.k_norm.is_some();
    if model.blocks.iter().any(|block| block.attention().is_some_and(normed)) {
        let why = "all heads of a block share one gain, and those of two blocks have different ones";
        return Err(MethodError::Unsupported { method: "flatten", what: "norms of heads".into(), why });
    }
    Ok(())
}
