//! A core between two block-diagonal matrices, as ARMOR leaves it.

use crate::weight::{Composed, Exact, Repack, Weight, Workspace};
use pare_kernels::block_diagonal::BlockDiagonal;
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

    /// The row of `L` times the core times `R`, each product folded in order; outside the blocks there is nothing to add.
    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let [outs, ins] = self.shape();
        let (mut left, mut core, mut middle) = (vec![0.0; outs], vec![0.0; ins], vec![0.0f32; ins]);
        self.left.decode_row(row, &mut left);
        let block = row / self.left.size() * self.left.size();
        for (o, &left) in left.iter().enumerate().skip(block).take(self.left.size()) {
            self.core.decode_row(o, &mut core);
            middle.iter_mut().zip(&core).for_each(|(sum, &core)| *sum = left.mul_add(core, *sum));
        }
        out.fill(0.0);
        for (i, &middle) in middle.iter().enumerate() {
            self.right.decode_row(i, &mut core);
            let within = out.iter_mut().zip(&core).skip(i / self.right.size() * self.right.size());
            within.take(self.right.size()).for_each(|(out, &right)| *out = middle.mul_add(right, *out));
        }
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
