//! Causal attention over a cache of keys and values.

mod cache;

use crate::elementwise::scaled_softmax;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::{F32, PANEL, Tile, most_rows, multiply_tile, tiles};
pub use cache::KvBlock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Query rows that one tile aims at.
const ROWS: usize = 36;
/// Positions whose values are read for every row of a tile before the next ones: 32 KB of a panel.
const CHUNK: usize = 256;
/// Positions from which threads share the work of a few tokens: three more forks and joins must be worth it.
const LONG: usize = 128;

/// Memory for the scores of [`KvBlock::attend`]; grows when needed and is then reused.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    scratches: Vec<ThreadScratch>,
}

/// What one thread works on.
#[derive(Debug, Default)]
struct ThreadScratch {
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
        if self.scratches.len() < threads {
            self.scratches.resize_with(threads, ThreadScratch::default);
        }
        for scratch in &mut self.scratches[..threads] {
            grow(&mut scratch.queries, rows * d);
            grow(&mut scratch.out, rows * d);
            grow(&mut scratch.scores, rows * positions.next_multiple_of(PANEL));
        }
    }
}

/// Where rows are read and written, those of one group or of all, and what they attend to.
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
        // For as far as the cache reaches, and for all groups at once, so that decoding grows nothing token by token.
        let rows = if steps == 1 { self.groups() * tokens * heads } else { step * heads };
        scratch.prepare(threads, rows, self.head_dim(), self.capacity());
        let strides = [width, width];
        if steps == 1 && pool.threads() > 1 && first + tokens >= LONG {
            let rows = Rows { isa, queries, strides, first, heads, scale };
            return self.attend_shared(&rows, tokens, &mut scratch.scratches[0], out, pool);
        }
        let (scratches, out) = (Shared::new(&mut scratch.scratches), Shared::new(out));
        let next = AtomicUsize::new(0);
        pool.run(threads, &|part| {
            // SAFETY: each part has a scratch of its own.
            let scratch = unsafe { &mut scratches.slice_mut(part, 1)[0] };
            loop {
                let tile = next.fetch_add(1, Ordering::Relaxed);
                if tile >= tiles {
                    return;
                }
                // Group by group, so that its keys and values stay in the cache; later tokens see more and go first.
                let (group, token) = (tile / steps, (steps - 1 - tile % steps) * step);
                let rows = Rows { isa, queries: &queries[group * each..], strides, first, heads, scale };
                self.attend_tile(group, &rows, token..tokens.min(token + step), scratch, &|at, row: &[f32]| {
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
            self.attend_tile(group, &rows, token..tokens.min(token + step), &mut scratch.scratches[0], &|at, row| {
                out.borrow_mut()[at..at + row.len()].copy_from_slice(row);
            });
        }
    }

    fn check_positions(&self, first: usize, tokens: usize) {
        let held = first <= self.len() && tokens <= self.len() - first;
        assert!(held, "positions {first}..{first} + {tokens} of {} held", self.len());
    }

    /// [`KvBlock::attend_on`] for so few tokens that each group is one tile: threads share positions, then rows, then dimensions.
    fn attend_shared(&self, at: &Rows<'_>, tokens: usize, scratch: &mut ThreadScratch, out: &mut [f32], pool: &Pool) {
        let &Rows { isa, queries, strides: [width, _], first, heads, scale } = at;
        let (d, groups) = (self.head_dim(), self.groups());
        let each = heads * d;
        let (rows, high) = (tokens * heads, first + tokens);
        let ThreadScratch { queries: gathered, scores, out: mixed } = scratch;
        for (at, row) in gathered.chunks_exact_mut(each).take(groups * tokens).enumerate() {
            let (group, token) = (at / tokens, at % tokens);
            row.copy_from_slice(&queries[token * width + group * each..][..each]);
        }
        let seen = Seen { low: first, tokens, heads, stride: high.next_multiple_of(PANEL), far: true };
        let gathered = &*gathered;
        let shared = Shared::new(scores);
        let pieces = high.div_ceil(CHUNK);
        pool.run(groups * pieces, &|part| {
            let (group, start) = (part / pieces, part % pieces * CHUNK);
            let queries = &gathered[group * rows * d..][..rows * d];
            let at = Place { start: group * rows * seen.stride, to: &shared };
            // SAFETY: each part writes the scores of its own group and positions.
            unsafe { self.score(isa, group, queries, start..high.min(start + CHUNK), &seen, at) };
        });
        pool.run(groups * rows, &|row| {
            // SAFETY: each row belongs to one part.
            let scores = unsafe { shared.slice_mut(row * seen.stride, seen.stride) };
            scaled_softmax(&mut scores[..=seen.last(row % rows)], scale);
        });
        let scores = &*scores;
        let shared = Shared::new(mixed);
        let dims = d.div_ceil(PANEL);
        pool.run(groups * dims, &|part| {
            let (group, dim) = (part / dims, part % dims * PANEL);
            let scores = &scores[group * rows * seen.stride..][..rows * seen.stride];
            let at = Place { start: group * rows * d, to: &shared };
            // SAFETY: each part writes the dimensions of its own group.
            unsafe { self.mix(isa, group, dim, scores, &seen, at) };
        });
        for (at, row) in mixed.chunks_exact(each).take(groups * tokens).enumerate() {
            let (group, token) = (at / tokens, at % tokens);
            out[token * width + group * each..][..each].copy_from_slice(row);
        }
    }

    /// The rows of a few tokens; `write(offset, values)` receives the rows of each token.
    fn attend_tile(
        &self,
        group: usize,
        at: &Rows<'_>,
        tokens: std::ops::Range<usize>,
        scratch: &mut ThreadScratch,
        write: &dyn Fn(usize, &[f32]),
    ) {
        let (d, heads) = (self.head_dim(), at.heads);
        let rows = tokens.len() * heads;
        let (low, high) = (at.first + tokens.start, at.first + tokens.end);
        let stride = high.next_multiple_of(PANEL);
        let seen = Seen { low, tokens: tokens.len(), heads, stride, far: false };
        for (token, row) in tokens.clone().zip(scratch.queries.chunks_exact_mut(heads * d)) {
            row.copy_from_slice(&at.queries[token * at.strides[0]..][..heads * d]);
        }
        let (queries, scores) = (&scratch.queries[..rows * d], &mut scratch.scores[..rows * stride]);
        // SAFETY: the scores are the thread's scratch's, borrowed for this call.
        unsafe { self.score(at.isa, group, queries, 0..high, &seen, Place { start: 0, to: &Shared::new(scores) }) };
        for (row, scores) in scores.chunks_exact_mut(stride).enumerate() {
            scaled_softmax(&mut scores[..=seen.last(row)], at.scale);
        }
        let out = &mut scratch.out[..rows * d];
        for dim in (0..d).step_by(PANEL) {
            // SAFETY: the results are the thread's scratch's, borrowed for this call.
            unsafe { self.mix(at.isa, group, dim, scores, &seen, Place { start: 0, to: &Shared::new(out) }) };
        }
        for (token, row) in tokens.zip(out.chunks_exact(heads * d)) {
            write(token * at.strides[1], row);
        }
    }

    /// `scores[row, position] = queries[row] . key[position]` for `positions`, which begin at a multiple of 32.
    ///
    /// # Safety
    /// Nobody else uses the scores of these positions, of which each row has `seen.stride`.
    unsafe fn score(
        &self,
        isa: Isa,
        group: usize,
        queries: &[f32],
        positions: std::ops::Range<usize>,
        seen: &Seen,
        scores: Place<'_>,
    ) {
        let (d, far, first) = (self.head_dim(), seen.far, positions.start);
        // Checked once for all panels: a decoded token meets one panel of keys in a tenth of a microsecond.
        let y = scores.further(first).window(seen.rows(), seen.stride, positions.len().next_multiple_of(PANEL));
        for position in positions.step_by(PANEL) {
            let panel = self.key_panel(group, position);
            let product =
                Product { x: queries, x_stride: d, rows: seen.rows(), panel, width: PANEL, accumulate: false, far };
            // SAFETY: the caller's promise, within the window.
            unsafe { product.run(isa, d, y.add(position - first), seen.stride) };
        }
    }

    /// `out[row, dim..dim + 32]` = the sum over the positions that the row sees of its score times their value.
    ///
    /// # Safety
    /// Nobody else uses these dimensions of `out`, whose rows have `D` values.
    unsafe fn mix(&self, isa: Isa, group: usize, dim: usize, scores: &[f32], seen: &Seen, out: Place<'_>) {
        let &Seen { low, tokens, heads, stride, far } = seen;
        let d = self.head_dim();
        let values = self.value_panel(group, dim);
        let width = PANEL.min(d - dim);
        // What every row sees, piece by piece; then for each token but the first the positions it sees more.
        for start in (0..=low).step_by(CHUNK) {
            let depth = CHUNK.min(low + 1 - start);
            let (x, panel, accumulate) = (&scores[start..], &values[start * PANEL..], start > 0);
            let product = Product { x, x_stride: stride, rows: seen.rows(), panel, width, accumulate, far };
            let y = out.further(dim).window(seen.rows(), d, width);
            // SAFETY: the caller's promise, within the window.
            unsafe { product.run(isa, depth, y, d) };
        }
        for token in 1..tokens {
            let (start, row) = (low + 1, token * heads);
            let (x, panel) = (&scores[row * stride + start..], &values[start * PANEL..]);
            let product = Product { x, x_stride: stride, rows: heads, panel, width, accumulate: true, far };
            let y = out.further(row * d + dim).window(heads, d, width);
            // SAFETY: the caller's promise, within the window.
            unsafe { product.run(isa, token, y, d) };
        }
    }
}

/// What the rows of a few tokens see.
struct Seen {
    /// The position of the first token.
    low: usize,
    tokens: usize,
    /// Rows of a token.
    heads: usize,
    /// Scores from one row to the next.
    stride: usize,
    /// Whether keys and values come from memory and are worth fetching ahead.
    far: bool,
}

impl Seen {
    fn rows(&self) -> usize {
        self.tokens * self.heads
    }

    /// The last position that `row` sees.
    fn last(&self, row: usize) -> usize {
        self.low + row / self.heads
    }
}

/// So many tokens fill the rows of a tile.
fn tokens_per_tile(heads: usize) -> usize {
    (ROWS / heads.max(1)).max(1)
}

/// Where rows of results begin.
#[derive(Clone, Copy)]
struct Place<'a> {
    start: usize,
    to: &'a Shared<'a, f32>,
}

impl Place<'_> {
    fn further(self, by: usize) -> Self {
        Place { start: self.start + by, ..self }
    }

    /// Where `rows` rows of `width` values begin, one every `stride`: all of them lie in what is shared.
    fn window(self, rows: usize, stride: usize, width: usize) -> *mut f32 {
        self.to.window(self.start, rows, stride, width)
    }
}

/// Rows times one panel.
struct Product<'a> {
    x: &'a [f32],
    x_stride: usize,
    rows: usize,
    panel: &'a [f32],
    width: usize,
    accumulate: bool,
    far: bool,
}

impl Product<'_> {
    /// Over the first `depth` values of each row, into rows of `width` values at `y`.
    ///
    /// # Safety
    /// These rows of `y` are valid, and nobody else uses them.
    unsafe fn run(&self, isa: Isa, depth: usize, y: *mut f32, y_stride: usize) {
        assert!(self.rows > 0 && self.x.len() >= (self.rows - 1) * self.x_stride + depth, "the rows are too short");
        assert!(self.panel.len() >= depth * PANEL, "the panel is too short");
        for (first, rows) in tiles(self.rows, most_rows(isa)) {
            let tile = Tile {
                x: self.x[first * self.x_stride..].as_ptr(),
                x_stride: self.x_stride,
                x_step: 1,
                rows,
                panel: self.panel.as_ptr().cast(),
                panel_stride: 0,
                depth,
                y: y.wrapping_add(first * y_stride),
                y_stride,
                width: self.width,
                accumulate: self.accumulate,
            };
            // SAFETY: the caller's promise, and the lengths were compared.
            unsafe {
                match self.far && first == 0 {
                    true => multiply_tile::<F32, true, false>(isa, 1, tile),
                    false => multiply_tile::<F32, false, false>(isa, 1, tile),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
