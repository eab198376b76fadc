//! Rotary position embedding: Su et al. 2021 (arXiv:2104.09864), half-split layout (dimension `i` turns with `i + D/2`).

use pare_format::limits;
use std::f64::consts::PI;

pub use pare_format::config::{Rope, Scaling};

/// Angle per position of each of the `D/2` pairs, and the factor on cosine and sine.
pub fn frequencies(rope: &Rope, head_dim: usize) -> (Vec<f64>, f64) {
    let base = |pair: usize| rope.theta.powf(-2.0 * pair as f64 / head_dim as f64);
    let pairs = 0..head_dim / 2;
    match rope.scaling {
        Scaling::Divisors(ref divisors) => {
            assert_eq!(divisors.len(), head_dim / 2, "a divisor for each pair");
            (pairs.zip(divisors.iter()).map(|(pair, divisor)| base(pair) / f64::from(*divisor)).collect(), 1.0)
        }
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

/// What each pair is divided by, as GGUF files keep it: the frequency without scaling over the one with it.
pub fn divisors(rope: &Rope, head_dim: usize) -> Vec<f32> {
    let plain = frequencies(&Rope { theta: rope.theta, scaling: Scaling::None }, head_dim).0;
    plain.iter().zip(frequencies(rope, head_dim).0).map(|(plain, scaled)| (plain / scaled) as f32).collect()
}

/// The scaling that `divisors` say: Llama 3's when there are numbers from which converters would have made them, else the divisors.
pub fn of_divisors(theta: f64, divisors: &[f32]) -> Scaling {
    llama3(theta, divisors).unwrap_or_else(|| Scaling::Divisors(divisors.into()))
}

/// How far one over a divisor may be from that of the formula: what converters leave, which compute in f32.
const FORMULA_ERROR: f64 = 1e-6;

/// The numbers of Llama 3's scaling. Its four say three things: how much slow pairs are divided, and the two frequencies between which it
/// is blended. So the lowest is taken as 1 turn, as every published model has it.
fn llama3(theta: f64, divisors: &[f32]) -> Option<Scaling> {
    let head_dim = 2 * divisors.len();
    let factor = f64::from(*divisors.last()?);
    let plain = frequencies(&Rope { theta, scaling: Scaling::None }, head_dim).0;
    let kept = |divisor: f32| (1.0 / f64::from(divisor) - 1.0 / factor) / (1.0 - 1.0 / factor);
    let blended: Vec<[f64; 2]> = plain
        .iter()
        .zip(divisors)
        .map(|(frequency, divisor)| [*frequency, kept(*divisor)])
        .filter(|[_, kept]| (1e-4..1.0 - 1e-4).contains(kept))
        .collect();
    let mut candidates = Vec::new();
    if let (Some([fast, kept_fast]), Some([slow, kept_slow])) = (blended.first(), blended.last())
        && fast > slow
    {
        let slope = (kept_fast - kept_slow) / (fast - slow);
        let width = -1.0 / (kept_slow - slope * slow);
        let context = 2.0 * PI * slope * width;
        candidates.extend([(1.0 + (1e3 * width).round() / 1e3, context), (1.0 + width, context)]);
    }
    // Without two blended pairs: the highest as every published model has it, and the context from the one pair, or a usual one.
    candidates.extend(blended.iter().map(|[frequency, kept]| (4.0, 2.0 * PI * (1.0 + 3.0 * kept) / frequency)));
    candidates.extend((5..=20).map(|power| (4.0, f64::from(1 << power))));
    candidates.into_iter().find_map(|(high_freq_factor, context)| {
        let original_context = context.round();
        if !(factor >= 1.0 && high_freq_factor > 1.0 && (1.0..=limits::CONTEXT as f64).contains(&original_context)) {
            return None;
        }
        let original_context = original_context as usize;
        let scaling = Scaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor, original_context };
        let rope = Rope { theta, scaling };
        let near =
            |(own, found): (&f32, &f32)| (1.0 / f64::from(*own) - 1.0 / f64::from(*found)).abs() <= FORMULA_ERROR;
        self::divisors(&rope, head_dim).iter().zip(divisors).all(near).then_some(rope.scaling)
    })
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

    /// The divisors as `convert_hf_to_gguf.py` makes them: in f32, step by step.
    fn converted(head_dim: usize, theta: f32, factor: f32, [low, high]: [f32; 2], context: f32) -> Vec<f32> {
        let turn = 2.0 * std::f32::consts::PI;
        let of = |pair: usize| {
            let frequency = 1.0 / theta.powf(2.0 * pair as f32 / head_dim as f32);
            let wavelength = turn / frequency;
            if wavelength < context / high {
                1.0
            } else if wavelength > context / low {
                factor
            } else {
                let smooth = (context / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        (0..head_dim / 2).map(of).collect()
    }

    #[test]
    fn the_numbers_of_llama3_are_found_from_what_converters_write() {
        for (head_dim, factor, turns, context) in [
            (128, 8.0, [1.0, 4.0], 8192.0),
            (64, 32.0, [1.0, 4.0], 8192.0),
            (16, 32.0, [1.0, 4.0], 64.0),
            (128, 16.0, [1.0, 2.5], 4096.0),
        ] {
            let found = of_divisors(500_000.0, &converted(head_dim, 500_000.0, factor, turns, context));
            let Scaling::Llama3 { factor: own, low_freq_factor, high_freq_factor, original_context } = found else {
                panic!("{head_dim} {factor}: {found:?}")
            };
            assert_eq!((own as f32, original_context as f32), (factor, context));
            assert_eq!((low_freq_factor as f32, high_freq_factor as f32), (turns[0], turns[1]));
        }
    }

    #[test]
    fn other_divisors_stay_what_they_are() {
        for divisors in [&[1.0, 2.0, 8.0, 4.0][..], &[2.0, 2.0, 2.0, 2.0], &[0.5, 1.0], &[1.0, 1.5, 3.0, 8.0]] {
            let scaling = of_divisors(10_000.0, divisors);
            let rope = Rope { theta: 10_000.0, scaling };
            let again = super::divisors(&rope, 2 * divisors.len());
            assert!(divisors.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-5), "{divisors:?} {rope:?}");
            assert!(!matches!(rope.scaling, Scaling::Divisors(ref own) if **own != *divisors));
        }
    }
}
