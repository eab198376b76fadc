//! Average: the middle of both models' weights, channel by channel as they lie.
//!
//! Source     folklore: weight averaging, as in Wortsman et al. 2022, Model soups, arXiv:2203.05482
//! Formula    W = (A + B) / 2, for weights, biases and gains
//! Shapes     A, B, W [out, in]
//! Needs      no statistic
//! Parameters none
//! Cost       one pass over the weights
//! Departs    two models with equal shares
//! Errors     Params (a size other than 1); Shape, Numeric
//! Exactness  0: equal to goldens/merge/average

use super::{Entry, Info, Joints, Merge, Merged, Pair, middle, with_middle_norms};
use crate::card::Card;
use crate::error::{Built, MethodError};
use crate::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::site::Projection;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "average",
        about: "the middle of both models' weights as they lie: the baseline of every merge",
        source: "folklore: weight averaging, as in Model soups, arXiv:2203.05482",
        formula: "W = (A + B) / 2, for weights, biases and gains",
        needs: &[],
        parameters: &[],
        grains: &[],
        cost: "one pass over the weights",
        departs: "two models, equal shares",
        exactness: 0.0,
    },
    build: |settings| Average::build(settings),
};

/// The middle of both models' weights.
#[derive(Clone, Copy, Debug)]
pub struct Average;

impl Average {
    fn build(settings: &Settings) -> Built<dyn Merge> {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(Self))
    }
}

impl Merge for Average {
    fn merge(&self, pair: &Pair<'_>, size: f64, _: &Joints) -> Result<Merged, MethodError> {
        pair.check()?;
        self.check(size)?;
        let mut block = with_middle_norms(pair);
        for projection in Projection::ALL {
            let (Some(linear), Some(other)) = (block.linear_mut(projection), pair.second.linear(projection)) else {
                continue;
            };
            let (a, b) = (linear.to_matrix(), other.to_matrix());
            let matrix = Matrix::from_vec(a.rows(), a.cols(), middle(a.data(), b.data()));
            let biases = linear.bias.as_ref().zip(other.bias.as_ref());
            let bias = biases.map(|(a, b)| middle(a, b).into());
            *linear = Linear { weight: Arc::new(Dense(matrix)), bias };
        }
        Ok(Merged { block, info: Info::default() })
    }

    fn check(&self, size: f64) -> Result<(), MethodError> {
        if size != 1.0 {
            let why = format!("{size}, but average merges every channel with that of its number: expected 1");
            return Err(MethodError::Params { key: "size", why });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::block::{Block, Ffn};

    fn block(values: [f32; 4]) -> Block {
        let linear = |out, inn, value| Linear {
            weight: Arc::new(Dense(Matrix::from_vec(out, inn, vec![value; out * inn]))),
            bias: Some(vec![value + 1.0; out].into()),
        };
        let [norm, gate, up, down] = values;
        let ffn = Ffn {
            norm: vec![norm; 2].into(),
            gate: linear(3, 2, gate),
            up: linear(3, 2, up),
            down: linear(2, 3, down),
            shortcut: None,
        };
        Block { mixer: None, ffn: Some(ffn) }
    }

    #[test]
    fn by_hand() {
        let (first, second) = (block([1.0, 2.0, 3.0, 4.0]), block([2.0, -2.0, 4.0, 4.0]));
        let pair = Pair { index: 0, first: &first, second: &second };
        let merged = Average.merge(&pair, 1.0, &Joints::new()).unwrap().block.ffn.unwrap();
        assert_eq!(merged.norm[..], [1.5, 1.5]);
        for (linear, want) in [(&merged.gate, 0.0), (&merged.up, 3.5), (&merged.down, 4.0)] {
            assert!(linear.to_matrix().data().iter().all(|&value| value == want));
            assert!(linear.bias.as_ref().unwrap().iter().all(|&value| value == want + 1.0));
        }
    }
}
