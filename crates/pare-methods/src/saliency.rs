//! What a weight is worth to the rows that could lose it, and which weights of a block of inputs stay.

use crate::select::Compare;
use std::ops::Range;

/// `|W_ij| / R_jj`, up to one factor for all.
pub(crate) struct Saliency(Vec<f32>);

impl Saliency {
    /// From `R_jj` per input; the weights of inputs that were never seen are worth nothing.
    pub(crate) fn new(spread: &[f64], seen: &[bool]) -> Self {
        let least = spread.iter().copied().fold(f64::INFINITY, f64::min);
        Self(spread.iter().zip(seen).map(|(spread, seen)| if *seen { (least / spread) as f32 } else { 0.0 }).collect())
    }

    fn at(&self, input: usize, weight: f32) -> f32 {
        weight.abs() * self.0[input]
    }

    /// The bits of the saliencies of `weights` `[inputs, lanes]`, which are in the order of the saliencies.
    pub(crate) fn keys(&self, weights: &[f32], lanes: usize, inputs: Range<usize>, keys: &mut Vec<u32>) {
        keys.clear();
        for (input, weights) in inputs.zip(weights.chunks_exact(lanes)) {
            keys.extend(weights.iter().map(|&weight| self.at(input, weight).to_bits()));
        }
    }

    /// For each lane, marks the `n` of the inputs of `weights` `[inputs, lanes]` that matter most; of equals the first.
    pub(crate) fn half_of_group(
        &self,
        weights: &[f32],
        lanes: usize,
        inputs: Range<usize>,
        n: usize,
        stay: &mut [bool],
    ) {
        let mut values = [0.0; 8];
        for lane in 0..lanes {
            let group = inputs.clone().zip(weights.iter().skip(lane).step_by(lanes));
            values.iter_mut().zip(group).for_each(|(value, (input, &weight))| *value = self.at(input, weight));
            let values = &values[..inputs.len()];
            for (i, value) in values.iter().enumerate() {
                let before = values.iter().enumerate().filter(|&(k, other)| other > value || (other == value && k < i));
                stay[i * lanes + lane] = before.count() < n;
            }
        }
    }
}

/// How many weights of each block of inputs stay: exact in the end, each block taking up what the rounding of those before left.
#[derive(Debug)]
pub(crate) struct Quotas {
    kind: Kind,
    width: usize,
}

#[derive(Debug)]
enum Kind {
    /// Nothing goes here: either nothing at all, or the choice is made later.
    All,
    /// So many of the whole matrix.
    Matrix(usize),
    /// So many columns of each group of so many rows.
    Rows { together: usize, quota: usize },
}

impl Quotas {
    /// For a matrix of `[out, in]` weights of which the share `keep` stays.
    pub(crate) fn new(compare: Compare, keep: f64, [out, width]: [usize; 2]) -> Self {
        let of = |units: usize| (keep * units as f64).round() as usize;
        let kind = match compare {
            _ if keep == 1.0 => Kind::All,
            Compare::TwoOfFour | Compare::FourOfEight => Kind::All,
            Compare::Matrix => Kind::Matrix(of(out * width)),
            Compare::Row => Kind::Rows { together: 1, quota: of(width) },
            Compare::EightRows => Kind::Rows { together: 8, quota: of(width) },
        };
        Self { kind, width }
    }

    /// Whether the weights of all rows are compared, so that [`top`] has to choose.
    pub(crate) fn over_all_rows(&self) -> bool {
        matches!(self.kind, Kind::Matrix(_))
    }

    /// How many weights, or columns of a group of rows, stay in a block of inputs.
    pub(crate) fn of(&self, inputs: Range<usize>) -> usize {
        let total = match self.kind {
            Kind::All => self.width,
            Kind::Matrix(quota) | Kind::Rows { quota, .. } => quota,
        };
        // In 128 bits, because the product of two counts need not fit 64.
        let until = |inputs: usize| (total as u128 * inputs as u128 + self.width as u128 / 2) / self.width as u128;
        (until(inputs.end) - until(inputs.start)) as usize
    }

    /// Marks which of `weights` `[inputs, lanes]` stay, for choices that no other rows have a part in.
    pub(crate) fn choose(
        &self,
        saliency: &Saliency,
        weights: &[f32],
        lanes: usize,
        inputs: Range<usize>,
        stay: &mut Vec<bool>,
    ) {
        stay.clear();
        let Kind::Rows { together, .. } = self.kind else { return stay.resize(weights.len(), true) };
        stay.resize(weights.len(), false);
        let quota = self.of(inputs.clone());
        let square = |value: f32| f64::from(value) * f64::from(value);
        for first in (0..lanes).step_by(together) {
            let group = first..lanes.min(first + together);
            let sum = |i: usize| -> f64 {
                let row = &weights[i * lanes..][group.clone()];
                row.iter().map(|&weight| square(saliency.at(inputs.start + i, weight))).sum()
            };
            let sums: Vec<f64> = (0..inputs.len()).map(sum).collect();
            for i in crate::select::keep_top(&sums, quota) {
                stay[i * lanes..][group.clone()].fill(true);
            }
        }
    }
}

/// Marks the `quota` weights with the largest keys of several bands of rows, each given as its lanes and its keys
/// `[inputs, lanes]`. Of equal keys the lower row stays, and in it the lower input.
pub(crate) fn top<'a>(bands: impl Iterator<Item = (usize, &'a [u32])> + Clone, quota: usize) -> Vec<Vec<bool>> {
    let mut all: Vec<u32> = bands.clone().flat_map(|(_, keys)| keys).copied().collect();
    if quota == 0 || quota >= all.len() {
        return bands.map(|(_, keys)| vec![quota > 0; keys.len()]).collect();
    }
    let at = all.len() - quota;
    let (_, &mut least, above) = all.select_nth_unstable(at);
    let mut equals = quota - above.iter().filter(|&&key| key > least).count();
    bands
        .map(|(lanes, keys)| {
            let mut stay: Vec<bool> = keys.iter().map(|&key| key > least).collect();
            if keys.contains(&least) {
                for lane in 0..lanes {
                    for at in (lane..keys.len()).step_by(lanes) {
                        if equals > 0 && keys[at] == least {
                            (stay[at], equals) = (true, equals - 1);
                        }
                    }
                }
            }
            stay
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_block_goes_to_the_next() {
        let quotas = Quotas::new(Compare::Matrix, 0.5, [3, 3]);
        assert_eq!([0..1, 1..2, 2..3].map(|inputs| quotas.of(inputs)), [2, 1, 2], "5 of 9");
        let quotas = Quotas::new(Compare::Row, 0.3, [7, 10]);
        assert_eq!([0..4, 4..8, 8..10].map(|inputs| quotas.of(inputs)), [1, 1, 1]);
        assert_eq!(Quotas::new(Compare::Matrix, 1.0, [2, 5]).of(0..5), 5);
    }

    #[test]
    fn of_equal_keys_the_first_row_stays_and_in_it_the_first_input() {
        // Two bands of 2 and 1 rows over 2 inputs: rows (5, 7), (5, 5), (5, 9).
        let (one, two) = ([5, 5, 7, 5], [5, 9]);
        let bands = || [(2, &one[..]), (1, &two[..])].into_iter();
        assert_eq!(top(bands(), 2), [vec![false, false, true, false], vec![false, true]]);
        assert_eq!(top(bands(), 4), [vec![true, true, true, false], vec![false, true]]);
        assert_eq!(top(bands(), 6), [vec![true; 4], vec![true; 2]]);
        assert_eq!(top(bands(), 0), [vec![false; 4], vec![false; 2]]);
    }

    #[test]
    fn neighbouring_rows_share_their_columns() {
        let saliency = Saliency::new(&[1.0, 0.5, 1.0], &[true, true, false]);
        // One row: 3 / 1 against 2 / 0.5; the third was never seen.
        let mut stay = Vec::new();
        let rows = |together| Quotas { kind: Kind::Rows { together, quota: 1 }, width: 3 };
        rows(1).choose(&saliency, &[3.0, 2.0, 9.0], 1, 0..3, &mut stay);
        assert_eq!(stay, [false, true, false]);
        // Two rows (3, 1) and (0, 1): 9 against 4 + 4.
        rows(8).choose(&saliency, &[3.0, 0.0, 1.0, 1.0, 9.0, 9.0], 2, 0..3, &mut stay);
        assert_eq!(stay, [true, true, false, false, false, false]);
    }

    #[test]
    fn half_of_a_short_group_is_as_many() {
        let saliency = Saliency::new(&[1.0; 6], &[true; 6]);
        let mut stay = [false; 4];
        saliency.half_of_group(&[1.0, -4.0, 1.0, 4.0], 1, 0..4, 2, &mut stay);
        assert_eq!(stay, [false, true, false, true]);
        saliency.half_of_group(&[1.0, 1.0, 0.0], 1, 3..6, 2, &mut stay[..3]);
        assert_eq!(stay[..3], [true, true, false]);
    }
}
