//! Blocks of values -1, 0 and 1 with one scale.

use super::plain::half_at;

/// Five ternary digits to a byte, scaled up to 256: digit `n` is the whole part of three times what `3^n` leaves.
#[inline(always)]
fn digits<const N: usize>(bytes: &[u8], d: f32, out: &mut [f32]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    for (values, power) in out.chunks_exact_mut(bytes.len()).zip(&POWERS[..N]) {
        for (value, byte) in values.iter_mut().zip(bytes) {
            let digit = (u16::from(byte.wrapping_mul(*power)) * 3) >> 8;
            *value = d * (i32::from(digit) - 1) as f32;
        }
    }
}

#[inline(always)]
pub(super) fn tq1_0(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = half_at(block, 52);
    let (first, rest) = out.split_at_mut(160);
    let (second, last) = rest.split_at_mut(80);
    digits::<5>(&block[..32], d, first);
    digits::<5>(&block[32..48], d, second);
    digits::<4>(&block[48..52], d, last);
}

#[inline(always)]
pub(super) fn tq2_0(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 64);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        for (value, code) in values.iter_mut().zip(&block[group / 4 * 32..][..32]) {
            *value = d * (i32::from(code >> (group % 4 * 2) & 3) - 1) as f32;
        }
    }
}
