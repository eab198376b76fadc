//! Rows rounded to 8 bits, block by block of 32 inputs.

#[cfg(target_arch = "x86_64")]
use crate::isa::Level;
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

fn round_row(isa: Isa, x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]) {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` is proof that the machine has the set.
        Level::Avx512Vnni | Level::Avx512 => unsafe { round_row_avx512(x, quants, scales, sums) },
        _ => round_row_on(isa, x, quants, scales, sums),
    }
}

versions!(round_row_on, round_row_body, (x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]));

/// 1.5 * 2^23.
const SHIFT: f32 = 12_582_912.0;

#[inline(always)]
fn round_row_body(x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]) {
    each_block(x, quants, scales, sums, round_block);
}

/// Applies `round` to every block; the last is filled with zeros.
#[inline(always)]
fn each_block(
    x: &[f32],
    quants: &mut [i8],
    scales: &mut [f32],
    sums: &mut [[i32; 2]],
    round: impl Fn(&[f32; BLOCK], &mut [i8; BLOCK]) -> (f32, [i32; 2]),
) {
    let (whole, rest) = x.as_chunks::<BLOCK>();
    let (quants, _) = quants.as_chunks_mut::<BLOCK>();
    let mut last = [0.0f32; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    let blocks = whole.iter().chain((!rest.is_empty()).then_some(&last));
    for (((x, quants), scale), sums) in blocks.zip(quants).zip(scales).zip(sums) {
        (*scale, *sums) = round(x, quants);
    }
}

/// What multiplies the values of a block whose greatest size is `most`: none when that is not finite or nearly nothing.
#[inline(always)]
fn inverse_scale(most: f32) -> f32 {
    let inverse = 127.0 / most;
    if most.is_finite() && inverse.is_finite() { inverse } else { 0.0 }
}

/// [`round_row_body`] in sixteen lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
fn round_row_avx512(x: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [[i32; 2]]) {
    use std::arch::x86_64::*;
    each_block(x, quants, scales, sums, |x, quants| {
        // SAFETY: 16 values each.
        let [low, high] = unsafe { [0, 16].map(|at| _mm512_loadu_ps(x.as_ptr().add(at))) };
        let size = _mm512_set1_epi32(0x7fff_ffff);
        let [a, b] = [low, high].map(|x| _mm512_and_si512(_mm512_castps_si512(x), size));
        let most = f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(a, b)));
        let inverse = inverse_scale(most);
        if inverse == 0.0 {
            *quants = [0; BLOCK];
            return (most / 127.0, [0; 2]);
        }
        let inverse = _mm512_set1_ps(inverse);
        let [low, high] = [low, high].map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
        for (at, wide) in [(0, low), (16, high)] {
            // SAFETY: 16 bytes each.
            unsafe { _mm_storeu_si128(quants.as_mut_ptr().add(at).cast(), _mm512_cvtepi32_epi8(wide)) };
        }
        (most / 127.0, [_mm512_reduce_add_epi32(low), _mm512_reduce_add_epi32(high)])
    });
}

/// One block: its integers, their scale and the sums of its halves.
#[inline(always)]
fn round_block(x: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> (f32, [i32; 2]) {
    // As integers, the bits of a NaN are above those of an infinity, and those above every number's. Halves meet halves, so that
    // registers are compared and not values.
    let mut sizes: [u32; BLOCK] = std::array::from_fn(|i| x[i].to_bits() & 0x7fff_ffff);
    for width in [16, 8, 4, 2, 1] {
        for i in 0..width {
            sizes[i] = sizes[i].max(sizes[i + width]);
        }
    }
    let most = f32::from_bits(sizes[0]);
    let inverse = inverse_scale(most);
    if inverse == 0.0 {
        *quants = [0; BLOCK];
        return (most / 127.0, [0; 2]);
    }
    // Adding it leaves the nearest integer, ties to even, in the low bits.
    let wide: [i32; BLOCK] =
        std::array::from_fn(|i| (x[i] * inverse + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i32);
    *quants = std::array::from_fn(|i| wide[i] as i8);
    let mut sums = wide;
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            sums[i] = sums[i].wrapping_add(sums[i + width]);
            sums[16 + i] = sums[16 + i].wrapping_add(sums[16 + i + width]);
        }
    }
    (most / 127.0, [sums[0], sums[16]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{numbers, sizes};

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
        for &(count, width) in sizes(&[(1, 1), (3, 576), (20, 100), (9, 31)], &[(9, 33)]) {
            let x = numbers(5, count * width);
            let mut expected = Int8Rows::new();
            expected.round(Isa::PORTABLE, &x, count, &Pool::new(1));
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
