//! Scores that read several statistics, against the references in `goldens/score`.

use crate::golden::{flat, golden, list, matrix, near, numbers};
use pare_methods::card::Grain;
use pare_methods::score;
use pare_methods::view::View;
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::{Stat, Stats};
use serde_json::Value;

/// Scores a golden's view with all the statistics that the golden holds.
fn scored(name: &str, grain: Grain, case: &Value) -> Vec<f64> {
    let point = match grain {
        Grain::Weight | Grain::Channel => Point::FfnOut,
        Grain::Group => Point::AttentionOut,
        Grain::Attention => Point::AttentionPart,
        Grain::Ffn => Point::FfnPart,
        Grain::Block => Point::BlockPart,
    };
    let site = Site::new(2, point);
    let mut stats = Stats::new(1);
    let mut observed = |key: &str, stat: Stat, values: fn(&Value) -> Vec<f64>| {
        if let Some(found) = case.get(key) {
            stats.insert(site, stat, values(found));
        }
    };
    observed("mean", Stat::Mean, numbers);
    observed("mean_square", Stat::MeanSquare, numbers);
    observed("gram", Stat::Gram, flat);
    observed("delta_ratio", Stat::DeltaRatio, |ratio| vec![ratio.as_f64().unwrap()]);
    let reader = case.get("reader").map(matrix);
    let units = match (grain, &reader) {
        (Grain::Weight, Some(reader)) => reader.data().len(),
        (_, Some(_)) => case["units"].as_u64().unwrap() as usize,
        (_, None) => 1,
    };
    let projection = (grain == Grain::Weight).then_some(Projection::Down);
    let writers: Vec<_> = case.get("writers").map_or(vec![], |writers| list(writers).iter().map(matrix).collect());
    let writers: Vec<_> = writers.iter().collect();
    let view = View { grain, site, projection, units, reader: reader.as_ref(), writers: &writers };
    (score::find(name).unwrap().build)(0).score(&view, &stats).unwrap()
}

#[track_caller]
fn units_agree(name: &str, file: &str) {
    let golden = golden("score", file);
    let exactness = score::find(name).unwrap().card.exactness;
    for (key, grain) in [("channel", Grain::Channel), ("group", Grain::Group)] {
        near(scored(name, grain, &golden[key]), &numbers(&golden[key]["scores"]), exactness);
    }
}

#[test]
fn feature_merging() {
    units_agree("feature-merging", "feature_merging");
}

#[test]
fn fluctuation() {
    units_agree("fluctuation", "fluctuation");
}

#[test]
fn head_contribution() {
    units_agree("head-contribution", "head_contribution");
}

#[test]
fn obs_group() {
    units_agree("obs-group", "obs_group");
    let golden = golden("score", "obs_group");
    let exactness = score::find("obs-group").unwrap().card.exactness;
    let case = &golden["channel"];
    near(scored("obs-group", Grain::Weight, case), &flat(&case["weights"]), exactness);
}

#[test]
fn state_delta() {
    let exactness = score::find("state-delta").unwrap().card.exactness;
    for case in list(&golden("score", "state_delta")["cases"]) {
        for grain in [Grain::Attention, Grain::Ffn, Grain::Block] {
            near(scored("state-delta", grain, case), &numbers(&case["scores"]), exactness);
        }
    }
}
