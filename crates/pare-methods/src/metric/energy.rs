//! Energy: over how many units what is said is spread.
//!
//! Source     Shannon 1948 for the entropy; exp of it as a count of units: Hill 1973
//! Formula    p_u = e_u / sum of e; entropy = -sum of p ln p; the fewest units whose p add up to a share
//! Shapes     e one number per unit, none negative, such as the energies that units write
//! Needs      nothing beside the energies
//! Parameters none
//! Cost       O(n log n) for n units
//! Departs    nothing
//! Errors     Numeric for energies that are negative or not finite
//! Exactness  sums in f64, in descending order, so that they do not depend on the order of the units

use crate::check;
use crate::error::{MethodError, NumericCause};
use pare_model::site::Site;
use serde::Serialize;

/// How energies are spread over units.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Share of each unit in the sum, in the order given; all 0 when the sum is.
    pub shares: Vec<f64>,
    /// Entropy of the shares, in nats.
    pub entropy: f64,
    /// How many units of equal energy would have this entropy, between 1 and all; 0 when there is no energy.
    pub effective_units: f64,
    /// The fewest units that hold half of the energy.
    pub half: usize,
    /// The fewest units that hold 90 % of it.
    pub most: usize,
}

/// The spread of `energies` over their units; `site` is named in errors.
///
/// # Errors
/// `Numeric` for an energy that is negative or not finite, or a sum beyond the largest number.
pub fn spread(site: Site, energies: &[f64]) -> Result<Spread, MethodError> {
    check::finite(site, "energies", energies)?;
    if let Some(index) = energies.iter().position(|&energy| energy < 0.0) {
        let (what, range) = ("energies", "no negative number");
        let cause = NumericCause::OutOfRange { what, index, value: energies[index], range };
        return Err(MethodError::Numeric { site, cause });
    }
    let mut sorted = energies.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let sum: f64 = sorted.iter().sum();
    check::finite(site, "sum of energies", &[sum])?;
    if sum == 0.0 {
        return Ok(Spread { shares: vec![0.0; energies.len()], entropy: 0.0, effective_units: 0.0, half: 0, most: 0 });
    }
    let shares = sorted.iter().map(|energy| energy / sum);
    let entropy: f64 = shares.filter(|&share| share > 0.0).map(|share| -share * share.ln()).sum::<f64>().max(0.0);
    let holding = |share: f64| {
        let mut held = 0.0;
        let below = sorted.iter().take_while(|&&energy| {
            held += energy;
            // A sum that should be the share itself may miss it by its rounding.
            held < (share - 1e-12) * sum
        });
        (below.count() + 1).min(sorted.len())
    };
    Ok(Spread {
        shares: energies.iter().map(|energy| energy / sum).collect(),
        entropy,
        effective_units: entropy.exp(),
        half: holding(0.5),
        most: holding(0.9),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    const SITE: Site = Site { block: 1, point: Point::FfnOut };

    #[test]
    fn by_hand() {
        let found = spread(SITE, &[1.0, 5.0, 0.0, 4.0]).unwrap();
        assert_eq!(found.shares, [0.1, 0.5, 0.0, 0.4]);
        assert_eq!((found.half, found.most), (1, 2));
        let want = 0.1 * 10.0_f64.ln() + 0.5 * 2.0_f64.ln() + 0.4 * 2.5_f64.ln();
        assert!((found.entropy - want).abs() < 1e-12);
        let even = spread(SITE, &[3.0; 10]).unwrap();
        assert!((even.effective_units - 10.0).abs() < 1e-12);
        assert_eq!((even.half, even.most), (5, 9));
    }

    #[test]
    fn no_energy_and_no_number() {
        let none = spread(SITE, &[0.0, 0.0]).unwrap();
        assert_eq!((none.entropy, none.effective_units, none.half), (0.0, 0.0, 0));
        assert_eq!(spread(SITE, &[]).unwrap().shares, [0.0; 0]);
        let refusal = |energies: &[f64]| spread(SITE, energies).unwrap_err().to_string();
        assert_eq!(refusal(&[1.0, -2.0]), "block 1 ffn output: energies: value 1 is -2, expected no negative number");
        assert_eq!(refusal(&[f64::NAN]), "block 1 ffn output: energies: value 0 is NaN, expected a finite number");
        assert_eq!(
            refusal(&[1e308, 1e308]),
            "block 1 ffn output: sum of energies: value 0 is inf, expected a finite number"
        );
    }
}
