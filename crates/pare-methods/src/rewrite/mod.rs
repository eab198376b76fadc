//! Rewrites: the whole model in other numbers. Some keep its function, some make it smaller on the way.

mod flatten;
mod fold_norm;
mod merge_features;
mod neighbour_average;
mod off_grid;
pub mod slice;
mod slice_global;

pub use flatten::Flatten;
pub use fold_norm::FoldNorm;
pub use merge_features::{MergeFeatures, merge_channels};
pub use neighbour_average::NeighbourAverage;
pub use off_grid::off_grid;
pub use slice::Slice;
pub use slice_global::SliceGlobal;

use crate::card::Card;
use crate::error::{Built, MethodError};
use crate::names;
use crate::settings::Settings;
use pare_model::model::Model;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use std::collections::BTreeSet;

/// What a rewrite may ask of calibration text.
pub trait Calibration {
    /// Statistics of `model`'s activations.
    ///
    /// # Errors
    /// `Stopped` when the user stops it or a sum is not finite.
    fn observe(&mut self, model: &Model, needs: &BTreeSet<(Site, Stat)>) -> Result<Stats, MethodError>;

    /// Mean divergence of `model` from the original on calibration text, in nats per token.
    ///
    /// # Errors
    /// `Stopped` when the user stops it.
    fn divergence(&mut self, model: &Model) -> Result<f64, MethodError>;
}

/// A rewritten model.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The model.
    pub model: Model,
    /// What happened, for people, one line each: what was merged, what was undone and why.
    pub notes: Vec<String>,
}

/// A rewrite.
pub trait Rewrite: Send + Sync {
    /// The model in other numbers; `keep` is the share of the blocks' projection weights that stays, as near as the method comes.
    ///
    /// # Errors
    /// A `keep` that it cannot reach, a model that it does not serve, numbers that are not finite.
    fn rewrite(&self, model: &Model, keep: f64, calibration: &mut dyn Calibration) -> Result<Rewritten, MethodError>;

    /// Refuses what [`Rewrite::rewrite`] would refuse for the sizes of `model` and `keep` alone, before anything is observed.
    ///
    /// # Errors
    /// `Params` for a `keep` that it cannot reach, `Unsupported` for a model that it does not serve.
    fn check(&self, model: &Model, keep: f64) -> Result<(), MethodError>;
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Whether it makes the model smaller: `keep` is then its affair.
    pub removes: bool,
    /// Whether every block of the result has one shape, so that standard loaders can read it.
    pub uniform: bool,
    /// Builds it; `seed` is used by rewrites that draw.
    ///
    /// # Errors
    /// A parameter that it does not read, or out of its range.
    pub build: fn(settings: &Settings, seed: u64) -> Built<dyn Rewrite>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("rewrite::Entry").field(&self.card.name).finish()
    }
}

/// Every rewrite, by name.
pub const ENTRIES: &[Entry] = &[
    flatten::ENTRY,
    fold_norm::ENTRY,
    merge_features::ENTRY,
    neighbour_average::ENTRY,
    slice::ENTRY,
    slice_global::ENTRY,
];

/// The rewrite called `name`.
///
/// # Errors
/// `Unknown`, with the nearest name.
pub fn find(name: &str) -> Result<&'static Entry, MethodError> {
    ENTRIES.iter().find(|entry| entry.card.name == name).ok_or_else(|| MethodError::Unknown {
        axis: "rewrite",
        name: name.to_owned(),
        nearest: names::nearest(name, ENTRIES.iter().map(|entry| entry.card.name)),
    })
}
