//! Observe, score, allocate, cut, repair: a model and a recipe in, a smaller model and its plan out.

use crate::Error;
use crate::candidates::{Candidates, projection_weights};
use crate::observe::{Needs, States, observe};
use crate::progress::Work;
use crate::recipe::{Cut, Recipe};
use pare_methods::allocate::{self, Row, Unmeasured};
use pare_methods::card::Grain;
use pare_methods::compensate::{self, Build, Compensate, Info};
use pare_methods::error::MethodError;
use pare_methods::score::{self, Score};
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::plan::{Edit, Plan, spread};
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// How to shrink.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What to remove and how to repair.
    pub recipe: &'a Recipe,
    /// Share of the blocks' projection weights that stays.
    pub keep: f64,
    /// Calibration text, cut into sequences of tokens.
    pub calibration: &'a [Vec<u32>],
    /// Seed of scores that draw.
    pub seed: u64,
    /// Whether a repair may add a bias to a projection: the format that will hold the model must have a place for it.
    pub bias_allowed: &'a dyn Fn(Projection) -> bool,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smaller model.
    pub model: Model,
    /// What was removed.
    pub plan: Plan,
    /// What each repair found.
    pub repairs: Vec<Repair>,
}

/// One repair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repair {
    /// The projection that was repaired.
    pub projection: Projection,
    /// Its block, as numbered before the cut.
    pub block: usize,
    /// Calibration errors and damping.
    pub info: Info,
}

/// A cut with its methods looked up and its own share of the removal worked out.
struct Prepared<'a> {
    cut: &'a Cut,
    score: Box<dyn Score>,
    needs: &'static [Stat],
    repair: Option<(Box<dyn Compensate>, &'static [Stat])>,
    candidates: Vec<Candidates>,
    /// Share of the candidates that stays.
    keep: f64,
    /// Share of all projection weights that stays: what the user asked for.
    asked: f64,
}

fn prepare<'a>(model: &Model, recipe: &'a Recipe, keep: f64, seed: u64) -> Result<Vec<Prepared<'a>>, Error> {
    if !(keep > 0.0 && keep <= 1.0) {
        return Err(Error::Keep { keep, why: "it must be above 0 and at most 1".into() });
    }
    let whole: u64 = model.blocks.iter().map(projection_weights).sum();
    let mut prepared = Vec::new();
    for cut in &recipe.cut {
        let score = score::ENTRIES.iter().find(|entry| entry.card.name == cut.score).ok_or(Error::Recipe)?;
        let repair = match &cut.compensate {
            None => None,
            Some(name) => {
                let entry = compensate::ENTRIES.iter().find(|entry| entry.card.name == name).ok_or(Error::Recipe)?;
                let Build::Columns(build) = entry.build else { return Err(Error::Recipe) };
                Some((build(&Settings::default())?, entry.card.needs))
            }
        };
        let candidates = Candidates::of_model(cut.grain, model);
        let reachable: u64 = candidates.iter().map(|group| group.units as u64 * group.unit_cost).sum();
        let removed = cut.share * (1.0 - keep) * whole as f64;
        if removed > 0.0 && removed >= reachable as f64 {
            let why = format!(
                "it asks the cut of {:?} units to remove {removed:.0} weights, and they hold {reachable}; a recipe with more kinds of cut, or a larger keep, is needed",
                cut.grain
            );
            return Err(Error::Keep { keep, why });
        }
        let own = if reachable == 0 { 1.0 } else { 1.0 - removed / reachable as f64 };
        let needs = score.card.needs;
        if matches!(cut.compare, Compare::TwoOfFour | Compare::FourOfEight) && (own - 0.5).abs() > 1e-6 {
            let why = format!("the recipe's pattern keeps half of the weights that it compares, not {own}");
            return Err(Error::Keep { keep, why });
        }
        let score = (score.build)(seed);
        prepared.push(Prepared { cut, score, needs, repair, candidates, keep: own, asked: keep });
    }
    Ok(prepared)
}

/// Refuses what [`shrink`] would refuse before it looks at the calibration text.
///
/// # Errors
/// A `keep` that the recipe cannot reach.
pub fn check(model: &Model, recipe: &Recipe, keep: f64) -> Result<(), Error> {
    // Single weights have no floor that could be in the way, and are too many to try.
    for cut in prepare(model, recipe, keep, 0)?.iter().filter(|cut| cut.cut.grain != Grain::Weight) {
        let flat: Vec<Vec<f64>> = cut.candidates.iter().map(|group| vec![0.0; group.units]).collect();
        cut.quotas(&flat)?;
    }
    Ok(())
}

impl Prepared<'_> {
    fn is_part(&self) -> bool {
        matches!(self.cut.grain, Grain::Attention | Grain::Ffn | Grain::Block)
    }

    /// Statistics that the score needs in `block` (in every block, when none is given).
    fn score_needs(&self, block: Option<usize>) -> Needs {
        let here = |group: &&Candidates| block.is_none_or(|block| group.site.block == block);
        let sites = self.candidates.iter().filter(here).map(|group| group.site);
        sites.flat_map(|site| self.needs.iter().map(move |&stat| (site, stat))).collect()
    }

    /// An allocation speaks of the share of its own units; the user knows the option that it came from.
    fn told_of_option(&self, error: MethodError) -> Error {
        match error {
            MethodError::Params { key: "keep", why } => {
                Error::Keep { keep: self.asked, why: format!("of the units that can be cut, {why}") }
            }
            other => other.into(),
        }
    }

    /// How many units each group keeps, given the scores of all groups (empty when the allocation ignores them).
    fn quotas(&self, scores: &[Vec<f64>]) -> Result<Vec<usize>, Error> {
        let allocate = allocate::ENTRIES.iter().find(|entry| entry.card.name == self.cut.allocate);
        let allocate = (allocate.ok_or(Error::Recipe)?.build)(&Settings::default(), 0)?;
        if self.is_part() {
            // Parts compete with each other over the whole model: one row, one unit per block.
            let cost = self.candidates.iter().map(|group| group.unit_cost).sum::<u64>() / scores.len().max(1) as u64;
            let scores: Vec<f64> = scores.iter().flatten().copied().collect();
            let row = Row { name: format!("{:?}", self.cut.grain), scores: scores.clone(), unit_cost: cost, floor: 1 };
            let quota =
                allocate.allocate(self.keep, &[row], &mut Unmeasured).map_err(|error| self.told_of_option(error))?[0];
            let mut quotas = vec![0; scores.len()];
            for index in pare_methods::select::keep_top(&scores, quota) {
                quotas[index] = 1;
            }
            return Ok(quotas);
        }
        let rows: Vec<Row> = self
            .candidates
            .iter()
            .zip(scores)
            .map(|(group, scores)| Row {
                name: group.site.to_string(),
                scores: scores.clone(),
                unit_cost: group.unit_cost,
                floor: self.cut.multiple.min(group.units),
            })
            .collect();
        let quotas =
            allocate.allocate(self.keep, &rows, &mut Unmeasured).map_err(|error| self.told_of_option(error))?;
        let sizes: Vec<usize> = self.candidates.iter().map(|group| group.units).collect();
        Ok(round_to_multiple(&quotas, &sizes, self.cut.multiple))
    }
}

/// Rounds quotas to a multiple: all to the nearest when they are equal (so that they stay equal), else by largest remainder, so that
/// the total stays nearest to what it was. A group that keeps all its units is left alone, whatever its size.
fn round_to_multiple(quotas: &[usize], sizes: &[usize], multiple: usize) -> Vec<usize> {
    if multiple <= 1 {
        return quotas.to_vec();
    }
    let cap = |units: usize, size: usize| units.clamp(multiple.min(size), size);
    if quotas.windows(2).all(|pair| pair[0] == pair[1]) {
        let nearest = |(&quota, &size): (&usize, &usize)| {
            if quota == size { size } else { cap((quota + multiple / 2) / multiple * multiple, size) }
        };
        return quotas.iter().zip(sizes).map(nearest).collect();
    }
    let whole = |index: usize| quotas[index] == sizes[index];
    let down = |index: usize| if whole(index) { sizes[index] } else { quotas[index] / multiple * multiple };
    let mut rounded: Vec<usize> = (0..quotas.len()).map(down).collect();
    let missing = (quotas.iter().sum::<usize>() - rounded.iter().sum::<usize>() + multiple / 2) / multiple;
    let mut order: Vec<usize> = (0..quotas.len()).filter(|&index| !whole(index)).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(quotas[index] % multiple), index));
    for &index in order.iter().take(missing) {
        rounded[index] += multiple;
    }
    rounded.into_iter().zip(sizes).map(|(units, &size)| cap(units, size)).collect()
}

/// Decides every edit of a cut from statistics of the whole, uncut model.
fn plan_at_once(model: &Model, cuts: &[Prepared<'_>], stats: &Stats, work: Work<'_>) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    for cut in cuts {
        let mut scores = Vec::with_capacity(cut.candidates.len());
        for group in &cut.candidates {
            work.interrupt.check()?;
            scores.push(group.score(cut.score.as_ref(), &model.blocks[group.site.block], stats)?);
        }
        let quotas = cut.quotas(&scores)?;
        for ((group, scores), quota) in cut.candidates.iter().zip(&scores).zip(quotas) {
            plan.edits.extend(group.edit(cut.cut, scores, quota, &model.blocks[group.site.block])?);
        }
    }
    Ok(plan)
}

/// Shrinks `model`.
///
/// The scores see the dense model, or, for a sequential recipe, each block sees what the cut blocks before it produce. Repairs always
/// see the latter: they must undo the damage that reaches them, too.
///
/// # Errors
/// A `keep` that the recipe cannot reach; what a method refuses; activations that are not finite; the user stops it.
pub fn shrink(model: &Model, request: &Request<'_>, work: Work<'_>) -> Result<Shrunk, Error> {
    let cuts = prepare(model, request.recipe, request.keep, request.seed)?;
    let mut plan = Plan::default();
    let mut sequential_quotas = Vec::new();
    if request.recipe.sequential {
        for cut in &cuts {
            // `uniform` looks at the number of units alone, which the recipe's check has made sure of.
            let flat: Vec<Vec<f64>> = cut.candidates.iter().map(|group| vec![0.0; group.units]).collect();
            sequential_quotas.push(cut.quotas(&flat)?);
        }
    } else {
        let needs: Needs = cuts.iter().flat_map(|cut| cut.score_needs(None)).collect();
        let stats =
            if needs.is_empty() { Stats::default() } else { observe(model, request.calibration, &needs, work)? };
        plan = plan_at_once(model, &cuts, &stats, work)?;
    }

    let repairs_wanted = cuts.iter().any(|cut| cut.repair.is_some());
    if !request.recipe.sequential && !repairs_wanted {
        return Ok(Shrunk { model: model.apply(&plan)?, plan, repairs: Vec::new() });
    }

    let mut shrunk = Shrunk { model: model.clone(), plan: Plan::default(), repairs: Vec::new() };
    let mut states = States::embed(model, request.calibration);
    work.progress.begin("cutting", model.blocks.len() as u64);
    for (index, original) in model.blocks.iter().enumerate() {
        let mut block = original.clone();
        let mut edits: Vec<Edit> = plan.edits.iter().filter(|edit| edit.block() == index).cloned().collect();
        if request.recipe.sequential {
            let needs: Needs = cuts.iter().flat_map(|cut| cut.score_needs(Some(index))).collect();
            let stats = states.observe(index, &block, &needs, work)?;
            for (cut, quotas) in cuts.iter().zip(&sequential_quotas) {
                for (group, &quota) in cut.candidates.iter().zip(quotas).filter(|(group, _)| group.site.block == index)
                {
                    let scores = group.score(cut.score.as_ref(), original, &stats)?;
                    edits.extend(group.edit(cut.cut, &scores, quota, original)?);
                }
            }
        }
        edits.sort_by_key(order_of_repair);
        for edit in edits {
            let repair = cuts.iter().find(|cut| repairs(cut.cut.grain, &edit)).and_then(|cut| cut.repair.as_ref());
            match repair {
                None => block.apply(index, &edit)?,
                Some((repair, stats)) => {
                    let cut = CutReader::of(&block, &edit)?;
                    let site = Site::new(index, cut.projection.input());
                    let needs = stats.iter().map(|&stat| (site, stat)).collect();
                    let stats = states.observe(index, &block, &needs, work)?;
                    let info = cut.repair(
                        &mut block,
                        &edit,
                        repair.as_ref(),
                        &stats,
                        (index, (request.bias_allowed)(cut.projection)),
                    )?;
                    shrunk.repairs.push(Repair { projection: cut.projection, block: index, info });
                }
            }
            shrunk.plan.edits.push(edit);
        }
        states.pass(index, &block, work)?;
        shrunk.model.blocks[index] = block;
        work.progress.advance(1, "");
    }
    work.progress.end();
    shrunk.model.remove_empty_blocks();
    Ok(shrunk)
}

/// Attention is cut and repaired before the feed-forward part, which reads its output.
fn order_of_repair(edit: &Edit) -> u8 {
    match edit {
        Edit::KeepGroups { .. } | Edit::DropAttention { .. } => 0,
        Edit::Mask { .. } | Edit::DropBlock { .. } => 1,
        Edit::KeepChannels { .. } | Edit::DropFfn { .. } => 2,
    }
}

fn repairs(grain: Grain, edit: &Edit) -> bool {
    matches!((grain, edit), (Grain::Channel, Edit::KeepChannels { .. }) | (Grain::Group, Edit::KeepGroups { .. }))
}

/// The reader of removed units, before the cut.
struct CutReader {
    projection: Projection,
    reader: Linear,
    kept: Vec<usize>,
}

impl CutReader {
    fn of(block: &Block, edit: &Edit) -> Result<Self, Error> {
        let (projection, kept) = match edit {
            Edit::KeepChannels { channels, .. } => (Projection::Down, channels.clone()),
            Edit::KeepGroups { groups, .. } => {
                let width = block.attention().map_or(0, |attention| attention.group_width());
                (Projection::O, spread(groups, width))
            }
            _ => return Err(Error::Recipe),
        };
        let reader = block.linear(projection).ok_or(Error::Recipe)?.clone();
        Ok(Self { projection, reader, kept })
    }

    fn repair(
        &self,
        block: &mut Block,
        edit: &Edit,
        repair: &dyn Compensate,
        stats: &Stats,
        (index, bias_allowed): (usize, bool),
    ) -> Result<Info, Error> {
        let reader = self.reader.to_matrix();
        let cut = compensate::Cut {
            site: Site::new(index, self.projection.input()),
            reader: &reader,
            bias: self.reader.bias.as_deref(),
            kept: &self.kept,
            bias_allowed,
        };
        let repaired = repair.compensate(&cut, stats)?;
        block.apply(index, edit)?;
        let linear = block.linear_mut(self.projection).ok_or(Error::Recipe)?;
        *linear = Linear { weight: Arc::new(Dense(repaired.weight)), bias: repaired.bias.map(Into::into) };
        Ok(repaired.info)
    }
}

/// What share of each part of each block is left: `(attention, ffn)`, in stored numbers, by the original numbering.
pub fn kept_shares(before: &Model, plan: &Plan) -> Vec<(f64, f64)> {
    let mut shares = vec![(1.0, 1.0); before.blocks.len()];
    for edit in &plan.edits {
        let block = &before.blocks[edit.block()];
        let share = &mut shares[edit.block()];
        match edit {
            Edit::KeepChannels { channels, .. } => {
                share.1 = channels.len() as f64 / block.ffn.as_ref().map_or(1, |ffn| ffn.width()) as f64;
            }
            Edit::KeepGroups { groups, .. } => {
                share.0 = groups.len() as f64 / block.attention().map_or(1, |part| part.groups) as f64;
            }
            Edit::DropAttention { .. } => share.0 = 0.0,
            Edit::DropFfn { .. } => share.1 = 0.0,
            Edit::DropBlock { .. } => *share = (0.0, 0.0),
            Edit::Mask { projection, mask, .. } => {
                let [rows, cols] = mask.shape();
                let removed = (rows * cols) as f64 - mask.count() as f64;
                let part = projection.input();
                let of_attention = matches!(part, Point::AttentionIn | Point::AttentionOut);
                let whole = if of_attention { block.attention_parameters() } else { block.ffn_parameters() };
                let share = if of_attention { &mut share.0 } else { &mut share.1 };
                *share -= removed / whole.max(1) as f64;
            }
        }
    }
    shares
}
