//! Slice, global: one turn of the whole residual stream to its principal axes, of which the first stay: a narrower standard model.
//!
//! Source     after Ashkboos et al. 2024, SliceGPT: Compress Large Language Models by Deleting Rows and Columns, arXiv:2401.15024
//! Formula    C = sum over parts and the head of E[x x^T] of the normed stream; Q its first R eigenvectors; readers W Q, writers Q^T W, embedding
//!            E Q, head E diag(g) Q; every norm has the gain sqrt(C / R) and eps' = eps C / R
//! Shapes     x [C]; Q [C, R]
//! Needs      Stat::Gram at the inputs of attention and feed-forward layers
//! Parameters block: R is a multiple of it, at least 1, default 32, so that rows are whole blocks of quantised types
//! Cost       one pass over the calibration states; one eigendecomposition [C, C]; 2 C operations per parameter
//! Departs    one turn for all parts, so that every shortcut is the identity and falls away; a tied head is untied, because only it reads the last gain
//! Errors     Params for a keep that leaves no multiple or a block of 0; Unsupported for a model with shortcuts; Numeric or Row for
//!            numbers that are not finite
//! Exactness  1e-4 of the logits of goldens/rewrite/slice_global, which no sign or turn of the axes changes

use super::slice::{assemble, check_multiple, kept_width, moments, notes, sites, unchanged};
use super::{Calibration, Entry, Rewrite, Rewritten, fold_norm};
use crate::basis::Basis;
use crate::card::Card;
use crate::error::MethodError;
use pare_model::model::Model;
use pare_model::stats::Stat;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "slice-global",
        about: "turns the whole residual stream to its principal axes once and keeps the first ones: a narrower standard model",
        source: "after SliceGPT: Compress Large Language Models by Deleting Rows and Columns, arXiv:2401.15024",
        formula: "C = sum over parts and the head of E[x x^T] of the normed stream; Q its first R eigenvectors; \
            readers W Q, writers Q^T W, embedding E Q, head E diag(g) Q; every norm has the gain sqrt(C / R) and \
            eps' = eps C / R",
        needs: &[Stat::Gram],
        parameters: &["block"],
        grains: &[],
        cost: "one pass, one eigendecomposition [C, C]; a tied head becomes a matrix of its own",
        departs: "one turn for all parts instead of one each, so that there are no shortcuts",
        exactness: 1e-4,
    },
    removes: true,
    uniform: true,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        let multiple = settings.block.unwrap_or(32);
        check_multiple(multiple)?;
        Ok(Box::new(SliceGlobal { multiple }))
    },
};

/// Sites observed together: their moments are in memory at once.
const TOGETHER: usize = 16;

/// One basis for the whole model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceGlobal {
    /// The width is a multiple of this.
    pub multiple: usize,
}

impl Rewrite for SliceGlobal {
    fn rewrite(&self, model: &Model, keep: f64, calibration: &mut dyn Calibration) -> Result<Rewritten, MethodError> {
        let Some(kept) = kept_width(model, keep, self.multiple)? else { return Ok(unchanged(model)) };
        let sliced = turned(model, kept, calibration)?;
        Ok(Rewritten { notes: notes(model, &sliced), model: sliced })
    }

    fn check(&self, model: &Model, keep: f64) -> Result<(), MethodError> {
        kept_width(model, keep, self.multiple).map(|_| ())
    }
}

/// The model in one basis of `kept` axes.
pub(super) fn turned(model: &Model, kept: usize, calibration: &mut dyn Calibration) -> Result<Model, MethodError> {
    let folded = fold_norm::of_all(model)?;
    let (sites, width) = (sites(&folded), folded.architecture.hidden);
    let mut sum = vec![0.0; width * width];
    for sites in sites.chunks(TOGETHER) {
        for gram in moments(&folded, sites, calibration)? {
            sum.iter_mut().zip(gram).for_each(|(sum, value)| *sum += value);
        }
    }
    let basis = Basis::principal("residual stream", &sum, width)?.first(kept);
    assemble(&folded, &sites, &vec![&basis; sites.len()], false)
}
