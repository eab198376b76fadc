//! The file that llama-perplexity keeps its predictions in, and how far others are from them.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// Predictions of llama.cpp: tokens in windows, and log-probabilities at every position of the second half of each but the last.
pub(super) struct Base<'a> {
    context: usize,
    vocab: usize,
    tokens: Vec<u32>,
    /// Per position: two f32, the step and the least log-probability, then 16 bits per token (one more when their number is odd).
    rows: Vec<&'a [u8]>,
}

/// How near two predictions are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Agreement {
    /// Perplexity of llama.cpp.
    pub(super) theirs: f64,
    /// Perplexity of pare.
    pub(super) ours: f64,
    /// Mean KL divergence of ours from theirs, in nats.
    pub(super) divergence: f64,
    /// Share of positions with the same best token.
    pub(super) same_best: f64,
    /// Number of positions.
    pub(super) positions: usize,
}

impl Agreement {
    /// Ours above theirs, relative.
    pub(super) fn difference(&self) -> f64 {
        self.ours / self.theirs - 1.0
    }
}

fn f32_at(bytes: &[u8], at: usize) -> f64 {
    let raw = bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).unwrap_or([0; 4]);
    f64::from(f32::from_le_bytes(raw))
}

impl<'a> Base<'a> {
    /// # Errors
    /// Another kind of file, or one that ends early.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(b"_logits_").context("the file does not begin with _logits_")?;
        let numbers = rest.as_chunks::<4>().0;
        let number = |at: usize| -> Result<usize> {
            let raw = numbers.get(at).context("the file ends in its header")?;
            Ok(u32::from_le_bytes(*raw) as usize)
        };
        let (context, vocab, windows) = (number(0)?, number(1)?, number(2)?);
        let count = context.checked_mul(windows).context("number of tokens")?;
        let tokens = numbers.get(3..3 + count).context("the file ends in its tokens")?;
        let row = 2 * (vocab.next_multiple_of(2) + 4);
        let data = rest.get(4 * (3 + count)..).unwrap_or_default();
        let rows: Vec<&[u8]> = data.chunks_exact(row).collect();
        let expected = windows * (context - context / 2 - 1);
        if context < 4 || rows.len() != expected {
            bail!("{} predictions for {windows} windows of {context}, expected {expected}", rows.len());
        }
        Ok(Self { context, vocab, tokens: tokens.iter().map(|raw| u32::from_le_bytes(*raw)).collect(), rows })
    }

    /// The same windows as `pare logits --windows` takes them.
    pub(super) fn windows(&self) -> Value {
        json!({ "from": self.context / 2, "windows": self.tokens.chunks(self.context).collect::<Vec<_>>() })
    }

    /// Compares with log-probabilities `[positions, V]` in f32.
    ///
    /// # Errors
    /// Another number of them.
    pub(super) fn compare(&self, ours: &[u8]) -> Result<Agreement> {
        if ours.len() != 4 * self.vocab * self.rows.len() {
            bail!("{} bytes of log-probabilities, expected {}", ours.len(), 4 * self.vocab * self.rows.len());
        }
        let first = self.context / 2;
        let per_window = self.context - first - 1;
        let (mut theirs_lost, mut ours_lost, mut divergence, mut same) = (0.0, 0.0, 0.0, 0usize);
        for (index, (row, ours)) in self.rows.iter().zip(ours.chunks_exact(4 * self.vocab)).enumerate() {
            let (step, least) = (f32_at(row, 0), f32_at(row, 4));
            let steps = |token: usize| u16::from_le_bytes([row[8 + 2 * token], row[9 + 2 * token]]);
            let theirs = |token: usize| least + step * f64::from(steps(token));
            let ours = |token: usize| f32_at(ours, 4 * token);
            let next = self.tokens[index / per_window * self.context + first + index % per_window + 1] as usize;
            theirs_lost -= theirs(next);
            ours_lost -= ours(next);
            // Less than e^-16 of the best is not kept: of the rest both are compared as distributions of their own.
            let kept = || (0..self.vocab).filter(|&token| steps(token) > 0);
            let total = |of: &dyn Fn(usize) -> f64| kept().map(|token| of(token).exp()).sum::<f64>().ln();
            let (p_total, q_total) = (total(&theirs), total(&ours));
            let (mut here, mut best) = (0.0, [(f64::MIN, 0), (f64::MIN, 0)]);
            for token in kept() {
                let (p, q) = (theirs(token) - p_total, ours(token) - q_total);
                here += p.exp() * (p - q);
                for (best, value) in best.iter_mut().zip([p, q]) {
                    if value > best.0 {
                        *best = (value, token);
                    }
                }
            }
            divergence += here;
            same += usize::from(best[0].1 == best[1].1);
        }
        let positions = self.rows.len();
        let mean = |sum: f64| sum / positions as f64;
        Ok(Agreement {
            theirs: mean(theirs_lost).exp(),
            ours: mean(ours_lost).exp(),
            divergence: mean(divergence),
            same_best: mean(same as f64),
            positions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One window of four tokens of a vocabulary of four: one prediction, from position 2 to 3; token 3 is not kept.
    fn file() -> Vec<u8> {
        let mut bytes = b"_logits_".to_vec();
        for number in [4u32, 4, 1, 0, 1, 2, 1] {
            bytes.extend(number.to_le_bytes());
        }
        // Probabilities 1/4, 1/2, 1/4 in steps of ln 2 above the least, which is 1/8.
        bytes.extend(2.0f32.ln().to_le_bytes());
        bytes.extend(0.125f32.ln().to_le_bytes());
        for step in [1u16, 2, 1, 0] {
            bytes.extend(step.to_le_bytes());
        }
        bytes
    }

    fn log(probabilities: [f32; 3]) -> Vec<u8> {
        probabilities.iter().chain(&[1e-9]).flat_map(|p| p.ln().to_le_bytes()).collect()
    }

    #[test]
    fn by_hand() {
        let file = file();
        let base = Base::parse(&file).unwrap();
        assert_eq!(base.windows().to_string(), r#"{"from":2,"windows":[[0,1,2,1]]}"#);
        let same = base.compare(&log([0.25, 0.5, 0.25])).unwrap();
        assert!((same.theirs - 2.0).abs() < 1e-6 && (same.ours - 2.0).abs() < 1e-6, "{same:?}");
        assert!(same.divergence.abs() < 1e-6 && same.same_best == 1.0 && same.positions == 1, "{same:?}");
        let other = base.compare(&log([0.5, 0.25, 0.25])).unwrap();
        // 1/4 ln(1/2) + 1/2 ln 2 + 0.
        assert!((other.divergence - 0.25 * 2.0f64.ln()).abs() < 1e-6 && other.same_best == 0.0, "{other:?}");
        assert!((other.difference() - 1.0).abs() < 1e-6, "{other:?}");
    }

    #[test]
    fn other_files_are_refused() {
        let file = file();
        assert!(Base::parse(&file[..file.len() - 1]).is_err() && Base::parse(b"GGUF").is_err());
        assert!(Base::parse(&file).unwrap().compare(&[0; 8]).is_err());
    }
}
