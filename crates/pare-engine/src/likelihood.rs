//! How likely a model finds given continuations.

use pare_methods::metric::perplexity::surprise;
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::sample::argmax;

/// Tokens of which the last ones are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continuation {
    /// Everything, at least two tokens.
    pub(crate) tokens: Vec<u32>,
    /// How many come first and are not scored, at least one.
    pub(crate) given: usize,
}

/// What a model makes of one continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    /// `-ln p` of the scored tokens, summed.
    pub(crate) nats: f64,
    /// Whether greedy decoding writes it: each token is the most likely one after those before.
    pub(crate) is_greedy: bool,
}

/// Scores continuations that mostly begin alike: what all of them share is computed once.
///
/// # Panics
/// When a continuation scores none of its tokens or the first one, or holds a token outside the vocabulary: the caller checks.
pub(crate) fn score(runner: &mut Runner<'_>, continuations: &[Continuation]) -> Vec<Scored> {
    let Some(first) = continuations.first() else { return Vec::new() };
    let vocab = runner.model().architecture.vocab;
    let longest = continuations.iter().map(|one| one.tokens.len()).max().unwrap_or(0);
    // The last shared token is left to each: its logits are the first that are looked at.
    let shared = continuations.iter().fold(first.tokens.len(), |shared, one| {
        assert!((1..one.tokens.len()).contains(&one.given), "some tokens are given and some are scored");
        let alike = one.tokens.iter().zip(&first.tokens).take_while(|(a, b)| a == b).count();
        shared.min(alike).min(one.given - 1)
    });
    let mut caches = [KvCache::new(runner.model(), longest)];
    if shared > 0 {
        runner.hidden(&first.tokens[..shared], &[Segment { sequence: 0, start: 0, len: shared }], &mut caches, None);
    }
    let mut scored = Vec::with_capacity(continuations.len());
    for Continuation { tokens, given } in continuations {
        // The last token predicts nothing that is asked for.
        let fed = &tokens[shared..tokens.len() - 1];
        runner.hidden(fed, &[Segment { sequence: 0, start: shared, len: fed.len() }], &mut caches, None);
        let rows: Vec<usize> = (given - 1 - shared..fed.len()).collect();
        let mut one = Scored { nats: 0.0, is_greedy: true };
        for (logits, &next) in runner.logits(&rows).chunks_exact(vocab).zip(&tokens[*given..]) {
            one.nats += surprise(logits, next);
            one.is_greedy &= argmax(logits) == next as usize;
        }
        scored.push(one);
    }
    scored
}
