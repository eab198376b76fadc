//! Wanda: keep weights that are large and whose input is large.
//!
//! Source     Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models, arXiv:2306.11695
//! Formula    S_oi = |W_oi| * sqrt(mean over tokens of x_i^2); for units, after Wanda-sp: the sum over the reader's columns of the unit
//! Shapes     W [out, in]; S [out * in] row by row, or [units]
//! Needs      Stat::MeanSquare [in]
//! Parameters none
//! Cost       O(out * in), summed in f64
//! Departs    mean over tokens for the sum: the same ranking within a site, and sites of other calibration length compare
//! Errors     MissingStat, Shape, Params (site, projection); Numeric for numbers that are not finite; Unsupported for parts
//! Exactness  1e-12 against goldens/score/wanda
//!
//! The paper compares single weights within an output: `select::keep_top_per_row` and `select::keep_n_of_m`. Wanda-sp is the
//! baseline of FLAP, arXiv:2312.11983.

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::view::View;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "wanda",
        about: "keeps weights that are large and whose input is large",
        source: "A Simple and Effective Pruning Approach for Large Language Models, arXiv:2306.11695",
        formula: "S_oi = |W_oi| * sqrt(mean over tokens of x_i^2); for units, after Wanda-sp: the sum over the \
            reader's columns of the unit",
        needs: &[Stat::MeanSquare],
        parameters: &[],
        grains: &[Grain::Weight, Grain::Channel, Grain::Group],
        cost: "out * in operations; in numbers of 8 bytes",
        departs: "mean over tokens for the sum; units after Wanda-sp, the baseline of arXiv:2312.11983",
        exactness: 1e-12,
    },
    positional: false,
    build: |_| Box::new(Wanda),
};

/// Size of a weight times size of its input.
#[derive(Clone, Copy, Debug)]
pub struct Wanda;

impl Score for Wanda {
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "a part has no single input; use block-influence")?;
        let reader = view.reader()?;
        check::weights(view.site, "reader", reader)?;
        let squares = check::stat(stats, view.site, Stat::MeanSquare, reader.cols())?;
        let sizes: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
        let rows = (0..reader.rows()).map(|row| reader.row(row));
        if view.grain == Grain::Weight {
            let score = |(&w, size): (&f32, &f64)| f64::from(w).abs() * size;
            return Ok(rows.flat_map(|row| row.iter().zip(&sizes).map(score)).collect());
        }
        let each = view.reader_columns()?;
        let mut scores = vec![0.0; view.units];
        for row in rows {
            for (col, (&w, size)) in row.iter().zip(&sizes).enumerate() {
                scores[col / each] += f64::from(w).abs() * size;
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::matrix::Matrix;
    use pare_model::site::{Point, Projection, Site};

    #[test]
    fn weights_by_hand() {
        // Input sizes 1, 2, 0: |W| times them.
        let matrix = Matrix::from_vec(2, 3, vec![1.0, -2.0, 3.0, -4.0, 5.0, 6.0]);
        let site = Site::new(0, Point::AttentionIn);
        let projection = Some(Projection::K);
        let view = View { grain: Grain::Weight, site, projection, units: 6, reader: Some(&matrix), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::MeanSquare, vec![1.0, 4.0, 0.0]);
        assert_eq!(Wanda.score(&view, &stats).unwrap(), [1.0, 4.0, 0.0, 4.0, 10.0, 0.0]);
    }

    #[test]
    fn units_by_hand() {
        let reader = Matrix::from_vec(2, 4, vec![1.0, -1.0, 2.0, 0.0, 3.0, 1.0, -1.0, 1.0]);
        let site = Site::new(0, Point::AttentionOut);
        let view = View { grain: Grain::Group, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::MeanSquare, vec![1.0, 4.0, 9.0, 1.0]);
        // 1 + 2 + 3 + 2 and 6 + 0 + 3 + 1
        assert_eq!(Wanda.score(&view, &stats).unwrap(), [8.0, 10.0]);
    }
}
