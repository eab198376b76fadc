//! Fold norms: the gains of the blocks' norms become part of the projections behind them.
//!
//! Source     Ashkboos et al. 2024, SliceGPT: Compress Large Language Models by Deleting Rows and Columns, arXiv:2401.15024
//! Formula    W' = W diag(g) for q, k, v behind the norm of attention and gate, up behind that of the feed-forward layer; g' = 1
//! Shapes     q [H D, C], k, v [G D, C]; gate, up [F, C]; g [C]
//! Needs      no statistic
//! Parameters none
//! Cost       one pass over the weights; the folded projections are f32 in memory
//! Departs    the last norm keeps its gain, because a tied head has no weights of its own to fold it into
//! Errors     Params for a keep other than 1; Numeric for weights or gains that are not finite
//! Exactness  f64, each weight rounded to f32 once: the function is kept to the rounding of f32

use super::{Calibration, Entry, Rewrite, Rewritten};
use crate::basis::{Name, dense, folded};
use crate::card::Card;
use crate::error::MethodError;
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::weight::Linear;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "fold-norm",
        about: "folds the gains of the blocks' norms into the projections behind them; the function stays",
        source: "SliceGPT: Compress Large Language Models by Deleting Rows and Columns, arXiv:2401.15024",
        formula: "W' = W diag(g) for q, k, v behind the norm of attention and gate, up behind that of the \
            feed-forward layer; g' = 1",
        needs: &[],
        parameters: &[],
        grains: &[],
        cost: "one pass over the weights",
        departs: "the last norm keeps its gain, so that a tied head stays tied",
        exactness: 1e-5,
    },
    removes: false,
    uniform: true,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(FoldNorm))
    },
};

/// Folds the gains of the blocks' norms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldNorm;

impl Rewrite for FoldNorm {
    fn rewrite(&self, model: &Model, keep: f64, _: &mut dyn Calibration) -> Result<Rewritten, MethodError> {
        self.check(model, keep)?;
        Ok(Rewritten { model: of_blocks(model)?, notes: Vec::new() })
    }

    fn check(&self, _: &Model, keep: f64) -> Result<(), MethodError> {
        if keep != 1.0 {
            return Err(MethodError::Params { key: "keep", why: format!("{keep}, expected 1: nothing is removed") });
        }
        Ok(())
    }
}

/// The model with the gains of its blocks' norms folded.
pub(super) fn of_blocks(model: &Model) -> Result<Model, MethodError> {
    let mut model = model.clone();
    model.blocks.iter_mut().enumerate().try_for_each(|(index, block)| of_block(block, index))?;
    Ok(model)
}

/// The model with the gain of every norm folded, that of the last norm into the head, which is its own from then on.
pub(super) fn of_all(model: &Model) -> Result<Model, MethodError> {
    let mut model = of_blocks(model)?;
    let (weight, bias) = match &model.head {
        Some(head) => (Arc::clone(&head.weight), head.bias.clone()),
        None => (Arc::clone(&model.embedding), None),
    };
    model.head = Some(dense(folded(weight.as_ref(), &model.final_norm, &Name::Whole("head"))?, bias));
    model.final_norm = ones(model.final_norm.len());
    Ok(model)
}

/// Folds the gains of one block's norms.
pub(super) fn of_block(block: &mut Block, index: usize) -> Result<(), MethodError> {
    let fold = |linear: &mut Linear, gain: &[f32], point| {
        let matrix = folded(linear.weight.as_ref(), gain, &Name::At(Site::new(index, point)))?;
        *linear = dense(matrix, linear.bias.clone());
        Ok::<(), MethodError>(())
    };
    if let Some(part) = block.attention_mut() {
        for linear in [&mut part.q, &mut part.k, &mut part.v] {
            fold(linear, &part.norm, Point::AttentionIn)?;
        }
        part.norm = ones(part.norm.len());
    }
    if let Some(part) = &mut block.ffn {
        for linear in [&mut part.gate, &mut part.up] {
            fold(linear, &part.norm, Point::FfnIn)?;
        }
        part.norm = ones(part.norm.len());
    }
    Ok(())
}

fn ones(count: usize) -> Arc<[f32]> {
    vec![1.0; count].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::block::Ffn;
    use pare_model::matrix::Matrix;

    #[test]
    fn by_hand() {
        let linear = |values: &[f32]| dense(Matrix::from_vec(1, 2, values.to_vec()), None);
        let down = dense(Matrix::from_vec(2, 1, vec![1.0, 1.0]), None);
        let (gate, up) = (linear(&[1.0, 3.0]), linear(&[0.5, -1.0]));
        let norm: Arc<[f32]> = vec![2.0, 10.0].into();
        let mut block = Block { mixer: None, ffn: Some(Ffn { norm, gate, up, down, shortcut: None }) };
        of_block(&mut block, 0).unwrap();
        let part = block.ffn.unwrap();
        assert_eq!(part.gate.to_matrix().data(), [2.0, 30.0]);
        assert_eq!(part.up.to_matrix().data(), [1.0, -10.0]);
        assert_eq!((part.down.to_matrix().data(), &*part.norm), ([1.0, 1.0].as_slice(), [1.0, 1.0].as_slice()));
    }
}
