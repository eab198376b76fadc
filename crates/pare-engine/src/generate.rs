//! Writing text with a model, token by token: the decode loop of one answer.

use crate::progress::{Interrupted, Work};
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::model::Model;
use pare_model::sample::Sampler;

/// One continuation, token by token.
///
/// `take` is called with each new token and says whether to go on. Returns the tokens, without the prompt.
///
/// # Errors
/// [`Interrupted`] when the user stops it.
///
/// # Panics
/// When the prompt is empty or holds a token outside the vocabulary: the caller checks both.
pub fn continue_text(
    model: &Model,
    prompt: &[u32],
    limit: usize,
    sampler: &mut Sampler,
    work: Work<'_>,
    mut take: impl FnMut(u32) -> bool,
) -> Result<Vec<u32>, Interrupted> {
    assert!(!prompt.is_empty(), "a continuation needs at least one token to continue");
    let mut runner = Runner::new(model, work.pool);
    let mut caches = [KvCache::new(model, prompt.len() + limit)];
    let mut written = Vec::with_capacity(limit);
    runner.hidden(prompt, &[Segment { sequence: 0, start: 0, len: prompt.len() }], &mut caches, None);
    let mut last_row = prompt.len() - 1;
    while written.len() < limit {
        work.interrupt.check()?;
        let token = sampler.pick(runner.logits(&[last_row]));
        written.push(token);
        if !take(token) || written.len() == limit {
            break;
        }
        let start = prompt.len() + written.len() - 1;
        runner.hidden(&[token], &[Segment { sequence: 0, start, len: 1 }], &mut caches, None);
        last_row = 0;
    }
    Ok(written)
}
