//! Merging of FFN channels: agreement with the reference, and that equal channels merge without a loss.

use crate::Draw;
use crate::golden::{counts, flat, floats, golden, list, matrix, near};
use pare_methods::error::MethodError;
use pare_methods::rewrite::{self, merge_channels};
use pare_model::block::Ffn;
use pare_model::matrix::Matrix;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use serde_json::Value;
use std::sync::Arc;

fn linear(matrix: Matrix, bias: Option<Vec<f32>>) -> Linear {
    Linear { weight: Arc::new(Dense(matrix)), bias: bias.map(Into::into) }
}

fn part(gate: Matrix, up: Matrix, down: Matrix) -> Ffn {
    Ffn {
        norm: vec![1.0; gate.cols()].into(),
        gate: linear(gate, None),
        up: linear(up, None),
        down: linear(down, None),
        shortcut: None,
    }
}

fn numbers(linear: &Linear) -> Vec<f64> {
    linear.to_matrix().data().iter().map(|&value| f64::from(value)).collect()
}

/// The part's output in f64.
fn output(ffn: &Ffn, x: &[f64]) -> Vec<f64> {
    let apply = |linear: &Linear, x: &[f64]| -> Vec<f64> {
        let (matrix, bias) = (linear.to_matrix(), &linear.bias);
        let dot = |row: usize| matrix.row(row).iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
        (0..matrix.rows()).map(|row| dot(row) + bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]))).collect()
    };
    let (gate, up) = (apply(&ffn.gate, x), apply(&ffn.up, x));
    let hidden: Vec<f64> = gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
    apply(&ffn.down, &hidden)
}

#[test]
fn agrees_with_the_reference() {
    let golden = golden("rewrite", "merge_features");
    let exactness = rewrite::find("merge-features").unwrap().card.exactness;
    let whole = part(matrix(&golden["gate"]), matrix(&golden["up"]), matrix(&golden["down"]));
    for case in list(&golden["cases"]) {
        let quota = counts(&Value::from(vec![case["quota"].clone()]))[0];
        let (merged, _) = merge_channels(&whole, quota, 0).unwrap();
        assert_eq!((merged.width(), merged.gate.outputs(), merged.up.outputs()), (quota, quota, quota));
        for (linear, key) in [(&merged.gate, "gate"), (&merged.up, "up"), (&merged.down, "down")] {
            near(numbers(linear), &flat(&case[key]), exactness);
        }
    }
}

#[test]
fn equal_channels_merge_without_a_loss_and_before_all_others() {
    for seed in 0..20 {
        let mut draw = Draw(seed);
        let (width, hidden) = (6 + draw.below(6), 3 + draw.below(4));
        let (gate, up, down) = (draw.matrix(width, hidden), draw.matrix(width, hidden), draw.matrix(hidden, width));
        // Every channel once, some twice, one three times, in any order.
        let mut channels: Vec<usize> = (0..width).chain([0, 2, 2]).collect();
        channels = draw.permutation(channels.len()).into_iter().map(|at| channels[at]).collect();
        let mut twice = part(gate.select_rows(&channels), up.select_rows(&channels), down.select_cols(&channels));
        let bias = draw.matrix(1, width);
        let of_channels: Vec<f32> = channels.iter().map(|&channel| bias.data()[channel]).collect();
        (twice.gate.bias, twice.up.bias) = (Some(of_channels.clone().into()), Some(of_channels.into()));
        twice.down.bias = Some(draw.matrix(1, hidden).into_vec().into());

        let (merged, reach) = merge_channels(&twice, width, 0).unwrap();
        assert_eq!((merged.width(), reach), (width, 0.0), "{seed}");
        let x = draw.many(hidden);
        for (got, want) in output(&merged, &x).iter().zip(output(&twice, &x)) {
            assert!((got - want).abs() < 1e-6, "{seed}: {got} {want}");
        }
        let (fewer, reach) = merge_channels(&twice, width - 1, 0).unwrap();
        assert!(reach > 0.0 && output(&fewer, &x) != output(&merged, &x), "{seed}");
        let (same, _) = merge_channels(&twice, channels.len(), 0).unwrap();
        assert_eq!(same.down.to_matrix(), twice.down.to_matrix(), "{seed}");
    }
}

#[test]
fn broken_input_is_refused() {
    let sound = part(Matrix::zeros(3, 2), Matrix::zeros(3, 2), Matrix::zeros(2, 3));
    for quota in [0, 4] {
        let message = merge_channels(&sound, quota, 0).unwrap_err().to_string();
        assert_eq!(message, format!("parameter quota: {quota} channels, expected 1..=3"));
    }
    let mut broken = sound.clone();
    broken.up = linear(Matrix::from_vec(3, 2, vec![0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0]), None);
    assert!(matches!(merge_channels(&broken, 2, 5), Err(MethodError::Numeric { .. })));
    let mut broken = sound;
    broken.gate.bias = Some(floats(&serde_json::json!([0.0, 0.0, 1e39])).into());
    assert!(merge_channels(&broken, 2, 5).unwrap_err().to_string().contains("block 5"));
}
