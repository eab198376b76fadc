//! Blocks of 4-bit codes that stand for numbers of a table of 16.

use super::plain::{half_at, nibbles};

/// What the codes of IQ4_NL and IQ4_XS stand for (`kvalues_iq4nl` of ggml-common.h, part of the format).
const UNEVEN: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice what the codes of an E2M1 float stand for: sign, two bits of exponent, one of mantissa.
const FLOATS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

#[inline(always)]
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], |_, q| d * f32::from(UNEVEN[usize::from(q)]), out);
}

#[inline(always)]
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 0x0f;
        let scale = i32::from(low) | i32::from(high >> (2 * group) & 3) << 4;
        let scale = d * (scale - 32) as f32;
        nibbles(&block[8 + group * 16..], |_, q| scale * f32::from(UNEVEN[usize::from(q)]), values);
    }
}

#[inline(always)]
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    // Half of the power of two `2^(e - 127)`, for the table is doubled; below e = 2 it is subnormal.
    let e = u32::from(block[0]);
    let half = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
    nibbles(&block[1..], |_, q| half * f32::from(FLOATS[usize::from(q)]), out);
}
