//! What quotas do to the model's answers: the cut and repaired model against the whole one, on a little text that no repair saw.

use super::block::{Decided, Done};
use super::prepare::Prepared;
use super::quotas::{GroupQuotaLoss, Scores};
use crate::Error;
use crate::divergence::DivergenceProbe;
use crate::progress::Work;
use crate::residual::Checkpoints;
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::plan::Plan;
use pare_model::site::Projection;
use std::collections::BTreeMap;

/// Tokens that are measured on at most.
const TOKENS: usize = 1024;
/// Tokens of a window: what a choice of widths does is seen in short windows too.
const WINDOW: usize = 128;
/// Logits of the whole model that are held at most.
const REFERENCE_BYTES: usize = 256 << 20;
/// Weights of variants that are kept for the next question.
const VARIANT_BYTES: usize = 1 << 30;

/// Quotas of all groups of one block: what decides the block's variant.
type Choice = Vec<(usize, usize, usize)>;

/// Calibration text in two parts that share no token, see [`crate::split::Split`].
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    /// What repairs see.
    pub(super) fit: &'a [Vec<u32>],
    /// What is measured on.
    pub(super) select: &'a [Vec<u32>],
}

/// A part of `text`: short windows, no more tokens than their logits have room.
fn cut(text: &[Vec<u32>], vocab: usize) -> Vec<Vec<u32>> {
    let fitting = REFERENCE_BYTES / 4 / vocab.max(1);
    // The first window of every sequence, then the second of every one, and so on.
    let longest = text.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest.div_ceil(WINDOW))
        .flat_map(|place| text.iter().filter_map(move |sequence| sequence.chunks(WINDOW).nth(place)))
        .filter(|window| window.len() > 1)
        .map(<[u32]>::to_vec)
        .take(TOKENS.min(fitting).div_ceil(WINDOW).max(1))
        .collect()
}

/// Measures quotas.
pub(super) struct Divergences<'a> {
    prepared: &'a Prepared<'a>,
    model: &'a Model,
    scores: &'a [Scores],
    bias_allowed: &'a dyn Fn(Projection) -> bool,
    /// What repairs see.
    fit: Checkpoints<'a>,
    /// What is measured on.
    select: Checkpoints<'a>,
    probe: DivergenceProbe,
    variants: BTreeMap<(usize, Choice), Block>,
    variant_bytes: usize,
    work: Work<'a>,
}

impl<'a> Divergences<'a> {
    /// Runs the whole model on a part of both texts.
    pub(super) fn new(
        prepared: &'a Prepared<'a>,
        model: &'a Model,
        scores: &'a [Scores],
        texts: Texts<'_>,
        bias_allowed: &'a dyn Fn(Projection) -> bool,
        work: Work<'a>,
    ) -> Result<Self, Error> {
        let [fit, windows] = [texts.fit, texts.select].map(|text| cut(text, model.architecture.vocab));
        let (fit, mut select) = (Checkpoints::of(model, &fit, work)?, Checkpoints::of(model, &windows, work)?);
        let end = select.before(model.blocks.len());
        let probe = DivergenceProbe::new(model, windows, (0..end.tokens()).collect(), end, work.pool);
        let variants = BTreeMap::new();
        Ok(Self { prepared, model, scores, bias_allowed, fit, select, probe, variants, variant_bytes: 0, work })
    }

    /// Drops the blocks that were kept for the next question.
    pub(super) fn forget(&mut self) {
        self.variants.clear();
        self.variant_bytes = 0;
    }

    /// The block with `choice` carried out, repaired on the stream of the whole model.
    fn variant(&mut self, index: usize, choice: &Choice) -> Result<Block, Error> {
        if let Some(block) = self.variants.get(&(index, choice.clone())) {
            return Ok(block.clone());
        }
        let mut plan = Plan::default();
        for &(cut, group, quota) in choice {
            let (cut, scores) = (&self.prepared.cuts[cut], &self.scores[cut][group]);
            plan.edits.extend(cut.candidates[group].edit(cut.cut, scores, quota, &self.model.blocks[index])?);
        }
        let stream = Some(self.fit.before(index));
        let decided = Decided { plan, quotas: None };
        let original = (index, &self.model.blocks[index]);
        let done: Done = self.prepared.finish_cuts(original, &decided, stream, self.bias_allowed, self.work)?;
        let bytes: usize = done.block.linears().map(|(_, linear)| linear.weight.bytes()).sum();
        if self.variant_bytes + bytes <= VARIANT_BYTES {
            self.variant_bytes += bytes;
            self.variants.insert((index, choice.clone()), done.block.clone());
        }
        Ok(done.block)
    }
}

impl GroupQuotaLoss for Divergences<'_> {
    fn divergence(&mut self, quotas: &[Vec<usize>]) -> Result<f64, Error> {
        self.work.interrupt.check()?;
        let mut choices: BTreeMap<usize, Choice> = BTreeMap::new();
        for (cut, (prepared, quotas)) in self.prepared.cuts.iter().zip(quotas).enumerate() {
            for (group, (candidates, &quota)) in prepared.candidates.iter().zip(quotas).enumerate() {
                if quota < candidates.units {
                    choices.entry(candidates.site.block).or_default().push((cut, group, quota));
                }
            }
        }
        if choices.is_empty() {
            return Ok(0.0);
        }
        let mut changed = self.model.clone();
        for (index, choice) in choices {
            changed.blocks[index] = self.variant(index, &choice)?;
        }
        self.probe.divergence(&changed, Some(&mut self.select), self.work)
    }
}
