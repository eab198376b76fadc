//! Tokens per second, measured: models take turns, so that a machine that changes its speed changes it for all.

pub use crate::bench::PROMPT;
use crate::bench::measure::{Sizes, Track, in_turn};
use crate::bench::spread::Spread;
use crate::progress::{Interrupted, Work};
use pare_model::model::Model;

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Speed {
    /// Tokens per second of a prompt of [`PROMPT`] tokens.
    pub prefill_tok_s: f64,
    /// Tokens per second of [`DECODED`] tokens, greedily decoded into an empty cache.
    pub decode_tok_s: f64,
}

/// Decoded tokens per round.
pub const DECODED: usize = 64;
/// Rounds after the first, which warms up and is not counted.
pub const ROUNDS: usize = 5;

/// Measures packed models in turn.
///
/// # Errors
/// [`Interrupted`] when the user stops it.
pub fn measure(models: &[&Model], work: Work<'_>) -> Result<Vec<Speed>, Interrupted> {
    let sizes = |model: &Model| {
        let prompt = PROMPT.min(model.architecture.context);
        Sizes { prompt, tokens: DECODED, contexts: vec![0] }
    };
    let mut tracks: Vec<Track<'_>> = models.iter().map(|model| Track::new(model, sizes(model), work.pool)).collect();
    let turns = in_turn(&mut tracks, ROUNDS, work, |track| track.turn(work.interrupt), || Ok(()))?;
    let median = |values: &mut dyn Iterator<Item = f64>| Spread::of(values).map_or(f64::NAN, |spread| spread.median);
    Ok(turns
        .iter()
        .map(|turns| Speed {
            prefill_tok_s: median(&mut turns.iter().map(|turn| turn.prefill_tok_s)),
            decode_tok_s: median(&mut turns.iter().map(|turn| turn.decode_tok_s[0])),
        })
        .collect())
}
