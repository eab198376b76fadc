//! Rewriting a whole model: what the methods of that axis ask of calibration text.

use crate::Error;
use crate::divergence::DivergenceProbe;
use crate::evaluate::windows;
use crate::observe::observe_from;
use crate::progress::{Silent, Work};
use crate::residual::{ResidualStream, share_numbers};
use crate::split::Split;
use pare_methods::error::MethodError;
use pare_methods::rewrite::{Calibration, Rewritten, find};
use pare_methods::settings::Settings;
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use pare_model::weight::Weight;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Sequences on which divergences are measured: few, because a search measures hundreds of models.
const DIVERGENCE_SEQUENCES: usize = 4;
/// The longest of them, in tokens.
const DIVERGENCE_TOKENS: usize = 512;
/// Logits of the original that are held for divergences: half a gigabyte.
const DIVERGENCE_LOGITS: usize = 1 << 27;

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
    /// Made at the first question.
    probe: Option<DivergenceProbe>,
    failure: Option<Error>,
}

/// The residual stream of all sequences behind some blocks.
struct PrefixCache {
    embedding: Arc<dyn Weight>,
    blocks: Vec<Block>,
    stream: ResidualStream,
}

impl<'a> OnText<'a> {
    fn new(original: &'a Model, Split { fit, select }: Split, work: Work<'a>) -> Self {
        let windows = cut(&select, original.architecture.vocab);
        Self { original, sequences: fit, windows, work, prefix: None, probe: None, failure: None }
    }

    /// Statistics of `model`. Blocks that the model before this one had too are not run again.
    fn observed(&mut self, model: &Model, needs: &BTreeSet<(Site, Stat)>) -> Result<Stats, Error> {
        let first = needs.iter().map(|(site, _)| site.block).min().unwrap_or(0);
        // A search changes what stands right in front of the block that it looks at next: what is kept ends before that.
        let passed = first.saturating_sub(1).min(model.blocks.len());
        let stream = match passed {
            0 => ResidualStream::embed(model, &self.sequences),
            _ => self.passed(model, passed)?.clone(),
        };
        observe_from(passed, stream, &model.blocks, needs, self.silent())
    }

    /// The stream behind the first `passed` blocks of `model`.
    fn passed(&mut self, model: &Model, passed: usize) -> Result<&ResidualStream, Error> {
        let known = self.prefix.take().filter(|prefix| prefix.starts(model, passed));
        let (done, mut stream) = match known {
            Some(prefix) => (prefix.blocks.len(), prefix.stream),
            None => (0, ResidualStream::embed(model, &self.sequences)),
        };
        stream.advance_through(&model.blocks[..passed], done, self.work)?;
        stream.release_scratch();
        let (embedding, blocks) = (Arc::clone(&model.embedding), model.blocks[..passed].to_vec());
        Ok(&self.prefix.insert(PrefixCache { embedding, blocks, stream }).stream)
    }

    /// Mean divergence over the windows.
    fn diverged(&mut self, model: &Model) -> Result<f64, Error> {
        let probe = match self.probe.take() {
            Some(probe) => probe,
            None => self.probed()?,
        };
        self.probe.insert(probe).divergence(model, None, self.work)
    }

    /// The original's predictions of every token of the windows that has one before it.
    fn probed(&self) -> Result<DivergenceProbe, Error> {
        let (original, windows, mut rows, mut end) = (self.original, self.windows.clone(), Vec::new(), 0);
        for window in &windows {
            rows.extend(end..end + window.len() - 1);
            end += window.len();
        }
        let mut stream = ResidualStream::embed(original, &windows);
        stream.advance_through(&original.blocks, 0, self.work)?;
        Ok(DivergenceProbe::new(original, windows, rows, &stream, self.work.pool))
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
            && self.blocks.iter().zip(&model.blocks).all(|(a, b)| share_numbers(a, b))
    }
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

#[cfg(test)]
mod tests;
