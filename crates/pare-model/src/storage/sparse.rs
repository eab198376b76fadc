//! Matrices without their zeros, in the order in which the kernels read them.

use crate::weight::{Exact, Weight, Workspace};
use pare_kernels::pool::Pool;
use pare_kernels::product::{Product, multiply_together};
use pare_kernels::sparse::{EightRows, SparseType, TwoOfFour};

/// A weight `[out, in]` that keeps 2 of every 4 inputs, or columns that 8 outputs share.
///
/// All but one obey the law of [`Weight`]: 2:4 with 8-bit integers rounds the rows that it multiplies to 8 bits, always, loaded or
/// packed, because it has no other kernel. Packed as [`crate::model::PackAs::Exact`] it becomes plain panels, which do not round.
#[derive(Debug)]
pub struct Sparse {
    matrix: SparseMatrix,
    name: &'static str,
    exact: Exact,
}

/// What a [`Sparse`] holds.
#[derive(Debug)]
pub enum SparseMatrix {
    /// 2 of every 4 inputs.
    TwoOfFour(TwoOfFour),
    /// Columns that 8 outputs share.
    EightRows(EightRows),
}

impl Sparse {
    /// 2 of every 4 inputs: `2of4-f16` or `2of4-int8`.
    pub fn two_of_four(matrix: TwoOfFour) -> Self {
        let (name, exact) = match matrix.sparse_type() {
            SparseType::F16 => ("2of4-f16", Exact::F16),
            SparseType::Int8 => ("2of4-int8", Exact::F32),
        };
        Self { matrix: SparseMatrix::TwoOfFour(matrix), name, exact }
    }

    /// Columns that 8 outputs share: `rows8-f16` or `rows8-int8`.
    pub fn eight_rows(matrix: EightRows) -> Self {
        let (name, exact) = match matrix.sparse_type() {
            SparseType::F16 => ("rows8-f16", Exact::F16),
            SparseType::Int8 => ("rows8-int8", Exact::F32),
        };
        Self { matrix: SparseMatrix::EightRows(matrix), name, exact }
    }

    /// The matrix.
    pub fn matrix(&self) -> &SparseMatrix {
        &self.matrix
    }

    fn as_product(&self) -> &dyn Product {
        match &self.matrix {
            SparseMatrix::TwoOfFour(matrix) => matrix,
            SparseMatrix::EightRows(matrix) => matrix,
        }
    }
}

impl Weight for Sparse {
    fn shape(&self) -> [usize; 2] {
        self.as_product().shape()
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], work: &mut Workspace, pool: &Pool) {
        multiply_together([(self.as_product(), y)], x, &mut work.int8, pool);
    }

    fn product(&self) -> Option<&dyn Product> {
        Some(self.as_product())
    }

    fn as_sparse(&self) -> Option<&Sparse> {
        Some(self)
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.as_product().decode_row(row, out);
    }

    fn bytes(&self) -> usize {
        self.as_product().bytes()
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn exact_in(&self) -> Exact {
        self.exact
    }
}
