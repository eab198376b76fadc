//! From scores to what stays: exact counts, whatever the ties.
//!
//! Every function returns ascending indices. Of equal scores the one with the lower index stays. Scores are finite.

use crate::error::MethodError;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Which weights of a projection are compared with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// Those of one output row.
    #[default]
    Row,
    /// All of the projection.
    Matrix,
    /// 4 consecutive inputs of a row, of which 2 stay.
    #[serde(rename = "2:4")]
    TwoOfFour,
    /// 8 consecutive inputs of a row, of which 4 stay.
    #[serde(rename = "4:8")]
    FourOfEight,
    /// The columns of 8 neighbouring rows: one that leaves does so in all of them.
    #[serde(rename = "8 rows")]
    EightRows,
}

impl Compare {
    /// The indices of the weights of a matrix of `scores`, in rows of `cols`, that stay when about `quota` may.
    ///
    /// # Errors
    /// None of the patterns that a recipe can name.
    pub fn keep(self, scores: &[f64], cols: usize, quota: usize) -> Result<Vec<usize>, MethodError> {
        let rows = scores.len().checked_div(cols).unwrap_or(0);
        let per_row = (quota + rows / 2).checked_div(rows).unwrap_or(0);
        Ok(match self {
            Self::Row => keep_top_per_row(scores, cols, per_row),
            Self::Matrix => keep_top(scores, quota),
            Self::TwoOfFour => keep_n_of_m(scores, cols, 2, 4)?,
            Self::FourOfEight => keep_n_of_m(scores, cols, 4, 8)?,
            Self::EightRows => keep_columns(scores, cols, 8, per_row),
        })
    }
}

/// The indices of the `quota` highest scores.
///
/// # Panics
/// When `quota` is more than there are scores: a programmer's mistake.
#[track_caller]
pub fn keep_top(scores: &[f64], quota: usize) -> Vec<usize> {
    let mut kept = Vec::with_capacity(quota);
    push_top(scores, 0, quota, &mut Vec::new(), &mut kept);
    kept
}

/// The indices of the `quota` highest scores of each row of `cols` scores (the comparison of Wanda: within an output).
///
/// # Panics
/// When `quota` is more than `cols`, or the scores are not whole rows: a programmer's mistake.
#[track_caller]
pub fn keep_top_per_row(scores: &[f64], cols: usize, quota: usize) -> Vec<usize> {
    assert!(quota <= cols, "a quota of {quota} from rows of {cols}");
    let rows = rows_of(scores, cols);
    let mut kept = Vec::with_capacity(rows * quota);
    let mut order = Vec::new();
    for row in 0..rows {
        push_top(&scores[row * cols..(row + 1) * cols], row * cols, quota, &mut order, &mut kept);
    }
    kept
}

/// The indices of the `n` highest scores in each group of `m` consecutive inputs of each row of `cols` scores.
///
/// A short last group of a row counts as filled up with removed weights: it keeps `n` of its scores, or all when it has fewer.
///
/// # Errors
/// `Params` unless `1 <= n <= m`.
///
/// # Panics
/// When the scores are not whole rows: a programmer's mistake.
#[track_caller]
pub fn keep_n_of_m(scores: &[f64], cols: usize, n: usize, m: usize) -> Result<Vec<usize>, MethodError> {
    if n == 0 || n > m {
        return Err(MethodError::Params { key: "n:m", why: format!("{n}:{m}, expected 1 <= n <= m") });
    }
    let rows = rows_of(scores, cols);
    let mut kept = Vec::with_capacity(rows * cols.div_ceil(m) * n.min(cols));
    let mut order = Vec::new();
    for row in 0..rows {
        for start in (0..cols).step_by(m) {
            let end = cols.min(start.saturating_add(m));
            let group = &scores[row * cols + start..row * cols + end];
            push_top(group, row * cols + start, n.min(group.len()), &mut order, &mut kept);
        }
    }
    Ok(kept)
}

/// The indices of the weights in the `quota` columns of each group of `together` neighbouring rows whose scores add up to the most.
///
/// The last group has the rows that are left, and keeps as many columns.
///
/// # Panics
/// When `quota` is more than `cols`, `together` is 0, or the scores are not whole rows: a programmer's mistake.
#[track_caller]
pub fn keep_columns(scores: &[f64], cols: usize, together: usize, quota: usize) -> Vec<usize> {
    assert!(quota <= cols, "a quota of {quota} from rows of {cols}");
    let rows = rows_of(scores, cols);
    let mut kept = Vec::with_capacity(rows * quota);
    let (mut order, mut columns) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(together) {
        let group = first..rows.min(first + together);
        let sum = |column: usize| group.clone().map(|row| scores[row * cols + column]).sum::<f64>();
        let sums: Vec<f64> = (0..cols).map(sum).collect();
        columns.clear();
        push_top(&sums, 0, quota, &mut order, &mut columns);
        for row in group {
            kept.extend(columns.iter().map(|column| row * cols + column));
        }
    }
    kept
}

#[track_caller]
fn rows_of(scores: &[f64], cols: usize) -> usize {
    if scores.is_empty() {
        return 0;
    }
    assert!(cols > 0 && scores.len().is_multiple_of(cols), "{} scores are not whole rows of {cols}", scores.len());
    scores.len() / cols
}

/// Appends `offset +` the indices of the `quota` highest `scores`; `order` is scratch.
#[track_caller]
fn push_top(scores: &[f64], offset: usize, quota: usize, order: &mut Vec<usize>, kept: &mut Vec<usize>) {
    assert!(quota <= scores.len(), "a quota of {quota} from {} scores", scores.len());
    order.clear();
    order.extend(0..scores.len());
    if 0 < quota && quota < scores.len() {
        order.select_nth_unstable_by(quota - 1, |&a, &b| higher_first(scores, a, b));
    }
    let start = kept.len();
    kept.extend(order[..quota].iter().map(|index| offset + index));
    kept[start..].sort_unstable();
}

fn higher_first(scores: &[f64], a: usize, b: usize) -> Ordering {
    // Adding zero makes -0.0 and 0.0 one score.
    (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)).then(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_highest_and_of_equals_the_first() {
        assert_eq!(keep_top(&[1.0, 3.0, 2.0, 3.0], 2), [1, 3]);
        assert_eq!(keep_top(&[1.0, 1.0, 1.0], 2), [0, 1]);
        assert_eq!(keep_top(&[-0.0, 0.0], 1), [0]);
        assert_eq!(keep_top(&[-1.0, -3.0], 1), [0]);
        assert_eq!(keep_top(&[5.0], 0), [0; 0]);
        assert_eq!(keep_top(&[5.0, 4.0], 2), [0, 1]);
        assert_eq!(keep_top(&[], 0), [0; 0]);
    }

    #[test]
    fn compares_within_a_row() {
        let scores = [1.0, 2.0, 3.0, 60.0, 40.0, 50.0];
        assert_eq!(keep_top(&scores, 4), [2, 3, 4, 5]);
        assert_eq!(keep_top_per_row(&scores, 3, 2), [1, 2, 3, 5]);
        assert_eq!(keep_top_per_row(&[], 0, 0), [0; 0]);
    }

    #[test]
    fn keeps_the_columns_whose_sums_are_highest_in_every_group_of_rows() {
        // Sums of the first two rows: 5, 4, 5; the third row is a group of its own.
        let scores = [1.0, 4.0, 2.0, 4.0, 0.0, 3.0, 0.0, 7.0, 5.0];
        assert_eq!(keep_columns(&scores, 3, 2, 1), [0, 3, 7]);
        assert_eq!(keep_columns(&scores, 3, 2, 2), [0, 2, 3, 5, 7, 8]);
        assert_eq!(keep_columns(&scores, 3, 1, 2), keep_top_per_row(&scores, 3, 2));
        assert_eq!(keep_columns(&scores, 3, 8, 3), Vec::from_iter(0..9));
        assert_eq!(keep_columns(&[], 3, 8, 1), [0; 0]);
    }

    #[test]
    fn keeps_n_of_each_m_and_fills_the_short_group() {
        let scores = [4.0, 1.0, 2.0, 3.0, 9.0, 0.0, 0.0, 7.0, 7.0, 5.0];
        assert_eq!(keep_n_of_m(&scores, 5, 2, 4).unwrap(), [0, 3, 4, 7, 8, 9]);
        assert_eq!(keep_n_of_m(&scores, 5, 1, 4).unwrap(), [0, 4, 7, 9]);
        assert_eq!(keep_n_of_m(&scores, 10, 4, usize::MAX).unwrap(), [4, 7, 8, 9]);
        assert_eq!(keep_n_of_m(&scores, 10, usize::MAX, usize::MAX).unwrap(), Vec::from_iter(0..10));
        assert_eq!(keep_n_of_m(&scores, 5, 4, 4).unwrap(), Vec::from_iter(0..10));
    }

    #[test]
    fn refuses_an_n_that_is_not_of_m() {
        for (n, m) in [(0, 4), (5, 4), (0, 0)] {
            let why = format!("parameter n:m: {n}:{m}, expected 1 <= n <= m");
            assert_eq!(keep_n_of_m(&[1.0], 1, n, m).unwrap_err().to_string(), why);
        }
    }

    #[test]
    #[should_panic(expected = "a quota of 3 from 2 scores")]
    fn a_quota_beyond_the_scores_is_a_mistake() {
        keep_top(&[1.0, 2.0], 3);
    }

    #[test]
    #[should_panic(expected = "3 scores are not whole rows of 2")]
    fn torn_rows_are_a_mistake() {
        keep_top_per_row(&[1.0, 2.0, 3.0], 2, 1);
    }

    #[test]
    fn agrees_with_a_full_sort() {
        for size in 0..40_usize {
            // Few distinct values: many ties.
            let scores: Vec<f64> = (0..size).map(|i| ((i * 7 + size) % 5) as f64 - 2.0).collect();
            let mut order: Vec<usize> = (0..size).collect();
            order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap());
            for quota in 0..=size {
                let mut want = order[..quota].to_vec();
                want.sort_unstable();
                assert_eq!(keep_top(&scores, quota), want);
            }
        }
    }
}
