//! Block floating point: inputs that share an exponent, in an order that puts outliers beside outliers.
//!
//! Source     Trukhanov and Soloveychik 2024, Accurate Block Quantization in LLMs with Outliers, arXiv:2403.20137
//! Formula    of each row, of each block B of the order: e = floor(log2 max |w_j|), step = 2^(e - bits + 2), w'_j = step * clip(round(w_j / step), -M..M), M = 2^(bits - 1) - 1; round to even at a tie. Order: as it is, or by |W_:j|, or by |W_:j| sqrt(E x_j^2), largest first, whichever makes the least sum_j E x_j^2 |w_:j - w'_:j|^2; the first of equals
//! Shapes     W [out, in]; W_:j a column; blocks of `group` inputs, the last of a row may be shorter
//! Needs      Stat::MeanSquare [in] when inputs are put in order; Stat::Gram [in, in] only for the error in `Info`, when it was observed
//! Parameters bits, of a code with its sign, default 4, 2..=16; group, inputs that share an exponent, default 32; act-order, whether inputs are put in order, default true
//! Cost       O(out * in) and a sort of the inputs, three times; f32 in memory
//! Departs    emulated: the values of the format in f32, in the weight's own order, no bytes of its own yet; for weights instead of the rows of K, so the order comes from columns; the sort by norm of the source is one of three candidates, since none is best for every weight
//! Errors     Params (bits, group); MissingStat, Shape, Numeric
//! Exactness  0: equal to goldens/encode/block_float

use super::{Encode, Encoded, Entry, Info, Task};
use crate::card::Card;
use crate::check;
use crate::error::{Built, MethodError};
use crate::moments;
use crate::settings::Settings;
use pare_kernels::pool::Pool;
use pare_model::matrix::Matrix;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "block-float",
        about: "block floating point, inputs ordered so that outliers share blocks (emulated: values of the format in f32)",
        source: "Accurate Block Quantization in LLMs with Outliers, arXiv:2403.20137",
        formula: "of each row, of each block B of the order: e = floor(log2 max |w_j|), step = 2^(e - bits + 2), \
            w'_j = step * clip(round(w_j / step), -M..M), M = 2^(bits - 1) - 1; round to even at a tie. Order: as it \
            is, or by |W_:j|, or by |W_:j| sqrt(E x_j^2), largest first, whichever makes the least sum_j E x_j^2 \
            |w_:j - w'_:j|^2; the first of equals",
        needs: &[Stat::MeanSquare],
        parameters: &["bits", "group", "act-order"],
        grains: &[],
        cost: "three passes over the weights and a sort of the inputs; f32 in memory",
        departs: "emulated, no bytes of its own; ordered by columns of the weight, the best of three orders",
        exactness: 0.0,
    },
    removes: false,
    composes: false,
    build: |settings| BlockFloat::build(settings),
};

/// Block floating point. See the head of the file.
#[derive(Clone, Copy, Debug)]
pub struct BlockFloat {
    /// Bits of a code, with its sign.
    bits: u32,
    /// Inputs that share an exponent.
    group: usize,
    /// Whether inputs are put in order.
    ordered: bool,
}

impl BlockFloat {
    fn build(settings: &Settings) -> Built<dyn Encode> {
        settings.only(ENTRY.card.parameters)?;
        let bits = settings.bits.unwrap_or(4);
        if !(2..=16).contains(&bits) {
            return Err(MethodError::Params { key: "bits", why: format!("{bits}, expected 2..=16") });
        }
        let group = settings.group.unwrap_or(32);
        if group == 0 {
            return Err(MethodError::Params { key: "group", why: "0, expected at least 1".into() });
        }
        Ok(Box::new(Self { bits, group, ordered: settings.act_order.unwrap_or(true) }))
    }

    /// The values of the format, with inputs that share exponents `group` by `group` in `order`.
    fn rounded(&self, weight: &Matrix, order: &[usize]) -> Matrix {
        let mut rounded = weight.clone();
        for row in 0..weight.rows() {
            let (from, to) = (weight.row(row), rounded.row_mut(row));
            for block in order.chunks(self.group) {
                let largest = block.iter().fold(0.0_f32, |largest, &col| largest.max(from[col].abs()));
                let step = step(f64::from(largest), self.bits);
                let most = f64::from((1 << (self.bits - 1)) - 1);
                for &col in block {
                    let code = (f64::from(from[col]) / step).round_ties_even().clamp(-most, most);
                    // Adding zero keeps a negative zero out.
                    to[col] = (code * step) as f32 + 0.0;
                }
            }
        }
        rounded
    }
}

/// `2^(floor(log2 largest) - bits + 2)`, but no less than the step of the smallest f32.
fn step(largest: f64, bits: u32) -> f64 {
    // Every f32 is a normal f64: its exponent field is the floor of its logarithm. A block of zeros has that of zero.
    let exponent = ((largest.to_bits() >> 52) as i64 - 1023).max(-149);
    let exponent = (exponent - i64::from(bits) + 2).max(-149);
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// Columns by `score`, largest first, the lower index first of equals.
fn descending(score: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|&a, &b| score[b].total_cmp(&score[a]).then(a.cmp(&b)));
    order
}

/// `sum over j of E x_j^2 |w_:j - w'_:j|^2`.
fn loss(before: &Matrix, after: &Matrix, squares: &[f64]) -> f64 {
    let mut loss = 0.0;
    for row in 0..before.rows() {
        for ((&before, &after), square) in before.row(row).iter().zip(after.row(row)).zip(squares) {
            loss += square * (f64::from(before) - f64::from(after)).powi(2);
        }
    }
    loss
}

impl Encode for BlockFloat {
    fn encode(&self, task: &Task<'_>, stats: &Stats, _: &Pool) -> Result<Encoded, MethodError> {
        task.check()?;
        let weight = task.weight;
        let natural: Vec<usize> = (0..weight.cols()).collect();
        let mut best = self.rounded(weight, &natural);
        if self.ordered {
            let squares = check::stat(stats, task.site, Stat::MeanSquare, weight.cols())?;
            let mut norms = vec![0.0; weight.cols()];
            for row in 0..weight.rows() {
                norms.iter_mut().zip(weight.row(row)).for_each(|(norm, &w)| *norm += f64::from(w).powi(2));
            }
            let weighted: Vec<f64> = norms.iter().zip(squares).map(|(norm, square)| norm * square).collect();
            let mut least = loss(weight, &best, squares);
            for order in [descending(&norms), descending(&weighted)] {
                let rounded = self.rounded(weight, &order);
                let loss = loss(weight, &rounded, squares);
                if loss < least {
                    (best, least) = (rounded, loss);
                }
            }
        }
        let error = moments::change(stats, task.site, weight, &best)?;
        Ok(Encoded { weight: Arc::new(Dense(best)), info: Info { error, ..Info::default() } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 3 bits: codes -3..=3. Largest 5: e = 2, step 2. 5 / 2 = 2.5 to even 2, -1 / 2 = -0.5 to 0, 3 / 2 to 2.
        let plain = BlockFloat { bits: 3, group: 2, ordered: false };
        let weight = Matrix::from_vec(1, 4, vec![5.0, -1.0, 3.0, 0.25]);
        assert_eq!(plain.rounded(&weight, &[0, 1, 2, 3]).data(), [4.0, 0.0, 3.0, 0.0]);
        // 5 with 3, and -1 with 0.25: steps 2 and 0.5; 0.25 / 0.5 = 0.5 to 0.
        assert_eq!(plain.rounded(&weight, &[0, 2, 1, 3]).data(), [4.0, -1.0, 4.0, 0.0]);
        // 7 / 2 = 3.5 would be 4 and is cut to 3.
        let weight = Matrix::from_vec(1, 3, vec![-7.0, 0.0, 0.0]);
        let rounded = plain.rounded(&weight, &[0, 1, 2]);
        assert_eq!(rounded.data(), [-6.0, 0.0, 0.0]);
        assert!(rounded.data().iter().all(|value| value.to_bits() != (-0.0_f32).to_bits()));
    }

    #[test]
    fn the_step_follows_the_largest() {
        for (largest, bits, want) in [(1.0, 4, 0.25), (1.99, 4, 0.25), (2.0, 4, 0.5), (0.75, 2, 0.5)] {
            assert_eq!(step(largest, bits), want, "{largest} {bits}");
        }
        let least = f64::from(f32::from_bits(1));
        assert_eq!((step(0.0, 4), step(least, 4)), (least, least));
    }
}
