//! The kernels of dense products: a few rows times a few registers of columns.

use super::ROWS;
use std::arch::x86_64::*;

/// Defines a kernel whose sums are `$rows` rows of `$registers` registers at a time.
macro_rules! kernel {
    (
        $name:ident, $features:literal, [$number:ty; $width:literal], [$rows:literal, $registers:literal],
        $load:ident, $store:ident, $broadcast:ident, $multiply_add:ident
    ) => {
        #[target_feature(enable = $features)]
        #[allow(clippy::needless_range_loop)]
        pub(super) fn $name(a: &[[$number; ROWS]], b: &[[$number; $width]], sums: &mut [[$number; $width]; ROWS]) {
            let lanes = size_of_val(&$broadcast(0.0)) / size_of::<$number>();
            for row in (0..ROWS).step_by($rows) {
                for column in (0..$width).step_by($registers * lanes) {
                    let mut acc = [[$broadcast(0.0); $registers]; $rows];
                    for r in 0..$rows {
                        for c in 0..$registers {
                            let at = &sums[row + r][column + c * lanes..][..lanes];
                            // SAFETY: a register of values.
                            acc[r][c] = unsafe { $load(at.as_ptr()) };
                        }
                    }
                    for (a, b) in a.iter().zip(b) {
                        let mut weights = [acc[0][0]; $registers];
                        for c in 0..$registers {
                            let at = &b[column + c * lanes..][..lanes];
                            // SAFETY: a register of values.
                            weights[c] = unsafe { $load(at.as_ptr()) };
                        }
                        for r in 0..$rows {
                            let x = $broadcast(a[row + r]);
                            for c in 0..$registers {
                                acc[r][c] = $multiply_add(x, weights[c], acc[r][c]);
                            }
                        }
                    }
                    for r in 0..$rows {
                        for c in 0..$registers {
                            let at = &mut sums[row + r][column + c * lanes..][..lanes];
                            // SAFETY: a register of values.
                            unsafe { $store(at.as_mut_ptr(), acc[r][c]) };
                        }
                    }
                }
            }
        }
    };
}

kernel!(
    double_avx512,
    "avx512f",
    [f64; 16],
    [8, 2],
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_set1_pd,
    _mm512_fmadd_pd
);
kernel!(
    single_avx512,
    "avx512f",
    [f32; 32],
    [8, 2],
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
kernel!(double_avx2, "avx2,fma", [f64; 16], [4, 2], _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd);
kernel!(single_avx2, "avx2,fma", [f32; 32], [4, 2], _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps);
