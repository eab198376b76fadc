//! The microkernel for 16 lanes: a panel is two registers.

use super::{BF16, F16, PANEL, Tile};
use std::arch::x86_64::*;

/// Bytes that the loads are fetched ahead of their use.
const AHEAD: usize = 1024;

/// # Safety
/// The machine has the features; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply<const TY: u8, const FAR: bool, const ACROSS: bool>(panels: usize, tile: Tile) {
    // SAFETY: the caller's promise is that of the kernel.
    unsafe {
        match (tile.rows, panels) {
            (1, 1) => kernel::<TY, FAR, ACROSS, 1, 1>(tile),
            (1, 2) => kernel::<TY, FAR, ACROSS, 1, 2>(tile),
            (1, 3) => kernel::<TY, FAR, ACROSS, 1, 3>(tile),
            (1, 4) => kernel::<TY, FAR, ACROSS, 1, 4>(tile),
            (2, 1) => kernel::<TY, FAR, ACROSS, 2, 1>(tile),
            (2, 2) => kernel::<TY, FAR, ACROSS, 2, 2>(tile),
            (3, 1) => kernel::<TY, FAR, ACROSS, 3, 1>(tile),
            (3, 2) => kernel::<TY, FAR, ACROSS, 3, 2>(tile),
            (4, 1) => kernel::<TY, FAR, ACROSS, 4, 1>(tile),
            (5, 1) => kernel::<TY, FAR, ACROSS, 5, 1>(tile),
            (6, 1) => kernel::<TY, FAR, ACROSS, 6, 1>(tile),
            (7, 1) => kernel::<TY, FAR, ACROSS, 7, 1>(tile),
            (8, 1) => kernel::<TY, FAR, ACROSS, 8, 1>(tile),
            (9, 1) => kernel::<TY, FAR, ACROSS, 9, 1>(tile),
            (10, 1) => kernel::<TY, FAR, ACROSS, 10, 1>(tile),
            (11, 1) => kernel::<TY, FAR, ACROSS, 11, 1>(tile),
            (12, 1) => kernel::<TY, FAR, ACROSS, 12, 1>(tile),
            _ => unreachable!("{} rows times {panels} panels", tile.rows),
        }
    }
}

/// # Safety
/// As [`multiply`], with `MR` rows and `NP` panels.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn kernel<const TY: u8, const FAR: bool, const ACROSS: bool, const MR: usize, const NP: usize>(tile: Tile) {
    let step = PANEL * if TY == super::F32 { 4 } else { 2 };
    let mut masks = [[0 as __mmask16; 2]; NP];
    for (chunk, mask) in masks.as_flattened_mut().iter_mut().enumerate() {
        let lanes = tile.width.saturating_sub(chunk * 16).min(16);
        *mask = ((1u32 << lanes) - 1) as __mmask16;
    }
    let mut sums = [[[_mm512_setzero_ps(); 2]; NP]; MR];
    if tile.accumulate {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (p, sums) in sums.iter_mut().enumerate() {
                let y = tile.y.wrapping_add(r * tile.y_stride + p * PANEL);
                // SAFETY: the masks leave only the row's first `width` values.
                unsafe {
                    sums[0] = _mm512_maskz_loadu_ps(masks[p][0], y);
                    sums[1] = _mm512_maskz_loadu_ps(masks[p][1], y.wrapping_add(16));
                }
            }
        }
    }
    // Constant strides where they are known to be 1 leave one address to keep instead of one for each row.
    let (x_stride, x_step) = if ACROSS { (1, tile.x_step) } else { (tile.x_stride, 1) };
    for k in 0..tile.depth {
        for p in 0..NP {
            let at = tile.panel.wrapping_add(p * tile.panel_stride + k * step);
            if FAR {
                for line in (0..step).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
                }
            }
            // SAFETY: row `k` of panel `p`.
            let [low, high] = unsafe { load::<TY>(at) };
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: value `k` of row `r`.
                let x = _mm512_set1_ps(unsafe { *tile.x.add(r * x_stride + k * x_step) });
                sums[p][0] = _mm512_fmadd_ps(x, low, sums[p][0]);
                sums[p][1] = _mm512_fmadd_ps(x, high, sums[p][1]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (p, sums) in sums.iter().enumerate() {
            let y = tile.y.wrapping_add(r * tile.y_stride + p * PANEL);
            // SAFETY: the masks leave only the row's first `width` values.
            unsafe {
                _mm512_mask_storeu_ps(y, masks[p][0], sums[0]);
                _mm512_mask_storeu_ps(y.wrapping_add(16), masks[p][1], sums[1]);
            }
        }
    }
}

/// 32 stored values as f32.
///
/// # Safety
/// They are readable at `at`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,f16c")]
#[inline]
unsafe fn load<const TY: u8>(at: *const u8) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        match TY {
            F16 => [0, 32].map(|half| _mm512_cvtph_ps(_mm256_loadu_si256(at.add(half).cast()))),
            BF16 => [0, 32].map(|half| {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.add(half).cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            }),
            _ => [0, 64].map(|half| _mm512_loadu_ps(at.add(half).cast())),
        }
    }
}
