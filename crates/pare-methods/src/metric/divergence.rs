//! Divergence from the reference model: how far each prediction moved, not only the one of the right token.
//!
//! Source     Kullback and Leibler 1951
//! Formula    KL(P || Q) = sum of p (ln p - ln q) per position, P the reference, Q the model under test, in nats
//! Shapes     logits `[V]` of both at the same position
//! Needs      nothing
//! Parameters none
//! Cost       three passes over the logits of a position; 8 bytes per position are kept for the percentile
//! Departs    nothing
//! Errors     none; logits that are not finite give a divergence that is not finite
//! Exactness  sums in f64; rounding can give a tiny negative number, which is cut to 0

use pare_kernels::elementwise::log_sum_exp;

/// Divergence and top-1 agreement over positions.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    nats: Vec<f64>,
    agreed: u64,
}

impl Divergence {
    /// Adds one position: the reference's logits and those of the model under test.
    pub fn add(&mut self, reference: &[f32], tested: &[f32]) {
        self.nats.push(kl(reference, tested));
        self.agreed += u64::from(argmax(reference) == argmax(tested));
    }

    /// Mean over positions, in nats; none before the first position.
    pub fn mean(&self) -> Option<f64> {
        (!self.nats.is_empty()).then(|| self.nats.iter().sum::<f64>() / self.nats.len() as f64)
    }

    /// The value that a share `q` (0..=1) of the positions does not exceed (nearest rank).
    pub fn percentile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.nats.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
    }

    /// Share of positions where both models' most likely token is the same.
    pub fn agreement(&self) -> Option<f64> {
        (!self.nats.is_empty()).then(|| self.agreed as f64 / self.nats.len() as f64)
    }
}

/// `KL(reference || tested)` in nats, from logits.
pub fn kl(reference: &[f32], tested: &[f32]) -> f64 {
    let (norm_p, norm_q) = (log_sum_exp(reference), log_sum_exp(tested));
    let sum: f64 = reference
        .iter()
        .zip(tested)
        .map(|(&p, &q)| {
            let ln_p = f64::from(p) - norm_p;
            // Beyond 60 nats a token weighs less than the rounding of the sum.
            if ln_p < -60.0 { 0.0 } else { f64::from((ln_p as f32).exp()) * (ln_p - f64::from(q) + norm_q) }
        })
        .sum();
    if sum < 0.0 { 0.0 } else { sum }
}

fn argmax(logits: &[f32]) -> usize {
    pare_model::sample::argmax(logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // P = (1/2, 1/2), Q = (3/4, 1/4): 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3).
        let got = kl(&[0.0, 0.0], &[3.0f32.ln(), 0.0]);
        assert!((got - 0.5 * (4.0f64 / 3.0).ln()).abs() < 1e-7, "{got}");
    }

    #[test]
    fn same_logits_agree() {
        let mut divergence = Divergence::default();
        divergence.add(&[1.0, 2.0, -3.0], &[1.0, 2.0, -3.0]);
        assert!(divergence.mean().unwrap() < 1e-7);
        assert_eq!(divergence.agreement(), Some(1.0));
    }

    #[test]
    fn percentile_is_a_value_that_occurred() {
        let divergence = Divergence { nats: vec![4.0, 1.0, 3.0, 2.0], agreed: 0 };
        assert_eq!(divergence.percentile(0.99), Some(4.0));
        assert_eq!(divergence.percentile(0.5), Some(2.0));
        assert_eq!(Divergence::default().percentile(0.5), None);
    }
}
