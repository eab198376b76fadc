//! Storage under a [`Linear`]: the variant of a weight belongs here, so that there is one forward pass for all of them.

use crate::matrix::Matrix;
use crate::storage::{LowRank, Sparse, Stored, Sum, Wrapped};
use pare_kernels::int8::Int8Rows;
use pare_kernels::pool::Pool;
use pare_kernels::product::{Product, multiply_together};
use std::fmt::Debug;
use std::sync::Arc;

/// A stored weight matrix `[out, in]`.
///
/// A storage that multiplies f32 rows computes the same function of its decoded values as every other: `y[t, o]` is the fold of
/// `fma(x[t, i], w[o, i], acc)` over `i = 0..in`, in that order, from zero, in f32. One that rounds its rows to 8 bits has the law of
/// [`pare_kernels::quant`]. Either way a result does not depend on the number of rows, the number of threads, the instruction set or
/// the layout; and in the first a column of zeros gives the same bits as a column that is not there.
pub trait Weight: Send + Sync + Debug {
    /// `[out, in]`.
    fn shape(&self) -> [usize; 2];

    /// `y = x W^T`: `x` is `[T, in]`, `y` is `[T, out]` and is overwritten. `T` is `x.len() / in`.
    fn multiply(&self, x: &[f32], y: &mut [f32], work: &mut Workspace, pool: &Pool);

    /// The packed form, which can share a fork of the threads with others that read the same rows.
    fn product(&self) -> Option<&dyn Product> {
        None
    }

    /// The bytes of a file, when that is what it is.
    fn as_stored(&self) -> Option<&Stored> {
        None
    }

    /// The matrix without its zeros, when that is what it is.
    fn as_sparse(&self) -> Option<&Sparse> {
        None
    }

    /// What it is made of, for a storage of storages.
    fn composed(&self) -> Option<Composed<'_>> {
        None
    }

    /// For a storage of storages: the same with each of them repacked by `pack`.
    fn repacked(&self, pack: &Repack<'_>) -> Option<Arc<dyn Weight>> {
        let _ = pack;
        None
    }

    /// Whether it is multiplied where it is: no kernel takes its codes, and repacked as f32 it would need several times the memory.
    fn stays(&self) -> bool {
        false
    }

    /// Decodes row `row` (`in` values) into `out`.
    fn decode_row(&self, row: usize, out: &mut [f32]);

    /// Decodes all rows into `out` `[out, in]`, for storages whose rows share work.
    fn decode_all(&self, out: &mut [f32]) {
        let width = self.shape()[1].max(1);
        out.chunks_exact_mut(width).enumerate().for_each(|(row, out)| self.decode_row(row, out));
    }

    /// Bytes that one multiplication reads.
    fn bytes(&self) -> usize;

    /// Short name of the storage, as in `f16`, `q4_1`.
    fn name(&self) -> &'static str;

    /// Whether every stored value is a number that `f16` holds exactly (then nothing is lost by writing it so).
    fn exact_in(&self) -> Exact;
}

/// A storage of storages.
#[derive(Clone, Copy, Debug)]
pub enum Composed<'a> {
    /// A product of two thin weights.
    LowRank(&'a LowRank),
    /// Several weights, added.
    Sum(&'a Sum),
    /// A core between two block-diagonal matrices.
    Wrapped(&'a Wrapped),
}

/// From a weight to the same in another form.
pub type Repack<'a> = dyn Fn(&Arc<dyn Weight>) -> Arc<dyn Weight> + 'a;

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

/// Memory that products need while they run; grows when needed and is then reused.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Rows rounded to 8 bits.
    pub int8: Int8Rows,
    spare: Vec<Vec<f32>>,
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of `len` values of no meaning; hand it back with [`Workspace::give`], so that the next one costs nothing.
    pub fn take(&mut self, len: usize) -> Vec<f32> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.resize(len, 0.0);
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Vec<f32>) {
        self.spare.push(buffer);
    }
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
    pub fn apply(&self, x: &[f32], y: &mut [f32], work: &mut Workspace, pool: &Pool) {
        self.weight.multiply(x, y, work, pool);
        self.add_bias(y);
    }

    fn add_bias(&self, y: &mut [f32]) {
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
        self.weight.decode_all(matrix.data_mut());
        matrix
    }

    /// Stored numbers: weight and bias.
    pub fn parameters(&self) -> u64 {
        let [rows, cols] = self.weight.shape();
        rows as u64 * cols as u64 + self.bias.as_ref().map_or(0, |bias| bias.len() as u64)
    }
}

/// [`Linear::apply`] for maps that read the same rows: packed ones share one fork of the threads. The bits are the same.
pub fn apply_together<const N: usize>(maps: [(&Linear, &mut [f32]); N], x: &[f32], work: &mut Workspace, pool: &Pool) {
    let products = maps.each_ref().map(|(linear, _)| linear.weight.product());
    if products.iter().any(Option::is_none) {
        return maps.into_iter().for_each(|(linear, y)| linear.apply(x, y, work, pool));
    }
    let mut outputs = maps;
    let mut next = products.into_iter().flatten();
    // Every product is there, so each term finds its own.
    let terms = outputs.each_mut().map(|(_, y)| (next.next().expect("one product per map"), &mut **y));
    multiply_together(terms, x, &mut work.int8, pool);
    for (linear, y) in outputs {
        linear.add_bias(y);
    }
}
