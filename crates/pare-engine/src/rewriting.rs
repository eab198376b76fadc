//! Rewriting a whole model: what the methods of that axis ask of calibration text.

use crate::Error;
use crate::evaluate::windows;
use crate::observe::observe;
use crate::progress::{Silent, Work};
use crate::split::Split;
use pare_kernels::elementwise::log_sum_exp;
use pare_methods::error::MethodError;
use pare_methods::rewrite::{Calibration, Rewritten, find};
use pare_methods::settings::Settings;
use pare_model::block::Block;
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use pare_model::weight::{Linear, Weight};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Sequences on which divergences are measured: few, because a search measures hundreds of models.
const DIVERGENCE_SEQUENCES: usize = 4;
/// The longest of them, in tokens.
const DIVERGENCE_TOKENS: usize = 512;
/// Logits of the original that are held for divergences: half a gigabyte.
const DIVERGENCE_LOGITS: usize = 1 << 27;
/// Rows of logits held at once.
const ROWS: usize = 64;
/// Tokens that pass the blocks together.
const BATCH_TOKENS: usize = 2048;

/// The model rewritten by the method `name`, which may look at statistics and divergences on `calibration`.
///
/// # Errors
/// An unknown method, a parameter or a `keep` that it does not take, a model that it does not serve; calibration without a sequence of
/// two tokens; numbers that are not finite; the user stops it.
pub fn rewrite(
    model: &Model,
    name: &str,
    settings: &Settings,
    keep: f64,
    calibration: &[Vec<u32>],
    seed: u64,
    work: Work<'_>,
) -> Result<Rewritten, Error> {
    let method = (find(name)?.build)(settings, seed)?;
    let steps = model.blocks.len() as u64;
    work.progress.begin(&format!("rewriting ({name})"), steps);
    let mut text = OnText::new(model, Split::of(calibration)?, work);
    let result = method.rewrite(model, keep, &mut text);
    work.progress.end();
    match (result, text.failure) {
        // The method only heard that it must stop; what happened is told here.
        (Err(MethodError::Stopped { .. }), Some(failure)) => Err(failure),
        (result, _) => Ok(result?),
    }
}

/// Calibration text, and what is remembered of it between questions.
struct OnText<'a> {
    original: &'a Model,
    /// For statistics.
    sequences: Vec<Vec<u32>>,
    /// For divergences and for nothing else: what was fitted looks too good on its own text.
    windows: Vec<Vec<u32>>,
    work: Work<'a>,
    /// The residual stream behind the first blocks of the model that was observed last.
    prefix: Option<PrefixCache>,
    /// Logits less their log-sum, `[T, V]` per window; made at the first question.
    reference: Option<Vec<Vec<f32>>>,
    failure: Option<Error>,
}

/// The residual stream of all sequences behind some blocks.
struct PrefixCache {
    embedding: Arc<dyn Weight>,
    blocks: Vec<Block>,
    /// `[T, C]`.
    x: Arc<Dense>,
}

impl<'a> OnText<'a> {
    fn new(original: &'a Model, Split { fit, select }: Split, work: Work<'a>) -> Self {
        let windows = cut(&select, original.architecture.vocab);
        Self { original, sequences: fit, windows, work, prefix: None, reference: None, failure: None }
    }

    /// Statistics of `model`. Blocks that the model before this one had too are not run again.
    fn observed(&mut self, model: &Model, needs: &BTreeSet<(Site, Stat)>) -> Result<Stats, Error> {
        let first = needs.iter().map(|(site, _)| site.block).min().unwrap_or(0);
        // A search changes what stands right in front of the block that it looks at next: what is kept ends before that.
        let passed = first.saturating_sub(1).min(model.blocks.len());
        if passed == 0 {
            return observe(model, &self.sequences, needs, self.silent());
        }
        self.advance(model, passed)?;
        let Some(prefix) = &self.prefix else { return observe(model, &self.sequences, needs, self.silent()) };
        let rest = Model {
            embedding: Arc::clone(&prefix.x) as Arc<dyn Weight>,
            blocks: model.blocks[passed..].to_vec(),
            ..model.clone()
        };
        let moved = |site: Site, by: &dyn Fn(usize) -> usize| Site::new(by(site.block), site.point);
        let needs: BTreeSet<_> = needs.iter().map(|&(site, stat)| (moved(site, &|b| b - passed), stat)).collect();
        let found = observe(&rest, &numbered(&self.sequences), &needs, self.silent())?;
        let mut stats = Stats::new(found.tokens());
        for (site, stat, values) in found.iter() {
            stats.insert(moved(site, &|b| b + passed), stat, values.to_vec());
        }
        Ok(stats)
    }

    /// Brings the stream behind the first `passed` blocks of `model`.
    fn advance(&mut self, model: &Model, passed: usize) -> Result<(), Error> {
        let known = self.prefix.take().filter(|prefix| prefix.starts(model, passed));
        let (done, x) = match known {
            Some(prefix) => (prefix.blocks.len(), prefix.x),
            None => {
                let tokens = self.sequences.concat();
                let mut x = Matrix::zeros(tokens.len(), model.architecture.hidden);
                Runner::embed(model, &tokens, x.data_mut());
                (0, Arc::new(Dense(x)))
            }
        };
        let part = Model { embedding: x, blocks: model.blocks[done..passed].to_vec(), ..model.clone() };
        let x = Arc::new(Dense(run(&part, &numbered(&self.sequences), self.work)?));
        self.prefix =
            Some(PrefixCache { embedding: Arc::clone(&model.embedding), blocks: model.blocks[..passed].to_vec(), x });
        Ok(())
    }

    /// Mean divergence over the windows.
    fn diverged(&mut self, model: &Model) -> Result<f64, Error> {
        let windows = std::mem::take(&mut self.windows);
        let divergence = self.diverged_on(&windows, model);
        self.windows = windows;
        divergence
    }

    fn diverged_on(&mut self, windows: &[Vec<u32>], model: &Model) -> Result<f64, Error> {
        if self.reference.is_none() {
            let mut reference = Vec::new();
            self.each_row(self.original, windows, &mut |_, logits| {
                let norm = log_sum_exp(logits);
                reference.extend(logits.iter().map(|&logit| (f64::from(logit) - norm) as f32));
            })?;
            let mut rest = reference;
            let mut all = Vec::new();
            for window in windows {
                let tail = rest.split_off((window.len() - 1) * self.original.architecture.vocab);
                all.push(std::mem::replace(&mut rest, tail));
            }
            self.reference = Some(all);
        }
        let Some(reference) = self.reference.take() else { return Ok(0.0) };
        let vocab = self.original.architecture.vocab;
        let mut rows = reference.iter().flat_map(|window| window.chunks_exact(vocab));
        let (mut sum, mut count) = (0.0, 0_u64);
        let outcome = self.each_row(model, windows, &mut |_, logits| {
            if let Some(row) = rows.next() {
                sum += pare_methods::metric::divergence::kl(row, logits);
                count += 1;
            }
        });
        self.reference = Some(reference);
        outcome?;
        Ok(sum / count.max(1) as f64)
    }

    /// Gives the logits of every position but the last of each window to `take`, with the number of the window.
    fn each_row(&self, model: &Model, windows: &[Vec<u32>], take: &mut dyn FnMut(usize, &[f32])) -> Result<(), Error> {
        let longest = windows.iter().map(Vec::len).max().unwrap_or(0);
        let (mut runner, mut caches) = (Runner::new(model, self.work.pool), [KvCache::new(model, longest)]);
        for (index, window) in windows.iter().enumerate() {
            self.work.interrupt.check()?;
            runner.hidden(window, &[Segment { sequence: 0, start: 0, len: window.len() }], &mut caches, None);
            let rows: Vec<usize> = (0..window.len() - 1).collect();
            for rows in rows.chunks(ROWS) {
                let logits = runner.logits(rows);
                logits.chunks_exact(model.architecture.vocab).for_each(|logits| take(index, logits));
            }
        }
        Ok(())
    }

    /// The same work without the progress of its stages, of which there would be hundreds.
    fn silent(&self) -> Work<'a> {
        Work { progress: &Silent, ..self.work }
    }

    fn stopped<T>(&mut self, result: Result<T, Error>) -> Result<T, MethodError> {
        result.map_err(|error| {
            let why = error.to_string();
            self.failure = Some(error);
            MethodError::Stopped { why }
        })
    }
}

impl Calibration for OnText<'_> {
    fn observe(&mut self, model: &Model, needs: &BTreeSet<(Site, Stat)>) -> Result<Stats, MethodError> {
        let stats = self.observed(model, needs);
        self.stopped(stats)
    }

    fn divergence(&mut self, model: &Model) -> Result<f64, MethodError> {
        let divergence = self.diverged(model);
        self.stopped(divergence)
    }
}

impl PrefixCache {
    /// Whether this is the stream of `model` behind at most `passed` of its blocks.
    fn starts(&self, model: &Model, passed: usize) -> bool {
        Arc::ptr_eq(&self.embedding, &model.embedding)
            && self.blocks.len() <= passed
            && self.blocks.iter().zip(&model.blocks).all(|(a, b)| is_same(a, b))
    }
}

/// Whether two blocks share every number.
fn is_same(a: &Block, b: &Block) -> bool {
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

/// The windows of `sequences` on which divergences are measured.
fn cut(sequences: &[Vec<u32>], vocab: usize) -> Vec<Vec<u32>> {
    let most = DIVERGENCE_LOGITS / DIVERGENCE_SEQUENCES / vocab.max(1);
    let tokens = DIVERGENCE_TOKENS.min(most).max(2);
    let long = sequences.iter().filter(|sequence| sequence.len() > 1).take(DIVERGENCE_SEQUENCES);
    long.flat_map(|sequence| windows(sequence, tokens).into_iter().take(1))
        .map(|window| window.tokens.to_vec())
        .collect()
}

/// Sequences of the same lengths whose tokens are the numbers of the rows, one after the other.
fn numbered(sequences: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let mut first = 0;
    let number = |sequence: &Vec<u32>| {
        let last = first + sequence.len() as u32;
        std::mem::replace(&mut first, last)..last
    };
    sequences.iter().map(number).map(Iterator::collect).collect()
}

/// The residual stream behind all blocks of `model`, `[T, C]`.
fn run(model: &Model, sequences: &[Vec<u32>], work: Work<'_>) -> Result<Matrix, Error> {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let together = (BATCH_TOKENS / longest.max(1)).max(1);
    let mut runner = Runner::new(model, work.pool);
    let mut caches: Vec<KvCache> = (0..together.min(sequences.len())).map(|_| KvCache::new(model, longest)).collect();
    let mut x = Vec::with_capacity(sequences.iter().map(Vec::len).sum::<usize>() * model.architecture.hidden);
    for batch in sequences.chunks(together) {
        work.interrupt.check()?;
        let segment = |(sequence, tokens): (usize, &Vec<u32>)| Segment { sequence, start: 0, len: tokens.len() };
        let segments: Vec<Segment> = batch.iter().enumerate().map(segment).collect();
        x.extend_from_slice(runner.hidden(&batch.concat(), &segments, &mut caches, None));
    }
    let width = model.architecture.hidden;
    Ok(Matrix::from_vec(x.len() / width.max(1), width, x))
}

#[cfg(test)]
mod tests;
