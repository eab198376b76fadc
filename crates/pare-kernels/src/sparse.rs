//! Matrices without their zeros: 2 of every 4 inputs, or columns that 8 neighbouring outputs share.
//!
//! Lanes run across outputs and inputs are folded in order, so what is kept obeys the one law: a weight that is left out is a
//! step `fma(x, 0, acc)`, which changes no sum for a finite `x`, the sign of a zero aside.

mod eight_rows;
mod error;
mod two_of_four;

pub use eight_rows::{EightRows, EightRowsParts};
pub use error::SparseError;
pub use two_of_four::{TwoOfFour, TwoOfFourParts};

use crate::tile::PANEL;
use half::f16;
use std::ops::Range;

/// Inputs, or kept columns, that share a scale when values are 8-bit integers.
const RUN: usize = 32;
/// Multiply-adds below which a second thread costs more than it saves.
const SMALL: usize = 1 << 15;
/// Bytes of storage that are worth a part of their own.
const PART_BYTES: usize = 1 << 15;
/// Bytes of inputs that the second cache keeps beside the rest.
const CACHED: usize = 1 << 20;
/// The fewest rows of a piece: each piece reads the storage once.
const PIECE: usize = 96;

/// How the kept values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SparseType {
    /// 2 bytes each.
    F16,
    /// 1 byte each, and an f16 scale for 32 inputs ([`TwoOfFour`]) or 32 kept columns ([`EightRows`]) of an output.
    Int8,
}

/// Kept values in the order of their storage in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SparseValues {
    /// The bits of an f16 each.
    F16(Vec<u16>),
    /// `scale * value` each.
    Int8 {
        /// The integers.
        values: Vec<i8>,
        /// The bits of an f16 each.
        scales: Vec<u16>,
    },
}

impl SparseValues {
    /// Zeros; scales only where integers have them.
    fn zeroed(ty: SparseType, values: usize, scales: usize) -> SparseValues {
        match ty {
            SparseType::F16 => SparseValues::F16(vec![0; values]),
            SparseType::Int8 => SparseValues::Int8 { values: vec![0; values], scales: vec![0; scales] },
        }
    }

    /// Compares the lengths, and refuses scales that are not finite.
    fn check(&self, values: Option<usize>, scales: Option<usize>) -> Result<(), SparseError> {
        match self {
            SparseValues::F16(found) => check_length("values", found.len(), values),
            SparseValues::Int8 { values: found, scales: found_scales } => {
                check_length("values", found.len(), values)?;
                check_length("scales", found_scales.len(), scales)?;
                match found_scales.iter().position(|&bits| !f16::from_bits(bits).is_finite()) {
                    Some(at) => Err(SparseError::Scale { at }),
                    None => Ok(()),
                }
            }
        }
    }
}

fn check_length(part: &'static str, found: usize, expected: Option<usize>) -> Result<(), SparseError> {
    match expected {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(SparseError::Length { part, found, expected }),
        None => Err(SparseError::TooLarge),
    }
}

/// The scale of symmetric 8-bit integers for values of which `most` is the largest size: the smallest f16 that is not
/// below `most / 127`, so that none exceeds 127. `None` when no f16 is that large, or `most` is not finite.
fn scale_of(most: f32) -> Option<f16> {
    let wanted = most / 127.0;
    let nearest = f16::from_f32(wanted);
    let scale = if nearest.to_f32() < wanted { f16::from_bits(nearest.to_bits() + 1) } else { nearest };
    (wanted.is_finite() && scale.is_finite()).then_some(scale)
}

/// `value / scale` to the nearest integer, ties to even; 0 for the scale 0.
fn quant_of(value: f32, scale: f16) -> i8 {
    // In f64 the division cannot move a value over a tie.
    (f64::from(value) / f64::from(scale.to_f32())).round_ties_even().clamp(-127.0, 127.0) as i8
}

/// How a product is shared: pieces of rows, each in parts of neighbouring panels, `together` of which are multiplied at once.
#[derive(Clone, Copy)]
struct Cut {
    panels: usize,
    together: usize,
    rows: usize,
    piece: usize,
    parts: usize,
}

impl Cut {
    /// For `bytes` of storage, at most `most` rows and `most_panels` panels being multiplied at once.
    fn new(
        bytes: usize,
        [out, inn]: [usize; 2],
        rows: usize,
        threads: usize,
        (most, most_panels): (usize, usize),
    ) -> Cut {
        let panels = out.div_ceil(PANEL);
        let kept = (CACHED / (4 * inn.max(1))).max(PIECE);
        let piece = rows.div_ceil(rows.div_ceil(kept).max(1)).next_multiple_of(most).max(most);
        let small = rows.saturating_mul(out).saturating_mul(inn) < SMALL;
        let threads = if small { 1 } else { threads };
        // As many at once as leave the busiest thread at most a quarter more than its share.
        let busiest = |together: usize| panels.div_ceil(together).div_ceil(threads) * together;
        let together = (1..=most_panels).rev().find(|&together| 4 * busiest(together) <= 5 * busiest(1)).unwrap_or(1);
        let groups = panels.div_ceil(together).max(1);
        let parts = if small { 1 } else { (bytes / PART_BYTES).clamp(threads, 16 * threads).min(groups) };
        Cut { panels, together, rows, piece, parts }
    }

    /// All parts of all pieces.
    fn count(&self) -> usize {
        self.parts * self.rows.div_ceil(self.piece).max(1)
    }

    /// The groups `(first panel, panels)` and the rows of a part.
    fn part(&self, part: usize) -> (impl Iterator<Item = (usize, usize)> + use<>, Range<usize>) {
        let Cut { panels, together, piece, .. } = *self;
        let (at, part) = (part / self.parts, part % self.parts);
        let groups = panels.div_ceil(together);
        let groups = part * groups / self.parts..(part + 1) * groups / self.parts;
        let panels = groups.map(move |group| (group * together, together.min(panels - group * together)));
        (panels, at * piece..self.rows.min((at + 1) * piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int8::Int8Rows;
    use crate::isa::Isa;
    use crate::pool::Pool;
    use crate::product::{Product, multiply_together_on};
    use crate::reference::sizes;

    type Pools = [Pool; 3];
    type Check<'a> = &'a dyn Fn(usize, usize, &[usize], &Pools);

    /// Calls `check(out, inn, numbers of rows, pools)` for sizes on both sides of every tail.
    pub(super) fn grid(check: Check<'_>) {
        let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
        for &out in sizes(&[1, 7, 8, 9, 31, 32, 33, 100], &[9, 33]) {
            for &inn in sizes(&[1, 3, 4, 5, 31, 32, 33, 36, 64, 100, 576], &[5, 36]) {
                check(out, inn, sizes(&[1, 2, 3, 5, 8, 13, 16, 40], &[1, 3]), &pools);
            }
        }
    }

    /// Multiplies on every set with every pool; rows of a batch must equal the same rows alone.
    pub(super) fn product_on(
        product: &dyn Product,
        x: &[f32],
        rows: usize,
        pools: &Pools,
        check: impl Fn(Isa, &[f32]),
    ) {
        let [out, inn] = product.shape();
        let mut int8 = Int8Rows::new();
        for isa in Isa::available() {
            for pool in pools {
                let mut y = vec![f32::NAN; rows * out];
                multiply_together_on(isa, [(product, &mut y)], x, &mut int8, pool);
                check(isa, &y);
                let (row, mut alone) = (rows / 2, vec![f32::NAN; out]);
                multiply_together_on(isa, [(product, &mut alone)], &x[row * inn..][..inn], &mut int8, pool);
                assert!(crate::reference::same_bits(&alone, &y[row * out..][..out]), "row {row} of {rows} alone");
            }
        }
    }

    /// For each number of rows, the bits of the fold over the matrix that `dense` holds.
    pub(super) fn gives_the_fold(product: &dyn Product, dense: &[f32], rows: &[usize], pools: &Pools, name: &str) {
        let [out, inn] = product.shape();
        for &rows in rows {
            let x = crate::reference::numbers(rows as u64 + 9, rows * inn);
            let expected = crate::reference::multiply(&x, dense, rows, out, inn);
            product_on(product, &x, rows, pools, |isa, y| {
                assert!(crate::reference::same_bits(y, &expected), "{name} {} {rows}x{inn}x{out}", isa.name());
            });
        }
    }

    #[test]
    fn a_scale_is_never_so_small_that_a_value_saturates() {
        for most in [0.0f32, 1e-9, 3e-7, 1e-5, 0.004, 0.1, 1.0, 127.0, 1e6, 8e6] {
            let scale = scale_of(most).expect("it fits");
            assert!(scale.to_f32() * 127.0 >= most * 0.999_999);
            assert!(f32::from(quant_of(most, scale)) * scale.to_f32() <= most + scale.to_f32() / 2.0);
            assert_eq!(quant_of(-most, scale), -quant_of(most, scale));
        }
        assert_eq!(scale_of(127.0), Some(f16::ONE));
        assert_eq!(scale_of(65504.0 * 127.0), Some(f16::MAX));
        for most in [65505.0 * 127.0, 1e7, f32::INFINITY, f32::NAN] {
            assert_eq!(scale_of(most), None);
        }
    }

    #[test]
    fn parts_cover_every_panel_and_row_once() {
        for (out, rows, threads) in [(1, 1, 3), (100, 40, 2), (4096, 700, 2), (0, 5, 1), (64, 0, 2)] {
            let cut = Cut::new(out * 4096, [out, 4096], rows, threads, (8, 4));
            let mut seen = vec![0u8; out.div_ceil(PANEL) * rows];
            for part in 0..cut.count() {
                let (panels, rows_of) = cut.part(part);
                for panel in panels.flat_map(|(first, count)| first..first + count) {
                    rows_of.clone().for_each(|r| seen[panel * rows + r] += 1);
                }
            }
            assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
