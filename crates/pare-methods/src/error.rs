//! Why a method could not do what was asked.

use pare_model::site::Site;
use pare_model::stats::Stat;

/// A method, or the parameter that it does not read or that is out of its range.
pub type Built<M> = Result<Box<M>, MethodError>;

/// A method's refusal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// A statistic that the method needs was not observed.
    #[error("{site}: the statistic {stat:?} was not observed")]
    MissingStat {
        /// What is missing.
        stat: Stat,
        /// Where.
        site: Site,
    },
    /// Two sizes that must agree do not.
    #[error("{site}: {what} has {got}, expected {want}")]
    Shape {
        /// Where.
        site: Site,
        /// Which quantity.
        what: &'static str,
        /// What it should be.
        want: usize,
        /// What it is.
        got: usize,
    },
    /// A parameter out of its range.
    #[error("parameter {key}: {why}")]
    Params {
        /// The parameter.
        key: &'static str,
        /// Found and expected.
        why: String,
    },
    /// A valid request that this method does not serve.
    #[error("{method} does not work on {what}: {why}")]
    Unsupported {
        /// The method.
        method: &'static str,
        /// What was asked.
        what: String,
        /// Why not.
        why: &'static str,
    },
    /// Numbers that no method can work with.
    #[error("{site}: {cause}")]
    Numeric {
        /// Where.
        site: Site,
        /// What happened.
        cause: NumericCause,
    },
    /// The same in a row of scores.
    #[error("{row}: {cause}")]
    Row {
        /// The name of the row.
        row: String,
        /// What happened.
        cause: NumericCause,
    },
    /// What the method asked of its caller was not given.
    #[error("stopped: {why}")]
    Stopped {
        /// Why.
        why: String,
    },
    /// A name that no method of an axis has.
    #[error("no {axis} method is called {name:?}{}", suggestion(*nearest))]
    Unknown {
        /// The axis, as in `score`.
        axis: &'static str,
        /// What was asked for.
        name: String,
        /// The name that was perhaps meant.
        nearest: Option<&'static str>,
    },
}

fn suggestion(nearest: Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None => "; `pare methods` lists them".to_owned(),
    }
}

/// A share or a count as people write it: six digits, without what the arithmetic added behind them.
pub fn shown(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// How numbers failed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NumericCause {
    /// A weight or statistic is NaN or infinite.
    #[error("{what}: value {index} is {value}, expected a finite number")]
    NotFinite {
        /// Which matrix, statistic or list.
        what: &'static str,
        /// Index of the value.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A statistic that cannot have the value it has.
    #[error("{what}: value {index} is {value}, expected {range}")]
    OutOfRange {
        /// Which statistic.
        what: &'static str,
        /// Index of the value.
        index: usize,
        /// The value.
        value: f64,
        /// What it must be.
        range: &'static str,
    },
    /// A decomposition did not converge.
    #[error("no {what} were found")]
    NoDecomposition {
        /// What was looked for.
        what: &'static str,
    },
    /// A Cholesky factorisation failed at every damping tried.
    #[error("the Gram matrix is not positive definite even with damping {damping:e} of its mean diagonal")]
    NotPositiveDefinite {
        /// The largest damping that was tried, relative to the mean diagonal.
        damping: f64,
    },
    /// An iteration of a decomposition did not settle.
    #[error("the {what} of a matrix did not converge")]
    NoConvergence {
        /// Which decomposition.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn what_arithmetic_adds_is_not_shown() {
        let values = [1.0 - 0.7, 1.0 - 0.9, 5_529.599_999_999_998, 0.25, -0.0, 123_456_789.0, 1e-9];
        let written: Vec<String> = values.iter().map(|value| shown(*value).to_string()).collect();
        assert_eq!(written, ["0.3", "0.1", "5529.6", "0.25", "-0", "123457000", "0.000000001"]);
        assert!(shown(f64::NAN).is_nan() && shown(f64::INFINITY) == f64::INFINITY);
    }
}
