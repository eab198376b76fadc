//! What each code of a block stands for, and scales chosen for weighted values: for encoders that choose the codes themselves.

use super::BlockType;
use super::codes::{self, Scales, has_minimum};
use super::encode::search;
use half::f16;

/// The values of the codes of one group: `step * (code - middle) + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// From one code to the next.
    pub step: f32,
    /// The value of the middle code; 0 where blocks have no minimum.
    pub offset: f32,
}

impl Line {
    /// The value of `code`, bit for bit what decoding gives (but for the sign of a zero).
    #[inline(always)]
    pub fn value(self, code: u8, middle: i32) -> f32 {
        self.step * (i32::from(code) - middle) as f32 + self.offset
    }

    /// The code from `low` to `high` whose value is nearest to `value`; ties to the even step.
    #[inline(always)]
    pub fn nearest(self, value: f32, middle: i32, low: u8, high: u8) -> u8 {
        if self.step == 0.0 {
            return (middle.max(i32::from(low))) as u8;
        }
        let step = ((value - self.offset) / self.step).round_ties_even() + middle as f32;
        step.clamp(f32::from(low), f32::from(high)) as u8
    }
}

impl BlockType {
    /// Neighbouring values that share a line.
    pub fn values_per_group(self) -> usize {
        if self == BlockType::Q6K { 16 } else { 32 }
    }

    /// The code that stands for the offset.
    pub fn middle(self) -> i32 {
        match self {
            BlockType::Q4_0 => 8,
            BlockType::Q5_0 => 16,
            BlockType::Q6K => 32,
            BlockType::Q8_0 => 128,
            BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => 0,
        }
    }

    /// The smallest and the largest code. The smallest of 8 bits has no opposite, and no encoder uses it.
    pub fn code_range(self) -> (u8, u8) {
        match self {
            BlockType::Q4_0 | BlockType::Q4_1 | BlockType::Q4K => (0, 15),
            BlockType::Q5_0 | BlockType::Q5_1 | BlockType::Q5K => (0, 31),
            BlockType::Q6K => (0, 63),
            BlockType::Q8_0 => (1, 255),
        }
    }

    /// Whether a group has an offset of its own.
    pub fn has_offset(self) -> bool {
        has_minimum(self)
    }

    /// Scales for one block of `values` with a small sum of `weights[i]` times the square of the error of value `i`.
    ///
    /// # Panics
    /// When `values` or `weights` are not one block.
    pub fn scales(self, values: &[f32], weights: &[f32]) -> Scales {
        assert_eq!(values.len(), self.values_per_block(), "values of a block of {}", self.name());
        assert_eq!(weights.len(), self.values_per_block(), "weights of a block of {}", self.name());
        search(self, values, weights)
    }

    /// Encodes whole blocks, each so that the sum of `weights[i]` times the square of the error of value `i` is small. Weights that are finite
    /// and not negative; for values as for [`BlockType::encode`].
    ///
    /// # Panics
    /// When `values` is not a whole number of blocks, `weights` of another length, or `bytes` not exactly those blocks.
    pub fn encode_weighted(self, values: &[f32], weights: &[f32], bytes: &mut [u8]) {
        let (size, group) = (self.values_per_block(), self.values_per_group());
        assert_eq!(values.len() / size * size, values.len(), "{} values in part of a block", self.name());
        assert_eq!(weights.len(), values.len(), "one weight for each value");
        assert_eq!(bytes.len(), values.len() / size * self.bytes_per_block(), "bytes of blocks of {}", self.name());
        let ((low, high), middle) = (self.code_range(), self.middle());
        let mut codes = vec![0; size];
        let blocks = values.chunks_exact(size).zip(weights.chunks_exact(size));
        for ((values, weights), bytes) in blocks.zip(bytes.chunks_exact_mut(self.bytes_per_block())) {
            let scales = self.scales(values, weights);
            for (at, (codes, values)) in codes.chunks_exact_mut(group).zip(values.chunks_exact(group)).enumerate() {
                let line = scales.line(self, at);
                codes.iter_mut().zip(values).for_each(|(code, &value)| *code = line.nearest(value, middle, low, high));
            }
            self.pack(&codes, &scales, bytes);
        }
    }

    /// The bytes of one block with these codes and scales, overwritten.
    ///
    /// # Panics
    /// When `codes` or `bytes` are not one block.
    pub fn pack(self, codes: &[u8], scales: &Scales, bytes: &mut [u8]) {
        codes::pack(self, codes, scales, bytes);
    }
}

impl Scales {
    /// The line of group `group` of a block of `ty`.
    #[inline]
    pub fn line(&self, ty: BlockType, group: usize) -> Line {
        let (d, m) = (half(self.d), half(self.m));
        match ty {
            BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => Line { step: d, offset: 0.0 },
            BlockType::Q4_1 | BlockType::Q5_1 => Line { step: d, offset: m },
            BlockType::Q4K | BlockType::Q5K => {
                let [scale, minimum] = [self.small[2 * group], self.small[2 * group + 1]].map(f32::from);
                Line { step: d * scale, offset: -(m * minimum) }
            }
            BlockType::Q6K => Line { step: d * f32::from(self.small[group] as i8), offset: 0.0 },
        }
    }

    /// The same scales with the line of `group` as near to `line` as a block can hold; those of other groups stay.
    pub fn with_line(mut self, ty: BlockType, group: usize, line: Line) -> Self {
        let whole = |value: f32, unit: f32, low: f32, high: f32| match unit {
            0.0 => 0.0,
            _ => (value / unit).round_ties_even().clamp(low, high),
        };
        match ty {
            BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => self.d = bytes(line.step),
            BlockType::Q4_1 | BlockType::Q5_1 => (self.d, self.m) = (bytes(line.step), bytes(line.offset)),
            BlockType::Q4K | BlockType::Q5K => {
                self.small[2 * group] = whole(line.step, half(self.d), 0.0, 63.0) as u8;
                self.small[2 * group + 1] = whole(-line.offset, half(self.m), 0.0, 63.0) as u8;
            }
            BlockType::Q6K => self.small[group] = whole(line.step, half(self.d), -128.0, 127.0) as i8 as u8,
        }
        self
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// The nearest f16 that is finite.
fn bytes(value: f32) -> [u8; 2] {
    f16::from_f32(value.clamp(-65504.0, 65504.0)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::numbers;

    #[test]
    fn what_is_packed_decodes_to_the_lines_and_unpacks_to_itself() {
        for (seed, ty) in BlockType::ALL.into_iter().enumerate() {
            let size = ty.values_per_block();
            let values: Vec<f32> = numbers(seed as u64, size).iter().map(|v| v * 0.1).collect();
            let scales = ty.scales(&values, &vec![1.0; size]);
            let (low, high) = ty.code_range();
            let codes: Vec<u8> = (0..size).map(|i| low + (i * 7919 % (usize::from(high - low) + 1)) as u8).collect();
            let mut bytes = vec![0xa5; ty.bytes_per_block()];
            ty.pack(&codes, &scales, &mut bytes);
            let mut decoded = vec![f32::NAN; size];
            ty.decode(&bytes, &mut decoded);
            for (i, &value) in decoded.iter().enumerate() {
                let own = scales.line(ty, i / ty.values_per_group()).value(codes[i], ty.middle());
                assert!(value == own, "{} value {i}: {value} {own}", ty.name());
            }
            let mut again = vec![0; size];
            assert_eq!((codes::unpack(ty, &bytes, &mut again), &again), (scales, &codes), "{}", ty.name());
        }
    }

    #[test]
    fn scales_of_weighted_values_err_no_more_than_plain_encoding() {
        for (seed, ty) in BlockType::ALL.into_iter().enumerate() {
            let size = ty.values_per_block();
            let (mut plain, mut chosen) = (0.0f64, 0.0f64);
            for block in 0..32 {
                let values: Vec<f32> = numbers((seed * 100 + block) as u64, size).iter().map(|v| v * v * v).collect();
                let weights: Vec<f32> = numbers((seed * 100 + block + 50) as u64, size).iter().map(|v| v * v).collect();
                let mut bytes = vec![0; ty.bytes_per_block()];
                ty.encode(&values, &mut bytes);
                let mut decoded = vec![0.0; size];
                ty.decode(&bytes, &mut decoded);
                plain += (0..size).map(|i| f64::from(weights[i] * (values[i] - decoded[i]).powi(2))).sum::<f64>();
                let scales = ty.scales(&values, &weights);
                let (low, high) = ty.code_range();
                for i in 0..size {
                    let line = scales.line(ty, i / ty.values_per_group());
                    let nearest = (low..=high)
                        .map(|code| (values[i] - line.value(code, ty.middle())).powi(2))
                        .fold(f32::INFINITY, f32::min);
                    chosen += f64::from(weights[i] * nearest);
                }
            }
            assert!(chosen < plain, "{}: {chosen} against {plain}", ty.name());
        }
    }

    #[test]
    fn weighted_blocks_have_the_nearest_codes_and_err_less_where_it_counts() {
        for (seed, ty) in BlockType::ALL.into_iter().enumerate() {
            let size = 4 * ty.values_per_block();
            let values: Vec<f32> = numbers(seed as u64, size).iter().map(|v| v * v * v).collect();
            // Every fourth value counts a thousand times as much.
            let weights: Vec<f32> = (0..size).map(|i| if i % 4 == 0 { 1.0 } else { 1e-3 }).collect();
            let error = |encode: &dyn Fn(&mut [u8])| {
                let (mut bytes, mut decoded) = (vec![0xa5; 4 * ty.bytes_per_block()], vec![0.0; size]);
                encode(&mut bytes);
                ty.decode(&bytes, &mut decoded);
                (0..size).map(|i| f64::from(weights[i] * (values[i] - decoded[i]).powi(2))).sum::<f64>()
            };
            let weighted = error(&|bytes| ty.encode_weighted(&values, &weights, bytes));
            let plain = error(&|bytes| ty.encode(&values, bytes));
            assert!(weighted < plain, "{}: {weighted} against {plain}", ty.name());
            // Weights of zeros say nothing, and spoil nothing.
            let mut bytes = vec![0; 4 * ty.bytes_per_block()];
            ty.encode_weighted(&values, &vec![0.0; size], &mut bytes);
            let mut decoded = vec![f32::NAN; size];
            ty.decode(&bytes, &mut decoded);
            assert!(decoded.iter().all(|value| value.is_finite()), "{}", ty.name());
        }
    }

    #[test]
    fn a_line_is_rounded_to_what_the_block_holds() {
        let scales = BlockType::Q4K.scales(&[0.5; 256], &[1.0; 256]);
        let own = scales.line(BlockType::Q4K, 3);
        assert_eq!(scales.with_line(BlockType::Q4K, 3, own), scales);
        let plain = BlockType::Q4_1.scales(&[0.5; 32], &[1.0; 32]);
        let moved = plain.with_line(BlockType::Q4_1, 0, Line { step: 0.1, offset: 1e9 });
        assert_eq!(moved.line(BlockType::Q4_1, 0), Line { step: f16::from_f32(0.1).to_f32(), offset: 65504.0 });
    }
}
