//! What a score looks at: the coupled group of matrices that lose the same units together.

use crate::card::Grain;
use crate::error::MethodError;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Projection, Site};

/// A set of units of one grain at one place of the model, with every weight that leaves together with a unit.
///
/// | grain | `units` | `reader` | `writers` | `site` |
/// |---|---|---|---|---|
/// | `Weight` | `out * in` of one projection, row by row | that projection | none | its input |
/// | `Channel` | F | down `[C, F]` | gate `[F, C]`, up `[F, C]` | `FfnOut` |
/// | `Group` | G | o `[C, H * D]` | q `[H * D, C]`, k, v `[G * D, C]` | `AttentionOut` |
/// | `Attention` | 1 | none | q, k, v, o | `AttentionPart` |
/// | `Ffn` | 1 | none | gate, up, down | `FfnPart` |
/// | `Block` | 1 | none | q, k, v, o, gate, up, down | `BlockPart` |
///
/// A unit of `Channel` or `Group` owns `reader.cols() / units` consecutive columns of the reader and `w.rows() / units`
/// consecutive rows of each writer `w`. For the parts, `writers` are all the matrices that leave with the part; a score that
/// reads statistics alone takes them empty.
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

impl<'a> View<'a> {
    /// Holds the view to the table above.
    ///
    /// # Errors
    /// `Params` for a site that does not belong to the grain, `Shape` for a number of units that does not fit the matrices.
    pub fn check(&self) -> Result<(), MethodError> {
        let want = match (self.grain, self.projection) {
            (Grain::Weight, Some(projection)) => projection.input(),
            (Grain::Weight, None) => {
                return Err(MethodError::Params {
                    key: "projection",
                    why: "none, but single weights belong to one".into(),
                });
            }
            (Grain::Channel, _) => Point::FfnOut,
            (Grain::Group, _) => Point::AttentionOut,
            (Grain::Attention, _) => Point::AttentionPart,
            (Grain::Ffn, _) => Point::FfnPart,
            (Grain::Block, _) => Point::BlockPart,
        };
        if self.site.point != want {
            let why = format!("{:?} for units of {:?}, expected {want:?}", self.site.point, self.grain);
            return Err(MethodError::Params { key: "site", why });
        }
        match self.grain {
            Grain::Weight => {
                let [out, input] = self.reader()?.shape();
                self.same("units", out * input, self.units)
            }
            Grain::Channel | Grain::Group => {
                self.reader_columns()?;
                self.writers.iter().try_for_each(|writer| self.split("rows of a writer", writer.rows()).map(|_| ()))
            }
            Grain::Attention | Grain::Ffn | Grain::Block => self.same("units", 1, self.units),
        }
    }

    /// The matrix that reads the units' activations.
    ///
    /// # Errors
    /// `Shape` when there is none.
    pub fn reader(&self) -> Result<&'a Matrix, MethodError> {
        self.reader.ok_or(MethodError::Shape { site: self.site, what: "number of readers", want: 1, got: 0 })
    }

    /// How many consecutive columns of the reader one unit owns.
    ///
    /// # Errors
    /// `Shape` when the columns are not a whole number, at least one, for each unit.
    pub fn reader_columns(&self) -> Result<usize, MethodError> {
        self.split("columns of the reader", self.reader()?.cols())
    }

    /// How many consecutive rows of `writer` one unit owns.
    ///
    /// # Errors
    /// `Shape` when the rows are not a whole number, at least one, for each unit.
    pub fn writer_rows(&self, writer: &Matrix) -> Result<usize, MethodError> {
        self.split("rows of a writer", writer.rows())
    }

    fn split(&self, what: &'static str, whole: usize) -> Result<usize, MethodError> {
        match whole.checked_div(self.units) {
            Some(each) if each > 0 && each * self.units == whole => Ok(each),
            _ => {
                let want = whole.next_multiple_of(self.units.max(1)).max(self.units.max(1));
                Err(MethodError::Shape { site: self.site, what, want, got: whole })
            }
        }
    }

    fn same(&self, what: &'static str, want: usize, got: usize) -> Result<(), MethodError> {
        if want == got { Ok(()) } else { Err(MethodError::Shape { site: self.site, what, want, got }) }
    }
}
