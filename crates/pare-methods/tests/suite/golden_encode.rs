//! Encodings against the independent references in `goldens/encode`, and what must hold of every one.

use crate::Draw;
use pare_kernels::blocks::{BlockType, Line};
use pare_kernels::pool::Pool;
use pare_methods::encode::{self, Task};
use pare_methods::rounding::{HessianFactor, Rounder, RoundingOptions};
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::weight::Linear;
use serde_json::Value;
use std::path::Path;

const SITE: Site = Site { block: 0, point: Point::FfnIn };

fn golden(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/encode").join(name).with_extension("json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn matrix(value: &Value) -> Matrix {
    let rows = value.as_array().unwrap().len();
    let values: Vec<f32> = numbers(value).into_iter().map(|value| value as f32).collect();
    Matrix::from_vec(rows, values.len() / rows, values)
}

fn exactness(name: &str) -> f64 {
    encode::find(name).unwrap().card.exactness
}

#[test]
fn round_nearest_agrees() {
    let golden = golden("round_nearest");
    let weight = matrix(&golden["w"]);
    let mut stats = Stats::new(50);
    stats.insert(SITE, Stat::Gram, numbers(&golden["gram"]));
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 5);
    for case in cases {
        let settings = Settings {
            bits: Some(case["bits"].as_u64().unwrap() as u32),
            group: Some(case["group"].as_u64().unwrap() as usize),
            symmetric: Some(case["symmetric"].as_bool().unwrap()),
            ..Settings::default()
        };
        let method = (encode::find("round-nearest").unwrap().build)(&settings).unwrap();
        let task = Task { site: SITE, weight: &weight, keep: 1.0, compare: Compare::Row };
        let encoded = method.encode(&task, &stats, &Pool::new(1)).unwrap();
        let found = Linear::new(encoded.weight).to_matrix();
        for (found, want) in found.data().iter().zip(numbers(&case["values"])) {
            assert!((f64::from(*found) - want).abs() <= exactness("round-nearest"), "{found}, golden {want}");
        }
        let (found, want) = (encoded.info.error.unwrap(), case["error"].as_f64().unwrap());
        assert!((found - want).abs() <= 1e-4 * want, "error {found}, golden {want}");
    }
}

#[test]
fn gptq_agrees() {
    let golden = golden("gptq");
    let weight = matrix(&golden["w"]);
    let (gram, damping) = (numbers(&golden["gram"]), golden["damping"].as_f64().unwrap());
    let hessians = [HessianFactor::new, HessianFactor::largest_first]
        .map(|hessian| hessian(&gram, weight.cols(), damping).unwrap());
    for (hessian, want) in hessians.iter().zip([&golden, &golden["largest_first"]]) {
        rounder_agrees(hessian, &weight, &golden["scales"], want);
    }
}

fn rounder_agrees(hessian: &HessianFactor, weight: &Matrix, scales: &Value, want: &Value) {
    let ty = BlockType::Q4_1;
    let mut rounder = Rounder::new(hessian, ty, RoundingOptions { carry: true, rounds: 0 }).unwrap();
    let (values, errors) = (matrix(&want["values"]), numbers(&want["errors"]));
    for row in 0..weight.rows() {
        let lines = numbers(&scales[row]);
        let scales: Vec<_> = lines
            .chunks_exact(2)
            .map(|pair| {
                let line = Line { step: pair[0] as f32, offset: pair[1] as f32 };
                ty.scales(&[0.0; 32], &[1.0; 32]).with_line(ty, 0, line)
            })
            .collect();
        let mut bytes = vec![0; 2 * ty.bytes_per_block()];
        let error = rounder.row_in(weight.row(row), &scales, &mut bytes);
        for (found, want) in rounder.values().iter().zip(values.row(row)) {
            assert!((found - want).abs() < 1e-6, "row {row}: {found}, golden {want}: another code");
        }
        assert!((error - errors[row]).abs() <= exactness("gptq") * errors[row], "{error}, golden {}", errors[row]);
    }
}

/// Two tokens' worth of nothing special: a matrix and the moments of its inputs.
fn case(seed: u64, rows: usize, columns: usize) -> (Matrix, Stats) {
    let mut draw = Draw(seed);
    let weight = draw.matrix(rows, columns);
    let tokens: Vec<Vec<f64>> = (0..3 * columns)
        .map(|_| {
            let shared = draw.next();
            draw.many(columns).into_iter().map(|value| value + shared).collect()
        })
        .collect();
    let moment = |at: usize| tokens.iter().map(|x| x[at / columns] * x[at % columns]).sum::<f64>();
    let mut stats = Stats::new(tokens.len() as u64);
    let gram = (0..columns * columns).map(|at| moment(at) / tokens.len() as f64).collect();
    stats.insert(SITE, Stat::Gram, gram);
    (weight, stats)
}

fn error(name: &str, ty: &str, (weight, stats): &(Matrix, Stats)) -> f64 {
    let settings = Settings { storage: Some(ty.into()), ..Settings::default() };
    let task = Task { site: SITE, weight, keep: 1.0, compare: Compare::Row };
    let encoded = (encode::find(name).unwrap().build)(&settings).unwrap().encode(&task, stats, &Pool::new(1)).unwrap();
    assert_eq!((encoded.weight.shape(), encoded.weight.name()), (weight.shape(), ty));
    encoded.info.error.unwrap()
}

#[test]
fn codes_chosen_together_err_less_and_more_bits_err_less() {
    let case = case(3, 6, 256);
    let mut last = f64::INFINITY;
    for ty in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] {
        let (plain, chosen) = (error("round-nearest", ty, &case), error("gptq", ty, &case));
        assert!(chosen < 0.7 * plain, "{ty}: {chosen} against {plain}");
        assert!(chosen < last, "{ty}: {chosen} against {last}");
        last = chosen;
    }
    for ty in ["Q4_K", "Q5_K", "Q6_K"] {
        // Their plain encoding searches its scales as well.
        let (plain, chosen) = (error("round-nearest", ty, &case), error("gptq", ty, &case));
        assert!(chosen < plain, "{ty}: {chosen} against {plain}");
    }
}

#[test]
fn rows_that_are_no_whole_blocks_are_refused() {
    let (weight, stats) = case(4, 2, 48);
    for entry in encode::ENTRIES.iter().filter(|entry| entry.card.parameters.contains(&"type")) {
        let settings = Settings { storage: Some("q4_0".into()), ..Settings::default() };
        let task = Task { site: SITE, weight: &weight, keep: 1.0, compare: Compare::Row };
        let Ok(method) = (entry.build)(&settings) else { continue };
        let message = method.encode(&task, &stats, &Pool::new(1)).unwrap_err().to_string();
        assert!(message.contains("rows of 48 in Q4_0"), "{}: {message}", entry.card.name);
    }
}
