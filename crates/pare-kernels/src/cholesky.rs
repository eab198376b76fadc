//! Cholesky's factor, and what is solved with it, each element by the textbook's sum in the textbook's order.
//!
//! Blocks only decide when a step of a sum is made, not after which: the bits do not depend on them, nor on the machine.

use crate::dense::{Fold, Place, Side, add_product_on};
use crate::isa::{Isa, versions};

/// Rows that are not cut further.
const SMALL: usize = 32;
/// Columns whose rows stay in the caches.
const STRIP: usize = 256;

type Block = [[f64; SMALL]; SMALL];

/// The upper triangular `U` with `U^T U = A`, in the place of the upper triangle of the symmetric `a` `[n, n]`, row by row; what is below the
/// diagonal means nothing. False when `a` is not positive definite: then nothing in it means anything.
///
/// `U[i, j]` is `fold over k < i in order of fma(-U[k, i], U[k, j], acc)`, from `A[i, j]`, divided by `U[i, i]`, which is the square root of
/// its own. Cost: `n^3 / 6` multiply-adds.
///
/// # Panics
/// When `a` is not `n * n` long.
pub fn factor(a: &mut [f64], n: usize) -> bool {
    factor_on(Isa::detect(), a, n)
}

fn factor_on(isa: Isa, a: &mut [f64], n: usize) -> bool {
    assert_eq!(a.len(), n * n, "the matrix is not [{n}, {n}]");
    factor_part(isa, a, n, 0, n)
}

/// The rows and columns `first .. first + size`, from which all before them was taken away.
fn factor_part(isa: Isa, a: &mut [f64], n: usize, first: usize, size: usize) -> bool {
    if size <= SMALL {
        return factor_small(isa, a, n, first, size);
    }
    let half = (size / 2).next_multiple_of(SMALL);
    let (middle, end) = (first + half, first + size);
    if !factor_part(isa, a, n, first, half) {
        return false;
    }
    solve_above(isa, a, n, [first, half], [middle, end]);
    for from in (middle..end).step_by(STRIP) {
        let to = end.min(from + STRIP);
        let left = Side { data: None, place: Place::transposed(first * n + middle, n) };
        let right = Side { data: None, place: Place::rows(first * n + from, n) };
        let place = Place::rows(middle * n + from, n);
        add_product_on(isa, Fold::SUBTRACT, a, place, left, right, [to - middle, half, to - from]);
    }
    factor_part(isa, a, n, middle, size - half)
}

/// Columns `columns` of the rows `first .. first + size` of the factor, whose diagonal block is done.
fn solve_above(isa: Isa, a: &mut [f64], n: usize, [first, size]: [usize; 2], columns: [usize; 2]) {
    if size <= SMALL {
        return solve_above_small(isa, a, n, [first, size], columns);
    }
    let (half, [from, to]) = ((size / 2).next_multiple_of(SMALL), columns);
    solve_above(isa, a, n, [first, half], columns);
    let left = Side { data: None, place: Place::transposed(first * n + first + half, n) };
    let right = Side { data: None, place: Place::rows(first * n + from, n) };
    let place = Place::rows((first + half) * n + from, n);
    add_product_on(isa, Fold::SUBTRACT, a, place, left, right, [size - half, half, to - from]);
    solve_above(isa, a, n, [first + half, size - half], columns);
}

/// Solves `X U = B` for the rows of `x` `[count, n]`, each of which is one `B` and becomes its `X`: `U^T x = b` of a column.
///
/// `x[j]` is `fold over k < j in order of fma(-x[k], U[k, j], acc)`, from `b[j]`, divided by `U[j, j]`.
///
/// # Panics
/// When `u` is not `[n, n]` or `x` not rows of `n`.
pub fn solve_forward(u: &[f64], n: usize, x: &mut [f64]) {
    let count = rows_of(u, n, x);
    forward(Isa::detect(), Some(u), n, x, [0, count], [0, n]);
}

/// Solves `X U^T = B` for the rows of `x` `[count, n]`: `U x = b` of a column.
///
/// `x[j]` is `fold over k > j from the last on of fma(-x[k], U[j, k], acc)`, from `b[j]`, divided by `U[j, j]`.
///
/// # Panics
/// As [`solve_forward`].
pub fn solve_backward(u: &[f64], n: usize, x: &mut [f64]) {
    let count = rows_of(u, n, x);
    backward(Isa::detect(), u, n, x, count, [0, n]);
}

fn rows_of(u: &[f64], n: usize, x: &[f64]) -> usize {
    assert_eq!(u.len(), n * n, "the factor is not [{n}, {n}]");
    let count = x.len().checked_div(n).unwrap_or(0);
    assert_eq!(x.len(), count * n, "the right-hand sides are not [count, {n}]");
    count
}

/// Rows `row .. row + count` of `x`, columns `first .. first + size`; without `u` the factor lies in `x` itself, in other rows.
fn forward(isa: Isa, u: Option<&[f64]>, n: usize, x: &mut [f64], [row, count]: [usize; 2], [first, size]: [usize; 2]) {
    if size <= SMALL {
        let block = block(u.unwrap_or(&*x), n, first, size);
        return forward_small(isa, &block, &mut x[row * n..(row + count) * n], n, [first, size]);
    }
    let half = (size / 2).next_multiple_of(SMALL);
    forward(isa, u, n, x, [row, count], [first, half]);
    let left = Side { data: None, place: Place::rows(row * n + first, n) };
    let right = Side { data: u, place: Place::rows(first * n + first + half, n) };
    let place = Place::rows(row * n + first + half, n);
    add_product_on(isa, Fold::SUBTRACT, x, place, left, right, [count, half, size - half]);
    forward(isa, u, n, x, [row, count], [first + half, size - half]);
}

fn backward(isa: Isa, u: &[f64], n: usize, x: &mut [f64], count: usize, [first, size]: [usize; 2]) {
    if size <= SMALL {
        return backward_small(isa, &block(u, n, first, size), x, n, [first, size]);
    }
    let half = (size / 2).next_multiple_of(SMALL);
    backward(isa, u, n, x, count, [first + half, size - half]);
    let left = Side { data: None, place: Place::rows(first + half, n) };
    let right = Side { data: Some(u), place: Place::transposed(first * n + first + half, n) };
    let fold = Fold { subtract: true, backwards: true };
    add_product_on(isa, fold, x, Place::rows(first, n), left, right, [count, size - half, half]);
    backward(isa, u, n, x, count, [first, half]);
}

/// Replaces the upper triangular `u` `[n, n]`, row by row: row `j` becomes column `j` of the inverse of `U^T`, from the diagonal on. What is
/// below the diagonal means nothing.
///
/// Each is what [`solve_forward`] gives for a row of the unit matrix. Cost: `n^3 / 6` multiply-adds.
///
/// # Panics
/// When `u` is not `n * n` long.
pub fn invert(u: &mut [f64], n: usize) {
    invert_on(Isa::detect(), u, n);
}

fn invert_on(isa: Isa, u: &mut [f64], n: usize) {
    assert_eq!(u.len(), n * n, "the factor is not [{n}, {n}]");
    for first in (0..n).step_by(2 * SMALL) {
        let count = (2 * SMALL).min(n - first);
        // Solutions take the place of rows of the factor that the rows after them do not need.
        let own: Vec<f64> = u[first * n..(first + count) * n].to_vec();
        let mut square = vec![0.0; count * count];
        for (i, line) in square.chunks_exact_mut(count).enumerate() {
            line.copy_from_slice(&own[i * n + first..][..count]);
        }
        let mut unit = vec![0.0; count * count];
        (0..count).for_each(|i| unit[i * count + i] = 1.0);
        forward(isa, Some(&square), count, &mut unit, [0, count], [0, count]);
        for (i, line) in unit.chunks_exact(count).enumerate() {
            let row = &mut u[(first + i) * n..(first + i + 1) * n];
            row[first..first + count].copy_from_slice(line);
            row[first + count..].fill(0.0);
        }
        let rest = first + count;
        let left = Side { data: Some(&unit[..]), place: Place::rows(0, count) };
        let right = Side { data: Some(&own[..]), place: Place::rows(rest, n) };
        add_product_on(isa, Fold::SUBTRACT, u, Place::rows(first * n + rest, n), left, right, [count, count, n - rest]);
        if rest < n {
            forward(isa, None, n, u, [first, count], [rest, n - rest]);
        }
    }
}

/// A copy of a block on the diagonal.
fn block(u: &[f64], n: usize, first: usize, size: usize) -> Block {
    let mut block = [[0.0; SMALL]; SMALL];
    for (i, line) in block.iter_mut().enumerate().take(size) {
        line[..size].copy_from_slice(&u[(first + i) * n + first..][..size]);
    }
    block
}

versions!(factor_small, factor_small_body, (a: &mut [f64], n: usize, first: usize, size: usize) -> bool);
versions!(solve_above_small, solve_above_small_body, (a: &mut [f64], n: usize, rows: [usize; 2], columns: [usize; 2]));
versions!(forward_small, forward_small_body, (block: &Block, x: &mut [f64], n: usize, columns: [usize; 2]));
versions!(backward_small, backward_small_body, (block: &Block, x: &mut [f64], n: usize, columns: [usize; 2]));

#[inline(always)]
fn subtract(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = (-factor).mul_add(from, *to));
}

#[inline(always)]
fn factor_small_body(a: &mut [f64], n: usize, first: usize, size: usize) -> bool {
    for i in first..first + size {
        let (above, row) = a.split_at_mut(i * n);
        let row = &mut row[i..first + size];
        for k in first..i {
            let line = &above[k * n + i..k * n + first + size];
            subtract(row, line[0], line);
        }
        if !(row[0] > 0.0 && row[0].is_finite()) {
            return false;
        }
        let root = row[0].sqrt();
        row[0] = root;
        row[1..].iter_mut().for_each(|value| *value /= root);
    }
    true
}

#[inline(always)]
fn solve_above_small_body(a: &mut [f64], n: usize, [first, size]: [usize; 2], [from, to]: [usize; 2]) {
    for from in (from..to).step_by(STRIP) {
        let to = to.min(from + STRIP);
        for i in first..first + size {
            let (above, row) = a.split_at_mut(i * n);
            let root = row[i];
            let row = &mut row[from..to];
            for k in first..i {
                subtract(row, above[k * n + i], &above[k * n + from..k * n + to]);
            }
            row.iter_mut().for_each(|value| *value /= root);
        }
    }
}

#[inline(always)]
fn forward_small_body(block: &Block, x: &mut [f64], n: usize, [first, size]: [usize; 2]) {
    for row in x.chunks_exact_mut(n) {
        let row = &mut row[first..first + size];
        for (k, line) in block.iter().enumerate().take(size) {
            row[k] /= line[k];
            let value = row[k];
            subtract(&mut row[k + 1..], value, &line[k + 1..size]);
        }
    }
}

#[inline(always)]
fn backward_small_body(block: &Block, x: &mut [f64], n: usize, [first, size]: [usize; 2]) {
    let mut turned = [[0.0; SMALL]; SMALL];
    for (i, line) in block.iter().enumerate() {
        line.iter().enumerate().for_each(|(j, &value)| turned[j][i] = value);
    }
    for row in x.chunks_exact_mut(n) {
        let row = &mut row[first..first + size];
        for (k, line) in turned.iter().enumerate().take(size).rev() {
            row[k] /= line[k];
            let value = row[k];
            subtract(&mut row[..k], value, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{numbers, sizes};

    const SIZES: [usize; 9] = [1, 2, 31, 32, 33, 64, 65, 130, 300];

    fn definite(n: usize) -> Vec<f64> {
        let part = numbers(n as u64, n * n);
        let value = |i: usize, j: usize| f64::from(part[i.min(j) * n + i.max(j)]);
        (0..n * n).map(|at| value(at / n, at % n) + if at % (n + 1) == 0 { n as f64 } else { 0.0 }).collect()
    }

    fn same(found: &[f64], expected: &[f64]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits())
    }

    /// The formulas of the heads, element by element.
    fn factor_by_hand(a: &[f64], n: usize) -> Vec<f64> {
        let mut u = a.to_vec();
        for i in 0..n {
            for j in i..n {
                let sum = (0..i).fold(a[i * n + j], |acc, k| (-u[k * n + i]).mul_add(u[k * n + j], acc));
                u[i * n + j] = if i == j { sum.sqrt() } else { sum / u[i * n + i] };
            }
        }
        u
    }

    fn forward_by_hand(u: &[f64], n: usize, b: &[f64]) -> Vec<f64> {
        let mut x = b.to_vec();
        for j in 0..n {
            x[j] = (0..j).fold(x[j], |acc, k| (-x[k]).mul_add(u[k * n + j], acc)) / u[j * n + j];
        }
        x
    }

    fn backward_by_hand(u: &[f64], n: usize, b: &[f64]) -> Vec<f64> {
        let mut x = b.to_vec();
        for j in (0..n).rev() {
            x[j] = (j + 1..n).rev().fold(x[j], |acc, k| (-x[k]).mul_add(u[j * n + k], acc)) / u[j * n + j];
        }
        x
    }

    #[test]
    fn every_set_gives_the_bits_of_the_formulas() {
        for &n in sizes(&SIZES, &[2, 33]) {
            let a = definite(n);
            let u = factor_by_hand(&a, n);
            let b: Vec<f64> = numbers(5, 3 * n).into_iter().map(f64::from).collect();
            for isa in Isa::available() {
                let mut found = a.clone();
                assert!(factor_on(isa, &mut found, n));
                let upper = |i: usize| i * n + i..(i + 1) * n;
                assert!((0..n).all(|i| same(&found[upper(i)], &u[upper(i)])), "{} {n}", isa.name());
                let (mut x, mut y) = (b.clone(), b.clone());
                forward(isa, Some(&u), n, &mut x, [0, 3], [0, n]);
                backward(isa, &u, n, &mut y, 3, [0, n]);
                for (at, b) in b.chunks_exact(n).enumerate() {
                    assert!(same(&x[at * n..][..n], &forward_by_hand(&u, n, b)), "{} {n}", isa.name());
                    assert!(same(&y[at * n..][..n], &backward_by_hand(&u, n, b)), "{} {n}", isa.name());
                }
                invert_on(isa, &mut found, n);
                for j in 0..n {
                    let unit: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i == j))).collect();
                    let expected = forward_by_hand(&u, n, &unit);
                    assert!(found[j * n + j..(j + 1) * n] == expected[j..], "{} {n}, column {j}", isa.name());
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(factor(&mut [], 0));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            for n in [1, 40, 100] {
                let mut a = definite(n);
                a[n * n - 1] = bad;
                assert!(!factor(&mut a, n), "{bad} at the end of {n}");
            }
        }
    }
}
