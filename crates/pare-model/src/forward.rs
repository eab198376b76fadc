//! The forward pass: one for all storages, for one row or thousands, for one sequence or many side by side.
//!
//! Rows are tokens. A batch is a list of [`Segment`]s, each a run of consecutive tokens of one sequence whose earlier tokens are in
//! that sequence's [`KvCache`]. Prefill is one long segment, decoding is a segment of one token, calibration is many segments. The
//! numbers of a row do not depend on the other rows of its batch: every kernel folds in an order fixed by the row alone.

use crate::block::{Attention, Block, Ffn, Mixer};
use crate::model::{Architecture, Model};
use crate::rope::RopeTable;
use crate::site::{Point, Site};
use crate::weight::{Linear, Workspace, apply_together};
use pare_kernels::attention::{AttentionScratch, KvBlock};
use pare_kernels::each_row;
use pare_kernels::elementwise::{add, rms_norm, rms_norm_in_place, rotate, silu_product};
use pare_kernels::pool::Pool;
use std::ops::ControlFlow;
use std::sync::Mutex;

/// Consecutive tokens of one sequence, which has one segment in a batch at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which of the caches belongs to the sequence.
    pub sequence: usize,
    /// Position of its first token: how many tokens the cache holds.
    pub start: usize,
    /// How many tokens.
    pub len: usize,
}

/// Keys and values of one sequence, for each block.
#[derive(Debug)]
pub struct KvCache {
    blocks: Vec<KvBlock>,
}

impl KvCache {
    /// An empty cache for up to `capacity` tokens of `model`.
    pub fn new(model: &Model, capacity: usize) -> Self {
        Self::of_blocks(&model.blocks, model.architecture.head_dim, capacity)
    }

    /// An empty cache for a run of blocks alone.
    pub fn of_blocks(blocks: &[Block], head_dim: usize, capacity: usize) -> Self {
        let groups = |block: &Block| block.attention().map_or(0, |attention| attention.groups);
        Self { blocks: blocks.iter().map(|block| KvBlock::new(groups(block), head_dim, capacity)).collect() }
    }

    /// Forgets every token.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Forgets the tokens from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        for block in &mut self.blocks {
            block.truncate(len);
        }
    }

    /// Makes room for at least `capacity` tokens; what is held stays.
    pub fn reserve(&mut self, capacity: usize) {
        for block in &mut self.blocks {
            block.reserve(capacity);
        }
    }

    /// Bytes held, for as many tokens as it has room for.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(KvBlock::bytes).sum()
    }

    /// How many tokens it has room for.
    pub fn capacity(&self) -> usize {
        self.blocks.first().map_or(usize::MAX, KvBlock::capacity)
    }
}

/// Sees activations as they pass. `width` values per token.
pub trait Observer {
    /// The input of a linear map.
    fn input(&mut self, block: usize, point: Point, x: &[f32], width: usize);
    /// The residual stream around a part: before it, and after its output was added.
    fn part(&mut self, block: usize, point: Point, before: &[f32], after: &[f32], width: usize);
    /// Whether nothing of the block is wanted after the input at `point`: the block stops there, tells of no part, and what it
    /// leaves in the residual stream means nothing.
    fn stops_at(&self, _point: Point) -> bool {
        false
    }
}

/// Shows the input of a linear map to the observer, who may have seen enough.
fn show(observer: &mut Option<&mut dyn Observer>, site: Site, x: &[f32], width: usize) -> ControlFlow<()> {
    let Some(observer) = observer else { return ControlFlow::Continue(()) };
    observer.input(site.block, site.point, x, width);
    if observer.stops_at(site.point) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Buffers of a forward pass, grown to the largest batch seen and then reused.
#[derive(Debug)]
pub struct Scratch {
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    part: Vec<f32>,
    /// The residual stream behind a shortcut.
    turned: Vec<f32>,
    /// One for each segment of a batch.
    attention: Vec<AttentionScratch>,
    rope: RopeTable,
    work: Workspace,
}

impl Scratch {
    /// Empty buffers for models of `architecture`.
    pub fn new(architecture: &Architecture) -> Self {
        Self {
            normed: Vec::new(),
            queries: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            mixed: Vec::new(),
            gate: Vec::new(),
            up: Vec::new(),
            part: Vec::new(),
            turned: Vec::new(),
            attention: Vec::new(),
            rope: RopeTable::new(&architecture.rope, architecture.head_dim),
            work: Workspace::new(),
        }
    }
}

/// The first `len` values of `buffer`, which grows when it is too small and never shrinks.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

fn norm_rows(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32], pool: &Pool) {
    let width = gain.len();
    each_row(y, width, pool, &|row, y| rms_norm(&x[row * width..(row + 1) * width], gain, eps, y));
}

/// `y += x`, rows of `width` values.
fn add_rows(y: &mut [f32], x: &[f32], width: usize, pool: &Pool) {
    each_row(y, width, pool, &|row, y| add(y, &x[row * width..(row + 1) * width]));
}

/// `x = S x` for a part with a shortcut S.
fn turn(shortcut: Option<&Linear>, x: &mut [f32], turned: &mut Vec<f32>, work: &mut Workspace, pool: &Pool) {
    if let Some(shortcut) = shortcut {
        let turned = room(turned, x.len());
        shortcut.apply(x, turned, work, pool);
        x.copy_from_slice(turned);
    }
}

/// Everything a block needs besides its weights.
pub struct Context<'a> {
    /// Sizes and constants of the model.
    pub architecture: &'a Architecture,
    /// Threads.
    pub pool: &'a Pool,
    /// Buffers.
    pub scratch: &'a mut Scratch,
}

impl Block {
    /// Runs the block over the residual stream `x` `[T, C]`, in place.
    ///
    /// `index` names the block to the observer; `slot` is its place in the caches.
    pub fn forward(
        &self,
        (index, slot): (usize, usize),
        x: &mut [f32],
        segments: &[Segment],
        caches: &mut [KvCache],
        context: &mut Context<'_>,
        mut observer: Option<&mut dyn Observer>,
    ) {
        let width = context.architecture.hidden;
        let before = observer.is_some().then(|| x.to_vec());
        if let Some(Mixer::Attention(attention)) = &self.mixer
            && attention.forward((index, slot), x, segments, caches, context, &mut observer).is_break()
        {
            return;
        }
        let between = observer.is_some().then(|| x.to_vec());
        if let Some(ffn) = &self.ffn
            && ffn.forward(index, x, context, &mut observer).is_break()
        {
            return;
        }
        if let (Some(observer), Some(before), Some(between)) = (observer, before, between) {
            if self.mixer.is_some() {
                observer.part(index, Point::AttentionPart, &before, &between, width);
            }
            if self.ffn.is_some() {
                observer.part(index, Point::FfnPart, &between, x, width);
            }
            observer.part(index, Point::BlockPart, &before, x, width);
        }
    }
}

impl Attention {
    fn forward(
        &self,
        (index, slot): (usize, usize),
        x: &mut [f32],
        segments: &[Segment],
        caches: &mut [KvCache],
        context: &mut Context<'_>,
        observer: &mut Option<&mut dyn Observer>,
    ) -> ControlFlow<()> {
        let Context { architecture, pool, scratch } = context;
        let (hidden, head_dim) = (architecture.hidden, architecture.head_dim);
        let tokens = x.len() / hidden;
        let (query_width, key_width) = (self.heads * head_dim, self.groups * head_dim);

        let normed = room(&mut scratch.normed, tokens * hidden);
        norm_rows(x, &self.norm, architecture.norm_eps, normed, pool);
        show(observer, Site::new(index, Point::AttentionIn), normed, hidden)?;
        let queries = room(&mut scratch.queries, tokens * query_width);
        let keys = room(&mut scratch.keys, tokens * key_width);
        let values = room(&mut scratch.values, tokens * key_width);
        let maps = [(&self.q, &mut *queries), (&self.k, &mut *keys), (&self.v, &mut *values)];
        apply_together(maps, normed, &mut scratch.work, pool);

        // As far as the caches reach, so that decoding grows nothing token by token.
        let room_for = |segment: &Segment| caches[segment.sequence].capacity().max(segment.start + segment.len);
        scratch.rope.reserve(segments.iter().map(room_for).max().unwrap_or(0));
        let rope = &scratch.rope;
        let (eps, positions) = (architecture.norm_eps, Positions(segments));
        each_row(queries, query_width, pool, &|row, query| {
            turn_heads(query, self.q_norm.as_deref(), eps, rope.at(positions.of(row)));
        });
        each_row(keys, key_width, pool, &|row, key| {
            turn_heads(key, self.k_norm.as_deref(), eps, rope.at(positions.of(row)));
        });
        let mixed = room(&mut scratch.mixed, tokens * query_width);
        let (queries, keys, values) = (&*queries, &*keys, &*values);
        let mix = |first_row: usize, segment: &Segment, cache: &mut KvBlock, scratch: &mut _, mixed: &mut [f32]| {
            cache.truncate(segment.start);
            let of = |width: usize| first_row * width..(first_row + segment.len) * width;
            cache.extend(&keys[of(key_width)], &values[of(key_width)]);
            let scale = 1.0 / (head_dim as f32).sqrt();
            let heads_per_group = self.heads / self.groups;
            cache.attend(&queries[of(query_width)], segment.start, heads_per_group, scale, scratch, mixed, pool);
        };
        if scratch.attention.len() < segments.len() {
            scratch.attention.resize_with(segments.len(), AttentionScratch::new);
        }
        if let ([segment], Some(scratch)) = (segments, scratch.attention.first_mut()) {
            mix(0, segment, &mut caches[segment.sequence].blocks[slot], scratch, mixed);
        } else {
            // Sequences are independent: threads take them one by one.
            let mut blocks: Vec<Option<&mut KvBlock>> =
                caches.iter_mut().map(|cache| cache.blocks.get_mut(slot)).collect();
            let (mut first_row, mut rest) = (0, mixed);
            let mut jobs = Vec::with_capacity(segments.len());
            for (segment, scratch) in segments.iter().zip(&mut scratch.attention) {
                let (own, others) = rest.split_at_mut(segment.len * query_width);
                let cache = blocks[segment.sequence].take().expect("a sequence has one segment in a batch");
                jobs.push(Mutex::new((first_row, segment, cache, scratch, own)));
                (first_row, rest) = (first_row + segment.len, others);
            }
            pool.run(jobs.len(), &|job| {
                let mut job = jobs[job].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let (first_row, segment, cache, scratch, own) = &mut *job;
                mix(*first_row, segment, cache, scratch, own);
            });
        }
        let mixed = &scratch.mixed[..tokens * query_width];
        show(observer, Site::new(index, Point::AttentionOut), mixed, query_width)?;
        let part = room(&mut scratch.part, tokens * hidden);
        self.o.apply(mixed, part, &mut scratch.work, pool);
        turn(self.shortcut.as_ref(), x, &mut scratch.turned, &mut scratch.work, pool);
        add_rows(x, part, hidden, pool);
        ControlFlow::Continue(())
    }
}

/// Where the rows of a batch stand in their sequences.
struct Positions<'a>(&'a [Segment]);

impl Positions<'_> {
    fn of(&self, mut row: usize) -> usize {
        for segment in self.0 {
            if row < segment.len {
                return segment.start + row;
            }
            row -= segment.len;
        }
        row
    }
}

/// Norms (qwen3) and rotates every head of one row.
fn turn_heads(row: &mut [f32], gain: Option<&[f32]>, eps: f32, (cosines, sines): (&[f32], &[f32])) {
    for head in row.chunks_exact_mut(2 * cosines.len()) {
        if let Some(gain) = gain {
            rms_norm_in_place(head, gain, eps);
        }
        rotate(head, cosines, sines);
    }
}

impl Ffn {
    fn forward(
        &self,
        index: usize,
        x: &mut [f32],
        context: &mut Context<'_>,
        observer: &mut Option<&mut dyn Observer>,
    ) -> ControlFlow<()> {
        let Context { architecture, pool, scratch } = context;
        let hidden = architecture.hidden;
        let tokens = x.len() / hidden;
        let width = self.width();
        let normed = room(&mut scratch.normed, tokens * hidden);
        norm_rows(x, &self.norm, architecture.norm_eps, normed, pool);
        show(observer, Site::new(index, Point::FfnIn), normed, hidden)?;
        let gate = room(&mut scratch.gate, tokens * width);
        let up = room(&mut scratch.up, tokens * width);
        apply_together([(&self.gate, &mut *gate), (&self.up, &mut *up)], normed, &mut scratch.work, pool);
        each_row(gate, width, pool, &|row, gate| silu_product(gate, &up[row * width..(row + 1) * width]));
        show(observer, Site::new(index, Point::FfnOut), gate, width)?;
        let part = room(&mut scratch.part, tokens * hidden);
        self.down.apply(gate, part, &mut scratch.work, pool);
        turn(self.shortcut.as_ref(), x, &mut scratch.turned, &mut scratch.work, pool);
        add_rows(x, part, hidden, pool);
        ControlFlow::Continue(())
    }
}

/// A model with the buffers to run it.
pub struct Runner<'m> {
    model: &'m Model,
    pool: &'m Pool,
    scratch: Scratch,
    hidden: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
}

impl<'m> Runner<'m> {
    /// A runner for `model`.
    pub fn new(model: &'m Model, pool: &'m Pool) -> Self {
        let scratch = Scratch::new(&model.architecture);
        Self { model, pool, scratch, hidden: Vec::new(), normed: Vec::new(), logits: Vec::new() }
    }

    /// The model that it runs.
    pub fn model(&self) -> &'m Model {
        self.model
    }

    /// The embeddings of `tokens`, `[T, C]`.
    ///
    /// # Panics
    /// When a token is not below the size of the vocabulary: tokens from outside are checked where they enter.
    pub fn embed(model: &Model, tokens: &[u32], x: &mut [f32]) {
        for (&token, row) in tokens.iter().zip(x.chunks_exact_mut(model.architecture.hidden)) {
            model.embedding.decode_row(token as usize, row);
        }
    }

    /// Runs `tokens` (the segments' tokens, one segment after the other) through all blocks.
    ///
    /// Returns the residual stream after the last block, before the last norm, `[T, C]`.
    pub fn hidden(
        &mut self,
        tokens: &[u32],
        segments: &[Segment],
        caches: &mut [KvCache],
        mut observer: Option<&mut dyn Observer>,
    ) -> &[f32] {
        let Self { model, pool, scratch, hidden, .. } = self;
        let x = room(hidden, tokens.len() * model.architecture.hidden);
        Self::embed(model, tokens, x);
        let mut context = Context { architecture: &model.architecture, pool, scratch };
        for (index, block) in model.blocks.iter().enumerate() {
            let observer = observer.as_mut().map(|observer| &mut **observer as &mut dyn Observer);
            block.forward((index, index), x, segments, caches, &mut context, observer);
        }
        x
    }

    /// Logits `[rows.len(), V]` of some rows of the last [`Runner::hidden`].
    pub fn logits(&mut self, rows: &[usize]) -> &mut [f32] {
        let width = self.model.architecture.hidden;
        let normed = room(&mut self.normed, rows.len() * width);
        for (&row, normed) in rows.iter().zip(normed.chunks_exact_mut(width)) {
            let x = &self.hidden[row * width..(row + 1) * width];
            rms_norm(x, &self.model.final_norm, self.model.architecture.norm_eps, normed);
        }
        let logits = room(&mut self.logits, rows.len() * self.model.architecture.vocab);
        project(self.model, normed, logits, &mut self.scratch.work, self.pool)
    }
}

/// Logits `[T, V]` of rows of the residual stream after the last block, `[T, C]`.
pub fn logits_of(model: &Model, x: &[f32], pool: &Pool) -> Vec<f32> {
    let mut normed = vec![0.0; x.len()];
    norm_rows(x, &model.final_norm, model.architecture.norm_eps, &mut normed, pool);
    let mut logits = vec![0.0; x.len() / model.architecture.hidden * model.architecture.vocab];
    project(model, &normed, &mut logits, &mut Workspace::new(), pool);
    logits
}

fn project<'l>(
    model: &Model,
    normed: &[f32],
    logits: &'l mut [f32],
    work: &mut Workspace,
    pool: &Pool,
) -> &'l mut [f32] {
    match &model.head {
        Some(head) => head.apply(normed, logits, work, pool),
        None => model.embedding.multiply(normed, logits, work, pool),
    }
    logits
}
