//! 8-bit codes times scales that a GGUF block cannot hold: E4M3 floats, and integers whose groups do not lie side by side.

use crate::weight::{Exact, Weight, Workspace};
use pare_format::map::Bytes;
use pare_kernels::pool::Pool;
use pare_kernels::rows::{RowSource, multiply_rows};
use std::sync::Arc;

/// What an 8-bit code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A signed integer.
    Int8,
    /// A float of 4 bits of exponent and 3 of mantissa, without infinities (OCP E4M3, "e4m3fn").
    E4m3,
}

/// Which columns share a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// So many neighbouring ones.
    Width(usize),
    /// Those of the same number; each number is below the scales of a row.
    Index(Arc<[u32]>),
}

/// A weight `[out, in]`: `number(code) * scale`, each product rounded to f32 once.
#[derive(Clone, Debug)]
pub struct Scaled {
    code: Code,
    shape: [usize; 2],
    codes: Bytes,
    /// `[row groups, column groups]`.
    scales: Arc<[f32]>,
    /// Neighbouring rows that share their scales.
    rows: usize,
    groups: Groups,
    /// Scales of a row.
    columns: usize,
}

impl Scaled {
    /// Codes `[out, in]`, row by row, with scales `[ceil(out / rows), columns]`; none when the lengths do not agree.
    pub fn new(
        code: Code,
        shape: [usize; 2],
        codes: Bytes,
        scales: Arc<[f32]>,
        rows: usize,
        groups: Groups,
    ) -> Option<Self> {
        let row_groups = shape[0].div_ceil(rows.max(1));
        let columns = scales.len().checked_div(row_groups)?;
        let covered = match &groups {
            Groups::Width(width) => *width > 0 && shape[1].div_ceil(*width) == columns,
            Groups::Index(index) => index.len() == shape[1] && index.iter().all(|group| (*group as usize) < columns),
        };
        let fits = rows > 0 && scales.len() == row_groups * columns && shape[0].checked_mul(shape[1])? == codes.len();
        (fits && covered).then_some(Self { code, shape, codes, scales, rows, groups, columns })
    }
}

/// The value of an E4M3 code.
const fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = ((code >> 3 & 0x0f) as u32, (code & 7) as u32);
    let magnitude = if code & 0x7f == 0x7f {
        f32::NAN
    } else if exponent == 0 {
        // Multiples of 2^-9.
        mantissa as f32 * 0.001_953_125
    } else {
        f32::from_bits((exponent + 120) << 23 | mantissa << 20)
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The values of all codes.
static E4M3: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = e4m3(code as u8);
        code += 1;
    }
    values
};

impl RowSource for Scaled {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn decode(&self, row: usize, start: usize, out: &mut [f32]) {
        let codes = &self.codes[row * self.shape[1] + start..][..out.len()];
        let scales = &self.scales[row / self.rows * self.columns..][..self.columns];
        match self.code {
            Code::Int8 => codes.iter().zip(&mut *out).for_each(|(code, value)| *value = f32::from(*code as i8)),
            Code::E4m3 => codes.iter().zip(&mut *out).for_each(|(code, value)| *value = E4M3[usize::from(*code)]),
        }
        match &self.groups {
            Groups::Width(width) => {
                // The first group may have begun before `start`.
                let (mut at, mut group) = (0, start / width);
                while at < out.len() {
                    let end = ((group + 1) * width - start).min(out.len());
                    out[at..end].iter_mut().for_each(|value| *value *= scales[group]);
                    (at, group) = (end, group + 1);
                }
            }
            Groups::Index(index) => {
                for (value, group) in out.iter_mut().zip(&index[start..]) {
                    *value *= scales[*group as usize];
                }
            }
        }
    }
}

impl Weight for Scaled {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], _: &mut Workspace, pool: &Pool) {
        multiply_rows(self, x, y, pool);
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.decode(row, 0, out);
    }

    fn stays(&self) -> bool {
        true
    }

    fn bytes(&self) -> usize {
        self.codes.len() + 4 * self.scales.len()
    }

    fn name(&self) -> &'static str {
        match self.code {
            Code::Int8 => "int8",
            Code::E4m3 => "f8_e4m3",
        }
    }

    fn exact_in(&self) -> Exact {
        Exact::F32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_by_hand() {
        let value = |code: u8| E4M3[usize::from(code)];
        assert_eq!([value(0x00), value(0x01), value(0x07), value(0x08)], [0.0, 1.0 / 512.0, 7.0 / 512.0, 1.0 / 64.0]);
        assert_eq!([value(0x38), value(0x39), value(0xb8), value(0x7e)], [1.0, 1.125, -1.0, 448.0]);
        assert!(value(0x7f).is_nan() && value(0xff).is_nan() && value(0x80).is_sign_negative());
    }

    #[test]
    fn scales_of_blocks_and_of_scattered_columns_by_hand() {
        let codes = || Bytes::from((1..=15u8).collect::<Vec<_>>());
        let new = |scales: &[f32], rows, groups| Scaled::new(Code::Int8, [3, 5], codes(), scales.into(), rows, groups);
        // Rows 0 and 1 share scales, columns in pairs.
        let blocks = new(&[1.0, 10.0, 100.0, -1.0, -10.0, -100.0], 2, Groups::Width(2)).unwrap();
        let mut row = [0.0; 5];
        blocks.decode_row(1, &mut row);
        assert_eq!(row, [6.0, 7.0, 80.0, 90.0, 1000.0]);
        blocks.decode_row(2, &mut row);
        assert_eq!(row, [-11.0, -12.0, -130.0, -140.0, -1500.0]);
        let mut piece = [0.0; 3];
        blocks.decode(0, 1, &mut piece);
        assert_eq!(piece, [2.0, 30.0, 40.0]);
        let scattered = new(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0], 1, Groups::Index([1, 0, 0, 1, 0].into())).unwrap();
        scattered.decode_row(2, &mut row);
        assert_eq!(row, [330.0, 36.0, 39.0, 420.0, 45.0]);
        assert!(new(&[1.0; 6], 1, Groups::Width(2)).is_none());
        assert!(new(&[1.0; 6], 1, Groups::Index([1, 0, 0, 2, 0].into())).is_none());
        assert!(new(&[], 1, Groups::Width(2)).is_none() && new(&[1.0; 3], 0, Groups::Width(5)).is_none());
    }
}
