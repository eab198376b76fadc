//! Causal attention over a cache of keys and values.

mod cache;

use crate::elementwise::softmax;
use crate::pool::Pool;
use crate::shared::Shared;
pub use cache::KvBlock;

/// Memory for the scores of [`KvBlock::attend`]; grows when needed and is then reused.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    scores: Vec<Vec<f32>>,
}

impl AttentionScratch {
    /// An empty scratch.
    pub fn new() -> Self {
        AttentionScratch::default()
    }
}

impl KvBlock {
    /// Attention of `T` tokens at positions `first..first + T` over every group.
    ///
    /// `queries` and `out` are `[T, H * D]`, `H = G * heads_per_group`, head `h` in group `h / heads_per_group`. The
    /// row of head `h` at position `p` is `softmax(scale * q . k[0..=p]) . v[0..=p]`: scores and output by the one law,
    /// over positions in order. A row has the same bits whatever else is in the call, whatever the capacity and the
    /// number of threads. The positions must have been appended. Cost: about `2 * T * H * D * p` multiply-adds.
    ///
    /// # Panics
    /// When the lengths do not agree or `first + T` is past what the cache holds.
    #[allow(clippy::too_many_arguments)]
    pub fn attend(
        &self,
        queries: &[f32],
        first: usize,
        heads_per_group: usize,
        scale: f32,
        scratch: &mut AttentionScratch,
        out: &mut [f32],
        pool: &Pool,
    ) {
        let width = self.groups() * heads_per_group * self.head_dim();
        assert!(width > 0, "attention without heads");
        assert_eq!(queries.len(), out.len(), "queries and out");
        assert!(queries.len().is_multiple_of(width), "queries are not [T, {width}]");
        let tokens = queries.len() / width;
        assert!(first + tokens <= self.len(), "positions up to {} of {}", first + tokens, self.len());
        let d = self.head_dim();
        scratch.scores.resize(1, Vec::new());
        let out = Shared::new(out);
        let _ = pool;
        for t in 0..tokens {
            for head in 0..self.groups() * heads_per_group {
                let group = head / heads_per_group;
                let query = &queries[t * width + head * d..][..d];
                // SAFETY: one thread.
                let out = unsafe { out.slice_mut(t * width + head * d, d) };
                let scores = &mut scratch.scores[0];
                scores.clear();
                scores
                    .extend((0..=first + t).map(|p| {
                        (0..d).fold(0.0f32, |acc, i| query[i].mul_add(self.key_at(p, group, i), acc)) * scale
                    }));
                softmax(scores);
                for (i, out) in out.iter_mut().enumerate() {
                    *out =
                        scores.iter().enumerate().fold(0.0, |acc, (p, s)| s.mul_add(self.value_at(p, group, i), acc));
                }
            }
        }
    }
}
