//! The 2:4 kernels for 8 lanes: a panel is four registers.

use super::{HalfBlock, Int8Block, KEPT, Tile, next_block};
use crate::tile::{PANEL, tiles};
use std::arch::x86_64::*;

/// Outputs of one register.
const LANES: usize = 8;

/// # Safety
/// The machine has avx2, fma and f16c; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn half(tile: Tile<HalfBlock, f32>) {
    for (first, rows) in tiles(tile.rows, 6) {
        let tile = tile.rows_of(first, rows);
        // SAFETY: the caller's promise is that of the kernel.
        unsafe {
            match (rows, tile.panels) {
                (1, 1) => half_kernel::<1, 1, 4>(tile),
                (1, 2) => half_kernel::<1, 2, 4>(tile),
                (2, 1) => half_kernel::<2, 1, 2>(tile),
                (3, 1) => half_kernel::<3, 1, 2>(tile),
                (4, 1) => half_kernel::<4, 1, 1>(tile),
                (5, 1) => half_kernel::<5, 1, 1>(tile),
                (6, 1) => half_kernel::<6, 1, 1>(tile),
                (rows, panels) => unreachable!("{rows} rows times {panels} panels"),
            }
        }
    }
}

/// # Safety
/// As [`half`].
pub(super) unsafe fn int8(tile: Tile<Int8Block, i8>) {
    for (first, rows) in tiles(tile.rows, 4) {
        let tile = tile.rows_of(first, rows);
        // SAFETY: the caller's promise is that of the kernel.
        unsafe {
            match (rows, tile.panels) {
                (1, 1) => int8_kernel::<1, 1, 4>(tile),
                (1, 2) => int8_kernel::<1, 2, 4>(tile),
                (2, 1) => int8_kernel::<2, 1, 1>(tile),
                (3, 1) => int8_kernel::<3, 1, 1>(tile),
                (4, 1) => int8_kernel::<4, 1, 1>(tile),
                (rows, panels) => unreachable!("{rows} rows times {panels} panels"),
            }
        }
    }
}

/// Fetches `lines` lines from `at`.
#[inline(always)]
fn fetch(at: *const u8, lines: usize) {
    for line in 0..lines {
        // SAFETY: fetching reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line * 64).cast()) };
    }
}

/// Lanes `lane .. lane + 8` of the first `width` values of `y`, the others zero.
///
/// # Safety
/// `y` has `width` values.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load(y: *const f32, lane: usize, width: usize) -> __m256 {
    let mut values = [0.0f32; LANES];
    // SAFETY: what is left of the `width` values.
    unsafe {
        std::ptr::copy_nonoverlapping(
            y.add(lane.min(width)),
            values.as_mut_ptr(),
            width.saturating_sub(lane).min(LANES),
        );
        _mm256_loadu_ps(values.as_ptr())
    }
}

/// The reverse of [`load`].
///
/// # Safety
/// `y` has `width` values that nobody else uses.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn store(y: *mut f32, lane: usize, width: usize, sum: __m256) {
    let mut values = [0.0f32; LANES];
    // SAFETY: what is left of the `width` values.
    unsafe {
        _mm256_storeu_ps(values.as_mut_ptr(), sum);
        std::ptr::copy_nonoverlapping(values.as_ptr(), y.add(lane.min(width)), width.saturating_sub(lane).min(LANES));
    }
}

/// # Safety
/// As [`half`], with `MR` rows and `NP` panels; `L` registers of each panel are in work at once.
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn half_kernel<const MR: usize, const NP: usize, const L: usize>(tile: Tile<HalfBlock, f32>) {
    for lane in (0..PANEL).step_by(L * LANES) {
        let mut sums = [[[_mm256_setzero_ps(); L]; NP]; MR];
        if tile.accumulate {
            // SAFETY: rows of `y`.
            unsafe { each_sum(&tile, lane, &mut sums, |y, lane, width, sum| *sum = load(y, lane, width)) };
        }
        for b in 0..tile.blocks {
            let blocks: [_; NP] =
                std::array::from_fn(|p| tile.panel.wrapping_add(p * tile.panel_stride + b).cast::<u8>());
            let ahead: [_; NP] = std::array::from_fn(|p| next_block(&tile, NP, p, b));
            let mut shift = _mm256_setzero_si256();
            ahead.iter().for_each(|&ahead| fetch(ahead, 2));
            for group in 0..KEPT / 2 {
                for p in 0..NP {
                    // Values follow the words.
                    let pair = blocks[p].wrapping_add(128 + group * 128);
                    fetch(ahead[p].wrapping_add(128 + group * 128), 2);
                    for l in 0..L {
                        // SAFETY: words, and 8 values each of rows `2 * group` and the next.
                        let (word, weights) = unsafe {
                            let at = lane + l * LANES;
                            let weights =
                                [0, 64].map(|row| _mm256_cvtph_ps(_mm_load_si128(pair.add(row + at * 2).cast())));
                            (_mm256_load_si256(blocks[p].add(at * 4).cast()), weights)
                        };
                        // A permutation looks at the lowest 2 bits of each lane.
                        let first = _mm256_srlv_epi32(word, shift);
                        let second = _mm256_srli_epi32::<2>(first);
                        for r in 0..MR {
                            // SAFETY: 4 values of row `r`.
                            let x = unsafe { _mm_loadu_ps(tile.x.add(r * tile.x_stride + b * 2 * KEPT + group * 4)) };
                            let x = _mm256_set_m128(x, x);
                            let sum = _mm256_fmadd_ps(_mm256_permutevar_ps(x, first), weights[0], sums[r][p][l]);
                            sums[r][p][l] = _mm256_fmadd_ps(_mm256_permutevar_ps(x, second), weights[1], sum);
                        }
                    }
                }
                shift = _mm256_add_epi32(shift, _mm256_set1_epi32(4));
            }
        }
        // SAFETY: rows of `y`.
        unsafe { each_sum(&tile, lane, &mut sums, |y, lane, width, sum| store(y, lane, width, *sum)) };
    }
}

/// Calls `work(row of y, lane of the tile, width, sum)`.
///
/// # Safety
/// The tile has `MR` rows and `NP` panels.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn each_sum<B, X, const MR: usize, const NP: usize, const L: usize>(
    tile: &Tile<B, X>,
    lane: usize,
    sums: &mut [[[__m256; L]; NP]; MR],
    work: impl Fn(*mut f32, usize, usize, &mut __m256),
) {
    for (r, sums) in sums.iter_mut().enumerate() {
        for (p, sums) in sums.iter_mut().enumerate() {
            for (l, sum) in sums.iter_mut().enumerate() {
                work(tile.y.wrapping_add(r * tile.y_stride), p * PANEL + lane + l * LANES, tile.width, sum);
            }
        }
    }
}

/// # Safety
/// As [`int8`], with `MR` rows and `NP` panels; `L` registers of each panel are in work at once.
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn int8_kernel<const MR: usize, const NP: usize, const L: usize>(tile: Tile<Int8Block, i8>) {
    let (low, fours) = (_mm256_set1_epi32(0x0303_0303), _mm256_set1_epi32(0x0404_0000));
    let ones = _mm256_set1_epi16(1);
    for lane in (0..PANEL).step_by(L * LANES) {
        let mut sums = [[[_mm256_setzero_ps(); L]; NP]; MR];
        for b in 0..tile.blocks {
            for p in 0..NP {
                let block = tile.panel.wrapping_add(p * tile.panel_stride + b).cast::<u8>();
                fetch(next_block(&tile, NP, p, b), 11);
                for l in 0..L {
                    let at = lane + l * LANES;
                    // SAFETY: words of block `b` of the panel, which follow 64 bytes of scales.
                    let mut word = unsafe { _mm256_load_si256(block.add(64 + at * 4).cast()) };
                    let mut dots = [_mm256_setzero_si256(); MR];
                    for j in 0..KEPT / 4 {
                        // SAFETY: 4 values of 8 outputs; values follow the words.
                        let weights = unsafe { _mm256_load_si256(block.add(192 + j * 128 + at * 4).cast()) };
                        let select = _mm256_or_si256(_mm256_and_si256(word, low), fours);
                        word = _mm256_srli_epi32::<2>(word);
                        let sizes = _mm256_abs_epi8(weights);
                        for r in 0..MR {
                            // SAFETY: 8 values of row `r`.
                            let eight = unsafe {
                                tile.x.add(r * tile.x_stride + b * 2 * KEPT + j * 8).cast::<i64>().read_unaligned()
                            };
                            let x = _mm256_shuffle_epi8(_mm256_set1_epi64x(eight), select);
                            // The product is of unsigned and signed bytes. Two of at most 128 * 127 fit 16 bits.
                            let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(x, weights));
                            dots[r] = _mm256_add_epi32(dots[r], _mm256_madd_epi16(pairs, ones));
                        }
                    }
                    // SAFETY: scales of block `b`.
                    let scales = unsafe { _mm256_cvtph_ps(_mm_load_si128(block.add(at * 2).cast())) };
                    for r in 0..MR {
                        // SAFETY: the scale of block `b` of row `r`.
                        let x_scale = _mm256_set1_ps(unsafe { *tile.scales.add(r * tile.x_stride / (2 * KEPT) + b) });
                        let scales = _mm256_mul_ps(scales, x_scale);
                        sums[r][p][l] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r]), scales, sums[r][p][l]);
                    }
                }
            }
        }
        // SAFETY: rows of `y`.
        unsafe { each_sum(&tile, lane, &mut sums, |y, lane, width, sum| store(y, lane, width, *sum)) };
    }
}
