//! Products with matrices that stay row-major where they are, such as quantised rows in a memory map.

use crate::isa::Isa;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::{PANEL, Tile, multiply_rows_of};

/// Columns decoded at a time: whole blocks of every quantised type.
pub const CHUNK: usize = 256;
/// Values from one decoded row to the next: not a power of two, so that a column does not fall on one line of the cache.
const STRIDE: usize = CHUNK + 16;

/// A matrix `[out, in]` that decodes pieces of its rows.
pub trait RowSource: Sync {
    /// `[out, in]`.
    fn shape(&self) -> [usize; 2];

    /// Writes columns `start..start + out.len()` of row `row` into `out`. [`multiply_rows`] asks only for `start` a
    /// multiple of 256, and a length of 256 or up to the end of the row.
    fn decode(&self, row: usize, start: usize, out: &mut [f32]);
}

/// `y[t,o] = sum over i in order of x[t,i] * w[o,i]`, with `x` `[T, in]` and `y` `[T, out]`, which is overwritten.
///
/// Each value of the matrix is decoded once. The same bits as [`crate::Panels::multiply`] on the same values. No
/// allocation.
///
/// # Panics
/// When the lengths of `x` and `y` do not agree on one `T`.
pub fn multiply_rows(source: &dyn RowSource, x: &[f32], y: &mut [f32], pool: &Pool) {
    multiply_rows_on(Isa::detect(), source, x, y, pool);
}

fn multiply_rows_on(isa: Isa, source: &dyn RowSource, x: &[f32], y: &mut [f32], pool: &Pool) {
    let [out, inn] = source.shape();
    let rows = y.len().checked_div(out).unwrap_or(0);
    assert_eq!(y.len(), rows * out, "y is not [T, {out}]");
    assert_eq!(x.len(), rows * inn, "x is not [{rows}, {inn}]");
    if inn == 0 || rows == 0 {
        return y.fill(0.0);
    }
    let y = Shared::new(y);
    pool.run(out.div_ceil(PANEL), &|p| {
        let first = p * PANEL;
        let width = PANEL.min(out - first);
        let mut decoded = [0.0f32; STRIDE * PANEL];
        let mut panel = Chunk([0.0; CHUNK * PANEL]);
        for start in (0..inn).step_by(CHUNK) {
            let depth = CHUNK.min(inn - start);
            for (lane, row) in decoded.chunks_exact_mut(STRIDE).enumerate().take(width) {
                source.decode(first + lane, start, &mut row[..depth]);
            }
            for (k, line) in panel.0[..depth * PANEL].chunks_exact_mut(PANEL).enumerate() {
                for (lane, value) in line.iter_mut().enumerate() {
                    *value = decoded[lane * STRIDE + k];
                }
            }
            let tile = Tile {
                x: x[start..].as_ptr(),
                x_stride: inn,
                x_step: 1,
                rows,
                panel: panel.0.as_ptr().cast(),
                panel_stride: 0,
                depth,
                y: y.at(first),
                y_stride: out,
                width,
                accumulate: start > 0,
            };
            // SAFETY: the set is there, the lengths were compared, and each part writes its own outputs.
            unsafe { multiply_rows_of::<false>(isa, tile) };
        }
    });
}

#[repr(align(64))]
struct Chunk([f32; CHUNK * PANEL]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{RowType, Rows};
    use crate::reference::{self, numbers, same_bits};

    #[test]
    fn rows_in_bytes_give_the_bits_of_the_fold() {
        let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
        for (out, inn) in [(1, 1), (31, 2), (32, 31), (33, 192), (64, 256), (100, 257), (33, 576)] {
            let w = numbers(7, out * inn);
            let bytes: Vec<u8> = w.iter().flat_map(|w| w.to_le_bytes()).collect();
            let source = Rows::new(RowType::F32, &bytes, [out, inn]).expect("the bytes fit");
            for rows in [1, 2, 3, 7, 12, 13, 40] {
                let x = numbers(8, rows * inn);
                let expected = reference::multiply(&x, &w, rows, out, inn);
                for isa in Isa::available() {
                    for pool in &pools {
                        let mut y = vec![f32::NAN; rows * out];
                        multiply_rows_on(isa, &source, &x, &mut y, pool);
                        assert!(same_bits(&y, &expected), "{} {rows}x{inn}x{out}", isa.name());
                    }
                }
            }
        }
    }
}
