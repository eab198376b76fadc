//! Products with matrices that stay row-major where they are, such as quantised rows in a memory map.

use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::{PANEL, multiply_panel};

/// Columns decoded at a time: whole blocks of every quantised type.
pub const CHUNK: usize = 256;

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
/// Each value of the matrix is decoded once. The same bits as [`crate::Panels::multiply`] on the same values.
///
/// # Panics
/// When the lengths of `x` and `y` do not agree on one `T`.
pub fn multiply_rows(source: &dyn RowSource, x: &[f32], y: &mut [f32], pool: &Pool) {
    let [out, inn] = source.shape();
    let rows = y.len().checked_div(out).unwrap_or(0);
    assert_eq!(y.len(), rows * out, "y is not [T, {out}]");
    assert_eq!(x.len(), rows * inn, "x is not [{rows}, {inn}]");
    if inn == 0 {
        return y.fill(0.0);
    }
    let shared = Shared::new(y);
    pool.run(out.div_ceil(PANEL), &|p| {
        let first = p * PANEL;
        let width = PANEL.min(out - first);
        let mut row = [0.0f32; CHUNK];
        let mut panel = [0.0f32; CHUNK * PANEL];
        let mut sums = [0.0f32; PANEL];
        for start in (0..inn).step_by(CHUNK) {
            let depth = CHUNK.min(inn - start);
            for lane in 0..width {
                source.decode(first + lane, start, &mut row[..depth]);
                for (k, &value) in row[..depth].iter().enumerate() {
                    panel[k * PANEL + lane] = value;
                }
            }
            for t in 0..rows {
                // SAFETY: these elements of y belong to this part alone.
                let y = unsafe { shared.slice_mut(t * out + first, width) };
                sums[..width].copy_from_slice(y);
                let x = &x[t * inn + start..t * inn + start + depth];
                multiply_panel(x, depth, 1, &panel, depth, &mut sums, PANEL, width, start > 0);
                y.copy_from_slice(&sums[..width]);
            }
        }
    });
}
