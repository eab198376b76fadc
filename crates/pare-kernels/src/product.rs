//! Products of the same rows with one or several packed matrices, shared by threads part by part.

use crate::int8::Int8Rows;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::shared::Shared;
use std::fmt::Debug;

/// The rows `[T, in]` that a product multiplies.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    x: &'a [f32],
    rows: usize,
    int8: Option<&'a Int8Rows>,
}

impl<'a> Input<'a> {
    /// The values, `[T, in]`.
    pub fn values(&self) -> &'a [f32] {
        self.x
    }

    /// `T`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The same rows rounded to 8 bits; only products that ask for them may.
    ///
    /// # Panics
    /// When the rows were not rounded, because no product of the call said that it reads them.
    pub fn int8(&self) -> &'a Int8Rows {
        self.int8.expect("a product that reads 8-bit rows says so")
    }
}

/// A packed matrix `[out, in]` whose product is cut in parts that own their outputs.
///
/// The bits of a result depend neither on the parts, the threads, the instruction set nor on other rows of the call.
pub trait Product: Send + Sync + Debug {
    /// `[out, in]`.
    fn shape(&self) -> [usize; 2];

    /// Bytes held, padding included: what one pass over the matrix reads.
    fn bytes(&self) -> usize;

    /// Writes row `o`, as stored, into `row` of `in` values.
    ///
    /// # Panics
    /// When `o` is not a row or `row` is not `in` long.
    fn decode_row(&self, o: usize, row: &mut [f32]);

    /// Whether it multiplies [`Input::int8`] instead of [`Input::values`].
    fn reads_int8(&self) -> bool {
        false
    }

    /// In how many parts `threads` threads best share the product of `rows` rows, which is at least 1.
    fn parts(&self, isa: Isa, rows: usize, threads: usize) -> usize;

    /// Computes part `part` of [`Product::parts`] of `y` `[T, out]`, each of whose elements belongs to one part.
    ///
    /// # Safety
    /// The machine has `isa`; `input` and `y` have the lengths of one `T`, and `isa` and `threads` are those that
    /// [`Product::parts`] was asked with; no part is computed twice at once.
    unsafe fn multiply_part(&self, isa: Isa, input: &Input<'_>, part: usize, threads: usize, y: Shared<'_, f32>);
}

/// Refuses what no [`Product::decode_row`] takes.
///
/// # Panics
/// When `o` is not a row of a matrix of `shape`, or `row` has not its inputs.
#[track_caller]
pub(crate) fn check_row([out, inn]: [usize; 2], o: usize, row: &[f32]) {
    assert!(o < out, "row {o} of {out}");
    assert_eq!(row.len(), inn, "the row buffer");
}

/// `y = x W^T` for each `(W, y)`: `x` is `[T, in]`, each `y` is `[T, out]` and is overwritten.
///
/// All share one fork of the threads, and one rounding of `x` to 8 bits where some read that; `int8` keeps its memory. No
/// other allocation.
///
/// # Panics
/// When the lengths do not agree on one `T`.
pub fn multiply_together<const N: usize>(
    terms: [(&dyn Product, &mut [f32]); N],
    x: &[f32],
    int8: &mut Int8Rows,
    pool: &Pool,
) {
    multiply_together_on(Isa::detect(), terms, x, int8, pool);
}

/// [`multiply_together`] on a given instruction set; the bits are the same.
///
/// # Panics
/// As [`multiply_together`], and when the machine lacks the set.
pub fn multiply_together_on<const N: usize>(
    isa: Isa,
    terms: [(&dyn Product, &mut [f32]); N],
    x: &[f32],
    int8: &mut Int8Rows,
    pool: &Pool,
) {
    assert!(isa.is_available(), "this machine has no {}", isa.name());
    let rows = terms.first().map_or(0, |(product, y)| y.len().checked_div(product.shape()[0]).unwrap_or(0));
    for (product, y) in &terms {
        let [out, inn] = product.shape();
        assert_eq!(y.len(), rows * out, "y is not [{rows}, {out}]");
        assert_eq!(x.len(), rows * inn, "x is not [{rows}, {inn}]");
    }
    if rows == 0 {
        return;
    }
    let rounded = terms.iter().any(|(product, _)| product.reads_int8());
    if rounded {
        int8.round(isa, x, rows, pool);
    }
    let input = Input { x, rows, int8: rounded.then_some(&*int8) };
    let threads = pool.threads();
    let terms = terms.map(|(product, y)| (product, Shared::new(y), product.parts(isa, rows, threads)));
    pool.run(terms.iter().map(|(_, _, parts)| parts).sum(), &|mut part| {
        for &(product, y, parts) in &terms {
            if part < parts {
                // SAFETY: the set is there, the lengths were compared, and the pool deals each part once.
                return unsafe { product.multiply_part(isa, &input, part, threads, y) };
            }
            part -= parts;
        }
    });
}
