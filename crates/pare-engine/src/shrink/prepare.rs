//! The stages of a recipe with their methods looked up, and what each of them has to remove.

use super::round::InForm;
use crate::Error;
use crate::candidates::{Candidates, projection_weights};
use crate::observe::Needs;
use crate::recipe::{Cut, Encode, Recipe};
use pare_methods::allocate::{self, Allocate};
use pare_methods::card::Grain;
use pare_methods::compensate::{self, Build, Compensate, RefitMasked};
use pare_methods::encode::Task;
use pare_methods::error::shown;
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_methods::{encode, rewrite, score};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::site::{Projection, Site};
use pare_model::stats::Stat;

/// A repair, and the statistics that it needs.
pub(super) struct Repairer<M: ?Sized> {
    pub(super) method: Box<M>,
    pub(super) needs: &'static [Stat],
}

/// A cut with its methods.
pub(super) struct PreparedCut<'a> {
    pub(super) cut: &'a Cut,
    pub(super) score: Box<dyn score::Score>,
    pub(super) needs: &'static [Stat],
    pub(super) allocate: Box<dyn Allocate>,
    /// Whether the allocation measures, and whether it looks at scores at all.
    pub(super) measures: bool,
    /// For channels and groups.
    pub(super) columns: Option<Repairer<dyn Compensate>>,
    /// For weights.
    pub(super) refit: Option<Repairer<dyn RefitMasked>>,
    pub(super) candidates: Vec<Candidates>,
    /// Share of the candidates that stays.
    pub(super) keep: f64,
    /// What stays is a multiple of this many units.
    pub(super) multiple: usize,
}

impl PreparedCut<'_> {
    /// Whether its units are whole parts, of which a block has one.
    pub(super) fn is_part(&self) -> bool {
        matches!(self.cut.grain, Grain::Attention | Grain::Ffn | Grain::Block)
    }

    /// Whether quotas are known without scores.
    pub(super) fn is_blind(&self) -> bool {
        self.cut.allocate == "uniform" && !self.is_part()
    }

    /// Statistics that the score needs in `block` (in every block, when none is given).
    pub(super) fn score_needs(&self, block: Option<usize>) -> Needs {
        let here = |group: &&Candidates| block.is_none_or(|block| group.site.block == block);
        let sites = self.candidates.iter().filter(here).map(|group| group.site);
        sites.flat_map(|site| self.needs.iter().map(move |&stat| (site, stat))).collect()
    }
}

/// An encoding with its methods.
pub(super) struct PreparedEncode<'a> {
    pub(super) step: &'a Encode,
    pub(super) method: Box<dyn encode::Encode>,
    pub(super) needs: &'static [Stat],
    pub(super) refit: Option<Repairer<dyn RefitMasked>>,
    /// Share of each matrix that stays.
    pub(super) keep: f64,
}

impl PreparedEncode<'_> {
    pub(super) fn serves(&self, projection: Projection) -> bool {
        self.step.projections.is_empty() || self.step.projections.contains(&projection)
    }

    /// What is asked of the method for `weight`, projection `projection` of block `index`.
    pub(super) fn task<'w>(&self, index: usize, projection: Projection, weight: &'w Matrix) -> Task<'w> {
        Task { site: Site::new(index, projection.input()), weight, keep: self.keep, compare: self.step.compare }
    }

    /// Statistics that it needs at the input of `projection`.
    pub(super) fn needs(&self, block: usize, projection: Projection) -> impl Iterator<Item = (Site, Stat)> {
        let site = Site::new(block, projection.input());
        let repair = self.refit.as_ref().map_or(&[][..], |repair| repair.needs);
        self.needs.iter().chain(repair).map(move |&stat| (site, stat))
    }
}

/// All stages of a recipe.
pub(super) struct Prepared<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) cuts: Vec<PreparedCut<'a>>,
    pub(super) encodes: Vec<PreparedEncode<'a>>,
    /// Share of all projection weights that stays: what the user asked for.
    pub(super) asked: f64,
    /// In which blocks matrices are rounded again.
    pub(super) form: Option<InForm<'a>>,
}

/// What a rewrite of a recipe is asked to keep.
pub(super) fn rewrite_keep(recipe: &Recipe, index: usize, keep: f64) -> f64 {
    let step = &recipe.rewrite[index];
    match rewrite::find(&step.method).is_ok_and(|entry| entry.removes) {
        true => 1.0 - step.share * (1.0 - keep),
        false => 1.0,
    }
}

impl<'a> Prepared<'a> {
    /// The cuts and encodings of `recipe` for `model`, which the rewrites have passed; `whole` is the number of projection weights that
    /// `keep` is a share of.
    pub(super) fn new(model: &Model, recipe: &'a Recipe, keep: f64, seed: u64, whole: u64) -> Result<Self, Error> {
        if !(keep > 0.0 && keep <= 1.0) {
            return Err(Error::Keep { keep, why: "it must be above 0 and at most 1".into() });
        }
        if keep < 1.0 && !recipe.removes() {
            let why = format!("recipe {} removes nothing: it only changes how numbers are kept", recipe.name);
            return Err(Error::Keep { keep, why });
        }
        let mut prepared = Self { recipe, cuts: Vec::new(), encodes: Vec::new(), asked: keep, form: None };
        let missing = (1.0 - keep) * whole as f64;
        let grains: Vec<Vec<Candidates>> =
            recipe.cut.iter().map(|cut| Candidates::of_model(cut.grain, model)).collect();
        let reachable = |candidates: &[Candidates]| -> u64 {
            candidates.iter().map(|group| group.units as u64 * group.unit_cost).sum()
        };
        let together: u64 = grains.iter().map(|candidates| reachable(candidates)).sum();
        for (cut, candidates) in recipe.cut.iter().zip(grains) {
            // Cuts that are ranked together share what they can reach.
            let (reachable, removed) = match recipe.joint {
                true => (together, recipe.cut[0].share * missing),
                false => (reachable(&candidates), cut.share * missing),
            };
            let what = format!("the cut of {:?} units", cut.grain);
            let own = own_share(&what, removed, reachable, (keep, recipe.rewrite.is_empty()))?;
            check_pattern(cut.compare, own, keep)?;
            prepared.cuts.push(prepare_cut(cut, candidates, own, seed)?);
        }
        let cut: f64 = match recipe.joint {
            true => recipe.cut.first().map_or(0.0, |cut| cut.share),
            false => recipe.cut.iter().map(|cut| cut.share).sum(),
        };
        let left: u64 = model.blocks.iter().map(projection_weights).sum();
        for step in &recipe.encode {
            let entry = encode::find(&step.method)?;
            let own = match entry.removes {
                false => 1.0,
                true => {
                    let served = |projection| step.projections.is_empty() || step.projections.contains(&projection);
                    let all = model.blocks.iter().flat_map(|block| block.linears());
                    let served: u64 = all
                        .filter(|(projection, _)| served(*projection))
                        .map(|(_, linear)| linear.inputs() as u64 * linear.outputs() as u64)
                        .sum();
                    // What the cuts leave of what it serves, when they take evenly.
                    let reachable = served as f64 * (1.0 - cut * missing / left.max(1) as f64);
                    let alone = recipe.cut.is_empty() && recipe.rewrite.is_empty();
                    own_share(&step.method, step.share * missing, reachable as u64, (keep, alone))?
                }
            };
            let method = (entry.build)(&step.with)?;
            if let Some(pattern) = method.pattern(step.compare) {
                check_pattern(pattern, own, keep)?;
            }
            let refit = refit(step.compensate.as_deref(), &step.compensate_with)?;
            prepared.encodes.push(PreparedEncode { step, method, needs: entry.card.needs, refit, keep: own });
        }
        Ok(prepared)
    }
}

/// What share of `reachable` weights stays; `alone`: what is reachable does not depend on `keep`.
fn own_share(what: &str, removed: f64, reachable: u64, (keep, alone): (f64, bool)) -> Result<f64, Error> {
    if removed > 0.0 && removed >= reachable as f64 {
        let least = (1e4 * (1.0 - reachable as f64 * (1.0 - keep) / removed)).ceil() / 1e4;
        let larger = if alone { format!("a larger keep (more than {least})") } else { "a larger keep".to_owned() };
        let why = format!(
            "it asks {what} to remove {removed:.0} weights, and they hold {reachable}; a recipe with more kinds of cut, or {larger}, is needed"
        );
        return Err(Error::Keep { keep, why });
    }
    Ok(if reachable == 0 { 1.0 } else { 1.0 - removed / reachable as f64 })
}

fn check_pattern(compare: Compare, own: f64, keep: f64) -> Result<(), Error> {
    if matches!(compare, Compare::TwoOfFour | Compare::FourOfEight) && (own - 0.5).abs() > 1e-6 {
        let why = format!("the recipe's pattern keeps half of the weights that it compares, not {}", shown(own));
        return Err(Error::Keep { keep, why });
    }
    Ok(())
}

fn prepare_cut<'a>(cut: &'a Cut, candidates: Vec<Candidates>, keep: f64, seed: u64) -> Result<PreparedCut<'a>, Error> {
    let score = score::find(&cut.score)?;
    let allocate = allocate::find(&cut.allocate)?;
    let columns = match &cut.compensate {
        Some(name) if cut.grain != Grain::Weight => {
            let entry = compensate::find(name)?;
            let Build::Columns(build) = entry.build else { return Err(Error::Recipe) };
            Some(Repairer { method: build(&cut.compensate_with)?, needs: entry.card.needs })
        }
        _ => None,
    };
    let refit = match cut.grain {
        Grain::Weight => refit(cut.compensate.as_deref(), &cut.compensate_with)?,
        _ => None,
    };
    Ok(PreparedCut {
        cut,
        score: (score.build)(seed),
        needs: score.card.needs,
        allocate: (allocate.build)(&cut.allocate_with, seed)?,
        measures: allocate.measures,
        columns,
        refit,
        candidates,
        keep,
        multiple: cut.multiple,
    })
}

fn refit(name: Option<&str>, with: &Settings) -> Result<Option<Repairer<dyn RefitMasked>>, Error> {
    let Some(name) = name else { return Ok(None) };
    let entry = compensate::find(name)?;
    let Build::Matrix(build) = entry.build else { return Err(Error::Recipe) };
    Ok(Some(Repairer { method: build(with)?, needs: entry.card.needs }))
}
