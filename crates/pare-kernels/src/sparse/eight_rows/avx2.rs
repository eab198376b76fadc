//! The kernel for shared columns: a group is one register of 8 lanes.

use super::super::RUN;
use super::{GROUP, Int8Block, Panel, STEP, TOGETHER, Tile, fetch_ahead, value_layout};
use crate::tile::PANEL;
use std::arch::x86_64::*;
use std::mem::offset_of;
use std::ops::Range;

/// # Safety
/// The machine has avx2, fma and f16c; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply<const INT8: bool>(tile: Tile<'_>) {
    // SAFETY: the caller's promise is that of the kernel. Side by side are as many groups as there are registers for.
    unsafe {
        match (tile.rows, tile.panels.len()) {
            (1, 2) => kernel::<INT8, 1, 2, 4>(tile),
            (1, 1) => kernel::<INT8, 1, 1, 4>(tile),
            (2, 1) => kernel::<INT8, 2, 1, 4>(tile),
            (3, 1) => kernel::<INT8, 3, 1, 2>(tile),
            (4, 1) => kernel::<INT8, 4, 1, 2>(tile),
            (5, 1) => kernel::<INT8, 5, 1, 1>(tile),
            (6, 1) => kernel::<INT8, 6, 1, 1>(tile),
            (7, 1) => kernel::<INT8, 7, 1, 1>(tile),
            (8, 1) => kernel::<INT8, 8, 1, 1>(tile),
            (rows, panels) => unreachable!("{rows} rows times {panels} panels"),
        }
    }
}

/// # Safety
/// As [`multiply`], with `MR` rows and `NP` panels; `L` groups of each panel are in work at once.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn kernel<const INT8: bool, const MR: usize, const NP: usize, const L: usize>(tile: Tile<'_>) {
    let panels: &[Panel; NP] = tile.panels.first_chunk().expect("the caller counted the panels");
    let shortest = panels.iter().map(|panel| panel.count).min().unwrap_or(0);
    for first in (0..TOGETHER).step_by(L) {
        let mut sums = [[[_mm256_setzero_ps(); L]; NP]; MR];
        // SAFETY: columns that every panel has.
        unsafe { fold::<INT8, MR, NP, L>(&tile, panels, first, 0..shortest, &mut sums) };
        for (p, panel) in panels.iter().enumerate() {
            if panel.count > shortest {
                let mut one = sums.map(|sums| [sums[p]]);
                // SAFETY: columns that this panel has.
                unsafe { fold::<INT8, MR, 1, L>(&tile, &[*panel], first, shortest..panel.count, &mut one) };
                sums.iter_mut().zip(one).for_each(|(sums, [sum])| sums[p] = sum);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (at, &sum) in sums.as_flattened().iter().enumerate() {
                let start = at / L * PANEL + (first + at % L) * GROUP;
                let width = tile.width.saturating_sub(start).min(GROUP);
                let mut row = [0.0f32; GROUP];
                // SAFETY: the row's outputs of this group, if there are any.
                unsafe {
                    _mm256_storeu_ps(row.as_mut_ptr(), sum);
                    let y = tile.y.wrapping_add(r * tile.y_stride + start);
                    std::ptr::copy_nonoverlapping(row.as_ptr(), y, width);
                }
            }
        }
    }
}

/// Adds the kept columns `range` of `L` groups from `first` of each panel to their sums.
///
/// # Safety
/// As [`multiply`]; every panel has the columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop)]
unsafe fn fold<const INT8: bool, const MR: usize, const NP: usize, const L: usize>(
    tile: &Tile<'_>,
    panels: &[Panel; NP],
    first: usize,
    range: Range<usize>,
    sums: &mut [[[__m256; L]; NP]; MR],
) {
    let (size, offset, bytes) = value_layout::<INT8>();
    let mut k = range.start;
    while k < range.end {
        let b = k / RUN;
        let end = range.end.min((b + 1) * RUN);
        let blocks: [_; NP] = std::array::from_fn(|p| panels[p].blocks.wrapping_add(b * size));
        let mut scales = [[_mm256_setzero_ps(); L]; NP];
        for (scales, block) in scales.iter_mut().zip(blocks) {
            for (l, scale) in scales.iter_mut().enumerate() {
                if INT8 {
                    let at = offset_of!(Int8Block, scales) + (first + l) * 2 * GROUP;
                    // SAFETY: the scales of this block.
                    *scale = _mm256_cvtph_ps(unsafe { _mm_loadu_si128(block.add(at).cast()) });
                }
            }
        }
        while k < end {
            let (place, stop) = (k % RUN, end.min(k - k % STEP + STEP));
            for panel in panels {
                fetch_ahead::<INT8>(panel, b, place);
            }
            for place in place..place + stop - k {
                for p in 0..NP {
                    for l in 0..L {
                        // SAFETY: 8 values of a kept column, and its number.
                        let (weights, column) = unsafe {
                            let at = blocks[p].add(offset + place * bytes + (first + l) * bytes / TOGETHER);
                            let weights = if INT8 {
                                let wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()));
                                _mm256_mul_ps(_mm256_cvtepi32_ps(wide), scales[p][l])
                            } else {
                                _mm256_cvtph_ps(_mm_loadu_si128(at.cast()))
                            };
                            let column = blocks[p].cast::<u16>().add(place * TOGETHER + first + l);
                            (weights, usize::from(*column))
                        };
                        for r in 0..MR {
                            // SAFETY: the column of row `r`.
                            let x = _mm256_set1_ps(unsafe { *tile.x.add(r * tile.x_stride + column) });
                            sums[r][p][l] = _mm256_fmadd_ps(x, weights, sums[r][p][l]);
                        }
                    }
                }
            }
            k = stop;
        }
    }
}
