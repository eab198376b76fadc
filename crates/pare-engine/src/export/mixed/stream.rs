//! The residual stream of calibration text in two models at once: the dense one, and the one that is being quantised.

use crate::Error;
use crate::progress::Work;
use pare_kernels::each_row;
use pare_kernels::elementwise::rms_norm;
use pare_kernels::pool::Pool;
use pare_model::block::Block;
use pare_model::forward::{Context, KvCache, Observer, Scratch, Segment};
use pare_model::model::Architecture;
use pare_model::site::Point;
use pare_model::weight::{Linear, Weight, Workspace};
use std::collections::BTreeMap;

/// Tokens that pass a block together.
const BATCH_TOKENS: usize = 2048;

/// The residual stream `[T, C]` between two blocks.
#[derive(Clone)]
pub(super) struct Stream<'m> {
    architecture: &'m Architecture,
    pub(super) x: Vec<f32>,
    lengths: Vec<usize>,
}

/// What passed: inputs of projections and the stream after each part, all `[T, n]`.
#[derive(Default)]
pub(super) struct Seen {
    wanted: Vec<Point>,
    at: BTreeMap<Point, Vec<f32>>,
}

impl Seen {
    /// Keeps what passes at these points: for the two parts, the stream after it.
    pub(super) fn only(wanted: &[Point]) -> Self {
        Self { wanted: wanted.to_vec(), at: BTreeMap::new() }
    }

    /// What passed at `point`; nothing when it was not wanted or is not there.
    pub(super) fn at(&self, point: Point) -> &[f32] {
        self.at.get(&point).map_or(&[], Vec::as_slice)
    }

    fn keep(&mut self, point: Point, x: &[f32]) {
        if self.wanted.contains(&point) {
            self.at.entry(point).or_default().extend_from_slice(x);
        }
    }
}

impl Observer for Seen {
    fn input(&mut self, _: usize, point: Point, x: &[f32], _: usize) {
        self.keep(point, x);
    }

    fn part(&mut self, _: usize, point: Point, _: &[f32], after: &[f32], _: usize) {
        self.keep(point, after);
    }
}

impl<'m> Stream<'m> {
    /// The embeddings of `sequences`.
    pub(super) fn embed(architecture: &'m Architecture, embedding: &dyn Weight, sequences: &[Vec<u32>]) -> Self {
        let tokens = sequences.concat();
        let width = architecture.hidden;
        let mut x = vec![0.0; tokens.len() * width];
        for (&token, row) in tokens.iter().zip(x.chunks_exact_mut(width)) {
            embedding.decode_row(token as usize, row);
        }
        Self { architecture, x, lengths: sequences.iter().map(Vec::len).collect() }
    }

    /// What passes in `block`; the stream stays as it is.
    pub(super) fn look(&self, block: &Block, wanted: &[Point], work: Work<'_>) -> Result<Seen, Error> {
        let mut seen = Seen::only(wanted);
        self.clone().run(block, Some(&mut seen), work)?;
        Ok(seen)
    }

    /// Replaces the stream by the block's output.
    pub(super) fn pass(&mut self, block: &Block, work: Work<'_>) -> Result<(), Error> {
        self.run(block, None, work)
    }

    /// What passes in the first part of `block`, and its output as the new stream; inputs of the second part, as it is empty, are not seen.
    pub(super) fn watch(&mut self, block: &Block, wanted: &[Point], work: Work<'_>) -> Result<Seen, Error> {
        let mut seen = Seen::only(wanted);
        self.run(block, Some(&mut seen), work)?;
        Ok(seen)
    }

    /// Rows of the stream after a norm with this gain.
    pub(super) fn normed(&self, gain: &[f32], pool: &Pool) -> Vec<f32> {
        let width = self.architecture.hidden;
        let mut normed = vec![0.0; self.x.len()];
        each_row(&mut normed, width, pool, &|row, normed| {
            rms_norm(&self.x[row * width..(row + 1) * width], gain, self.architecture.norm_eps, normed);
        });
        normed
    }

    /// Adds the output of a map to the stream.
    pub(super) fn add(&mut self, linear: &Linear, inputs: &[f32], pool: &Pool) {
        let mut part = vec![0.0; self.x.len()];
        linear.apply(inputs, &mut part, &mut Workspace::new(), pool);
        self.x.iter_mut().zip(part).for_each(|(x, part)| *x += part);
    }

    fn run(&mut self, block: &Block, mut seen: Option<&mut Seen>, work: Work<'_>) -> Result<(), Error> {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let per_batch = (BATCH_TOKENS / longest.max(1)).max(1);
        let mut caches: Vec<KvCache> = (0..per_batch.min(self.lengths.len()))
            .map(|_| KvCache::of_blocks(std::slice::from_ref(block), self.architecture.head_dim, longest))
            .collect();
        let mut scratch = Scratch::new(self.architecture);
        let mut context = Context { architecture: self.architecture, pool: work.pool, scratch: &mut scratch };
        let mut rest = self.x.as_mut_slice();
        for lengths in self.lengths.chunks(per_batch) {
            work.interrupt.check()?;
            let segments: Vec<Segment> =
                lengths.iter().enumerate().map(|(sequence, &len)| Segment { sequence, start: 0, len }).collect();
            let (batch, later) = rest.split_at_mut(lengths.iter().sum::<usize>() * self.architecture.hidden);
            let observer = seen.as_mut().map(|seen| &mut **seen as &mut dyn Observer);
            block.forward((0, 0), batch, &segments, &mut caches, &mut context, observer);
            rest = later;
        }
        Ok(())
    }
}
