//! The most products of 8-bit integers per second, with the instructions that the kernels of quantised blocks use.

use crate::isa::{Isa, Level};

/// Steps of the peak loop between two looks at the clock.
pub(super) const STEPS: usize = 20_000;
/// Sums side by side: enough to hide the latency of a step.
const SUMS: usize = 12;

/// Runs [`STEPS`] steps; the products of 8-bit integers in each, and what keeps the loop alive.
pub(super) fn multiply_add(isa: Isa, x: i8, w: i8) -> (usize, i32) {
    #[cfg(target_arch = "x86_64")]
    match isa.level() {
        // SAFETY: an `Isa` is proof that the machine has the set.
        Level::Avx512Vnni => return (SUMS * 64, unsafe { x86::vnni(x, w) }),
        // SAFETY: as above.
        Level::Avx512 | Level::Avx2 => return (SUMS * 32, unsafe { x86::avx2(x, w) }),
        Level::Portable => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    (SUMS * 32, portable(x, w))
}

fn portable(x: i8, w: i8) -> i32 {
    let mut sums = [0i32; SUMS * 32];
    for step in 0..STEPS {
        let x = i32::from(x) + (step & 1) as i32;
        for sum in &mut sums {
            *sum = sum.wrapping_add(x * i32::from(w));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{STEPS, SUMS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma,f16c")]
    pub(super) fn vnni(x: i8, w: i8) -> i32 {
        let (x, w) = (_mm512_set1_epi8(x), _mm512_set1_epi8(w));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, w, x);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_epi32(sum)).fold(0, i32::wrapping_add)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn avx2(x: i8, w: i8) -> i32 {
        let (mut x, w, ones) = (_mm256_set1_epi8(x), _mm256_set1_epi8(w), _mm256_set1_epi16(1));
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                // Products that the compiler may not take out of the loop.
                x = black_box(x);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
            }
        }
        let mut lanes = [0i32; 8];
        sums.into_iter().fold(0i32, |all, sum| {
            // SAFETY: eight lanes of 32 bits.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
            lanes.iter().fold(all, |all, lane| all.wrapping_add(*lane))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_computes_all_of_its_products() {
        for isa in Isa::available().filter(|isa| isa.level() != Level::Portable) {
            let (products, sum) = multiply_add(isa, 1, 1);
            assert_eq!(sum as usize, products * STEPS, "{isa:?}");
        }
    }
}
