//! The residual stream beside a part: through a shortcut, or unchanged without one.

use crate::tiny::{all, bits, logits, tokens, uneven, with_shortcuts};
use pare_kernels::pool::Pool;
use pare_model::matrix::Matrix;
use pare_model::model::PackAs;
use pare_model::plan::{Edit, Plan, PlanError};
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

#[test]
fn a_shortcut_that_is_the_identity_changes_no_bit() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        let (tokens, with) = (tokens(&model, 12, 3), with_shortcuts(&model));
        let whole = bits(&logits(&model, &tokens, &pool));
        assert_eq!(bits(&logits(&with, &tokens, &pool)), whole, "{name}");
        assert_eq!(bits(&logits(&with.packed(PackAs::Exact, &pool), &tokens, &pool)), whole, "{name} packed");
        let parts: u64 = model.blocks.iter().map(|b| u64::from(b.mixer.is_some()) + u64::from(b.ffn.is_some())).sum();
        let each = (model.architecture.hidden as u64).pow(2);
        assert_eq!(with.parameters().blocks - model.parameters().blocks, parts * each, "{name}");
        assert_eq!(with.bytes_per_token() - model.bytes_per_token(), parts * each * 4, "{name}");
        assert!(with.has_shortcuts() && !model.has_shortcuts());
    }
}

#[test]
fn a_shortcut_turns_what_the_part_is_added_to() {
    // The shortcut -1 on the feed-forward part of a block whose down projection is zero turns the sign of the residual stream.
    let pool = Pool::new(1);
    let mut model = uneven();
    model.blocks = vec![model.blocks.remove(2)];
    let width = model.architecture.hidden;
    let part = model.blocks[0].ffn.as_mut().unwrap();
    part.down = Linear::new(Arc::new(Dense(Matrix::zeros(width, part.width()))));
    let tokens = tokens(&model, 5, 3);
    let plain = logits(&model, &tokens, &pool);
    let mut turned = Matrix::zeros(width, width);
    (0..width).for_each(|at| turned.row_mut(at)[at] = -1.0);
    model.blocks[0].ffn.as_mut().unwrap().shortcut = Some(Linear::new(Arc::new(Dense(turned))));
    let bias = model.head.as_ref().unwrap().bias.clone().unwrap();
    for (index, (minus, plus)) in logits(&model, &tokens, &pool).into_iter().zip(plain).enumerate() {
        let bias = bias[index % bias.len()];
        assert!((minus - bias + (plus - bias)).abs() < 1e-5, "{minus} {plus} {bias}");
    }
}

#[test]
fn a_part_with_a_shortcut_cannot_be_dropped_and_keeps_it_when_it_is_cut() {
    let model = with_shortcuts(&uneven());
    let one = |edit| Plan { edits: vec![edit] };
    for (edit, part) in [
        (Edit::DropAttention { block: 0 }, "attention"),
        (Edit::DropFfn { block: 0 }, "ffn"),
        (Edit::DropBlock { block: 0 }, "attention"),
    ] {
        assert_eq!(model.apply(&one(edit)).unwrap_err(), PlanError::Shortcut { block: 0, part });
    }
    let cut = model.apply(&Plan {
        edits: vec![Edit::KeepChannels { block: 0, channels: vec![1] }, Edit::KeepGroups { block: 0, groups: vec![0] }],
    });
    assert_eq!(cut.unwrap().blocks[0].shortcuts().count(), 2);
}
