//! Products of the same rows with one or several packed matrices, shared by threads part by part.

use crate::int8::{BLOCK, Int8Rows};
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
    /// While it runs nobody else reads or writes the elements of `y` that belong to the part: `isa` and `threads` are those that
    /// [`Product::parts`] was asked with, and no part is computed twice at once.
    ///
    /// # Panics
    /// When `input` and `y` have not the lengths of one `T`, or there is no such part.
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

/// What every part of a product of `shape` compares before it takes an address: once for each part, not in its loops.
///
/// # Panics
/// When `input` and `y` have not the lengths of one `T`, or `part` is not one of `parts`.
#[track_caller]
pub(crate) fn check_part([out, inn]: [usize; 2], input: &Input<'_>, part: usize, parts: usize, y: &Shared<'_, f32>) {
    let rows = input.rows;
    assert!(part < parts, "part {part} of {parts}");
    assert_eq!(Some(input.x.len()), rows.checked_mul(inn), "x is not [{rows}, {inn}]");
    assert_eq!(Some(y.len()), rows.checked_mul(out), "y is not [{rows}, {out}]");
    if let Some(int8) = input.int8 {
        let blocks = inn.div_ceil(BLOCK);
        assert_eq!(
            [int8.blocks(), int8.scales().len()],
            [blocks, rows * blocks],
            "the rounded rows are not [{rows}, {inn}]"
        );
    }
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
/// As [`multiply_together`].
pub fn multiply_together_on<const N: usize>(
    isa: Isa,
    terms: [(&dyn Product, &mut [f32]); N],
    x: &[f32],
    int8: &mut Int8Rows,
    pool: &Pool,
) {
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
                // SAFETY: the pool deals each part once.
                return unsafe { product.multiply_part(isa, &input, part, threads, y) };
            }
            part -= parts;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_diagonal::BlockDiagonal;
    use crate::blocks::BlockType;
    use crate::panels::{PanelType, Panels};
    use crate::quant::QuantPanels;
    use crate::sparse::{EightRows, SparseType, TwoOfFour};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Every storage, `[64, 64]`, with `rows` rows that are too short by `missing` values and outputs that are `lacking` too few.
    fn refused(rows: usize, missing: usize, lacking: usize, further: usize) -> Vec<bool> {
        let (pool, isa) = (Pool::new(1), Isa::detect());
        let row = |_: usize, to: &mut [f32]| to.fill(0.0);
        let bytes = [0u8; 2 * 18];
        let products: [Box<dyn Product>; 6] = [
            Box::new(Panels::pack(PanelType::F16, 64, 64, &row, &pool)),
            Box::new(BlockDiagonal::pack(PanelType::F32, 2, 32, &|_, _, to| to.fill(0.0), &pool)),
            Box::new(QuantPanels::pack(BlockType::Q4_0, [64, 64], &|_| &bytes, &pool)),
            Box::new(TwoOfFour::pack(SparseType::F16, 64, 64, &row, &pool).unwrap()),
            Box::new(TwoOfFour::pack(SparseType::Int8, 64, 64, &row, &pool).unwrap()),
            Box::new(EightRows::pack(SparseType::F16, 64, 64, &row, &pool).unwrap()),
        ];
        let (x, mut y) = (vec![0.0; rows * 64 - missing], vec![0.0; rows * 64 - lacking]);
        let mut int8 = Int8Rows::new();
        int8.round(isa, &vec![0.0; (rows * 64 - missing).next_multiple_of(rows)], rows, &pool);
        let input = Input { x: &x, rows, int8: Some(&int8) };
        let y = Shared::new(&mut y);
        let multiply = |product: &dyn Product| {
            let part = further * product.parts(isa, rows, 1);
            // SAFETY: one call at a time, so nobody else uses the outputs.
            catch_unwind(AssertUnwindSafe(|| unsafe { product.multiply_part(isa, &input, part, 1, y) })).is_err()
        };
        products.iter().map(|product| multiply(product.as_ref())).collect()
    }

    #[test]
    fn a_part_refuses_what_would_leave_its_slices() {
        for &rows in crate::reference::sizes(&[1, 3, 80], &[1, 3]) {
            assert_eq!(refused(rows, 0, 0, 0), [false; 6], "{rows} rows that fit");
            assert_eq!(refused(rows, 1, 0, 0), [true; 6], "{rows} rows, the input too short");
            assert_eq!(refused(rows, 0, 1, 0), [true; 6], "{rows} rows, the output too short");
            assert_eq!(refused(rows, 0, 0, 1), [true; 6], "{rows} rows, no such part");
        }
    }
}
