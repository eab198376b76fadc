//! Allocations with parameters and those that measure, against the references in `goldens/allocate`.

use crate::golden::{counts, flat, golden, list, numbers};
use pare_methods::allocate::{
    Allocate, Dynamic, Energy, Floor, Greedy, Outlier, QuotaLoss, Ranking, Row, Search, Unmeasured,
};
use pare_methods::error::MethodError;
use serde_json::Value;

fn rows(golden: &Value) -> Vec<Row> {
    let row = |row: &Value| Row {
        name: String::new(),
        block: row["block"].as_u64().unwrap_or(0) as usize,
        scores: numbers(&row["scores"]),
        unit_cost: row["unit_cost"].as_u64().unwrap(),
        floor: row["floor"].as_u64().unwrap() as usize,
    };
    list(&golden["rows"]).iter().map(row).collect()
}

fn plain_rows(count: usize, units: usize) -> Vec<Row> {
    vec![Row { name: String::new(), block: 0, scores: vec![0.0; units], unit_cost: 9, floor: 0 }; count]
}

#[track_caller]
fn cases_agree(golden: &Value, rows: &[Row], method: &dyn Allocate, measure: &mut dyn QuotaLoss) {
    for case in list(&golden["cases"]) {
        let quotas = method.allocate(case["keep"].as_f64().unwrap(), rows, measure).unwrap();
        assert_eq!(quotas, counts(&case["quotas"]), "{}", case["keep"]);
    }
}

#[test]
fn floor() {
    let golden = golden("allocate", "floor");
    let method = Floor { floor: golden["floor"].as_f64().unwrap() };
    cases_agree(&golden, &rows(&golden), &method, &mut Unmeasured);
}

#[test]
fn ranking() {
    let golden = golden("allocate", "ranking");
    cases_agree(&golden, &rows(&golden), &Ranking, &mut Unmeasured);
}

#[test]
fn outlier() {
    let golden = golden("allocate", "outlier");
    let method = Outlier { factor: golden["factor"].as_f64().unwrap(), reach: golden["reach"].as_f64().unwrap() };
    cases_agree(&golden, &rows(&golden), &method, &mut Unmeasured);
}

#[test]
fn energy() {
    let golden = golden("allocate", "energy");
    let method = Energy { factor: golden["factor"].as_f64().unwrap() };
    cases_agree(&golden, &rows(&golden), &method, &mut Unmeasured);
}

/// Damages by row and quota, which add up.
struct Table(Vec<Vec<f64>>);

impl QuotaLoss for Table {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        Ok(self.0.iter().zip(quotas).map(|(damage, &quota)| damage[quota]).sum())
    }
}

#[test]
fn dynamic() {
    let golden = golden("allocate", "dynamic");
    let mut table = Table(list(&golden["damage"]).iter().map(numbers).collect());
    let rows = plain_rows(table.0.len(), table.0[0].len() - 1);
    let method = Dynamic { levels: golden["levels"].as_u64().unwrap() as usize };
    cases_agree(&golden, &rows, &method, &mut table);
}

/// `own . l + l^T pairs l` for the lost shares l.
struct Together {
    own: Vec<f64>,
    pairs: Vec<f64>,
    units: f64,
}

impl QuotaLoss for Together {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        let lost: Vec<f64> = quotas.iter().map(|&quota| 1.0 - quota as f64 / self.units).collect();
        let rows = lost.len();
        let pair = |at: usize| self.pairs[at] * lost[at / rows] * lost[at % rows];
        let own: f64 = self.own.iter().zip(&lost).map(|(own, lost)| own * lost).sum();
        Ok(own + (0..rows * rows).map(pair).sum::<f64>())
    }
}

#[test]
fn greedy() {
    let golden = golden("allocate", "greedy");
    let order = counts(&golden["order"]);
    let blocks = order.len();
    let rows = plain_rows(blocks, 1);
    for leave in 0..=blocks {
        let mut measure = Together { own: numbers(&golden["alone"]), pairs: flat(&golden["pairs"]), units: 1.0 };
        let keep = (blocks - leave) as f64 / blocks as f64;
        let quotas = Greedy { block: None }.allocate(keep, &rows, &mut measure).unwrap();
        let mut gone: Vec<usize> = (0..blocks).filter(|&block| quotas[block] == 0).collect();
        let mut want = order[..leave].to_vec();
        gone.sort_unstable();
        want.sort_unstable();
        assert_eq!(gone, want, "{leave}");
    }
}

#[test]
fn search() {
    let golden = golden("allocate", "search");
    let units = golden["units"].as_u64().unwrap() as usize;
    let pairs = flat(&golden["quadratic"]);
    let rows = plain_rows(pairs.len().isqrt(), units);
    let mut measure = Together { own: vec![], pairs, units: units as f64 };
    let keep = golden["keep"].as_f64().unwrap();
    let dynamic = Dynamic { levels: 5 }.allocate(keep, &rows, &mut measure).unwrap();
    assert_ne!(dynamic, counts(&golden["quotas"]), "the case shows nothing");
    // A single survivor can stay in a valley; most seeds do not.
    let found = |seed: u64| {
        let search = Search { levels: 5, iterations: 30, offspring: 8, seed };
        search.allocate(keep, &rows, &mut Together { own: vec![], pairs: measure.pairs.clone(), units: measure.units })
    };
    let best = (0..20).filter(|&seed| found(seed).unwrap() == counts(&golden["quotas"])).count();
    assert!(best >= 15, "{best} of 20");
}
