//! Figures and probes of all models as tables.

use super::number::{MISSING, count, megabytes, percent, significant, times};
use crate::figures::{Figures, OnText, Role};
use std::collections::BTreeSet;

/// Accuracy of a guess among four answers.
pub(super) const CHANCE: f64 = 0.25;

pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// Names of the columns that are left out because no model has a value.
    pub(super) unmeasured: String,
    /// Whether any cell is marked as the best.
    pub(super) marked: bool,
    /// Whether any cell is marked as chance.
    pub(super) chance: bool,
}

pub(super) struct Column {
    pub(super) title: String,
    pub(super) unit: &'static str,
    /// `↓` or `↑`, where one end is better.
    pub(super) arrow: &'static str,
}

pub(super) struct Row {
    pub(super) label: String,
    pub(super) remark: &'static str,
    pub(super) class: &'static str,
    pub(super) cells: Vec<Cell>,
}

#[derive(Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) best: bool,
    pub(super) chance: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Better {
    Lower,
    Higher,
}

struct Quantity {
    title: &'static str,
    unit: &'static str,
    better: Better,
    value: fn(&Figures) -> Option<f64>,
    show: fn(f64) -> String,
}

const fn quantity(
    (title, unit): (&'static str, &'static str),
    better: Better,
    value: fn(&Figures) -> Option<f64>,
    show: fn(f64) -> String,
) -> Quantity {
    Quantity { title, unit, better, value, show }
}

fn three_digits(value: f64) -> String {
    significant(value, 3)
}

fn whole(value: f64) -> String {
    count(value as u64)
}

/// Of the first text.
const ON_TEXT: [Quantity; 5] = [
    quantity(("Perplexity", ""), Better::Lower, |figures| figures.perplexity, |value| significant(value, 4)),
    quantity(("Ratio", ""), Better::Lower, |figures| figures.perplexity_ratio, times),
    quantity(("KL mean", "nats"), Better::Lower, |figures| figures.kl_mean, three_digits),
    quantity(("KL p99", "nats"), Better::Lower, |figures| figures.kl_p99, three_digits),
    quantity(("Same top-1", ""), Better::Higher, |figures| figures.top1_agreement, percent),
];

const OF_MODEL: [Quantity; 5] = [
    quantity(("Parameters", ""), Better::Lower, |figures| Some(figures.parameters as f64), whole),
    quantity(("Bytes", ""), Better::Lower, |figures| figures.bytes.map(|bytes| bytes as f64), megabytes),
    quantity(("Decode", "tokens/s"), Better::Higher, |figures| figures.decode_tok_s, three_digits),
    quantity(("Prefill", "tokens/s"), Better::Higher, |figures| figures.prefill_tok_s, three_digits),
    quantity(
        ("Memory", "peak"),
        Better::Lower,
        |figures| figures.peak_memory_bytes.map(|bytes| bytes as f64),
        megabytes,
    ),
];

/// The cells of one quantity for all models. The best value of the pared ones is marked, unless they read the same.
pub(super) fn cells(figures: &[Figures], better: Better, show: fn(f64) -> String, values: &[Option<f64>]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = values
        .iter()
        .map(|value| Cell { text: value.map_or(MISSING.to_owned(), show), best: false, chance: false })
        .collect();
    let pared: Vec<(usize, f64)> = figures
        .iter()
        .zip(values)
        .enumerate()
        .filter(|(_, (figures, _))| !matches!(figures.role, Role::Dense | Role::AsRead))
        .filter_map(|(index, (_, value))| value.filter(|value| !value.is_nan()).map(|value| (index, value)))
        .collect();
    let best = pared.iter().copied().reduce(|best, other| {
        let wins = if better == Better::Lower { other.1 < best.1 } else { other.1 > best.1 };
        if wins { other } else { best }
    });
    let Some((best, _)) = best else { return cells };
    let text = cells[best].text.clone();
    if pared.iter().any(|&(index, _)| cells[index].text != text) {
        for (index, _) in pared {
            cells[index].best = cells[index].text == text;
        }
    }
    cells
}

fn class(role: Role) -> &'static str {
    match role {
        Role::Dense | Role::AsRead => "dense",
        Role::Result => "result",
        Role::Baseline => "baseline",
    }
}

/// One row per model, one column per quantity that at least one model has.
pub(super) fn figures(figures: &[Figures]) -> Table {
    let mut columns = Vec::new();
    let mut unmeasured = Vec::new();
    let mut rows: Vec<Row> = figures
        .iter()
        .map(|figures| Row {
            label: figures.label.clone(),
            remark: match figures.role {
                Role::Dense => "original",
                Role::AsRead => "what you had",
                Role::Result => "result",
                Role::Baseline => "baseline",
            },
            class: class(figures.role),
            cells: Vec::new(),
        })
        .collect();
    let names: Vec<&str> =
        figures.first().map_or(Vec::new(), |first| first.texts.iter().map(|text| &*text.name).collect());
    let mut add = |quantity: &Quantity, of: Option<&str>, values: &[Option<f64>]| {
        if values.iter().all(Option::is_none) {
            unmeasured.push(quantity.title);
            return;
        }
        let arrow = if quantity.better == Better::Lower { "↓" } else { "↑" };
        let title = of.map_or_else(|| quantity.title.to_owned(), |text| format!("{}, {text}", quantity.title));
        columns.push(Column { title, unit: quantity.unit, arrow });
        for (row, cell) in rows.iter_mut().zip(cells(figures, quantity.better, quantity.show, values)) {
            row.cells.push(cell);
        }
    };
    let several = names.len() > 1;
    for quantity in &ON_TEXT {
        add(
            quantity,
            names.first().copied().filter(|_| several),
            &figures.iter().map(quantity.value).collect::<Vec<_>>(),
        );
    }
    // Of the other texts what tells them apart.
    for (index, name) in names.iter().enumerate().skip(1) {
        let on = |value: fn(&OnText) -> Option<f64>| -> Vec<Option<f64>> {
            figures.iter().map(|figures| figures.texts.get(index).and_then(value)).collect()
        };
        let [perplexity, _, divergence, ..] = &ON_TEXT;
        add(perplexity, Some(name), &on(|text| text.perplexity));
        add(divergence, Some(name), &on(|text| text.kl_mean));
    }
    for quantity in &OF_MODEL {
        add(quantity, None, &figures.iter().map(quantity.value).collect::<Vec<_>>());
    }
    let marked = rows.iter().any(|row| row.cells.iter().any(|cell| cell.best));
    // With one model there is nothing that its divergence could be measured from.
    let unmeasured = if figures.len() > 1 { unmeasured.join(", ") } else { String::new() };
    Table { columns, rows, unmeasured, marked, chance: false }
}

/// Suffix of the probes that were answered by decoding.
const GENERATED: &str = "_generated";

/// One row per probe and their mean, one column per model; none when no model has a value.
fn probes(figures: &[Figures], generated: bool) -> Option<Table> {
    let names: BTreeSet<&str> = figures
        .iter()
        .flat_map(|figures| figures.probes.keys())
        .filter_map(|key| match key.strip_suffix(GENERATED) {
            Some(name) => generated.then_some(name),
            None => (!generated).then_some(key),
        })
        .collect();
    if names.is_empty() {
        return None;
    }
    let key = |name: &str| if generated { format!("{name}{GENERATED}") } else { name.to_owned() };
    let value = |figures: &Figures, name: &str| figures.probes.get(&key(name)).copied();
    let mut rows: Vec<Row> = names
        .iter()
        .map(|name| Row {
            label: name.replace('_', " "),
            remark: "",
            class: "",
            cells: figures
                .iter()
                .map(|figures| {
                    let share = value(figures, name);
                    Cell {
                        text: share.map_or(MISSING.to_owned(), percent),
                        best: false,
                        chance: !generated && share.is_some_and(|share| share <= CHANCE),
                    }
                })
                .collect(),
        })
        .collect();
    let means: Vec<Option<f64>> = figures.iter().map(|figures| mean_probe(figures, &names, key)).collect();
    let chance = rows.iter().any(|row| row.cells.iter().any(|cell| cell.chance));
    let cells = cells(figures, Better::Higher, percent, &means);
    let marked = cells.iter().any(|cell| cell.best);
    rows.push(Row { label: "mean".to_owned(), remark: "", class: "mean", cells });
    let columns = figures.iter().map(|figures| Column { title: figures.label.clone(), unit: "", arrow: "" }).collect();
    Some(Table { columns, rows, unmeasured: String::new(), marked, chance })
}

/// Mean over `names`; none when one of them is missing, for it would not compare.
fn mean_probe(figures: &Figures, names: &BTreeSet<&str>, key: impl Fn(&str) -> String) -> Option<f64> {
    let shares = names.iter().map(|name| figures.probes.get(&key(name)).copied()).collect::<Option<Vec<f64>>>()?;
    Some(shares.iter().sum::<f64>() / shares.len() as f64)
}

/// Probes answered by likelihood among four answers.
pub(super) fn probes_by_likelihood(figures: &[Figures]) -> Option<Table> {
    probes(figures, false)
}

/// Probes answered by greedy decoding.
pub(super) fn probes_by_generation(figures: &[Figures]) -> Option<Table> {
    probes(figures, true)
}

#[cfg(test)]
mod tests {
    use super::super::examples::shrunk;
    use super::*;

    fn column(table: &Table, title: &str) -> Vec<(String, bool)> {
        let index = table.columns.iter().position(|column| column.title == title).unwrap();
        table.rows.iter().map(|row| (row.cells[index].text.clone(), row.cells[index].best)).collect()
    }

    #[test]
    fn the_best_pared_value_is_marked_and_never_the_original() {
        let mut report = shrunk();
        for (figures, perplexity) in report.figures.iter_mut().zip([10.0, 12.0, f64::NAN]) {
            figures.perplexity = Some(perplexity);
        }
        report.figures[1].top1_agreement = Some(0.5);
        report.figures[2].top1_agreement = Some(0.6);
        let table = figures(&report.figures);
        let expected = [("10.00", false), ("12.00", false), ("NaN", false)].map(|(text, best)| (text.to_owned(), best));
        assert_eq!(column(&table, "Perplexity"), expected, "one value is not the best of any");
        assert_eq!(column(&table, "Same top-1")[1..].iter().map(|cell| cell.1).collect::<Vec<_>>(), [false, true]);
        report.figures[2].perplexity = Some(11.0);
        let best: Vec<bool> = column(&figures(&report.figures), "Perplexity").iter().map(|cell| cell.1).collect();
        assert_eq!(best, [false, false, true]);
    }

    #[test]
    fn values_that_read_the_same_are_not_ranked() {
        let mut report = shrunk();
        for figures in &mut report.figures {
            figures.kl_mean = Some(0.123);
        }
        assert!(column(&figures(&report.figures), "KL mean").iter().all(|(_, best)| !best));
    }

    #[test]
    fn a_missing_value_is_a_dash_and_a_missing_column_is_named() {
        let mut report = shrunk();
        for figures in &mut report.figures {
            figures.kl_p99 = None;
        }
        report.figures[0].kl_mean = None;
        let table = figures(&report.figures);
        assert_eq!(column(&table, "KL mean")[0].0, "–");
        assert_eq!(table.unmeasured, "KL p99");
        assert!(table.columns.iter().all(|column| column.title != "KL p99"));
        assert!(table.rows.iter().all(|row| row.cells.len() == table.columns.len()));
    }

    #[test]
    fn several_texts_stand_side_by_side_under_their_names() {
        let mut report = shrunk();
        let plain = figures(&report.figures);
        for (index, figures) in report.figures.iter_mut().enumerate() {
            let text = |name: &str, nats: f64| OnText {
                name: name.to_owned(),
                perplexity: Some(20.0),
                perplexity_ratio: None,
                kl_mean: (index > 0).then_some(nats * index as f64),
                kl_p99: None,
                top1_agreement: None,
            };
            figures.texts = vec![text("speeches", 0.5), text("own text", 0.25)];
        }
        let table = figures(&report.figures);
        assert_eq!(column(&table, "KL mean, own text")[1..], [("0.250".to_owned(), true), ("0.500".to_owned(), false)]);
        assert_eq!(column(&table, "Perplexity, own text")[0].0, "20.00");
        assert_eq!(
            column(&table, "Perplexity, speeches"),
            column(&plain, "Perplexity"),
            "the first text's are the figures"
        );
        assert!(table.rows.iter().all(|row| row.cells.len() == table.columns.len()));
        // One text needs no name.
        report.figures.iter_mut().for_each(|figures| figures.texts.truncate(1));
        assert_eq!(column(&figures(&report.figures), "Perplexity"), column(&plain, "Perplexity"));
    }

    #[test]
    fn probes_are_split_by_the_way_they_were_answered() {
        let mut report = shrunk();
        report.figures[0].probes = [("copying", 0.75), ("copying_generated", 0.5), ("adding", 0.25)]
            .map(|(name, share)| (name.to_owned(), share))
            .into();
        report.figures[1].probes = [("adding".to_owned(), 0.3)].into();
        let table = probes_by_likelihood(&report.figures[..2]).unwrap();
        let texts: Vec<Vec<&str>> =
            table.rows.iter().map(|row| row.cells.iter().map(|cell| cell.text.as_str()).collect()).collect();
        assert_eq!(texts, [["25.0\u{a0}%", "30.0\u{a0}%"], ["75.0\u{a0}%", "–"], ["50.0\u{a0}%", "–"]]);
        assert!(table.rows[0].cells[0].chance && !table.rows[0].cells[1].chance);
        let table = probes_by_generation(&report.figures[..2]).unwrap();
        assert_eq!(table.rows.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), ["copying", "mean"]);
        report.figures[0].probes.clear();
        assert!(probes_by_generation(&report.figures[..1]).is_none());
    }
}
