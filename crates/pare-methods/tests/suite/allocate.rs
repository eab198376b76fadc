//! Properties of every allocation.

use crate::Draw;
use pare_methods::allocate::{Allocate, ENTRIES, Entry, QuotaLoss, Row, Unmeasured, find};
use pare_methods::error::MethodError;
use pare_methods::settings::Settings;

/// Each row loses the square of the share that leaves, more where its index is odd.
struct Squares {
    units: Vec<usize>,
    /// How much more the odd rows lose.
    odd: f64,
}

impl QuotaLoss for Squares {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        let lost = |(row, (&quota, &units)): (usize, (&usize, &usize))| {
            (1.0 + self.odd * (row % 2) as f64) * (1.0 - quota as f64 / units.max(1) as f64).powi(2)
        };
        Ok(quotas.iter().zip(&self.units).enumerate().map(lost).sum())
    }
}

fn measure(rows: &[Row]) -> Squares {
    Squares { units: rows.iter().map(|row| row.scores.len()).collect(), odd: 1.0 }
}

fn build(entry: &Entry) -> Box<dyn Allocate> {
    (entry.build)(&Settings::default(), 0).unwrap()
}

fn allocate(entry: &Entry, keep: f64, rows: &[Row]) -> Result<Vec<usize>, MethodError> {
    build(entry).allocate(keep, rows, &mut measure(rows))
}

fn rows(seed: u64) -> Vec<Row> {
    let mut draw = Draw(seed);
    let count = 1 + draw.below(8);
    (0..count)
        .map(|index| {
            let units = 1 + draw.below(40);
            // Few distinct values now and then: many ties, rows of equal scores.
            let grid = [0.5, 1.0, 1e-9][draw.below(3)];
            let scores = draw.many(units).into_iter().map(|score| (score / grid).round() * grid).collect();
            let unit_cost = 1 + draw.below(1000) as u64;
            Row { name: format!("row {index}"), block: index, scores, unit_cost, floor: draw.below(units / 8 + 1) }
        })
        .collect()
}

fn cost(rows: &[Row], quotas: impl IntoIterator<Item = usize>) -> f64 {
    rows.iter().zip(quotas).map(|(row, quota)| row.unit_cost as f64 * quota as f64).sum()
}

#[test]
fn quotas_are_met_as_nearly_as_units_allow() {
    let mut allocated = 0;
    for seed in 0..300 {
        let rows = rows(seed);
        let whole = cost(&rows, rows.iter().map(|row| row.scores.len()));
        for entry in ENTRIES {
            for keep in [0.2, 0.35, 0.5, 0.77, 0.9, 1.0] {
                let Ok(quotas) = allocate(entry, keep, &rows) else { continue };
                allocated += 1;
                assert_eq!(quotas.len(), rows.len());
                for (row, &quota) in rows.iter().zip(&quotas) {
                    assert!(row.floor <= quota && quota <= row.scores.len(), "{entry:?} {keep} {quota} {row:?}");
                }
                // One row at a time is off by half a unit of each; all others by half of the dearest unit at most.
                let halves = rows.iter().map(|row| row.unit_cost as f64 / 2.0);
                let slack = match entry.card.name {
                    "uniform" => halves.sum(),
                    _ => halves.fold(0.0, f64::max),
                };
                let off = (cost(&rows, quotas.iter().copied()) - keep * whole).abs();
                assert!(off <= slack + 1e-9 * whole, "{entry:?} {keep}: off by {off}, at most {slack}");
                assert_eq!(allocate(entry, keep, &rows).unwrap(), quotas, "{entry:?} is not deterministic");
            }
        }
    }
    assert!(allocated > 2000, "{allocated}");
}

#[test]
fn keeping_all_keeps_all() {
    for seed in 0..50 {
        let rows = rows(seed);
        let all: Vec<usize> = rows.iter().map(|row| row.scores.len()).collect();
        for entry in ENTRIES {
            assert_eq!(allocate(entry, 1.0, &rows).unwrap(), all, "{entry:?}");
        }
    }
}

#[test]
fn permuted_units_have_the_same_quotas() {
    for seed in 0..100 {
        let rows = rows(seed);
        let mut permuted = rows.clone();
        for row in &mut permuted {
            let order = Draw(seed).permutation(row.scores.len());
            row.scores = order.iter().map(|&unit| row.scores[unit]).collect();
        }
        for entry in ENTRIES {
            let allocate = |rows: &[Row]| allocate(entry, 0.6, rows);
            assert_eq!(allocate(&rows), allocate(&permuted), "{entry:?}");
        }
    }
}

#[test]
fn floors_that_leave_no_room_are_an_error() {
    for entry in ENTRIES {
        let mut rows = rows(1);
        rows.iter_mut().for_each(|row| row.floor = row.scores.len());
        let error = allocate(entry, 0.4, &rows).unwrap_err();
        assert!(matches!(error, MethodError::Params { key: "keep", .. }), "{entry:?}: {error}");
        assert!(allocate(entry, 1.0, &rows).is_ok(), "{entry:?}");
    }
}

#[test]
fn broken_input_is_an_error() {
    for entry in ENTRIES {
        let refuse = |keep: f64, change: &dyn Fn(&mut Row)| {
            let mut rows = rows(2);
            change(&mut rows[0]);
            allocate(entry, keep, &rows).unwrap_err()
        };
        for keep in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(refuse(keep, &|_| ()), MethodError::Params { key: "keep", .. }), "{entry:?}");
        }
        let error = refuse(0.5, &|row| row.floor = row.scores.len() + 1);
        assert!(matches!(error, MethodError::Params { key: "floor", .. }), "{entry:?}: {error}");
        let error = refuse(0.5, &|row| row.unit_cost = 0);
        assert!(matches!(error, MethodError::Params { key: "unit_cost", .. }), "{entry:?}: {error}");
        for bad in [f64::NAN, f64::INFINITY] {
            let error = refuse(0.5, &|row| row.scores[0] = bad);
            assert!(matches!(error, MethodError::Row { .. }), "{entry:?}: {error}");
        }
    }
}

#[test]
fn equal_scores_are_legal() {
    let rows = vec![Row { name: "row".into(), block: 0, scores: vec![0.1; 10], unit_cost: 7, floor: 1 }; 4];
    for entry in ENTRIES {
        let mut alike = Squares { odd: 0.0, ..measure(&rows) };
        assert_eq!(build(entry).allocate(0.5, &rows, &mut alike).unwrap(), [5; 4], "{entry:?}");
    }
}

#[test]
fn only_allocations_that_say_so_measure() {
    let rows = rows(7);
    for entry in ENTRIES {
        let without = build(entry).allocate(0.7, &rows, &mut Unmeasured);
        match entry.measures {
            true => assert!(matches!(without, Err(MethodError::Stopped { .. })), "{entry:?} does not measure"),
            false => assert_eq!(without, allocate(entry, 0.7, &rows), "{entry:?}"),
        }
    }
}

#[test]
fn a_divergence_that_is_no_number_is_refused() {
    struct Broken(f64);
    impl QuotaLoss for Broken {
        fn divergence(&mut self, _: &[usize]) -> Result<f64, MethodError> {
            Ok(self.0)
        }
    }
    for entry in ENTRIES.iter().filter(|entry| entry.measures) {
        for bad in [f64::NAN, f64::INFINITY] {
            let error = build(entry).allocate(0.7, &rows(7), &mut Broken(bad)).unwrap_err();
            assert!(matches!(error, MethodError::Row { .. }), "{entry:?}: {error}");
        }
    }
}

/// Squares, and what neighbouring rows lose together: no row shows it alone.
struct Neighbours(Squares);

impl QuotaLoss for Neighbours {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        let lost = |row: usize| 1.0 - quotas[row] as f64 / self.0.units[row].max(1) as f64;
        let together: f64 = (1..quotas.len()).map(|row| lost(row - 1) * lost(row)).sum();
        Ok(self.0.divergence(quotas)? + 2.0 * together)
    }
}

/// Rows of equal size and cost, with which every share of a twentieth is a whole number.
fn even_rows(seed: u64) -> Vec<Row> {
    let mut draw = Draw(seed);
    let count = 2 + draw.below(6);
    let row =
        |index| Row { name: format!("row {index}"), block: index, scores: vec![0.0; 40], unit_cost: 12, floor: 0 };
    (0..count).map(row).collect()
}

#[test]
fn dynamic_is_never_worse_than_uniform_and_search_never_worse_than_dynamic() {
    let [uniform, dynamic, search] = ["uniform", "dynamic", "search"].map(|name| build(find(name).unwrap()));
    let (mut gained, mut gained_more) = (0, 0);
    for seed in 0..60 {
        let rows = even_rows(seed);
        for keep in [0.3, 0.5, 0.75, 0.9] {
            let measured = |method: &dyn Allocate| {
                let mut neighbours = Neighbours(measure(&rows));
                let quotas = method.allocate(keep, &rows, &mut neighbours).unwrap();
                assert_eq!(cost(&rows, quotas.iter().copied()), (keep * 480.0 * rows.len() as f64).round());
                neighbours.divergence(&quotas).unwrap()
            };
            let [uniform, dynamic, search] = [&uniform, &dynamic, &search].map(|method| measured(method.as_ref()));
            assert!(dynamic <= uniform, "{seed} {keep}: {dynamic} {uniform}");
            assert!(search <= dynamic, "{seed} {keep}: {search} {dynamic}");
            gained += usize::from(dynamic < 0.95 * uniform);
            gained_more += usize::from(search < 0.95 * dynamic);
        }
    }
    assert!(gained > 100 && gained_more > 100, "{gained} {gained_more}");
}

#[test]
fn another_seed_searches_elsewhere() {
    let rows = even_rows(3);
    let quotas = |seed: u64| {
        let settings = Settings { iterations: Some(2), offspring: Some(2), ..Settings::default() };
        let search = (find("search").unwrap().build)(&settings, seed).unwrap();
        search.allocate(0.6, &rows, &mut Neighbours(measure(&rows))).unwrap()
    };
    assert_eq!(quotas(1), quotas(1));
    assert!((2..30).any(|seed| quotas(seed) != quotas(1)));
}

#[test]
fn rounds_of_one_ranking_nest() {
    let floor = |share: f64| {
        let settings = Settings { floor: Some(share), ..Settings::default() };
        (find("floor").unwrap().build)(&settings, 0).unwrap()
    };
    let mut nested = 0;
    for seed in 0..100 {
        let mut rows = rows(seed);
        rows.iter_mut().for_each(|row| (row.unit_cost, row.floor) = (1, row.scores.len() / 8));
        let whole = rows.iter().map(|row| row.scores.len()).sum::<usize>();
        let (half, most) = (whole / 2, whole * 3 / 4);
        let keep = |less: usize, more: usize| less as f64 / more as f64;
        let Ok(at_once) = floor(0.0).allocate(keep(half, whole), &rows, &mut Unmeasured) else { continue };
        let first = floor(0.0).allocate(keep(most, whole), &rows, &mut Unmeasured).unwrap();
        let left: Vec<Row> = rows
            .iter()
            .zip(&first)
            .map(|(row, &quota)| {
                let kept = pare_methods::select::keep_top(&row.scores, quota);
                Row { scores: kept.into_iter().map(|unit| row.scores[unit]).collect(), ..row.clone() }
            })
            .collect();
        let second = floor(0.0).allocate(keep(half, most), &left, &mut Unmeasured).unwrap();
        // Ties may fall to another row once shares differ.
        let distinct = rows.iter().flat_map(|row| &row.scores).map(|score| score.to_bits());
        if distinct.collect::<std::collections::BTreeSet<_>>().len() == whole {
            assert_eq!(second, at_once, "{seed}");
            nested += 1;
        }
    }
    assert!(nested > 1, "{nested}");
}

#[test]
fn parameters_out_of_range_are_refused() {
    let none = Settings::default();
    for (name, settings, key) in [
        ("dynamic", Settings { levels: Some(2), ..none.clone() }, "levels"),
        ("search", Settings { levels: Some(34), ..none.clone() }, "levels"),
        ("search", Settings { offspring: Some(0), ..none.clone() }, "offspring"),
        ("search", Settings { iterations: Some(10_001), ..none.clone() }, "iterations"),
        ("greedy", Settings { block: Some(0), ..none.clone() }, "block"),
        ("floor", Settings { floor: Some(1.1), ..none.clone() }, "floor"),
        ("floor", Settings { floor: Some(f64::NAN), ..none.clone() }, "floor"),
        ("outlier", Settings { factor: Some(0.0), ..none.clone() }, "factor"),
        ("outlier", Settings { reach: Some(-0.1), ..none.clone() }, "reach"),
        ("energy", Settings { factor: Some(f64::INFINITY), ..none.clone() }, "factor"),
        ("energy", Settings { factor: Some(0.0), ..none.clone() }, "factor"),
        ("outlier", Settings { rank: Some(1), ..none.clone() }, "rank"),
    ] {
        let Err(MethodError::Params { key: found, .. }) = (find(name).unwrap().build)(&settings, 0) else {
            panic!("{name} takes {settings:?}")
        };
        assert_eq!(found, key, "{name}");
    }
}

#[test]
fn uniform_gives_rows_of_equal_size_the_same() {
    let uniform = build(find("uniform").unwrap());
    for seed in 0..50 {
        let rows: Vec<Row> =
            rows(seed).into_iter().map(|row| Row { scores: Draw(seed).many(17), floor: 0, ..row }).collect();
        for keep in [0.1, 0.33, 0.5, 0.9] {
            let quotas = uniform.allocate(keep, &rows, &mut measure(&rows)).unwrap();
            assert!(quotas.iter().all(|&quota| quota == quotas[0]), "{keep} {quotas:?}");
        }
    }
}

#[test]
fn global_never_keeps_less_of_a_larger_budget() {
    let global = build(find("global").unwrap());
    for seed in 0..100 {
        let rows = rows(seed);
        let quotas =
            [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0].map(|keep| global.allocate(keep, &rows, &mut measure(&rows)));
        for pair in quotas.windows(2) {
            if let [Ok(less), Ok(more)] = pair {
                assert!(less.iter().zip(more).all(|(less, more)| less <= more), "{less:?} {more:?}");
            }
        }
    }
}
