//! Block types of GGUF that are read and copied but never made, decoded as the `gguf` package does.

use super::{four, iq, k, plain, ternary};
use crate::isa::{Isa, versions};

/// A block-quantised type of GGUF that has no encoder here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadType {
    /// 256 values in 16 groups: `(d * scale) * q - (dmin * min)`, 2-bit `q`, 4-bit scales and minima.
    Q2K,
    /// 256 values in 16 groups: `(d * scale) * (q - 4)`, 3-bit `q`, 6-bit scales less 32.
    Q3K,
    /// 256 values: entries of a codebook of 2048 times 8 numbers of -1, 0, 1, moved by an eighth, a 3-bit scale for each 32.
    Iq1S,
    /// As `Iq1S` with a scale for each 16, a shift for each 8, and `d` spread over the scales.
    Iq1M,
    /// 256 values: entries of a codebook of 256 times 8 magnitudes with 7 signs, a 4-bit scale for each 32.
    Iq2Xxs,
    /// As `Iq2Xxs` with 512 entries and a scale for each 16.
    Iq2Xs,
    /// As `Iq2Xs` with 1024 entries and 8 signs.
    Iq2S,
    /// 256 values: entries of a codebook of 256 times 4 magnitudes with 7 signs for 8, a 4-bit scale for each 32.
    Iq3Xxs,
    /// As `Iq3Xxs` with 512 entries and all signs.
    Iq3S,
    /// 32 values: `d` times one of 16 integers.
    Iq4Nl,
    /// 256 values in 8 groups: `d * (scale - 32)` times one of 16 integers, 6-bit scales.
    Iq4Xs,
    /// 256 values: `d` times -1, 0 or 1, five to a byte.
    Tq1_0,
    /// 256 values: `d` times -1, 0, 1 (or 2), four to a byte.
    Tq2_0,
    /// 32 values: a power of two times one of 15 small floats (OCP Microscaling 1.0).
    Mxfp4,
}

impl ReadType {
    /// Every type.
    pub const ALL: [ReadType; 14] = [
        ReadType::Q2K,
        ReadType::Q3K,
        ReadType::Iq1S,
        ReadType::Iq1M,
        ReadType::Iq2Xxs,
        ReadType::Iq2Xs,
        ReadType::Iq2S,
        ReadType::Iq3Xxs,
        ReadType::Iq3S,
        ReadType::Iq4Nl,
        ReadType::Iq4Xs,
        ReadType::Tq1_0,
        ReadType::Tq2_0,
        ReadType::Mxfp4,
    ];

    /// Values in one block.
    pub fn values_per_block(self) -> usize {
        match self {
            ReadType::Iq4Nl | ReadType::Mxfp4 => 32,
            _ => 256,
        }
    }

    /// Bytes of one block.
    pub fn bytes_per_block(self) -> usize {
        match self {
            ReadType::Q2K => 84,
            ReadType::Q3K => 110,
            ReadType::Iq1S => 50,
            ReadType::Iq1M => 56,
            ReadType::Iq2Xxs => 66,
            ReadType::Iq2Xs => 74,
            ReadType::Iq2S => 82,
            ReadType::Iq3Xxs => 98,
            ReadType::Iq3S => 110,
            ReadType::Iq4Nl => 18,
            ReadType::Iq4Xs => 136,
            ReadType::Tq1_0 => 54,
            ReadType::Tq2_0 => 66,
            ReadType::Mxfp4 => 17,
        }
    }

    /// The name that GGUF tools print.
    pub fn name(self) -> &'static str {
        match self {
            ReadType::Q2K => "Q2_K",
            ReadType::Q3K => "Q3_K",
            ReadType::Iq1S => "IQ1_S",
            ReadType::Iq1M => "IQ1_M",
            ReadType::Iq2Xxs => "IQ2_XXS",
            ReadType::Iq2Xs => "IQ2_XS",
            ReadType::Iq2S => "IQ2_S",
            ReadType::Iq3Xxs => "IQ3_XXS",
            ReadType::Iq3S => "IQ3_S",
            ReadType::Iq4Nl => "IQ4_NL",
            ReadType::Iq4Xs => "IQ4_XS",
            ReadType::Tq1_0 => "TQ1_0",
            ReadType::Tq2_0 => "TQ2_0",
            ReadType::Mxfp4 => "MXFP4",
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

versions!(decode_on, decode_body, (ty: ReadType, bytes: &[u8], out: &mut [f32]));

#[inline(always)]
fn decode_body(ty: ReadType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        ReadType::Q2K => plain::each(bytes, out, k::q2),
        ReadType::Q3K => plain::each(bytes, out, k::q3),
        ReadType::Iq1S => plain::each(bytes, out, iq::iq1_s),
        ReadType::Iq1M => plain::each(bytes, out, iq::iq1_m),
        ReadType::Iq2Xxs => plain::each(bytes, out, iq::iq2_xxs),
        ReadType::Iq2Xs => plain::each(bytes, out, iq::iq2_xs),
        ReadType::Iq2S => plain::each(bytes, out, iq::iq2_s),
        ReadType::Iq3Xxs => plain::each(bytes, out, iq::iq3_xxs),
        ReadType::Iq3S => plain::each(bytes, out, iq::iq3_s),
        ReadType::Iq4Nl => plain::each(bytes, out, four::iq4_nl),
        ReadType::Iq4Xs => plain::each(bytes, out, four::iq4_xs),
        ReadType::Tq1_0 => plain::each(bytes, out, ternary::tq1_0),
        ReadType::Tq2_0 => plain::each(bytes, out, ternary::tq2_0),
        ReadType::Mxfp4 => plain::each(bytes, out, four::mxfp4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::same_bits;

    /// For each type: blocks of bytes, then their values, as `goldens/blocks/read.py` writes them.
    const GOLDEN: &[u8] = include_bytes!("../../../../goldens/blocks/read.bin");

    #[test]
    fn every_type_decodes_the_golden_blocks_bit_for_bit() {
        let per_block: usize = ReadType::ALL.iter().map(|ty| ty.bytes_per_block() + 4 * ty.values_per_block()).sum();
        let blocks = GOLDEN.len() / per_block;
        assert!(blocks > 0 && GOLDEN.len() == blocks * per_block);
        let mut rest = GOLDEN;
        for ty in ReadType::ALL {
            let (bytes, after) = rest.split_at(blocks * ty.bytes_per_block());
            let (values, after) = after.split_at(blocks * ty.values_per_block() * 4);
            rest = after;
            let values: Vec<f32> = values.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
            for isa in Isa::available() {
                let mut found = vec![f32::NAN; values.len()];
                decode_on(isa, ty, bytes, &mut found);
                assert!(same_bits(&found, &values), "{} on {}", ty.name(), isa.name());
            }
        }
    }

    /// Every byte is an index, a scale or a code: none may lead out of a table, whatever it is.
    #[test]
    fn no_bytes_panic_and_every_value_of_a_finite_scale_is_finite() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        for ty in ReadType::ALL {
            let mut out = vec![0.0; ty.values_per_block()];
            for fill in [0u8, 0xff, 0x55, 0xaa] {
                ty.decode(&vec![fill; ty.bytes_per_block()], &mut out);
            }
            assert!(out.iter().all(|v| v.is_finite()), "{}: 0xaaaa is a finite scale", ty.name());
            for _ in 0..500 {
                let bytes: Vec<u8> = (0..ty.bytes_per_block()).map(|_| next()).collect();
                ty.decode(&bytes, &mut out);
            }
        }
    }
}
