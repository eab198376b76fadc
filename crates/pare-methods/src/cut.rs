//! Columns that are cut from a reader, and what a repair makes of it.

use crate::check;
use crate::error::MethodError;
use pare_model::matrix::Matrix;
use pare_model::site::Site;

/// What is cut: columns of a reader.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// Where the reader's inputs were observed (before the cut, all columns).
    pub site: Site,
    /// The reader before the cut, `[out, in]`.
    pub reader: &'a Matrix,
    /// Its bias before the cut, `[out]`.
    pub bias: Option<&'a [f32]>,
    /// The columns that stay, ascending.
    pub kept: &'a [usize],
    /// Whether the runtime or format that the model is for can carry a bias here. When not, a bias that the reader has
    /// already stays as it is.
    pub bias_allowed: bool,
}

impl Cut<'_> {
    /// Holds the cut to its description.
    ///
    /// # Errors
    /// `Params` for kept columns that are not ascending or not of the reader, `Shape` for a bias of another length,
    /// `Numeric` for a weight or bias that is not finite.
    pub fn check(&self) -> Result<(), MethodError> {
        let [out, width] = self.reader.shape();
        if let Some(pair) = self.kept.windows(2).find(|pair| pair[0] >= pair[1]) {
            let why = format!("column {} follows column {}, expected ascending columns", pair[1], pair[0]);
            return Err(MethodError::Params { key: "kept", why });
        }
        if let Some(&last) = self.kept.last().filter(|&&last| last >= width) {
            let why = format!("column {last} of a reader with {width} columns");
            return Err(MethodError::Params { key: "kept", why });
        }
        if let Some(bias) = self.bias {
            if bias.len() != out {
                return Err(MethodError::Shape { site: self.site, what: "bias", want: out, got: bias.len() });
            }
            check::floats(self.site, "bias", bias)?;
        }
        check::weights(self.site, "reader", self.reader)
    }

    /// The columns that go, ascending.
    pub fn pruned(&self) -> Vec<usize> {
        let mut kept = self.kept.iter().peekable();
        (0..self.reader.cols()).filter(|col| kept.next_if_eq(&col).is_none()).collect()
    }

    /// The cut without a repair; its `info` is empty.
    pub fn plain(&self) -> Repaired {
        let bias = self.bias.map(<[f32]>::to_vec);
        Repaired { weight: self.reader.select_cols(self.kept), bias, info: Info::default() }
    }
}

/// A repaired reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Repaired {
    /// `[out, kept]`.
    pub weight: Matrix,
    /// `[out]`; none when it stayed without.
    pub bias: Option<Vec<f32>>,
    /// Facts that are not errors.
    pub info: Info,
}

/// What a repair found on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Info {
    /// Damping that was needed, relative to the mean diagonal of the second moments of the kept inputs.
    pub damping: f64,
    /// Mean squared calibration error per output, of the cut without repair; none when no Gram matrix was observed.
    pub error_before: Option<f64>,
    /// The same after the repair.
    pub error_after: Option<f64>,
    /// The simpler repair whose result this is, when the method's own result had a larger calibration error.
    pub fell_back: Option<Simpler>,
}

/// What a repair falls back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Simpler {
    /// No repair at all.
    Plain,
    /// The repair of the bias alone.
    Bias,
}
