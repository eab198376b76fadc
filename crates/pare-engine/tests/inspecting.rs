//! Inspecting: figures of every block, what they say of copies, and curves that rise with what is removed.

use crate::tiny::{five_blocks, logits, sequences, work};
use pare_engine::figures::BlockRedundancy;
use pare_engine::inspect::{LEVELS, curve, inspect};
use pare_engine::split::Split;
use pare_kernels::pool::Pool;
use pare_model::model::Model;
use pare_model::plan::{Edit, Plan};
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// Sequences, and tokens of each: as many as are measured in one window.
const TEXT: (usize, usize) = (6, 60);

fn text(model: &Model) -> Vec<Vec<u32>> {
    sequences(TEXT.0, TEXT.1, model.architecture.vocab, 5)
}

/// Every field, so that a new one cannot be forgotten.
fn shares(block: &BlockRedundancy) -> [f64; 12] {
    let &BlockRedundancy {
        attention_influence,
        ffn_influence,
        block_influence,
        idle_channels,
        group_spread,
        effective_rank,
        nuclear_norm,
        head_correlation,
        channel_correlation,
        mergeable_channels,
        energy_entropy,
        effective_channels,
    } = block;
    [
        attention_influence / 2.0,
        ffn_influence / 2.0,
        block_influence / 2.0,
        idle_channels,
        1.0 / group_spread,
        effective_rank,
        nuclear_norm,
        head_correlation,
        channel_correlation,
        mergeable_channels,
        energy_entropy,
        effective_channels,
    ]
}

#[test]
fn every_figure_is_a_share_whatever_is_missing() {
    let mut model = five_blocks();
    model.blocks[1].mixer = None;
    model.blocks[2].ffn = None;
    (model.blocks[3].mixer, model.blocks[3].ffn) = (None, None);
    let found = inspect(&model, &text(&model), work(&Pool::new(2))).unwrap();
    assert_eq!(found.len(), 5);
    for block in &found {
        assert!(shares(block).iter().all(|share| (0.0..=1.0).contains(share)), "{block:?}");
    }
    for at in [0, 4] {
        let block = &found[at];
        assert!(block.effective_rank > 0.1 && block.nuclear_norm > 0.1 && block.effective_channels > 0.1, "{block:?}");
        assert!(block.head_correlation > 0.0 && block.channel_correlation > 0.0, "{block:?}");
    }
    assert_eq!((found[1].head_correlation, found[2].channel_correlation), (0.0, 0.0));
    assert!(found[1].effective_rank > 0.1 && found[3].effective_rank == 0.0);
    assert_eq!(found, inspect(&model, &text(&model), work(&Pool::new(1))).unwrap());
}

#[test]
fn what_is_there_twice_is_found() {
    let mut model = five_blocks();
    let before = inspect(&model, &text(&model), work(&Pool::new(1))).unwrap();
    assert!(before[4].channel_correlation < 0.9, "{:?}", before[4]);
    // Channels 0, 0, 1, 1, ... of 72.
    let twice: Vec<usize> = (0..72).map(|at| at / 2).collect();
    let dense = |matrix| Linear::new(Arc::new(Dense(matrix)));
    let ffn = model.blocks[4].ffn.as_mut().unwrap();
    ffn.gate = dense(ffn.gate.to_matrix().select_rows(&twice));
    ffn.up = dense(ffn.up.to_matrix().select_rows(&twice));
    ffn.down = dense(ffn.down.to_matrix().select_cols(&twice));
    let after = inspect(&model, &text(&model), work(&Pool::new(1))).unwrap();
    // Random channels are not alike: one of each pair merges, and no more.
    assert_eq!((before[4].mergeable_channels, after[4].mergeable_channels), (0.0, 0.5));
    assert!((after[4].channel_correlation - 1.0).abs() < 1e-9, "{:?}", after[4]);
    assert_eq!(before[..4], after[..4]);
}

/// Mean divergence of `changed` from `model`, in nats, from their logits.
fn divergence(model: &Model, changed: &Model, text: &[Vec<u32>]) -> f64 {
    let (pool, vocab) = (Pool::new(1), model.architecture.vocab);
    let probabilities = |logits: &[f32]| -> Vec<f64> {
        let all: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|value| value / sum).collect()
    };
    let mut sum = 0.0;
    for sequence in text {
        let (before, after) = (logits(model, sequence, &pool), logits(changed, sequence, &pool));
        for (before, after) in before.chunks_exact(vocab).zip(after.chunks_exact(vocab)) {
            let (p, q) = (probabilities(before), probabilities(after));
            sum += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        }
    }
    sum / (text.len() * TEXT.1) as f64
}

#[test]
fn curves_rise_from_nothing_to_the_whole_part() {
    let model = five_blocks();
    let levels = [&[0.0][..], &LEVELS].concat();
    let curves = curve(&model, &text(&model), &levels, work(&Pool::new(2))).unwrap();
    assert_eq!(curves.len(), 5);
    for curve in &curves {
        let removed: Vec<usize> = curve.channels.iter().map(|point| point.removed_channels).collect();
        assert_eq!(removed, [0, 7, 18, 36, 72]);
        assert_eq!(curve.channels[0].kl_mean, 0.0);
        assert!(curve.channels.windows(2).all(|pair| pair[0].kl_mean < pair[1].kl_mean), "{curve:?}");
        assert!(curve.dropped.unwrap() > 0.0);
    }
    assert_eq!(curves, curve(&model, &text(&model), &levels, work(&Pool::new(1))).unwrap());
}

#[test]
fn the_ends_of_a_curve_are_what_models_without_the_part_do() {
    let model = five_blocks();
    let curves = curve(&model, &text(&model), &[1.0], work(&Pool::new(2))).unwrap();
    let measured = &Split::of(&text(&model)).unwrap().select;
    for block in [0, 3] {
        let without = |edit| {
            let changed = model.apply(&Plan { edits: vec![edit] }).unwrap();
            divergence(&model, &changed, measured)
        };
        let (ffn, whole) = (without(Edit::DropFfn { block }), without(Edit::DropBlock { block }));
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-6 * want, "{got} {want}");
        near(curves[block].channels[0].kl_mean, ffn);
        near(curves[block].dropped.unwrap(), whole);
    }
}

#[test]
fn what_cannot_leave_has_no_point() {
    let mut model = five_blocks();
    model.blocks[0].ffn = None;
    let width = model.architecture.hidden;
    let mut same = pare_model::matrix::Matrix::zeros(width, width);
    (0..width).for_each(|at| same.row_mut(at)[at] = 1.0);
    model.blocks[1].ffn.as_mut().unwrap().shortcut = Some(Linear::new(Arc::new(Dense(same))));
    let curves = curve(&model, &text(&model)[..1], &[0.5, 1.0], work(&Pool::new(2))).unwrap();
    assert!(curves[0].channels.is_empty() && curves[0].dropped.is_some());
    assert_eq!(curves[1].channels.iter().map(|point| point.level).collect::<Vec<_>>(), [0.5]);
    assert!(curves[1].dropped.is_none());
    let last: Vec<usize> = curves[2].channels.iter().map(|point| point.removed_channels).collect();
    assert_eq!(last, [36, 72]);
}
