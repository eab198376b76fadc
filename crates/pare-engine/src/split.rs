//! The one hold-out rule of everything that selects: what choices are measured on is never what statistics, scores and repairs saw, and
//! figures are of a third text.

use crate::Error;

/// One sequence in so many is for choices.
const PER_CHOICE: usize = 4;
/// Sequences for choices at most: a search measures hundreds of models.
const MOST_CHOICES: usize = 8;

/// Calibration text in two parts that share no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// For statistics, scores and repairs.
    pub fit: Vec<Vec<u32>>,
    /// For choices.
    pub select: Vec<Vec<u32>>,
}

impl Split {
    /// The last quarter of the sequences, at most 8, is for choices; of a single sequence, its last quarter.
    ///
    /// # Errors
    /// A text of fewer than two sequences with two tokens each that is also no sequence of eight tokens.
    pub fn of(calibration: &[Vec<u32>]) -> Result<Self, Error> {
        let long: Vec<Vec<u32>> = calibration.iter().filter(|sequence| sequence.len() > 1).cloned().collect();
        match &long[..] {
            [sequence] if sequence.len() >= 2 * PER_CHOICE => {
                let (fit, select) = sequence.split_at(sequence.len() - sequence.len() / PER_CHOICE);
                Ok(Self { fit: vec![fit.to_vec()], select: vec![select.to_vec()] })
            }
            [] | [_] => Err(Error::Text(
                "the calibration text is too short to hold a part of it out for choices: give two windows, or one of 8 tokens"
                    .to_owned(),
            )),
            _ => {
                let chosen = (long.len() / PER_CHOICE).clamp(1, MOST_CHOICES);
                let mut fit = long;
                let select = fit.split_off(fit.len() - chosen);
                Ok(Self { fit, select })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequences in which every token stands once.
    fn counted(count: usize, length: usize) -> Vec<Vec<u32>> {
        (0..count).map(|sequence| (0..length).map(|token| (sequence * length + token) as u32).collect()).collect()
    }

    #[test]
    fn both_parts_hold_something_and_share_nothing() {
        for (count, length) in [(1, 8), (1, 100), (2, 2), (3, 5), (4, 4), (7, 3), (32, 16), (100, 2)] {
            let text = counted(count, length);
            let Split { fit, select } = Split::of(&text).unwrap();
            assert!(!fit.is_empty() && !select.is_empty(), "{count} x {length}");
            assert!(fit.iter().chain(&select).all(|sequence| sequence.len() > 1), "{count} x {length}");
            let all: Vec<u32> = fit.iter().chain(&select).flatten().copied().collect();
            assert_eq!(all, text.concat(), "{count} x {length}: every token is in one part, once");
            assert!(select.len() <= MOST_CHOICES && fit.concat().len() >= select.concat().len());
        }
    }

    #[test]
    fn a_text_that_cannot_be_split_is_refused() {
        for text in [vec![], counted(1, 7), vec![vec![1], vec![2, 3]]] {
            assert!(Split::of(&text).unwrap_err().is_bad_input(), "{text:?}");
        }
    }
}
