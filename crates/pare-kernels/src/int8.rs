//! Rows rounded to 8 bits, block by block of 32 inputs.

use crate::isa::{Isa, versions};
use crate::pool::Pool;
use crate::shared::Shared;

/// Inputs that share a scale.
pub const BLOCK: usize = 32;
/// Rows below which a second thread costs more than it saves.
const FEW: usize = 8;

/// Rows `[T, in]` as 8-bit integers and a scale per block of 32 inputs: `x[t, 32 b + i]` is about `scale[t, b] * q[t, 32 b + i]`.
///
/// `scale = max |x| / 127` and `q = round(x * (127 / max |x|))`, ties to even; the last block is filled with zeros. A block
/// with a value that is not finite gets a scale that is not finite, so that products show it.
#[derive(Debug, Default)]
pub struct Int8Rows {
    blocks: usize,
    quants: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<[i32; 2]>,
}

impl Int8Rows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rounds `x` `[rows, in]`. Allocates only when it holds more than ever before.
    ///
    /// # Panics
    /// When `x` is not `rows` rows.
    pub fn round(&mut self, isa: Isa, x: &[f32], rows: usize, pool: &Pool) {
        let width = x.len().checked_div(rows).unwrap_or(0);
        assert_eq!(x.len(), rows * width, "{} values in {rows} rows", x.len());
        let blocks = width.div_ceil(BLOCK);
        self.blocks = blocks;
        self.quants.resize(rows * blocks * BLOCK, 0);
        self.scales.resize(rows * blocks, 0.0);
        self.sums.resize(rows * blocks, [0; 2]);
        let (quants, scales, sums) =
            (Shared::new(&mut self.quants), Shared::new(&mut self.scales), Shared::new(&mut self.sums));
        let parts = rows.div_ceil(FEW);
        pool.run(parts, &|part| {
            for row in part * FEW..rows.min((part + 1) * FEW) {
                // SAFETY: each row belongs to one part.
                let (quants, scales, sums) = unsafe {
                    let at = row * blocks;
                    (
                        quants.slice_mut(at * BLOCK, blocks * BLOCK),
                        scales.slice_mut(at, blocks),
                        sums.slice_mut(at, blocks),
                    )
                };
                round_row(isa, &x[row * width..(row + 1) * width], quants, scales, sums);
            }
        });
    }

    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The integers, `[T, 32 * blocks]`, each at most 127 in size.
    pub fn quants(&self) -> &[i8] {
        &self.quants
    }

    /// The scales, `[T, blocks]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The sums of the integers of each half of each block, `[T, blocks]`.
    pub fn sums(&self) -> &[[i32; 2]] {
        &self.sums
    }
}

versions!(round_row, round_row_body, (x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]));

#[inline(always)]
fn round_row_body(x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]) {
    let (whole, rest) = x.as_chunks::<BLOCK>();
    let (quants, _) = quants.as_chunks_mut::<BLOCK>();
    let mut last = [0.0f32; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    let blocks = whole.iter().chain((!rest.is_empty()).then_some(&last));
    for (((x, quants), scale), sums) in blocks.zip(quants).zip(scales).zip(sums) {
        // As integers, the bits of a NaN are above those of an infinity, and those above every number's.
        let most = f32::from_bits(x.iter().fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff)));
        *scale = most / 127.0;
        let inverse = if most > 0.0 && most.is_finite() { 127.0 / most } else { 0.0 };
        // The inverse of a denormal is infinite; such a block is zero beside anything else.
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        for (quant, x) in quants.iter_mut().zip(x) {
            // In i32 first: the compiler has one instruction for it, none for i8.
            *quant = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i32 as i8;
        }
        for (half, sum) in sums.iter_mut().enumerate() {
            *sum = quants[half * 16..half * 16 + 16].iter().map(|&quant| i32::from(quant)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::numbers;

    #[test]
    fn a_block_by_hand() {
        let mut x = [0.0f32; 33];
        (x[0], x[1], x[17], x[32]) = (-254.0, 1.0, 3.0, 0.5);
        let mut rows = Int8Rows::new();
        rows.round(Isa::detect(), &x, 1, &Pool::new(1));
        assert_eq!(rows.blocks(), 2);
        // 1 / 2 and 3 / 2 are ties: to 0 and to 2.
        assert_eq!((rows.quants()[0], rows.quants()[1], rows.quants()[17], rows.quants()[32]), (-127, 0, 2, 127));
        assert_eq!(rows.scales(), &[2.0, 0.5 / 127.0]);
        assert_eq!(rows.sums(), &[[-127, 2], [127, 0]]);
    }

    #[test]
    fn every_set_and_any_number_of_threads_round_alike() {
        for (count, width) in [(1, 1), (3, 576), (20, 100), (9, 31)] {
            let x = numbers(5, count * width);
            let mut expected = Int8Rows::new();
            expected.round(Isa::Portable, &x, count, &Pool::new(1));
            for (at, &q) in expected.quants().iter().enumerate() {
                let (row, column) = (at / (expected.blocks() * BLOCK), at % (expected.blocks() * BLOCK));
                let value = if column < width { x[row * width + column] } else { 0.0 };
                let scale = expected.scales()[at / BLOCK];
                assert!((value - scale * f32::from(q)).abs() <= 0.501 * scale);
            }
            for isa in Isa::available() {
                let mut rows = Int8Rows::new();
                rows.round(isa, &x, count, &Pool::new(3));
                assert_eq!(rows.quants(), expected.quants(), "{}", isa.name());
                assert_eq!(rows.scales(), expected.scales());
                assert_eq!(rows.sums(), expected.sums());
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0f32; 64];
            x[40] = bad;
            for isa in Isa::available() {
                let mut rows = Int8Rows::new();
                rows.round(isa, &x, 1, &Pool::new(1));
                assert!(rows.scales()[0].is_finite() && !rows.scales()[1].is_finite());
            }
        }
        let mut rows = Int8Rows::new();
        rows.round(Isa::detect(), &[1e-44f32, 0.0], 1, &Pool::new(1));
        assert!(rows.scales()[0].is_finite() && rows.quants().iter().all(|&q| q == 0));
    }
}
