//! Products, factors and decompositions of matrices.
//!
//! Products, Cholesky's factor, what is solved and inverted with it are our own: the same bits on every machine. Eigenvalues, eigenvectors and
//! singular values are faer's, which this module alone knows: one thread, so that they do not depend on how many there are, but the order of
//! their sums follows the instructions and the caches of the machine.

use crate::error::NumericCause;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::{MatMut, MatRef, Par};
use pare_kernels::cholesky;
use pare_kernels::dense::{Fold, Place, Side, add_product};

/// No damping is raised beyond this, relative to the mean diagonal.
const DAMPING_LIMIT: f64 = 1.0;

/// Solves `(A + damping * mean(diag A) * I) x = b` for each of the `b.len() / n` right-hand sides, which lie one after the
/// other in `b` and are overwritten by the solutions.
///
/// `a` is `[n, n]` and symmetric. The damping starts at `damping` and grows tenfold until the Cholesky factorisation
/// succeeds; the one that did is returned.
///
/// # Errors
/// `NotPositiveDefinite` when neither `damping` nor a larger one up to 1 succeeds.
pub(crate) fn solve_spd(a: &[f64], n: usize, b: &mut [f64], damping: f64) -> Result<f64, NumericCause> {
    debug_assert_eq!(a.len(), n * n);
    if n == 0 || b.is_empty() {
        return Ok(damping);
    }
    let mean = (0..n).map(|i| a[i * n + i]).sum::<f64>() / n as f64;
    let mut factor = vec![0.0; n * n];
    let mut damping = damping;
    loop {
        factor.copy_from_slice(a);
        (0..n).for_each(|i| factor[i * n + i] += damping * mean);
        // A zero matrix has no mean diagonal to damp with.
        if mean > 0.0 && cholesky::factor(&mut factor, n) {
            break;
        }
        if damping * 10.0 > DAMPING_LIMIT * (1.0 + 1e-9) || mean <= 0.0 {
            return Err(NumericCause::NotPositiveDefinite { damping });
        }
        damping *= 10.0;
    }
    cholesky::solve_forward(&factor, n, b);
    cholesky::solve_backward(&factor, n, b);
    Ok(damping)
}

/// The product `[m, n]` of `a` `[m, k]` and `b` `[k, n]`, all row by row.
pub(crate) fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    debug_assert_eq!([a.len(), b.len()], [m * k, k * n]);
    let mut product = vec![0.0; m * n];
    let (a, b) = (rows_of(a, k), rows_of(b, n));
    add_product(Fold::ADD, &mut product, Place::rows(0, n), a, b, [m, k, n]);
    product
}

/// A matrix that lies row by row, `stride` values from one to the next.
fn rows_of<T>(data: &[T], stride: usize) -> Side<'_, T> {
    Side { data: Some(data), place: Place::rows(0, stride) }
}

/// A matrix with rows of `cols`, its columns one after the other.
pub(crate) fn transposed(matrix: &[f64], cols: usize) -> Vec<f64> {
    let rows = matrix.len() / cols.max(1);
    (0..cols).flat_map(|col| (0..rows).map(move |row| row * cols + col)).map(|at| matrix[at]).collect()
}

/// The inverse `[n, n]` of `A + damping * mean(diag A) * I`, and the damping that was used (see [`solve_spd`]).
///
/// # Errors
/// As [`solve_spd`].
pub(crate) fn inverse_spd(a: &[f64], n: usize, damping: f64) -> Result<(Vec<f64>, f64), NumericCause> {
    let mut inverse = vec![0.0; n * n];
    (0..n).for_each(|i| inverse[i * n + i] = 1.0);
    let damping = solve_spd(a, n, &mut inverse, damping)?;
    Ok((inverse, damping))
}

/// The eigenvalues, ascending, of the symmetric `a` `[n, n]`, of which the lower triangle is read.
///
/// # Errors
/// `NoConvergence`, which sound numbers do not give.
pub(crate) fn symmetric_eigenvalues(a: &[f64], n: usize) -> Result<Vec<f64>, NumericCause> {
    debug_assert_eq!(a.len(), n * n);
    let mut values = faer::diag::Diag::<f64>::zeros(n);
    let vectors = faer::linalg::evd::ComputeEigenvectors::No;
    let scratch = faer::linalg::evd::self_adjoint_evd_scratch::<f64>(n, vectors, Par::Seq, faer::Spec::default());
    faer::linalg::evd::self_adjoint_evd(
        MatRef::from_row_major_slice(a, n, n),
        values.as_mut(),
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        faer::Spec::default(),
    )
    .map_err(|_| NumericCause::NoConvergence { what: "eigenvalues" })?;
    let mut values: Vec<f64> = (0..n).map(|i| values.column_vector()[i]).collect();
    values.sort_unstable_by(f64::total_cmp);
    Ok(values)
}

/// The `min(m, n)` singular values, descending, of `a` `[m, n]` row by row.
///
/// # Errors
/// `NoConvergence`, which sound numbers do not give.
pub(crate) fn singular_values(a: &[f64], m: usize, n: usize) -> Result<Vec<f64>, NumericCause> {
    debug_assert_eq!(a.len(), m * n);
    let size = m.min(n);
    let mut values = faer::diag::Diag::<f64>::zeros(size);
    let vectors = faer::linalg::svd::ComputeSvdVectors::No;
    let scratch = faer::linalg::svd::svd_scratch::<f64>(m, n, vectors, vectors, Par::Seq, faer::Spec::default());
    faer::linalg::svd::svd(
        MatRef::from_row_major_slice(a, m, n),
        values.as_mut(),
        None,
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        faer::Spec::default(),
    )
    .map_err(|_| NumericCause::NoConvergence { what: "singular values" })?;
    let mut values: Vec<f64> = (0..size).map(|i| values.column_vector()[i]).collect();
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    Ok(values)
}

/// Replaces the lower triangle of a symmetric `a` `[n, n]`, column by column, by `L` with `A = L L^T`; false when `a` is not
/// positive definite. What stands above the diagonal means nothing.
pub(crate) fn cholesky(a: &mut [f64], n: usize) -> bool {
    // Columns of the lower triangle are rows of the upper one.
    cholesky::factor(a, n)
}

/// Replaces the lower triangle `l` `[n, n]`, column by column, by its inverse. What stands above the diagonal means nothing.
pub(crate) fn invert_lower(l: &mut [f64], n: usize) {
    cholesky::invert(l, n);
}

/// `c` `[m, n]` less the product of `a` `[m, k]`, whose rows begin every `stride` values, and `b` `[k, n]`, row by row, in f32.
pub(crate) fn subtract_product(c: &mut [f32], (a, stride): (&[f32], usize), b: &[f32], [m, k, n]: [usize; 3]) {
    add_product(Fold::SUBTRACT, c, Place::rows(0, n), rows_of(a, stride), rows_of(b, n), [m, k, n]);
}

/// The product `[m, n]` of `a` `[m, k]` and `b` `[k, n]`, all row by row, in f32.
pub(crate) fn product_f32(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    debug_assert_eq!([a.len(), b.len()], [m * k, k * n]);
    let mut product = vec![0.0; m * n];
    add_product(Fold::ADD, &mut product, Place::rows(0, n), rows_of(a, k), rows_of(b, n), [m, k, n]);
    product
}

/// Eigenvalues of a symmetric `a` `[n, n]`, smallest first, and their vectors `[n]`, one after the other; none when it does
/// not converge, as for what is not finite.
pub(crate) fn symmetric_eigen(a: &[f64], n: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    let (mut values, mut vectors) = (faer::Col::<f64>::zeros(n), vec![0.0; n * n]);
    if n == 0 {
        return Some((Vec::new(), vectors));
    }
    if a.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let with_vectors = faer::linalg::evd::ComputeEigenvectors::Yes;
    let scratch = faer::linalg::evd::self_adjoint_evd_scratch::<f64>(n, with_vectors, Par::Seq, faer::Spec::default());
    let outcome = faer::linalg::evd::self_adjoint_evd(
        MatRef::from_column_major_slice(a, n, n),
        values.as_diagonal_mut(),
        Some(MatMut::from_column_major_slice_mut(&mut vectors, n, n)),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        faer::Spec::default(),
    );
    outcome.is_ok().then(|| (values.iter().copied().collect(), vectors))
}

/// The eigenvectors of a symmetric `a` `[n, n]` of finite numbers, those of the largest eigenvalues first: `[n, n]`, vector `j` in column `j`,
/// row by row. The largest entry of each is positive, so that equal matrices have equal vectors. None when it does not converge.
pub(crate) fn principal_axes(a: &[f64], n: usize) -> Option<Vec<f64>> {
    let (_, vectors) = symmetric_eigen(a, n)?;
    let mut axes = vec![0.0; n * n];
    for (to, vector) in vectors.chunks_exact(n.max(1)).rev().enumerate() {
        let largest = vector.iter().fold(0.0_f64, |most, &value| if value.abs() > most.abs() { value } else { most });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        vector.iter().enumerate().for_each(|(row, value)| axes[row * n + to] = sign * value);
    }
    Some(axes)
}

/// The diagonal of the inverse of a symmetric positive definite `a` `[n, n]`; none when it is not positive definite.
pub(crate) fn inverse_diagonal(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    if n == 0 {
        return Some(Vec::new());
    }
    if !cholesky(&mut a, n) {
        return None;
    }
    // A^-1 = L^-T L^-1: its diagonal holds the squared lengths of the columns of L^-1.
    invert_lower(&mut a, n);
    let square = |(at, column): (usize, &[f64])| column[at..].iter().map(|value| value * value).sum();
    Some(a.chunks_exact(n).enumerate().map(square).collect())
}

/// The upper triangular `R` `[n, n]` with `R^T R` the inverse of a symmetric matrix.
#[derive(Debug)]
pub(crate) struct InverseFactor {
    n: usize,
    /// Columns and their values both from the last to the first; what was above the diagonal then means nothing.
    backwards: Vec<f64>,
}

impl InverseFactor {
    /// That of `a` `[n, n]` with `diagonal(i, damping)` in the place of its diagonal, and the damping that was needed: it grows tenfold
    /// as in [`solve_spd`].
    ///
    /// Cost: `2 n^3 / 3` operations, `8 n^2` bytes.
    ///
    /// # Errors
    /// `NotPositiveDefinite` when neither `damping` nor a larger one up to 1 succeeds.
    pub(crate) fn of(
        a: &[f64],
        n: usize,
        mut damping: f64,
        diagonal: &dyn Fn(usize, f64) -> f64,
    ) -> Result<(Self, f64), NumericCause> {
        debug_assert_eq!(a.len(), n * n);
        let mut backwards = vec![0.0; n * n];
        loop {
            // A = U U^T with U upper is the Cholesky factorisation from the last input to the first, and R = U^-1.
            backwards.iter_mut().zip(a.iter().rev()).for_each(|(to, &from)| *to = from);
            for i in 0..n {
                backwards[i * n + i] = diagonal(n - 1 - i, damping);
            }
            if cholesky(&mut backwards, n) {
                invert_lower(&mut backwards, n);
                return Ok((Self { n, backwards }, damping));
            }
            if damping * 10.0 > DAMPING_LIMIT * (1.0 + 1e-9) {
                return Err(NumericCause::NotPositiveDefinite { damping });
            }
            damping *= 10.0;
        }
    }

    /// Column `j` from the top to the diagonal: `R_0j` to `R_jj`.
    pub(crate) fn column(&self, j: usize) -> impl Iterator<Item = f64> {
        let from_the_end = self.n - 1 - j;
        self.backwards[from_the_end * (self.n + 1)..(from_the_end + 1) * self.n].iter().rev().copied()
    }

    /// `R_jj`.
    pub(crate) fn diagonal(&self, j: usize) -> f64 {
        self.backwards[(self.n - 1 - j) * (self.n + 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_of_an_inverse() {
        let factor = |a: &[f64], damping| {
            let n = a.len().isqrt();
            InverseFactor::of(a, n, damping, &|i, damping| a[i * n + i] + damping)
        };
        // [[2, 1], [1, 3]] has the inverse [[3, -1], [-1, 2]] / 5 = R^T R with R = [[s, t], [0, v]].
        let (found, damping) = factor(&[2.0, 1.0, 1.0, 3.0], 0.0).unwrap();
        let (first, second): (Vec<f64>, Vec<f64>) = (found.column(0).collect(), found.column(1).collect());
        let (&[s], &[t, v]) = (&first[..], &second[..]) else { panic!("{found:?}") };
        assert_eq!((damping, found.diagonal(0), found.diagonal(1)), (0.0, s, v));
        for (got, want) in [(s * s, 0.6), (s * t, -0.2), (t * t + v * v, 0.4)] {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        assert!(factor(&[f64::NAN], 0.01).is_err());
        let (_, damping) = factor(&[1.0, 1.05, 1.05, 1.0], 1e-6).unwrap();
        assert!((damping - 0.1).abs() < 1e-12);
        // Larger than what is inverted at once: R^T R times the matrix is the unit matrix.
        let n = 150;
        let a: Vec<f64> =
            (0..n * n).map(|i| if i % (n + 1) == 0 { n as f64 } else { ((i % n + i / n) as f64).sin() }).collect();
        let (found, _) = factor(&a, 0.0).unwrap();
        let mut upper = vec![0.0; n * n];
        for j in 0..n {
            found.column(j).enumerate().for_each(|(i, value)| upper[i * n + j] = value);
        }
        let lower: Vec<f64> = (0..n * n).map(|at| upper[at % n * n + at / n]).collect();
        let unit = product(&product(&lower, &upper, [n; 3]), &a, [n; 3]);
        assert!((0..n * n).all(|at| (unit[at] - f64::from(u8::from(at % (n + 1) == 0))).abs() < 1e-12));
    }

    #[test]
    fn inverse_diagonal_by_hand() {
        // The inverse of [[2, 1], [1, 3]] is [[3, -1], [-1, 2]] / 5.
        let found = inverse_diagonal(vec![2.0, 1.0, 1.0, 3.0], 2).unwrap();
        assert!((found[0] - 0.6).abs() < 1e-15 && (found[1] - 0.4).abs() < 1e-15, "{found:?}");
        assert_eq!((inverse_diagonal(vec![1.0, 2.0, 2.0, 1.0], 2), inverse_diagonal(vec![], 0)), (None, Some(vec![])));
        for n in [17_usize, 70, 150] {
            let a: Vec<f64> =
                (0..n * n).map(|i| if i % (n + 1) == 0 { n as f64 } else { ((i % n + i / n) as f64).sin() }).collect();
            let mut whole = vec![0.0; n * n];
            (0..n).for_each(|i| whole[i * n + i] = 1.0);
            solve_spd(&a, n, &mut whole, 0.0).unwrap();
            let found = inverse_diagonal(a, n).unwrap();
            assert!((0..n).all(|i| (found[i] - whole[i * n + i]).abs() < 1e-13), "{n}");
        }
    }

    #[test]
    fn principal_axes_by_hand() {
        // Points on the axes: their moments are diagonal, and the axes are those of the space, by size.
        let axes = principal_axes(&[1.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 4.0], 3).unwrap();
        assert_eq!(axes, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        // Points on the diagonal (1, 1) and (-1, -1): eigenvalues 2 and 0 of [[1, 1], [1, 1]], a turn by 45 degrees.
        let (axes, half) = (principal_axes(&[1.0, 1.0, 1.0, 1.0], 2).unwrap(), 0.5_f64.sqrt());
        assert!(axes.iter().zip([half, half, half, -half]).all(|(got, want)| (got.abs() - want.abs()).abs() < 1e-15));
        assert!(axes[0] * axes[2] > 0.0 && axes[1] * axes[3] < 0.0, "{axes:?}");
        assert_eq!(principal_axes(&[], 0), Some(vec![]));
    }

    #[test]
    fn multiplies_by_hand() {
        let product = product(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], [2, 2, 2]);
        assert_eq!(product, [19.0, 22.0, 43.0, 50.0]);
    }

    #[test]
    fn solves_by_hand() {
        // [[2, 1], [1, 3]] x = [3, 4] has x = [1, 1]; twice the right-hand side has twice the solution.
        let mut b = [3.0, 4.0, 6.0, 8.0];
        let damping = solve_spd(&[2.0, 1.0, 1.0, 3.0], 2, &mut b, 1e-14).unwrap();
        assert_eq!(damping, 1e-14);
        for (got, want) in b.iter().zip([1.0, 1.0, 2.0, 2.0]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn reconstructs_the_right_hand_side_at_sizes_around_the_blocking() {
        for n in [1_usize, 3, 16, 65, 129, 200] {
            let factor: Vec<f64> = (0..n * n).map(|i| (((i * 7919 + n) % 101) as f64 - 50.0) / 50.0).collect();
            let transposed: Vec<f64> = (0..n * n).map(|i| factor[(i % n) * n + i / n]).collect();
            let mut gram = product(&factor, &transposed, [n, n, n]);
            (0..n).for_each(|i| gram[i * n + i] += n as f64);
            let right: Vec<f64> = (0..2 * n).map(|i| (i as f64).sin()).collect();
            let mut solution = right.clone();
            let damping = solve_spd(&gram, n, &mut solution, 1e-8).unwrap();
            let shift = damping * (0..n).map(|i| gram[i * n + i]).sum::<f64>() / n as f64;
            (0..n).for_each(|i| gram[i * n + i] += shift);
            let again = product(&solution, &gram, [2, n, n]);
            for (got, want) in again.iter().zip(&right) {
                assert!((got - want).abs() < 1e-11, "n {n}: {got} {want}");
            }
        }
    }

    #[test]
    fn damps_until_it_is_positive_definite_and_says_how_much() {
        // Eigenvalues 1 + 1.05 and 1 - 1.05: a damping of 0.1 is the first power of ten above 0.05.
        let mut b = [1.0, 1.0];
        let damping = solve_spd(&[1.0, 1.05, 1.05, 1.0], 2, &mut b, 1e-6).unwrap();
        assert!((damping - 0.1).abs() < 1e-12);
        assert!((b[0] - 1.0 / 2.15).abs() < 1e-12, "each trial starts afresh: {}", b[0]);
    }

    #[test]
    fn gives_up_beyond_the_limit() {
        let error = solve_spd(&[1.0, 5.0, 5.0, 1.0], 2, &mut [1.0, 1.0], 1e-3).unwrap_err();
        let NumericCause::NotPositiveDefinite { damping } = error else { panic!("{error}") };
        assert!((damping - 1.0).abs() < 1e-9);
        assert!(solve_spd(&[0.0], 1, &mut [1.0], 1e-3).is_err());
    }

    #[test]
    fn nothing_to_solve_is_solved() {
        assert_eq!(solve_spd(&[], 0, &mut [], 1e-3), Ok(1e-3));
    }

    #[test]
    fn inverts_by_hand() {
        // [[2, 1], [1, 3]] has the determinant 5.
        let (inverse, damping) = inverse_spd(&[2.0, 1.0, 1.0, 3.0], 2, 1e-15).unwrap();
        assert_eq!(damping, 1e-15);
        for (got, want) in inverse.iter().zip([0.6, -0.2, -0.2, 0.4]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn eigenvalues_and_singular_values_by_hand() {
        let values = symmetric_eigenvalues(&[2.0, 1.0, 1.0, 2.0], 2).unwrap();
        assert!((values[0] - 1.0).abs() < 1e-14 && (values[1] - 3.0).abs() < 1e-14, "{values:?}");
        // The Gram matrix of the rows is [[25, 0], [0, 4]].
        let values = singular_values(&[3.0, 0.0, 4.0, 0.0, 2.0, 0.0], 2, 3).unwrap();
        assert!((values[0] - 5.0).abs() < 1e-14 && (values[1] - 2.0).abs() < 1e-14, "{values:?}");
        assert_eq!(symmetric_eigenvalues(&[], 0), Ok(vec![]));
        assert_eq!(singular_values(&[], 0, 3), Ok(vec![]));
    }

    #[test]
    fn both_spectra_agree_at_sizes_around_the_blocking() {
        for (m, n) in [(1_usize, 5_usize), (16, 7), (33, 65), (130, 64)] {
            let a: Vec<f64> = (0..m * n).map(|i| (((i * 7919 + n) % 101) as f64 - 50.0) / 50.0).collect();
            let transposed: Vec<f64> = (0..m * n).map(|i| a[(i % m) * n + i / m]).collect();
            let gram = product(&transposed, &a, [n, m, n]);
            let squares = symmetric_eigenvalues(&gram, n).unwrap();
            let values = singular_values(&a, m, n).unwrap();
            let trace: f64 = (0..n).map(|i| gram[i * n + i]).sum();
            for (square, value) in squares.iter().rev().zip(&values) {
                assert!((square - value * value).abs() < 1e-12 * trace, "{m} x {n}: {square} {value}");
            }
            assert!((squares.iter().sum::<f64>() - trace).abs() < 1e-12 * trace);
        }
    }

    #[test]
    fn factors_and_inverts_by_hand() {
        // [[4, 2], [2, 5]] = L L^T with L = [[2, 0], [1, 2]]; its inverse is [[1/2, 0], [-1/4, 1/2]].
        let mut a = [4.0, 2.0, 2.0, 5.0];
        assert!(cholesky(&mut a, 2));
        assert_eq!([a[0], a[1], a[3]], [2.0, 1.0, 2.0]);
        invert_lower(&mut a, 2);
        assert_eq!([a[0], a[1], a[3]], [0.5, -0.25, 0.5]);
        assert!(!cholesky(&mut [1.0, 2.0, 2.0, 1.0], 2));
        assert!(!cholesky(&mut [f64::NAN], 1));
    }

    #[test]
    fn subtracts_by_hand() {
        let mut c = [10.0, 10.0, 10.0, 10.0];
        subtract_product(&mut c, (&[1.0, 9.0, 2.0, 9.0], 2), &[3.0, 4.0], [2, 1, 2]);
        assert_eq!(c, [7.0, 6.0, 4.0, 2.0]);
    }

    #[test]
    fn decomposes_by_hand() {
        let (values, vectors) = symmetric_eigen(&[2.0, 1.0, 1.0, 2.0], 2).unwrap();
        assert!((values[0] - 1.0).abs() < 1e-12 && (values[1] - 3.0).abs() < 1e-12);
        assert!((vectors[0] + vectors[1]).abs() < 1e-12 && (vectors[2] - vectors[3]).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_decomposed_that_is_not_finite() {
        assert!(symmetric_eigen(&[f64::NAN, 1.0, 1.0, 1.0], 2).is_none());
        assert!(symmetric_eigen(&[], 0).is_some());
    }
}
