//! Sums of outer products of the rows of a matrix.

use crate::isa::Isa;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::{PANEL, Tile, multiply_rows_of};

/// Rows summed in f32 before their sum is added in f64.
pub const CHUNK: usize = 256;
/// Rows of the result that one part computes.
const BAND: usize = 48;

/// `into[i,j] += sum over t of x[t,i] * x[t,j]`, with `x` `[T, n]` and `into` `[n, n]`.
///
/// The rows are taken in chunks of 256 from the first: within a chunk a fold of `fma` in f32 over `t` in order, the
/// chunks added in f64 in order. `into` stays exactly symmetric when it was. Cost: `T * n * n / 2` multiply-adds, no
/// allocation.
///
/// # Panics
/// When `x` is not whole rows of `n`, or `into` not `n * n`.
pub fn accumulate_gram(x: &[f32], n: usize, into: &mut [f64], pool: &Pool) {
    accumulate_gram_on(Isa::detect(), x, n, into, pool);
}

fn accumulate_gram_on(isa: Isa, x: &[f32], n: usize, into: &mut [f64], pool: &Pool) {
    assert_eq!(into.len(), n * n, "the Gram matrix is not [{n}, {n}]");
    if n == 0 {
        return assert!(x.is_empty(), "x is not [T, 0]");
    }
    assert!(x.len().is_multiple_of(n), "x is not [T, {n}]");
    let into = Shared::new(into);
    let bands = n.div_ceil(BAND);
    // The longest bands are the last rows: they go first.
    pool.run(bands, &|part| {
        let first = (bands - 1 - part) * BAND;
        let rows = BAND.min(n - first);
        let mut left = Lines([0.0; CHUNK * BAND]);
        let mut right = Lines([0.0; CHUNK * PANEL]);
        let mut sums = [0.0f32; BAND * PANEL];
        for chunk in x.chunks(CHUNK * n) {
            let depth = chunk.len() / n;
            copy_columns(chunk, n, first, rows, BAND, &mut left.0);
            for column in (0..first + rows).step_by(PANEL) {
                let width = PANEL.min(n - column);
                copy_columns(chunk, n, column, width, PANEL, &mut right.0);
                let tile = Tile {
                    x: left.0.as_ptr(),
                    x_stride: 1,
                    x_step: BAND,
                    rows,
                    panel: right.0.as_ptr().cast(),
                    panel_stride: 0,
                    depth,
                    y: sums.as_mut_ptr(),
                    y_stride: PANEL,
                    width: PANEL,
                    accumulate: false,
                };
                // SAFETY: the set is there and the three buffers hold what the tile names.
                unsafe { multiply_rows_of::<true>(isa, tile) };
                add_below_and_above(&sums, first..first + rows, column..column + width, n, &into);
            }
        }
    });
}

#[repr(align(64))]
struct Lines<const N: usize>([f32; N]);

/// Copies columns `first..first + width` of a chunk into lines of `stride`.
fn copy_columns(chunk: &[f32], n: usize, first: usize, width: usize, stride: usize, to: &mut [f32]) {
    for (row, line) in chunk.chunks_exact(n).zip(to.chunks_exact_mut(stride)) {
        line[..width].copy_from_slice(&row[first..first + width]);
    }
}

/// Adds `sums[i - rows.start, j - columns.start]` to `into[i, j]` where `j <= i`, and to its mirror.
fn add_below_and_above(
    sums: &[f32],
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    n: usize,
    into: &Shared<'_, f64>,
) {
    for (i, sums) in rows.clone().zip(sums.chunks_exact(PANEL)) {
        let end = columns.end.min(i + 1).max(columns.start);
        // SAFETY: elements on and below the diagonal belong to the part of their row.
        let row = unsafe { into.slice_mut(i * n + columns.start, end - columns.start) };
        row.iter_mut().zip(sums).for_each(|(sum, &more)| *sum += f64::from(more));
    }
    for j in columns.clone() {
        let start = rows.start.max(j + 1).min(rows.end);
        // SAFETY: elements above the diagonal belong to the part of their column.
        let row = unsafe { into.slice_mut(j * n + start, rows.end - start) };
        for (i, sum) in (start..).zip(row) {
            *sum += f64::from(sums[(i - rows.start) * PANEL + j - columns.start]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::numbers;

    #[test]
    fn every_set_and_pool_gives_the_bits_of_the_folds() {
        let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
        for n in [1, 2, 31, 33, 48, 49, 100, 130] {
            for tokens in [0, 1, 7, 255, 256, 257, 600] {
                let x = numbers(n as u64, tokens * n);
                let before: Vec<f64> = (0..n * n).map(|at| (at / n + at % n) as f64 * 0.25).collect();
                let mut expected = before.clone();
                for chunk in x.chunks(CHUNK * n) {
                    for (at, sum) in expected.iter_mut().enumerate() {
                        let fold = |acc: f32, x: &[f32]| x[at / n].mul_add(x[at % n], acc);
                        *sum += f64::from(chunk.chunks(n).fold(0.0f32, fold));
                    }
                }
                for isa in Isa::available() {
                    for pool in &pools {
                        let mut into = before.clone();
                        accumulate_gram_on(isa, &x, n, &mut into, pool);
                        let same = into.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{} {tokens}x{n}", isa.name());
                    }
                }
            }
        }
    }
}
