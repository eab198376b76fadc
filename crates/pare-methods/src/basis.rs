//! Linear maps in another basis of what they read or write.

use crate::error::{MethodError, NumericCause};
use crate::{check, linalg};
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::storage::Dense;
use pare_model::weight::{Linear, Weight};
use std::sync::Arc;

/// Rows that are turned together: a few megabytes of doubles, whatever the vocabulary.
const ROWS: usize = 1024;

/// Orthonormal axes of a space of `width` dimensions, perhaps not all of them.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    width: usize,
    kept: usize,
    /// `[width, kept]`, axis `j` in column `j`.
    axes: Vec<f64>,
}

impl Basis {
    /// The eigenvectors of the second moments `gram` `[width, width]`, those of the most energy first.
    ///
    /// # Errors
    /// `Row` under `name` for moments whose eigenvectors cannot be found.
    pub(crate) fn principal(name: &str, gram: &[f64], width: usize) -> Result<Self, MethodError> {
        let refuse = |cause| MethodError::Row { row: name.to_owned(), cause };
        if let Some(cause) = check::not_finite("second moments", gram.iter().copied()) {
            return Err(refuse(cause));
        }
        let trace: f64 = (0..width).map(|at| gram[at * width + at]).sum();
        let failed = || refuse(NumericCause::NotFinite { what: "eigenvectors", index: 0, value: f64::NAN });
        if let Some(cause) = check::not_finite("sum of the second moments", [trace]) {
            return Err(refuse(cause));
        }
        let axes = linalg::principal_axes(gram, width).ok_or_else(failed)?;
        Ok(Self { width, kept: width, axes })
    }

    /// Its first `kept` axes.
    pub(crate) fn first(&self, kept: usize) -> Self {
        let rows = self.axes.chunks_exact(self.kept.max(1));
        Self { width: self.width, kept, axes: rows.flat_map(|row| &row[..kept]).copied().collect() }
    }

    /// How many axes there are.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// `W diag(gain) Q`: the map that reads coordinates along the axes.
    pub(crate) fn reader(&self, weight: &dyn Weight, name: &Name<'_>) -> Result<Matrix, MethodError> {
        let [out, inn] = weight.shape();
        let mut turned = Vec::with_capacity(out * self.kept);
        for first in (0..out).step_by(ROWS) {
            let rows = first..(first + ROWS).min(out);
            let count = rows.len();
            let chunk = doubles(weight, rows, name)?;
            turned.extend(linalg::product(&chunk, &self.axes, [count, inn, self.kept]).into_iter().map(|v| v as f32));
        }
        Ok(Matrix::from_vec(out, self.kept, turned))
    }

    /// The map that reads coordinates along the axes, its bias unchanged.
    pub(crate) fn read_by(&self, linear: &Linear, name: &Name<'_>) -> Result<Linear, MethodError> {
        Ok(dense(self.reader(linear.weight.as_ref(), name)?, linear.bias.clone()))
    }

    /// `Q^T W` and `Q^T b`: the map that writes coordinates along the axes.
    pub(crate) fn written_by(&self, linear: &Linear, name: &Name<'_>) -> Result<Linear, MethodError> {
        let [out, inn] = linear.weight.shape();
        let transposed = self.transposed();
        let weight = doubles(linear.weight.as_ref(), 0..out, name)?;
        let turned = linalg::product(&transposed, &weight, [self.kept, out, inn]);
        let bias = linear.bias.as_ref().map(|bias| {
            let bias: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
            linalg::product(&transposed, &bias, [self.kept, out, 1]).into_iter().map(|b| b as f32).collect()
        });
        Ok(dense(matrix(self.kept, inn, &turned), bias))
    }

    /// `N^T Q` `[next kept, kept]`: from coordinates along these axes to those along the axes N of `next`.
    pub(crate) fn to(&self, next: &Self) -> Linear {
        let turn = linalg::product(&next.transposed(), &self.axes, [next.kept, self.width, self.kept]);
        dense(matrix(next.kept, self.kept, &turn), None)
    }

    /// `Q Q^T` `[width, width]`: what of a vector lies along the axes.
    pub(crate) fn projection(&self) -> Self {
        let axes = linalg::product(&self.axes, &self.transposed(), [self.width, self.kept, self.width]);
        Self { width: self.width, kept: self.width, axes }
    }

    /// The columns as a map, `[width, kept]`.
    pub(crate) fn map(&self) -> Linear {
        dense(matrix(self.width, self.kept, &self.axes), None)
    }

    /// `[kept, width]`.
    fn transposed(&self) -> Vec<f64> {
        linalg::transposed(&self.axes, self.kept)
    }
}

/// Whose numbers are looked at, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name<'a> {
    /// A projection that reads or writes at this site.
    At(Site),
    /// The embedding or the head.
    Whole(&'a str),
}

impl Name<'_> {
    /// The error for numbers that no method can work with.
    pub(crate) fn refuse(&self, cause: NumericCause) -> MethodError {
        match *self {
            Self::At(site) => MethodError::Numeric { site, cause },
            Self::Whole(row) => MethodError::Row { row: row.to_owned(), cause },
        }
    }
}

/// A linear map of dense weights.
pub(crate) fn dense(matrix: Matrix, bias: Option<Arc<[f32]>>) -> Linear {
    Linear { weight: Arc::new(Dense(matrix)), bias }
}

/// `diag(gain)` folded into what `weight` reads: `W diag(gain)`.
pub(crate) fn folded(weight: &dyn Weight, gain: &[f32], name: &Name<'_>) -> Result<Matrix, MethodError> {
    let [out, inn] = weight.shape();
    if let Some(cause) = check::not_finite("norm gain", gain.iter().map(|&gain| f64::from(gain))) {
        return Err(name.refuse(cause));
    }
    let mut folded = Matrix::zeros(out, inn);
    for row in 0..out {
        let values = folded.row_mut(row);
        weight.decode_row(row, values);
        for (value, &gain) in values.iter_mut().zip(gain) {
            *value = (f64::from(*value) * f64::from(gain)) as f32;
        }
    }
    match check::not_finite("weight", folded.data().iter().map(|&value| f64::from(value))) {
        Some(cause) => Err(name.refuse(cause)),
        None => Ok(folded),
    }
}

/// Rows of a weight in double precision, each number finite.
pub(crate) fn doubles(
    weight: &dyn Weight,
    rows: std::ops::Range<usize>,
    name: &Name<'_>,
) -> Result<Vec<f64>, MethodError> {
    let mut row = vec![0.0; weight.shape()[1]];
    let mut values = Vec::with_capacity(rows.len() * row.len());
    for index in rows {
        weight.decode_row(index, &mut row);
        values.extend(row.iter().map(|&value| f64::from(value)));
    }
    match check::not_finite("weight", values.iter().copied()) {
        Some(cause) => Err(name.refuse(cause)),
        None => Ok(values),
    }
}

fn matrix(rows: usize, cols: usize, values: &[f64]) -> Matrix {
    Matrix::from_vec(rows, cols, values.iter().map(|&value| value as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The basis of the moments diag(1, 4): axis 0 is (0, 1), axis 1 is (1, 0).
    fn swap() -> Basis {
        Basis::principal("test", &[1.0, 0.0, 0.0, 4.0], 2).unwrap()
    }

    #[test]
    fn maps_by_hand() {
        let linear = dense(Matrix::from_vec(2, 2, vec![1.0, 2.0, 3.0, 4.0]), Some(vec![5.0, 6.0].into()));
        let (basis, name) = (swap(), Name::Whole("test"));
        assert_eq!(basis.read_by(&linear, &name).unwrap().to_matrix().data(), [2.0, 1.0, 4.0, 3.0]);
        let written = basis.written_by(&linear, &name).unwrap();
        assert_eq!(written.to_matrix().data(), [3.0, 4.0, 1.0, 2.0]);
        assert_eq!(*written.bias.unwrap(), [6.0, 5.0]);
        let one = basis.first(1);
        assert_eq!(one.read_by(&linear, &name).unwrap().to_matrix(), Matrix::from_vec(2, 1, vec![2.0, 4.0]));
        assert_eq!(one.to(&basis).to_matrix(), Matrix::from_vec(2, 1, vec![1.0, 0.0]));
        assert_eq!(one.projection().map().to_matrix().data(), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(folded(linear.weight.as_ref(), &[2.0, 0.5], &name).unwrap().data(), [2.0, 1.0, 6.0, 2.0]);
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let name = Name::Whole("head");
        let message = Basis::principal("block 3", &[f64::NAN], 1).unwrap_err().to_string();
        assert_eq!(message, "block 3: second moments: value 0 is NaN, expected a finite number");
        let broken = Dense(Matrix::from_vec(1, 2, vec![0.0, f32::INFINITY]));
        let message = swap().reader(&broken, &name).unwrap_err().to_string();
        assert_eq!(message, "head: weight: value 1 is inf, expected a finite number");
        assert!(folded(&broken, &[1.0, 1.0], &name).is_err());
        let message = folded(&Dense(Matrix::zeros(1, 1)), &[f32::NAN], &name).unwrap_err().to_string();
        assert_eq!(message, "head: norm gain: value 0 is NaN, expected a finite number");
    }
}
