//! The block-quantised and half-width storages of GGUF, decoded to f32 exactly as `ggml` defines them, and encoded.

pub(crate) mod codes;
mod encode;
mod four;
mod grid;
mod iq;
mod k;
mod plain;
mod read;
mod ternary;

pub use codes::Scales;
pub use grid::Line;
pub use read::ReadType;

use crate::isa::{Isa, versions};
use crate::rows::RowSource;

/// A block-quantised type of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockType {
    /// 32 values: `d * (q - 8)`, 4-bit `q`.
    Q4_0,
    /// 32 values: `d * q + m`, 4-bit `q`.
    Q4_1,
    /// 32 values: `d * (q - 16)`, 5-bit `q`.
    Q5_0,
    /// 32 values: `d * q + m`, 5-bit `q`.
    Q5_1,
    /// 32 values: `q * d`, 8-bit signed `q`.
    Q8_0,
    /// 256 values in 8 groups: `(d * scale) * q - (dmin * min)`, 4-bit `q`, 6-bit scales and minima.
    Q4K,
    /// 256 values in 8 groups: as `Q4K` with 5-bit `q`.
    Q5K,
    /// 256 values in 16 groups: `(d * scale) * (q - 32)`, 6-bit `q`, 8-bit signed scales.
    Q6K,
}

impl BlockType {
    /// Every type.
    pub const ALL: [BlockType; 8] = [
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q8_0,
        BlockType::Q4K,
        BlockType::Q5K,
        BlockType::Q6K,
    ];

    /// Values in one block.
    pub fn values_per_block(self) -> usize {
        match self {
            BlockType::Q4K | BlockType::Q5K | BlockType::Q6K => 256,
            _ => 32,
        }
    }

    /// Bytes of one block.
    pub fn bytes_per_block(self) -> usize {
        match self {
            BlockType::Q4_0 => 18,
            BlockType::Q4_1 => 20,
            BlockType::Q5_0 => 22,
            BlockType::Q5_1 => 24,
            BlockType::Q8_0 => 34,
            BlockType::Q4K => 144,
            BlockType::Q5K => 176,
            BlockType::Q6K => 210,
        }
    }

    /// The name that GGUF tools print.
    pub fn name(self) -> &'static str {
        match self {
            BlockType::Q4_0 => "Q4_0",
            BlockType::Q4_1 => "Q4_1",
            BlockType::Q5_0 => "Q5_0",
            BlockType::Q5_1 => "Q5_1",
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q4K => "Q4_K",
            BlockType::Q5K => "Q5_K",
            BlockType::Q6K => "Q6_K",
        }
    }

    /// Decodes whole blocks: scales widened from f16, arithmetic in f32, each product and sum rounded.
    ///
    /// # Panics
    /// When `out` is not a whole number of blocks, or `bytes` not exactly those blocks.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        let blocks = out.len() / self.values_per_block();
        assert_eq!(out.len(), blocks * self.values_per_block(), "{} values in part of a block", self.name());
        assert_eq!(bytes.len(), blocks * self.bytes_per_block(), "bytes of {blocks} blocks of {}", self.name());
        decode_on(Isa::detect(), self, bytes, out);
    }
}

versions!(decode_on, decode_body, (ty: BlockType, bytes: &[u8], out: &mut [f32]));

#[inline(always)]
fn decode_body(ty: BlockType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        BlockType::Q4_0 => plain::each(bytes, out, plain::q4_0),
        BlockType::Q4_1 => plain::each(bytes, out, plain::q4_1),
        BlockType::Q5_0 => plain::each(bytes, out, plain::q5_0),
        BlockType::Q5_1 => plain::each(bytes, out, plain::q5_1),
        BlockType::Q8_0 => plain::each(bytes, out, plain::q8_0),
        BlockType::Q4K => plain::each(bytes, out, k::q4),
        BlockType::Q5K => plain::each(bytes, out, k::q5),
        BlockType::Q6K => plain::each(bytes, out, k::q6),
    }
}

/// How one row of values lies in bytes (little-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// Quantised blocks.
    Blocks(BlockType),
    /// Quantised blocks without an encoder.
    Read(ReadType),
}

impl RowType {
    /// Values that cannot be parted.
    pub fn values_per_block(self) -> usize {
        match self {
            RowType::F32 | RowType::F16 | RowType::Bf16 => 1,
            RowType::Blocks(ty) => ty.values_per_block(),
            RowType::Read(ty) => ty.values_per_block(),
        }
    }

    /// Bytes of those values.
    pub fn bytes_per_block(self) -> usize {
        match self {
            RowType::F32 => 4,
            RowType::F16 | RowType::Bf16 => 2,
            RowType::Blocks(ty) => ty.bytes_per_block(),
            RowType::Read(ty) => ty.bytes_per_block(),
        }
    }

    /// Decodes whole blocks; exact for the plain types.
    ///
    /// # Panics
    /// When the lengths do not agree.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        let mut plain = |values: fn(&[u8], &mut [f32])| {
            assert_eq!(bytes.len(), out.len() * self.bytes_per_block(), "bytes of {} values of {self:?}", out.len());
            values(bytes, out);
        };
        match self {
            RowType::F32 => plain(plain::f32_values),
            RowType::F16 => plain(plain::f16_values),
            RowType::Bf16 => plain(plain::bf16_values),
            RowType::Blocks(ty) => ty.decode(bytes, out),
            RowType::Read(ty) => ty.decode(bytes, out),
        }
    }
}

/// A row-major matrix `[out, in]` in borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    ty: RowType,
    bytes: &'a [u8],
    shape: [usize; 2],
    row_bytes: usize,
}

impl<'a> Rows<'a> {
    /// Views `bytes` as `[out, in]`; `None` unless a row is whole blocks and the bytes are exactly those rows.
    pub fn new(ty: RowType, bytes: &'a [u8], shape: [usize; 2]) -> Option<Rows<'a>> {
        let [out, inn] = shape;
        let row_bytes = (inn / ty.values_per_block()).checked_mul(ty.bytes_per_block())?;
        let fits = inn.is_multiple_of(ty.values_per_block()) && row_bytes.checked_mul(out)? == bytes.len();
        fits.then_some(Rows { ty, bytes, shape, row_bytes })
    }
}

impl RowSource for Rows<'_> {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn decode(&self, row: usize, start: usize, out: &mut [f32]) {
        let (values, bytes) = (self.ty.values_per_block(), self.ty.bytes_per_block());
        assert!(start.is_multiple_of(values), "column {start} is inside a block of {values}");
        let from = row * self.row_bytes + start / values * bytes;
        self.ty.decode(&self.bytes[from..from + out.len() / values * bytes], out);
    }
}

#[cfg(test)]
mod tests;
