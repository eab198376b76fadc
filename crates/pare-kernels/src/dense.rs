//! Products of dense matrices in memory, f64 or f32, each element folded in one order: what methods compute with.
//!
//! faer and its like choose the order of a sum by the caches and the instructions of the machine; here it is that of the inner
//! index, one rounding per step, on every machine.

#[cfg(target_arch = "x86_64")]
mod x86;

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Level;
use std::ops::Neg;

/// Rows that a kernel takes.
const ROWS: usize = 8;
/// Inner indices between two visits of the result: a panel of the right side stays in the first cache.
const DEPTH: usize = 192;
/// Rows of the left side that the second cache keeps.
const TALL: usize = 256;

/// Where a matrix lies in a slice: element `(i, j)` at `start + i * row + j * column`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of element `(0, 0)`.
    pub start: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub column: usize,
}

impl Place {
    /// Row by row, `row` values from one to the next.
    pub fn rows(start: usize, row: usize) -> Place {
        Place { start, row, column: 1 }
    }

    /// The transpose of what lies row by row.
    pub fn transposed(start: usize, row: usize) -> Place {
        Place { start, row: 1, column: row }
    }
}

/// One side of a product.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a, T> {
    /// The slice that holds it; none for that of the result, of which it is another part.
    pub data: Option<&'a [T]>,
    /// Where in it.
    pub place: Place,
}

/// How a product is added to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Whether it is taken away.
    pub subtract: bool,
    /// Whether the inner index runs from the last to the first.
    pub backwards: bool,
}

impl Fold {
    /// Added, in order.
    pub const ADD: Fold = Fold { subtract: false, backwards: false };
    /// Taken away, in order.
    pub const SUBTRACT: Fold = Fold { subtract: true, backwards: false };
}

/// A number of which `N` columns are multiplied side by side.
pub trait Number<const N: usize>: Copy + Default + Neg<Output = Self> + Send + Sync {
    /// `sums[r][c] = fold over k of fma(a[k][r], b[k][c], sums[r][c])`.
    #[doc(hidden)]
    fn kernel(isa: Isa, a: &[[Self; ROWS]], b: &[[Self; N]], sums: &mut [[Self; N]; ROWS]);
}

macro_rules! number {
    ($number:ty, $width:literal, $avx512:path, $avx2:path) => {
        impl Number<$width> for $number {
            fn kernel(isa: Isa, a: &[[Self; ROWS]], b: &[[Self; $width]], sums: &mut [[Self; $width]; ROWS]) {
                #[cfg(target_arch = "x86_64")]
                match isa.level() {
                    // SAFETY: an `Isa` is proof that the machine has the set.
                    Level::Avx512Vnni | Level::Avx512 => return unsafe { $avx512(a, b, sums) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { $avx2(a, b, sums) },
                    Level::Portable => {}
                }
                #[cfg(not(target_arch = "x86_64"))]
                let _ = isa;
                for (a, b) in a.iter().zip(b) {
                    for (sums, &a) in sums.iter_mut().zip(a) {
                        sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum = a.mul_add(b, *sum));
                    }
                }
            }
        }
    };
}
number!(f64, 16, x86::double_avx512, x86::double_avx2);
number!(f32, 32, x86::single_avx512, x86::single_avx2);

/// `c[i, j] = fold over k of fma(a[i, k], b[k, j], c[i, j])`, with `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]`, which lies row by row at `to`.
///
/// A side that is part of `c`'s slice must not overlap with what is written. Cost: `m * k * n` multiply-adds, below 1 MB of memory.
///
/// # Panics
/// When a matrix leaves its slice, or the columns of `c` are not side by side.
pub fn add_product<T: Number<N>, const N: usize>(
    fold: Fold,
    c: &mut [T],
    to: Place,
    a: Side<'_, T>,
    b: Side<'_, T>,
    shape: [usize; 3],
) {
    add_product_on(Isa::detect(), fold, c, to, a, b, shape);
}

pub(crate) fn add_product_on<T: Number<N>, const N: usize>(
    isa: Isa,
    fold: Fold,
    c: &mut [T],
    to: Place,
    a: Side<'_, T>,
    b: Side<'_, T>,
    [m, k, n]: [usize; 3],
) {
    assert_eq!(to.column, 1, "columns of the result that are not side by side");
    if m == 0 || n == 0 {
        return;
    }
    let tall = TALL.min(m.next_multiple_of(ROWS));
    let mut left = vec![[T::default(); ROWS]; tall / ROWS * DEPTH.min(k)];
    let mut right = vec![[T::default(); N]; DEPTH.min(k)];
    for first in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - first);
        let inner = |at: usize| if fold.backwards { k - 1 - first - at } else { first + at };
        for top in (0..m).step_by(TALL) {
            let rows = TALL.min(m - top);
            let data = a.data.unwrap_or(&*c);
            for (tile, left) in left.chunks_exact_mut(depth).take(rows.div_ceil(ROWS)).enumerate() {
                let i = top + tile * ROWS;
                let start = a.place.start + i * a.place.row;
                for (at, line) in left.iter_mut().enumerate() {
                    let start = start + inner(at) * a.place.column;
                    for (r, value) in line.iter_mut().enumerate() {
                        *value = if i + r < m { data[start + r * a.place.row] } else { T::default() };
                        if fold.subtract {
                            *value = -*value;
                        }
                    }
                }
            }
            for column in (0..n).step_by(N) {
                let width = N.min(n - column);
                let data = b.data.unwrap_or(&*c);
                for (at, line) in right[..depth].iter_mut().enumerate() {
                    let start = b.place.start + inner(at) * b.place.row + column * b.place.column;
                    if b.place.column == 1 {
                        line[..width].copy_from_slice(&data[start..start + width]);
                    } else {
                        line[..width].iter_mut().enumerate().for_each(|(j, to)| *to = data[start + j * b.place.column]);
                    }
                }
                for (tile, left) in left.chunks_exact(depth).take(rows.div_ceil(ROWS)).enumerate() {
                    let i = top + tile * ROWS;
                    let mut sums = [[T::default(); N]; ROWS];
                    let at = |r: usize| to.start + (i + r) * to.row + column;
                    for (r, sums) in sums.iter_mut().enumerate().take(m - i) {
                        sums[..width].copy_from_slice(&c[at(r)..at(r) + width]);
                    }
                    T::kernel(isa, left, &right[..depth], &mut sums);
                    for (r, sums) in sums.iter().enumerate().take(m - i) {
                        c[at(r)..at(r) + width].copy_from_slice(&sums[..width]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{numbers, sizes};

    /// The fold as it is written.
    fn by_hand(fold: Fold, c: &[f64], a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
        let mut c = c.to_vec();
        for (at, c) in c.iter_mut().enumerate().take(m * n) {
            for step in 0..k {
                let k_at = if fold.backwards { k - 1 - step } else { step };
                let a = a[at / n * k + k_at];
                *c = if fold.subtract { -a } else { a }.mul_add(b[k_at * n + at % n], *c);
            }
        }
        c
    }

    #[test]
    fn every_set_and_layout_folds_in_order() {
        let shapes = [[1, 1, 1], [8, 192, 16], [7, 193, 33], [9, 5, 15], [260, 40, 17], [3, 0, 4], [70, 400, 50]];
        for &[m, k, n] in sizes(&shapes, &[[9, 5, 17]]) {
            let values = |seed: u64, length: usize| -> Vec<f64> {
                numbers(seed, length)
                    .iter()
                    .zip(numbers(seed + 7, length))
                    .map(|(&a, b)| f64::from(a) + 1e-9 * f64::from(b))
                    .collect()
            };
            let (a, b, c) = (values(1, m * k), values(2, k * n), values(3, m * n));
            let turned: Vec<f64> = (0..m * k).map(|at| a[at % m * k + at / m]).collect();
            for (subtract, backwards) in [(false, false), (true, false), (true, true)] {
                let fold = Fold { subtract, backwards };
                let expected = by_hand(fold, &c, &a, &b, [m, k, n]);
                for isa in Isa::available() {
                    for (data, place) in [(&a, Place::rows(0, k)), (&turned, Place::transposed(0, m))] {
                        let mut found = c.clone();
                        let (a, b) =
                            (Side { data: Some(data), place }, Side { data: Some(&b), place: Place::rows(0, n) });
                        add_product_on(isa, fold, &mut found, Place::rows(0, n), a, b, [m, k, n]);
                        assert_eq!(found, expected, "{} {m}x{k}x{n} {fold:?}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    fn single_precision_folds_in_order_too() {
        for &[m, k, n] in sizes(&[[1, 1, 1], [9, 200, 33], [20, 33, 70]], &[[9, 5, 33]]) {
            let (a, b) = (numbers(1, m * k), numbers(2, k * n));
            let turned: Vec<f32> = (0..k * n).map(|at| b[at % k * n + at / k]).collect();
            let expected = crate::reference::multiply(&a, &turned, m, n, k);
            for isa in Isa::available() {
                for (data, place) in [(&b, Place::rows(0, n)), (&turned, Place::transposed(0, k))] {
                    let mut found = vec![0.0f32; m * n];
                    let (a, b) =
                        (Side { data: Some(&a[..]), place: Place::rows(0, k) }, Side { data: Some(&data[..]), place });
                    add_product_on(isa, Fold::ADD, &mut found, Place::rows(0, n), a, b, [m, k, n]);
                    assert!(crate::reference::same_bits(&found, &expected), "{} {m}x{k}x{n}", isa.name());
                }
            }
        }
    }
}
