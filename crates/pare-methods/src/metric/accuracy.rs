//! Accuracy: the mean of a score over tasks, with its standard error; and the difference of two models on the same tasks.
//!
//! Source     Miller 2024, Adding Error Bars to Evals (arXiv 2411.00640): the standard error of a mean, and of paired differences
//! Formula    mean = sum of s_i / n; standard error = sqrt(sum of (s_i - mean)^2 / (n - 1) / n). Paired: the same of s_i - r_i
//! Shapes     scores `[n]`, one per task, 0 or 1 where a task is right or wrong
//! Needs      nothing
//! Parameters none
//! Cost       two passes over the scores
//! Departs    nothing
//! Errors     none; there is no estimate without a task, and no standard error with one
//! Exactness  sums in f64, in the order of the tasks

/// A mean over tasks.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error; none with one task.
    pub standard_error: Option<f64>,
}

impl Estimate {
    /// The mean of `scores`; none without any.
    pub fn of(scores: &[f64]) -> Option<Self> {
        let count = scores.len() as f64;
        if scores.is_empty() {
            return None;
        }
        let mean = scores.iter().sum::<f64>() / count;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let standard_error = (scores.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
        Some(Self { mean, standard_error })
    }

    /// The mean of `scores[i] - reference[i]`: how much better than the reference, on the same tasks.
    ///
    /// # Panics
    /// When the two have not the same length.
    pub fn of_difference(scores: &[f64], reference: &[f64]) -> Option<Self> {
        assert_eq!(scores.len(), reference.len(), "one score of each model for each task");
        let differences: Vec<f64> = scores.iter().zip(reference).map(|(score, reference)| score - reference).collect();
        Self::of(&differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Mean 3/4; squares 3 x 1/16 + 9/16 = 12/16; over 3 and over 4: 1/16.
        let found = Estimate::of(&[1.0, 1.0, 0.0, 1.0]).unwrap();
        assert_eq!(found, Estimate { mean: 0.75, standard_error: Some(0.25) });
        assert_eq!(Estimate::of(&[1.0]), Some(Estimate { mean: 1.0, standard_error: None }));
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn equal_answers_differ_by_nothing_with_certainty() {
        let scores = [1.0, 0.0, 1.0, 0.0];
        let found = Estimate::of_difference(&scores, &scores).unwrap();
        assert_eq!(found, Estimate { mean: 0.0, standard_error: Some(0.0) });
        // Differences -1, 0, 0, 1: mean 0, squares 2, over 3 and over 4: 1/6.
        let found = Estimate::of_difference(&[0.0, 0.0, 1.0, 1.0], &scores).unwrap();
        assert_eq!(found.mean, 0.0);
        assert!((found.standard_error.unwrap() - (1.0f64 / 6.0).sqrt()).abs() < 1e-15);
    }
}
