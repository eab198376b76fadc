//! The measuring loop: a prompt, then tokens one by one at each context; whoever is measured takes turns.

use crate::progress::{Interrupt, Interrupted, Work};
use pare_kernels::pool::Pool;
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::model::Model;
use pare_model::sample::argmax;
use std::time::Instant;

/// Tokens that fill the cache in one step: Ctrl-C is looked at between two.
const STEP: usize = 512;

/// How much one turn computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded at each context.
    pub tokens: usize,
    /// Tokens in the cache before decoding begins, ascending.
    pub contexts: Vec<usize>,
}

impl Sizes {
    /// Positions that a turn needs.
    fn positions(&self) -> usize {
        self.contexts.last().map_or(0, |context| context + self.tokens).max(self.prompt)
    }
}

/// What one turn measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Prompt tokens per second, the logits of the last one included.
    pub prefill_tok_s: f64,
    /// Decoded tokens per second at each of [`Sizes::contexts`].
    pub decode_tok_s: Vec<f64>,
}

/// A packed model with its buffers, ready for turns.
pub struct Track<'m> {
    runner: Runner<'m>,
    cache: [KvCache; 1],
    sizes: Sizes,
    tokens: Vec<u32>,
    /// Positions of the cache that hold the first of `tokens`.
    held: usize,
}

impl<'m> Track<'m> {
    /// Buffers for turns of `sizes`.
    pub fn new(model: &'m Model, sizes: Sizes, pool: &'m Pool) -> Self {
        let positions = sizes.positions();
        let tokens = (0..positions).map(|i| (i * 37 % model.architecture.vocab) as u32).collect();
        let cache = [KvCache::new(model, positions)];
        Self { runner: Runner::new(model, pool), cache, sizes, tokens, held: 0 }
    }

    /// Bytes of the cache of keys and values that one position takes.
    pub fn cache_bytes_per_position(&self) -> usize {
        self.cache[0].bytes() / self.cache[0].capacity().max(1)
    }

    /// Measures once.
    ///
    /// # Errors
    /// [`Interrupted`] when the user stops it.
    pub fn turn(&mut self, interrupt: &Interrupt) -> Result<Turn, Interrupted> {
        interrupt.check()?;
        let prompt = self.sizes.prompt;
        let start = Instant::now();
        self.fill(0, prompt);
        argmax(self.runner.logits(&[prompt - 1]));
        let prefill_tok_s = prompt as f64 / start.elapsed().as_secs_f64();
        self.held = prompt;
        // The longest first: decoding overwrites only what the shorter ones do not need.
        let contexts = self.sizes.contexts.clone();
        let mut decode_tok_s = Vec::with_capacity(contexts.len());
        for &context in contexts.iter().rev() {
            decode_tok_s.push(self.decode(context, interrupt)?);
        }
        decode_tok_s.reverse();
        Ok(Turn { prefill_tok_s, decode_tok_s })
    }

    /// Tokens per second, greedily decoded after `context` tokens; filling the cache is not counted.
    fn decode(&mut self, context: usize, interrupt: &Interrupt) -> Result<f64, Interrupted> {
        while self.held < context {
            interrupt.check()?;
            let len = STEP.min(context - self.held);
            self.fill(self.held, len);
            self.held += len;
        }
        self.held = context;
        let count = self.sizes.tokens;
        let mut token = self.tokens[context];
        let start = Instant::now();
        for position in context..context + count {
            interrupt.check()?;
            let segment = Segment { sequence: 0, start: position, len: 1 };
            self.runner.hidden(&[token], &[segment], &mut self.cache, None);
            token = argmax(self.runner.logits(&[0])) as u32;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }

    fn fill(&mut self, start: usize, len: usize) {
        let segment = Segment { sequence: 0, start, len };
        self.runner.hidden(&self.tokens[start..start + len], &[segment], &mut self.cache, None);
    }
}

/// Rounds in which every entrant takes one turn, in order; the first warms up and is not counted. `between` is called after every round.
///
/// Returns the turns of each entrant, one per counted round.
///
/// # Errors
/// The first error of a turn or of `between`; [`Interrupted`] when the user stops it.
pub fn in_turn<E, X: From<Interrupted>>(
    entrants: &mut [E],
    rounds: usize,
    work: Work<'_>,
    mut turn: impl FnMut(&mut E) -> Result<Turn, X>,
    mut between: impl FnMut() -> Result<(), X>,
) -> Result<Vec<Vec<Turn>>, X> {
    let mut turns = vec![Vec::with_capacity(rounds); entrants.len()];
    work.progress.begin("measuring speed", (rounds as u64 + 1) * entrants.len() as u64);
    for round in 0..=rounds {
        let note = if round == 0 { "warming up".to_owned() } else { format!("round {round} of {rounds}") };
        for (entrant, turns) in entrants.iter_mut().zip(&mut turns) {
            work.interrupt.check()?;
            let measured = turn(entrant)?;
            if round > 0 {
                turns.push(measured);
            }
            work.progress.advance(1, &note);
        }
        between()?;
    }
    work.progress.end();
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn turn(prefill_tok_s: f64) -> Turn {
        Turn { prefill_tok_s, decode_tok_s: Vec::new() }
    }

    #[test]
    fn entrants_alternate_and_the_first_round_is_not_counted() {
        let (pool, interrupt) = (Pool::new(1), Interrupt::new());
        let work = Work { pool: &pool, progress: &Silent, interrupt: &interrupt };
        let (mut order, mut pauses) = (String::new(), 0);
        let turns = in_turn(
            &mut ['a', 'b'],
            2,
            work,
            |name| {
                order.push(*name);
                Ok::<_, Interrupted>(turn(order.len() as f64))
            },
            || {
                pauses += 1;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!((order.as_str(), pauses), ("ababab", 3));
        assert_eq!(turns, [vec![turn(3.0), turn(5.0)], vec![turn(4.0), turn(6.0)]]);
    }

    #[test]
    fn it_stops_when_asked() {
        let (pool, interrupt) = (Pool::new(1), Interrupt::new());
        let work = Work { pool: &pool, progress: &Silent, interrupt: &interrupt };
        let mut taken = 0;
        let stop = || {
            taken += 1;
            interrupt.set();
            Ok::<_, Interrupted>(turn(1.0))
        };
        let mut stop = Some(stop);
        let result =
            in_turn(&mut [(), ()], 3, work, |()| stop.take().map_or(Ok(turn(0.0)), |mut stop| stop()), || Ok(()));
        assert_eq!(result, Err(Interrupted));
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_turn_needs_room_for_the_longest_context_or_the_prompt() {
        let sizes = |prompt, contexts: &[usize]| Sizes { prompt, tokens: 4, contexts: contexts.to_vec() };
        assert_eq!(sizes(8, &[0, 16]).positions(), 20);
        assert_eq!(sizes(30, &[0, 16]).positions(), 30);
        assert_eq!(sizes(8, &[]).positions(), 8);
    }
}
