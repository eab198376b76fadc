//! Distortion curves: how far the answers move when more and more of one block leaves, and nothing else does.

use super::measure::{Divergences, Texts};
use super::prepare::Prepared;
use super::quotas::GroupQuotaLoss;
use super::{Scores, all_weights};
use crate::Error;
use crate::figures::{BlockCurve, CurvePoint};
use crate::observe::{Needs, observe};
use crate::progress::Work;
use crate::recipe::{Cut, Recipe};
use crate::split::Split;
use pare_methods::card::Grain;
use pare_methods::select::Compare;
use pare_model::model::Model;

/// Shares of a block's channels that are removed, one after the other.
pub const LEVELS: [f64; 4] = [0.1, 0.25, 0.5, 1.0];

/// Score that says which channels leave first.
const SCORE: &str = "wanda";
/// Sequences that the score is observed on at most.
const SCORED: usize = 8;

/// Places of the cuts in the recipe.
const CHANNELS: usize = 0;
const FFN: usize = 1;
const BLOCK: usize = 2;

/// The curve of every block: mean divergences of the whole model on at most 1024 tokens of `calibration`, for the channels of each block
/// removed at `levels` (shares, 0..=1), and for the block dropped. Nothing is repaired. What is measured on is not what the channels are
/// scored on, see [`Split`].
///
/// Costs one pass of these tokens through the blocks from the changed one on, and through the head, for each level of each block.
///
/// # Errors
/// Activations that are not finite; a text too short to be split; the user stops it.
pub fn curve(
    model: &Model,
    calibration: &[Vec<u32>],
    levels: &[f64],
    work: Work<'_>,
) -> Result<Vec<BlockCurve>, Error> {
    let recipe = single_removals();
    let prepared = Prepared::new(model, &recipe, 1.0, 0, all_weights(model))?;
    let Split { fit, select } = Split::of(calibration)?;
    let fit = &fit[..fit.len().min(SCORED)];
    let scores = prepared.channel_scores(model, fit, work)?;
    let texts = Texts { fit, select: &select };
    let mut divergences = Divergences::new(&prepared, model, &scores, texts, &|_| false, work)?;
    let whole: Vec<Vec<usize>> =
        prepared.cuts.iter().map(|cut| cut.candidates.iter().map(|group| group.units).collect()).collect();
    let mut without = |cut: usize, group: usize, quota: usize| {
        let mut quotas = whole.clone();
        quotas[cut][group] = quota;
        let kl = divergences.divergence(&quotas);
        // No block is asked for twice.
        divergences.forget();
        kl
    };
    // Candidates of a kind are in the order of the blocks, and only blocks that have them count.
    let (mut ffn, mut curves) = (0, Vec::new());
    work.progress.begin("removing", model.blocks.len() as u64);
    for (index, block) in model.blocks.iter().enumerate() {
        let mut channels = Vec::new();
        if let Some(part) = &block.ffn {
            let width = part.width();
            for &level in levels {
                let removed_channels = (level * width as f64).round() as usize;
                let kl_mean = match width.saturating_sub(removed_channels) {
                    0 if part.shortcut.is_some() => continue,
                    0 => without(FFN, ffn, 0)?,
                    quota => without(CHANNELS, ffn, quota)?,
                };
                channels.push(CurvePoint { level, removed_channels: removed_channels.min(width), kl_mean });
            }
            ffn += 1;
        }
        let stays = block.shortcuts().next().is_some();
        let dropped = if stays { None } else { Some(without(BLOCK, index, 0)?) };
        curves.push(BlockCurve { channels, dropped });
        work.progress.advance(1, "");
    }
    work.progress.end();
    Ok(curves)
}

/// A recipe that is never carried out as a whole: it names what can leave.
fn single_removals() -> Recipe {
    let cut = |grain| Cut::by(grain, SCORE, Compare::Row);
    Recipe {
        name: "curve".to_owned(),
        about: String::new(),
        source: String::new(),
        departs: String::new(),
        keep: 1.0,
        sequential: false,
        joint: false,
        rewrite: Vec::new(),
        cut: vec![cut(Grain::Channel), cut(Grain::Ffn), cut(Grain::Block)],
        encode: Vec::new(),
    }
}

impl Prepared<'_> {
    /// Scores of channels; parts are alone in their groups and need none.
    fn channel_scores(&self, model: &Model, text: &[Vec<u32>], work: Work<'_>) -> Result<Vec<Scores>, Error> {
        let channels = &self.cuts[CHANNELS];
        let needs: Needs = channels.score_needs(None);
        let stats = observe(model, text, &needs, work)?;
        let mut scores = self.flat_scores();
        for (group, scores) in channels.candidates.iter().zip(&mut scores[CHANNELS]) {
            *scores = group.score(channels.score.as_ref(), &model.blocks[group.site.block], &stats)?;
        }
        Ok(scores)
    }
}
