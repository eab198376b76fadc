//! A core between two block-diagonal matrices, as ARMOR leaves it.

use crate::weight::{Composed, Exact, Repack, Weight, Workspace};
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::elementwise::subtract_rows;
use pare_kernels::pool::Pool;
use pare_kernels::product::{Product, multiply_together};
use std::sync::Arc;

/// `W = L S R` with `L` `[out, out]` and `R` `[in, in]` block diagonal and the core `S` `[out, in]` in any storage:
/// `y = L (S (R x))`.
///
/// Cost beside the core's: `out * l + in * r` multiply-adds a row for blocks of `l` and `r`.
#[derive(Clone, Debug)]
pub struct Wrapped {
    left: Arc<BlockDiagonal>,
    core: Arc<dyn Weight>,
    right: Arc<BlockDiagonal>,
}

impl Wrapped {
    /// The product of the three; none when their shapes do not meet.
    pub fn new(left: Arc<BlockDiagonal>, core: Arc<dyn Weight>, right: Arc<BlockDiagonal>) -> Option<Self> {
        ([left.shape()[1], right.shape()[0]] == core.shape()).then_some(Self { left, core, right })
    }

    /// `L` and `R`.
    pub fn diagonals(&self) -> [&BlockDiagonal; 2] {
        [&self.left, &self.right]
    }

    /// Rows of `L` times the core times `R` from row `first` on, all of one block of `L`. Each product is folded in order, and outside the
    /// blocks there is nothing to add.
    fn decode_rows(&self, first: usize, out: &mut [f32]) {
        let width = self.shape()[1];
        if out.is_empty() {
            return;
        }
        let [left, right] = [self.left.size(), self.right.size()];
        let mut core = vec![0.0; left * width];
        for (o, row) in core.chunks_exact_mut(width).enumerate() {
            self.core.decode_row(first / left * left + o, row);
        }
        let (mut weights, mut block) = (vec![0.0; left], vec![0.0; right * right]);
        let mut middle = vec![0.0; out.len()];
        for (o, middle) in middle.chunks_exact_mut(width).enumerate() {
            self.left.decode_within(first + o, &mut weights);
            // What is taken away with the other sign is added.
            weights.iter_mut().for_each(|weight| *weight = -*weight);
            subtract_rows(middle, &weights, &core, width);
            middle.iter_mut().for_each(|value| *value = -*value);
        }
        out.fill(0.0);
        for from in (0..width).step_by(right) {
            for (i, row) in block.chunks_exact_mut(right).enumerate() {
                self.right.decode_within(from + i, row);
            }
            for (out, middle) in out.chunks_exact_mut(width).zip(middle.chunks_exact(width)) {
                subtract_rows(&mut out[from..from + right], &middle[from..from + right], &block, right);
            }
        }
    }

    /// What is wrapped.
    pub fn core(&self) -> &Arc<dyn Weight> {
        &self.core
    }
}

impl Weight for Wrapped {
    fn shape(&self) -> [usize; 2] {
        self.core.shape()
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], work: &mut Workspace, pool: &Pool) {
        let (mut inner, mut outer) = (work.take(x.len()), work.take(y.len()));
        multiply_together([(self.right.as_ref() as &dyn Product, &mut inner[..])], x, &mut work.int8, pool);
        self.core.multiply(&inner, &mut outer, work, pool);
        multiply_together([(self.left.as_ref() as &dyn Product, y)], &outer, &mut work.int8, pool);
        work.give(inner);
        work.give(outer);
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.decode_rows(row, out);
    }

    fn decode_all(&self, out: &mut [f32]) {
        let (size, width) = (self.left.size(), self.shape()[1]);
        out.chunks_mut((size * width).max(1)).enumerate().for_each(|(strip, out)| self.decode_rows(strip * size, out));
    }

    fn bytes(&self) -> usize {
        self.left.bytes() + self.core.bytes() + self.right.bytes()
    }

    fn name(&self) -> &'static str {
        "wrapped"
    }

    fn exact_in(&self) -> Exact {
        Exact::F32
    }

    fn composed(&self) -> Option<Composed<'_>> {
        Some(Composed::Wrapped(self))
    }

    fn repacked(&self, pack: &Repack<'_>) -> Option<Arc<dyn Weight>> {
        Some(Arc::new(Self { core: pack(&self.core), ..self.clone() }))
    }
}
