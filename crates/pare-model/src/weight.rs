//! Storage under a [`Linear`]: the variant of a weight belongs here, so that there is one forward pass for all of them.

use crate::matrix::Matrix;
use pare_kernels::pool::Pool;
use std::fmt::Debug;
use std::sync::Arc;

/// A stored weight matrix `[out, in]`.
///
/// Every storage computes the same function of its decoded values: `y[t, o]` is the fold of `fma(x[t, i], w[o, i], acc)` over
/// `i = 0..in`, in that order, from zero, in f32. So a result does not depend on the number of rows, the number of threads, the
/// instruction set or the layout; and a column of zeros gives the same bits as a column that is not there.
pub trait Weight: Send + Sync + Debug {
    /// `[out, in]`.
    fn shape(&self) -> [usize; 2];

    /// `y = x W^T`: `x` is `[T, in]`, `y` is `[T, out]` and is overwritten. `T` is `x.len() / in`.
    fn multiply(&self, x: &[f32], y: &mut [f32], pool: &Pool);

    /// Decodes row `row` (`in` values) into `out`.
    fn decode_row(&self, row: usize, out: &mut [f32]);

    /// Bytes that one multiplication reads.
    fn bytes(&self) -> usize;

    /// Short name of the storage, as in `f16`, `q4_1`.
    fn name(&self) -> &'static str;

    /// Whether every stored value is a number that `f16` holds exactly (then nothing is lost by writing it so).
    fn exact_in(&self) -> Exact;
}

/// The smallest plain float type that holds every value of a storage exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE single precision.
    F32,
}

/// A linear map `y = x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The weight `[out, in]`.
    pub weight: Arc<dyn Weight>,
    /// The bias `[out]`.
    pub bias: Option<Arc<[f32]>>,
}

impl Linear {
    /// A map without bias.
    pub fn new(weight: Arc<dyn Weight>) -> Self {
        Self { weight, bias: None }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.weight.shape()[1]
    }

    /// `y[T, out] = x[T, in] W^T + b`.
    pub fn apply(&self, x: &[f32], y: &mut [f32], pool: &Pool) {
        self.weight.multiply(x, y, pool);
        if let Some(bias) = &self.bias {
            for row in y.chunks_exact_mut(bias.len()) {
                for (value, b) in row.iter_mut().zip(bias.iter()) {
                    *value += b;
                }
            }
        }
    }

    /// The weight as a dense matrix.
    pub fn to_matrix(&self) -> Matrix {
        let [rows, cols] = self.weight.shape();
        let mut matrix = Matrix::zeros(rows, cols);
        for row in 0..rows {
            self.weight.decode_row(row, matrix.row_mut(row));
        }
        matrix
    }

    /// Stored numbers: weight and bias.
    pub fn parameters(&self) -> u64 {
        let [rows, cols] = self.weight.shape();
        rows as u64 * cols as u64 + self.bias.as_ref().map_or(0, |bias| bias.len() as u64)
    }
}
