//! Properties of every allocation.

use crate::Draw;
use pare_methods::allocate::{Allocate, ENTRIES, Entry, Measure, Row, find};
use pare_methods::error::MethodError;
use pare_methods::settings::Settings;

/// Each row loses the square of the share that leaves, more where its index is odd.
struct Squares(Vec<usize>);

impl Measure for Squares {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        let lost = |(row, (&quota, &units)): (usize, (&usize, &usize))| {
            (1 + row % 2) as f64 * (1.0 - quota as f64 / units.max(1) as f64).powi(2)
        };
        Ok(quotas.iter().zip(&self.0).enumerate().map(lost).sum())
    }
}

fn measure(rows: &[Row]) -> Squares {
    Squares(rows.iter().map(|row| row.scores.len()).collect())
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
            Row { name: format!("row {index}"), scores, unit_cost, floor: draw.below(units / 8 + 1) }
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
                // A global ranking is off by half of its dearest unit at most, one row at a time by half of each.
                let halves = rows.iter().map(|row| row.unit_cost as f64 / 2.0);
                let slack = match entry.card.name {
                    "global" => halves.fold(0.0, f64::max),
                    _ => halves.sum(),
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
    let rows = vec![Row { name: "row".into(), scores: vec![0.1; 10], unit_cost: 7, floor: 1 }; 4];
    for entry in ENTRIES {
        assert_eq!(allocate(entry, 0.5, &rows).unwrap(), [5; 4], "{entry:?}");
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
