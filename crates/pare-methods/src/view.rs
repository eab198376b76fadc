//! What a score looks at: the coupled group of matrices that lose the same units together.

use crate::card::Grain;
use pare_model::matrix::Matrix;
use pare_model::site::{Projection, Site};

/// A set of units of one grain at one place of the model, with every weight that leaves together with a unit.
///
/// | grain | `units` | `reader` | `writers` | `site` |
/// |---|---|---|---|---|
/// | `Weight` | `out * in` of one projection, row by row | that projection | none | its input |
/// | `Channel` | F | down `[C, F]` | gate `[F, C]`, up `[F, C]` | `FfnOut` |
/// | `Group` | G | o `[C, H * D]` | q `[H * D, C]`, k, v `[G * D, C]` | `AttentionOut` |
/// | `Attention`, `Ffn`, `Block` | 1 | none | none | the part |
///
/// A unit of `Channel` or `Group` owns `reader.cols() / units` consecutive columns of the reader and `w.rows() / units`
/// consecutive rows of each writer `w`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Size of a unit.
    pub grain: Grain,
    /// Where the statistics of the units were observed.
    pub site: Site,
    /// Which projection, for `Grain::Weight`.
    pub projection: Option<Projection>,
    /// How many units there are.
    pub units: usize,
    /// The matrix that reads the units' activations.
    pub reader: Option<&'a Matrix>,
    /// The matrices that write them.
    pub writers: &'a [&'a Matrix],
}
