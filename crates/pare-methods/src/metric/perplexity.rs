//! Perplexity: how surprised the model is by a text, per token.
//!
//! Source     Jelinek et al. 1977; the window rule is the one of `--context`, stated with every figure.
//! Formula    exp(-1/N * sum of ln p(token t+1 | tokens of its window up to t)), natural logarithm, every token but a window's first
//! Shapes     logits `[T, V]`, tokens `[T]`
//! Needs      nothing
//! Parameters none
//! Cost       one pass over the logits
//! Departs    nothing
//! Errors     none; logits that are not finite give a perplexity that is not finite, which is shown as such
//! Exactness  sums in f64

use pare_kernels::elementwise::log_sum_exp;

/// Running sum of negative log likelihoods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    nats: f64,
    tokens: u64,
}

impl Perplexity {
    /// Adds the prediction of `next` by the logits `[V]` of the position before it. Returns `-ln p(next)`.
    pub fn add(&mut self, logits: &[f32], next: u32) -> f64 {
        let nats = surprise(logits, next);
        self.nats += nats;
        self.tokens += 1;
        nats
    }

    /// The perplexity; none before the first token.
    pub fn value(&self) -> Option<f64> {
        (self.tokens > 0).then(|| (self.nats / self.tokens as f64).exp())
    }

    /// How many tokens were predicted.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// `-ln p(token)` under the softmax of `logits`.
pub fn surprise(logits: &[f32], token: u32) -> f64 {
    log_sum_exp(logits) - f64::from(logits[token as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_even_logits_is_the_size_of_the_vocabulary() {
        let mut perplexity = Perplexity::default();
        assert_eq!(perplexity.value(), None);
        for next in 0..4 {
            perplexity.add(&[0.5; 4], next);
        }
        assert!((perplexity.value().unwrap() - 4.0).abs() < 1e-6);
    }

    #[test]
    fn by_hand() {
        // p = 3/4 then 1/4: exp(-(ln 3/4 + ln 1/4) / 2) = sqrt(16 / 3).
        let logits = [3.0f32.ln(), 0.0];
        let mut perplexity = Perplexity::default();
        perplexity.add(&logits, 0);
        perplexity.add(&logits, 1);
        assert!((perplexity.value().unwrap() - (16.0f64 / 3.0).sqrt()).abs() < 1e-6);
    }
}
