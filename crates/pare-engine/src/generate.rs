//! Writing text with a model: one answer, or many sequences side by side.

use crate::progress::{Interrupted, Work};
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::model::Model;
use pare_model::rng::SplitMix64;
use pare_model::sample::{Sampler, Sampling};

/// Sequences that are written together: their caches of keys and values are held at once.
const SIDE_BY_SIDE: usize = 32;

/// Positions that a cache has room for at first: a context can be longer than the memory, and most answers are short.
const FIRST_ROOM: usize = 1024;

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
    let most = prompt.len().saturating_add(limit);
    let mut caches = [KvCache::new(model, most.min(prompt.len() + FIRST_ROOM))];
    let mut written = Vec::new();
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
        for cache in &mut caches {
            if start >= cache.capacity() {
                cache.reserve(most.min(2 * cache.capacity()));
            }
        }
        runner.hidden(&[token], &[Segment { sequence: 0, start, len: 1 }], &mut caches, None);
        last_row = 0;
    }
    Ok(written)
}

/// Text that the model writes itself: `sequences` of `length` tokens each, all beginning with `first`, sampled side by side.
///
/// Sequence `i` draws from its own stream of `seed`, so its text depends on nothing but the model, the seed and `i`.
///
/// # Errors
/// [`Interrupted`] when the user stops it.
pub fn write_sequences(
    model: &Model,
    first: u32,
    sequences: usize,
    length: usize,
    sampling: Sampling,
    seed: u64,
    work: Work<'_>,
) -> Result<Vec<Vec<u32>>, Interrupted> {
    let mut texts: Vec<Vec<u32>> = (0..sequences).map(|_| vec![first]).collect();
    let steps = length.saturating_sub(1);
    work.progress.begin("writing text", (sequences.div_ceil(SIDE_BY_SIDE) * steps) as u64);
    for (batch, texts) in texts.chunks_mut(SIDE_BY_SIDE).enumerate() {
        let streams = (batch * SIDE_BY_SIDE) as u64..;
        let draws = streams.map(|stream| SplitMix64::stream(seed, stream).next_u64());
        let mut samplers: Vec<Sampler> = draws.take(texts.len()).map(|seed| Sampler::new(sampling, seed)).collect();
        write_batch(model, texts, length, &mut samplers, work)?;
    }
    work.progress.end();
    Ok(texts)
}

/// Continues texts of one token each to `length` tokens, side by side.
fn write_batch(
    model: &Model,
    texts: &mut [Vec<u32>],
    length: usize,
    samplers: &mut [Sampler],
    work: Work<'_>,
) -> Result<(), Interrupted> {
    let mut runner = Runner::new(model, work.pool);
    let mut caches: Vec<KvCache> = texts.iter().map(|_| KvCache::new(model, length)).collect();
    let rows: Vec<usize> = (0..texts.len()).collect();
    for start in 0..length.saturating_sub(1) {
        work.interrupt.check()?;
        let tokens: Vec<u32> = texts.iter().map(|text| text[start]).collect();
        let segments: Vec<Segment> = rows.iter().map(|&sequence| Segment { sequence, start, len: 1 }).collect();
        runner.hidden(&tokens, &segments, &mut caches, None);
        // A few rows at a time: the logits of all would be the largest buffer of the program.
        for rows in rows.chunks(16) {
            let logits = runner.logits(rows);
            for (&sequence, logits) in rows.iter().zip(logits.chunks_exact(model.architecture.vocab)) {
                let token = samplers[sequence].pick(logits);
                texts[sequence].push(token);
            }
        }
        work.progress.advance(1, "");
    }
    Ok(())
}
