//! Between f32 and its halves. Narrowing rounds to the nearest, ties to even.

use crate::isa::{Isa, Level};
use half::{bf16, f16};

/// The numbers that panels ([`crate::Panels`]) are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelType {
    /// 4 bytes, exact.
    F32,
    /// 2 bytes, 11 significant bits, up to 65504.
    F16,
    /// 2 bytes, 8 significant bits, the range of f32.
    Bf16,
}

impl PanelType {
    /// Bytes of one value.
    pub fn bytes_per_value(self) -> usize {
        match self {
            PanelType::F32 => 4,
            PanelType::F16 | PanelType::Bf16 => 2,
        }
    }
}

/// Widens the values of a half-width type, which is exact.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn widen(isa: Isa, ty: PanelType, from: &[u16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "values to widen");
    match (ty, isa.level()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` is proof that the machine has the set.
        (PanelType::F16, Level::Avx512Vnni | Level::Avx512) => unsafe { x86::widen_f16_avx512(from, to) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        (PanelType::F16, Level::Avx2) => unsafe { x86::widen_f16_avx2(from, to) },
        (PanelType::F16, _) => from.iter().zip(to).for_each(|(&from, to)| *to = f16::from_bits(from).to_f32()),
        _ => from.iter().zip(to).for_each(|(&from, to)| *to = f32::from_bits(u32::from(from) << 16)),
    }
}

/// Narrows to a half-width type.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn narrow(isa: Isa, ty: PanelType, from: &[f32], to: &mut [u16]) {
    assert_eq!(from.len(), to.len(), "values to narrow");
    match (ty, isa.level()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` is proof that the machine has the set; each of these includes f16c.
        (PanelType::F16, Level::Avx512Vnni | Level::Avx512 | Level::Avx2) => unsafe { x86::narrow_f16(from, to) },
        (PanelType::F16, _) => from.iter().zip(to).for_each(|(&from, to)| *to = f16::from_f32(from).to_bits()),
        _ => from.iter().zip(to).for_each(|(&from, to)| *to = bf16::from_f32(from).to_bits()),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use half::f16;
    use std::arch::x86_64::*;

    /// Values that are fetched ahead of their use: 2 KB.
    const AHEAD: usize = 1024;

    #[target_feature(enable = "avx512f,f16c")]
    pub(super) fn widen_f16_avx512(from: &[u16], to: &mut [f32]) {
        let (from, tail_from) = from.as_chunks::<16>();
        let (to, tail_to) = to.as_chunks_mut::<16>();
        for (from, to) in from.iter().zip(to) {
            _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(AHEAD).cast());
            // SAFETY: 16 values on each side.
            unsafe {
                _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())));
            }
        }
        tail_from.iter().zip(tail_to).for_each(|(&from, to)| *to = f16::from_bits(from).to_f32());
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn widen_f16_avx2(from: &[u16], to: &mut [f32]) {
        let (from, tail_from) = from.as_chunks::<8>();
        let (to, tail_to) = to.as_chunks_mut::<8>();
        for (from, to) in from.iter().zip(to) {
            _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(AHEAD).cast());
            // SAFETY: 8 values on each side.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
        }
        tail_from.iter().zip(tail_to).for_each(|(&from, to)| *to = f16::from_bits(from).to_f32());
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn narrow_f16(from: &[f32], to: &mut [u16]) {
        let (from, tail_from) = from.as_chunks::<8>();
        let (to, tail_to) = to.as_chunks_mut::<8>();
        for (from, to) in from.iter().zip(to) {
            // SAFETY: 8 values on each side.
            unsafe {
                let narrow = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
                _mm_storeu_si128(to.as_mut_ptr().cast(), narrow);
            }
        }
        tail_from.iter().zip(tail_to).for_each(|(&from, to)| *to = f16::from_f32(from).to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_converts_as_the_half_crate_does() {
        // Miri is a thousand times slower and looks for other mistakes.
        let step = if cfg!(miri) { 1021 } else { 1 };
        let all: Vec<u16> = (0..=u16::MAX).step_by(step).filter(|&bits| !f16::from_bits(bits).is_nan()).collect();
        for isa in Isa::available() {
            let mut wide = vec![0.0; all.len()];
            widen(isa, PanelType::F16, &all, &mut wide);
            assert!(wide.iter().zip(&all).all(|(wide, &bits)| *wide == f16::from_bits(bits).to_f32()));
            let mut narrowed = vec![0; all.len()];
            narrow(isa, PanelType::F16, &wide, &mut narrowed);
            assert_eq!(narrowed, all);
            // Between two halves: a little over, under and at the middle.
            let between: Vec<f32> =
                (0..0x7c00u32 << 2).step_by(step).map(|i| f32::from_bits((i << 11) + (112 << 23))).collect();
            for nudge in [-1i32, 0, 1] {
                let values: Vec<f32> =
                    between.iter().map(|v| f32::from_bits(v.to_bits().wrapping_add_signed(nudge))).collect();
                let mut narrowed = vec![0; values.len()];
                narrow(isa, PanelType::F16, &values, &mut narrowed);
                assert!(values.iter().zip(&narrowed).all(|(v, &bits)| f16::from_f32(*v).to_bits() == bits));
            }
            let mut wide = vec![0.0; all.len()];
            widen(isa, PanelType::Bf16, &all, &mut wide);
            narrow(isa, PanelType::Bf16, &wide, &mut narrowed);
            assert!(all.iter().zip(&narrowed).all(|(a, b)| a == b || bf16::from_bits(*a).is_nan()));
        }
    }
}
