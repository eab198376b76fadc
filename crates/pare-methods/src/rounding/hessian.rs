//! The quadratic form that all rows of a matrix share, with the factor that tells how later columns make up for earlier ones.

use crate::error::NumericCause;
use crate::linalg::InverseFactor;

/// Columns that share a line, where lines have offsets.
const STRIP: usize = 32;

/// Second moments of the inputs, damped, and the upper Cholesky factor of their inverse.
#[derive(Clone, Debug)]
pub struct HessianFactor {
    inputs: usize,
    /// `[n, n]`, damped.
    moments: Vec<f32>,
    /// `[n, n]`, row by row, inputs in the order of the work: `U^T U` is the inverse of the moments.
    factor: Vec<f32>,
    /// Which input is taken when; none: one after the other.
    order: Option<Vec<usize>>,
    /// `1 / U[j, j]^2`: what a squared error of input `j` costs once all later inputs have made up for it.
    cost: Vec<f32>,
    /// Sums of each row of the moments over the columns of its own strip.
    beside: Vec<f32>,
    damping: f64,
}

impl HessianFactor {
    /// From a Gram matrix `[n, n]`, to whose diagonal `damping` times its mean is added; ten times that, up to 1, while it has no
    /// Cholesky factor.
    ///
    /// # Errors
    /// `NotFinite` for a moment that is not finite, `NotPositiveDefinite` when no damping helps.
    pub fn new(gram: &[f64], inputs: usize, damping: f64) -> Result<Self, NumericCause> {
        Self::in_order(gram, inputs, damping, None)
    }

    /// The same for work that takes the inputs with the largest second moments first, of equal ones the first: what they lose, many others
    /// can still make up for.
    ///
    /// # Errors
    /// As [`HessianFactor::new`].
    pub fn largest_first(gram: &[f64], inputs: usize, damping: f64) -> Result<Self, NumericCause> {
        let mut order: Vec<usize> = (0..inputs).collect();
        order.sort_by(|&a, &b| gram[b * inputs + b].total_cmp(&gram[a * inputs + a]));
        Self::in_order(gram, inputs, damping, Some(order))
    }

    fn in_order(gram: &[f64], inputs: usize, damping: f64, order: Option<Vec<usize>>) -> Result<Self, NumericCause> {
        if let Some(cause) = crate::check::not_finite("Gram matrix", gram.iter().copied()) {
            return Err(cause);
        }
        let mean = (0..inputs).map(|i| gram[i * inputs + i]).sum::<f64>() / inputs.max(1) as f64;
        let diagonal = |i: usize, damping: f64| gram[i * inputs + i] + damping * mean;
        let at = |place: usize| order.as_ref().map_or(place, |order| order[place]);
        let turned = order.as_ref().map(|order| -> Vec<f64> {
            order.iter().flat_map(|&row| order.iter().map(move |&column| gram[row * inputs + column])).collect()
        });
        let turned = turned.as_deref().unwrap_or(gram);
        let (inverse, damping) =
            InverseFactor::of(turned, inputs, damping, &|place, damping| diagonal(at(place), damping))?;
        let mut moments: Vec<f32> = gram.iter().map(|&value| value as f32).collect();
        for i in 0..inputs {
            moments[i * inputs + i] = diagonal(i, damping) as f32;
        }
        let mut factor = vec![0.0_f32; inputs * inputs];
        for j in 0..inputs {
            for (i, value) in inverse.column(j).enumerate() {
                factor[i * inputs + j] = value as f32;
            }
        }
        drop(inverse);
        let mut cost = vec![0.0; inputs];
        (0..inputs).for_each(|place| cost[at(place)] = factor[place * inputs + place].powi(-2));
        let own = |row: usize| row * inputs + row / STRIP * STRIP..row * inputs + inputs.min((row / STRIP + 1) * STRIP);
        let beside = (0..inputs).map(|row| moments[own(row)].iter().sum()).collect();
        Ok(Self { inputs, moments, factor, order, cost, beside, damping })
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The damping that was needed, relative to the mean of the diagonal.
    pub fn damping(&self) -> f64 {
        self.damping
    }

    /// Row `row` of the damped moments.
    pub(super) fn moments(&self, row: usize) -> &[f32] {
        &self.moments[row * self.inputs..(row + 1) * self.inputs]
    }

    /// The damped moments from row `row` on.
    pub(super) fn moments_from(&self, row: usize) -> &[f32] {
        &self.moments[row * self.inputs..]
    }

    /// All damped moments.
    pub(super) fn all_moments(&self) -> &[f32] {
        &self.moments
    }

    /// Which input is taken when; none: one after the other.
    pub(super) fn order(&self) -> Option<&[usize]> {
        self.order.as_deref()
    }

    /// The factor from a row and a column on, places in the order of the work, as rows `inputs` apart.
    pub(super) fn factor(&self, row: usize, column: usize) -> &[f32] {
        &self.factor[row * self.inputs + column..]
    }

    /// The sum of row `row` of the moments over the 32 columns of its strip.
    pub(super) fn sum_beside(&self, row: usize) -> f32 {
        self.beside[row]
    }

    /// What a squared error of each input costs at the least.
    pub(super) fn cost(&self) -> &[f32] {
        &self.cost
    }
}
