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
    /// Over every counted token.
    pub perplexity: Perplexity,
    /// Against the first of the models that were measured together; empty for that one.
    pub divergence: Divergence,
}

/// A window of a text, and from which of its tokens on predictions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'t> {
    /// The tokens, at least two.
    pub tokens: &'t [u32],
    /// The first token whose prediction is counted, at least 1: nothing stands before the first token.
    pub counted_from: usize,
}

impl<'t> From<&'t [u32]> for Window<'t> {
    fn from(tokens: &'t [u32]) -> Self {
        Self { tokens, counted_from: 1 }
    }
}

/// Cuts a text into windows of `context` tokens without overlap; a rest shorter than that is left out, unless it is all there is.
pub fn windows(tokens: &[u32], context: usize) -> Vec<Window<'_>> {
    if tokens.len() < context {
        return if tokens.len() > 1 { vec![tokens.into()] } else { Vec::new() };
    }
    tokens.chunks_exact(context).map(Window::from).collect()
}

/// Windows of `context` tokens that begin every `stride` tokens, as `transformers` documents it: each token but the first of the text is
/// predicted once, by the first window that holds it with one before it. The last window ends with the text.
///
/// # Panics
/// When the stride is 0 or longer than the context: tokens would be left out.
pub fn strided(tokens: &[u32], context: usize, stride: usize) -> Vec<Window<'_>> {
    assert!((1..=context).contains(&stride), "a stride of {stride} with windows of {context}");
    let mut windows = Vec::new();
    let mut counted = 1;
    let mut begin = 0;
    while counted < tokens.len() && begin + 1 < tokens.len() {
        let end = tokens.len().min(begin + context);
        windows.push(Window { tokens: &tokens[begin..end], counted_from: (counted - begin).max(1) });
        (counted, begin) = (end, begin + stride);
    }
    windows
}

/// Measures `models` on `windows`, all on the same logits positions; the first is the reference of the others.
///
/// # Errors
/// [`Interrupted`] when the user stops it.
pub fn on_text(models: &[&Model], windows: &[Window<'_>], work: Work<'_>) -> Result<Vec<TextFigures>, Interrupted> {
    let longest = windows.iter().map(|window| window.tokens.len()).max().unwrap_or(0);
    let mut figures = vec![TextFigures::default(); models.len()];
    let mut runners: Vec<Runner<'_>> = models.iter().map(|model| Runner::new(model, work.pool)).collect();
    let mut caches: Vec<[KvCache; 1]> = models.iter().map(|model| [KvCache::new(model, longest)]).collect();
    work.progress.begin("measuring on text", windows.len() as u64);
    for window in windows {
        let Window { tokens, counted_from } = *window;
        // In parts, so that a long window can be stopped; the arithmetic is that of the whole.
        for start in (0..tokens.len()).step_by(PART) {
            work.interrupt.check()?;
            let part = &tokens[start..tokens.len().min(start + PART)];
            let segment = [Segment { sequence: 0, start, len: part.len() }];
            for (runner, caches) in runners.iter_mut().zip(&mut caches) {
                runner.hidden(part, &segment, caches, None);
            }
            let rows: Vec<usize> =
                (0..part.len()).filter(|row| (counted_from..tokens.len()).contains(&(start + row + 1))).collect();
            for rows in rows.chunks(ROWS) {
                work.interrupt.check()?;
                let mut reference: Option<&[f32]> = None;
                for (runner, figures) in runners.iter_mut().zip(&mut figures) {
                    let vocab = runner.model().architecture.vocab;
                    let logits: &[f32] = runner.logits(rows);
                    for (index, (&row, logits)) in rows.iter().zip(logits.chunks_exact(vocab)).enumerate() {
                        figures.perplexity.add(logits, tokens[start + row + 1]);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(windows: &[Window<'_>]) -> Vec<(usize, usize)> {
        windows.iter().map(|window| (window.tokens[0] as usize, window.counted_from)).collect()
    }

    #[test]
    fn with_a_stride_every_token_but_the_first_is_predicted_once() {
        let tokens: Vec<u32> = (0..23).collect();
        // Begins at 0, 3, 6, ...: the first window counts 1..8, each later one the 3 new tokens, the last one what is left.
        let found = strided(&tokens, 8, 3);
        assert_eq!(counted(&found), [(0, 1), (3, 5), (6, 5), (9, 5), (12, 5), (15, 5)]);
        let predicted: Vec<u32> =
            found.iter().flat_map(|window| &window.tokens[window.counted_from..]).copied().collect();
        assert_eq!(predicted, (1..23).collect::<Vec<u32>>());
        assert_eq!(found.last().map(|window| window.tokens.len()), Some(8));
    }

    #[test]
    fn a_stride_as_long_as_the_window_leaves_no_rest_out() {
        let tokens: Vec<u32> = (0..20).collect();
        assert_eq!(counted(&strided(&tokens, 8, 8)), [(0, 1), (8, 1), (16, 1)]);
    }
}
