//! Magnitude: keep what is large.
//!
//! Source     Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, arXiv:1506.02626
//! Formula    S_oi = |W_oi| for single weights; S_u = sum of w^2 over every weight w that leaves with unit u
//! Shapes     W [out, in]; S [out * in] row by row, or [units]
//! Needs      no statistic
//! Parameters none
//! Cost       one pass over the weights, summed in f64
//! Departs    for units: the square of the L2 norm over all coupled matrices; biases and norms are not counted
//! Errors     Shape, Params (site, projection); Numeric for weights that are not finite
//! Exactness  1e-12 against goldens/score/magnitude

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::view::View;
use pare_model::matrix::Matrix;
use pare_model::stats::Stats;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "magnitude",
        about: "keeps large weights, or units whose weights are large together",
        source: "Learning both Weights and Connections for Efficient Neural Networks, arXiv:1506.02626",
        formula: "S_oi = |W_oi| for single weights; S_u = sum of w^2 over every weight w that leaves with unit u",
        needs: &[],
        parameters: &[],
        grains: &[Grain::Weight, Grain::Channel, Grain::Group, Grain::Attention, Grain::Ffn, Grain::Block],
        cost: "one pass over the weights",
        departs: "units: the square of the L2 norm over all coupled matrices; biases and norms are not counted",
        exactness: 1e-12,
    },
    positional: false,
    build: |_| Box::new(Magnitude),
};

/// Size of a weight, or of all the weights of a unit together.
#[derive(Clone, Copy, Debug)]
pub struct Magnitude;

impl Score for Magnitude {
    fn score(&self, view: &View<'_>, _stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "it serves every grain")?;
        if let Some(reader) = view.reader {
            check::weights(view.site, "reader", reader)?;
        }
        view.writers.iter().try_for_each(|writer| check::weights(view.site, "writer", writer))?;
        match view.grain {
            Grain::Weight => Ok(view.reader()?.data().iter().map(|&w| f64::from(w).abs()).collect()),
            Grain::Channel | Grain::Group => coupled(view),
            Grain::Attention | Grain::Ffn | Grain::Block if view.writers.is_empty() => {
                Err(MethodError::Shape { site: view.site, what: "number of matrices", want: 1, got: 0 })
            }
            Grain::Attention | Grain::Ffn | Grain::Block => {
                Ok(vec![view.writers.iter().map(|writer| energy(writer.data())).sum()])
            }
        }
    }
}

fn coupled(view: &View<'_>) -> Result<Vec<f64>, MethodError> {
    let mut scores = vec![0.0; view.units];
    let (reader, each) = (view.reader()?, view.reader_columns()?);
    for row in 0..reader.rows() {
        for (score, columns) in scores.iter_mut().zip(reader.row(row).chunks_exact(each)) {
            *score += energy(columns);
        }
    }
    for writer in view.writers {
        let each = view.writer_rows(writer)? * writer.cols();
        if each == 0 {
            continue;
        }
        for (score, rows) in scores.iter_mut().zip(Matrix::data(writer).chunks_exact(each)) {
            *score += energy(rows);
        }
    }
    Ok(scores)
}

fn energy(weights: &[f32]) -> f64 {
    weights.iter().map(|&w| f64::from(w).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::{Point, Projection, Site};

    #[test]
    fn weights_by_hand() {
        let matrix = Matrix::from_vec(2, 3, vec![1.0, -2.0, 3.0, -4.0, 5.0, 0.0]);
        let site = Site::new(0, Point::FfnIn);
        let projection = Some(Projection::Up);
        let view = View { grain: Grain::Weight, site, projection, units: 6, reader: Some(&matrix), writers: &[] };
        assert_eq!(Magnitude.score(&view, &Stats::new(0)).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 0.0]);
    }

    #[test]
    fn groups_by_hand() {
        // Two units: one row of q each, two columns of o each.
        let reader = Matrix::from_vec(1, 4, vec![1.0, 2.0, 3.0, 4.0]);
        let query = Matrix::from_vec(2, 3, vec![1.0, 1.0, 1.0, 2.0, 0.0, 0.0]);
        let site = Site::new(0, Point::AttentionOut);
        let writers = [&query];
        let view =
            View { grain: Grain::Group, site, projection: None, units: 2, reader: Some(&reader), writers: &writers };
        assert_eq!(Magnitude.score(&view, &Stats::new(0)).unwrap(), [5.0 + 3.0, 25.0 + 4.0]);
    }

    #[test]
    fn parts_by_hand() {
        let gate = Matrix::from_vec(1, 2, vec![1.0, -2.0]);
        let down = Matrix::from_vec(2, 1, vec![3.0, 0.0]);
        let site = Site::new(0, Point::FfnPart);
        let writers = [&gate, &down];
        let view = View { grain: Grain::Ffn, site, projection: None, units: 1, reader: None, writers: &writers };
        assert_eq!(Magnitude.score(&view, &Stats::new(0)).unwrap(), [14.0]);
        let bare = View { writers: &[], ..view };
        let message = Magnitude.score(&bare, &Stats::new(0)).unwrap_err().to_string();
        assert_eq!(message, "block 0 ffn part: number of matrices has 0, expected 1");
    }
}
