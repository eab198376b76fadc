//! Features that merge two by two, the nearest first: what iterative feature merging (arXiv:2310.06756) does, whatever is made of it.
//!
//! A group stands at the mean of its members. The squared distance from the mean of groups of n and m members to a third group k follows
//! from what was known, without the vectors: `(n d_ik + m d_jk) / (n + m) - n m / (n + m)^2 d_ij`.

use crate::check;
use crate::error::MethodError;
use crate::linalg;
use crate::view::View;

/// Groups of features, the nearest two of which are known.
pub(crate) struct NearestPairs {
    count: usize,
    /// Squared distances `[n, n]`; infinite from a group to itself and from those that were merged into others.
    squares: Vec<f64>,
    /// Members of each group; 0 for those that were merged into others.
    sizes: Vec<f64>,
    /// Of each group the nearest of the later ones.
    nearest: Vec<(f64, usize)>,
    largest: f64,
}

/// Two groups, the first of which is to stand for both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    /// Where the group of both stands.
    pub(crate) first: usize,
    /// The later one, which is merged into it.
    pub(crate) second: usize,
    /// The squared distance between them.
    pub(crate) square: f64,
    /// How many members each had.
    pub(crate) sizes: [f64; 2],
}

impl NearestPairs {
    /// `count` groups of one feature each; `square` is the squared distance of two, asked for `i < j`.
    pub(crate) fn new(count: usize, square: impl Fn(usize, usize) -> f64) -> Self {
        let mut squares = vec![f64::INFINITY; count * count];
        let mut largest = 0.0_f64;
        for i in 0..count {
            for j in i + 1..count {
                let square = square(i, j);
                largest = largest.max(square);
                (squares[i * count + j], squares[j * count + i]) = (square, square);
            }
        }
        let mut pairs = Self { count, squares, sizes: vec![1.0; count], nearest: Vec::new(), largest };
        pairs.nearest = (0..count).map(|i| pairs.nearest_after(i)).collect();
        pairs
    }

    /// The units of a `view` (channels or groups) as features: what writes a unit joined with what reads it. Beside them their squared
    /// lengths.
    ///
    /// # Errors
    /// `Shape`, `Params` (site), `Numeric` for weights that are not finite.
    pub(crate) fn of_units(view: &View<'_>) -> Result<(Self, Vec<f64>), MethodError> {
        view.check()?;
        let (reader, each) = (view.reader()?, view.reader_columns()?);
        check::weights(view.site, "reader", reader)?;
        view.writers.iter().try_for_each(|writer| check::weights(view.site, "writer", writer))?;
        let count = view.units;
        let mut inner = vec![0.0; count * count];
        let mut add = |vectors: &[f64]| {
            let length = vectors.len() / count.max(1);
            let transposed: Vec<f64> =
                (0..vectors.len()).map(|at| vectors[(at % count) * length + at / count]).collect();
            let product = linalg::product(vectors, &transposed, [count, length, count]);
            inner.iter_mut().zip(&product).for_each(|(sum, value)| *sum += value);
        };
        for writer in view.writers {
            add(&writer.data().iter().map(|&w| f64::from(w)).collect::<Vec<_>>());
        }
        let column = |unit: usize| {
            let columns = unit * each..(unit + 1) * each;
            (0..reader.rows()).flat_map(move |row| reader.row(row)[columns.clone()].iter().map(|&w| f64::from(w)))
        };
        add(&(0..count).flat_map(column).collect::<Vec<_>>());
        check::finite(view.site, "products of units", &inner)?;
        let lengths: Vec<f64> = (0..count).map(|i| inner[i * count + i]).collect();
        let square = |i: usize, j: usize| (lengths[i] + lengths[j] - 2.0 * inner[i * count + j]).max(0.0);
        Ok((Self::new(count, square), lengths))
    }

    /// The largest squared distance of two features, before any merge; 0 where there are no two.
    pub(crate) fn largest(&self) -> f64 {
        self.largest
    }

    /// The nearest two groups, the first of equals; none when one group is left.
    pub(crate) fn nearest(&self) -> Option<Pair> {
        let first =
            (0..self.count).reduce(|best, i| if self.nearest[i].0 < self.nearest[best].0 { i } else { best })?;
        let (square, second) = self.nearest[first];
        let sizes = [self.sizes[first], *self.sizes.get(second)?];
        Some(Pair { first, second, square, sizes })
    }

    /// Merges the nearest two groups, and says which they were.
    pub(crate) fn merge(&mut self) -> Option<Pair> {
        let pair = self.nearest()?;
        let Pair { first: i, second: j, square: between, sizes: [n, m] } = pair;
        let (count, total) = (self.count, n + m);
        (self.sizes[i], self.sizes[j]) = (total, 0.0);
        for k in 0..count {
            let (ki, kj) = (self.squares[k * count + i], self.squares[k * count + j]);
            let square = (n * ki + m * kj) / total - n * m / (total * total) * between;
            let square = if self.sizes[k] == 0.0 || k == i { f64::INFINITY } else { square.max(0.0) };
            (self.squares[k * count + i], self.squares[i * count + k]) = (square, square);
            (self.squares[k * count + j], self.squares[j * count + k]) = (f64::INFINITY, f64::INFINITY);
        }
        self.nearest[j] = (f64::INFINITY, count);
        for k in 0..count {
            if k == i || self.nearest[k].1 == i || self.nearest[k].1 == j {
                self.nearest[k] = self.nearest_after(k);
            } else if k < i && (self.squares[k * count + i], i) < self.nearest[k] {
                self.nearest[k] = (self.squares[k * count + i], i);
            }
        }
        Some(pair)
    }

    fn nearest_after(&self, i: usize) -> (f64, usize) {
        let row = &self.squares[i * self.count..(i + 1) * self.count];
        let later = row.iter().zip(0..).skip(i + 1);
        later.fold((f64::INFINITY, self.count), |best, (&square, j)| if square < best.0 { (square, j) } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(points: &[f64]) -> NearestPairs {
        NearestPairs::new(points.len(), |i, j| (points[i] - points[j]).powi(2))
    }

    #[test]
    fn by_hand() {
        // 0 and 1 meet at 0.5, of equal distances the first pair; then 5 and 4 at 4.5, then 0.5 (two of them) and 2, then all.
        let mut pairs = of(&[0.0, 5.0, 1.0, 2.0, 4.0]);
        assert_eq!(pairs.largest(), 25.0);
        let expected =
            [(0, 2, 1.0, [1.0, 1.0]), (1, 4, 1.0, [1.0, 1.0]), (0, 3, 2.25, [2.0, 1.0]), (0, 1, 12.25, [3.0, 2.0])];
        for (first, second, square, sizes) in expected {
            assert_eq!(pairs.merge(), Some(Pair { first, second, square, sizes }));
        }
        assert_eq!(pairs.merge(), None);
    }

    #[test]
    fn none_and_one_have_no_pairs() {
        assert_eq!((of(&[]).nearest(), of(&[1.0]).nearest()), (None, None));
        assert_eq!(of(&[1.0]).largest(), 0.0);
    }
}
