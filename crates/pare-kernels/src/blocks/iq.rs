//! The blocks of 256 whose codes are entries of a codebook.

use super::plain::half_at;

/// The codebooks one after the other, as `goldens/blocks/codebooks.py` packs them.
const PACKED: &[u8; 9216] = include_bytes!("codebooks.bin");

static IQ1: [[i8; 8]; 2048] = unpacked(0, 2, &[-1, 0, 1, 0]);
static IQ2_XXS: [[i8; 8]; 256] = unpacked(4096, 2, &[8, 25, 43, 0]);
static IQ2_XS: [[i8; 8]; 512] = unpacked(4608, 2, &[8, 25, 43, 0]);
static IQ2_S: [[i8; 8]; 1024] = unpacked(5632, 2, &[8, 25, 43, 0]);
static IQ3_XXS: [[i8; 4]; 256] = unpacked(7680, 4, &[4, 12, 20, 28, 36, 44, 52, 62, 0, 0, 0, 0, 0, 0, 0, 0]);
static IQ3_S: [[i8; 4]; 512] = unpacked(8192, 4, &[1, 3, 5, 7, 9, 11, 13, 15, 0, 0, 0, 0, 0, 0, 0, 0]);

/// The codebook that begins at byte `at`: numbers of so many bits, which stand for those of `map`.
const fn unpacked<const ENTRIES: usize, const WIDTH: usize>(
    at: usize,
    bits: usize,
    map: &[i8],
) -> [[i8; WIDTH]; ENTRIES] {
    let mut book = [[0; WIDTH]; ENTRIES];
    let per_byte = 8 / bits;
    let mut index = 0;
    while index < ENTRIES * WIDTH {
        let code = PACKED[at + index / per_byte] >> (index % per_byte * bits);
        book[index / WIDTH][index % WIDTH] = map[code as usize & (map.len() - 1)];
        index += 1;
    }
    book
}

/// 7 stored signs and the eighth, which makes the number of minus signs even; bit `i` is that of value `i`.
#[inline(always)]
fn eight_signs(seven: u32) -> u8 {
    let seven = seven as u8 & 0x7f;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// One entry: `scale` times each magnitude, with the signs from bit `first` of `signs` on.
#[inline(always)]
fn entry<const WIDTH: usize>(magnitudes: &[i8; WIDTH], scale: f32, signs: u8, out: &mut [f32; WIDTH]) {
    for i in 0..WIDTH {
        let value = scale * f32::from(magnitudes[i]);
        out[i] = if signs >> i & 1 == 0 { value } else { -value };
    }
}

#[inline(always)]
fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

#[inline(always)]
fn half_word(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The 4-bit number `index` of the bytes from `at` on.
#[inline(always)]
fn nibble(block: &[u8], at: usize, index: usize) -> f32 {
    f32::from(block[at + index / 2] >> (index % 2 * 4) & 0x0f)
}

#[inline(always)]
pub(super) fn iq2_xxs(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (i, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let group = 2 + i / 4 * 8;
        let rest = word(block, group + 4);
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.25;
        entry(&IQ2_XXS[usize::from(block[group + i % 4])], scale, eight_signs(rest >> (i % 4 * 7)), values);
    }
}

#[inline(always)]
pub(super) fn iq2_xs(block: &[u8; 74], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (i, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let code = half_word(block, 2 + 2 * i);
        let scale = d * (0.5 + nibble(block, 66, i / 2)) * 0.25;
        entry(&IQ2_XS[usize::from(code & 511)], scale, eight_signs(u32::from(code >> 9)), values);
    }
}

#[inline(always)]
pub(super) fn iq2_s(block: &[u8; 82], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (i, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let code = usize::from(block[2 + i]) | usize::from(block[66 + i / 4] >> (i % 4 * 2) & 3) << 8;
        let scale = d * (0.5 + nibble(block, 74, i / 2)) * 0.25;
        entry(&IQ2_S[code], scale, block[34 + i], values);
    }
}

#[inline(always)]
pub(super) fn iq3_xxs(block: &[u8; 98], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (i, values) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let rest = word(block, 66 + i / 8 * 4);
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.5;
        let signs = eight_signs(rest >> (i / 2 % 4 * 7)) >> (i % 2 * 4);
        entry(&IQ3_XXS[usize::from(block[2 + i])], scale, signs, values);
    }
}

#[inline(always)]
pub(super) fn iq3_s(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (i, values) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let code = usize::from(block[2 + i]) | usize::from(block[66 + i / 8] >> (i % 8) & 1) << 8;
        let scale = d * (1.0 + 2.0 * nibble(block, 106, i / 8));
        entry(&IQ3_S[code], scale, block[74 + i / 2] >> (i % 2 * 4), values);
    }
}

/// One entry of IQ1: each number moved by an eighth, up or down.
#[inline(always)]
fn moved(numbers: &[i8; 8], scale: f32, down: bool, out: &mut [f32; 8]) {
    let by = if down { -0.125 } else { 0.125 };
    for i in 0..8 {
        out[i] = scale * (f32::from(numbers[i]) + by);
    }
}

#[inline(always)]
pub(super) fn iq1_s(block: &[u8; 50], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (i, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = half_word(block, 34 + i / 4 * 2);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        let code = usize::from(block[2 + i]) | usize::from(high >> (i % 4 * 3) & 7) << 8;
        moved(&IQ1[code], scale, high & 0x8000 != 0, values);
    }
}

/// The f16 scale of an IQ1_M block, whose quarters are the high bits of its last four words.
#[inline(always)]
fn spread(block: &[u8; 56]) -> f32 {
    let part = |i: usize| half_word(block, 48 + 2 * i) >> 12 << (4 * i);
    half::f16::from_bits(part(0) | part(1) | part(2) | part(3)).to_f32()
}

#[inline(always)]
pub(super) fn iq1_m(block: &[u8; 56], out: &mut [f32; 256]) {
    let d = spread(block);
    for (i, values) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = block[32 + i / 2] >> (i % 2 * 4);
        let sixteen = i / 2;
        let scale = half_word(block, 48 + sixteen / 4 * 2) >> (sixteen % 4 * 3) & 7;
        let code = usize::from(block[i]) | usize::from(high & 7) << 8;
        moved(&IQ1[code], d * f32::from(2 * scale + 1), high & 8 != 0, values);
    }
}
