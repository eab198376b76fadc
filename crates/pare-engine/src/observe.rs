//! Running calibration text through a model block by block, and summing the statistics that methods ask for.

use crate::Error;
use crate::progress::Work;
use crate::residual::ResidualStream;
use pare_kernels::gram::accumulate_gram;
use pare_kernels::pool::Pool;
use pare_model::block::Block;
use pare_model::forward::Observer;
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use std::collections::{BTreeMap, BTreeSet};

/// Which statistics are wanted, and where.
pub type Needs = BTreeSet<(Site, Stat)>;

/// Sums statistics as activations pass. Sums are in f64, in the order of the tokens.
struct Collector<'a> {
    needs: &'a Needs,
    pool: &'a Pool,
    sums: BTreeMap<(Site, Stat), (Vec<f64>, u64)>,
    /// Where a block has shown all that is wanted of it.
    last: Option<Point>,
}

impl<'a> Collector<'a> {
    fn new(needs: &'a Needs, last: Option<Point>, pool: &'a Pool) -> Self {
        Self { needs, pool, sums: BTreeMap::new(), last }
    }

    /// The means over `tokens`.
    fn stats(self, tokens: usize) -> Result<Stats, Error> {
        let mut stats = Stats::new(tokens as u64);
        for ((site, stat), (mut sums, count)) in self.sums {
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

/// The last point of a block that `needs` asks for, when it is the input of a linear map: the map itself need not run.
fn last_input(block: usize, needs: &Needs) -> Option<Point> {
    let last = needs.iter().filter(|(site, _)| site.block == block).map(|(site, _)| site.point).max()?;
    Point::INPUTS.contains(&last).then_some(last)
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

impl ResidualStream {
    /// Statistics of a block's activations; the stream stays as it is.
    ///
    /// # Errors
    /// The user stops it; a sum that is not finite.
    pub fn observe(&mut self, index: usize, block: &Block, needs: &Needs, work: Work<'_>) -> Result<Stats, Error> {
        let mut collector = Collector::new(needs, last_input(index, needs), work.pool);
        self.peek(index, block, &mut collector, work)?;
        collector.stats(self.tokens())
    }

    /// Statistics of a block's activations, and its output as the new stream.
    ///
    /// # Errors
    /// The user stops it; a sum that is not finite.
    pub fn observe_and_advance(
        &mut self,
        index: usize,
        block: &Block,
        needs: &Needs,
        work: Work<'_>,
    ) -> Result<Stats, Error> {
        let mut collector = Collector::new(needs, None, work.pool);
        self.advance_observed(index, block, &mut collector, work)?;
        collector.stats(self.tokens())
    }
}

/// Statistics of the whole model on `sequences`, block after block.
///
/// # Errors
/// The user stops it; a sum that is not finite.
pub fn observe(model: &Model, sequences: &[Vec<u32>], needs: &Needs, work: Work<'_>) -> Result<Stats, Error> {
    observe_from(0, ResidualStream::embed(model, sequences), &model.blocks, needs, work)
}

/// Statistics of `blocks` from number `first` on, before which the stream stands. Ends with the last that is asked for.
///
/// # Errors
/// The user stops it; a sum that is not finite.
pub(crate) fn observe_from(
    first: usize,
    mut stream: ResidualStream,
    blocks: &[Block],
    needs: &Needs,
    work: Work<'_>,
) -> Result<Stats, Error> {
    let mut all = Stats::new(stream.tokens() as u64);
    let end = needs.iter().map(|(site, _)| site.block + 1).max().unwrap_or(0).min(blocks.len());
    work.progress.begin("observing", end.saturating_sub(first) as u64);
    for (index, block) in blocks.iter().enumerate().take(end).skip(first) {
        if !needs.iter().any(|(site, _)| site.block == index) {
            stream.advance(index, block, work)?;
        } else {
            // Nothing comes after the last one: what it leaves in the stream is not read.
            let last = if index + 1 == end { last_input(index, needs) } else { None };
            let mut collector = Collector::new(needs, last, work.pool);
            stream.advance_observed(index, block, &mut collector, work)?;
            for (site, stat, values) in collector.stats(stream.tokens())?.iter() {
                all.insert(site, stat, values.to_vec());
            }
        }
        work.progress.advance(1, "");
    }
    work.progress.end();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Interrupt, Progress};
    use pare_format::directory::ModelDirectory;
    use pare_model::load::from_directory;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Blocks that were told of.
    #[derive(Default)]
    struct Counted(AtomicU64);

    impl Progress for Counted {
        fn begin(&self, _: &str, _: u64) {}
        fn advance(&self, steps: u64, _: &str) {
            self.0.fetch_add(steps, Ordering::Relaxed);
        }
        fn end(&self) {}
    }

    #[test]
    fn a_delta_is_measured_against_the_state_before() {
        assert_eq!(delta_ratio(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(delta_ratio(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(delta_ratio(&[3.0, 4.0], &[3.0, -6.0]), 2.0);
        assert_eq!(delta_ratio(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn observing_ends_with_the_last_block_that_is_asked_for() {
        static NEVER: Interrupt = Interrupt::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families/llama-tied");
        let mut model = from_directory(&ModelDirectory::open(folder).unwrap()).unwrap().model;
        model.blocks = model.blocks.iter().cycle().take(4).cloned().collect();
        let texts = [(0..40).map(|at| at * 17 % 128).collect::<Vec<u32>>()];
        let pool = Pool::new(1);
        let of = |block, point, stat| (Site::new(block, point), stat);
        let early = Needs::from([of(0, Point::BlockPart, Stat::Cosine), of(1, Point::AttentionIn, Stat::Gram)]);
        let late = Needs::from([of(3, Point::BlockPart, Stat::Cosine)]);
        let all = &early | &late;
        let [few, most] = [(early, 2), (all, 4)].map(|(needs, blocks)| {
            let counted = Counted::default();
            let stats = observe(&model, &texts, &needs, Work { pool: &pool, progress: &counted, interrupt: &NEVER });
            assert_eq!(counted.0.into_inner(), blocks);
            stats.unwrap()
        });
        assert_eq!((few.iter().count(), most.iter().count()), (2, 3));
        for (site, stat, values) in few.iter() {
            assert_eq!(most.get(site, stat), Some(values), "{site} {stat:?}");
        }
    }
}
