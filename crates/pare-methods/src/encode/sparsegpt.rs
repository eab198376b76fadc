//! SparseGPT: remove the weights that the others can replace best, and let those after them replace them.
//!
//! Source     Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", arXiv:2301.00774
//! Formula    (G + d mean(diag G) I)^-1 = R^T R, R upper; saliency W_ij^2 / R_jj^2; input by input from the first, with Q_ij = 0 for
//!            a weight that goes and W_ij (or its rounding) for one that stays: E = (W_:j - Q_:j) / R_jj, W_:k -= E R_jk for k > j
//! Shapes     W [out, in]; G, R [in, in]
//! Needs      Stat::Gram [in, in]
//! Parameters damping: d, range (0, inf), default 0.01; times 10, up to 1, where it does not make G positive definite. block: inputs
//!            among which weights are compared, range 1.., default 128. type (q4_0, q5_0, q8_0), or bits (2..=8, default 4) with
//!            group (1.., default 32): rounds what stays in the same pass, with symmetric codes; unset: no rounding
//! Cost       2/3 in^3 + 2 out in^2 operations; at most 16 in^2 bytes, of which 4 in^2 stay, and 8 out * in
//! Departs    exact counts, the remainder of a block being carried to the next; of equal saliencies the first stays; inputs that were
//!            never seen count as of mean size in the damping, and theirs go first, but keep their values where the count lets them stay;
//!            a grid is symmetric, its steps found for each group from weights that have taken up what was lost before it, where the
//!            authors' code has an asymmetric grid for each row of the weights as they were
//! Errors     MissingStat, Shape, Params; Numeric: not finite, not positive definite up to a damping of 1
//! Exactness  1e-4 against goldens/encode/sparsegpt (reckoned in f32)
//!
//! Patterns: `matrix` compares all weights of a block of inputs, as the paper does; `row` those of a row in it; `8 rows` its columns
//! over 8 neighbouring rows; 2:4 and 4:8 choose when the pass reaches their inputs. A `keep` of 1 removes nothing.

use super::{Encode, Encoded, Entry, Info, Prepared, Shared, Task};
use crate::card::Card;
use crate::check;
use crate::error::{MethodError, shown};
use crate::grid::Grid;
use crate::linalg;
use crate::obs::Factor;
use crate::saliency::{Quotas, Saliency, top};
use crate::select::Compare;
use pare_kernels::pool::Pool;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "sparsegpt",
        about: "removes the weights that later ones can replace best, and lets those replace them; can round what stays",
        source: "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, arXiv:2301.00774",
        formula: "(G + d mean(diag G) I)^-1 = R^T R, R upper; saliency W_ij^2 / R_jj^2; input by input from the \
            first, with Q_ij = 0 for a weight that goes and W_ij (or its rounding) for one that stays: E = (W_:j - \
            Q_:j) / R_jj, W_:k -= E R_jk for k > j",
        needs: &[Stat::Gram],
        parameters: &["damping", "block", "type", "bits", "group"],
        grains: &[],
        cost: "2/3 in^3 + 2 out * in^2 operations; 16 in^2 + 8 out * in bytes",
        departs: "exact counts with the remainder carried from block to block; inputs never seen go first, but are not emptied",
        exactness: 1e-4,
    },
    removes: true,
    composes: false,
    build: |settings| {
        settings.only(ENTRY.card.parameters)?;
        let damping = settings.damping.unwrap_or(DAMPING);
        if !(damping > 0.0 && damping.is_finite()) {
            return Err(MethodError::Params {
                key: "damping",
                why: format!("{damping}, expected a number more than 0"),
            });
        }
        let (block, grid) = (settings.block.unwrap_or(BLOCK), Grid::from_settings(settings)?);
        if block == 0 {
            return Err(MethodError::Params { key: "block", why: "0, expected at least 1".into() });
        }
        if let Some(group) = grid.map(|grid| grid.group()).filter(|&group| !block.is_multiple_of(group)) {
            let why = format!("{block}, expected whole groups of {group} that share a step");
            return Err(MethodError::Params { key: "block", why });
        }
        Ok(Box::new(SparseGpt { damping, block, grid }))
    },
};

const DAMPING: f64 = 0.01;
const BLOCK: usize = 128;
/// Rows of the matrix that one part of the work takes: whole groups of 8, side by side in the transposed layout.
const LANES: usize = 96;
/// Inputs that are settled one by one between two products.
const STEP: usize = 16;

/// Removes weights, and rounds what stays when it has a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseGpt {
    damping: f64,
    block: usize,
    grid: Option<Grid>,
}

impl Encode for SparseGpt {
    fn pattern(&self, compare: Compare) -> Option<Compare> {
        Some(compare)
    }

    fn fits(&self, [_, columns]: [usize; 2], keep: f64, compare: Compare) -> Result<(), MethodError> {
        let Some(m) = group_of(compare).filter(|_| keep < 1.0) else { return self.check_grid(columns) };
        if (keep - 0.5).abs() > 1e-6 {
            let why = format!("{} of a pattern that keeps 0.5", shown(keep));
            return Err(MethodError::Params { key: "keep", why });
        }
        let sizes = [("block", self.block), ("group", self.grid.map_or(m, |grid| grid.group()))];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| !size.is_multiple_of(m)) {
            return Err(MethodError::Params { key, why: format!("{size}, expected whole groups of {m}") });
        }
        self.check_grid(columns)
    }

    fn encode(&self, task: &Task<'_>, stats: &Stats, pool: &Pool) -> Result<Encoded, MethodError> {
        self.check(task)?;
        self.by(task, &self.factor(task.site, task.weight.cols(), stats)?, pool)
    }

    fn prepare(&self, site: Site, width: usize, stats: &Stats) -> Result<Option<Prepared>, MethodError> {
        Ok(Some(Prepared(Shared::Factor(self.factor(site, width, stats)?))))
    }

    fn encode_with(
        &self,
        task: &Task<'_>,
        stats: &Stats,
        prepared: &Prepared,
        pool: &Pool,
    ) -> Result<Encoded, MethodError> {
        let Prepared(Shared::Factor(factor)) = prepared else { return self.encode(task, stats, pool) };
        self.check(task)?;
        self.by(task, factor, pool)
    }
}

impl SparseGpt {
    fn check(&self, task: &Task<'_>) -> Result<(), MethodError> {
        task.check()?;
        self.fits(task.weight.shape(), task.keep, task.compare)
    }

    fn factor(&self, site: Site, width: usize, stats: &Stats) -> Result<Factor, MethodError> {
        Factor::new(site, width, stats, self.damping)
    }

    fn by(&self, task: &Task<'_>, factor: &Factor, pool: &Pool) -> Result<Encoded, MethodError> {
        let width = task.weight.cols();
        if factor.width() != width {
            return Err(MethodError::Shape { site: task.site, what: "factor", want: width, got: factor.width() });
        }
        let damping = Some(factor.damping());
        if task.keep == 1.0 && self.grid.is_none() {
            let info = Info { damping, error: Some(0.0), removed: 0 };
            return Ok(Encoded { weight: Arc::new(Dense(task.weight.clone())), info });
        }
        let (weight, info) = self.run(task, factor, pool);
        check::weights(task.site, "weight that stayed", &weight)?;
        Ok(Encoded { weight: Arc::new(Dense(weight)), info: Info { damping, ..info } })
    }

    fn check_grid(&self, columns: usize) -> Result<(), MethodError> {
        match self.grid.and_then(|grid| grid.blocks()) {
            None => Ok(()),
            Some(name) => super::whole_blocks(ENTRY.card.name, super::block_type(name)?, columns),
        }
    }

    /// What the matrix becomes, its mean squared calibration error per output, and how many weights went.
    fn run(&self, task: &Task<'_>, factor: &Factor, pool: &Pool) -> (Matrix, Info) {
        let [out, width] = task.weight.shape();
        let bands: Vec<Mutex<Band>> =
            (0..out).step_by(LANES).map(|first| Mutex::new(Band::new(task.weight, first, self.block))).collect();
        let saliency = Saliency::new(factor.spread(), factor.seen());
        let quotas = Quotas::new(task.compare, task.keep, [out, width]);
        let pattern = group_of(task.compare).filter(|_| task.keep < 1.0);
        for start in (0..width).step_by(self.block) {
            let inputs = start..width.min(start + self.block);
            pool.run(bands.len(), &|part| locked(&bands[part]).score(&saliency, inputs.clone(), &quotas));
            if quotas.over_all_rows() {
                let mut bands: Vec<_> = bands.iter().map(locked).collect();
                let stay = top(bands.iter().map(|band| (band.lanes, &band.keys[..])), quotas.of(inputs.clone()));
                bands.iter_mut().for_each(|band| band.stay.clear());
                bands.iter_mut().zip(stay).for_each(|(band, stay)| band.stay = stay);
            }
            pool.run(bands.len(), &|part| {
                locked(&bands[part]).settle(factor, &saliency, inputs.clone(), pattern, self.grid);
            });
        }
        let (mut weight, mut error, mut removed) = (Matrix::zeros(out, width), 0.0, 0);
        for band in &bands {
            let band = locked(band);
            error += band.finish(task.weight, factor, &mut weight);
            removed += band.removed;
        }
        let error = Some(error.max(0.0) / out.max(1) as f64);
        (weight, Info { error, removed, ..Info::default() })
    }
}

/// Of how many neighbouring inputs half stay, for patterns of that kind.
fn group_of(compare: Compare) -> Option<usize> {
    match compare {
        Compare::TwoOfFour => Some(4),
        Compare::FourOfEight => Some(8),
        Compare::Row | Compare::Matrix | Compare::EightRows => None,
    }
}

fn locked(band: &Mutex<Band>) -> MutexGuard<'_, Band> {
    band.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Some rows of the matrix, transposed: `lanes` of them side by side for each input.
struct Band {
    first: usize,
    lanes: usize,
    /// `[in, lanes]`: settled before the block, as they are wanted by then after it.
    weights: Vec<f32>,
    /// `[block, lanes]`: what each weight of the block lost.
    errors: Vec<f32>,
    /// `[block, lanes]`: larger for weights that matter more.
    keys: Vec<u32>,
    /// `[block, lanes]`: which weights stay.
    stay: Vec<bool>,
    /// The step of each lane's grid.
    steps: Vec<f32>,
    /// Sum of `(error / R_jj)^2` over the inputs that were seen.
    cost: f64,
    /// How many weights do not stay.
    removed: u64,
}

impl Band {
    fn new(weight: &Matrix, first: usize, block: usize) -> Self {
        let [out, width] = weight.shape();
        let (lanes, block) = (LANES.min(out - first), block.min(width));
        let mut weights = vec![0.0; width * lanes];
        for lane in 0..lanes {
            let row = weight.row(first + lane);
            weights.iter_mut().skip(lane).step_by(lanes).zip(row).for_each(|(to, &from)| *to = from);
        }
        let errors = vec![0.0; block * lanes];
        let (steps, cost, removed) = (vec![0.0; lanes], 0.0, 0);
        Self { first, lanes, weights, errors, keys: vec![], stay: vec![], steps, cost, removed }
    }

    /// Prepares the choice in a block of inputs: makes it where rows do not depend on those of other bands.
    fn score(&mut self, saliency: &Saliency, inputs: Range<usize>, quotas: &Quotas) {
        let weights = &self.weights[inputs.start * self.lanes..inputs.end * self.lanes];
        if quotas.over_all_rows() {
            saliency.keys(weights, self.lanes, inputs, &mut self.keys);
        } else {
            quotas.choose(saliency, weights, self.lanes, inputs, &mut self.stay);
        }
    }

    /// Settles the weights of a block of inputs, and takes what they lost from those after it.
    fn settle(
        &mut self,
        factor: &Factor,
        saliency: &Saliency,
        inputs: Range<usize>,
        pattern: Option<usize>,
        grid: Option<Grid>,
    ) {
        let (lanes, width, start) = (self.lanes, factor.width(), inputs.start);
        let step = grid.map_or(STEP, |grid| grid.group());
        for from in inputs.clone().step_by(step) {
            let to = inputs.end.min(from + step);
            let before = &self.errors[..(from - start) * lanes];
            let pulls = &factor.pulls()[from * width + start..];
            let weights = &mut self.weights[from * lanes..to * lanes];
            linalg::subtract_product(weights, (pulls, width), before, [to - from, from - start, lanes]);
            if let Some(grid) = grid {
                for (lane, step) in self.steps.iter_mut().enumerate() {
                    let group = weights.iter().skip(lane).step_by(lanes);
                    let extreme = group.fold(0.0_f32, |most, &w| if w.abs() > most.abs() { w } else { most });
                    *step = grid.step(extreme);
                }
            }
            for j in from..to {
                if let Some(m) = pattern.filter(|m| j.is_multiple_of(*m)) {
                    let group = j..to.min(j + m);
                    let weights = &self.weights[j * lanes..group.end * lanes];
                    let stay = &mut self.stay[(j - start) * lanes..(group.end - start) * lanes];
                    saliency.half_of_group(weights, lanes, group, m / 2, stay);
                }
                self.settle_input(factor, j, start, to, grid);
            }
        }
        let trailing = &mut self.weights[inputs.end * lanes..];
        let pulls = &factor.pulls()[(inputs.end * width + start).min(width * width)..];
        let errors = &self.errors[..inputs.len() * lanes];
        linalg::subtract_product(trailing, (pulls, width), errors, [width - inputs.end, inputs.len(), lanes]);
    }

    /// Settles the weights of input `j`, and takes what they lost from those up to input `end`.
    fn settle_input(&mut self, factor: &Factor, j: usize, start: usize, end: usize, grid: Option<Grid>) {
        let lanes = self.lanes;
        let (settled, later) = self.weights.split_at_mut((j + 1) * lanes);
        let weights = &mut settled[j * lanes..];
        let errors = &mut self.errors[(j - start) * lanes..][..lanes];
        let stay = &self.stay[(j - start) * lanes..][..lanes];
        self.removed += stay.iter().filter(|stays| !**stays).count() as u64;
        let mut cost = 0.0;
        for (((weight, error), &stays), &step) in weights.iter_mut().zip(&mut *errors).zip(stay).zip(&self.steps) {
            let settled = match (stays, grid) {
                (false, _) => 0.0,
                (true, None) => *weight,
                (true, Some(grid)) => grid.round(*weight, step),
            };
            *error = *weight - settled;
            *weight = settled;
            cost += f64::from(*error) * f64::from(*error);
        }
        if factor.seen()[j] {
            self.cost += cost / (factor.spread()[j] * factor.spread()[j]);
        }
        for (k, later) in (j + 1..end).zip(later.chunks_exact_mut(lanes)) {
            let pull = factor.pulls()[k * factor.width() + j];
            later.iter_mut().zip(&*errors).for_each(|(weight, error)| *weight -= pull * error);
        }
    }

    /// Writes the rows where they belong, and returns the sum of their squared calibration errors.
    ///
    /// The costs of a pass add up to the squared error with the damping; what the damping made of it is taken off again.
    fn finish(&self, before: &Matrix, factor: &Factor, after: &mut Matrix) -> f64 {
        let mut moved = 0.0;
        for lane in 0..self.lanes {
            let row = after.row_mut(self.first + lane);
            row.iter_mut().zip(self.weights.iter().skip(lane).step_by(self.lanes)).for_each(|(to, &from)| *to = from);
            for ((after, before), seen) in row.iter().zip(before.row(self.first + lane)).zip(factor.seen()) {
                let change = f64::from(*after) - f64::from(*before);
                moved += f64::from(u8::from(*seen)) * change * change;
            }
        }
        self.cost - factor.shift() * moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use pare_model::site::Point;
    use pare_model::weight::Linear;

    const SITE: Site = Site { block: 0, point: Point::FfnIn };

    fn encode(settings: &Settings, weight: &Matrix, keep: f64, compare: Compare, gram: &[f64]) -> (Vec<f32>, Info) {
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::Gram, gram.to_vec());
        let task = Task { site: SITE, weight, keep, compare };
        let encoded = (ENTRY.build)(settings).unwrap().encode(&task, &stats, &Pool::new(1)).unwrap();
        (Linear::new(encoded.weight).to_matrix().into_vec(), encoded.info)
    }

    #[test]
    fn two_inputs_by_hand() {
        // G^-1 = [[4, -2], [-2, 5]] / 16, R = [[1/2, -1/4], [0, 1/2]]: saliencies 4 w^2, so the first of 1 and 3 goes, and of it
        // -1/2 is taken from the second. What is lost: 1 * (5 - 2 * 2 / 4).
        let settings = Settings { damping: Some(1e-12), ..Settings::default() };
        let weight = Matrix::from_vec(1, 2, vec![1.0, 3.0]);
        let (values, info) = encode(&settings, &weight, 0.5, Compare::Row, &[5.0, 2.0, 2.0, 4.0]);
        assert_eq!(values, [0.0, 3.5]);
        assert!((info.error.unwrap() - 4.0).abs() < 1e-9);
        // The last has nobody after it: 2 * 2 * 4 is lost.
        let weight = Matrix::from_vec(1, 2, vec![3.0, 2.0]);
        let (values, info) = encode(&settings, &weight, 0.5, Compare::Matrix, &[5.0, 2.0, 2.0, 4.0]);
        assert_eq!(values, [3.0, 0.0]);
        assert!((info.error.unwrap() - 16.0).abs() < 1e-9);
    }

    #[test]
    fn the_damping_is_taken_off_the_error_again() {
        let settings = Settings { damping: Some(0.5), ..Settings::default() };
        let weight = Matrix::from_vec(1, 2, vec![1.0, 3.0]);
        let (values, info) = encode(&settings, &weight, 0.5, Compare::Row, &[5.0, 2.0, 2.0, 4.0]);
        // (1, -d): 5 - 4 d + 4 d^2
        let moved = f64::from(values[1]) - 3.0;
        assert!((info.error.unwrap() - (5.0 - 4.0 * moved + 4.0 * moved * moved)).abs() < 1e-6, "{info:?}");
        assert_eq!(info.damping, Some(0.5));
    }

    #[test]
    fn an_input_never_seen_goes_first() {
        let weight = Matrix::from_vec(1, 2, vec![9.0, 0.1]);
        let gram = [0.0, 0.0, 0.0, 1.0];
        assert_eq!(encode(&Settings::default(), &weight, 0.5, Compare::Row, &gram).0, [0.0, 0.1]);
        let (values, info) = encode(&Settings::default(), &weight, 0.0, Compare::Matrix, &gram);
        assert_eq!(values, [0.0, 0.0]);
        assert!((info.error.unwrap() - 0.01).abs() < 1e-8, "what nobody sees costs nothing: {info:?}");
    }

    #[test]
    fn rounding_errors_are_handed_on_too() {
        // One bit below zero, none, one above: steps of 1. The first loses 0.4, half of which the second takes.
        let settings = Settings { damping: Some(1e-12), bits: Some(2), group: Some(2), ..Settings::default() };
        let weight = Matrix::from_vec(1, 2, vec![0.4, 1.0]);
        let (values, _) = encode(&settings, &weight, 1.0, Compare::Row, &[5.0, 2.0, 2.0, 4.0]);
        assert_eq!(values, [0.0, 1.0]);
        let weight = Matrix::from_vec(1, 4, vec![0.4, 1.0, 0.4, 0.0]);
        let gram: Vec<f64> = (0..16).map(|at| [5.0, 2.0, 2.0, 4.0][at / 4 % 2 * 2 + at % 2]).collect();
        let gram: Vec<f64> =
            gram.iter().enumerate().map(|(at, v)| if at / 8 == at % 4 / 2 { *v } else { 0.0 }).collect();
        let (values, _) = encode(&settings, &weight, 1.0, Compare::Row, &gram);
        assert_eq!(values, [0.0, 1.0, 0.4, 0.0], "each group has its own step");
    }
}
