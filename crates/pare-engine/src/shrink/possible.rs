//! What cannot be is refused for the sizes of the model alone: before a text is written, and before the first block is touched.

use super::prepare::{Prepared, PreparedCut, rewrite_keep};
use super::quotas::FeasibilityProbe;
use crate::Error;
use crate::candidates::Candidates;
use pare_methods::allocate::{QuotaLoss, Row};
use pare_methods::card::Grain;
use pare_methods::error::MethodError;
use pare_methods::select::Compare;
use pare_methods::{encode, rewrite};
use pare_model::model::Model;
use pare_model::site::Projection;

/// Units that stand for all weights of a matrix: single weights are too many to try.
const SAMPLE: usize = 1024;

impl Prepared<'_> {
    /// Refuses rewrites that `model` does not allow, up to the first that removes something: what follows sees another model.
    pub(super) fn check_rewrites(&self, model: &Model) -> Result<(), Error> {
        for (index, step) in self.recipe.rewrite.iter().enumerate() {
            let entry = rewrite::find(&step.method)?;
            let checked = (entry.build)(&step.with, 0)?.check(model, rewrite_keep(self.recipe, index, self.asked));
            checked.map_err(|error| self.refusal(&format!("the rewrite {}", step.method), error))?;
            if entry.removes {
                break;
            }
        }
        Ok(())
    }

    /// Whether the cuts and encodings see the model that the user gave, but for its numbers.
    pub(super) fn sees_sizes(&self) -> bool {
        let keeps = |name: &str| rewrite::find(name).is_ok_and(|entry| !entry.removes);
        self.recipe.rewrite.iter().all(|step| keeps(&step.method))
    }

    /// Refuses shares that the floors of a cut do not allow.
    pub(super) fn check_shares(&self) -> Result<Vec<Vec<usize>>, Error> {
        for cut in self.cuts.iter().filter(|cut| cut.cut.grain == Grain::Weight) {
            cut.try_few().map_err(|error| self.as_cli_error(error))?;
        }
        match self.cuts.iter().any(|cut| cut.cut.grain == Grain::Weight) {
            true => Ok(Vec::new()),
            false => self.quotas(&self.flat_scores(), &mut FeasibilityProbe),
        }
    }

    /// Refuses patterns, ranks and blocks that some matrix of some block does not allow, when `quotas` are what the cuts leave.
    pub(super) fn check_sizes(&self, model: &Model, quotas: &[Vec<usize>]) -> Result<(), Error> {
        for (index, block) in model.blocks.iter().enumerate() {
            for (projection, linear) in block.linears() {
                let shape = linear.weight.shape();
                let place = format!("block {index} {projection}");
                let refused = |error| self.refusal(&place, error);
                for cut in self.cuts.iter().filter(|cut| cut.cut.grain == Grain::Weight) {
                    whole_groups(&place, cut.cut.compare, shape)?;
                    cut.refit.as_ref().map_or(Ok(()), |repair| repair.method.fits(shape)).map_err(refused)?;
                }
                let Some(shape) = self.left_of(model, quotas, (index, projection), shape) else { continue };
                for step in self.encodes.iter().filter(|step| step.serves(projection)) {
                    if encode::find(&step.step.method)?.removes {
                        whole_groups(&place, step.step.compare, shape)?;
                    }
                    step.method.fits(shape, step.keep, step.step.compare).map_err(refused)?;
                    step.refit.as_ref().map_or(Ok(()), |repair| repair.method.fits(shape)).map_err(refused)?;
                }
            }
        }
        Ok(())
    }

    /// The `[out, in]` that the cuts leave of a matrix; none where that is not known yet.
    fn left_of(
        &self,
        model: &Model,
        quotas: &[Vec<usize>],
        (block, projection): (usize, Projection),
        mut shape: [usize; 2],
    ) -> Option<[usize; 2]> {
        for (cut, quotas) in self.cuts.iter().zip(quotas) {
            // Of different blocks the one in question may be among those that leave.
            if cut.is_part() && !model.is_uniform() {
                return None;
            }
            let Some(side) = narrowed(cut.cut.grain, projection) else { continue };
            if !cut.is_blind() || self.recipe.joint {
                return None;
            }
            let (group, quota) = cut.candidates.iter().zip(quotas).find(|(group, _)| group.site.block == block)?;
            shape[side] = shape[side].checked_div(group.units)? * quota;
        }
        Some(shape)
    }

    /// A method speaks of its own share; the user knows the option that it came from, and not yet where it was.
    fn refusal(&self, place: &str, error: MethodError) -> Error {
        match error {
            MethodError::Params { key: "keep", why } => {
                Error::Keep { keep: self.asked, why: format!("{place}: {why}") }
            }
            other => Error::Refused(format!("{place}: {other}")),
        }
    }
}

impl PreparedCut<'_> {
    /// Allocates a sample of each matrix, with as much more to keep as rounding could ask for.
    fn try_few(&self) -> Result<(), MethodError> {
        let row = |group: &Candidates| {
            let few = group.units.clamp(1, SAMPLE);
            let unit_cost = (group.units / few).max(1) as u64;
            Row { name: group.site.to_string(), block: group.site.block, scores: vec![0.0; few], unit_cost, floor: 0 }
        };
        let rows: Vec<Row> = self.candidates.iter().map(row).collect();
        let keep = (self.keep + 2.0 / SAMPLE as f64).min(1.0);
        match self.allocate.allocate(keep, &rows, &mut FeasibilityProbe) {
            // Told with what was asked, not with what was tried.
            Err(MethodError::Params { key: "keep", .. }) => {
                self.allocate.allocate(self.keep, &rows, &mut FeasibilityProbe).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

impl QuotaLoss for FeasibilityProbe {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        Ok(1e6 - quotas.iter().map(|quota| (*quota as f64).sqrt()).sum::<f64>())
    }
}

/// Which side of a projection loses what a cut of this grain removes.
fn narrowed(grain: Grain, projection: Projection) -> Option<usize> {
    match (grain, projection) {
        (Grain::Channel, Projection::Gate | Projection::Up)
        | (Grain::Group, Projection::Q | Projection::K | Projection::V) => Some(0),
        (Grain::Channel, Projection::Down) | (Grain::Group, Projection::O) => Some(1),
        _ => None,
    }
}

/// Refuses rows that are no whole groups of a pattern: the last one would keep more than its half.
fn whole_groups(place: &str, compare: Compare, [_, inputs]: [usize; 2]) -> Result<(), Error> {
    let (of, name) = match compare {
        Compare::TwoOfFour => (4, "2:4"),
        Compare::FourOfEight => (8, "4:8"),
        Compare::Row | Compare::Matrix | Compare::EightRows => return Ok(()),
    };
    if inputs.is_multiple_of(of) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{place}: rows of {inputs} are no whole groups of {of}, which the pattern {name} needs; a recipe that compares rows or matrices has no such need"
    )))
}
