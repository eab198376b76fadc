//! Rotary position embedding: Su et al. 2021 (arXiv:2104.09864), half-split layout (dimension `i` turns with `i + D/2`).

use std::f64::consts::PI;

pub use pare_format::config::{Rope, Scaling};

/// Angle per position of each of the `D/2` pairs, and the factor on cosine and sine.
pub fn frequencies(rope: &Rope, head_dim: usize) -> (Vec<f64>, f64) {
    let base = |pair: usize| rope.theta.powf(-2.0 * pair as f64 / head_dim as f64);
    let pairs = 0..head_dim / 2;
    match rope.scaling {
        Scaling::None => (pairs.map(base).collect(), 1.0),
        Scaling::Linear { factor } => (pairs.map(|pair| base(pair) / factor).collect(), 1.0),
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let scaled = |pair| {
                let frequency = base(pair);
                let turns = original_context as f64 * frequency / (2.0 * PI);
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            };
            (pairs.map(scaled).collect(), 1.0)
        }
        Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor } => {
            // The pair that makes `turns` turns within the trained context.
            let pair_of = |turns: f64| {
                head_dim as f64 * (original_context as f64 / (turns * 2.0 * PI)).ln() / (2.0 * rope.theta.ln())
            };
            let low = pair_of(beta_fast).floor().max(0.0);
            let high = pair_of(beta_slow).ceil().min(head_dim as f64 - 1.0);
            let width = if high > low { high - low } else { 0.001 };
            let scaled = |pair| {
                let kept = 1.0 - ((pair as f64 - low) / width).clamp(0.0, 1.0);
                let frequency = base(pair);
                frequency / factor * (1.0 - kept) + frequency * kept
            };
            let sharpen = attention_factor.unwrap_or(if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 });
            (pairs.map(scaled).collect(), sharpen)
        }
    }
}

/// Cosines and sines for the positions of a context, grown when a longer one is asked for.
#[derive(Clone, Debug)]
pub struct RopeTable {
    frequencies: Vec<f64>,
    factor: f64,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl RopeTable {
    /// An empty table for heads of width `head_dim`.
    pub fn new(rope: &Rope, head_dim: usize) -> Self {
        let (frequencies, factor) = frequencies(rope, head_dim);
        Self { frequencies, factor, cosines: Vec::new(), sines: Vec::new() }
    }

    /// Makes sure that positions `0..positions` are there.
    pub fn reserve(&mut self, positions: usize) {
        let pairs = self.frequencies.len().max(1);
        let missing = (positions * pairs).saturating_sub(self.cosines.len());
        self.cosines.reserve(missing);
        self.sines.reserve(missing);
        for position in self.cosines.len() / pairs..positions {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                self.cosines.push((cosine * self.factor) as f32);
                self.sines.push((sine * self.factor) as f32);
            }
        }
    }

    /// `(cosines, sines)` of one position, `D/2` each. The position must have been reserved.
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let pairs = self.frequencies.len();
        let range = position * pairs..(position + 1) * pairs;
        (&self.cosines[range.clone()], &self.sines[range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_pair_turns_one_radian_per_position() {
        let mut table = RopeTable::new(&Rope { theta: 10_000.0, scaling: Scaling::None }, 4);
        table.reserve(3);
        let (cosines, sines) = table.at(2);
        assert!((cosines[0] - 2.0f32.cos()).abs() < 1e-7 && (sines[0] - 2.0f32.sin()).abs() < 1e-7);
        assert!((cosines[1] - 0.02f32.cos()).abs() < 1e-7, "the second pair turns 10000^(-1/2) per position");
    }

    #[test]
    fn llama3_keeps_fast_pairs_and_divides_slow_ones() {
        let scaling =
            Scaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        let plain = frequencies(&Rope { theta: 500_000.0, scaling: Scaling::None }, 128).0;
        let scaled = frequencies(&Rope { theta: 500_000.0, scaling }, 128).0;
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-9);
    }
}
