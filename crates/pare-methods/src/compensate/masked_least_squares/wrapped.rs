//! What a mask left of a core between two block-diagonal matrices, solved anew with both as they are.
//!
//! With `W' = L S R`, the slope in S of `E||(W - W') x||^2` is `L^T (W - W') G R^T`, and a move D of S changes it by
//! `L^T L D R G R^T`: the rows of a block of L are one system. The damping pulls towards the core as it was: what the
//! wrappers could not reach anyway is nothing to ask of it.

use super::{Kept, System};
use crate::linalg;
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_model::matrix::Matrix;
use pare_model::storage::Wrapped;

/// The core `[out, in]` that brings `wrapped` nearest to `before`, from its own `core`, with what was `kept` of that. `after` is what
/// `wrapped` is as a whole; its inputs have the second moments `[in, in]`.
pub(super) fn solve(
    before: &Matrix,
    after: &Matrix,
    (wrapped, core, kept): (&Wrapped, &Matrix, &Kept<'_>),
    (gram, damping): (&[f64], f64),
    iterations: usize,
) -> Matrix {
    let width = before.cols();
    let [left, right] = wrapped.diagonals();
    let (size, right) = (left.size(), blocks(right));
    let read = read_through(gram, &right, width);
    let system = System::new(&read_through(&linalg::transposed(&read, width), &right, width), width, damping);
    let mut solved = core.clone();
    for (index, left) in blocks(left).into_iter().enumerate() {
        let strip = index * size * width..(index + 1) * size * width;
        let lacking = before.data()[strip.clone()].iter().zip(&after.data()[strip.clone()]);
        let lacking: Vec<f64> = lacking.map(|(before, after)| f64::from(*before) - f64::from(*after)).collect();
        let across = linalg::transposed(&left, size);
        let slope =
            linalg::product(&across, &linalg::product(&lacking, &read, [size, width, width]), [size, size, width]);
        let outputs = System::new(&linalg::product(&across, &left, [size; 3]), size, 0.0);
        let scaled = |(at, slope): (usize, &f64)| (slope / (outputs.root[at / width] * system.root[at % width])) as f32;
        let residual = slope.iter().enumerate().map(scaled).collect();
        let mask = kept.of(strip.clone());
        system.solve(&outputs, (residual, &mask), &mut solved.data_mut()[strip], iterations);
    }
    solved
}

/// The blocks of a block-diagonal matrix, row by row.
fn blocks(diagonal: &BlockDiagonal) -> Vec<Vec<f64>> {
    let size = diagonal.size();
    let mut row = vec![0.0; size];
    let mut blocks = vec![Vec::with_capacity(size * size); diagonal.count()];
    for (index, block) in blocks.iter_mut().enumerate() {
        for o in index * size..(index + 1) * size {
            diagonal.decode_within(o, &mut row);
            block.extend(row.iter().map(|&value| f64::from(value)));
        }
    }
    blocks
}

/// `M R^T` for M `[width, width]` and the blocks of R.
fn read_through(moments: &[f64], right: &[Vec<f64>], width: usize) -> Vec<f64> {
    let mut read = vec![0.0; width * width];
    for (j, block) in right.iter().enumerate() {
        let size = width / right.len();
        let columns = j * size..(j + 1) * size;
        let own: Vec<f64> = moments.chunks_exact(width).flat_map(|row| &row[columns.clone()]).copied().collect();
        let through = linalg::product(&own, &linalg::transposed(block, size), [width, size, size]);
        for (row, values) in read.chunks_exact_mut(width).zip(through.chunks_exact(size)) {
            row[columns.clone()].copy_from_slice(values);
        }
    }
    read
}
