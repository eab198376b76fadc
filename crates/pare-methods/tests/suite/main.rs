//! What every method must do, looped over the registries, and agreement with the references in `goldens/`.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod allocate;
mod compensate;
mod emulated;
mod encode;
mod golden;
mod golden_allocate;
mod golden_encode;
mod golden_metric;
mod golden_rewrite;
mod golden_score;
mod golden_sparse;
mod merge;
mod merge_features;
mod restore;
mod rewrite;
mod score;
mod tidy;

/// A stream of numbers in -1..1 from a seed, by a linear congruence: enough to vary a test.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn many(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }

    fn below(&mut self, limit: usize) -> usize {
        ((self.next() + 1.0) / 2.0 * limit as f64) as usize % limit
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> pare_model::matrix::Matrix {
        let values = self.many(rows * cols).into_iter().map(|value| value as f32).collect();
        pare_model::matrix::Matrix::from_vec(rows, cols, values)
    }

    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}
