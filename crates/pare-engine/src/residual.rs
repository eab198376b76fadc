//! The residual stream of many sequences of tokens between two blocks: taken through block after block, and observed on the way.

use crate::Error;
use crate::progress::Work;
use pare_kernels::each_row;
use pare_kernels::elementwise::rms_norm;
use pare_kernels::pool::Pool;
use pare_model::block::Block;
use pare_model::forward::{Context, KvCache, Observer, Runner, Scratch, Segment};
use pare_model::model::{Architecture, Model};
use pare_model::site::Point;
use pare_model::weight::{Linear, Workspace};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Tokens that pass a block together: large enough for the matrix product, small enough for the cache.
const BATCH_TOKENS: usize = 2048;

/// The residual stream `[T, C]` of all tokens of some sequences, between two blocks.
pub struct ResidualStream {
    architecture: Architecture,
    x: Vec<f32>,
    /// Length of each sequence, in tokens.
    lengths: Vec<usize>,
    scratch: Scratch,
}

/// Whole sequences that pass a block together.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Their tokens among those of the stream.
    rows: Range<usize>,
    segments: Vec<Segment>,
}

/// The same stream with buffers of its own, which are empty.
impl Clone for ResidualStream {
    fn clone(&self) -> Self {
        Self {
            architecture: self.architecture.clone(),
            x: self.x.clone(),
            lengths: self.lengths.clone(),
            scratch: Scratch::new(&self.architecture),
        }
    }
}

impl ResidualStream {
    /// The embeddings of `sequences`: the input of the first block of `model`.
    pub fn embed(model: &Model, sequences: &[Vec<u32>]) -> Self {
        let tokens = sequences.concat();
        let mut x = vec![0.0; tokens.len() * model.architecture.hidden];
        Runner::embed(model, &tokens, &mut x);
        Self {
            architecture: model.architecture.clone(),
            x,
            lengths: sequences.iter().map(Vec::len).collect(),
            scratch: Scratch::new(&model.architecture),
        }
    }

    /// The stream of all tokens, `[T, C]`, sequence after sequence.
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// Some rows of it, one after the other.
    pub(crate) fn rows(&self, rows: &[usize]) -> Vec<f32> {
        let width = self.architecture.hidden;
        rows.iter().flat_map(|row| &self.x[row * width..(row + 1) * width]).copied().collect()
    }

    /// How many tokens.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Replaces the stream by the block's output. `index` names the block to observers.
    ///
    /// # Errors
    /// The user stops it.
    pub fn advance(&mut self, index: usize, block: &Block, work: Work<'_>) -> Result<(), Error> {
        self.run((index, block), None, work)
    }

    /// Takes the stream, which stands before block `first`, through it and all later ones.
    ///
    /// # Errors
    /// The user stops it.
    pub fn advance_through(&mut self, blocks: &[Block], first: usize, work: Work<'_>) -> Result<(), Error> {
        blocks.iter().enumerate().skip(first).try_for_each(|(index, block)| self.advance(index, block, work))
    }

    /// Replaces the stream by the block's output, while `observer` looks on.
    ///
    /// # Errors
    /// The user stops it.
    pub fn advance_observed(
        &mut self,
        index: usize,
        block: &Block,
        observer: &mut dyn Observer,
        work: Work<'_>,
    ) -> Result<(), Error> {
        self.run((index, block), Some(observer), work)
    }

    /// Shows `observer` what passes in the block; the stream stays as it is.
    ///
    /// # Errors
    /// The user stops it.
    pub fn peek(
        &mut self,
        index: usize,
        block: &Block,
        observer: &mut dyn Observer,
        work: Work<'_>,
    ) -> Result<(), Error> {
        let (batches, mut caches, mut copy) = (self.batches(), self.caches(block), Vec::new());
        let Self { architecture, x, scratch, .. } = self;
        for batch in &batches {
            work.interrupt.check()?;
            copy.clear();
            copy.extend_from_slice(&x[batch.values(architecture.hidden)]);
            let mut context = Context { architecture, pool: work.pool, scratch: &mut *scratch };
            block.forward((index, 0), &mut copy, &batch.segments, &mut caches, &mut context, Some(&mut *observer));
        }
        Ok(())
    }

    fn run(
        &mut self,
        block: (usize, &Block),
        mut observer: Option<&mut dyn Observer>,
        work: Work<'_>,
    ) -> Result<(), Error> {
        let mut caches = self.caches(block.1);
        for batch in &self.batches() {
            let observer = observer.as_mut().map(|observer| &mut **observer as &mut dyn Observer);
            self.run_batch(batch, block, &mut caches, observer, work)?;
        }
        Ok(())
    }

    /// The batches in which the tokens pass a block, in their order.
    pub(crate) fn batches(&self) -> Vec<Batch> {
        let mut start = 0;
        let batch = |lengths: &[usize]| {
            let segment = |(sequence, &len): (usize, &usize)| Segment { sequence, start: 0, len };
            let rows = start..start + lengths.iter().sum::<usize>();
            start = rows.end;
            Batch { rows, segments: lengths.iter().enumerate().map(segment).collect() }
        };
        self.lengths.chunks(self.sequences_together()).map(batch).collect()
    }

    /// Replaces the tokens of one batch alone: for streams that are compared batch by batch.
    ///
    /// # Errors
    /// The user stops it.
    pub(crate) fn advance_batch(
        &mut self,
        batch: &Batch,
        block: (usize, &Block),
        observer: &mut dyn Observer,
        work: Work<'_>,
    ) -> Result<(), Error> {
        let mut caches = self.caches(block.1);
        self.run_batch(batch, block, &mut caches, Some(observer), work)
    }

    fn run_batch(
        &mut self,
        batch: &Batch,
        (index, block): (usize, &Block),
        caches: &mut [KvCache],
        observer: Option<&mut dyn Observer>,
        work: Work<'_>,
    ) -> Result<(), Error> {
        work.interrupt.check()?;
        let Self { architecture, x, scratch, .. } = self;
        let x = &mut x[batch.values(architecture.hidden)];
        let mut context = Context { architecture, pool: work.pool, scratch };
        block.forward((index, 0), x, &batch.segments, caches, &mut context, observer);
        Ok(())
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    fn sequences_together(&self) -> usize {
        (BATCH_TOKENS / self.longest().max(1)).max(1)
    }

    /// Keys and values of one block for the sequences of a batch.
    fn caches(&self, block: &Block) -> Vec<KvCache> {
        let cache = |_| KvCache::of_blocks(std::slice::from_ref(block), self.architecture.head_dim, self.longest());
        (0..self.sequences_together().min(self.lengths.len())).map(cache).collect()
    }

    /// Rows of the stream after a norm with this gain, `[T, C]`.
    pub(crate) fn normed(&self, gain: &[f32], pool: &Pool) -> Vec<f32> {
        let (width, eps) = (self.architecture.hidden, self.architecture.norm_eps);
        let mut normed = vec![0.0; self.x.len()];
        each_row(&mut normed, width, pool, &|row, normed| {
            rms_norm(&self.x[row * width..(row + 1) * width], gain, eps, normed);
        });
        normed
    }

    /// Adds the output of a linear map that reads `inputs` `[T, n]`.
    pub(crate) fn add_output(&mut self, linear: &Linear, inputs: &[f32], pool: &Pool) {
        let mut output = vec![0.0; self.x.len()];
        linear.apply(inputs, &mut output, &mut Workspace::new(), pool);
        self.x.iter_mut().zip(output).for_each(|(x, output)| *x += output);
    }

    /// Gives the buffers of the forward pass back, for a stream that waits while others need the memory.
    pub(crate) fn release_scratch(&mut self) {
        self.scratch = Scratch::new(&self.architecture);
    }
}

impl Batch {
    /// Where its values are in a stream of this width.
    fn values(&self, width: usize) -> Range<usize> {
        self.rows.start * width..self.rows.end * width
    }
}

/// Keeps what passes at some points of a block: the inputs of linear maps, and the stream after a part.
#[derive(Default)]
pub(crate) struct Capture {
    wanted: Vec<Point>,
    at: BTreeMap<Point, Captured>,
}

/// What passed at a point.
#[derive(Default)]
pub(crate) struct Captured {
    pub(crate) width: usize,
    /// `[T, width]`.
    pub(crate) x: Vec<f32>,
}

impl Capture {
    /// At these points.
    pub(crate) fn only(wanted: &[Point]) -> Self {
        Self { wanted: wanted.to_vec(), at: BTreeMap::new() }
    }

    /// What passed at `point`; nothing when it was not wanted or is not there.
    pub(crate) fn at(&self, point: Point) -> &[f32] {
        self.at.get(&point).map_or(&[], |captured| captured.x.as_slice())
    }

    /// What passed at each point, in their order.
    pub(crate) fn into_points(self) -> impl Iterator<Item = (Point, Captured)> {
        self.at.into_iter()
    }

    fn keep(&mut self, point: Point, x: &[f32], width: usize) {
        if self.wanted.contains(&point) {
            let captured = self.at.entry(point).or_default();
            captured.width = width;
            captured.x.extend_from_slice(x);
        }
    }
}

impl Observer for Capture {
    fn input(&mut self, _: usize, point: Point, x: &[f32], width: usize) {
        self.keep(point, x, width);
    }

    fn part(&mut self, _: usize, point: Point, _: &[f32], after: &[f32], width: usize) {
        self.keep(point, after, width);
    }
}

/// The stream of a whole model before each block and after the last: a model that begins with the same blocks goes on from there.
pub(crate) struct Checkpoints<'m> {
    model: &'m Model,
    stream: ResidualStream,
    before: Vec<Vec<f32>>,
}

impl<'m> Checkpoints<'m> {
    /// Takes `sequences` through all blocks.
    ///
    /// # Errors
    /// The user stops it.
    pub(crate) fn of(model: &'m Model, sequences: &[Vec<u32>], work: Work<'_>) -> Result<Self, Error> {
        let mut stream = ResidualStream::embed(model, sequences);
        let mut before = vec![stream.x.clone()];
        for (index, block) in model.blocks.iter().enumerate() {
            stream.advance(index, block, work)?;
            before.push(stream.x.clone());
        }
        Ok(Self { model, stream, before })
    }

    /// The stream before block `index`; after the last one for as many as there are.
    pub(crate) fn before(&mut self, index: usize) -> &mut ResidualStream {
        self.stream.x.copy_from_slice(&self.before[index]);
        &mut self.stream
    }

    /// The stream before the first block that `changed` does not share with the model, and which that is; none when they share no embedding.
    pub(crate) fn resume(&mut self, changed: &Model) -> Option<(usize, &mut ResidualStream)> {
        let model = self.model;
        let alike = model.architecture == changed.architecture && Arc::ptr_eq(&model.embedding, &changed.embedding);
        let first = model.blocks.iter().zip(&changed.blocks).take_while(|(a, b)| share_numbers(a, b)).count();
        alike.then(|| (first, self.before(first)))
    }
}

/// Whether two blocks are made of the same numbers in memory.
pub(crate) fn share_numbers(a: &Block, b: &Block) -> bool {
    let numbers = |block: &Block| -> Vec<usize> {
        let of = |linear: &Linear| {
            let bias = linear.bias.as_ref().map_or(0, |bias| bias.as_ptr() as usize);
            [Arc::as_ptr(&linear.weight).cast::<()>() as usize, bias]
        };
        let mut all: Vec<usize> = block.linears().flat_map(|(_, linear)| of(linear)).collect();
        all.extend(block.shortcuts().flat_map(of));
        let norms = block.attention().map(|part| [Some(&part.norm), part.q_norm.as_ref(), part.k_norm.as_ref()]);
        all.extend(norms.into_iter().flatten().map(|norm| norm.map_or(0, |norm| norm.as_ptr() as usize)));
        all.extend(block.ffn.as_ref().map(|part| part.norm.as_ptr() as usize));
        all
    };
    let shape = |block: &Block| (block.mixer.is_some(), block.ffn.is_some(), block.shortcuts().count());
    shape(a) == shape(b) && numbers(a) == numbers(b)
}

#[cfg(test)]
mod tests;
