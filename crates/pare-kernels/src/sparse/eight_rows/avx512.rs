//! The kernel for shared columns and one row: two groups are one register of 16 lanes, so that four panels find room.

use super::super::RUN;
use super::{Int8Block, MOST_PANELS, Panel, STEP, TOGETHER, Tile, fetch_ahead, value_layout};
use std::arch::x86_64::*;
use std::mem::offset_of;
use std::ops::Range;

/// # Safety
/// The machine has avx512 as [`crate::isa::Level::Avx512`] says; every element that the tile names is valid and, in `y`, not used
/// by anyone else. The tile has one row.
pub(super) unsafe fn multiply<const INT8: bool>(tile: Tile<'_>) {
    debug_assert!(tile.rows == 1 && tile.panels.len() <= MOST_PANELS);
    // SAFETY: the caller's promise is that of the kernel.
    unsafe {
        match tile.panels.len() {
            1 => kernel::<INT8, 1>(tile),
            2 => kernel::<INT8, 2>(tile),
            3 => kernel::<INT8, 3>(tile),
            4 => kernel::<INT8, 4>(tile),
            panels => unreachable!("{panels} panels"),
        }
    }
}

/// # Safety
/// As [`multiply`], with `NP` panels.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,f16c")]
unsafe fn kernel<const INT8: bool, const NP: usize>(tile: Tile<'_>) {
    let panels: &[Panel; NP] = tile.panels.first_chunk().expect("the caller counted the panels");
    let shortest = panels.iter().map(|panel| panel.count).min().unwrap_or(0);
    let mut sums = [[_mm512_setzero_ps(); 2]; NP];
    // SAFETY: columns that every panel has.
    unsafe { fold::<INT8, NP>(tile.x, panels, 0..shortest, &mut sums) };
    for (panel, sums) in panels.iter().zip(&mut sums) {
        let mut one = [*sums];
        // SAFETY: columns that this panel has.
        unsafe { fold::<INT8, 1>(tile.x, &[*panel], shortest..panel.count, &mut one) };
        [*sums] = one;
    }
    for (chunk, &sum) in sums.as_flattened().iter().enumerate() {
        let lanes = tile.width.saturating_sub(chunk * 16).min(16);
        // SAFETY: the mask leaves only the row's first `width` values.
        unsafe { _mm512_mask_storeu_ps(tile.y.wrapping_add(chunk * 16), ((1u32 << lanes) - 1) as __mmask16, sum) };
    }
}

/// Adds the kept columns `range` of each panel to its sums.
///
/// # Safety
/// As [`multiply`]; every panel has the columns.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop)]
unsafe fn fold<const INT8: bool, const NP: usize>(
    x: *const f32,
    panels: &[Panel; NP],
    range: Range<usize>,
    sums: &mut [[__m512; 2]; NP],
) {
    let (size, offset, bytes) = value_layout::<INT8>();
    let mut k = range.start;
    while k < range.end {
        let b = k / RUN;
        let end = range.end.min((b + 1) * RUN);
        let blocks: [_; NP] = std::array::from_fn(|p| panels[p].blocks.wrapping_add(b * size));
        let mut scales = [[_mm512_setzero_ps(); 2]; NP];
        for (scales, block) in scales.iter_mut().zip(blocks) {
            if INT8 {
                let at = block.wrapping_add(offset_of!(Int8Block, scales));
                // SAFETY: the scales of this block.
                *scales = unsafe { [0, 32].map(|h| _mm512_cvtph_ps(_mm256_loadu_si256(at.add(h).cast()))) };
            }
        }
        while k < end {
            let (place, stop) = (k % RUN, end.min(k - k % STEP + STEP));
            for panel in panels {
                fetch_ahead::<INT8>(panel, b, place);
            }
            for place in place..place + stop - k {
                for p in 0..NP {
                    let columns = blocks[p].wrapping_add(place * 2 * TOGETHER).cast::<u16>();
                    let values = blocks[p].wrapping_add(offset + place * bytes);
                    for h in 0..2 {
                        // SAFETY: 16 values of a kept column of two groups, its numbers, and those columns of `x`.
                        unsafe {
                            let weights = if INT8 {
                                let wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(values.add(h * 16).cast()));
                                _mm512_mul_ps(_mm512_cvtepi32_ps(wide), scales[p][h])
                            } else {
                                _mm512_cvtph_ps(_mm256_loadu_si256(values.add(h * 32).cast()))
                            };
                            let [low, high] = [0, 1].map(|g| *x.add(usize::from(*columns.add(2 * h + g))));
                            let low = _mm512_set1_ps(low);
                            let x = _mm512_mask_broadcastss_ps(low, 0xff00, _mm_set_ss(high));
                            sums[p][h] = _mm512_fmadd_ps(x, weights, sums[p][h]);
                        }
                    }
                }
            }
            k = stop;
        }
    }
}
