//! f32 values in memory, row by row: what surgery and repair produce.

use crate::matrix::Matrix;
use crate::weight::{Exact, Weight, Workspace};
use pare_kernels::pool::Pool;
use pare_kernels::rows::{RowSource, multiply_rows};

/// A dense f32 weight `[out, in]`.
#[derive(Clone, Debug)]
pub struct Dense(pub Matrix);

impl RowSource for Dense {
    fn shape(&self) -> [usize; 2] {
        self.0.shape()
    }

    fn decode(&self, row: usize, start: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0.row(row)[start..start + out.len()]);
    }
}

impl Weight for Dense {
    fn shape(&self) -> [usize; 2] {
        self.0.shape()
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], _: &mut Workspace, pool: &Pool) {
        multiply_rows(self, x, y, pool);
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(self.0.row(row));
    }

    fn bytes(&self) -> usize {
        size_of_val(self.0.data())
    }

    fn name(&self) -> &'static str {
        "f32"
    }

    fn exact_in(&self) -> Exact {
        Exact::F32
    }
}
