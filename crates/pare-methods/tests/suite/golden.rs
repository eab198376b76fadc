//! Agreement with the independent references in `goldens/`, as close as each card says.

use pare_methods::allocate::{self, Row};
use pare_methods::card::Grain;
use pare_methods::compensate::{self, Compensate, Cut, LeastSquares};
use pare_methods::score;
use pare_methods::select::{keep_n_of_m, keep_top, keep_top_per_row};
use pare_methods::view::View;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::{Stat, Stats};
use serde_json::Value;
use std::fs;
use std::path::Path;

pub(crate) fn golden(axis: &str, name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(axis).join(name).with_extension("json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|number| number.as_f64().unwrap()).collect()
}

pub(crate) fn counts(value: &Value) -> Vec<usize> {
    list(value).iter().map(|number| number.as_u64().unwrap() as usize).collect()
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

pub(crate) fn flat(value: &Value) -> Vec<f64> {
    list(value).iter().flat_map(numbers).collect()
}

pub(crate) fn matrix(value: &Value) -> Matrix {
    let cols = list(&list(value)[0]).len();
    Matrix::from_vec(list(value).len(), cols, flat(value).into_iter().map(|number| number as f32).collect())
}

/// Each number within `exactness` of its own size, or of the largest one's where it nearly vanishes.
#[track_caller]
pub(crate) fn near(got: impl IntoIterator<Item = f64>, want: &[f64], exactness: f64) {
    let got: Vec<f64> = got.into_iter().collect();
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (got - want).abs();
        assert!(off <= exactness * want.abs().max(0.1 * largest), "{index}: {got}, golden {want}, off by {off:e}");
    }
}

/// Scores a golden's view; `stat` is observed at the site of the grain.
fn scored(name: &str, grain: Grain, case: &Value, stat: Option<(Stat, Vec<f64>)>) -> Vec<f64> {
    let reader = case.get("reader").or(case.get("w")).map(matrix);
    let writers: Vec<Matrix> = case.get("writers").map_or(vec![], |writers| list(writers).iter().map(matrix).collect());
    let point = match grain {
        Grain::Weight => Point::FfnIn,
        Grain::Channel => Point::FfnOut,
        Grain::Group => Point::AttentionOut,
        Grain::Attention => Point::AttentionPart,
        Grain::Ffn => Point::FfnPart,
        Grain::Block => Point::BlockPart,
    };
    let site = Site::new(case.get("block").map_or(0, |block| block.as_u64().unwrap() as usize), point);
    let units = match case.get("units") {
        Some(units) => units.as_u64().unwrap() as usize,
        None => reader.as_ref().map_or(1, |reader| reader.data().len()),
    };
    let mut stats = Stats::new(1);
    if let Some((stat, values)) = stat {
        stats.insert(site, stat, values);
    }
    let writers: Vec<&Matrix> = writers.iter().collect();
    let projection = (grain == Grain::Weight).then_some(Projection::Up);
    let view = View { grain, site, projection, units, reader: reader.as_ref(), writers: &writers };
    let seed = case.get("seed").map_or(0, |seed| seed.as_u64().unwrap());
    (score::find(name).unwrap().build)(seed).score(&view, &stats).unwrap()
}

#[test]
fn magnitude() {
    let golden = golden("score", "magnitude");
    let exactness = score::find("magnitude").unwrap().card.exactness;
    for (key, grain) in
        [("weight", Grain::Weight), ("channel", Grain::Channel), ("group", Grain::Group), ("block", Grain::Block)]
    {
        let case = &golden[key];
        let scores = scored("magnitude", grain, case, None);
        match grain {
            Grain::Weight => {
                near(scores.iter().copied(), &flat(&case["scores"]), exactness);
                assert_eq!(keep_top(&scores, scores.len() / 2), counts(&case["half"]));
                assert_eq!(keep_n_of_m(&scores, 8, 2, 4).unwrap(), counts(&case["two_of_four"]));
            }
            _ => near(scores, &numbers(&case["scores"]), exactness),
        }
    }
}

#[test]
fn wanda() {
    let golden = golden("score", "wanda");
    let exactness = score::find("wanda").unwrap().card.exactness;
    let squares = |case: &Value| Some((Stat::MeanSquare, numbers(&case["mean_square"])));
    let case = &golden["weight"];
    let scores = scored("wanda", Grain::Weight, case, squares(case));
    near(scores.iter().copied(), &flat(&case["scores"]), exactness);
    assert_eq!(keep_top_per_row(&scores, 8, 4), counts(&case["half"]));
    assert_eq!(keep_n_of_m(&scores, 8, 2, 4).unwrap(), counts(&case["two_of_four"]));
    for (key, grain) in [("channel", Grain::Channel), ("group", Grain::Group)] {
        let case = &golden[key];
        near(scored("wanda", grain, case, squares(case)), &numbers(&case["scores"]), exactness);
    }
}

#[test]
fn activation() {
    let golden = golden("score", "activation");
    let exactness = score::find("activation").unwrap().card.exactness;
    let magnitudes = numbers(&golden["mean_abs"]);
    for (key, grain) in [("channel", Grain::Channel), ("group", Grain::Group)] {
        let mut case = golden[key].clone();
        case["reader"] = Value::from(vec![vec![0.0; magnitudes.len()]]);
        let scores = scored("activation", grain, &case, Some((Stat::MeanAbs, magnitudes.clone())));
        near(scores, &numbers(&case["scores"]), exactness);
    }
}

#[test]
fn block_influence() {
    let golden = golden("score", "block_influence");
    let exactness = score::find("block-influence").unwrap().card.exactness;
    for case in list(&golden["cases"]) {
        for grain in [Grain::Attention, Grain::Ffn, Grain::Block] {
            let cosine = Some((Stat::Cosine, vec![case["cosine"].as_f64().unwrap()]));
            let scores = scored("block-influence", grain, case, cosine);
            // Where nothing turned, one minus the cosine is rounding alone.
            let off = (scores[0] - case["scores"][0].as_f64().unwrap()).abs();
            assert!(off <= exactness, "off by {off:e}");
        }
    }
}

#[test]
fn random() {
    for case in list(&golden("score", "random")["cases"]) {
        let numerators = counts(&case["numerators"]);
        let mut case = case.clone();
        let grain = match case["grain"].as_str().unwrap() {
            "channel" => Grain::Channel,
            "block" => Grain::Block,
            "weight" => Grain::Weight,
            other => panic!("{other}"),
        };
        case["units"] = Value::from(numerators.len());
        if grain != Grain::Block {
            case["reader"] = Value::from(vec![vec![0.0; numerators.len()]]);
        }
        let want: Vec<f64> = numerators.iter().map(|&numerator| numerator as f64 / (1_u64 << 53) as f64).collect();
        assert_eq!(scored("random", grain, &case, None), want);
    }
}

#[test]
fn uniform() {
    let golden = golden("allocate", "uniform");
    let row =
        |units: usize| Row { name: units.to_string(), block: 0, scores: vec![0.0; units], unit_cost: 1, floor: 0 };
    let rows: Vec<Row> = counts(&golden["sizes"]).into_iter().map(row).collect();
    for case in list(&golden["cases"]) {
        let quotas = allocate::Uniform;
        let quotas =
            allocate::Allocate::allocate(&quotas, case["keep"].as_f64().unwrap(), &rows, &mut allocate::Unmeasured)
                .unwrap();
        assert_eq!(quotas, counts(&case["quotas"]), "{}", case["keep"]);
    }
}

#[test]
fn global() {
    let golden = golden("allocate", "global");
    let row = |row: &Value| Row {
        name: String::new(),
        block: row["block"].as_u64().unwrap_or(0) as usize,
        scores: numbers(&row["scores"]),
        unit_cost: row["unit_cost"].as_u64().unwrap(),
        floor: row["floor"].as_u64().unwrap() as usize,
    };
    let rows: Vec<Row> = list(&golden["rows"]).iter().map(row).collect();
    for case in list(&golden["cases"]) {
        let quotas = allocate::Allocate::allocate(
            &allocate::Global,
            case["keep"].as_f64().unwrap(),
            &rows,
            &mut allocate::Unmeasured,
        )
        .unwrap();
        assert_eq!(quotas, counts(&case["quotas"]), "{}", case["keep"]);
    }
}

fn repaired(method: &dyn Compensate, case: &Value, bias_allowed: bool) -> compensate::Repaired {
    let site = Site::new(0, Point::FfnOut);
    let mut stats = Stats::new(1);
    stats.insert(site, Stat::Mean, numbers(&case["mean"]));
    stats.insert(site, Stat::Gram, flat(&case["gram"]));
    let (reader, kept) = (matrix(&case["w"]), counts(&case["kept"]));
    let bias = (!case["b"].is_null()).then(|| floats(&case["b"]));
    let cut = Cut { site, reader: &reader, bias: bias.as_deref(), kept: &kept, bias_allowed };
    method.compensate(&cut, &stats).unwrap()
}

fn errors_agree(repaired: &compensate::Repaired, case: &Value, exactness: f64) {
    near(repaired.info.error_before, &[case["error_before"].as_f64().unwrap()], 1e-10);
    let before = case["error_before"].as_f64().unwrap();
    let off = (repaired.info.error_after.unwrap() - case["error_after"].as_f64().unwrap()).abs();
    assert!(off <= exactness * before, "{off:e} of {before}");
}

#[test]
fn bias() {
    let golden = golden("compensate", "bias");
    let exactness = compensate::find("bias").unwrap().card.exactness;
    let repaired = repaired(&compensate::Bias, &golden, true);
    near(repaired.bias.iter().flatten().map(|&value| f64::from(value)), &numbers(&golden["bias"]), exactness);
    errors_agree(&repaired, &golden, exactness);
}

#[test]
fn least_squares() {
    let golden = golden("compensate", "least_squares");
    let exactness = compensate::find("least-squares").unwrap().card.exactness;
    for case in list(&golden["cases"]) {
        let damping = case["damping"].as_f64().unwrap();
        let repaired =
            repaired(&LeastSquares { damping: Some(damping) }, case, case["bias_allowed"].as_bool().unwrap());
        assert_eq!(repaired.info.damping, damping);
        assert_eq!(repaired.info.fell_back, None);
        near(repaired.weight.data().iter().map(|&value| f64::from(value)), &flat(&case["weight"]), exactness);
        match repaired.bias.as_ref() {
            Some(bias) => near(bias.iter().map(|&value| f64::from(value)), &numbers(&case["bias"]), exactness),
            None => assert!(case["bias"].is_null()),
        }
        errors_agree(&repaired, case, exactness);
    }
}
