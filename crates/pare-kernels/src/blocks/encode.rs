//! From f32 to the storages of GGUF. Blocks of 32 are those of `ggml`'s reference bit for bit; blocks of 256 are searched for a small error.

mod k;
mod six;
mod weighted;

use super::codes::Scales;
use super::{BlockType, RowType};
use crate::isa::{Isa, versions};
use half::{bf16, f16};

impl BlockType {
    /// Encodes whole blocks. Values must be finite and within ±65504, or the block is worthless (but nothing panics).
    ///
    /// # Panics
    /// When `values` is not a whole number of blocks, or `bytes` not exactly those blocks.
    pub fn encode(self, values: &[f32], bytes: &mut [u8]) {
        let blocks = values.len() / self.values_per_block();
        assert_eq!(values.len(), blocks * self.values_per_block(), "{} values in part of a block", self.name());
        assert_eq!(bytes.len(), blocks * self.bytes_per_block(), "bytes of {blocks} blocks of {}", self.name());
        encode_on(Isa::detect(), self, values, bytes);
    }
}

impl RowType {
    /// Encodes whole blocks; plain types round to the nearest, ties to even.
    ///
    /// # Panics
    /// When the lengths do not agree, or the type has no encoder.
    pub fn encode(self, values: &[f32], bytes: &mut [u8]) {
        match self {
            RowType::Blocks(ty) => return ty.encode(values, bytes),
            RowType::Read(ty) => panic!("{} has no encoder: its blocks can only be copied", ty.name()),
            _ => {}
        }
        assert_eq!(bytes.len(), values.len() * self.bytes_per_block(), "bytes of {} values of {self:?}", values.len());
        match self {
            RowType::F32 => each(values, bytes, |v: &[f32; 1], b: &mut [u8; 4]| *b = v[0].to_le_bytes()),
            RowType::F16 => each(values, bytes, |v: &[f32; 1], b| *b = f16::from_f32(v[0]).to_le_bytes()),
            RowType::Bf16 | RowType::Blocks(_) | RowType::Read(_) => {
                each(values, bytes, |v: &[f32; 1], b| *b = bf16::from_f32(v[0]).to_le_bytes());
            }
        }
    }

    /// The largest magnitude that every number of an encoded block can stand for.
    pub fn largest(self) -> f32 {
        match self {
            RowType::F32 => f32::MAX,
            RowType::Bf16 => bf16::MAX.to_f32(),
            RowType::F16 | RowType::Blocks(_) => f16::MAX.to_f32(),
            // Copied as they are, whatever they stand for.
            RowType::Read(_) => f32::MAX,
        }
    }
}

versions!(encode_on, encode_body, (ty: BlockType, values: &[f32], bytes: &mut [u8]));

#[inline(always)]
fn encode_body(ty: BlockType, values: &[f32], bytes: &mut [u8]) {
    match ty {
        BlockType::Q4_0 => each(values, bytes, q4_0),
        BlockType::Q4_1 => each(values, bytes, q4_1),
        BlockType::Q5_0 => each(values, bytes, q5_0),
        BlockType::Q5_1 => each(values, bytes, q5_1),
        BlockType::Q8_0 => each(values, bytes, q8_0),
        BlockType::Q4K => each(values, bytes, k::q4),
        BlockType::Q5K => each(values, bytes, k::q5),
        BlockType::Q6K => each(values, bytes, six::q6),
    }
}

versions!(search_on, search_body, (ty: BlockType, values: &[f32], weights: &[f32]) -> Scales);

/// Scales of one block for weighted values; the lengths were checked.
pub(super) fn search(ty: BlockType, values: &[f32], weights: &[f32]) -> Scales {
    search_on(Isa::detect(), ty, values, weights)
}

#[inline(always)]
fn search_body(ty: BlockType, values: &[f32], weights: &[f32]) -> Scales {
    let mut scales = Scales { d: [0; 2], m: [0; 2], small: [0; 16] };
    let half_bytes = |value: f32| f16::from_f32(value.clamp(-65504.0, 65504.0)).to_le_bytes();
    match ty {
        BlockType::Q4K | BlockType::Q5K => {
            let (d, dmin, small) = k::weighted(values, weights, if ty == BlockType::Q4K { 15.0 } else { 31.0 });
            (scales.d, scales.m, scales.small) = (half_bytes(d), half_bytes(dmin), small);
        }
        BlockType::Q6K => {
            let (d, small) = six::weighted(values, weights);
            (scales.d, scales.small) = (half_bytes(d), small);
        }
        _ => {
            let ((low, high), middle) = (ty.code_range(), ty.middle() as f32);
            let (low, high) = (f32::from(low) - middle, f32::from(high) - middle);
            let (Some(x), Some(w)) = (values.as_array::<32>(), weights.as_array::<32>()) else { return scales };
            let found = weighted::Weighted { x, w, low, high, has_offset: ty.has_offset() }.search();
            (scales.d, scales.m) = (half_bytes(found.0), half_bytes(found.1));
        }
    }
    scales
}

/// Applies `encode` to every block of `VALUES` values and `BYTES` bytes; the lengths were checked.
#[inline(always)]
fn each<const VALUES: usize, const BYTES: usize>(
    values: &[f32],
    bytes: &mut [u8],
    encode: impl Fn(&[f32; VALUES], &mut [u8; BYTES]),
) {
    let (values, _) = values.as_chunks::<VALUES>();
    let (blocks, _) = bytes.as_chunks_mut::<BYTES>();
    for (values, block) in values.iter().zip(blocks) {
        encode(values, block);
    }
}

#[inline(always)]
fn put_half<const BYTES: usize>(block: &mut [u8; BYTES], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// `1 / d`, and 0 for a block of zeros.
#[inline(always)]
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The first value of the largest magnitude.
#[inline(always)]
fn extreme(values: &[f32; 32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &v| if v.abs() > most.abs() { v } else { most })
}

#[inline(always)]
fn range(values: &[f32; 32]) -> (f32, f32) {
    values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)))
}

/// Two 4-bit codes per byte: the low ones are values 0..16, the high ones 16..32.
#[inline(always)]
fn put_nibbles(codes: &[u8; 32], out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = (codes[i] & 0x0f) | (codes[i + 16] << 4);
    }
}

/// Bit 4 of every code, as the little-endian word at byte `at`.
#[inline(always)]
fn put_fifth<const BYTES: usize>(codes: &[u8; 32], block: &mut [u8; BYTES], at: usize) {
    let word = codes.iter().enumerate().fold(0u32, |word, (i, &code)| word | u32::from(code >> 4 & 1) << i);
    block[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// Codes around the middle of `2 * half` steps; the value of the largest magnitude gets code 0.
#[inline(always)]
fn centred(values: &[f32; 32], half: u8) -> (f32, [u8; 32]) {
    let d = extreme(values) / -f32::from(half);
    let (inverse, middle, top) = (inverse(d), f32::from(half) + 0.5, 2 * half - 1);
    (d, values.map(|v| ((v * inverse + middle) as u8).min(top)))
}

/// Codes between the smallest and the largest value.
#[inline(always)]
fn spanned(values: &[f32; 32], top: u8) -> (f32, f32, [u8; 32]) {
    let (low, high) = range(values);
    let d = (high - low) / f32::from(top);
    let inverse = inverse(d);
    (d, low, values.map(|v| (((v - low) * inverse + 0.5) as u8).min(top)))
}

#[inline(always)]
fn q4_0(values: &[f32; 32], block: &mut [u8; 18]) {
    let (d, codes) = centred(values, 8);
    put_half(block, 0, d);
    put_nibbles(&codes, &mut block[2..]);
}

#[inline(always)]
fn q4_1(values: &[f32; 32], block: &mut [u8; 20]) {
    let (d, low, codes) = spanned(values, 15);
    put_half(block, 0, d);
    put_half(block, 2, low);
    put_nibbles(&codes, &mut block[4..]);
}

#[inline(always)]
fn q5_0(values: &[f32; 32], block: &mut [u8; 22]) {
    let (d, codes) = centred(values, 16);
    put_half(block, 0, d);
    put_fifth(&codes, block, 2);
    put_nibbles(&codes, &mut block[6..]);
}

#[inline(always)]
fn q5_1(values: &[f32; 32], block: &mut [u8; 24]) {
    let (d, low, codes) = spanned(values, 31);
    put_half(block, 0, d);
    put_half(block, 2, low);
    put_fifth(&codes, block, 4);
    put_nibbles(&codes, &mut block[8..]);
}

#[inline(always)]
fn q8_0(values: &[f32; 32], block: &mut [u8; 34]) {
    let d = extreme(values).abs() / 127.0;
    let inverse = inverse(d);
    put_half(block, 0, d);
    for (byte, v) in block[2..].iter_mut().zip(values) {
        *byte = (v * inverse).round() as i8 as u8;
    }
}

/// What an f16 keeps of `value`.
#[inline(always)]
fn halved(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

#[cfg(test)]
mod tests;
