//! The 2:4 kernels for 16 lanes: a panel is two registers.

use super::{HalfBlock, Int8Block, KEPT, Tile, next_block};
use crate::tile::PANEL;
use std::arch::x86_64::*;

/// # Safety
/// The machine has avx512 as [`crate::isa::Level::Avx512`] says; every element that the tile names is valid and, in `y`, not used
/// by anyone else.
pub(super) unsafe fn half(tile: Tile<HalfBlock, f32>) {
    // SAFETY: the caller's promise is that of the kernel.
    unsafe {
        match (tile.rows, tile.panels) {
            (1, 1) => half_kernel::<1, 1>(tile),
            (1, 2) => half_kernel::<1, 2>(tile),
            (1, 3) => half_kernel::<1, 3>(tile),
            (1, 4) => half_kernel::<1, 4>(tile),
            (2, 1) => half_kernel::<2, 1>(tile),
            (2, 2) => half_kernel::<2, 2>(tile),
            (3, 1) => half_kernel::<3, 1>(tile),
            (4, 1) => half_kernel::<4, 1>(tile),
            (5, 1) => half_kernel::<5, 1>(tile),
            (6, 1) => half_kernel::<6, 1>(tile),
            (7, 1) => half_kernel::<7, 1>(tile),
            (8, 1) => half_kernel::<8, 1>(tile),
            (rows, panels) => unreachable!("{rows} rows times {panels} panels"),
        }
    }
}

/// # Safety
/// As [`half`], and the machine has avx512vnni.
pub(super) unsafe fn int8(tile: Tile<Int8Block, i8>) {
    // More rows than 4 would leave no registers for the sums of integers.
    for (first, rows) in crate::tile::tiles(tile.rows, 4) {
        let tile = tile.rows_of(first, rows);
        // SAFETY: rows of the tile.
        unsafe {
            match (rows, tile.panels) {
                (1, 1) => int8_kernel::<1, 1>(tile),
                (1, 2) => int8_kernel::<1, 2>(tile),
                (1, 3) => int8_kernel::<1, 3>(tile),
                (1, 4) => int8_kernel::<1, 4>(tile),
                (2, 1) => int8_kernel::<2, 1>(tile),
                (2, 2) => int8_kernel::<2, 2>(tile),
                (3, 1) => int8_kernel::<3, 1>(tile),
                (4, 1) => int8_kernel::<4, 1>(tile),
                (rows, panels) => unreachable!("{rows} rows times {panels} panels"),
            }
        }
    }
}

/// The lanes of each register that are wanted.
fn masks<const NP: usize>(width: usize) -> [[__mmask16; 2]; NP] {
    let mask = |lane: usize| ((1u32 << width.saturating_sub(lane).min(16)) - 1) as __mmask16;
    std::array::from_fn(|p| [mask(p * PANEL), mask(p * PANEL + 16)])
}

/// # Safety
/// As [`half`], with `MR` rows and `NP` panels.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn half_kernel<const MR: usize, const NP: usize>(tile: Tile<HalfBlock, f32>) {
    let mut sums = [[[_mm512_setzero_ps(); 2]; NP]; MR];
    if tile.accumulate {
        // SAFETY: rows of `y`.
        sums = unsafe { load_sums::<MR, NP>(tile.y, tile.y_stride, tile.width) };
    }
    for b in 0..tile.blocks {
        let mut words = [[_mm512_setzero_si512(); 2]; NP];
        let (mut pairs, mut ahead) = ([std::ptr::null::<u8>(); NP], [std::ptr::null::<u8>(); NP]);
        for p in 0..NP {
            let block = tile.panel.wrapping_add(p * tile.panel_stride + b).cast::<u8>();
            // SAFETY: words of block `b` of panel `p`.
            words[p] = unsafe { [0, 64].map(|at| _mm512_load_si512(block.add(at).cast())) };
            // Values follow the words.
            pairs[p] = block.wrapping_add(128);
            ahead[p] = next_block(&tile, NP, p, b);
            fetch(ahead[p], 2);
        }
        for group in 0..KEPT / 2 {
            for p in 0..NP {
                let pair = pairs[p].wrapping_add(group * 128);
                fetch(ahead[p].wrapping_add(128 + group * 128), 2);
                for h in 0..2 {
                    // A permutation looks at the lowest 2 bits of each lane.
                    let first = words[p][h];
                    let second = _mm512_srli_epi32::<2>(first);
                    words[p][h] = _mm512_srli_epi32::<4>(first);
                    // SAFETY: 16 values each of rows `2 * group` and the next.
                    let weights =
                        unsafe { [0, 64].map(|row| _mm512_cvtph_ps(_mm256_load_si256(pair.add(row + h * 32).cast()))) };
                    for r in 0..MR {
                        // SAFETY: 4 values of row `r`.
                        let x = unsafe { _mm_loadu_ps(tile.x.add(r * tile.x_stride + b * 2 * KEPT + group * 4)) };
                        let x = _mm512_broadcast_f32x4(x);
                        let sum = _mm512_fmadd_ps(_mm512_permutevar_ps(x, first), weights[0], sums[r][p][h]);
                        sums[r][p][h] = _mm512_fmadd_ps(_mm512_permutevar_ps(x, second), weights[1], sum);
                    }
                }
            }
        }
    }
    // SAFETY: rows of `y`.
    unsafe { store_sums(tile.y, tile.y_stride, tile.width, &sums) };
}

/// # Safety
/// `y` has `MR` rows of `width` values.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_sums<const MR: usize, const NP: usize>(
    y: *const f32,
    y_stride: usize,
    width: usize,
) -> [[[__m512; 2]; NP]; MR] {
    let masks = masks::<NP>(width);
    let mut sums = [[[_mm512_setzero_ps(); 2]; NP]; MR];
    for (r, sums) in sums.iter_mut().enumerate() {
        for (chunk, (sum, &mask)) in sums.as_flattened_mut().iter_mut().zip(masks.as_flattened()).enumerate() {
            // SAFETY: the masks leave only the row's first `width` values.
            *sum = unsafe { _mm512_maskz_loadu_ps(mask, y.wrapping_add(r * y_stride + chunk * 16)) };
        }
    }
    sums
}

/// # Safety
/// `y` has `MR` rows of `width` values that nobody else uses.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_sums<const MR: usize, const NP: usize>(
    y: *mut f32,
    y_stride: usize,
    width: usize,
    sums: &[[[__m512; 2]; NP]; MR],
) {
    let masks = masks::<NP>(width);
    for (r, sums) in sums.iter().enumerate() {
        for (chunk, (&sum, &mask)) in sums.as_flattened().iter().zip(masks.as_flattened()).enumerate() {
            // SAFETY: the masks leave only the row's first `width` values.
            unsafe { _mm512_mask_storeu_ps(y.wrapping_add(r * y_stride + chunk * 16), mask, sum) };
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

/// # Safety
/// As [`int8`], with `MR` rows and `NP` panels.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn int8_kernel<const MR: usize, const NP: usize>(tile: Tile<Int8Block, i8>) {
    let (low, fours) = (_mm512_set1_epi32(0x0303_0303), _mm512_set1_epi32(0x0404_0000));
    let middle = _mm512_set1_epi8(i8::MIN);
    let mut sums = [[[_mm512_setzero_ps(); 2]; NP]; MR];
    for b in 0..tile.blocks {
        for p in 0..NP {
            let block = tile.panel.wrapping_add(p * tile.panel_stride + b).cast::<u8>();
            // SAFETY: scales, words and values of block `b` of panel `p`, in this order.
            let scales = unsafe { [0, 32].map(|at| _mm512_cvtph_ps(_mm256_load_si256(block.add(at).cast()))) };
            // SAFETY: as above.
            let mut words = unsafe { [64, 128].map(|at| _mm512_load_si512(block.add(at).cast())) };
            fetch(next_block(&tile, NP, p, b), 11);
            let mut dots = [[_mm512_setzero_si512(); 2]; MR];
            let mut over = [_mm512_setzero_si512(); 2];
            for j in 0..KEPT / 4 {
                let mut x = [_mm512_setzero_si512(); MR];
                for (r, x) in x.iter_mut().enumerate() {
                    // SAFETY: 8 values of row `r`.
                    let eight =
                        unsafe { tile.x.add(r * tile.x_stride + b * 2 * KEPT + j * 8).cast::<i64>().read_unaligned() };
                    // The product is of unsigned and signed bytes: 128 is added here and its share taken away at the end. As a number
                    // and not as a register: LLVM 22 rewrites that for ever where the target has avx512vbmi.
                    *x = _mm512_set1_epi64(eight ^ i64::from_ne_bytes([0x80; 8]));
                }
                for h in 0..2 {
                    // SAFETY: 4 values of 16 outputs.
                    let weights = unsafe { _mm512_load_si512(block.add(192 + j * 128 + h * 64).cast()) };
                    // (words & low) | fours
                    let select = _mm512_ternarylogic_epi32::<0xea>(words[h], low, fours);
                    words[h] = _mm512_srli_epi32::<2>(words[h]);
                    over[h] = _mm512_dpbusd_epi32(over[h], middle, weights);
                    for r in 0..MR {
                        dots[r][h] = _mm512_dpbusd_epi32(dots[r][h], _mm512_shuffle_epi8(x[r], select), weights);
                    }
                }
            }
            for r in 0..MR {
                // SAFETY: the scale of block `b` of row `r`.
                let x_scale = _mm512_set1_ps(unsafe { *tile.scales.add(r * tile.x_stride / (2 * KEPT) + b) });
                for h in 0..2 {
                    let dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(dots[r][h], over[h]));
                    sums[r][p][h] = _mm512_fmadd_ps(dot, _mm512_mul_ps(scales[h], x_scale), sums[r][p][h]);
                }
            }
        }
    }
    // SAFETY: rows of `y`.
    unsafe { store_sums(tile.y, tile.y_stride, tile.width, &sums) };
}
