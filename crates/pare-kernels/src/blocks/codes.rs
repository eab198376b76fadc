//! The integers and scales of a block as they are, for storages that keep them in another order.

use super::BlockType;
use super::k::packed_scale_and_minimum;

/// The scales of a block, as its bytes hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scales {
    /// The f16 scale, as bytes.
    pub(crate) d: [u8; 2],
    /// The f16 minimum, or scale of the minima, as bytes; zero where there is none.
    pub(crate) m: [u8; 2],
    /// Blocks of 256: scale and minimum of each 32 values, or the two (signed) scales of their halves.
    pub(crate) small: [u8; 16],
}

/// Writes the code of each value of the block `bytes`, not negative, into `values`; 8-bit codes are raised by 128.
///
/// # Panics
/// When `bytes` or `values` are not one block.
pub(crate) fn unpack(ty: BlockType, bytes: &[u8], values: &mut [u8]) -> Scales {
    assert_eq!(bytes.len(), ty.bytes_per_block(), "bytes of a block of {}", ty.name());
    assert_eq!(values.len(), ty.values_per_block(), "values of a block of {}", ty.name());
    let pair = |at: usize| [bytes[at], bytes[at + 1]];
    let mut scales = Scales { d: pair(0), m: [0; 2], small: [0; 16] };
    // `at`: where the low 4 bits begin; `high`: where the fifth bits begin.
    let mut plain = |at: usize, high: Option<usize>| {
        let bit = |i: usize| high.map_or(0, |high| (bytes[high + i / 8] >> (i % 8) & 1) << 4);
        for i in 0..16 {
            values[i] = bytes[at + i] & 0x0f | bit(i);
            values[i + 16] = bytes[at + i] >> 4 | bit(i + 16);
        }
    };
    match ty {
        BlockType::Q4_0 => plain(2, None),
        BlockType::Q5_0 => plain(6, Some(2)),
        BlockType::Q4_1 | BlockType::Q5_1 => {
            scales.m = pair(2);
            if ty == BlockType::Q4_1 { plain(4, None) } else { plain(8, Some(4)) }
        }
        BlockType::Q8_0 => values.iter_mut().zip(&bytes[2..]).for_each(|(value, &code)| *value = code ^ 0x80),
        BlockType::Q4K | BlockType::Q5K => {
            scales.m = pair(2);
            let (low, high) = if ty == BlockType::Q4K { (16, None) } else { (48, Some(16)) };
            for (group, values) in values.chunks_exact_mut(32).enumerate() {
                let (scale, minimum) = packed_scale_and_minimum(&bytes[4..16], group);
                (scales.small[2 * group], scales.small[2 * group + 1]) = (scale, minimum);
                for (i, value) in values.iter_mut().enumerate() {
                    let fifth = high.map_or(0, |high| (bytes[high + i] >> group & 1) << 4);
                    *value = bytes[low + group / 2 * 32 + i] >> (group % 2 * 4) & 0x0f | fifth;
                }
            }
        }
        BlockType::Q6K => {
            scales.d = pair(208);
            scales.small.copy_from_slice(&bytes[192..208]);
            for (group, values) in values.chunks_exact_mut(32).enumerate() {
                let (half, quarter) = (group / 4, group % 4);
                for (i, value) in values.iter_mut().enumerate() {
                    let low = bytes[half * 64 + quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 0x0f;
                    *value = low | (bytes[128 + half * 32 + i] >> (quarter * 2) & 3) << 4;
                }
            }
        }
    }
    scales
}

/// The way back from [`unpack`]: the bytes of the block with these codes and scales, overwritten.
///
/// # Panics
/// When `bytes` or `values` are not one block.
pub(crate) fn pack(ty: BlockType, values: &[u8], scales: &Scales, bytes: &mut [u8]) {
    assert_eq!(bytes.len(), ty.bytes_per_block(), "bytes of a block of {}", ty.name());
    assert_eq!(values.len(), ty.values_per_block(), "values of a block of {}", ty.name());
    bytes.fill(0);
    let d_at = if ty == BlockType::Q6K { 208 } else { 0 };
    bytes[d_at..d_at + 2].copy_from_slice(&scales.d);
    let mut plain = |at: usize, high: Option<usize>| {
        for i in 0..32 {
            bytes[at + i % 16] |= (values[i] & 0x0f) << (i / 16 * 4);
            if let Some(high) = high {
                bytes[high + i / 8] |= (values[i] >> 4 & 1) << (i % 8);
            }
        }
    };
    match ty {
        BlockType::Q4_0 => plain(2, None),
        BlockType::Q5_0 => plain(6, Some(2)),
        BlockType::Q4_1 => plain(4, None),
        BlockType::Q5_1 => plain(8, Some(4)),
        BlockType::Q8_0 => bytes[2..].iter_mut().zip(values).for_each(|(byte, &value)| *byte = value ^ 0x80),
        BlockType::Q4K | BlockType::Q5K => {
            let (low, high) = if ty == BlockType::Q4K { (16, None) } else { (48, Some(16)) };
            for (group, values) in values.chunks_exact(32).enumerate() {
                pack_scale_and_minimum(&mut bytes[4..16], group, scales.small[2 * group], scales.small[2 * group + 1]);
                for (i, &value) in values.iter().enumerate() {
                    bytes[low + group / 2 * 32 + i] |= (value & 0x0f) << (group % 2 * 4);
                    if let Some(high) = high {
                        bytes[high + i] |= (value >> 4 & 1) << group;
                    }
                }
            }
        }
        BlockType::Q6K => {
            bytes[192..208].copy_from_slice(&scales.small);
            for (group, values) in values.chunks_exact(32).enumerate() {
                let (half, quarter) = (group / 4, group % 4);
                for (i, &value) in values.iter().enumerate() {
                    bytes[half * 64 + quarter % 2 * 32 + i] |= (value & 0x0f) << (quarter / 2 * 4);
                    bytes[128 + half * 32 + i] |= (value >> 4 & 3) << (quarter * 2);
                }
            }
        }
    }
    if has_minimum(ty) {
        bytes[2..4].copy_from_slice(&scales.m);
    }
}

/// Whether a block has a minimum, or a scale of minima.
pub(super) fn has_minimum(ty: BlockType) -> bool {
    matches!(ty, BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K)
}

/// Puts the 6-bit scale and minimum of a group into its place of the 12 bytes, which begin as zeros.
fn pack_scale_and_minimum(packed: &mut [u8], group: usize, scale: u8, minimum: u8) {
    if group < 4 {
        packed[group] |= scale;
        packed[group + 4] |= minimum;
    } else {
        packed[group + 4] = (scale & 0x0f) | (minimum << 4);
        packed[group - 4] |= scale >> 4 << 6;
        packed[group] |= minimum >> 4 << 6;
    }
}
