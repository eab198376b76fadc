//! How many units every group of candidates keeps.

use super::prepare::{Prepared, PreparedCut};
use crate::Error;
use pare_methods::allocate::{QuotaLoss, Row};
use pare_methods::error::MethodError;
use pare_methods::select::keep_top;

/// Scores of every group of candidates of one cut.
pub(super) type Scores = Vec<Vec<f64>>;

impl Prepared<'_> {
    /// The quota of every group of candidates of every cut, given their scores (anything of the right length where no score is looked at).
    pub(super) fn quotas(&self, scores: &[Scores], measure: &mut dyn GroupQuotaLoss) -> Result<Vec<Vec<usize>>, Error> {
        let mut quotas: Vec<Vec<usize>> = scores.iter().map(|groups| groups.iter().map(Vec::len).collect()).collect();
        let runs: Vec<Vec<usize>> = match self.recipe.joint {
            true => vec![(0..self.cuts.len()).collect()],
            false => (0..self.cuts.len()).map(|cut| vec![cut]).collect(),
        };
        for cuts in runs {
            let Some(&first) = cuts.first() else { continue };
            let rows: Vec<Vec<Row>> = cuts.iter().map(|&cut| self.cuts[cut].rows(&scores[cut])).collect();
            let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
            let together: Vec<Row> = rows.into_iter().flatten().collect();
            let whole = quotas.clone();
            let spread = |of_rows: &[usize]| {
                let mut quotas = whole.clone();
                let mut rest = of_rows;
                for (&cut, &length) in cuts.iter().zip(&lengths) {
                    let (own, later) = rest.split_at(length);
                    quotas[cut] = self.cuts[cut].spread(own, &scores[cut]);
                    rest = later;
                }
                quotas
            };
            let cut = &self.cuts[first];
            let mut measured = Rows { spread: &spread, measure, failure: None };
            let outcome = cut.allocate.allocate(cut.keep, &together, &mut measured);
            if let Some(failure) = measured.failure {
                return Err(failure);
            }
            quotas = spread(&outcome.map_err(|error| self.as_cli_error(error))?);
            for &cut in &cuts {
                let sizes: Vec<usize> = self.cuts[cut].candidates.iter().map(|group| group.units).collect();
                quotas[cut] = round_to_multiple(&quotas[cut], &sizes, self.cuts[cut].multiple);
            }
        }
        Ok(quotas)
    }

    /// An allocation speaks of the share of its own units; the user knows the option that it came from.
    pub(super) fn as_cli_error(&self, error: MethodError) -> Error {
        match error {
            MethodError::Params { key: "keep", why } => {
                Error::Keep { keep: self.asked, why: format!("of the units that can be cut, {why}") }
            }
            other => other.into(),
        }
    }
}

impl PreparedCut<'_> {
    /// What the allocation sees. Parts compete with each other over the whole model: one row, one unit per block; but an allocation that
    /// measures must be able to say which, and has a row for each.
    fn rows(&self, scores: &[Vec<f64>]) -> Vec<Row> {
        if self.is_part() && !self.measures {
            let cost = self.candidates.iter().map(|group| group.unit_cost).sum::<u64>() / scores.len().max(1) as u64;
            let scores = scores.iter().flatten().copied().collect();
            return vec![Row {
                name: format!("{:?}", self.cut.grain),
                block: 0,
                scores,
                unit_cost: cost.max(1),
                floor: 1,
            }];
        }
        let floor = |units: usize| if self.is_part() { 0 } else { self.multiple.min(units) };
        let row = |(group, scores): (&crate::candidates::Candidates, &Vec<f64>)| Row {
            name: group.site.to_string(),
            block: group.site.block,
            scores: scores.clone(),
            unit_cost: group.unit_cost,
            floor: floor(group.units),
        };
        self.candidates.iter().zip(scores).map(row).collect()
    }

    /// From quotas of rows to quotas of groups.
    fn spread(&self, rows: &[usize], scores: &[Vec<f64>]) -> Vec<usize> {
        match rows {
            [quota] if self.is_part() && !self.measures => {
                let scores: Vec<f64> = scores.iter().flatten().copied().collect();
                let mut quotas = vec![0; scores.len()];
                keep_top(&scores, *quota).into_iter().for_each(|index| quotas[index] = 1);
                quotas
            }
            _ => rows.to_vec(),
        }
    }
}

/// The divergence that quotas of all groups of all cuts cause.
pub(super) trait GroupQuotaLoss {
    /// In nats per token.
    fn divergence(&mut self, quotas: &[Vec<usize>]) -> Result<f64, Error>;
}

/// For checks before the work.
pub(super) struct FeasibilityProbe;

impl GroupQuotaLoss for FeasibilityProbe {
    fn divergence(&mut self, quotas: &[Vec<usize>]) -> Result<f64, Error> {
        // Any convex loss will do to see whether a target can be met.
        let square = |quota: &usize| -(*quota as f64).sqrt();
        Ok(1e6 + quotas.iter().flatten().map(square).sum::<f64>())
    }
}

/// From quotas of the rows of one allocation to quotas of all groups. Keeps the engine's own error, which a method cannot hold.
struct Rows<'a> {
    spread: &'a dyn Fn(&[usize]) -> Vec<Vec<usize>>,
    measure: &'a mut dyn GroupQuotaLoss,
    failure: Option<Error>,
}

impl QuotaLoss for Rows<'_> {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        self.measure.divergence(&(self.spread)(quotas)).map_err(|error| {
            let why = error.to_string();
            self.failure = Some(error);
            MethodError::Stopped { why }
        })
    }
}

/// Rounds quotas to a multiple: all to the nearest when they are equal (so that they stay equal), else by largest remainder, so that
/// the total stays nearest to what it was. A group that keeps all its units is left alone, whatever its size.
pub(super) fn round_to_multiple(quotas: &[usize], sizes: &[usize], multiple: usize) -> Vec<usize> {
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
