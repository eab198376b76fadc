//! Mergeable: how many features are so alike that one could stand for several.
//!
//! Source     Chen et al. 2023, Going Beyond Neural Network Feature Similarity (Iterative Feature Merging), arXiv:2310.06756
//! Formula    v_u = what writes unit u joined with what reads it; the two nearest groups merge, into the mean of their members, as long as
//!            their distance is below threshold * the largest distance of two units
//! Shapes     a unit is its rows of every writer and its columns of the reader; units `[n]`
//! Needs      no statistic
//! Parameters threshold: share of the largest distance, 0..=1
//! Cost       n^2 * weights per unit for the distances; about n^2 more for the merging; 8 * n^2 bytes
//! Departs    units of gated feed-forward parts join gate and up; the count is reported and nothing is merged; norms and scales of the
//!            joined vectors are left as they are
//! Errors     Shape, Params (site, threshold); Numeric for weights that are not finite; Unsupported for single weights and parts
//! Exactness  counts; distances 1e-6 against goldens/metric/mergeable (a distance is a difference of larger numbers)

use crate::card::Grain;
use crate::error::MethodError;
use crate::nearest_pairs::NearestPairs;
use crate::view::View;
use serde::Serialize;

/// How many units could be merged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mergeable {
    /// Units before.
    pub units: usize,
    /// Groups that are left: the complexity of the source.
    pub left: usize,
    /// Largest distance of two units.
    pub largest: f64,
    /// Distance of the two nearest units, as a share of the largest; 0 when all are equal or there is one.
    pub nearest: f64,
}

/// The units of `view` (channels or groups) that merge at `threshold`.
///
/// # Errors
/// `Unsupported` for other grains, `Params` for a threshold outside `0..=1`, `Shape`, `Numeric`.
pub fn mergeable(view: &View<'_>, threshold: f64) -> Result<Mergeable, MethodError> {
    if !matches!(view.grain, Grain::Channel | Grain::Group) {
        let what = format!("units of {:?}", view.grain);
        return Err(MethodError::Unsupported {
            method: "mergeable",
            what,
            why: "only channels and groups are features",
        });
    }
    if !(0.0..=1.0).contains(&threshold) {
        return Err(MethodError::Params { key: "threshold", why: format!("{threshold}, expected 0..=1") });
    }
    let (mut pairs, _) = NearestPairs::of_units(view)?;
    let (units, largest) = (view.units, pairs.largest());
    // Where all are equal, they are one feature at any threshold.
    let limit = if largest > 0.0 { threshold.powi(2) * largest } else { f64::INFINITY };
    let nearest = pairs.nearest().filter(|_| largest > 0.0).map_or(0.0, |pair| (pair.square / largest).sqrt());
    let mut left = units;
    while pairs.nearest().is_some_and(|pair| pair.square < limit) {
        pairs.merge();
        left -= 1;
    }
    Ok(Mergeable { units, left, largest: largest.sqrt(), nearest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::matrix::Matrix;
    use pare_model::site::{Point, Site};

    fn found(writer: &Matrix, reader: &Matrix, threshold: f64) -> Mergeable {
        let writers = [writer];
        let view = View {
            grain: Grain::Channel,
            site: Site::new(0, Point::FfnOut),
            projection: None,
            units: reader.cols(),
            reader: Some(reader),
            writers: &writers,
        };
        mergeable(&view, threshold).unwrap()
    }

    #[test]
    fn by_hand() {
        // Joined vectors (0, 0), (1, 0), (0, 8), (3, 8): distances 1, 8, 3 and the largest sqrt(73).
        let writer = Matrix::from_vec(4, 1, vec![0.0, 1.0, 0.0, 3.0]);
        let reader = Matrix::from_vec(1, 4, vec![0.0, 0.0, 8.0, 8.0]);
        let at = |length: f64| found(&writer, &reader, length / 73.0_f64.sqrt());
        assert_eq!(at(0.9).left, 4);
        assert_eq!(at(1.1).left, 3);
        assert_eq!(at(2.9).left, 3);
        assert_eq!(at(3.1).left, 2);
        // The means (0.5, 0) and (1.5, 8) are sqrt(65) apart.
        assert_eq!(at(8.0).left, 2);
        assert_eq!(at(8.1).left, 1);
        let all = at(0.0);
        assert!((all.largest - 73.0_f64.sqrt()).abs() < 1e-12 && (all.nearest - 1.0 / 73.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn copies_merge_at_any_threshold_and_equal_units_into_one() {
        let writer = Matrix::from_vec(3, 1, vec![1.0, 1.0, 5.0]);
        let reader = Matrix::from_vec(1, 3, vec![2.0, 2.0, 0.0]);
        assert_eq!(found(&writer, &reader, 1e-6).left, 2);
        let alike = Matrix::from_vec(3, 1, vec![1.0; 3]);
        assert_eq!(found(&alike, &Matrix::zeros(1, 3), 0.0).left, 1);
    }

    #[test]
    fn other_grains_and_thresholds_are_refused() {
        let reader = Matrix::zeros(1, 2);
        let site = Site::new(0, Point::FfnOut);
        let view =
            View { grain: Grain::Channel, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        let message = mergeable(&view, 1.5).unwrap_err().to_string();
        assert_eq!(message, "parameter threshold: 1.5, expected 0..=1");
        let part = View { grain: Grain::Ffn, site: Site::new(0, Point::FfnPart), units: 1, reader: None, ..view };
        let message = mergeable(&part, 0.5).unwrap_err().to_string();
        assert_eq!(message, "mergeable does not work on units of Ffn: only channels and groups are features");
    }
}
