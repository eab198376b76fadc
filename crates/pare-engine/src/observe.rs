//! Running calibration text through a model block by block, and summing the statistics that methods ask for.

use crate::Error;
use crate::progress::Work;
use pare_kernels::gram::accumulate_gram;
use pare_kernels::pool::Pool;
use pare_model::block::Block;
use pare_model::forward::{Context, KvCache, Observer, Runner, Scratch, Segment};
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use std::collections::{BTreeMap, BTreeSet};

/// Which statistics are wanted, and where.
pub type Needs = BTreeSet<(Site, Stat)>;

/// Tokens that pass a block together: large enough for the matrix product, small enough for the cache.
const BATCH_TOKENS: usize = 2048;

/// Sums statistics as activations pass. Sums are in f64, in the order of the tokens.
struct Collector<'a> {
    needs: &'a Needs,
    pool: &'a Pool,
    sums: BTreeMap<(Site, Stat), (Vec<f64>, u64)>,
    /// Where a block has shown all that is wanted of it.
    last: Option<Point>,
}

impl Collector<'_> {
    fn sum(&mut self, site: Site, stat: Stat, size: usize, tokens: usize) -> Option<&mut [f64]> {
        if !self.needs.contains(&(site, stat)) {
            return None;
        }
        let (sums, count) = self.sums.entry((site, stat)).or_insert_with(|| (vec![0.0; size], 0));
        *count += tokens as u64;
        Some(sums)
    }
}

fn add_each(sums: &mut [f64], x: &[f32], value: impl Fn(f64) -> f64) {
    for row in x.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += value(f64::from(x));
        }
    }
}

impl Observer for Collector<'_> {
    fn input(&mut self, block: usize, point: Point, x: &[f32], width: usize) {
        let site = Site::new(block, point);
        let tokens = x.len() / width;
        if let Some(sums) = self.sum(site, Stat::Mean, width, tokens) {
            add_each(sums, x, |x| x);
        }
        if let Some(sums) = self.sum(site, Stat::MeanAbs, width, tokens) {
            add_each(sums, x, f64::abs);
        }
        if let Some(sums) = self.sum(site, Stat::MeanSquare, width, tokens) {
            add_each(sums, x, |x| x * x);
        }
        let pool = self.pool;
        if let Some(sums) = self.sum(site, Stat::Gram, width * width, tokens) {
            accumulate_gram(x, width, sums, pool);
        }
    }

    fn part(&mut self, block: usize, point: Point, before: &[f32], after: &[f32], width: usize) {
        if let Some(sums) = self.sum(Site::new(block, point), Stat::Cosine, 1, before.len() / width) {
            for (before, after) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
                sums[0] += cosine(before, after);
            }
        }
        if let Some(sums) = self.sum(Site::new(block, point), Stat::DeltaRatio, 1, before.len() / width) {
            for (before, after) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
                sums[0] += delta_ratio(before, after);
            }
        }
    }

    fn stops_at(&self, point: Point) -> bool {
        self.last == Some(point)
    }
}

/// The last point that `needs` asks for, when it is the input of a linear map: the map itself need not run.
fn last_input(needs: &Needs) -> Option<Point> {
    let last = needs.iter().map(|(site, _)| site.point).max()?;
    matches!(last, Point::AttentionIn | Point::AttentionOut | Point::FfnIn | Point::FfnOut).then_some(last)
}

/// Cosine of two vectors in f64, within -1..=1; 1 when either is zero (a part that adds nothing to nothing changes nothing).
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        dot += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa == 0.0 || bb == 0.0 { 1.0 } else { (dot / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0) }
}

/// Size of what a part adds, relative to the state before, in f64; 0 when there was no state.
fn delta_ratio(before: &[f32], after: &[f32]) -> f64 {
    let (mut added, mut was) = (0.0, 0.0);
    for (&before, &after) in before.iter().zip(after) {
        let (before, after) = (f64::from(before), f64::from(after));
        added += (after - before).powi(2);
        was += before * before;
    }
    if was == 0.0 { 0.0 } else { (added / was).sqrt() }
}

/// The residual stream of all calibration sequences between two blocks.
pub struct States<'m> {
    model: &'m Model,
    x: Vec<f32>,
    /// Length of each sequence, in tokens.
    lengths: Vec<usize>,
    scratch: Scratch,
    tokens: u64,
}

impl<'m> States<'m> {
    /// The embeddings of `sequences`: the input of the first block.
    pub fn embed(model: &'m Model, sequences: &[Vec<u32>]) -> Self {
        let tokens = sequences.concat();
        let mut x = vec![0.0; tokens.len() * model.architecture.hidden];
        Runner::embed(model, &tokens, &mut x);
        let lengths = sequences.iter().map(Vec::len).collect();
        Self { model, x, lengths, scratch: Scratch::new(&model.architecture), tokens: tokens.len() as u64 }
    }

    /// The residual stream of all tokens, `[T, C]`.
    pub(crate) fn stream(&self) -> &[f32] {
        &self.x
    }

    /// Puts another stream of the same tokens in its place.
    pub(crate) fn replace(&mut self, stream: &[f32]) {
        self.x.copy_from_slice(stream);
    }

    /// Replaces the states by the block's outputs.
    ///
    /// # Errors
    /// The user stops it.
    pub fn pass(&mut self, index: usize, block: &Block, work: Work<'_>) -> Result<(), Error> {
        let mut x = std::mem::take(&mut self.x);
        let result = self.run(index, block, &mut x, None, work);
        self.x = x;
        result
    }

    /// Statistics of a block's activations on the states, which stay as they are.
    ///
    /// # Errors
    /// The user stops it; a sum that is not finite.
    pub fn observe(&mut self, index: usize, block: &Block, needs: &Needs, work: Work<'_>) -> Result<Stats, Error> {
        let mut x = self.x.clone();
        self.observe_in(index, block, &mut x, (needs, last_input(needs)), work)
    }

    /// Statistics of a block's activations, and its outputs as the new states.
    ///
    /// # Errors
    /// The user stops it; a sum that is not finite.
    pub fn observe_and_pass(
        &mut self,
        index: usize,
        block: &Block,
        needs: &Needs,
        work: Work<'_>,
    ) -> Result<Stats, Error> {
        let mut x = std::mem::take(&mut self.x);
        let stats = self.observe_in(index, block, &mut x, (needs, None), work);
        self.x = x;
        stats
    }

    fn observe_in(
        &mut self,
        index: usize,
        block: &Block,
        x: &mut [f32],
        (needs, last): (&Needs, Option<Point>),
        work: Work<'_>,
    ) -> Result<Stats, Error> {
        let mut collector = Collector { needs, pool: work.pool, sums: BTreeMap::new(), last };
        self.run(index, block, x, Some(&mut collector), work)?;
        let mut stats = Stats::new(self.tokens);
        for ((site, stat), (mut sums, count)) in collector.sums {
            for sum in &mut sums {
                *sum /= count as f64;
            }
            if let Some(index) = sums.iter().position(|sum| !sum.is_finite()) {
                return Err(Error::NotFinite { site, stat, index, value: sums[index] });
            }
            stats.insert(site, stat, sums);
        }
        Ok(stats)
    }

    fn run(
        &mut self,
        index: usize,
        block: &Block,
        x: &mut [f32],
        mut observer: Option<&mut Collector<'_>>,
        work: Work<'_>,
    ) -> Result<(), Error> {
        let architecture = &self.model.architecture;
        let width = architecture.hidden;
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let per_batch = (BATCH_TOKENS / longest.max(1)).max(1);
        let mut caches: Vec<KvCache> = (0..per_batch.min(self.lengths.len()))
            .map(|_| KvCache::of_blocks(std::slice::from_ref(block), architecture.head_dim, longest))
            .collect();
        let mut context = Context { architecture, pool: work.pool, scratch: &mut self.scratch };
        let mut rest = x;
        for lengths in self.lengths.chunks(per_batch) {
            work.interrupt.check()?;
            let segments: Vec<Segment> =
                lengths.iter().enumerate().map(|(sequence, &len)| Segment { sequence, start: 0, len }).collect();
            let (batch, later) = rest.split_at_mut(lengths.iter().sum::<usize>() * width);
            let observer = observer.as_mut().map(|collector| &mut **collector as &mut dyn Observer);
            block.forward((index, 0), batch, &segments, &mut caches, &mut context, observer);
            rest = later;
        }
        Ok(())
    }
}

/// Statistics of the whole model on `sequences`, block after block.
///
/// # Errors
/// The user stops it; a sum that is not finite.
pub fn observe(model: &Model, sequences: &[Vec<u32>], needs: &Needs, work: Work<'_>) -> Result<Stats, Error> {
    let mut states = States::embed(model, sequences);
    let mut all = Stats::new(states.tokens);
    work.progress.begin("observing", model.blocks.len() as u64);
    for (index, block) in model.blocks.iter().enumerate() {
        let stats = states.observe_and_pass(index, block, needs, work)?;
        for (site, stat, values) in stats.iter() {
            all.insert(site, stat, values.to_vec());
        }
        work.progress.advance(1, "");
    }
    work.progress.end();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_is_measured_against_the_state_before() {
        assert_eq!(delta_ratio(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(delta_ratio(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(delta_ratio(&[3.0, 4.0], &[3.0, -6.0]), 2.0);
        assert_eq!(delta_ratio(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }
}
