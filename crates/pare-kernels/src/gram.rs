//! Sums of outer products of the rows of a matrix.

use crate::isa::{Isa, versions};
use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::{PANEL, Tile, multiply_rows_of};
use std::ops::Range;

/// Rows summed in f32 before their sum is added in f64.
pub const CHUNK: usize = 256;
/// Chunks summed between two visits of the result, which is far larger than the caches.
const VISIT: usize = 4;
/// Rows multiplied at a time, so that both sides stay in the first cache.
const PIECE: usize = 128;
/// Rows of the result that one part computes.
const BAND: usize = 48;

/// `into[i,j] += sum over t of x[t,i] * x[t,j]`, with `x` `[T, n]` and `into` `[n, n]`.
///
/// The rows are taken in chunks of 256 from the first: within a chunk a fold of `fma` in f32 over `t` in order, the
/// chunks added in f64 in order. Only the lower half is computed; the upper becomes its mirror. Cost: `T * n * n / 2` multiply-adds, no
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
    let visits = x.len().div_ceil(VISIT * CHUNK * n);
    // The longest bands are the last rows: they go first.
    pool.run(bands, &|part| {
        let first = (bands - 1 - part) * BAND;
        let rows = first..n.min(first + BAND);
        let mut left = Lines([0.0; VISIT * CHUNK * BAND]);
        let mut right = Lines([0.0; CHUNK * PANEL]);
        let mut sums = [0.0f32; BAND * PANEL];
        let mut totals = [0.0f64; BAND * PANEL];
        for (visit, x) in x.chunks(VISIT * CHUNK * n).enumerate() {
            copy_columns::<BAND>(x, n, rows.clone(), &mut left.0);
            for column in (0..rows.end).step_by(PANEL) {
                let columns = column..n.min(column + PANEL);
                // SAFETY: each part has rows of its own.
                unsafe {
                    visit_below(&into, n, &rows, &columns, |row, at| totals[at..at + row.len()].copy_from_slice(row));
                }
                for (chunk, left) in x.chunks(CHUNK * n).zip(left.0.chunks(CHUNK * BAND)) {
                    copy_columns::<PANEL>(chunk, n, columns.clone(), &mut right.0);
                    multiply_chunk(isa, left, &right.0, chunk.len() / n, &mut sums);
                    add_sums(isa, &mut totals, &sums);
                }
                // SAFETY: as above; above the diagonal the columns of those rows are the part's own.
                unsafe {
                    visit_below(&into, n, &rows, &columns, |row, at| row.copy_from_slice(&totals[at..at + row.len()]));
                    if visit + 1 == visits {
                        mirror(&into, n, &rows, &columns, &totals);
                    }
                }
            }
        }
    });
}

#[repr(align(64))]
struct Lines<const N: usize>([f32; N]);

/// Copies some columns of `[T, n]` into lines of `WIDTH`.
fn copy_columns<const WIDTH: usize>(x: &[f32], n: usize, columns: Range<usize>, to: &mut [f32]) {
    let (lines, _) = to.as_chunks_mut::<WIDTH>();
    for (row, line) in x.chunks_exact(n).zip(lines) {
        match row[columns.clone()].as_array::<WIDTH>() {
            Some(row) => *line = *row,
            None => line[..columns.len()].copy_from_slice(&row[columns.clone()]),
        }
    }
}

/// `sums[i, j] = fold over t < depth of fma(left[t, i], right[t, j], acc)`.
fn multiply_chunk(isa: Isa, left: &[f32], right: &[f32], depth: usize, sums: &mut [f32; BAND * PANEL]) {
    for start in (0..depth).step_by(PIECE) {
        let tile = Tile {
            x: left[start * BAND..depth * BAND].as_ptr(),
            x_stride: 1,
            x_step: BAND,
            rows: BAND,
            panel: right[start * PANEL..depth * PANEL].as_ptr().cast(),
            panel_stride: 0,
            depth: PIECE.min(depth - start),
            y: sums.as_mut_ptr(),
            y_stride: PANEL,
            width: PANEL,
            accumulate: start > 0,
        };
        // SAFETY: the three buffers hold `depth` lines and the sums that the tile names.
        unsafe { multiply_rows_of::<true>(isa, tile) };
    }
}

versions!(add_sums, add_sums_body, (totals: &mut [f64; BAND * PANEL], sums: &[f32; BAND * PANEL]));

#[inline(always)]
fn add_sums_body(totals: &mut [f64; BAND * PANEL], sums: &[f32; BAND * PANEL]) {
    for (total, &sum) in totals.iter_mut().zip(sums) {
        *total += f64::from(sum);
    }
}

/// Hands each row of a block, as far as it lies on or below the diagonal, to `work(elements, offset in the totals)`.
///
/// # Safety
/// Nobody else uses the elements on and below the diagonal of `rows`.
unsafe fn visit_below(
    into: &Shared<'_, f64>,
    n: usize,
    rows: &Range<usize>,
    columns: &Range<usize>,
    mut work: impl FnMut(&mut [f64], usize),
) {
    for i in rows.clone() {
        let end = columns.end.min(i + 1).max(columns.start);
        // SAFETY: the caller's promise.
        let row = unsafe { into.slice_mut(i * n + columns.start, end - columns.start) };
        work(row, (i - rows.start) * PANEL);
    }
}

/// Writes a block below the diagonal to its mirror above.
///
/// # Safety
/// Nobody else uses the elements above the diagonal of the columns `rows`.
unsafe fn mirror(into: &Shared<'_, f64>, n: usize, rows: &Range<usize>, columns: &Range<usize>, totals: &[f64]) {
    for j in columns.clone() {
        let start = rows.start.max(j + 1).min(rows.end);
        // SAFETY: the caller's promise.
        let row = unsafe { into.slice_mut(j * n + start, rows.end - start) };
        for (i, value) in (start..).zip(row) {
            *value = totals[(i - rows.start) * PANEL + j - columns.start];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{numbers, sizes};

    #[test]
    fn every_set_and_pool_gives_the_bits_of_the_folds() {
        let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
        for &n in sizes(&[1, 2, 31, 33, 48, 49, 100, 130], &[3]) {
            for &tokens in sizes(&[0, 1, 7, 256, 257, 600, 1100], &[0, 7, 257]) {
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
                    for pool in sizes(&pools, &pools[1..2]) {
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
