//! Half-width values and the blocks of 32.

use half::f16;

/// Applies `decode` to every block of `BYTES` bytes and `VALUES` values; the lengths were checked.
#[inline(always)]
pub(super) fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (values, _) = out.as_chunks_mut::<VALUES>();
    for (block, values) in blocks.iter().zip(values) {
        decode(block, values);
    }
}

/// The f16 at byte `at`, widened.
#[inline(always)]
pub(super) fn half_at<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// 16 bytes of two 4-bit codes: the low ones are values 0..16, the high ones 16..32.
#[inline(always)]
pub(super) fn nibbles(codes: &[u8], value: impl Fn(usize, u8) -> f32, out: &mut [f32; 32]) {
    let codes: &[u8; 16] = codes.first_chunk().expect("16 bytes of codes");
    for i in 0..16 {
        out[i] = value(i, codes[i] & 0x0f);
        out[i + 16] = value(i + 16, codes[i] >> 4);
    }
}

#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], |_, q| d * (i32::from(q) - 8) as f32, out);
}

#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], |_, q| d * f32::from(q) + m, out);
}

/// Bit 4 of code `i`: bit `i` of the little-endian word at byte `at`.
#[inline(always)]
fn fifth<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> impl Fn(usize) -> u8 {
    let high = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |i| ((high >> i) as u8 & 1) << 4
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, high) = (half_at(block, 0), fifth(block, 2));
    nibbles(&block[6..], |i, q| d * (i32::from(q | high(i)) - 16) as f32, out);
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, high) = (half_at(block, 0), half_at(block, 2), fifth(block, 4));
    nibbles(&block[8..], |i, q| d * f32::from(q | high(i)) + m, out);
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (value, &code) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(code as i8) * d;
    }
}

pub(super) fn f32_values(bytes: &[u8], out: &mut [f32]) {
    each(bytes, out, |b: &[u8; 4], v: &mut [f32; 1]| v[0] = f32::from_le_bytes(*b));
}

pub(super) fn f16_values(bytes: &[u8], out: &mut [f32]) {
    each(bytes, out, |b: &[u8; 2], v: &mut [f32; 1]| v[0] = f16::from_le_bytes(*b).to_f32());
}

pub(super) fn bf16_values(bytes: &[u8], out: &mut [f32]) {
    each(bytes, out, |b: &[u8; 2], v: &mut [f32; 1]| v[0] = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
}
