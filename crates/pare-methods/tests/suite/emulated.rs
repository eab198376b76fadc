//! Number formats that are emulated: agreement with the references, and what must hold of any such format.

use crate::Draw;
use crate::golden::{golden, list, matrix, near, numbers};
use pare_kernels::pool::Pool;
use pare_methods::encode::{self, Encoded, Task};
use pare_methods::error::MethodError;
use pare_methods::metric::l_mul::{accuracy, l_mul};
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use serde_json::Value;

const SITE: Site = Site { block: 1, point: Point::FfnIn };
const FORMATS: [&str; 2] = ["bitmod", "block-float"];

fn encoded(name: &str, settings: &Settings, weight: &Matrix, stats: &Stats) -> Result<Encoded, MethodError> {
    let task = Task { site: SITE, weight, keep: 1.0, compare: Compare::Row };
    (encode::find(name).unwrap().build)(settings).unwrap().encode(&task, stats, &Pool::new(1))
}

fn values(encoded: &Encoded) -> Matrix {
    pare_model::weight::Linear::new(encoded.weight.clone()).to_matrix()
}

fn squares(values: Vec<f64>) -> Stats {
    let mut stats = Stats::new(1);
    stats.insert(SITE, Stat::MeanSquare, values);
    stats
}

fn settings(case: &Value) -> Settings {
    let number = |key: &str| case[key].as_u64().unwrap();
    Settings { bits: Some(number("bits") as u32), group: Some(number("group") as usize), ..Settings::default() }
}

#[test]
fn block_float_golden() {
    let golden = golden("encode", "block_float");
    let mut best = Vec::new();
    for case in list(&golden["cases"]) {
        let (weight, stats) = (matrix(&case["w"]), squares(numbers(&case["mean_square"])));
        let ordered = encoded("block-float", &settings(case), &weight, &stats).unwrap();
        assert_eq!(values(&ordered), matrix(&case["values"]), "{case}");
        let plain = Settings { act_order: Some(false), ..settings(case) };
        let plain = encoded("block-float", &plain, &weight, &Stats::default()).unwrap();
        assert_eq!(values(&plain), matrix(&case["plain"]), "{case}");
        best.push(case["best"].as_str().unwrap());
    }
    for order in ["natural", "norm", "weighted"] {
        assert!(best.contains(&order), "no case where the order {order} is best: {best:?}");
    }
}

#[test]
fn bitmod_golden() {
    let golden = golden("encode", "bitmod");
    let exactness = encode::find("bitmod").unwrap().card.exactness;
    for case in list(&golden["cases"]) {
        let got = values(&encoded("bitmod", &settings(case), &matrix(&case["w"]), &Stats::default()).unwrap());
        let want: Vec<f64> = list(&case["values"]).iter().flat_map(numbers).collect();
        near(got.data().iter().map(|&value| f64::from(value)), &want, exactness);
    }
}

#[test]
fn l_mul_golden() {
    let golden = golden("metric", "l_mul");
    for case in list(&golden["cases"]) {
        let bits = case["bits"].as_u64().unwrap() as u32;
        for (pair, want) in list(&golden["pairs"]).iter().zip(numbers(&case["products"])) {
            let pair = numbers(pair);
            assert_eq!(l_mul(pair[0] as f32, pair[1] as f32, bits), want as f32, "{bits} bits, {pair:?}");
        }
    }
    let (weight, inputs) = (matrix(&golden["w"]), matrix(&golden["x"]));
    for case in list(&golden["dots"]) {
        let got = accuracy(&weight, inputs.data(), case["bits"].as_u64().unwrap() as u32).unwrap();
        let want = ["l_mul", "rounded"].map(|key| case[key].as_f64().unwrap());
        assert!((got.l_mul - want[0]).abs() < 1e-12 && (got.rounded - want[1]).abs() < 1e-12, "{got:?} {want:?}");
    }
}

/// Columns of very different sizes, spread over the blocks.
fn with_outliers(draw: &mut Draw, rows: usize, cols: usize) -> (Matrix, Vec<f64>) {
    let sizes: Vec<f64> = (0..cols).map(|_| if draw.below(6) == 0 { 30.0 } else { 1.0 }).collect();
    let mut weight = draw.matrix(rows, cols);
    for row in 0..rows {
        weight.row_mut(row).iter_mut().zip(&sizes).for_each(|(value, size)| *value *= *size as f32);
    }
    (weight, draw.many(cols).into_iter().map(|value| value.exp()).collect())
}

fn loss(before: &Matrix, after: &Matrix, squares: &[f64]) -> f64 {
    let cols = before.cols();
    let pairs = before.data().iter().zip(after.data()).enumerate();
    pairs.map(|(at, (&a, &b))| squares[at % cols] * (f64::from(a) - f64::from(b)).powi(2)).sum()
}

#[test]
fn order_never_hurts_and_helps_where_channels_stand_out() {
    let mut helped = 0;
    for seed in 0..60 {
        let mut draw = Draw(seed);
        let (weight, square) = with_outliers(&mut draw, 6, 96);
        let settings = |ordered| Settings { group: Some(16), act_order: Some(ordered), ..Settings::default() };
        let stats = squares(square.clone());
        let [with, without] =
            [true, false].map(|ordered| values(&encoded("block-float", &settings(ordered), &weight, &stats).unwrap()));
        let (with, without) = (loss(&weight, &with, &square), loss(&weight, &without, &square));
        assert!(with <= without, "{seed}: {with} {without}");
        helped += usize::from(with < 0.7 * without);
    }
    assert!(helped > 50, "{helped}");
}

#[test]
fn more_bits_never_hurt_and_values_of_a_format_stay() {
    for seed in 0..30 {
        let mut draw = Draw(seed);
        let weight = draw.matrix(5, 70);
        let stats = squares(vec![1.0; 70]);
        for (name, ladder) in [("bitmod", vec![3, 4]), ("block-float", vec![2, 3, 4, 6, 8, 12])] {
            let mut last = f64::INFINITY;
            for bits in ladder {
                let settings = Settings { bits: Some(bits), act_order: None, ..Settings::default() };
                let first = values(&encoded(name, &settings, &weight, &stats).unwrap());
                let loss = loss(&weight, &first, &[1.0; 70]);
                assert!(loss <= last, "{name} {bits} bits: {loss} after {last}");
                last = loss;
            }
        }
        // Exponents of the values are those of the weights, so nothing is left to round. (A grid of bitmod may be chosen anew.)
        let plain = Settings { act_order: Some(false), bits: Some(5), ..Settings::default() };
        let first = values(&encoded("block-float", &plain, &weight, &stats).unwrap());
        assert_eq!(values(&encoded("block-float", &plain, &first, &stats).unwrap()), first, "{seed}");
    }
}

#[test]
fn the_error_that_is_told_is_true() {
    let mut draw = Draw(8);
    let (weight, tokens) = (draw.matrix(4, 12), draw.matrix(30, 12));
    let mut stats = squares(vec![1.0; 12]);
    let mean = |i: usize, j: usize| {
        (0..30).map(|t| f64::from(tokens.row(t)[i]) * f64::from(tokens.row(t)[j])).sum::<f64>() / 30.0
    };
    stats.insert(SITE, Stat::Gram, (0..144).map(|at| mean(at / 12, at % 12)).collect());
    for name in FORMATS {
        let encoded = encoded(name, &Settings::default(), &weight, &stats).unwrap();
        let after = values(&encoded);
        let mut want = 0.0;
        for (t, o) in (0..120).map(|at| (at / 4, at % 4)) {
            let pairs = weight.row(o).iter().zip(after.row(o)).zip(tokens.row(t));
            want += pairs.map(|((&a, &b), &x)| (f64::from(a) - f64::from(b)) * f64::from(x)).sum::<f64>().powi(2);
        }
        let told = encoded.info.error.unwrap();
        assert!((told - want / 120.0).abs() < 1e-12 && told > 0.0, "{name}: {told} {}", want / 120.0);
    }
}

#[test]
fn broken_input_is_refused() {
    for name in FORMATS {
        let build = encode::find(name).unwrap().build;
        for (settings, key) in [
            (Settings { bits: Some(1), ..Settings::default() }, "bits"),
            (Settings { bits: Some(40), ..Settings::default() }, "bits"),
            (Settings { group: Some(0), ..Settings::default() }, "group"),
            (Settings { rank: Some(2), ..Settings::default() }, "rank"),
        ] {
            assert!(build(&settings).err().unwrap().to_string().starts_with(&format!("parameter {key}")), "{name}");
        }
        let weight = Matrix::from_vec(1, 2, vec![1.0, f32::NAN]);
        let error = encoded(name, &Settings::default(), &weight, &squares(vec![1.0; 2])).unwrap_err();
        assert!(matches!(error, MethodError::Numeric { .. }), "{name}: {error}");
        let empty = encoded(name, &Settings::default(), &Matrix::zeros(0, 3), &squares(vec![1.0; 3])).unwrap();
        assert_eq!(empty.weight.shape(), [0, 3]);
    }
    let weight = Matrix::from_vec(1, 2, vec![1.0, 2.0]);
    let error = encoded("block-float", &Settings::default(), &weight, &Stats::default()).unwrap_err();
    assert_eq!(error, MethodError::MissingStat { stat: Stat::MeanSquare, site: SITE });
}
