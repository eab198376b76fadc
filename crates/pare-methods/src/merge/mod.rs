//! Merges: two models of one architecture into one, block by block.

mod average;
mod pleas;

pub use average::Average;
pub use pleas::Pleas;

use crate::card::Card;
use crate::check;
use crate::error::{Built, MethodError};
use crate::names;
use crate::settings::Settings;
use pare_model::block::Block;
use pare_model::site::{Point, Projection, Site};
use pare_model::weight::Linear;
use std::collections::BTreeMap;

/// The same block of both models. Their residual streams have one basis.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Index of the block.
    pub index: usize,
    /// That of the first model.
    pub first: &'a Block,
    /// That of the second.
    pub second: &'a Block,
}

impl Pair<'_> {
    /// Holds the pair to its description: the same parts, shapes and biases, and finite weights.
    ///
    /// # Errors
    /// `Shape` with the first size that differs, `Numeric` for a weight that is not finite.
    pub fn check(&self) -> Result<(), MethodError> {
        let counts = |block: &Block| {
            let attention = block.attention().map(|part| [part.heads, part.groups]);
            let norms = block.attention().map(|part| [part.q_norm.is_some(), part.k_norm.is_some()]);
            let [heads, groups] = attention.unwrap_or_default();
            let [query, key] = norms.unwrap_or_default();
            [
                (Point::AttentionPart, "attention parts", usize::from(attention.is_some())),
                (Point::FfnPart, "feed-forward parts", usize::from(block.ffn.is_some())),
                (Point::AttentionPart, "query heads", heads),
                (Point::AttentionPart, "KV groups", groups),
                (Point::AttentionPart, "norms of query heads", usize::from(query)),
                (Point::AttentionPart, "norms of key heads", usize::from(key)),
            ]
        };
        for ((point, what, want), (_, _, got)) in counts(self.first).into_iter().zip(counts(self.second)) {
            self.same(point, what, want, got)?;
        }
        for block in [self.first, self.second] {
            self.same(Point::BlockPart, "shortcuts beside parts", 0, block.shortcuts().count())?;
        }
        for projection in Projection::ALL {
            let (Some(first), Some(second)) = (self.first.linear(projection), self.second.linear(projection)) else {
                continue;
            };
            let point = projection.input();
            self.same(point, "inputs of a projection", first.inputs(), second.inputs())?;
            self.same(point, "outputs of a projection", first.outputs(), second.outputs())?;
            let biases = |linear: &Linear| usize::from(linear.bias.is_some());
            self.same(point, "biases of a projection", biases(first), biases(second))?;
            for linear in [first, second] {
                let site = Site::new(self.index, point);
                check::weights(site, "weight", &linear.to_matrix())?;
                linear.bias.iter().try_for_each(|bias| check::floats(site, "bias", bias))?;
            }
        }
        Ok(())
    }

    fn same(&self, point: Point, what: &'static str, want: usize, got: usize) -> Result<(), MethodError> {
        let site = Site::new(self.index, point);
        if want == got { Ok(()) } else { Err(MethodError::Shape { site, what, want, got }) }
    }
}

/// Second moments of both models' activations at one point, over the same tokens.
#[derive(Clone, Debug)]
pub struct Joint {
    width: usize,
    second: Vec<f64>,
}

impl Joint {
    /// Takes the means of `u u^T` with `u` the `width` activations of the first model followed by those of the second: `[2n, 2n]`.
    ///
    /// # Errors
    /// `Shape` for another number of values, `Numeric` for one that is not finite.
    pub fn new(site: Site, width: usize, second: Vec<f64>) -> Result<Self, MethodError> {
        let what = "Gram matrix of both models";
        let want = 4 * width * width;
        if second.len() != want {
            return Err(MethodError::Shape { site, what, want, got: second.len() });
        }
        check::finite(site, what, &second)?;
        Ok(Self { width, second })
    }

    /// How many activations each model has here.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The means of `u_i u`.
    fn row(&self, i: usize) -> &[f64] {
        &self.second[i * 2 * self.width..(i + 1) * 2 * self.width]
    }

    /// The mean of `u_i u_j`.
    fn at(&self, i: usize, j: usize) -> f64 {
        self.second[i * 2 * self.width + j]
    }
}

/// What was observed at the inputs of a block's projections: [`Point::AttentionIn`], `AttentionOut`, `FfnIn` and `FfnOut`.
pub type Joints = BTreeMap<Point, Joint>;

/// A merged block.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The block.
    pub block: Block,
    /// Facts that are not errors.
    pub info: Info,
}

/// What a merge found on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Info {
    /// Channels of the first model that were merged with one of another number in the second.
    pub moved_channels: usize,
    /// The same for KV groups.
    pub moved_groups: usize,
    /// Mean similarity (cosine over calibration tokens) of merged channels; none when it was not looked at.
    pub similarity: Option<f64>,
    /// The largest damping that was needed, relative to the mean diagonal; none when nothing was solved.
    pub damping: Option<f64>,
    /// Sum over projections of the mean squared calibration error per output of the aligned average; none when nothing was observed.
    pub error_before: Option<f64>,
    /// The same of the result.
    pub error_after: Option<f64>,
}

/// A merge. Pure: the same blocks and moments give the same block.
pub trait Merge: Send + Sync {
    /// One block in the place of two; `size` is its FFN width relative to theirs, within `1..=2`.
    ///
    /// # Errors
    /// Blocks that do not fit each other, a size that it does not serve, missing moments, numbers that are not finite.
    fn merge(&self, pair: &Pair<'_>, size: f64, joints: &Joints) -> Result<Merged, MethodError>;

    /// Refuses a `size` that [`Merge::merge`] would refuse, before anything is observed.
    ///
    /// # Errors
    /// `Params` for a size that it does not serve.
    fn check(&self, size: f64) -> Result<(), MethodError>;
}

/// One line of the registry.
pub struct Entry {
    /// What it is. A need of the Gram matrix is one of [`Joints`].
    pub card: Card,
    /// Builds it.
    ///
    /// # Errors
    /// A parameter that it does not read, or out of its range.
    pub build: fn(&Settings) -> Built<dyn Merge>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("merge::Entry").field(&self.card.name).finish()
    }
}

/// Every merge, by name.
pub const ENTRIES: &[Entry] = &[average::ENTRY, pleas::ENTRY];

/// The merge called `name`.
///
/// # Errors
/// `Unknown`, with the nearest name.
pub fn find(name: &str) -> Result<&'static Entry, MethodError> {
    ENTRIES.iter().find(|entry| entry.card.name == name).ok_or_else(|| MethodError::Unknown {
        axis: "merge",
        name: name.to_owned(),
        nearest: names::nearest(name, ENTRIES.iter().map(|entry| entry.card.name)),
    })
}

/// The middle of two lists of one length.
pub fn middle(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| (0.5 * (f64::from(a) + f64::from(b))) as f32).collect()
}

/// The first block with the middle of both blocks' norms.
fn with_middle_norms(pair: &Pair<'_>) -> Block {
    let mut block = pair.first.clone();
    if let (Some(part), Some(other)) = (block.attention_mut(), pair.second.attention()) {
        part.norm = middle(&part.norm, &other.norm).into();
        for (gain, other) in [(&mut part.q_norm, &other.q_norm), (&mut part.k_norm, &other.k_norm)] {
            if let (Some(gain), Some(other)) = (gain, other) {
                *gain = middle(gain, other).into();
            }
        }
    }
    if let (Some(part), Some(other)) = (&mut block.ffn, &pair.second.ffn) {
        part.norm = middle(&part.norm, &other.norm).into();
    }
    block
}
