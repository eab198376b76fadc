//! Properties of every repair of a whole matrix.

use crate::Draw;
use crate::encode::{SITE, error, matrix, stats};
use pare_kernels::pool::Pool;
use pare_methods::compensate::{Build, ENTRIES, Entry, RefitMasked, RefitTask, Refitted, find};
use pare_methods::encode::{self, Task};
use pare_methods::error::MethodError;
use pare_methods::select::{Compare, keep_n_of_m};
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use pare_model::weight::{Composed, Linear, Weight};
use std::sync::Arc;

fn of_matrices() -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(|entry| matches!(entry.build, Build::Matrix(_)))
}

/// Builds a repair that works on matrices of 8 outputs or inputs too.
#[track_caller]
fn build(entry: &Entry, rank: usize) -> Box<dyn RefitMasked> {
    let Build::Matrix(build) = entry.build else { panic!("{entry:?} repairs readers") };
    let rank = entry.card.parameters.contains(&"rank").then_some(rank);
    build(&Settings { rank, ..Settings::default() }).unwrap()
}

fn values(refitted: &Refitted) -> Matrix {
    Linear::new(Arc::clone(&refitted.weight)).to_matrix()
}

/// The matrix with half of its weights gone, two of every four.
fn masked(weight: &Matrix) -> Matrix {
    let scores: Vec<f64> = weight.data().iter().map(|&value| f64::from(value.abs())).collect();
    let mut after = Matrix::zeros(weight.rows(), weight.cols());
    for at in keep_n_of_m(&scores, weight.cols(), 2, 4).unwrap() {
        after.data_mut()[at] = weight.data()[at];
    }
    after
}

#[test]
fn the_calibration_error_never_grows() {
    let mut draw = Draw(11);
    for round in 0..60 {
        let [out, width] = [8 + draw.below(20), 8 + draw.below(40)];
        let before = draw.matrix(out, width);
        let tokens = 1 + draw.below(80);
        let stats = stats(&mut draw, width, tokens, round % 2 == 0);
        // Masked, rounded, and hardly changed at all.
        let mut after = masked(&before);
        match round % 3 {
            0 => {}
            1 => after = Matrix::from_vec(out, width, before.data().iter().map(|v| (v * 3.0).round() / 3.0).collect()),
            _ => {
                after = before.clone();
                after.data_mut()[0] = f32::from_bits(before.data()[0].to_bits() ^ 1);
            }
        }
        let lost = error(&stats, &before, &after);
        let weight: Arc<dyn Weight> = Arc::new(Dense(after.clone()));
        for entry in of_matrices() {
            let refitted = build(entry, 2)
                .refit(&RefitTask { site: SITE, before: &before, after: &weight, mask: None }, &stats)
                .unwrap();
            let (left, info) = (error(&stats, &before, &values(&refitted)), refitted.info);
            let off = 1e-5 * lost + 1e-12;
            assert!(left <= lost + off, "{entry:?} round {round}: {lost} to {left}");
            assert!((info.error_before.unwrap() - lost).abs() <= off, "{entry:?} round {round}");
            assert!((info.error_after.unwrap() - left).abs() <= off, "{entry:?} round {round}: {info:?} {left}");
            let again = build(entry, 2)
                .refit(&RefitTask { site: SITE, before: &before, after: &weight, mask: None }, &stats)
                .unwrap();
            assert_eq!((values(&again).data(), again.info), (values(&refitted).data(), info), "{entry:?}");
        }
    }
}

#[test]
fn a_mask_stays_and_what_it_left_says_more() {
    let mut draw = Draw(12);
    for round in 0..20 {
        let [out, width] = [1 + draw.below(20), 8 + draw.below(40)];
        let before = draw.matrix(out, width);
        let stats = stats(&mut draw, width, 500, false);
        let after = masked(&before);
        let weight: Arc<dyn Weight> = Arc::new(Dense(after.clone()));
        let entry = find("masked-least-squares").unwrap();
        let refitted = build(entry, 1)
            .refit(&RefitTask { site: SITE, before: &before, after: &weight, mask: None }, &stats)
            .unwrap();
        for (value, mask) in values(&refitted).data().iter().zip(after.data()) {
            assert!(*mask != 0.0 || value.to_bits() == 0, "round {round}: {value} where nothing was");
        }
        let info = refitted.info;
        assert!(info.error_after.unwrap() < 0.9 * info.error_before.unwrap(), "round {round}: {info:?}");
    }
}

#[test]
fn a_wrapped_core_keeps_its_wrappers_and_zeros_and_says_more() {
    let mut draw = Draw(18);
    for (round, [out, width, block]) in [[8, 16, 4], [24, 16, 8], [32, 64, 32], [16, 48, 8]].into_iter().enumerate() {
        let before = draw.matrix(out, width);
        let stats = stats(&mut draw, width, 300, round == 1);
        let settings = Settings { block: Some(block), iterations: Some(3), ..Settings::default() };
        let task = Task { site: SITE, weight: &before, keep: 0.5, compare: Compare::TwoOfFour };
        let armor = (encode::find("armor").unwrap().build)(&settings).unwrap();
        let after = armor.encode(&task, &stats, &Pool::new(1)).unwrap().weight;
        let lost = RefitTask { site: SITE, before: &before, after: &after, mask: None };
        let refitted = build(find("masked-least-squares").unwrap(), 1).refit(&lost, &stats).unwrap();
        let parts = [&after, &refitted.weight].map(|weight| match weight.composed() {
            Some(Composed::Wrapped(wrapped)) => wrapped,
            other => panic!("{other:?}"),
        });
        let diagonals = parts.map(|wrapped| {
            let mut row = vec![0.0; block];
            let mut all = Vec::new();
            for diagonal in wrapped.diagonals() {
                for o in 0..diagonal.count() * block {
                    diagonal.decode_within(o, &mut row);
                    all.extend(row.iter().map(|value| value.to_bits()));
                }
            }
            all
        });
        assert!(diagonals[0] == diagonals[1], "round {round}");
        let cores = parts.map(|wrapped| Linear::new(Arc::clone(wrapped.core())).to_matrix());
        for (value, mask) in cores[1].data().iter().zip(cores[0].data()) {
            assert!(*mask != 0.0 || value.to_bits() == 0, "round {round}: {value} where nothing was");
        }
        let [was, is] = [&after, &refitted.weight]
            .map(|weight| error(&stats, &before, &Linear::new(Arc::clone(weight)).to_matrix()));
        let info = refitted.info;
        assert!(is < 0.9 * was, "round {round}: {was} to {is}");
        assert!((info.error_before.unwrap() - was).abs() <= 1e-5 * was, "round {round}: {info:?}");
        assert!((info.error_after.unwrap() - is).abs() <= 1e-5 * was, "round {round}: {info:?}");
    }
}

#[test]
fn a_full_rank_gives_everything_back() {
    let mut draw = Draw(13);
    for [out, width] in [[12, 20], [20, 12], [12, 12]] {
        let before = draw.matrix(out, width);
        let stats = stats(&mut draw, width, 100, false);
        let weight: Arc<dyn Weight> = Arc::new(Dense(masked(&before)));
        let lost = RefitTask { site: SITE, before: &before, after: &weight, mask: None };
        let refitted = build(find("eora").unwrap(), 12).refit(&lost, &stats).unwrap();
        let info = refitted.info;
        assert!(info.error_after.unwrap() < 1e-9 * info.error_before.unwrap(), "{out} x {width}: {info:?}");
    }
}

#[test]
fn more_rank_never_hurts_and_rounded_factors_hardly() {
    let mut draw = Draw(14);
    let before = draw.matrix(64, 96);
    let stats = stats(&mut draw, 96, 400, false);
    let weight: Arc<dyn Weight> = Arc::new(Dense(masked(&before)));
    let lost = RefitTask { site: SITE, before: &before, after: &weight, mask: None };
    let left = |rank: usize, storage: &str| {
        let Build::Matrix(build) = find("eora").unwrap().build else { panic!() };
        let settings = Settings { rank: Some(rank), storage: Some(storage.into()), ..Settings::default() };
        let refitted = build(&settings).unwrap().refit(&lost, &stats).unwrap();
        let is = error(&stats, &before, &values(&refitted));
        assert!((refitted.info.error_after.unwrap() - is).abs() < 1e-5 * is, "{rank} {storage}");
        (is, refitted.weight.bytes())
    };
    let ranks = [1, 2, 4, 8, 16, 32, 64].map(|rank| left(rank, "f32").0);
    assert!(ranks.is_sorted_by(|a, b| a >= b), "{ranks:?}");
    let [full, half, eighth] = ["f32", "f16", "q8_0"].map(|storage| left(32, storage));
    assert!(half.0 < 1.001 * full.0 && eighth.0 < 1.2 * full.0, "{full:?} {half:?} {eighth:?}");
    let core = weight.bytes();
    assert_eq!([full.1, half.1, eighth.1].map(|bytes| bytes - core), [20480, 10240, 5440], "32 (64 + 96) numbers");
}

#[test]
fn eora_is_best_then_activation_svd_then_plain_svd() {
    let mut draw = Draw(15);
    for [out, width, rank] in [[24, 40, 3], [40, 24, 5], [32, 32, 8]] {
        let before = draw.matrix(out, width);
        let stats = stats(&mut draw, width, 300, false);
        let after = masked(&before);
        let weight: Arc<dyn Weight> = Arc::new(Dense(after.clone()));
        let lost = RefitTask { site: SITE, before: &before, after: &weight, mask: None };
        let eora = build(find("eora").unwrap(), rank).refit(&lost, &stats).unwrap().info.error_after.unwrap();
        let change = before.data().iter().zip(after.data()).map(|(a, b)| a - b).collect();
        let residual = Matrix::from_vec(out, width, change);
        let [activation, plain] = ["activation-svd", "svd"].map(|name| {
            let task = Task { site: SITE, weight: &residual, keep: 1.0, compare: Compare::Row };
            let settings = Settings { rank: Some(rank), ..Settings::default() };
            let encoding = (encode::find(name).unwrap().build)(&settings).unwrap();
            encoding.encode(&task, &stats, &Pool::new(1)).unwrap().info.error.unwrap()
        });
        assert!(eora <= activation && activation <= plain, "{eora} {activation} {plain}");
        assert!(eora < 0.95 * plain, "{eora} {plain}: the test would not see a difference");
    }
}

/// Least squares of one row over two of its four inputs, by Cramer's rule, from the second moments.
fn solved(gram: &[f64], row: &[f32], [k, l]: [usize; 2]) -> f64 {
    let with = |i: usize| (0..4).map(|j| gram[i * 4 + j] * f64::from(row[j])).sum::<f64>();
    let (a, c, d) = (gram[k * 5], gram[l * 5], gram[k * 4 + l]);
    let determinant = a * c - d * d;
    let values = [(c * with(k) - d * with(l)) / determinant, (a * with(l) - d * with(k)) / determinant];
    let total: f64 = (0..4).map(|i| f64::from(row[i]) * with(i)).sum();
    total - values[0] * with(k) - values[1] * with(l)
}

#[test]
fn nothing_beats_the_best_of_all_patterns_of_four() {
    const PAIRS: [[usize; 2]; 6] = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];
    let mut draw = Draw(16);
    let mut best_found = 0;
    for round in 0..50 {
        let before = draw.matrix(1, 4);
        let stats = stats(&mut draw, 4, 60, false);
        let gram = stats.get(SITE, Stat::Gram).unwrap();
        let least = PAIRS.map(|pair| solved(gram, before.row(0), pair)).into_iter().fold(f64::INFINITY, f64::min);
        let task = Task { site: SITE, weight: &before, keep: 0.5, compare: Compare::TwoOfFour };
        let encoding = (encode::find("sparsegpt").unwrap().build)(&Settings::default()).unwrap();
        let sparse = encoding.encode(&task, &stats, &Pool::new(1)).unwrap();
        let passed = error(&stats, &before, &matrix(&sparse));
        let settings = Settings { damping: Some(1e-9), ..Settings::default() };
        let Build::Matrix(build) = find("masked-least-squares").unwrap().build else { panic!() };
        let lost = RefitTask { site: SITE, before: &before, after: &sparse.weight, mask: None };
        let again = build(&settings).unwrap().refit(&lost, &stats).unwrap();
        let resolved = error(&stats, &before, &values(&again));
        assert!(least <= resolved * (1.0 + 1e-4) + 1e-9, "round {round}: {least} {resolved}");
        assert!(resolved <= passed * (1.0 + 1e-6), "round {round}: {resolved} {passed}");
        best_found += usize::from(resolved <= least * 1.001 + 1e-9);
    }
    assert!(best_found > 15, "the pass found the best pattern {best_found} times of 50");
}

#[test]
fn what_cannot_be_is_refused() {
    let mut draw = Draw(17);
    let before = draw.matrix(40, 36);
    let stats = stats(&mut draw, 36, 80, false);
    let after: Arc<dyn Weight> = Arc::new(Dense(masked(&before)));
    for entry in of_matrices() {
        let repair = build(entry, 32);
        let lost = RefitTask { site: SITE, before: &before, after: &after, mask: None };
        assert!(repair.refit(&lost, &stats).is_ok(), "{entry:?}");
        let refused = |lost: &RefitTask<'_>, stats: &Stats| repair.refit(lost, stats).unwrap_err();
        let other: Arc<dyn Weight> = Arc::new(Dense(draw.matrix(40, 35)));
        let error = refused(&RefitTask { after: &other, ..lost }, &stats);
        assert!(matches!(error, MethodError::Shape { site: SITE, want: 36, got: 35, .. }), "{entry:?} {error}");
        let mut wild = before.clone();
        wild.data_mut()[3] = f32::NEG_INFINITY;
        let error = refused(&RefitTask { before: &wild, ..lost }, &stats);
        assert!(matches!(error, MethodError::Numeric { site: SITE, .. }), "{entry:?} {error}");
        let wild: Arc<dyn Weight> = Arc::new(Dense(wild));
        let error = refused(&RefitTask { after: &wild, ..lost }, &stats);
        assert!(matches!(error, MethodError::Numeric { site: SITE, .. }), "{entry:?} {error}");
        for &stat in entry.card.needs {
            let error = refused(&lost, &Stats::new(80));
            assert!(matches!(error, MethodError::MissingStat { site: SITE, .. }), "{entry:?} {error}");
            let mut values = stats.get(SITE, stat).unwrap().to_vec();
            values[2] = f64::NAN;
            let mut wrong = Stats::new(80);
            wrong.insert(SITE, stat, values);
            assert!(matches!(refused(&lost, &wrong), MethodError::Numeric { site: SITE, .. }), "{entry:?}");
            wrong.insert(SITE, stat, vec![1.0; 4]);
            assert!(matches!(refused(&lost, &wrong), MethodError::Shape { site: SITE, .. }), "{entry:?}");
        }
    }
    let message = |name: &str, settings: Settings| {
        let Build::Matrix(build) = find(name).unwrap().build else { panic!() };
        let lost = RefitTask { site: SITE, before: &before, after: &after, mask: None };
        build(&settings).and_then(|repair| repair.refit(&lost, &stats)).unwrap_err().to_string()
    };
    let plain = Settings::default;
    let says = message("eora", Settings { rank: Some(37), ..plain() });
    assert_eq!(says, "parameter rank: 37 of a [40, 36] matrix, expected 1..=36");
    let says = message("eora", Settings { rank: Some(30), storage: Some("q8_0".into()), ..plain() });
    assert_eq!(says, "parameter rank: 30 in q8_0, expected a multiple of 32");
    let says = message("eora", Settings { storage: Some("q8_0".into()), ..plain() });
    assert_eq!(says, "parameter type: q8_0 for factors of 36 inputs, expected a multiple of 32");
    let says = message("eora", Settings { storage: Some("q4_k".into()), ..plain() });
    assert_eq!(says, "parameter type: \"q4_k\", expected f32, f16 or q8_0");
    let low: Arc<dyn Weight> = {
        let task = Task { site: SITE, weight: &before, keep: 0.5, compare: Compare::Row };
        (encode::find("svd").unwrap().build)(&plain()).unwrap().encode(&task, &stats, &Pool::new(1)).unwrap().weight
    };
    let lost = RefitTask { site: SITE, before: &before, after: &low, mask: None };
    let says = build(find("masked-least-squares").unwrap(), 1).refit(&lost, &stats).unwrap_err().to_string();
    assert_eq!(
        says,
        "masked-least-squares does not work on block 1 ffn output: a low rank weight: its parts have no mask"
    );
    let says = message("masked-least-squares", Settings { iterations: Some(0), ..plain() });
    assert_eq!(says, "parameter iterations: 0, expected at least 1");
    let says = message("masked-least-squares", Settings { damping: Some(-1.0), ..plain() });
    assert!(says.starts_with("parameter damping: -1 for 18 inputs a row over 80 tokens"), "{says}");
}
