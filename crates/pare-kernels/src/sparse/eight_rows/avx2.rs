//! The kernel for shared columns: a group is one register of 8 lanes.

use super::super::RUN;
use super::{GROUP, Group, TOGETHER, Tile};
use std::arch::x86_64::*;

/// Kept columns that values are fetched ahead of their use: 1 KB of f16.
const FAR: usize = 64;
/// Kept columns between two fetches: 4 of f16 are a line.
const STEP: usize = 4;

/// # Safety
/// The machine has avx2, fma and f16c; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply<const INT8: bool>(tile: Tile<'_>) {
    // SAFETY: the caller's promise is that of the kernel. Side by side are as many groups as there are registers for.
    unsafe {
        match tile.rows {
            1 => kernel::<INT8, 1, 4>(tile),
            2 => kernel::<INT8, 2, 4>(tile),
            3 => kernel::<INT8, 3, 2>(tile),
            4 => kernel::<INT8, 4, 2>(tile),
            5 => kernel::<INT8, 5, 1>(tile),
            6 => kernel::<INT8, 6, 1>(tile),
            7 => kernel::<INT8, 7, 1>(tile),
            8 => kernel::<INT8, 8, 1>(tile),
            rows => unreachable!("{rows} rows"),
        }
    }
}

/// # Safety
/// As [`multiply`], with `MR` rows; `NG` groups are in work at once.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn kernel<const INT8: bool, const MR: usize, const NG: usize>(tile: Tile<'_>) {
    let (together, _) = tile.groups.as_chunks::<NG>();
    debug_assert!(tile.groups.len() == TOGETHER && TOGETHER.is_multiple_of(NG));
    for (first, groups) in together.iter().enumerate() {
        let mut sums = [[_mm256_setzero_ps(); NG]; MR];
        let shortest = groups.iter().map(|group| group.count).min().unwrap_or(0);
        // SAFETY: columns that every group has.
        unsafe { fold::<INT8, MR, NG>(&tile, groups, 0..shortest, &mut sums) };
        for (g, group) in groups.iter().enumerate() {
            if group.count > shortest {
                let mut one = sums.map(|sums| [sums[g]]);
                // SAFETY: columns that this group has.
                unsafe { fold::<INT8, MR, 1>(&tile, &[*group], shortest..group.count, &mut one) };
                sums.iter_mut().zip(one).for_each(|(sums, [sum])| sums[g] = sum);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (g, &sum) in sums.iter().enumerate() {
                let start = (first * NG + g) * GROUP;
                let width = tile.width.saturating_sub(start).min(GROUP);
                if width > 0 {
                    let mut row = [0.0f32; GROUP];
                    // SAFETY: the row's outputs of this group.
                    unsafe {
                        _mm256_storeu_ps(row.as_mut_ptr(), sum);
                        let y = tile.y.add(r * tile.y_stride + start);
                        std::ptr::copy_nonoverlapping(row.as_ptr(), y, width);
                    }
                }
            }
        }
    }
}

/// Adds the kept columns `range` of each group to its sums.
///
/// # Safety
/// As [`multiply`]; every group has the columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop)]
unsafe fn fold<const INT8: bool, const MR: usize, const NG: usize>(
    tile: &Tile<'_>,
    groups: &[Group; NG],
    range: std::ops::Range<usize>,
    sums: &mut [[__m256; NG]; MR],
) {
    let bytes = GROUP * if INT8 { 1 } else { 2 };
    let mut k = range.start;
    while k < range.end {
        let run = k / RUN;
        let end = range.end.min((run + 1) * RUN);
        let mut scales = [_mm256_setzero_ps(); NG];
        let mut ahead = [std::ptr::null::<u8>(); NG];
        for g in 0..NG {
            if INT8 {
                // SAFETY: the scales of this run.
                let eight = unsafe { _mm_loadu_si128(groups[g].scales.add(run * 2 * GROUP).cast()) };
                scales[g] = _mm256_cvtph_ps(eight);
            }
            // Groups are read side by side, so what comes after one is not what follows it in memory.
            let Group { columns, values, count, next, .. } = groups[g];
            let columns = if k + FAR < count { columns } else { next.0.wrapping_sub(count) };
            _mm_prefetch::<_MM_HINT_T0>(columns.wrapping_add(k + FAR).cast());
            ahead[g] = if k + FAR < count { values } else { next.1.wrapping_sub(count * bytes) };
            ahead[g] = ahead[g].wrapping_add(FAR * bytes);
        }
        while k < end {
            let stop = end.min(k + STEP);
            for g in 0..NG {
                _mm_prefetch::<_MM_HINT_T0>(ahead[g].wrapping_add(k * bytes).cast());
            }
            for k in k..stop {
                for g in 0..NG {
                    // SAFETY: 8 values of kept column `k`, and its number.
                    let (weights, column) = unsafe {
                        let at = groups[g].values.add(k * bytes);
                        let weights = if INT8 {
                            let wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()));
                            _mm256_mul_ps(_mm256_cvtepi32_ps(wide), scales[g])
                        } else {
                            _mm256_cvtph_ps(_mm_loadu_si128(at.cast()))
                        };
                        (weights, usize::from(*groups[g].columns.add(k)))
                    };
                    for r in 0..MR {
                        // SAFETY: the column of row `r`.
                        let x = _mm256_set1_ps(unsafe { *tile.x.add(r * tile.x_stride + column) });
                        sums[r][g] = _mm256_fmadd_ps(x, weights, sums[r][g]);
                    }
                }
            }
            k = stop;
        }
    }
}
