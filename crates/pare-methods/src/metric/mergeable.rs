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
use crate::check;
use crate::error::MethodError;
use crate::linalg;
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
    view.check()?;
    if !(0.0..=1.0).contains(&threshold) {
        return Err(MethodError::Params { key: "threshold", why: format!("{threshold}, expected 0..=1") });
    }
    let mut squares = distances(view)?;
    let count = view.units;
    let off_diagonal = || (0..count * count).filter(|at| at / count != at % count);
    let largest = off_diagonal().map(|at| squares[at]).fold(0.0, f64::max);
    let nearest = off_diagonal().map(|at| squares[at]).fold(f64::INFINITY, f64::min).min(largest);
    let left = if largest > 0.0 { merge(&mut squares, count, threshold.powi(2) * largest) } else { count.min(1) };
    let nearest = if largest > 0.0 { (nearest / largest).sqrt() } else { 0.0 };
    Ok(Mergeable { units: count, left, largest: largest.sqrt(), nearest })
}

/// Squared distances of the joined vectors, `[n, n]`.
fn distances(view: &View<'_>) -> Result<Vec<f64>, MethodError> {
    let (reader, each) = (view.reader()?, view.reader_columns()?);
    check::weights(view.site, "reader", reader)?;
    view.writers.iter().try_for_each(|writer| check::weights(view.site, "writer", writer))?;
    let count = view.units;
    let mut inner = vec![0.0; count * count];
    let mut add = |vectors: &[f64]| {
        let length = vectors.len() / count;
        let transposed: Vec<f64> = (0..vectors.len()).map(|at| vectors[(at % count) * length + at / count]).collect();
        let product = linalg::product(vectors, &transposed, [count, length, count]);
        inner.iter_mut().zip(&product).for_each(|(sum, value)| *sum += value);
    };
    for writer in view.writers {
        add(&writer.data().iter().map(|&w| f64::from(w)).collect::<Vec<_>>());
    }
    let column = |unit: usize| {
        let columns = unit * each..(unit + 1) * each;
        (0..reader.rows()).flat_map(move |row| reader.row(row)[columns.clone()].iter().map(|&w| f64::from(w)))
    };
    add(&(0..count).flat_map(column).collect::<Vec<_>>());
    let lengths: Vec<f64> = (0..count).map(|i| inner[i * count + i]).collect();
    for (at, value) in inner.iter_mut().enumerate() {
        let (i, j) = (at / count, at % count);
        *value = if i == j { 0.0 } else { (lengths[i] + lengths[j] - 2.0 * *value).max(0.0) };
    }
    check::finite(view.site, "distances", &inner)?;
    Ok(inner)
}

/// How many groups are left when the nearest two merge as long as their squared distance is below `limit`.
fn merge(squares: &mut [f64], count: usize, limit: f64) -> usize {
    let mut sizes = vec![1.0; count];
    let mut alive: Vec<usize> = (0..count).collect();
    let nearest_of = |squares: &[f64], alive: &[usize], i: usize| -> (f64, usize) {
        let others = alive.iter().filter(|&&j| j != i).map(|&j| (squares[i * count + j], j));
        others.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).unwrap_or((f64::INFINITY, i))
    };
    let mut nearest: Vec<(f64, usize)> = (0..count).map(|i| nearest_of(squares, &alive, i)).collect();
    while let Some(&a) = alive.iter().min_by(|&&i, &&j| nearest[i].0.total_cmp(&nearest[j].0).then(i.cmp(&j))) {
        let (between, b) = nearest[a];
        if between >= limit {
            break;
        }
        alive.retain(|&i| i != b);
        // The squared distance to the mean of both, without the vectors.
        let (of_a, of_b) = (sizes[a], sizes[b]);
        let both = of_a + of_b;
        for &k in alive.iter().filter(|&&k| k != a) {
            let mean = (of_a * squares[a * count + k] + of_b * squares[b * count + k]) / both;
            let square = (mean - of_a * of_b * between / (both * both)).max(0.0);
            squares[a * count + k] = square;
            squares[k * count + a] = square;
        }
        sizes[a] = both;
        nearest[a] = nearest_of(squares, &alive, a);
        for &k in alive.iter().filter(|&&k| k != a) {
            let to_a = squares[k * count + a];
            if nearest[k].1 == a || nearest[k].1 == b {
                nearest[k] = nearest_of(squares, &alive, k);
            } else if (to_a, a) < nearest[k] {
                nearest[k] = (to_a, a);
            }
        }
    }
    alive.len()
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
