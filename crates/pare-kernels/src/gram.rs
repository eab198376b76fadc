//! Sums of outer products of the rows of a matrix.

use crate::pool::Pool;
use crate::shared::Shared;

/// Rows summed in f32 before their sum is added in f64.
pub const CHUNK: usize = 256;

/// `into[i,j] += sum over t of x[t,i] * x[t,j]`, with `x` `[T, n]` and `into` `[n, n]`.
///
/// The rows are taken in chunks of 256 from the first: within a chunk a fold of `fma` in f32 over `t` in order, the
/// chunks added in f64. `into` stays exactly symmetric when it was. Cost: `T * n * n / 2` multiply-adds.
///
/// # Panics
/// When `x` is not whole rows of `n`, or `into` not `n * n`.
pub fn accumulate_gram(x: &[f32], n: usize, into: &mut [f64], pool: &Pool) {
    assert_eq!(into.len(), n * n, "the Gram matrix is not [{n}, {n}]");
    if n == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(n), "x is not [T, {n}]");
    let shared = Shared::new(into);
    pool.run(n, &|i| {
        // SAFETY: each row belongs to one part.
        let row = unsafe { shared.slice_mut(i * n, n) };
        for chunk in x.chunks(CHUNK * n) {
            for (j, sum) in row.iter_mut().enumerate() {
                *sum += f64::from(chunk.chunks(n).fold(0.0f32, |acc, x| x[i].mul_add(x[j], acc)));
            }
        }
    });
}
