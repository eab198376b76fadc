//! The microkernel for 16 lanes with products of 8-bit integers: a panel is two registers.

use super::form::{self, Form, for_form};
use super::{BLOCK, PANEL, Tile};
use std::arch::x86_64::*;

/// Bytes that the loads are fetched ahead of their use.
const AHEAD: usize = 2048;

/// # Safety
/// The machine has the features; every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply(form: Form, tile: Tile) {
    // SAFETY: the caller's promise is that of the kernel.
    unsafe {
        match tile.rows {
            1 => for_form!(form, kernel::<1>(tile)),
            2 => for_form!(form, kernel::<2>(tile)),
            3 => for_form!(form, kernel::<3>(tile)),
            4 => for_form!(form, kernel::<4>(tile)),
            5 => for_form!(form, kernel::<5>(tile)),
            6 => for_form!(form, kernel::<6>(tile)),
            rows => unreachable!("{rows} rows"),
        }
    }
}

/// # Safety
/// As [`multiply`], with `MR` rows.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,fma,f16c")]
unsafe fn kernel<const FORM: u8, const MR: usize>(tile: Tile) {
    let masks = [0, 16].map(|from| ((1u32 << tile.width.saturating_sub(from).min(16)) - 1) as __mmask16);
    let mut acc = [[_mm512_setzero_ps(); 2]; MR];
    if tile.accumulate {
        for (r, acc) in acc.iter_mut().enumerate() {
            for half in 0..2 {
                let y = tile.y.wrapping_add(r * tile.y_stride + half * 16);
                // SAFETY: the mask leaves only the row's first `width` values.
                acc[half] = unsafe { _mm512_maskz_loadu_ps(masks[half], y) };
            }
        }
    }
    let (mut at, mut head) = (tile.panel, tile.panel);
    let low = _mm512_set1_epi8(0x0f);
    // Halves are two sums of 16 inputs, everything else is one of 32.
    let passes = if FORM == form::HALVES { 2 } else { 1 };
    for b in 0..tile.blocks {
        if form::head_bytes(FORM) > 0 && b.is_multiple_of(8) {
            head = at;
            at = at.wrapping_add(form::head_bytes(FORM));
        }
        for line in (0..form::scale_bytes(FORM) + form::code_bytes(FORM)).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
        }
        let codes = at.wrapping_add(form::scale_bytes(FORM));
        for pass in 0..passes {
            // SAFETY: the scales of block `b`, in this panel.
            let (d, m) = unsafe { scales::<FORM>(at, head, pass) };
            let mut dots = [[_mm512_setzero_si512(); 2]; MR];
            for (r, dots) in dots.iter_mut().enumerate() {
                // SAFETY: block `b` of row `r`.
                let sums = unsafe { *tile.sums.add(r * tile.stride + b) };
                let sum = if FORM == form::HALVES { sums[pass] } else { sums[0] + sums[1] };
                if !form::has_minimum(FORM) {
                    *dots = [_mm512_set1_epi32(-tile.offset * sum); 2];
                }
            }
            let steps = if FORM == form::HALVES || form::four_bits(FORM) { 4 } else { 8 };
            for step in 0..steps {
                let group = pass * 4 + step;
                let from = codes.wrapping_add(group * 4 * PANEL);
                // SAFETY: the codes of these 4 inputs (and those 16 further on).
                let w = unsafe { [0, 64].map(|half| _mm512_loadu_si512(from.wrapping_add(half).cast())) };
                if form::four_bits(FORM) {
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
            for (r, (acc, dots)) in acc.iter_mut().zip(&dots).enumerate() {
                // SAFETY: block `b` of row `r`.
                let (scale, sums) = unsafe {
                    let at = r * tile.stride + b;
                    (*tile.scales.add(at), *tile.sums.add(at))
                };
                let s = _mm512_set1_ps(scale);
                for half in 0..2 {
                    acc[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[half]), _mm512_mul_ps(d[half], s), acc[half]);
                }
                if form::has_minimum(FORM) {
                    let s = _mm512_set1_ps(scale * (sums[0] + sums[1]) as f32);
                    for half in 0..2 {
                        acc[half] = _mm512_fmadd_ps(m[half], s, acc[half]);
                    }
                }
            }
        }
        at = codes.wrapping_add(form::code_bytes(FORM));
    }
    for (r, acc) in acc.iter().enumerate() {
        for (half, acc) in acc.iter().enumerate() {
            let y = tile.y.wrapping_add(r * tile.y_stride + half * 16);
            // SAFETY: the mask leaves only the row's first `width` values.
            unsafe { _mm512_mask_storeu_ps(y, masks[half], *acc) };
        }
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
unsafe fn scales<const FORM: u8>(at: *const u8, head: *const u8, pass: usize) -> ([__m512; 2], [__m512; 2]) {
    let none = [_mm512_setzero_ps(); 2];
    // SAFETY: the caller's promise.
    unsafe {
        let halves = |at: *const u8| [0, 32].map(|half| _mm512_cvtph_ps(_mm256_loadu_si256(at.add(half).cast())));
        if form::is_super(FORM) {
            let (d, m) = (halves(head), halves(head.add(2 * PANEL)));
            let small = |at: *const u8, half: usize| {
                _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.add(half * 16).cast())))
            };
            (
                [0, 1].map(|half| _mm512_mul_ps(d[half], small(at, half))),
                [0, 1]
                    .map(|half| _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(m[half], small(at.add(PANEL), half)))),
            )
        } else if FORM == form::HALVES {
            let d = halves(head);
            let at = at.add(pass * PANEL);
            let small =
                |half: usize| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.add(half * 16).cast())));
            ([0, 1].map(|half| _mm512_mul_ps(d[half], small(half))), none)
        } else if form::has_minimum(FORM) {
            (halves(at), halves(at.add(2 * PANEL)))
        } else {
            (halves(at), none)
        }
    }
}
