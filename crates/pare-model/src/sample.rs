//! Choosing the next token from logits.

use crate::rng::SplitMix64;

/// How the next token is chosen. The filters apply in the order temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 is greedy (the largest logit, the lower id on a tie).
    pub temperature: f32,
    /// Keep only the `k` most likely; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest most likely whose probability reaches `p`; 1 keeps all.
    pub top_p: f32,
    /// Keep those at least `p` times as likely as the most likely; 0 keeps all.
    pub min_p: f32,
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
}

/// Index of the largest logit, the lower index on a tie. NaN is never chosen; all NaN gives 0.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    let mut value = f32::NEG_INFINITY;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > value {
            (best, value) = (index, logit);
        }
    }
    best
}

/// Draws tokens; keeps its buffer between calls.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: SplitMix64,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// A sampler whose draws depend on `seed` alone.
    pub fn new(sampling: Sampling, seed: u64) -> Self {
        Self { sampling, rng: SplitMix64::new(seed), candidates: Vec::new() }
    }

    /// The next token for `logits` (one per token of the vocabulary).
    pub fn pick(&mut self, logits: &[f32]) -> u32 {
        let rule = self.sampling;
        if rule.temperature <= 0.0 {
            return argmax(logits) as u32;
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !largest.is_finite() {
            return argmax(logits) as u32;
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        // A token whose weight is below 2^-60 of the largest cannot change a draw of 53 bits: leave it out before sorting.
        // When min-p is the only cut of the tail, it says the same far higher up, and leaves tens of candidates to sort, not thousands.
        let tail = if rule.min_p > 0.0 && rule.top_p >= 1.0 { rule.min_p.ln() - 0.01 } else { -42.0 };
        let floor = largest + tail.max(-42.0) * rule.temperature;
        candidates.extend(
            logits.iter().enumerate().filter(|(_, logit)| **logit >= floor).map(|(id, &logit)| (logit, id as u32)),
        );
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if rule.top_k > 0 {
            candidates.truncate(rule.top_k);
        }
        for (weight, _) in candidates.iter_mut() {
            *weight = ((*weight - largest) / rule.temperature).exp();
        }
        let total: f64 = candidates.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let mut reached = 0.0;
        let mut keep = candidates.len();
        for (index, (weight, _)) in candidates.iter().enumerate() {
            if *weight < rule.min_p {
                keep = index.max(1);
                break;
            }
            reached += f64::from(*weight);
            if reached >= f64::from(rule.top_p) * total {
                keep = index + 1;
                break;
            }
        }
        candidates.truncate(keep);
        let total: f64 = candidates.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let mut left = self.rng.unit() * total;
        for &(weight, id) in candidates.iter() {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        candidates.last().map_or(0, |&(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling, 7);
        (0..n).map(|_| sampler.pick(logits)).collect()
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        assert_eq!(draws(Sampling::GREEDY, &[1.0, 3.0, 3.0, 2.0], 1), [1]);
    }

    #[test]
    fn nothing_but_nan_gives_the_first() {
        assert_eq!(draws(Sampling::GREEDY, &[f32::NAN, f32::NAN], 1), [0]);
        assert_eq!(draws(Sampling { temperature: 1.0, ..Sampling::GREEDY }, &[f32::NAN, f32::INFINITY], 1), [1]);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0, 1.0f32.ln_1p(), 3.0f32.ln()];
        let sampled = draws(Sampling { temperature: 1.0, ..Sampling::GREEDY }, &logits, 60_000);
        let share = |id| sampled.iter().filter(|&&s| s == id).count() as f64 / 60_000.0;
        for (id, expected) in [(0, 1.0 / 6.0), (1, 2.0 / 6.0), (2, 3.0 / 6.0)] {
            assert!((share(id) - expected).abs() < 0.01, "token {id}: {} against {expected}", share(id));
        }
    }

    #[test]
    fn filters_leave_only_the_likely() {
        let logits = [0.0, 2.0f32.ln(), 3.0f32.ln()];
        let warm = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        assert!(draws(Sampling { top_k: 1, ..warm }, &logits, 200).iter().all(|&id| id == 2));
        assert!(draws(Sampling { top_p: 0.6, ..warm }, &logits, 500).iter().all(|&id| id != 0));
        assert!(draws(Sampling { min_p: 0.5, ..warm }, &logits, 500).iter().all(|&id| id != 0));
    }
}
