//! Encodings: one matrix to another storage, chosen by what its inputs are.

mod activation_svd;
mod armor;
mod bitmod;
mod block_float;
mod gptq;
mod round_nearest;
mod sparsegpt;
mod svd;

pub use activation_svd::ActivationSvd;
pub use armor::Armor;
pub use bitmod::BitMod;
pub use block_float::BlockFloat;
pub use gptq::Gptq;
pub use round_nearest::RoundNearest;
pub use sparsegpt::SparseGpt;
pub use svd::Svd;

use crate::card::Card;
use crate::check;
use crate::error::{Built, MethodError};
use crate::names;
use crate::obs::Factor;
use crate::rounding::HessianFactor;
use crate::select::Compare;
use crate::settings::Settings;
use pare_kernels::blocks::BlockType;
use pare_kernels::pool::Pool;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::Stats;
use pare_model::storage::{Element, Stored};
use pare_model::weight::Weight;
use std::sync::Arc;

/// One matrix, and how much of it may stay.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Where its inputs were observed.
    pub site: Site,
    /// The matrix `[out, in]`.
    pub weight: &'a Matrix,
    /// Share of its numbers that stays, for encodings that remove some; 1 for all others.
    pub keep: f64,
    /// Which weights are compared with each other, for encodings that choose single weights.
    pub compare: Compare,
}

impl Task<'_> {
    /// Holds the task to its description.
    ///
    /// # Errors
    /// `Params` for a `keep` outside `0..=1`, `Numeric` for a weight that is not finite.
    pub fn check(&self) -> Result<(), MethodError> {
        if !(0.0..=1.0).contains(&self.keep) {
            return Err(MethodError::Params { key: "keep", why: format!("{}, expected 0..=1", self.keep) });
        }
        check::weights(self.site, "weight", self.weight)
    }
}

/// A matrix in its new storage.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The storage; its values are what the matrix has become.
    pub weight: Arc<dyn Weight>,
    /// Facts that are not errors.
    pub info: Info,
}

/// What an encoding found on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Info {
    /// Damping that was needed, relative to the mean diagonal of the Gram matrix; none when nothing was factorised.
    pub damping: Option<f64>,
    /// Mean squared calibration error per output; none when no Gram matrix was observed.
    pub error: Option<f64>,
    /// How many weights it removed and left as zeros; those that rounding made zero are not among them.
    #[serde(default)]
    pub removed: u64,
}

/// An encoding. Pure: the same task and statistics give the same storage, bit for bit, whatever the number of threads.
pub trait Encode: Send + Sync {
    /// The matrix in its new storage.
    ///
    /// # Errors
    /// A missing statistic, sizes that disagree, a shape that the storage cannot hold, numbers that are not finite.
    fn encode(&self, task: &Task<'_>, stats: &Stats, pool: &Pool) -> Result<Encoded, MethodError>;

    /// The block type of GGUF that its results are stored in; none for plain matrices and for what is made of several.
    fn blocks(&self) -> Option<BlockType> {
        None
    }

    /// The pattern of the zeros that it leaves when it is asked for `compare`; none when it leaves no zeros.
    fn pattern(&self, compare: Compare) -> Option<Compare> {
        let _ = compare;
        None
    }

    /// Whether it leaves the pool alone, so that several matrices are best encoded side by side.
    fn is_single_threaded(&self) -> bool {
        false
    }

    /// Refuses what [`Encode::encode`] would refuse of a matrix of this `[out, in]` for its sizes alone, before anything is observed.
    ///
    /// # Errors
    /// `Params` for a `keep` or a parameter that the sizes do not allow, `Unsupported` for a shape that the storage cannot hold.
    fn fits(&self, shape: [usize; 2], keep: f64, compare: Compare) -> Result<(), MethodError> {
        let _ = (shape, keep, compare);
        Ok(())
    }

    /// What all matrices can share that read the `width` inputs observed at `site`; none when there is nothing worth keeping.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    fn prepare(&self, site: Site, width: usize, stats: &Stats) -> Result<Option<Prepared>, MethodError> {
        let _ = (site, width, stats);
        Ok(None)
    }

    /// [`Encode::encode`], bit for bit, with what [`Encode::prepare`] of the same encoding gave for the task's site.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    fn encode_with(
        &self,
        task: &Task<'_>,
        stats: &Stats,
        prepared: &Prepared,
        pool: &Pool,
    ) -> Result<Encoded, MethodError> {
        let _ = prepared;
        self.encode(task, stats, pool)
    }
}

/// What matrices with the same inputs share, such as the factor of their inverse Gram matrix.
#[derive(Debug)]
pub struct Prepared(Shared);

#[derive(Debug)]
enum Shared {
    Factor(Factor),
    Hessian(HessianFactor),
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Whether it removes numbers: `keep` is then its affair.
    pub removes: bool,
    /// Whether its result is made of several matrices, which only pare runs.
    pub composes: bool,
    /// Builds it.
    ///
    /// # Errors
    /// A parameter that it does not read, or out of its range.
    pub build: fn(&Settings) -> Built<dyn Encode>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("encode::Entry").field(&self.card.name).finish()
    }
}

/// Every encoding, by name.
pub const ENTRIES: &[Entry] = &[
    activation_svd::ENTRY,
    armor::ENTRY,
    bitmod::ENTRY,
    block_float::ENTRY,
    gptq::ENTRY,
    round_nearest::ENTRY,
    sparsegpt::ENTRY,
    svd::ENTRY,
];

/// The encoding called `name`.
///
/// # Errors
/// `Unknown`, with the nearest name.
pub fn find(name: &str) -> Result<&'static Entry, MethodError> {
    ENTRIES.iter().find(|entry| entry.card.name == name).ok_or_else(|| MethodError::Unknown {
        axis: "encode",
        name: name.to_owned(),
        nearest: names::nearest(name, ENTRIES.iter().map(|entry| entry.card.name)),
    })
}

/// The block type called `name`, as in `q4_0`.
fn block_type(name: &str) -> Result<BlockType, MethodError> {
    BlockType::ALL.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
        let known: Vec<String> = BlockType::ALL.iter().map(|ty| ty.name().to_lowercase()).collect();
        MethodError::Params { key: "type", why: format!("{name:?}, expected one of {}", known.join(", ")) }
    })
}

fn no_blocks(method: &'static str, ty: BlockType, columns: usize) -> MethodError {
    let what = format!("rows of {columns} in {}", ty.name());
    MethodError::Unsupported { method, what, why: "they are no whole number of blocks" }
}

/// Refuses rows that are no whole number of blocks.
fn whole_blocks(method: &'static str, ty: BlockType, columns: usize) -> Result<(), MethodError> {
    if columns.is_multiple_of(ty.values_per_block()) { Ok(()) } else { Err(no_blocks(method, ty, columns)) }
}

/// A matrix in the bytes of its blocks.
fn stored(ty: BlockType, shape: [usize; 2], bytes: Vec<u8>) -> Option<Stored> {
    Stored::new(Element::Block(ty), shape, bytes.into())
}
