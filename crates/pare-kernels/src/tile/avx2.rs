//! The microkernel for 8 lanes: a panel is four registers.

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
            (2, 1) => kernel::<TY, FAR, ACROSS, 2, 1>(tile),
            (3, 1) => kernel::<TY, FAR, ACROSS, 3, 1>(tile),
            _ => unreachable!("{} rows times {panels} panels", tile.rows),
        }
    }
}

/// # Safety
/// As [`multiply`], with `MR` rows and `NP` panels.
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn kernel<const TY: u8, const FAR: bool, const ACROSS: bool, const MR: usize, const NP: usize>(tile: Tile) {
    let bytes = if TY == super::F32 { 4 } else { 2 };
    let mut sums = [[[_mm256_setzero_ps(); 4]; NP]; MR];
    if tile.accumulate {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (p, sums) in sums.iter_mut().enumerate() {
                let mut row = [0.0f32; PANEL];
                // SAFETY: the row's first `width` values, as many of them as lie in panel `p`.
                unsafe {
                    let y = tile.y.add(r * tile.y_stride + p * PANEL);
                    std::ptr::copy_nonoverlapping(y, row.as_mut_ptr(), PANEL.min(tile.width - p * PANEL));
                    *sums = [0, 8, 16, 24].map(|lane| _mm256_loadu_ps(row.as_ptr().add(lane)));
                }
            }
        }
    }
    // Constant strides where they are known to be 1 leave one address to keep instead of one for each row.
    let (x_stride, x_step) = if ACROSS { (1, tile.x_step) } else { (tile.x_stride, 1) };
    for k in 0..tile.depth {
        for p in 0..NP {
            let at = tile.panel.wrapping_add(p * tile.panel_stride + k * PANEL * bytes);
            if FAR {
                for line in (0..PANEL * bytes).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
                }
            }
            let mut x = [_mm256_setzero_ps(); MR];
            for (r, x) in x.iter_mut().enumerate() {
                // SAFETY: value `k` of row `r`.
                *x = _mm256_set1_ps(unsafe { *tile.x.add(r * x_stride + k * x_step) });
            }
            for lane in 0..4 {
                // SAFETY: 8 values of row `k` of panel `p`.
                let weights = unsafe { load::<TY>(at.wrapping_add(lane * 8 * bytes)) };
                for r in 0..MR {
                    sums[r][p][lane] = _mm256_fmadd_ps(x[r], weights, sums[r][p][lane]);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (p, sums) in sums.iter().enumerate() {
            let mut row = [0.0f32; PANEL];
            // SAFETY: as for the loads.
            unsafe {
                for (lane, &sum) in sums.iter().enumerate() {
                    _mm256_storeu_ps(row.as_mut_ptr().add(lane * 8), sum);
                }
                let y = tile.y.add(r * tile.y_stride + p * PANEL);
                std::ptr::copy_nonoverlapping(row.as_ptr(), y, PANEL.min(tile.width - p * PANEL));
            }
        }
    }
}

/// 8 stored values as f32.
///
/// # Safety
/// They are readable at `at`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load<const TY: u8>(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        match TY {
            F16 => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
            BF16 => {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
            _ => _mm256_loadu_ps(at.cast()),
        }
    }
}
