//! The microkernel for 8 lanes: a panel is four registers, taken one after the other.

use super::layout::{self, PanelLayout, for_layout};
use super::{BLOCK, PANEL, Tile};
use std::arch::x86_64::*;

/// Bytes that the loads are fetched ahead of their use.
const AHEAD: usize = 1024;

/// # Safety
/// The machine has the features; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply(layout: PanelLayout, tile: Tile) {
    // SAFETY: the caller's promise is that of the kernel.
    unsafe {
        match tile.rows {
            1 => for_layout!(layout, kernel::<1>(tile)),
            2 => for_layout!(layout, kernel::<2>(tile)),
            rows => unreachable!("{rows} rows"),
        }
    }
}

/// # Safety
/// As [`multiply`], with `MR` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn kernel<const LAYOUT: u8, const MR: usize>(tile: Tile) {
    let mut acc = [[_mm256_setzero_ps(); 4]; MR];
    let row = |r: usize| {
        // SAFETY: the row's first `width` values, which nobody else uses.
        unsafe { std::slice::from_raw_parts_mut(tile.y.add(r * tile.y_stride), tile.width) }
    };
    if tile.accumulate {
        for (r, acc) in acc.iter_mut().enumerate() {
            let mut values = [0.0f32; PANEL];
            values[..tile.width].copy_from_slice(row(r));
            // SAFETY: 8 values each.
            *acc = [0, 8, 16, 24].map(|at| unsafe { _mm256_loadu_ps(values[at..].as_ptr()) });
        }
    }
    let (mut at, mut head) = (tile.panel, tile.panel);
    let passes = if LAYOUT == layout::HALVES { 2 } else { 1 };
    for b in 0..tile.blocks {
        if layout::head_bytes(LAYOUT) > 0 && b.is_multiple_of(8) {
            head = at;
            at = at.wrapping_add(layout::head_bytes(LAYOUT));
        }
        for line in (0..layout::scale_bytes(LAYOUT) + layout::code_bytes(LAYOUT)).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
        }
        let codes = at.wrapping_add(layout::scale_bytes(LAYOUT));
        for pass in 0..passes {
            for quarter in 0..4 {
                // SAFETY: the codes and scales of 8 outputs in block `b`, and its inputs.
                let (dots, (d, m)) = unsafe {
                    let from = codes.wrapping_add(quarter * 32);
                    (dots::<LAYOUT, MR>(&tile, b, from, pass), scales::<LAYOUT>(at, head, pass, quarter))
                };
                for (r, (acc, dots)) in acc.iter_mut().zip(dots).enumerate() {
                    // SAFETY: block `b` of row `r`.
                    let (scale, sums) = unsafe {
                        let at = r * tile.stride + b;
                        (*tile.scales.add(at), *tile.sums.add(at))
                    };
                    let d = _mm256_mul_ps(d, _mm256_set1_ps(scale));
                    acc[quarter] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), d, acc[quarter]);
                    if layout::has_minimum(LAYOUT) {
                        let s = _mm256_set1_ps(scale * (sums[0] + sums[1]) as f32);
                        acc[quarter] = _mm256_fmadd_ps(m, s, acc[quarter]);
                    }
                }
            }
        }
        at = codes.wrapping_add(layout::code_bytes(LAYOUT));
    }
    for (r, acc) in acc.iter().enumerate() {
        let mut values = [0.0f32; PANEL];
        for (quarter, acc) in acc.iter().enumerate() {
            // SAFETY: 8 values.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr().wrapping_add(quarter * 8), *acc) };
        }
        row(r).copy_from_slice(&values[..tile.width]);
    }
}

/// The integer sums of block `b` (or half `pass` of it) for 8 outputs, whose codes begin at `from`.
///
/// # Safety
/// The codes and the inputs are readable.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dots<const LAYOUT: u8, const MR: usize>(
    tile: &Tile,
    b: usize,
    from: *const u8,
    pass: usize,
) -> [__m256i; MR] {
    let (low, ones) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi16(1));
    let mut dots = [_mm256_setzero_si256(); MR];
    // SAFETY: the caller's promise.
    let four = |r: usize, group: usize| unsafe {
        let at = tile.x.add((r * tile.stride + b) * BLOCK + group * 4);
        _mm256_set1_epi32(at.cast::<i32>().read_unaligned())
    };
    // SAFETY: the caller's promise.
    let load = |group: usize| unsafe { _mm256_loadu_si256(from.add(group * 4 * PANEL).cast()) };
    if layout::four_bits(LAYOUT) {
        // 8 products of two codes below 16 fit 16 bits.
        let mut sums = [_mm256_setzero_si256(); MR];
        for group in 0..4 {
            let w = load(group);
            let (lower, upper) = (_mm256_and_si256(w, low), _mm256_and_si256(_mm256_srli_epi16::<4>(w), low));
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = _mm256_add_epi16(*sums, _mm256_maddubs_epi16(lower, four(r, group)));
                *sums = _mm256_add_epi16(*sums, _mm256_maddubs_epi16(upper, four(r, group + 4)));
            }
        }
        for (dots, sums) in dots.iter_mut().zip(sums) {
            *dots = _mm256_madd_epi16(sums, ones);
        }
    } else {
        let groups = if LAYOUT == layout::HALVES { pass * 4..pass * 4 + 4 } else { 0..8 };
        for group in groups {
            let w = load(group);
            if LAYOUT == layout::SIGNED {
                // Two products of 128 and 127 just fit 16 bits: the sign moves from the weight to the input.
                let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                let size = _mm256_abs_epi8(w);
                for (r, dots) in dots.iter_mut().enumerate() {
                    let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(four(r, group), w));
                    *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(pairs, ones));
                }
            } else {
                for (r, dots) in dots.iter_mut().enumerate() {
                    let pairs = _mm256_maddubs_epi16(w, four(r, group));
                    *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(pairs, ones));
                }
            }
        }
    }
    if LAYOUT != layout::SIGNED && !layout::has_minimum(LAYOUT) {
        for (r, dots) in dots.iter_mut().enumerate() {
            // SAFETY: block `b` of row `r`.
            let sums = unsafe { *tile.sums.add(r * tile.stride + b) };
            let sum = if LAYOUT == layout::HALVES { sums[pass] } else { sums[0] + sums[1] };
            *dots = _mm256_sub_epi32(*dots, _mm256_set1_epi32(tile.offset * sum));
        }
    }
    dots
}

/// The scales and minima of 8 outputs of a block, or of half `pass` of it.
///
/// # Safety
/// They are readable at `at`, super scales at `head`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn scales<const LAYOUT: u8>(at: *const u8, head: *const u8, pass: usize, quarter: usize) -> (__m256, __m256) {
    let none = _mm256_setzero_ps();
    // SAFETY: the caller's promise.
    unsafe {
        let halves = |at: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(at.add(quarter * 16).cast()));
        let small = |at: *const u8| _mm_loadl_epi64(at.add(quarter * 8).cast());
        if layout::is_super(LAYOUT) {
            let number = |at: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(small(at)));
            let m = _mm256_mul_ps(halves(head.add(2 * PANEL)), number(at.add(PANEL)));
            (_mm256_mul_ps(halves(head), number(at)), _mm256_sub_ps(none, m))
        } else if LAYOUT == layout::HALVES {
            let number = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(small(at.add(pass * PANEL))));
            (_mm256_mul_ps(halves(head), number), none)
        } else if layout::has_minimum(LAYOUT) {
            (halves(at), halves(at.add(2 * PANEL)))
        } else {
            (halves(at), none)
        }
    }
}
