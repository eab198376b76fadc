//! Why the engine stopped.

use crate::progress::Interrupted;
use pare_methods::error::{MethodError, NumericCause};
use pare_model::site::Site;
use pare_model::stats::Stat;
use std::io::ErrorKind;

/// An engine error. [`Error::is_bad_input`] tells a bad file or option from a failure of the machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is not what it should be.
    #[error(transparent)]
    Format(#[from] pare_format::FormatError),
    /// A recipe that cannot be used.
    #[error(transparent)]
    BadRecipe(#[from] crate::recipe::RecipeError),
    /// A method refused.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A plan that does not fit the model.
    #[error(transparent)]
    Plan(#[from] pare_model::plan::PlanError),
    /// The user stopped the work.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A target that cannot be met.
    #[error("--keep {keep}: {why}")]
    Keep {
        /// What was asked.
        keep: f64,
        /// Why it cannot be.
        why: String,
    },
    /// An activation overflowed or was never a number.
    #[error("{site}: {stat:?} of channel {index} is {value}; the model's weights or activations are not finite")]
    NotFinite {
        /// Where.
        site: Site,
        /// Which statistic.
        stat: Stat,
        /// Which channel.
        index: usize,
        /// The value.
        value: f64,
    },
    /// The texts cannot be used.
    #[error("{0}")]
    Text(String),
    /// A recipe that was not checked: a mistake in pare.
    #[error("the recipe was not checked before it was used; please report this")]
    Recipe,
    /// Writing failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program that was to be measured failed.
    #[error("{program} on {file}: {why}")]
    Peer {
        /// The program.
        program: String,
        /// The model file that it was given.
        file: String,
        /// How it failed, and the end of what it said.
        why: String,
    },
    /// What was written does not lose what it was predicted to lose.
    #[error(
        "{path}: written and whole, but what chose its types does not hold: a mean divergence of {predicted:.4} nats was \
         expected and {measured:.4} measured on {text}, more than 1.5 times apart. The measured figure is the one to go by; another choice \
         may be better at these bytes: calibrate on text that is nearer to what the model reads (--text) or on more of it \
         (--calibration-windows), and compare"
    )]
    Prediction {
        /// The file.
        path: String,
        /// Mean divergence in nats: the sum of what was measured matrix by matrix, or what the file loses on the text that chose its types.
        predicted: f64,
        /// The same of the file.
        measured: f64,
        /// The text that it was measured on.
        text: String,
    },
    /// The request cannot be carried out as asked.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Whether the fault is in what was given (exit code 2), not in the machine or the run (exit code 1).
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Format(error) => is_bad_file(error),
            Self::BadRecipe(_) | Self::Keep { .. } | Self::Text(_) | Self::NotFinite { .. } | Self::Refused(_) => true,
            Self::Method(MethodError::Numeric { cause, .. }) => matches!(cause, NumericCause::NotFinite { .. }),
            Self::Method(_) => true,
            Self::Plan(_) => true,
            Self::Interrupted(_) | Self::Recipe | Self::Io { .. } | Self::Peer { .. } | Self::Prediction { .. } => {
                false
            }
        }
    }
}

/// Whether a file that cannot be used is the fault of who gave it, not of the machine: all but what the system refuses. A file that
/// does not exist was given wrongly.
pub fn is_bad_file(error: &pare_format::FormatError) -> bool {
    match &error.kind {
        pare_format::FormatErrorKind::Io(cause) => cause.kind() == ErrorKind::NotFound,
        // A place where nothing can be written was given wrongly; a full disk was not.
        pare_format::FormatErrorKind::Write(cause) => matches!(
            cause.kind(),
            ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::InvalidFilename
        ),
        _ => true,
    }
}
