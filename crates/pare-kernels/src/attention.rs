//! Causal attention over a cache of keys and values.

mod cache;

use crate::elementwise::scaled_softmax;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::PANEL;
pub use cache::KvBlock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Query rows that one tile aims at.
const ROWS: usize = 36;
/// Positions whose values are read for every row of a tile before the next ones: 32 KB of a panel.
const CHUNK: usize = 256;

/// Memory for the scores of [`KvBlock::attend`]; grows when needed and is then reused.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    desks: Vec<Desk>,
}

/// What one thread works on.
#[derive(Debug, Default)]
struct Desk {
    queries: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
}

impl AttentionScratch {
    /// An empty scratch.
    pub fn new() -> Self {
        AttentionScratch::default()
    }

    /// Desks for `threads` threads, each for `rows` rows of width `d` over `positions` positions.
    fn prepare(&mut self, threads: usize, rows: usize, d: usize, positions: usize) {
        let grow = |memory: &mut Vec<f32>, length: usize| {
            if memory.len() < length {
                memory.resize(length, 0.0);
            }
        };
        if self.desks.len() < threads {
            self.desks.resize_with(threads, Desk::default);
        }
        for desk in &mut self.desks[..threads] {
            grow(&mut desk.queries, rows * d);
            grow(&mut desk.out, rows * d);
            grow(&mut desk.scores, rows * positions.next_multiple_of(PANEL));
        }
    }
}

/// Where the rows of one group are read and written, and what they attend to.
#[derive(Clone, Copy)]
struct Rows<'a> {
    isa: Isa,
    queries: &'a [f32],
    /// From one token to the next, in `queries` and in `out`.
    strides: [usize; 2],
    first: usize,
    heads: usize,
    scale: f32,
}

impl KvBlock {
    /// Attention of `T` tokens at positions `first..first + T` over every group.
    ///
    /// `queries` and `out` are `[T, H * D]`, `H = G * heads_per_group`, head `h` in group `h / heads_per_group`. The
    /// row of head `h` at position `p` is `softmax(scale * q . k[0..=p]) . v[0..=p]`: scores and output by the one law,
    /// the output over positions in order. A row has the same bits whatever else is in the call, whatever the capacity
    /// and the number of threads. The positions must be held. Cost: about `2 * T * H * D * p` multiply-adds; no
    /// allocation once `scratch` has grown.
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
        self.attend_on(Isa::detect(), queries, first, heads_per_group, scale, scratch, out, pool);
    }

    #[allow(clippy::too_many_arguments)]
    fn attend_on(
        &self,
        isa: Isa,
        queries: &[f32],
        first: usize,
        heads: usize,
        scale: f32,
        scratch: &mut AttentionScratch,
        out: &mut [f32],
        pool: &Pool,
    ) {
        let each = heads * self.head_dim();
        let width = self.groups() * each;
        assert!(width > 0, "attention without heads");
        assert_eq!(queries.len(), out.len(), "queries and out");
        assert!(queries.len().is_multiple_of(width), "queries are not [T, {width}]");
        let tokens = queries.len() / width;
        self.check_positions(first, tokens);
        let step = tokens_per_tile(heads);
        let steps = tokens.div_ceil(step);
        let tiles = steps * self.groups();
        let threads = pool.threads().min(tiles);
        // For as far as the cache reaches, so that decoding grows nothing token by token.
        scratch.prepare(threads, step.min(tokens) * heads, self.head_dim(), self.capacity());
        let (desks, out) = (Shared::new(&mut scratch.desks), Shared::new(out));
        let next = AtomicUsize::new(0);
        pool.run(threads, &|part| {
            // SAFETY: each part has a desk of its own.
            let desk = unsafe { &mut desks.slice_mut(part, 1)[0] };
            loop {
                let tile = next.fetch_add(1, Ordering::Relaxed);
                if tile >= tiles {
                    return;
                }
                // Group by group, so that its keys and values stay in the cache; later tokens see more and go first.
                let (group, token) = (tile / steps, (steps - 1 - tile % steps) * step);
                let strides = [width, width];
                let rows = Rows { isa, queries: &queries[group * each..], strides, first, heads, scale };
                self.attend_tile(group, &rows, token..tokens.min(token + step), desk, &|at, row: &[f32]| {
                    // SAFETY: each tile writes the rows of its own tokens and group.
                    unsafe { out.slice_mut(group * each + at, row.len()) }.copy_from_slice(row);
                });
            }
        });
    }

    /// Attention of `T` tokens at positions `first..first + T` over one group, in the calling thread.
    ///
    /// Token `t` has its `heads` query rows of `D` values from `queries[t * query_stride]` on, and its results from
    /// `out[t * out_stride]` on. The bits are those of [`KvBlock::attend`].
    ///
    /// # Panics
    /// When a slice is too short, there is no such group, or `first + T` is past what the cache holds.
    #[allow(clippy::too_many_arguments)]
    pub fn attend_group(
        &self,
        group: usize,
        queries: &[f32],
        query_stride: usize,
        tokens: usize,
        first: usize,
        heads: usize,
        scale: f32,
        scratch: &mut AttentionScratch,
        out: &mut [f32],
        out_stride: usize,
    ) {
        assert!(group < self.groups(), "group {group} of {}", self.groups());
        assert!(heads > 0 && self.head_dim() > 0, "attention without heads");
        self.check_positions(first, tokens);
        let step = tokens_per_tile(heads);
        scratch.prepare(1, step.min(tokens) * heads, self.head_dim(), self.capacity());
        let out = std::cell::RefCell::new(out);
        let rows = Rows { isa: Isa::detect(), queries, strides: [query_stride, out_stride], first, heads, scale };
        for token in (0..tokens).step_by(step) {
            self.attend_tile(group, &rows, token..tokens.min(token + step), &mut scratch.desks[0], &|at, row| {
                out.borrow_mut()[at..at + row.len()].copy_from_slice(row);
            });
        }
    }

    fn check_positions(&self, first: usize, tokens: usize) {
        let held = first <= self.len() && tokens <= self.len() - first;
        assert!(held, "positions {first}..{first} + {tokens} of {} held", self.len());
    }

    /// The rows of a few tokens; `write(offset, values)` receives the rows of each token.
    fn attend_tile(
        &self,
        group: usize,
        at: &Rows<'_>,
        tokens: std::ops::Range<usize>,
        desk: &mut Desk,
        write: &dyn Fn(usize, &[f32]),
    ) {
        let (d, heads) = (self.head_dim(), at.heads);
        let rows = tokens.len() * heads;
        let (low, high) = (at.first + tokens.start, at.first + tokens.end);
        let stride = high.next_multiple_of(PANEL);
        for (token, row) in tokens.clone().zip(desk.queries.chunks_exact_mut(heads * d)) {
            row.copy_from_slice(&at.queries[token * at.strides[0]..][..heads * d]);
        }
        let (queries, scores) = (&desk.queries[..rows * d], &mut desk.scores[..rows * stride]);
        for position in (0..high).step_by(PANEL) {
            let keys = self.key_panel(group, position);
            let scores = &mut scores[position..];
            let tile = Product { x: queries, x_stride: d, rows, panel: keys, width: PANEL, accumulate: false };
            tile.run(at.isa, d, scores, stride);
        }
        for (row, scores) in scores.chunks_exact_mut(stride).enumerate() {
            scaled_softmax(&mut scores[..=low + row / heads], at.scale);
        }
        let out = &mut desk.out[..rows * d];
        for dim in (0..d).step_by(PANEL) {
            let values = self.value_panel(group, dim);
            let width = PANEL.min(d - dim);
            // What every row sees, piece by piece; then for each token but the first the positions it sees more.
            for start in (0..=low).step_by(CHUNK) {
                let depth = CHUNK.min(low + 1 - start);
                let panel = &values[start * PANEL..];
                let x = &scores[start..];
                let tile = Product { x, x_stride: stride, rows, panel, width, accumulate: start > 0 };
                tile.run(at.isa, depth, &mut out[dim..], d);
            }
            for token in 1..tokens.len() {
                let (start, row) = (low + 1, token * heads);
                let panel = &values[start * PANEL..];
                let x = &scores[row * stride + start..];
                let tile = Product { x, x_stride: stride, rows: heads, panel, width, accumulate: true };
                tile.run(at.isa, token, &mut out[row * d + dim..], d);
            }
        }
        for (token, row) in tokens.zip(out.chunks_exact(heads * d)) {
            write(token * at.strides[1], row);
        }
    }
}

/// So many tokens fill the rows of a tile.
fn tokens_per_tile(heads: usize) -> usize {
    (ROWS / heads.max(1)).max(1)
}

/// Rows times one panel: [`crate::tile::multiply_panel`] without its list of arguments.
struct Product<'a> {
    x: &'a [f32],
    x_stride: usize,
    rows: usize,
    panel: &'a [f32],
    width: usize,
    accumulate: bool,
}

impl Product<'_> {
    fn run(&self, isa: Isa, depth: usize, y: &mut [f32], y_stride: usize) {
        crate::tile::multiply_panel_on(
            isa,
            self.x,
            self.x_stride,
            self.rows,
            self.panel,
            depth,
            y,
            y_stride,
            self.width,
            self.accumulate,
        );
    }
}

#[cfg(test)]
mod tests;
