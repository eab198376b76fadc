//! Measuring models on text: perplexity, and divergence from a reference on the same windows.

use crate::progress::{Interrupted, Work};
use pare_methods::metric::{Divergence, Perplexity};
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::model::Model;

/// Rows of logits held at once per model: 64 rows of a 150k vocabulary are 38 MB.
const ROWS: usize = 64;
/// Tokens that pass a model between two looks at whether to stop.
const PART: usize = 512;

/// What the text says about one model.
#[derive(Clone, Debug, Default)]
pub struct TextFigures {
    /// Over every token but the first of each window.
    pub perplexity: Perplexity,
    /// Against the first of the models that were measured together; empty for that one.
    pub divergence: Divergence,
}

/// Cuts a text into windows of `context` tokens without overlap; a rest shorter than that is left out, unless it is all there is.
pub fn windows(tokens: &[u32], context: usize, limit: Option<usize>) -> Vec<&[u32]> {
    if tokens.len() < context {
        return if tokens.len() > 1 { vec![tokens] } else { Vec::new() };
    }
    tokens.chunks_exact(context).take(limit.unwrap_or(usize::MAX)).collect()
}

/// Measures `models` on `windows`, all on the same logits positions; the first is the reference of the others.
///
/// # Errors
/// [`Interrupted`] when the user stops it.
pub fn on_text(models: &[&Model], windows: &[&[u32]], work: Work<'_>) -> Result<Vec<TextFigures>, Interrupted> {
    let longest = windows.iter().map(|window| window.len()).max().unwrap_or(0);
    let mut figures = vec![TextFigures::default(); models.len()];
    let mut runners: Vec<Runner<'_>> = models.iter().map(|model| Runner::new(model, work.pool)).collect();
    let mut caches: Vec<[KvCache; 1]> = models.iter().map(|model| [KvCache::new(model, longest)]).collect();
    work.progress.begin("measuring on text", windows.len() as u64);
    for window in windows {
        // In parts, so that a long window can be stopped; the arithmetic is that of the whole.
        for start in (0..window.len()).step_by(PART) {
            work.interrupt.check()?;
            let part = &window[start..window.len().min(start + PART)];
            let segment = [Segment { sequence: 0, start, len: part.len() }];
            for (runner, caches) in runners.iter_mut().zip(&mut caches) {
                runner.hidden(part, &segment, caches, None);
            }
            let rows: Vec<usize> = (0..part.len()).filter(|row| start + row + 1 < window.len()).collect();
            for rows in rows.chunks(ROWS) {
                work.interrupt.check()?;
                let mut reference: Option<&[f32]> = None;
                for (runner, figures) in runners.iter_mut().zip(&mut figures) {
                    let vocab = runner.model().architecture.vocab;
                    let logits: &[f32] = runner.logits(rows);
                    for (index, (&row, logits)) in rows.iter().zip(logits.chunks_exact(vocab)).enumerate() {
                        figures.perplexity.add(logits, window[start + row + 1]);
                        if let Some(reference) = reference {
                            figures.divergence.add(&reference[index * vocab..(index + 1) * vocab], logits);
                        }
                    }
                    reference = reference.or(Some(logits));
                }
            }
        }
        let note = figures.last().and_then(|figures| figures.perplexity.value());
        work.progress.advance(1, &note.map_or(String::new(), |value| format!("perplexity {value:.2}")));
    }
    work.progress.end();
    Ok(figures)
}
