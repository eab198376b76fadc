//! Tokens per second, measured: models take turns, so that a machine that changes its speed changes it for all.

use crate::progress::{Interrupted, Work};
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::model::Model;
use pare_model::sample::argmax;
use std::time::Instant;

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Speed {
    /// Tokens per second of a prompt of [`PROMPT`] tokens.
    pub prefill_tok_s: f64,
    /// Tokens per second of [`DECODED`] tokens, greedily decoded after one token.
    pub decode_tok_s: f64,
}

/// Tokens of the prompt.
pub const PROMPT: usize = 512;
/// Decoded tokens per round.
pub const DECODED: usize = 64;
/// Rounds after the first, which warms up and is not counted.
pub const ROUNDS: usize = 5;

/// Measures packed models in turn.
///
/// # Errors
/// [`Interrupted`] when the user stops it.
pub fn measure(models: &[&Model], work: Work<'_>) -> Result<Vec<Speed>, Interrupted> {
    let mut seconds = vec![(Vec::new(), Vec::new()); models.len()];
    let prompts: Vec<Vec<u32>> = models
        .iter()
        .map(|model| {
            (0..PROMPT.min(model.architecture.context)).map(|i| (i * 37 % model.architecture.vocab) as u32).collect()
        })
        .collect();
    let mut runners: Vec<Runner<'_>> = models.iter().map(|model| Runner::new(model, work.pool)).collect();
    let mut caches: Vec<[KvCache; 1]> = models.iter().map(|model| [KvCache::new(model, PROMPT)]).collect();
    work.progress.begin("measuring speed", (ROUNDS as u64 + 1) * models.len() as u64);
    for round in 0..=ROUNDS {
        for (index, runner) in runners.iter_mut().enumerate() {
            work.interrupt.check()?;
            let prompt = &prompts[index];
            let start = Instant::now();
            runner.hidden(prompt, &[Segment { sequence: 0, start: 0, len: prompt.len() }], &mut caches[index], None);
            let mut token = argmax(runner.logits(&[prompt.len() - 1])) as u32;
            let prefill = start.elapsed().as_secs_f64() / prompt.len() as f64;
            let start = Instant::now();
            for position in 0..DECODED {
                runner.hidden(&[token], &[Segment { sequence: 0, start: position, len: 1 }], &mut caches[index], None);
                token = argmax(runner.logits(&[0])) as u32;
            }
            let decode = start.elapsed().as_secs_f64() / DECODED as f64;
            if round > 0 {
                seconds[index].0.push(prefill);
                seconds[index].1.push(decode);
            }
            work.progress.advance(1, "");
        }
    }
    work.progress.end();
    let per_second = |seconds: &mut Vec<f64>| {
        seconds.sort_unstable_by(f64::total_cmp);
        1.0 / seconds[seconds.len() / 2]
    };
    Ok(seconds
        .iter_mut()
        .map(|(prefill, decode)| Speed { prefill_tok_s: per_second(prefill), decode_tok_s: per_second(decode) })
        .collect())
}
