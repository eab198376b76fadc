//! The 2:4 kernels for 8 lanes: a panel is four registers.

use super::{HalfBlock, Int8Block, KEPT, Tile};
use crate::tile::tiles;
use std::arch::x86_64::*;

/// Bytes that the loads are fetched ahead of their use.
const AHEAD: usize = 1024;
/// Outputs of one register.
const LANES: usize = 8;

/// # Safety
/// The machine has avx2, fma and f16c; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn half(tile: Tile<HalfBlock, f32>) {
    for (first, rows) in tiles(tile.rows, 6) {
        let tile = rows_of(tile, first, rows);
        // SAFETY: the caller's promise is that of the kernel.
        unsafe {
            match rows {
                1 => half_kernel::<1, 4>(tile),
                2 => half_kernel::<2, 2>(tile),
                3 => half_kernel::<3, 2>(tile),
                4 => half_kernel::<4, 1>(tile),
                5 => half_kernel::<5, 1>(tile),
                _ => half_kernel::<6, 1>(tile),
            }
        }
    }
}

/// # Safety
/// As [`half`].
pub(super) unsafe fn int8(tile: Tile<Int8Block, i8>) {
    for (first, rows) in tiles(tile.rows, 4) {
        let tile = rows_of(tile, first, rows);
        // SAFETY: the caller's promise is that of the kernel.
        unsafe {
            match rows {
                1 => int8_kernel::<1, 2>(tile),
                2 => int8_kernel::<2, 1>(tile),
                3 => int8_kernel::<3, 1>(tile),
                _ => int8_kernel::<4, 1>(tile),
            }
        }
    }
}

fn rows_of<B, X>(tile: Tile<B, X>, first: usize, rows: usize) -> Tile<B, X> {
    Tile {
        x: tile.x.wrapping_add(first * tile.x_stride),
        scales: tile.scales.wrapping_add(first * tile.x_stride / (2 * KEPT)),
        y: tile.y.wrapping_add(first * tile.y_stride),
        rows,
        ..tile
    }
}

/// Fetches `lines` lines that stand [`AHEAD`] of `at`.
#[inline(always)]
fn fetch(at: *const u8, lines: usize) {
    for line in 0..lines {
        // SAFETY: fetching ahead reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * 64).cast()) };
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
/// As [`half`], with `MR` rows; `L` registers of outputs are in work at once.
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn half_kernel<const MR: usize, const L: usize>(tile: Tile<HalfBlock, f32>) {
    for lane in (0..tile.width).step_by(L * LANES) {
        let mut sums = [[_mm256_setzero_ps(); L]; MR];
        if tile.accumulate {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (l, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: row `r` of `y`.
                    *sum = unsafe { load(tile.y.add(r * tile.y_stride), lane + l * LANES, tile.width) };
                }
            }
        }
        for b in 0..tile.blocks {
            let block = tile.panel.wrapping_add(b).cast::<u8>();
            let mut words = [_mm256_setzero_si256(); L];
            for (l, word) in words.iter_mut().enumerate() {
                // SAFETY: words of block `b` of the panel.
                *word = unsafe { _mm256_load_si256(block.add((lane + l * LANES) * 4).cast()) };
            }
            fetch(block, 2);
            for group in 0..KEPT / 2 {
                // Values follow the words.
                let pair = block.wrapping_add(128 + group * 128);
                fetch(pair, 2);
                for l in 0..L {
                    // A permutation looks at the lowest 2 bits of each lane.
                    let first = words[l];
                    let second = _mm256_srli_epi32::<2>(first);
                    words[l] = _mm256_srli_epi32::<4>(first);
                    // SAFETY: 8 values each of rows `2 * group` and the next.
                    let weights = unsafe {
                        [0, 64]
                            .map(|row| _mm256_cvtph_ps(_mm_load_si128(pair.add(row + (lane + l * LANES) * 2).cast())))
                    };
                    for r in 0..MR {
                        // SAFETY: 4 values of row `r`.
                        let x = unsafe { _mm_loadu_ps(tile.x.add(r * tile.x_stride + b * 2 * KEPT + group * 4)) };
                        let x = _mm256_set_m128(x, x);
                        sums[r][l] = _mm256_fmadd_ps(_mm256_permutevar_ps(x, first), weights[0], sums[r][l]);
                        sums[r][l] = _mm256_fmadd_ps(_mm256_permutevar_ps(x, second), weights[1], sums[r][l]);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (l, &sum) in sums.iter().enumerate() {
                // SAFETY: row `r` of `y`.
                unsafe { store(tile.y.add(r * tile.y_stride), lane + l * LANES, tile.width, sum) };
            }
        }
    }
}

/// # Safety
/// As [`int8`], with `MR` rows; `L` registers of outputs are in work at once.
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn int8_kernel<const MR: usize, const L: usize>(tile: Tile<Int8Block, i8>) {
    let (low, fours) = (_mm256_set1_epi32(0x0303_0303), _mm256_set1_epi32(0x0404_0000));
    let ones = _mm256_set1_epi16(1);
    for lane in (0..tile.width).step_by(L * LANES) {
        let mut sums = [[_mm256_setzero_ps(); L]; MR];
        for b in 0..tile.blocks {
            let block = tile.panel.wrapping_add(b).cast::<u8>();
            fetch(block, 11);
            let mut words = [_mm256_setzero_si256(); L];
            for (l, word) in words.iter_mut().enumerate() {
                // SAFETY: words of block `b` of the panel, which follow 64 bytes of scales.
                *word = unsafe { _mm256_load_si256(block.add(64 + (lane + l * LANES) * 4).cast()) };
            }
            let mut dots = [[_mm256_setzero_si256(); L]; MR];
            for j in 0..KEPT / 4 {
                for l in 0..L {
                    // SAFETY: 4 values of 8 outputs; values follow the words.
                    let weights =
                        unsafe { _mm256_load_si256(block.add(192 + j * 128 + (lane + l * LANES) * 4).cast()) };
                    let select = _mm256_or_si256(_mm256_and_si256(words[l], low), fours);
                    words[l] = _mm256_srli_epi32::<2>(words[l]);
                    let sizes = _mm256_abs_epi8(weights);
                    for r in 0..MR {
                        // SAFETY: 8 values of row `r`.
                        let eight = unsafe {
                            tile.x.add(r * tile.x_stride + b * 2 * KEPT + j * 8).cast::<i64>().read_unaligned()
                        };
                        let x = _mm256_shuffle_epi8(_mm256_set1_epi64x(eight), select);
                        // The product is of unsigned and signed bytes. Two of at most 128 * 127 fit 16 bits.
                        let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(x, weights));
                        dots[r][l] = _mm256_add_epi32(dots[r][l], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for l in 0..L {
                // SAFETY: scales of block `b`.
                let scales = unsafe { _mm256_cvtph_ps(_mm_load_si128(block.add((lane + l * LANES) * 2).cast())) };
                for r in 0..MR {
                    // SAFETY: the scale of block `b` of row `r`.
                    let x_scale = _mm256_set1_ps(unsafe { *tile.scales.add(r * tile.x_stride / (2 * KEPT) + b) });
                    let scales = _mm256_mul_ps(scales, x_scale);
                    sums[r][l] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r][l]), scales, sums[r][l]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (l, &sum) in sums.iter().enumerate() {
                // SAFETY: row `r` of `y`.
                unsafe { store(tile.y.add(r * tile.y_stride), lane + l * LANES, tile.width, sum) };
            }
        }
    }
}
