//! Bias: the cut inputs go on giving their mean.
//!
//! Source     An et al. 2023, Fluctuation-based Adaptive Structured Pruning for Large Language Models (FLAP), arXiv:2312.11983
//! Formula    b' = b + W_P mean(x_P); W' = W_K
//! Shapes     W [out, in]; P the cut columns, K the kept ones; b, b' [out]; W' [out, kept]
//! Needs      Stat::Mean [in]; Stat::Gram [in, in] only for the errors in `Info`, when it was observed
//! Parameters none
//! Cost       O(out * cut); with the errors O(out * cut^2)
//! Departs    an existing bias is added to, not overwritten
//! Errors     MissingStat, Shape, Params (kept columns); Numeric for numbers that are not finite; Unsupported without a bias
//! Exactness  1e-6 against goldens/compensate/bias (the bias is rounded to f32)

use super::{Build, Compensate, Cut, Entry, Repaired};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::moments::Moments;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "bias",
        about: "puts the mean contribution of the cut inputs into the bias",
        source: "Fluctuation-based Adaptive Structured Pruning for Large Language Models, arXiv:2312.11983",
        formula: "b' = b + W_P mean(x_P); W' = W_K",
        needs: &[Stat::Mean],
        parameters: &[],
        grains: &[Grain::Channel, Grain::Group],
        cost: "out * cut operations; no memory beside the mean",
        departs: "an existing bias is added to, not overwritten",
        exactness: 1e-6,
    },
    composes: false,
    of_zeros: false,
    needs_bias: true,
    build: Build::Columns(|_| Ok(Box::new(Bias))),
};

/// Puts the mean contribution of the cut inputs into the bias.
#[derive(Clone, Copy, Debug)]
pub struct Bias;

impl Compensate for Bias {
    fn compensate(&self, cut: &Cut<'_>, stats: &Stats) -> Result<Repaired, MethodError> {
        cut.check()?;
        let mut repaired = cut.plain();
        let width = cut.reader.cols();
        let moments = match stats.get(cut.site, Stat::Gram) {
            Some(_) => Some(Moments::centred(stats, cut.site, width)?),
            None => None,
        };
        let mean = check::stat(stats, cut.site, Stat::Mean, width)?;
        let error = |repaired: &Repaired| {
            let error = moments.as_ref().map(|moments| moments.error(cut, &repaired.weight, repaired.bias.as_deref()));
            error.transpose()
        };
        repaired.info.error_before = error(&repaired)?;
        if cut.kept.len() < width {
            repaired.bias = Some(folded(cut, mean)?);
        }
        repaired.info.error_after = error(&repaired)?;
        Ok(repaired)
    }
}

/// `b + W_P mean_P`, each rounded once.
pub(super) fn folded(cut: &Cut<'_>, mean: &[f64]) -> Result<Vec<f32>, MethodError> {
    if !cut.bias_allowed {
        return Err(MethodError::Unsupported {
            method: "bias",
            what: format!("the reader of {}", cut.site),
            why: "the format or runtime that the model is for has no bias there; use least-squares",
        });
    }
    let pruned = cut.pruned();
    let folded: Vec<f32> = (0..cut.reader.rows())
        .map(|o| {
            let row = cut.reader.row(o);
            let lost: f64 = pruned.iter().map(|&col| f64::from(row[col]) * mean[col]).sum();
            (cut.bias.map_or(0.0, |bias| f64::from(bias[o])) + lost) as f32
        })
        .collect();
    check::floats(cut.site, "repaired bias", &folded)?;
    Ok(folded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::matrix::Matrix;
    use pare_model::site::{Point, Site};

    const SITE: Site = Site { block: 0, point: Point::FfnOut };

    fn reader() -> Matrix {
        Matrix::from_vec(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    }

    #[test]
    fn by_hand() {
        let mut stats = Stats::new(4);
        stats.insert(SITE, Stat::Mean, vec![0.5, -1.0, 2.0]);
        let reader = reader();
        let cut = Cut { site: SITE, reader: &reader, bias: Some(&[10.0, 20.0]), kept: &[1], bias_allowed: true };
        let repaired = Bias.compensate(&cut, &stats).unwrap();
        assert_eq!(repaired.weight.data(), [2.0, 5.0]);
        // 10 + 1 * 0.5 + 3 * 2 and 20 + 4 * 0.5 + 6 * 2
        assert_eq!(repaired.bias, Some(vec![16.5, 34.0]));
        assert_eq!((repaired.info.error_before, repaired.info.error_after), (None, None));
    }

    #[test]
    fn reports_errors_when_the_gram_matrix_is_there() {
        // x = (1, 0) and (3, 0): cutting the first column loses 1 and 3, or with the bias 2 is off by 1 each time.
        let mut stats = Stats::new(2);
        stats.insert(SITE, Stat::Mean, vec![2.0, 0.0]);
        stats.insert(SITE, Stat::Gram, vec![5.0, 0.0, 0.0, 0.0]);
        let reader = Matrix::from_vec(1, 2, vec![1.0, 1.0]);
        let cut = Cut { site: SITE, reader: &reader, bias: None, kept: &[1], bias_allowed: true };
        let repaired = Bias.compensate(&cut, &stats).unwrap();
        assert_eq!((repaired.info.error_before, repaired.info.error_after), (Some(5.0), Some(1.0)));
    }

    #[test]
    fn refuses() {
        let reader = reader();
        let cut = Cut { site: SITE, reader: &reader, bias: None, kept: &[1], bias_allowed: true };
        let mut stats = Stats::new(4);
        let refusal = |cut: &Cut<'_>, stats: &Stats| Bias.compensate(cut, stats).unwrap_err();
        assert_eq!(refusal(&cut, &stats), MethodError::MissingStat { stat: Stat::Mean, site: SITE });
        stats.insert(SITE, Stat::Mean, vec![0.0; 2]);
        assert_eq!(refusal(&cut, &stats), MethodError::Shape { site: SITE, what: "mean", want: 3, got: 2 });
        stats.insert(SITE, Stat::Mean, vec![1e300; 3]);
        assert_eq!(
            refusal(&cut, &stats).to_string(),
            "block 0 ffn output: repaired bias: value 0 is inf, expected a finite number"
        );
        stats.insert(SITE, Stat::Mean, vec![0.0; 3]);
        stats.insert(SITE, Stat::Gram, vec![0.0; 4]);
        assert_eq!(refusal(&cut, &stats), MethodError::Shape { site: SITE, what: "Gram matrix", want: 9, got: 4 });
        stats.insert(SITE, Stat::Gram, vec![0.0; 9]);
        let message = refusal(&Cut { bias_allowed: false, ..cut }, &stats).to_string();
        assert!(message.starts_with("bias does not work on the reader of block 0 ffn output"), "{message}");
        assert!(matches!(refusal(&Cut { kept: &[1, 1], ..cut }, &stats), MethodError::Params { key: "kept", .. }));
    }
}
