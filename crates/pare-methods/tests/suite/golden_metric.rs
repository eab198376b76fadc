//! Measures of redundancy, against the references in `goldens/metric`.

use crate::golden::{flat, golden, list, matrix, near, numbers};
use pare_methods::card::Grain;
use pare_methods::metric::mergeable::mergeable;
use pare_methods::metric::{Correlation, Nuclear, correlation, nuclear};
use pare_methods::view::View;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use serde_json::Value;

const EXACTNESS: f64 = 1e-9;

#[test]
fn nuclear_norm_and_rank() {
    let golden = golden("metric", "nuclear");
    let agree = |found: Nuclear, case: &Value| {
        for (key, value) in [
            ("nuclear_norm", found.nuclear_norm),
            ("column_lengths", found.column_lengths),
            ("effective_rank", found.effective_rank),
        ] {
            near([value], &[case[key].as_f64().unwrap()], EXACTNESS);
        }
        assert_eq!(found.rank_of_90_percent as u64, case["rank_of_90_percent"].as_u64().unwrap());
    };
    let site = Site::new(0, Point::FfnIn);
    for case in list(&golden["weights"]) {
        agree(nuclear::of_weight(site, &matrix(&case["w"])).unwrap(), case);
    }
    for case in list(&golden["activations"]) {
        let gram = flat(&case["gram"]);
        let width = gram.len().isqrt();
        let mut stats = Stats::new(case["tokens"].as_u64().unwrap());
        stats.insert(site, Stat::Gram, gram);
        agree(nuclear::of_activations(&stats, site, width).unwrap(), case);
    }
}

#[test]
fn correlation_of_features_and_heads() {
    let golden = golden("metric", "correlation");
    let site = Site::new(0, Point::AttentionOut);
    let mut stats = Stats::new(50);
    stats.insert(site, Stat::Mean, numbers(&golden["mean"]));
    stats.insert(site, Stat::Gram, flat(&golden["gram"]));
    let thresholds = numbers(&golden["thresholds"]);
    let agree = |found: Correlation, case: &Value| {
        assert_eq!(found.constant, 0);
        near(found.above.iter().map(|above| above.share), &numbers(&case["above"]), EXACTNESS);
        near([found.mean_strongest], &[case["mean_strongest"].as_f64().unwrap()], EXACTNESS);
        near([found.mean_square], &[case["mean_square"].as_f64().unwrap()], EXACTNESS);
    };
    let reader = matrix(&golden["reader"]);
    let heads = golden["heads"].as_u64().unwrap() as usize;
    agree(correlation::of_features(&stats, site, reader.cols(), &thresholds).unwrap(), &golden["of_features"]);
    agree(correlation::of_heads(&stats, site, &reader, heads, &thresholds).unwrap(), &golden["of_heads"]);
}

#[test]
fn mergeable_channels() {
    let golden = golden("metric", "mergeable");
    let [gate, up, down] = ["gate", "up", "down"].map(|key| matrix(&golden[key]));
    let writers = [&gate, &up];
    let site = Site::new(0, Point::FfnOut);
    let (grain, units) = (Grain::Channel, down.cols());
    let view = View { grain, site, projection: None, units, reader: Some(&down), writers: &writers };
    for case in list(&golden["cases"]) {
        let found = mergeable(&view, case["threshold"].as_f64().unwrap()).unwrap();
        assert_eq!(found.left as u64, case["left"].as_u64().unwrap(), "{}", case["threshold"]);
        near(
            [found.largest, found.nearest],
            &numbers(&Value::from(vec![golden["largest"].clone(), golden["nearest"].clone()])),
            1e-6,
        );
    }
}
