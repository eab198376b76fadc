//! Agreement with the references of what removes weights, makes them low rank, or brings back what that lost.

use crate::golden::{flat, golden, list, matrix, near, numbers};
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use pare_methods::compensate::{self, RefitTask};
use pare_methods::encode::{self, Encoded, Task};
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::storage::{Dense, Wrapped};
use pare_model::weight::{Composed, Linear, Weight};
use serde_json::Value;
use std::sync::Arc;

const SITE: Site = Site { block: 0, point: Point::FfnOut };

fn values(weight: &Arc<dyn Weight>) -> Vec<f64> {
    let matrix = Linear::new(Arc::clone(weight)).to_matrix();
    matrix.data().iter().map(|&value| f64::from(value)).collect()
}

fn count(case: &Value, key: &str) -> Option<usize> {
    case.get(key)?.as_u64().map(|count| count as usize)
}

fn compare(case: &Value) -> Compare {
    case.get("pattern").map_or(Compare::Matrix, |pattern| serde_json::from_value(pattern.clone()).unwrap())
}

fn encoded(name: &str, case: &Value, stats: &Stats, settings: &Settings) -> Encoded {
    let weight = matrix(&case["w"]);
    let keep = case.get("keep").map_or(1.0, |keep| keep.as_f64().unwrap());
    let task = Task { site: SITE, weight: &weight, keep, compare: compare(case) };
    (encode::find(name).unwrap().build)(settings).unwrap().encode(&task, stats, &Pool::new(2)).unwrap()
}

#[test]
fn sparsegpt() {
    let exactness = encode::find("sparsegpt").unwrap().card.exactness;
    for case in list(&golden("encode", "sparsegpt")["cases"]) {
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::Gram, flat(&case["gram"]));
        let settings = Settings {
            damping: case["damping"].as_f64(),
            block: count(case, "block"),
            bits: count(case, "bits").map(|bits| bits as u32),
            group: count(case, "group"),
            ..Settings::default()
        };
        let encoded = encoded("sparsegpt", case, &stats, &settings);
        let (got, want) = (values(&encoded.weight), flat(&case["weight"]));
        assert!(got.iter().zip(&want).all(|(got, want)| (*got == 0.0) == (*want == 0.0)), "{:?}", case["pattern"]);
        near(got, &want, exactness);
        near(encoded.info.error, &[case["error"].as_f64().unwrap()], exactness);
        assert_eq!(encoded.info.damping, settings.damping);
    }
}

#[test]
fn svd() {
    let exactness = encode::find("svd").unwrap().card.exactness;
    for case in list(&golden("encode", "svd")["cases"]) {
        let settings = Settings { rank: count(case, "rank"), ..Settings::default() };
        let encoded = encoded("svd", case, &Stats::new(1), &settings);
        near(values(&encoded.weight), &flat(&case["weight"]), exactness);
        let Some(Composed::LowRank(factors)) = encoded.weight.composed() else { panic!("{encoded:?}") };
        assert_eq!(Some(factors.rank()), count(case, "kept"));
        assert_eq!(encoded.info.error, None);
    }
}

#[test]
fn activation_svd() {
    let exactness = encode::find("activation-svd").unwrap().card.exactness;
    for case in list(&golden("encode", "activation_svd")["cases"]) {
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::MeanSquare, numbers(&case["mean_square"]));
        stats.insert(SITE, Stat::Gram, flat(&case["gram"]));
        let settings = Settings { rank: count(case, "rank"), ..Settings::default() };
        let encoded = encoded("activation-svd", case, &stats, &settings);
        near(values(&encoded.weight), &flat(&case["weight"]), exactness);
        near(encoded.info.error, &[case["error"].as_f64().unwrap()], exactness);
    }
}

fn refitted(name: &str, case: &Value) {
    let entry = compensate::find(name).unwrap();
    let compensate::Build::Matrix(build) = entry.build else { panic!("{entry:?}") };
    let settings = Settings {
        damping: case.get("damping").and_then(Value::as_f64),
        iterations: count(case, "iterations"),
        rank: count(case, "rank"),
        ..Settings::default()
    };
    let mut stats = Stats::new(1);
    stats.insert(SITE, Stat::Gram, flat(&case["gram"]));
    let before = matrix(&case["w"]);
    let mut after: Arc<dyn Weight> = Arc::new(Dense(matrix(&case["after"])));
    if let (Some(left), Some(right)) = (case.get("left"), case.get("right")) {
        after = Arc::new(Wrapped::new(diagonal(left), after, diagonal(right)).unwrap());
    }
    let lost = RefitTask { site: SITE, before: &before, after: &after, mask: None };
    let refitted = build(&settings).unwrap().refit(&lost, &stats).unwrap();
    let exactness = entry.card.exactness;
    near(values(&refitted.weight), &flat(&case["weight"]), exactness);
    let [error_before, error_after] = ["error_before", "error_after"].map(|key| case[key].as_f64().unwrap());
    near(refitted.info.error_before, &[error_before], 1e-6);
    let off = (refitted.info.error_after.unwrap() - error_after).abs();
    assert!(off <= exactness * error_before, "{off:e} of {error_before}");
}

/// The matrix of these blocks.
fn diagonal(blocks: &Value) -> Arc<BlockDiagonal> {
    let blocks: Vec<Matrix> = list(blocks).iter().map(matrix).collect();
    let row = |block: usize, row: usize, to: &mut [f32]| to.copy_from_slice(blocks[block].row(row));
    Arc::new(BlockDiagonal::pack(PanelType::F32, blocks.len(), blocks[0].rows(), &row, &Pool::new(1)))
}

#[test]
fn masked_least_squares() {
    let golden = golden("compensate", "masked_least_squares");
    for cases in ["cases", "wrapped"] {
        list(&golden[cases]).iter().for_each(|case| refitted("masked-least-squares", case));
    }
}

#[test]
fn eora() {
    list(&golden("compensate", "eora")["cases"]).iter().for_each(|case| refitted("eora", case));
}

#[test]
fn armor() {
    let exactness = encode::find("armor").unwrap().card.exactness;
    for case in list(&golden("encode", "armor")["cases"]) {
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::MeanSquare, numbers(&case["mean_square"]));
        stats.insert(SITE, Stat::Gram, flat(&case["gram"]));
        let settings =
            Settings { block: count(case, "block"), iterations: count(case, "iterations"), ..Settings::default() };
        let encoded = encoded("armor", case, &stats, &settings);
        near(values(&encoded.weight), &flat(&case["weight"]), exactness);
        near(encoded.info.error, &[case["error"].as_f64().unwrap()], exactness);
    }
}
