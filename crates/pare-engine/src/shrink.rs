//! Observe, score, allocate, cut, repair, encode: a model and a recipe in, a smaller model and its plan out.
//!
//! Block by block: a block is finished, and, where there is a job directory, written to it and read from there from then on. So a model
//! that is larger than the memory passes through, and a run that was killed goes on where it was.

mod block;
pub(crate) mod curve;
pub mod job;
mod measure;
mod possible;
mod prepare;
mod quotas;
mod reader;
mod round;
mod shares;

pub use block::Done;
pub use shares::kept_shares;

use crate::as_read::AsRead;
use crate::candidates::projection_weights;
use crate::observe::{Needs, observe};
use crate::progress::Work;
use crate::recipe::{Encode, Recipe};
use crate::residual::ResidualStream;
use crate::shrink::job::JobDirectory;
use crate::split::Split;
use crate::{Error, parallel, rewriting};
use block::Decided;
use measure::{Divergences, Texts};
use pare_methods::card::Grain;
use pare_methods::{compensate, encode, rewrite};
use pare_model::model::Model;
use pare_model::plan::{Edit, Plan};
use pare_model::site::Projection;
use pare_model::stats::Stats;
use prepare::Prepared;
use quotas::{FeasibilityProbe, GroupQuotaLoss, Scores};
use serde::{Deserialize, Serialize};

/// How to shrink.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What to remove and how to repair.
    pub recipe: &'a Recipe,
    /// Share of the blocks' projection weights that stays.
    pub keep: f64,
    /// Calibration text, cut into sequences of tokens.
    pub calibration: &'a [Vec<u32>],
    /// Seed of what draws.
    pub seed: u64,
    /// Whether a repair may add a bias to a projection: the format that will hold the model must have a place for it.
    pub bias_allowed: &'a dyn Fn(Projection) -> bool,
    /// In which blocks matrices are rounded again that do not stay as they were read; none leaves them plain.
    pub form: Option<&'a AsRead>,
    /// Where finished blocks are kept, so that a killed run can go on; without it they stay in memory.
    pub job: Option<&'a JobDirectory>,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smaller model.
    pub model: Model,
    /// The model after the rewrites and before the cuts: what the plan speaks of.
    pub base: Model,
    /// What was removed from it.
    pub plan: Plan,
    /// Share of the numbers of the blocks' projections that stayed.
    pub kept: f64,
    /// What each repair found.
    pub repairs: Vec<Repair>,
    /// What each encoding found.
    pub encoded: Vec<Encoded>,
    /// What the rewrites say, and whatever else there is to say.
    pub notes: Vec<String>,
    /// Why nothing left although it was asked for; one of the notes.
    pub nothing_left: Option<String>,
}

/// One repair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repair {
    /// The projection that was repaired.
    pub projection: Projection,
    /// Its block, as numbered before the cut.
    pub block: usize,
    /// Calibration errors and damping.
    pub info: compensate::Info,
}

/// One encoding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoded {
    /// The projection that was encoded.
    pub projection: Projection,
    /// Its block, as numbered before the cut.
    pub block: usize,
    /// Calibration error and damping.
    pub info: encode::Info,
}

impl Shrunk {
    /// What to say when nothing left a model of `whole` weights although it was asked for.
    fn why_nothing_left(&self, request: &Request<'_>, whole: u64) -> Option<String> {
        let Request { recipe, keep, .. } = request;
        let removing = |step: &Encode| encode::find(&step.method).is_ok_and(|entry| entry.removes);
        let encodes = recipe.encode.iter().any(removing);
        let all = |[rows, columns]: [usize; 2]| (rows * columns) as u64;
        let masks = |edit: &Edit| matches!(edit, Edit::Mask { mask, .. } if mask.count() < all(mask.shape()));
        let is_whole = all_weights(&self.model) >= whole && !encodes && !self.plan.edits.iter().any(masks);
        (recipe.removes() && *keep < 1.0 && is_whole).then(|| {
            format!(
                "recipe {} removed nothing at keep {keep}: what leaves is rounded to whole units, and less than one would leave of this model; \
                 a smaller keep removes some",
                recipe.name
            )
        })
    }
}

fn all_weights(model: &Model) -> u64 {
    model.blocks.iter().map(projection_weights).sum()
}

/// Refuses what [`shrink`] would refuse for the sizes of the model alone, whatever the calibration text.
///
/// # Errors
/// A `keep` that the recipe cannot reach; a matrix of any block that a pattern, a rank or a block type of the recipe does not fit; a model
/// that a rewrite does not serve. What a rewrite leaves of a model is not known here: [`shrink`] looks at it before the first block.
pub fn check(model: &Model, recipe: &Recipe, keep: f64, form: Option<&AsRead>) -> Result<(), Error> {
    let prepared = Prepared::new(model, recipe, keep, 0, all_weights(model))?.in_form(form, model);
    prepared.check_rewrites(model)?;
    let quotas = prepared.check_shares()?;
    if prepared.sees_sizes() { prepared.check_sizes(model, &quotas) } else { Ok(()) }
}

impl Prepared<'_> {
    /// Scores that say nothing, of the right length.
    fn flat_scores(&self) -> Vec<Scores> {
        let flat = |cut: &prepare::PreparedCut<'_>| cut.candidates.iter().map(|group| vec![0.0; group.units]).collect();
        self.cuts.iter().map(flat).collect()
    }

    /// Quotas of cuts whose allocation looks at the number of units alone. Group by group: single weights are too many for one list.
    fn blind_quotas(&self) -> Result<Vec<Vec<usize>>, Error> {
        let mut quotas = Vec::new();
        for cut in &self.cuts {
            let mut own = Vec::new();
            for group in &cut.candidates {
                own.push(match cut.cut.grain {
                    // As many of every row: `uniform` on the whole matrix, without a number for each weight.
                    Grain::Weight => (cut.keep * group.units as f64).round() as usize,
                    _ => 0,
                });
            }
            quotas.push(own);
        }
        if self.cuts.iter().all(|cut| cut.cut.grain == Grain::Weight) {
            return Ok(quotas);
        }
        self.quotas(&self.flat_scores(), &mut FeasibilityProbe)
    }

    /// Whether a choice is made by measuring: a part of the calibration text is for that alone.
    fn selects(&self) -> bool {
        self.cuts.iter().any(|cut| cut.measures)
    }

    /// What is decided before the first block is touched. Scores are of the text of `request`, choices of `select`.
    fn decide(
        &self,
        model: &Model,
        request: &Request<'_>,
        select: &[Vec<u32>],
        work: Work<'_>,
    ) -> Result<Decided, Error> {
        let sequential = self.recipe.sequential;
        let blind = !self.recipe.joint && self.cuts.iter().all(prepare::PreparedCut::is_blind);
        if self.cuts.is_empty() {
            return Ok(Decided { plan: Plan::default(), quotas: None });
        }
        if blind && sequential {
            return Ok(Decided { plan: Plan::default(), quotas: Some(self.blind_quotas()?) });
        }
        let needs: Needs = self.cuts.iter().flat_map(|cut| cut.score_needs(None)).collect();
        let stats =
            if needs.is_empty() { Stats::default() } else { observe(model, request.calibration, &needs, work)? };
        if blind {
            let quotas = self.blind_quotas()?;
            return Ok(Decided { plan: self.plan(model, &quotas, &stats, None, work)?, quotas: None });
        }
        let scores = self.scores(model, &stats, work)?;
        let mut measured: Box<dyn GroupQuotaLoss + '_> = match self.selects() {
            false => Box::new(FeasibilityProbe),
            true => {
                let texts = Texts { fit: request.calibration, select };
                Box::new(Divergences::new(self, model, &scores, texts, request.bias_allowed, work)?)
            }
        };
        let quotas = self.quotas(&scores, measured.as_mut())?;
        drop(measured);
        if sequential {
            return Ok(Decided { plan: Plan::default(), quotas: Some(quotas) });
        }
        Ok(Decided { plan: self.plan(model, &quotas, &stats, Some(&scores), work)?, quotas: None })
    }

    fn scores(&self, model: &Model, stats: &Stats, work: Work<'_>) -> Result<Vec<Scores>, Error> {
        let mut all = Vec::new();
        for cut in &self.cuts {
            let score = |at: usize| {
                let group = &cut.candidates[at];
                work.interrupt.check()?;
                group.score(cut.score.as_ref(), &model.blocks[group.site.block], stats)
            };
            all.push(parallel::each(cut.candidates.len(), work.pool, &score)?);
        }
        Ok(all)
    }

    /// Every edit, from scores that are there or made now, group by group.
    fn plan(
        &self,
        model: &Model,
        quotas: &[Vec<usize>],
        stats: &Stats,
        scores: Option<&[Scores]>,
        work: Work<'_>,
    ) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        for (index, (cut, quotas)) in self.cuts.iter().zip(quotas).enumerate() {
            let edit = |at: usize| {
                work.interrupt.check()?;
                let (group, block) = (&cut.candidates[at], &model.blocks[cut.candidates[at].site.block]);
                match scores {
                    Some(scores) => group.edit(cut.cut, &scores[index][at], quotas[at], block),
                    None => {
                        let scores = group.score(cut.score.as_ref(), block, stats)?;
                        group.edit(cut.cut, &scores, quotas[at], block)
                    }
                }
            };
            plan.edits.extend(parallel::each(cut.candidates.len(), work.pool, &edit)?.into_iter().flatten());
        }
        Ok(plan)
    }
}

/// Rows of a multiple of this are whole blocks of the short types, which the long ones fall back to.
const WHOLE_BLOCKS: usize = 32;

/// The model after the rewrites of the recipe, and what they say.
fn rewritten(model: &Model, request: &Request<'_>, work: Work<'_>) -> Result<(Model, Vec<String>), Error> {
    let (mut model, mut notes) = (model.clone(), Vec::new());
    for (index, step) in request.recipe.rewrite.iter().enumerate() {
        let keep = prepare::rewrite_keep(request.recipe, index, request.keep);
        let Request { calibration, seed, .. } = *request;
        let mut with = step.with.clone();
        // Widths that stay whole blocks, where the method can be told so.
        if request.form.is_some()
            && with.block.is_none()
            && rewrite::find(&step.method)?.card.parameters.contains(&"block")
        {
            with.block = Some(WHOLE_BLOCKS);
        }
        let made = rewriting::rewrite(&model, &step.method, &with, keep, calibration, seed, work)?;
        model = made.model;
        notes.extend(made.notes);
    }
    Ok((model, notes))
}

/// Shrinks `model`.
///
/// The scores see the dense model, or, for a sequential recipe, each block sees what the cut blocks before it produce. Repairs and
/// encodings always see the latter: they must undo the damage that reaches them, too.
///
/// # Errors
/// A `keep` that the recipe cannot reach; what a method refuses; activations that are not finite; the user stops it.
pub fn shrink(model: &Model, request: &Request<'_>, work: Work<'_>) -> Result<Shrunk, Error> {
    let whole = all_weights(model);
    let (numbers, mut numbers_kept) = (model.blocks.iter().map(shares::numbers).sum::<u64>(), 0);
    check(model, request.recipe, request.keep, request.form)?;
    let (base, notes) = rewritten(model, request, work)?;
    let model = &base;
    let prepared =
        Prepared::new(model, request.recipe, request.keep, request.seed, whole)?.in_form(request.form, model);
    prepared.check_sizes(model, &prepared.check_shares()?)?;
    let split = match prepared.selects() {
        true => Split::of(request.calibration)?,
        false => Split { fit: request.calibration.to_vec(), select: Vec::new() },
    };
    let request = &Request { calibration: &split.fit, ..*request };
    let decided = prepared.decide(model, request, &split.select, work)?;
    let mut shrunk = Shrunk {
        model: model.clone(),
        base: model.clone(),
        plan: Plan::default(),
        kept: 1.0,
        repairs: Vec::new(),
        encoded: Vec::new(),
        notes,
        nothing_left: None,
    };
    let mut stream = prepared.needs_stream().then(|| ResidualStream::embed(model, request.calibration));
    work.progress.begin("cutting", model.blocks.len() as u64);
    for (index, original) in model.blocks.iter().enumerate() {
        work.interrupt.check()?;
        let kept = match request.job {
            Some(job) => job.load(index, original)?,
            None => None,
        };
        let done = match kept {
            Some(done) => done,
            None => {
                let finish = (index, original);
                let done = prepared.finish(finish, &decided, stream.as_mut(), request.bias_allowed, work)?;
                match request.job {
                    Some(job) => job.store(index, original, done)?,
                    None => done,
                }
            }
        };
        if let Some(stream) = &mut stream {
            stream.advance(index, &done.block, work)?;
        }
        numbers_kept += shares::kept_numbers(&done);
        shrunk.model.blocks[index] = done.block;
        shrunk.plan.edits.extend(done.edits);
        shrunk.repairs.extend(done.repairs);
        shrunk.encoded.extend(done.encoded);
        work.progress.advance(1, &loss_so_far(&shrunk));
    }
    work.progress.end();
    if let Some(form) = request.form {
        form.round_shared(&mut shrunk.model, work)?;
        shrunk.notes.extend(form.remarks(&shrunk.model));
    }
    shrunk.model.remove_empty_blocks();
    shrunk.kept = numbers_kept as f64 / numbers.max(1) as f64;
    shrunk.nothing_left = shrunk.why_nothing_left(request, whole);
    shrunk.notes.extend(shrunk.nothing_left.clone());
    Ok(shrunk)
}

/// How much of the squared error of the cuts is left, for people who wait.
fn loss_so_far(shrunk: &Shrunk) -> String {
    let before: f64 = shrunk.repairs.iter().filter_map(|repair| repair.info.error_before).sum();
    let after: f64 = shrunk.repairs.iter().filter_map(|repair| repair.info.error_after).sum();
    let encoded: f64 = shrunk.encoded.iter().filter_map(|encoded| encoded.info.error).sum();
    match (before > 0.0, encoded > 0.0) {
        (true, _) => format!("{:.1} % of the error left", 100.0 * after / before),
        (false, true) => format!("error {encoded:.3e} so far"),
        (false, false) => String::new(),
    }
}
