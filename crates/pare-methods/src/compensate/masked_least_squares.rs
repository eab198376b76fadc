//! Masked least squares: what stays of a matrix is solved anew, its zeros fixed.
//!
//! Source     folklore: least squares per row for a fixed mask, as in the optimal brain surgeon; iterative solvers after ALPS,
//!            arXiv:2406.07831; conjugate gradients are Hestenes and Stiefel 1952
//! Formula    the least of E||(W - W') x||^2 + d mean(diag G) ||W - W'||^2 with W' zero where the mask is, row by row, by
//!            conjugate gradients on D^-1/2 (G + d mean I) D^-1/2, D its diagonal, from the matrix after. Of a core S between
//!            block-diagonal L and R, as armor leaves it, the move D is solved that makes W' = L (S + D) R the least of
//!            E||(W - W') x||^2 + d mean(diag R G R^T) ||L D||^2, the rows of a block of L together
//! Shapes     W, W' [out, in]; G [in, in]
//! Needs      Stat::Gram [in, in]
//! Parameters damping: d, range (0, inf); default kept / tokens with the mean number kept in a row. iterations: range 1.., default 20
//! Cost       2 iterations * out * in^2 operations in f32, shared by rows as matrix products; 4 in^2 + 36 out * in bytes,
//!            28 in^2 more for a wrapped matrix
//! Departs    the damping pulls towards W; a row whose solution is not better than it was stays as it was
//! Errors     MissingStat, Shape, Params; Unsupported: a low rank or a sum, which leave no zeros; Numeric: not finite
//! Exactness  1e-4 against goldens/compensate/masked_least_squares (reckoned in f32)
//!
//! Many rows share one Gram matrix but have a mask each: a factor per row would cost kept^3 / 3 each, a product of all directions with
//! the Gram matrix costs `in^2` per row and step. The error on the calibration inputs never grows.

mod wrapped;

use super::{Build, Entry, Info, RefitMasked, RefitTask, Refitted};
use crate::card::Card;
use crate::check;
use crate::distortion;
use crate::error::MethodError;
use crate::linalg;
use pare_model::matrix::Matrix;
use pare_model::plan::Mask;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use pare_model::weight::{Composed, Linear, Weight};
use std::ops::Range;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "masked-least-squares",
        about: "re-solves the weights that a mask left, to give what the whole matrix gave",
        source: "folklore: least squares for a fixed mask by conjugate gradients, after ALPS, arXiv:2406.07831",
        formula: "the least of E||(W - W') x||^2 + d mean(diag G) ||W - W'||^2 with W' zero where the mask is, row by \
            row, by conjugate gradients on D^-1/2 (G + d mean I) D^-1/2, D its diagonal, from the matrix after. Of a \
            core S between block-diagonal L and R, as armor leaves it, the move D is solved that makes W' = L (S + D) R \
            the least of E||(W - W') x||^2 + d mean(diag R G R^T) ||L D||^2, the rows of a block of L together",
        needs: &[Stat::Gram],
        parameters: &["damping", "iterations"],
        grains: &[],
        cost: "2 * iterations * out * in^2 operations; 4 in^2 + 36 out * in bytes",
        departs: "the damping pulls towards the weights before; rows that would not gain stay; of a wrapped matrix the core is solved",
        exactness: 1e-4,
    },
    composes: false,
    of_zeros: true,
    needs_bias: false,
    build: Build::Matrix(|settings| {
        settings.only(ENTRY.card.parameters)?;
        let iterations = settings.iterations.unwrap_or(ITERATIONS);
        if iterations == 0 {
            return Err(MethodError::Params { key: "iterations", why: "0, expected at least 1".into() });
        }
        Ok(Box::new(MaskedLeastSquares { damping: settings.damping, iterations }))
    }),
};

/// Damping per kept input and token, when none is given.
const DAMPING: f64 = 1.0;
const ITERATIONS: usize = 20;
/// Rows that share products, so that memory stays small beside the matrix.
const BAND: usize = 256;

/// Re-solves what a mask left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskedLeastSquares {
    /// Damping relative to the mean diagonal of the Gram matrix, more than 0; none: kept / tokens.
    pub damping: Option<f64>,
    /// Steps of conjugate gradients.
    pub iterations: usize,
}

impl RefitMasked for MaskedLeastSquares {
    fn refit(&self, lost: &RefitTask<'_>, stats: &Stats) -> Result<Refitted, MethodError> {
        let wrapped = match lost.after.composed() {
            None => None,
            Some(Composed::Wrapped(wrapped)) => Some(wrapped),
            Some(Composed::LowRank(_) | Composed::Sum(_)) => {
                return Err(MethodError::Unsupported {
                    method: ENTRY.card.name,
                    what: format!("{}: a {} weight", lost.site, lost.after.name()),
                    why: "its parts have no mask",
                });
            }
        };
        let after = lost.check()?;
        let [out, width] = after.shape();
        let gram = check::stat(stats, lost.site, Stat::Gram, width * width)?;
        let core = wrapped.map(|wrapped| Linear::new(Arc::clone(wrapped.core())).to_matrix());
        let masked = core.as_ref().unwrap_or(&after);
        // The zeros of a core are those of its own pattern, not of a mask of the whole.
        let kept = Kept { mask: lost.mask.filter(|_| wrapped.is_none()), values: masked };
        let damping = self.damping(&kept, stats.tokens())?;
        // Rows that are solved together.
        let together = wrapped.map_or(1, |wrapped| wrapped.diagonals()[0].size());
        let mut solved = match wrapped {
            None => solve_rows(lost.before, &after, &kept, (gram, damping), self.iterations),
            Some(wrapped) => {
                wrapped::solve(lost.before, &after, (wrapped, masked, &kept), (gram, damping), self.iterations)
            }
        };
        check::weights(lost.site, "refitted weight", &solved)?;
        let stored = |values: &Matrix| -> Arc<dyn Weight> {
            let plain: Arc<dyn Weight> = Arc::new(Dense(values.clone()));
            lost.after.repacked(&|_| Arc::clone(&plain)).unwrap_or(plain)
        };
        let given = wrapped.map(|_| Linear::new(stored(&solved)).to_matrix());
        let errors =
            [&after, given.as_ref().unwrap_or(&solved)].map(|matrix| distortion::per_row(gram, lost.before, matrix));
        let mut best = errors[1].clone();
        for first in (0..out).step_by(together) {
            let rows = first..first + together;
            let [before, now] = [&errors[0], &errors[1]].map(|errors| errors[rows.clone()].iter().sum::<f64>());
            if before <= now {
                let values = rows.start * width..rows.end * width;
                solved.data_mut()[values.clone()].copy_from_slice(&masked.data()[values]);
                best[rows.clone()].copy_from_slice(&errors[0][rows]);
            }
        }
        let [error_before, error_after] = [&errors[0], &best].map(|errors| distortion::mean(errors));
        check::finite(lost.site, "calibration error", &[error_before, error_after])?;
        let info = Info { damping, error_before: Some(error_before), error_after: Some(error_after), fell_back: None };
        Ok(Refitted { weight: stored(&solved), info })
    }
}

impl MaskedLeastSquares {
    /// The damping for what was kept, relative to the mean diagonal of the Gram matrix.
    fn damping(&self, kept: &Kept<'_>, tokens: u64) -> Result<f64, MethodError> {
        let kept = kept.count() as f64 / kept.values.rows().max(1) as f64;
        let damping = self.damping.unwrap_or(DAMPING * kept.max(1.0) / tokens as f64);
        if damping > 0.0 && damping.is_finite() {
            return Ok(damping);
        }
        let why = format!("{damping} for {kept} inputs a row over {tokens} tokens, expected a number more than 0");
        Err(MethodError::Params { key: "damping", why })
    }
}

/// The rows of `after`, each solved for itself, with the second moments `[in, in]` of the inputs.
fn solve_rows(
    before: &Matrix,
    after: &Matrix,
    kept: &Kept<'_>,
    (gram, damping): (&[f64], f64),
    iterations: usize,
) -> Matrix {
    let [out, width] = after.shape();
    let system = System::new(gram, width, damping);
    let mut solved = after.clone();
    for first in (0..out).step_by(BAND) {
        let rows = first * width..out.min(first + BAND) * width;
        let mask = kept.of(rows.clone());
        let solved = &mut solved.data_mut()[rows.clone()];
        // What is still to give, in scaled weights: its product is the residual where the mask is open.
        let scaled = |(at, (before, solved)): (usize, (&f32, &f32))| {
            ((f64::from(*before) - f64::from(*solved)) * system.root[at % width]) as f32
        };
        let lacking: Vec<f32> = before.data()[rows].iter().zip(&*solved).enumerate().map(scaled).collect();
        let residual = linalg::product_f32(&lacking, &system.matrix, [lacking.len() / width.max(1), width, width]);
        system.solve(&System::new(&[1.0], 1, 0.0), (residual, &mask), solved, iterations);
    }
    solved
}

/// Which weights were kept.
struct Kept<'a> {
    /// What is known of them.
    mask: Option<&'a Mask>,
    /// Those that are not zero, where nothing is.
    values: &'a Matrix,
}

impl Kept<'_> {
    /// Of some weights, 1 for each that was kept and 0 for each that was not.
    fn of(&self, weights: Range<usize>) -> Vec<f32> {
        let kept = |index: usize| self.mask.map_or_else(|| self.values.data()[index] != 0.0, |mask| mask.kept(index));
        weights.map(|index| f32::from(u8::from(kept(index)))).collect()
    }

    fn count(&self) -> u64 {
        let nonzero = || self.values.data().iter().filter(|value| **value != 0.0).count() as u64;
        self.mask.map_or_else(nonzero, Mask::count)
    }
}

/// Second moments, scaled to a diagonal of ones.
struct System {
    /// `D^-1/2 M D^-1/2`, `[n, n]`.
    matrix: Vec<f32>,
    /// `D^1/2`, `[n]`.
    root: Vec<f64>,
}

impl System {
    /// Of moments `[n, n]` with `damping` times their mean diagonal added to it; what has none stays alone.
    fn new(moments: &[f64], n: usize, damping: f64) -> Self {
        let mean = (0..n).map(|i| moments[i * n + i]).sum::<f64>() / n.max(1) as f64;
        // Inputs that are all zero are solved by anything.
        let shift = if mean > 0.0 { damping * mean } else { 1.0 };
        let root = |i: usize| match moments[i * n + i] + shift {
            own if own > 0.0 => own.sqrt(),
            _ => 1.0,
        };
        let root: Vec<f64> = (0..n).map(root).collect();
        let mut matrix = Vec::with_capacity(n * n);
        for (i, row) in moments.chunks_exact(n.max(1)).enumerate() {
            matrix.extend(row.iter().zip(&root).map(|(value, root_j)| (value / (root[i] * root_j)) as f32));
        }
        (0..n).for_each(|i| matrix[i * n + i] = 1.0);
        Self { matrix, root }
    }

    /// Moves what `mask` keeps of `solved` to where `outputs` times the move times these moments is the `residual`, in scaled weights,
    /// by conjugate gradients. As many rows as `outputs` has are solved together.
    fn solve(&self, outputs: &System, (mut residual, mask): (Vec<f32>, &[f32]), solved: &mut [f32], iterations: usize) {
        let (width, together) = (self.root.len(), outputs.root.len());
        let rows = solved.len().checked_div(width).unwrap_or(0);
        let strip = (together * width).max(1);
        residual.iter_mut().zip(mask).for_each(|(value, mask)| *value *= mask);
        let mut direction = residual.clone();
        let mut step = vec![0.0_f32; solved.len()];
        let mut squares: Vec<f64> = residual.chunks_exact(strip).map(|rows| dot(rows, rows)).collect();
        for _ in 0..iterations {
            let mut image = linalg::product_f32(&direction, &self.matrix, [rows, width, width]);
            if together > 1 {
                for rows in image.chunks_exact_mut(strip) {
                    let mixed = linalg::product_f32(&outputs.matrix, rows, [together, together, width]);
                    rows.copy_from_slice(&mixed);
                }
            }
            image.iter_mut().zip(mask).for_each(|(value, mask)| *value *= mask);
            for (index, squares) in squares.iter_mut().enumerate() {
                let at = index * strip..(index + 1) * strip;
                let (direction, residual) = (&mut direction[at.clone()], &mut residual[at.clone()]);
                let curvature = dot(direction, &image[at.clone()]);
                // Solved, or beyond what f32 tells apart.
                if !(curvature > 0.0 && *squares > 0.0) {
                    direction.fill(0.0);
                    continue;
                }
                let length = (*squares / curvature) as f32;
                step[at.clone()].iter_mut().zip(&*direction).for_each(|(step, d)| *step += length * d);
                residual.iter_mut().zip(&image[at]).for_each(|(r, image)| *r -= length * image);
                let now = dot(residual, residual);
                let turn = (now / *squares) as f32;
                *squares = now;
                direction.iter_mut().zip(&*residual).for_each(|(d, r)| *d = r + turn * *d);
            }
        }
        for (at, ((value, step), mask)) in solved.iter_mut().zip(&step).zip(mask).enumerate() {
            if *mask != 0.0 {
                let root = self.root[at % width] * outputs.root[at / width % together];
                *value = (f64::from(*value) + f64::from(*step) / root) as f32;
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::{Point, Site};

    const SITE: Site = Site { block: 0, point: Point::FfnOut };

    fn refitted(method: MaskedLeastSquares, before: &Matrix, after: Matrix, gram: &[f64]) -> (Vec<f32>, Info) {
        let mut stats = Stats::new(1000);
        stats.insert(SITE, Stat::Gram, gram.to_vec());
        let after: Arc<dyn Weight> = Arc::new(Dense(after));
        let refitted = method.refit(&RefitTask { site: SITE, before, after: &after, mask: None }, &stats).unwrap();
        (Linear::new(refitted.weight).to_matrix().into_vec(), refitted.info)
    }

    #[test]
    fn a_weight_that_stayed_takes_a_part_though_it_was_zero() {
        // The kept x_1 had the weight 0, as many have in quantised blocks: it says 2 / 4 of x_0.
        let (before, after) = (Matrix::from_vec(1, 2, vec![1.0, 0.0]), Matrix::zeros(1, 2));
        let mut mask = Mask::none(1, 2);
        mask.keep(1);
        let after: Arc<dyn Weight> = Arc::new(Dense(after));
        let mut stats = Stats::new(1000);
        stats.insert(SITE, Stat::Gram, vec![5.0, 2.0, 2.0, 4.0]);
        let method = MaskedLeastSquares { damping: Some(1e-12), iterations: 3 };
        let task = RefitTask { site: SITE, before: &before, after: &after, mask: Some(&mask) };
        let values = Linear::new(method.refit(&task, &stats).unwrap().weight).to_matrix();
        assert!(values.data()[0] == 0.0 && (values.data()[1] - 0.5).abs() < 1e-6, "{values:?}");
        let other = Mask::none(2, 2);
        let refused = method.refit(&RefitTask { mask: Some(&other), ..task }, &stats).unwrap_err().to_string();
        assert!(refused.contains("mask (outputs) has 2, expected 1"), "{refused}");
    }

    #[test]
    fn what_stays_takes_the_part_of_what_went_by_hand() {
        // Without x_0, x_1 says 2 / 4 of it; without x_1, x_0 says 2 / 5 of it; with both, nothing is to do.
        let before = Matrix::from_vec(3, 2, vec![1.0, 3.0, 5.0, 2.0, 1.0, 1.0]);
        let after = Matrix::from_vec(3, 2, vec![0.0, 3.0, 5.0, 0.0, 1.0, 1.0]);
        let method = MaskedLeastSquares { damping: Some(1e-12), iterations: 3 };
        let (values, info) = refitted(method, &before, after, &[5.0, 2.0, 2.0, 4.0]);
        for (got, want) in values.iter().zip([0.0, 3.5, 5.8, 0.0, 1.0, 1.0]) {
            assert!((got - want).abs() < 1e-6, "{values:?}");
        }
        // 5 and 4 * 4 before; 5 - 1 and 16 - 16 / 5 after; over 3 outputs.
        assert!((info.error_before.unwrap() - 7.0).abs() < 1e-9);
        assert!((info.error_after.unwrap() - 16.8 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_row_that_cannot_gain_stays_bit_for_bit() {
        let before = Matrix::from_vec(1, 2, vec![0.1, 0.7]);
        let method = MaskedLeastSquares { damping: Some(1e-3), iterations: 5 };
        let (values, info) = refitted(method, &before, before.clone(), &[1.0, 0.9, 0.9, 1.0]);
        assert_eq!((values, info.error_after), (vec![0.1, 0.7], Some(0.0)));
        let (values, _) = refitted(method, &before, Matrix::zeros(1, 2), &[1.0, 0.9, 0.9, 1.0]);
        assert_eq!(values, [0.0, 0.0], "nothing stayed");
        let (values, _) = refitted(method, &before, before.clone(), &[0.0; 4]);
        assert_eq!(values, [0.1, 0.7], "nothing was seen");
    }
}
