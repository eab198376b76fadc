//! A sum of weights, as a quantised or sparse core with a low-rank correction.

use crate::weight::{Composed, Exact, Repack, Weight, Workspace};
use pare_kernels::elementwise::add;
use pare_kernels::pool::Pool;
use std::sync::Arc;

/// `W = W1 + W2 + ...`, each in a storage of its own: `y` is the sum of their products, added in order in f32.
#[derive(Clone, Debug)]
pub struct Sum(Vec<Arc<dyn Weight>>);

impl Sum {
    /// The sum of `terms`; none when there is none or their shapes differ.
    pub fn new(terms: Vec<Arc<dyn Weight>>) -> Option<Self> {
        let shape = terms.first()?.shape();
        terms.iter().all(|term| term.shape() == shape).then_some(Self(terms))
    }

    /// What is added.
    pub fn terms(&self) -> &[Arc<dyn Weight>] {
        &self.0
    }
}

impl Weight for Sum {
    fn shape(&self) -> [usize; 2] {
        self.0[0].shape()
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], work: &mut Workspace, pool: &Pool) {
        self.0[0].multiply(x, y, work, pool);
        for term in &self.0[1..] {
            let mut more = work.take(y.len());
            term.multiply(x, &mut more, work, pool);
            add(y, &more);
            work.give(more);
        }
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.0[0].decode_row(row, out);
        let mut more = vec![0.0; out.len()];
        for term in &self.0[1..] {
            term.decode_row(row, &mut more);
            add(out, &more);
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|term| term.bytes()).sum()
    }

    fn name(&self) -> &'static str {
        "sum"
    }

    fn exact_in(&self) -> Exact {
        Exact::F32
    }

    fn composed(&self) -> Option<Composed<'_>> {
        Some(Composed::Sum(self))
    }

    fn repacked(&self, pack: &Repack<'_>) -> Option<Arc<dyn Weight>> {
        Some(Arc::new(Self(self.0.iter().map(pack).collect())))
    }
}
