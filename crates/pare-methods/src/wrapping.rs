//! The nearest product of a 2:4 core between two block-diagonal matrices: each step solves one of the three exactly.

use crate::gather::gather;
use crate::linalg;
use crate::select::keep_n_of_m;
use pare_kernels::pool::Pool;
use pare_model::matrix::Matrix;

/// The damping of a solution, which pulls towards what a block was: for blocks that read or write little.
const DAMPING: f64 = 1e-9;
/// The six ways to keep two of four.
const PAIRS: [[usize; 2]; 6] = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];

/// `V ~ A S B`: the least of `sum_ij (V - A S B)_ij^2 h_j`, with `V` and `S` `[out, in]` and blocks `[b, b]` of A and B.
pub(crate) struct Wrapping {
    block: usize,
    width: usize,
    /// V, `[out, in]`.
    target: Vec<f64>,
    /// h, `[in]`.
    importance: Vec<f64>,
    /// Blocks of A, one per block of rows.
    left: Vec<Vec<f64>>,
    /// S, a strip `[b, in]` per block of rows.
    core: Vec<Vec<f64>>,
    /// Blocks of B, one per block of columns.
    right: Vec<Vec<f64>>,
}

impl Wrapping {
    /// From A = B = I, and S the two of every four of V that matter most.
    ///
    /// # Panics
    /// When `block` does not divide the matrix, or is no multiple of 4: a programmer's mistake.
    pub(crate) fn new(target: Vec<f64>, importance: Vec<f64>, block: usize) -> Self {
        let width = importance.len();
        assert!(block.is_multiple_of(4) && width.is_multiple_of(block) && target.len().is_multiple_of(block * width));
        let scores: Vec<f64> =
            target.chunks_exact(width).flat_map(|row| row.iter().zip(&importance).map(|(v, h)| v * v * h)).collect();
        let mut core = vec![0.0; target.len()];
        for at in keep_n_of_m(&scores, width, 2, 4).expect("2 of 4") {
            core[at] = target[at];
        }
        let identity: Vec<f64> = (0..block * block).map(|at| f64::from(u8::from(at / block == at % block))).collect();
        Self {
            block,
            width,
            left: vec![identity.clone(); target.len() / (block * width)],
            right: vec![identity; width / block],
            core: core.chunks_exact(block * width).map(<[f64]>::to_vec).collect(),
            target,
            importance,
        }
    }

    /// S.
    pub(crate) fn core(&self) -> Vec<f64> {
        self.core.concat()
    }

    /// `diag(rows) A` and `B diag(columns)`, block after block.
    pub(crate) fn scaled(&self, rows: &[f64], columns: &[f64]) -> [Vec<f32>; 2] {
        let b = self.block;
        let left = self.left.concat().into_iter().enumerate().map(|(at, value)| (value * rows[at / b]) as f32);
        let right = self.right.concat().into_iter().enumerate();
        let right = right.map(|(at, value)| (value * columns[at / (b * b) * b + at % b]) as f32);
        [left.collect(), right.collect()]
    }

    /// The product of blocks of the sizes of A and B with a core.
    pub(crate) fn product(&self, left: &[f32], core: &Matrix, right: &[f32]) -> Matrix {
        let (b, width) = (self.block, self.width);
        let mut product = Matrix::zeros(core.rows(), width);
        for (strip, left) in left.chunks_exact(b * b).enumerate() {
            let own = &core.data()[strip * b * width..(strip + 1) * b * width];
            let middle = linalg::product_f32(left, own, [b, b, width]);
            for (j, right) in right.chunks_exact(b * b).enumerate() {
                let piece: Vec<f32> = block_of(&middle, width, j, b);
                let piece = linalg::product_f32(&piece, right, [b, b, b]);
                for (row, values) in piece.chunks_exact(b).enumerate() {
                    product.row_mut(strip * b + row)[j * b..(j + 1) * b].copy_from_slice(values);
                }
            }
        }
        product
    }

    /// What is minimised.
    #[cfg(test)]
    fn loss(&self) -> f64 {
        let b = self.block;
        let mut loss = 0.0;
        for i in 0..self.left.len() {
            for j in 0..self.right.len() {
                let left = linalg::product(&self.left[i], &self.core_block(i, j), [b, b, b]);
                let product = linalg::product(&left, &self.right[j], [b, b, b]);
                let target = self.target_block(i, j);
                for (at, (value, target)) in product.iter().zip(&target).enumerate() {
                    loss += (target - value).powi(2) * self.importance[j * b + at % b];
                }
            }
        }
        loss
    }

    /// Solves A for S and B fixed: each block by least squares over its rows.
    pub(crate) fn solve_left(&mut self, pool: &Pool) {
        let b = self.block;
        let solved = gather(pool, self.left.len(), &|i| {
            let (mut moments, mut wanted) = (vec![0.0; b * b], vec![0.0; b * b]);
            for j in 0..self.right.len() {
                // Z = S B, and diag(h) Z^T
                let z = linalg::product(&self.core_block(i, j), &self.right[j], [b, b, b]);
                let mut across = vec![0.0; b * b];
                for (at, &value) in z.iter().enumerate() {
                    across[at % b * b + at / b] = value * self.importance[j * b + at % b];
                }
                add(&mut moments, &linalg::product(&z, &across, [b, b, b]));
                add(&mut wanted, &linalg::product(&self.target_block(i, j), &across, [b, b, b]));
            }
            // Rows of A are right-hand sides of one symmetric system.
            moved(&self.left[i], &moments, wanted, b)
        });
        self.left = solved;
    }

    /// Solves B for A and S fixed: each block by least squares over its columns, whose importance drops out.
    pub(crate) fn solve_right(&mut self, pool: &Pool) {
        let b = self.block;
        let solved = gather(pool, self.right.len(), &|j| {
            let (mut moments, mut wanted) = (vec![0.0; b * b], vec![0.0; b * b]);
            for i in 0..self.left.len() {
                // Z = A S
                let z = linalg::product(&self.left[i], &self.core_block(i, j), [b, b, b]);
                add(&mut moments, &linalg::product(&linalg::transposed(&z, b), &z, [b, b, b]));
                // Transposed, so that columns of B are right-hand sides.
                add(&mut wanted, &linalg::product(&linalg::transposed(&self.target_block(i, j), b), &z, [b, b, b]));
            }
            linalg::transposed(&moved(&linalg::transposed(&self.right[j], b), &moments, wanted, b), b)
        });
        self.right = solved;
    }

    /// Solves every group of four of S once, row by row, for the best two and their best values with everything else fixed.
    pub(crate) fn sweep_core(&mut self, pool: &Pool) {
        let b = self.block;
        // B diag(h) B^T and diag(h) B^T
        let prepared: Vec<[Vec<f64>; 2]> = gather(pool, self.right.len(), &|j| {
            let mut across = linalg::transposed(&self.right[j], b);
            for (row, h) in across.chunks_exact_mut(b).zip(&self.importance[j * b..]) {
                row.iter_mut().for_each(|value| *value *= h);
            }
            [linalg::product(&self.right[j], &across, [b, b, b]), across]
        });
        self.core = gather(pool, self.left.len(), &|i| {
            let mut strip = self.core[i].clone();
            let across = linalg::transposed(&self.left[i], b);
            let outputs = linalg::product(&across, &self.left[i], [b, b, b]);
            for (j, [inputs, reads]) in prepared.iter().enumerate() {
                let mut core = self.core_block(i, j);
                let wanted = linalg::product(&across, &self.target_block(i, j), [b, b, b]);
                let wanted = linalg::product(&wanted, reads, [b, b, b]);
                sweep_block(&mut core, &wanted, &outputs, inputs, b);
                for (row, values) in core.chunks_exact(b).enumerate() {
                    strip[row * self.width + j * b..][..b].copy_from_slice(values);
                }
            }
            strip
        });
    }

    fn core_block(&self, i: usize, j: usize) -> Vec<f64> {
        block_of(&self.core[i], self.width, j, self.block)
    }

    fn target_block(&self, i: usize, j: usize) -> Vec<f64> {
        let strip = self.block * self.width;
        block_of(&self.target[i * strip..(i + 1) * strip], self.width, j, self.block)
    }
}

/// Block `j` `[b, b]` of a strip `[b, width]`.
fn block_of<T: Copy>(strip: &[T], width: usize, j: usize, b: usize) -> Vec<T> {
    strip.chunks_exact(width).flat_map(|row| &row[j * b..(j + 1) * b]).copied().collect()
}

fn add(sum: &mut [f64], values: &[f64]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// The solution X of `X M = wanted` for symmetric `moments` M, pulled towards `block` by the damping; `block` where there is none.
fn moved(block: &[f64], moments: &[f64], wanted: Vec<f64>, b: usize) -> Vec<f64> {
    let mut lacking = linalg::product(block, moments, [b, b, b]);
    lacking.iter_mut().zip(&wanted).for_each(|(given, wanted)| *given = wanted - *given);
    if linalg::solve_spd(moments, b, &mut lacking, DAMPING).is_ok() && lacking.iter().all(|value| value.is_finite()) {
        add(&mut lacking, block);
        return lacking;
    }
    block.to_vec()
}

/// One pass over a block S of the core: the least of `<S, O S I> - 2 <S, wanted>` for each group of four in turn, with the
/// moments O of outputs and I of inputs, all `[b, b]`.
fn sweep_block(core: &mut [f64], wanted: &[f64], outputs: &[f64], inputs: &[f64], b: usize) {
    // S I, of which each row is brought up to date when it has been solved.
    let mut images = linalg::product(core, inputs, [b, b, b]);
    let mut slope = vec![0.0; b];
    for row in 0..b {
        let own = outputs[row * b + row];
        if own <= 0.0 {
            continue;
        }
        // What each weight of the row would gain, all others as they are, itself included.
        slope.copy_from_slice(&wanted[row * b..(row + 1) * b]);
        for (&weight, image) in outputs[row * b..(row + 1) * b].iter().zip(images.chunks_exact(b)) {
            slope.iter_mut().zip(image).for_each(|(slope, image)| *slope -= weight * image);
        }
        for first in (0..b).step_by(4) {
            let before: [f64; 4] = std::array::from_fn(|k| core[row * b + first + k]);
            let moments: [[f64; 4]; 4] =
                std::array::from_fn(|k| std::array::from_fn(|l| own * inputs[(first + k) * b + first + l]));
            // The slope with the group itself at zero.
            let alone: [f64; 4] = std::array::from_fn(|k| {
                slope[first + k] + moments[k].iter().zip(&before).map(|(m, value)| m * value).sum::<f64>()
            });
            let Some(after) = best_pair(&alone, &moments, &before) else { continue };
            for k in 0..4 {
                let change = after[k] - before[k];
                if change != 0.0 {
                    core[row * b + first + k] = after[k];
                    let inputs = &inputs[(first + k) * b..(first + k + 1) * b];
                    slope.iter_mut().zip(inputs).for_each(|(slope, input)| *slope -= own * change * input);
                    let image = &mut images[row * b..(row + 1) * b];
                    image.iter_mut().zip(inputs).for_each(|(image, input)| *image += change * input);
                }
            }
        }
    }
}

/// The two of four, and their values, with the least of `s^T M s - 2 t^T s`; none when that is no less than what `before` has.
fn best_pair(t: &[f64; 4], moments: &[[f64; 4]; 4], before: &[f64; 4]) -> Option<[f64; 4]> {
    // The least for a pair is minus its gain, so that values are wanted of the best alone.
    let mut most: f64 =
        (0..4).map(|k| before[k] * (2.0 * t[k] - (0..4).map(|l| moments[k][l] * before[l]).sum::<f64>())).sum();
    let mut best = None;
    for [k, l] in PAIRS {
        let [a, c, d] = [moments[k][k], moments[l][l], moments[k][l]];
        let determinant = a * c - d * d;
        // Inputs that are one, up to rounding: the stronger alone.
        let alone = determinant <= 1e-12 * a * c;
        let gain = match alone {
            false => (c * t[k] * t[k] - 2.0 * d * t[k] * t[l] + a * t[l] * t[l]) / determinant,
            true if a >= c && a > 0.0 => t[k] * t[k] / a,
            true if c > 0.0 => t[l] * t[l] / c,
            true => 0.0,
        };
        if gain > most {
            (best, most) = (Some(([k, l], [a, c, d], alone)), gain);
        }
    }
    best.map(|([k, l], [a, c, d], alone)| {
        let mut values = [0.0; 4];
        if alone {
            let only = if a >= c { k } else { l };
            values[only] = t[only] / a.max(c);
        } else {
            let determinant = a * c - d * d;
            values[k] = (c * t[k] - d * t[l]) / determinant;
            values[l] = (a * t[l] - d * t[k]) / determinant;
        }
        values
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::rng::SplitMix64;

    #[test]
    fn the_best_pair_by_hand() {
        // Alone, weights give t^2 / m: 9, 4, 1 and 16 / 8.
        let mut moments = [[0.0; 4]; 4];
        (0..4).for_each(|k| moments[k][k] = [1.0, 1.0, 1.0, 8.0][k]);
        assert_eq!(best_pair(&[3.0, 2.0, 1.0, 4.0], &moments, &[0.0; 4]), Some([3.0, 2.0, 0.0, 0.0]));
        assert_eq!(best_pair(&[3.0, 2.0, 1.0, 4.0], &moments, &[3.0, 2.0, 0.0, 0.0]), None, "nothing to gain");
        // The first two say nearly the same: (3, 3) with [[1, 1/2], [1/2, 1]] give 12, (3, 0) and 2 give 13.
        (moments[0][1], moments[1][0], moments[3][3]) = (0.5, 0.5, 1.0);
        assert_eq!(best_pair(&[3.0, 3.0, 0.0, 2.0], &moments, &[0.0; 4]), Some([3.0, 0.0, 0.0, 2.0]));
        assert_eq!(best_pair(&[1.0; 4], &[[0.0; 4]; 4], &[0.0; 4]), None);
    }

    #[test]
    fn no_step_makes_the_loss_larger_and_the_core_stays_two_of_four() {
        let mut rng = SplitMix64::new(5);
        for [out, width, block] in [[8, 16, 4], [24, 16, 8], [32, 64, 32]] {
            let target = (0..out * width).map(|_| rng.unit() - 0.5).collect();
            let importance = (0..width).map(|j| if j == 3 { 0.0 } else { rng.unit() }).collect();
            let mut wrapping = Wrapping::new(target, importance, block);
            let first = wrapping.loss();
            let mut last = first;
            let pool = Pool::new(2);
            for round in 0..6 {
                for step in [Wrapping::solve_left, Wrapping::solve_right, Wrapping::sweep_core] {
                    step(&mut wrapping, &pool);
                    let loss = wrapping.loss();
                    assert!(loss <= last * (1.0 + 1e-9), "round {round}: {last} to {loss}");
                    last = loss;
                }
                let groups = wrapping.core();
                assert!(groups.chunks(4).all(|group| group.iter().filter(|value| **value != 0.0).count() <= 2));
            }
            assert!(last < 0.9 * first, "{first} to {last}");
        }
    }
}
