//! Text that a model writes itself: passages with openings of their own, broken off where they begin to repeat themselves.

use super::{Amount, CACHED, Purpose};
use crate::bundle::Bundle;
use crate::fingerprint::fingerprint;
use crate::progress::{Interrupted, Work};
use crate::{Error, cache};
use pare_format::tokenizer::Tokenizer;
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::model::{Model, PackAs};
use pare_model::rng::SplitMix64;
use pare_model::sample::{Sampler, Sampling};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ops::Range;

/// How the model writes: unfiltered but for the far tail, which a small model fills with noise.
pub const SELF_WRITTEN: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.02 };

/// Sequences that are written together: their caches of keys and values are held at once.
const SIDE_BY_SIDE: usize = 32;
/// Tokens of a run that is looked for in what was written before it.
const RUN: usize = 4;
/// Where more than half of so many runs stood in the sequence before, it repeats itself, whatever the length of what is repeated.
const TAIL: usize = 64;
/// Passages of a sequence that are broken off for repeating; a model that goes on repeating itself after so many cannot do otherwise.
const BROKEN_OFF: usize = 12;
/// Fewer opening words than this say more of the vocabulary than of the language.
const FEWEST_WORDS: usize = 64;

/// How passages begin and end. A window may hold several.
///
/// A first token drawn from the vocabulary, and sampling after it, is what LLM-QAT calibrates on (Liu et al. 2023, arXiv:2305.17888).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Openings {
    /// Every window begins with it.
    pub first: u32,
    /// Every passage begins with one of them, drawn anew; with nothing when there are none.
    pub words: Vec<u32>,
    /// What ends a passage.
    pub ends: BTreeSet<u32>,
}

impl Openings {
    /// Those of a model: the token that its texts begin with, then a token of its vocabulary that is a word or begins one.
    pub fn of(bundle: &Bundle) -> Self {
        let ends = (0..bundle.tokenizer.vocab_size() as u32).filter(|&token| bundle.is_end(token)).collect();
        Self { first: bundle.first_token(), words: words(&bundle.tokenizer), ends }
    }

    /// Every window begins with `first`, and no passage ends.
    pub fn plain(first: u32) -> Self {
        Self { first, words: Vec::new(), ends: BTreeSet::new() }
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let ends = self.ends.iter();
        [self.first, u32::MAX].iter().chain(&self.words).chain([&u32::MAX]).chain(ends).for_each(|token| {
            hash.update(token.to_le_bytes());
        });
        hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Tokens of a space and at least three letters; none when there are too few.
fn words(tokenizer: &Tokenizer) -> Vec<u32> {
    let is_word = |token: &u32| {
        let bytes = tokenizer.token(*token).filter(|_| !tokenizer.is_special(*token));
        let word = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.strip_prefix(' '));
        word.is_some_and(|word| word.chars().count() >= 3 && word.chars().all(char::is_alphabetic))
    };
    let words: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(is_word).collect();
    if words.len() < FEWEST_WORDS { Vec::new() } else { words }
}

/// Which text is written.
#[derive(Clone, Copy)]
pub struct WritingOptions<'a> {
    /// How passages begin and end.
    pub openings: &'a Openings,
    /// What it is for: each purpose draws from its own seeds.
    pub purpose: Purpose,
    /// Seed of the draws.
    pub seed: u64,
}

/// The windows numbered `windows`, of `length` tokens each, written by `model` or read from the cache. A window depends on nothing but the
/// model, the options, the length and its number.
///
/// # Errors
/// The user stops it.
pub(super) fn windows(
    model: &Model,
    options: WritingOptions<'_>,
    windows: Range<usize>,
    length: usize,
    work: Work<'_>,
) -> Result<Vec<Vec<u32>>, Error> {
    let WritingOptions { openings, purpose, seed } = options;
    let amount = Amount { sequences: windows.len(), length };
    let from = if windows.start == 0 { String::new() } else { format!("{}+", windows.start) };
    // The 4 is for the arithmetic and the way of writing: a text written in another is another text.
    let name = format!(
        "4-{}-{}-{seed}-{}-{from}{}x{length}.tokens",
        fingerprint(model),
        purpose.name(),
        openings.hash(),
        windows.len()
    );
    if let Some(found) = read_tokens(&name, amount, model.architecture.vocab) {
        return Ok(found);
    }
    let stream = seed.wrapping_mul(2).wrapping_add(u64::from(purpose == Purpose::Verification));
    // A step computes one row per sequence: packed weights are read once for all of them.
    let packed = model.packed(PackAs::Stored, work.pool);
    let texts = write(&packed, openings, windows, length, stream, work)?;
    let bytes: Vec<u8> = texts.iter().flatten().flat_map(|token| token.to_le_bytes()).collect();
    cache::keep(CACHED, &name, &bytes, work.progress);
    Ok(texts)
}

fn write(
    model: &Model,
    openings: &Openings,
    windows: Range<usize>,
    length: usize,
    seed: u64,
    work: Work<'_>,
) -> Result<Vec<Vec<u32>>, Interrupted> {
    let mut sequences: Vec<Sequence<'_>> =
        windows.map(|window| Sequence::new(openings, SplitMix64::stream(seed, window as u64), length)).collect();
    work.progress.begin("writing text", (sequences.len() * length) as u64);
    for batch in sequences.chunks_mut(SIDE_BY_SIDE) {
        write_batch(model, batch, work)?;
    }
    work.progress.end();
    Ok(sequences.into_iter().map(|sequence| sequence.tokens).collect())
}

fn write_batch(model: &Model, batch: &mut [Sequence<'_>], work: Work<'_>) -> Result<(), Interrupted> {
    let longest = batch.iter().map(|sequence| sequence.length).max().unwrap_or(0);
    let mut runner = Runner::new(model, work.pool);
    let mut caches: Vec<KvCache> = batch.iter().map(|_| KvCache::new(model, longest)).collect();
    let mut told = 0;
    loop {
        work.interrupt.check()?;
        let writing: Vec<usize> = (0..batch.len()).filter(|&index| !batch[index].is_full()).collect();
        // A sequence that was broken off is shorter again: people are told of the most that there was.
        let written: usize = batch.iter().map(|sequence| sequence.tokens.len()).sum();
        work.progress.advance(written.saturating_sub(told) as u64, "");
        told = told.max(written);
        if writing.is_empty() {
            return Ok(());
        }
        let (mut tokens, mut segments, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for &index in &writing {
            let sequence = &mut batch[index];
            caches[index].truncate(sequence.read);
            let unread = &sequence.tokens[sequence.read..];
            segments.push(Segment { sequence: index, start: sequence.read, len: unread.len() });
            tokens.extend_from_slice(unread);
            last.push(tokens.len() - 1);
            sequence.read = sequence.tokens.len();
        }
        runner.hidden(&tokens, &segments, &mut caches, None);
        // A few rows at a time: the logits of all would be the largest buffer of the program.
        for (writing, rows) in writing.chunks(16).zip(last.chunks(16)) {
            let logits = runner.logits(rows);
            for (&index, logits) in writing.iter().zip(logits.chunks_exact(model.architecture.vocab)) {
                batch[index].draw(logits);
            }
        }
    }
}

/// A sequence that is being written.
struct Sequence<'a> {
    openings: &'a Openings,
    /// For opening words.
    rng: SplitMix64,
    sampler: Sampler,
    length: usize,
    tokens: Vec<u32>,
    /// How many of them the model has read.
    read: usize,
    /// For each token, whether the run that ends with it stood here before.
    repeated: Vec<bool>,
    runs: BTreeSet<[u32; RUN]>,
    broken_off: usize,
}

impl<'a> Sequence<'a> {
    fn new(openings: &'a Openings, mut rng: SplitMix64, length: usize) -> Self {
        let sampler = Sampler::new(SELF_WRITTEN, rng.next_u64());
        let (tokens, repeated, runs) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut sequence = Self { openings, rng, sampler, length, tokens, read: 0, repeated, runs, broken_off: 0 };
        sequence.open();
        sequence
    }

    fn is_full(&self) -> bool {
        self.tokens.len() >= self.length
    }

    /// Begins a passage.
    fn open(&mut self) {
        // Once in a window: many models send attention nowhere through it, with activations that would outweigh those of all words.
        if self.tokens.is_empty() {
            self.push(self.openings.first);
        }
        if !self.openings.words.is_empty() {
            let word = self.rng.below(self.openings.words.len());
            self.push(self.openings.words[word]);
        }
    }

    fn draw(&mut self, logits: &[f32]) {
        let token = self.sampler.pick(logits);
        self.push(token);
        if let Some(from) = self.repeats_from().filter(|_| self.broken_off < BROKEN_OFF) {
            self.broken_off += 1;
            self.cut(from);
            self.open();
        } else if self.openings.ends.contains(&token) {
            self.open();
        }
    }

    fn push(&mut self, token: u32) {
        if self.is_full() {
            return;
        }
        self.tokens.push(token);
        self.note_run();
    }

    fn note_run(&mut self) {
        let run = self.tokens[..=self.repeated.len()].last_chunk::<RUN>();
        self.repeated.push(run.is_some_and(|run| !self.runs.insert(*run)));
    }

    /// Where the sequence began to repeat itself, when it does.
    fn repeats_from(&self) -> Option<usize> {
        let tail = self.repeated.len().saturating_sub(TAIL);
        let found = self.repeated[tail..].iter().filter(|repeated| **repeated).count();
        let from = self.repeated[tail..].iter().position(|repeated| *repeated)?;
        (found > TAIL / 2).then_some(tail + from)
    }

    fn cut(&mut self, len: usize) {
        self.tokens.truncate(len);
        // The last of them is read again: what follows it is drawn anew.
        self.read = self.read.min(len.saturating_sub(1));
        self.runs.clear();
        self.repeated.clear();
        (0..len).for_each(|_| self.note_run());
    }
}

/// A cached text, when it is whole and fits what is asked; anything else is written anew.
fn read_tokens(name: &str, amount: Amount, vocab: usize) -> Option<Vec<Vec<u32>>> {
    let bytes = cache::read(CACHED, name)?;
    if bytes.len() != amount.sequences * amount.length * 4 {
        return None;
    }
    let tokens: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|raw| u32::from_le_bytes(*raw)).collect();
    tokens
        .iter()
        .all(|&token| (token as usize) < vocab)
        .then(|| tokens.chunks(amount.length).map(<[u32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::rng::mix;

    /// Logits whose draw is certain.
    fn certain(token: u32) -> Vec<f32> {
        (0..128).map(|other| if other == token { 100.0 } else { 0.0 }).collect()
    }

    fn written(openings: &Openings, length: usize, next: impl Fn(&[u32]) -> u32) -> Sequence<'_> {
        let mut sequence = Sequence::new(openings, SplitMix64::new(3), length);
        let mut steps = 0;
        while !sequence.is_full() {
            let logits = certain(next(&sequence.tokens));
            sequence.draw(&logits);
            steps += 1;
            assert!(steps < 20 * length, "never ends");
        }
        sequence
    }

    fn distinct_runs(tokens: &[u32]) -> usize {
        tokens.windows(RUN).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn a_loop_of_any_period_is_broken_off_and_another_passage_begins() {
        let openings = Openings { first: 0, words: (64..128).collect(), ends: BTreeSet::new() };
        // Goes round in circles from every opening; which one depends on the opening.
        for period in [1, 2, 7, 30, 60] {
            let next = |tokens: &[u32]| {
                let opened = tokens.iter().rposition(|&token| token >= 64).unwrap();
                let (word, phase) = (tokens[opened], (tokens.len() - opened) as u32 % period);
                (7 * phase * phase + phase * word + 31 * word) % 61
            };
            let sequence = written(&openings, 512, next);
            let (distinct, words) =
                (distinct_runs(&sequence.tokens), sequence.tokens.iter().filter(|&&token| token >= 64).count());
            assert!(sequence.broken_off > 0 && words > sequence.broken_off / 2, "period {period}: {words} openings");
            assert!(sequence.broken_off <= BROKEN_OFF && sequence.tokens.len() == 512);
            if period >= 30 {
                assert!(distinct > 250, "period {period}: {distinct} different runs of {RUN}");
            }
        }
    }

    #[test]
    fn text_without_repeats_is_left_alone_and_passages_end_at_their_end() {
        let openings = Openings { first: 0, words: vec![5, 6, 7], ends: BTreeSet::from([9]) };
        let next = |tokens: &[u32]| {
            if tokens.len().is_multiple_of(50) { 9 } else { 10 + (mix(tokens.len() as u64) % 118) as u32 }
        };
        let sequence = written(&openings, 200, next);
        assert_eq!((sequence.broken_off, sequence.tokens.len()), (0, 200));
        for (at, _) in sequence.tokens.iter().enumerate().filter(|(_, token)| **token == 9) {
            assert!((5..8).contains(&sequence.tokens[at + 1]), "{at}");
        }
        assert_eq!(sequence.tokens.iter().filter(|&&token| token == 9).count(), 3);
    }
}
