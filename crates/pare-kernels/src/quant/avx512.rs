//! The microkernel for 16 lanes with products of 8-bit integers: a panel is two registers.

use super::layout::{self, PanelLayout, for_layout};
use super::{BLOCK, PANEL, Tile};
use std::arch::x86_64::*;

/// Bytes that the loads are fetched ahead of their use.
const AHEAD: usize = 2048;

/// # Safety
/// The machine has the features; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply(layout: PanelLayout, tile: Tile) {
    // SAFETY: the caller's promise is that of the kernel.
    unsafe {
        match (tile.rows, tile.panels) {
            (1, 4) => for_layout!(layout, kernel::<1, 4>(tile)),
            (1, 1) => for_layout!(layout, kernel::<1, 1>(tile)),
            (2, 1) => for_layout!(layout, kernel::<2, 1>(tile)),
            (3, 1) => for_layout!(layout, kernel::<3, 1>(tile)),
            (4, 1) => for_layout!(layout, kernel::<4, 1>(tile)),
            (5, 1) => for_layout!(layout, kernel::<5, 1>(tile)),
            (6, 1) => for_layout!(layout, kernel::<6, 1>(tile)),
            (rows, panels) => unreachable!("{rows} rows times {panels} panels"),
        }
    }
}

/// # Safety
/// As [`multiply`], with `MR` rows and `NP` panels.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,fma,f16c")]
#[allow(clippy::needless_range_loop)]
unsafe fn kernel<const LAYOUT: u8, const MR: usize, const NP: usize>(tile: Tile) {
    let mut masks = [[0 as __mmask16; 2]; NP];
    for (chunk, mask) in masks.as_flattened_mut().iter_mut().enumerate() {
        *mask = ((1u32 << tile.width.saturating_sub(chunk * 16).min(16)) - 1) as __mmask16;
    }
    let mut acc = [[[_mm512_setzero_ps(); 2]; MR]; NP];
    if tile.accumulate {
        for (p, r, half) in (0..NP).flat_map(|p| (0..MR).flat_map(move |r| [(p, r, 0), (p, r, 1)])) {
            let y = tile.y.wrapping_add(r * tile.y_stride + p * PANEL + half * 16);
            // SAFETY: the mask leaves only the row's first `width` values.
            acc[p][r][half] = unsafe { _mm512_maskz_loadu_ps(masks[p][half], y) };
        }
    }
    let low = _mm512_set1_epi8(0x0f);
    for b in 0..tile.blocks {
        let (start, head) = layout::block_start(LAYOUT, b);
        for p in 0..NP {
            let panel = tile.panel.wrapping_add(p * tile.panel_stride);
            let (at, head) = (panel.wrapping_add(start), panel.wrapping_add(head));
            if tile.far {
                for line in (0..layout::scale_bytes(LAYOUT) + layout::code_bytes(LAYOUT)).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
                }
            }
            let codes = at.wrapping_add(layout::scale_bytes(LAYOUT));
            // Halves are two sums of 16 inputs, everything else is one of 32.
            for pass in 0..if LAYOUT == layout::HALVES { 2 } else { 1 } {
                // SAFETY: the scales of the block.
                let (d, m) = unsafe { scales::<LAYOUT>(at, head, pass) };
                let mut dots = [[_mm512_setzero_si512(); 2]; MR];
                for (r, dots) in dots.iter_mut().enumerate() {
                    // SAFETY: block `b` of row `r`.
                    let sums = unsafe { *tile.sums.add(r * tile.stride + b) };
                    let sum = if LAYOUT == layout::HALVES { sums[pass] } else { sums[0] + sums[1] };
                    if !layout::has_minimum(LAYOUT) {
                        *dots = [_mm512_set1_epi32(-tile.offset * sum); 2];
                    }
                }
                let steps = if LAYOUT == layout::HALVES || layout::four_bits(LAYOUT) { 4 } else { 8 };
                for step in 0..steps {
                    let group = pass * 4 + step;
                    let from = codes.wrapping_add(group * 4 * PANEL);
                    // SAFETY: the codes of these 4 inputs (and those 16 further on).
                    let w = unsafe { [0, 64].map(|half| _mm512_loadu_si512(from.wrapping_add(half).cast())) };
                    if layout::four_bits(LAYOUT) {
                        let upper = w.map(|w| _mm512_and_si512(_mm512_srli_epi16::<4>(w), low));
                        let lower = w.map(|w| _mm512_and_si512(w, low));
                        for (r, dots) in dots.iter_mut().enumerate() {
                            // SAFETY: 4 inputs of block `b` of row `r`, twice.
                            let x = unsafe { [four(&tile, r, b, group), four(&tile, r, b, group + 4)] };
                            for half in 0..2 {
                                dots[half] = _mm512_dpbusd_epi32(dots[half], lower[half], x[0]);
                                dots[half] = _mm512_dpbusd_epi32(dots[half], upper[half], x[1]);
                            }
                        }
                    } else {
                        for (r, dots) in dots.iter_mut().enumerate() {
                            // SAFETY: 4 inputs of block `b` of row `r`.
                            let x = unsafe { four(&tile, r, b, group) };
                            dots[0] = _mm512_dpbusd_epi32(dots[0], w[0], x);
                            dots[1] = _mm512_dpbusd_epi32(dots[1], w[1], x);
                        }
                    }
                }
                for (r, (acc, dots)) in acc[p].iter_mut().zip(&dots).enumerate() {
                    // SAFETY: block `b` of row `r`.
                    let (scale, sums) = unsafe {
                        let at = r * tile.stride + b;
                        (*tile.scales.add(at), *tile.sums.add(at))
                    };
                    let s = _mm512_set1_ps(scale);
                    for half in 0..2 {
                        acc[half] =
                            _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[half]), _mm512_mul_ps(d[half], s), acc[half]);
                    }
                    if layout::has_minimum(LAYOUT) {
                        let s = _mm512_set1_ps(scale * (sums[0] + sums[1]) as f32);
                        for half in 0..2 {
                            acc[half] = _mm512_fmadd_ps(m[half], s, acc[half]);
                        }
                    }
                }
            }
        }
    }
    for (p, r, half) in (0..NP).flat_map(|p| (0..MR).flat_map(move |r| [(p, r, 0), (p, r, 1)])) {
        let y = tile.y.wrapping_add(r * tile.y_stride + p * PANEL + half * 16);
        // SAFETY: the mask leaves only the row's first `width` values.
        unsafe { _mm512_mask_storeu_ps(y, masks[p][half], acc[p][r][half]) };
    }
}

/// The inputs `4 * group ..` of block `b` of row `r`, in every lane.
///
/// # Safety
/// They are readable.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,fma,f16c")]
#[inline]
unsafe fn four(tile: &Tile, r: usize, b: usize, group: usize) -> __m512i {
    let at = tile.x.wrapping_add((r * tile.stride + b) * BLOCK + group * 4);
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// The scales and minima of a block, or of half `pass` of it.
///
/// # Safety
/// They are readable at `at`, super scales at `head`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,fma,f16c")]
#[inline]
unsafe fn scales<const LAYOUT: u8>(at: *const u8, head: *const u8, pass: usize) -> ([__m512; 2], [__m512; 2]) {
    let none = [_mm512_setzero_ps(); 2];
    // SAFETY: the caller's promise.
    unsafe {
        let halves = |at: *const u8| [0, 32].map(|half| _mm512_cvtph_ps(_mm256_loadu_si256(at.add(half).cast())));
        if layout::is_super(LAYOUT) {
            let (d, m) = (halves(head), halves(head.add(2 * PANEL)));
            let small = |at: *const u8, half: usize| {
                _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.add(half * 16).cast())))
            };
            (
                [0, 1].map(|half| _mm512_mul_ps(d[half], small(at, half))),
                [0, 1]
                    .map(|half| _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(m[half], small(at.add(PANEL), half)))),
            )
        } else if LAYOUT == layout::HALVES {
            let d = halves(head);
            let at = at.add(pass * PANEL);
            let small =
                |half: usize| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.add(half * 16).cast())));
            ([0, 1].map(|half| _mm512_mul_ps(d[half], small(half))), none)
        } else if layout::has_minimum(LAYOUT) {
            (halves(at), halves(at.add(2 * PANEL)))
        } else {
            (halves(at), none)
        }
    }
}
