//! A product of two thin weights, as a truncated decomposition leaves it.

use crate::weight::{Composed, Exact, Repack, Weight, Workspace};
use pare_kernels::pool::Pool;
use std::sync::Arc;

/// `W = A B` with `A` `[out, R]` and `B` `[R, in]`, each in a storage of its own: `y = A (B x)`.
///
/// Cost: `R * (out + in)` multiply-adds a row, less than dense when `R < out * in / (out + in)`.
#[derive(Clone, Debug)]
pub struct LowRank {
    a: Arc<dyn Weight>,
    b: Arc<dyn Weight>,
}

impl LowRank {
    /// The product of `a` and `b`; none when their ranks differ.
    pub fn new(a: Arc<dyn Weight>, b: Arc<dyn Weight>) -> Option<Self> {
        (a.shape()[1] == b.shape()[0]).then_some(Self { a, b })
    }

    /// `R`.
    pub fn rank(&self) -> usize {
        self.a.shape()[1]
    }

    /// `A` `[out, R]` and `B` `[R, in]`.
    pub fn factors(&self) -> (&Arc<dyn Weight>, &Arc<dyn Weight>) {
        (&self.a, &self.b)
    }
}

impl Weight for LowRank {
    fn shape(&self) -> [usize; 2] {
        [self.a.shape()[0], self.b.shape()[1]]
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], work: &mut Workspace, pool: &Pool) {
        let rows = y.len().checked_div(self.shape()[0]).unwrap_or(0);
        let mut inner = work.take(rows * self.rank());
        self.b.multiply(x, &mut inner, work, pool);
        self.a.multiply(&inner, y, work, pool);
        work.give(inner);
    }

    /// The row of `A` times `B`, folded over the rank in order.
    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let mut a = vec![0.0; self.rank()];
        self.a.decode_row(row, &mut a);
        let mut b = vec![0.0; out.len()];
        out.fill(0.0);
        for (r, &a) in a.iter().enumerate() {
            self.b.decode_row(r, &mut b);
            out.iter_mut().zip(&b).for_each(|(out, &b)| *out = a.mul_add(b, *out));
        }
    }

    fn bytes(&self) -> usize {
        self.a.bytes() + self.b.bytes()
    }

    fn name(&self) -> &'static str {
        "low rank"
    }

    fn exact_in(&self) -> Exact {
        Exact::F32
    }

    fn composed(&self) -> Option<Composed<'_>> {
        Some(Composed::LowRank(self))
    }

    fn repacked(&self, pack: &Repack<'_>) -> Option<Arc<dyn Weight>> {
        Some(Arc::new(Self { a: pack(&self.a), b: pack(&self.b) }))
    }
}
