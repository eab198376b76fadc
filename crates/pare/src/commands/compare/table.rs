//! A comparison as a table for people.

use crate::cli::Sort;
use crate::show;
use pare_engine::compare::{AS_READ, Comparison, DENSE, Entry, ModelFigures};
use std::cmp::Ordering;

const HEAD: [&str; 18] = [
    "",
    "keep",
    "kept",
    "perplexity",
    "ratio",
    "KL mean",
    "KL 99 %",
    "top-1",
    "probes",
    "written",
    "param. M",
    "MB",
    "prefill",
    "decode",
    "x dense",
    "memory",
    "made in s",
    "in MB",
];

/// In place of a figure.
const NONE: &str = "-";

/// A row of the table: a recipe at a keep, the dense model in fewer bits, or a model that was there already.
struct Line<'a> {
    label: &'a str,
    keep: Option<f64>,
    figures: &'a ModelFigures,
}

/// Everything that the terminal shows of a comparison.
pub(super) fn text(comparison: &Comparison, sort: Option<Sort>) -> String {
    let entries = comparison.entries.iter().filter_map(|entry: &Entry| {
        Some(Line { label: &entry.recipe, keep: Some(entry.keep), figures: entry.measured()? })
    });
    let models = comparison.models.iter().map(|model| Line { label: &model.name, keep: None, figures: &model.figures });
    let plain =
        comparison.plain_bits.iter().map(|plain| Line { label: &plain.name, keep: None, figures: &plain.figures });
    let mut lines: Vec<Line<'_>> = models.chain(plain).chain(entries).collect();
    lines.sort_by(|a, b| order(a, b, sort));
    let before = [(AS_READ, &comparison.as_read), (DENSE, &comparison.dense)];
    let mut rows = vec![head(&comparison.dense)];
    rows.extend(before.map(|(label, figures)| row(&Line { label, keep: None, figures }, true)));
    rows.extend(lines.iter().map(|line| row(line, false)));
    let mut text = show::table(&with_figures(rows));
    for (what, front) in [("bytes", &comparison.fronts.bytes), ("speed", &comparison.fronts.speed)] {
        if !front.is_empty() {
            text += &format!("\nunbeaten in KL against {what}: {}\n", front.join(", "));
        }
    }
    let mut refused = String::new();
    for entry in &comparison.entries {
        if let Some(why) = entry.why() {
            refused += &format!("  {}: {why}\n", entry.name());
        }
    }
    if !refused.is_empty() {
        text += &format!("\nwithout figures:\n{refused}");
    }
    if !comparison.notes.is_empty() {
        text += &format!("\n{}\n", comparison.notes.join("\n"));
    }
    text
}

/// The rows without the columns in which no row has a figure.
fn with_figures(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let has = |column: usize| rows.iter().skip(1).any(|row| row.get(column).is_some_and(|cell| cell != NONE));
    let kept: Vec<bool> = (0..rows.first().map_or(0, Vec::len)).map(has).collect();
    for row in &mut rows {
        let mut kept = kept.iter();
        row.retain(|_| kept.next() == Some(&true));
    }
    rows
}

/// Column before which the other texts stand.
const AFTER_TEXT: usize = 8;

fn head(dense: &ModelFigures) -> Vec<String> {
    let mut head = HEAD.map(str::to_owned).to_vec();
    let others = dense
        .texts
        .iter()
        .skip(1)
        .flat_map(|text| [format!("perplexity, {}", text.name), format!("KL mean, {}", text.name)]);
    head.splice(AFTER_TEXT..AFTER_TEXT, others);
    if let Some(first) = dense.texts.first().filter(|_| dense.texts.len() > 1) {
        head[3] = format!("{}, {}", head[3], first.name);
    }
    head
}

/// By the figure that was asked for; without one models first, then by keep, largest first, then by divergence. Names decide the rest.
fn order(a: &Line<'_>, b: &Line<'_>, sort: Option<Sort>) -> Ordering {
    let speed = |line: &Line<'_>| line.figures.speed.map_or(f64::NEG_INFINITY, |speed| speed.over_dense.median);
    let keep = |line: &Line<'_>| line.keep.unwrap_or(f64::INFINITY);
    let kl = a.figures.kl_mean.total_cmp(&b.figures.kl_mean);
    let first = match sort {
        None => keep(b).total_cmp(&keep(a)),
        Some(Sort::Kl) => Ordering::Equal,
        Some(Sort::Bytes) => a.figures.bytes.cmp(&b.figures.bytes),
        Some(Sort::Speed) => speed(b).total_cmp(&speed(a)),
    };
    first.then(kl).then_with(|| a.label.cmp(b.label)).then(keep(b).total_cmp(&keep(a)))
}

/// The cells of a row; one `before` everything else has no divergence.
fn row(line: &Line<'_>, before: bool) -> Vec<String> {
    let Line { label, keep, figures } = *line;
    let none = || NONE.to_owned();
    let optional = |value: Option<f64>, digits: usize| value.map_or_else(none, |value| number(value, digits));
    let percent = |value: f64| format!("{:.1}%", 100.0 * value);
    let probe = |generated: bool| figures.mean_probe(generated).map_or_else(none, percent);
    let megabytes = |bytes: Option<u64>| bytes.map_or_else(none, |bytes| format!("{:.0}", bytes as f64 / 1e6));
    let lost = |cell: String| if before { none() } else { cell };
    let made = |cell: String| if keep.is_some() { cell } else { none() };
    let mut row = vec![
        label.to_owned(),
        keep.map_or_else(none, |keep| keep.to_string()),
        made(figures.kept.map_or_else(none, |kept| format!("{kept:.3}"))),
        number(figures.perplexity, 2),
        lost(number(figures.perplexity_ratio, 3)),
        lost(number(figures.kl_mean, 4)),
        lost(number(figures.kl_p99, 3)),
        lost(percent(figures.top1_agreement)),
        probe(false),
        probe(true),
        format!("{:.2}", figures.parameters as f64 / 1e6),
        format!("{:.1}", figures.bytes as f64 / 1e6),
        optional(figures.speed.map(|speed| speed.prefill_tok_s), 0),
        optional(figures.speed.map(|speed| speed.decode_tok_s), 1),
        if before && label == DENSE { none() } else { optional(figures.speed.map(|speed| speed.over_dense.median), 3) },
        megabytes(figures.peak_memory_bytes),
        made(number(figures.cost.shrink_seconds, 1)),
        made(megabytes(figures.cost.peak_memory_bytes)),
    ];
    let others =
        figures.texts.iter().skip(1).flat_map(|text| [number(text.perplexity, 2), lost(number(text.kl_mean, 4))]);
    row.splice(AFTER_TEXT..AFTER_TEXT, others);
    row
}

/// Few digits where the number is large: perplexities of ruined models have many.
fn number(value: f64, digits: usize) -> String {
    if value.abs() >= 1e5 && value.is_finite() { format!("{value:.1e}") } else { format!("{value:.digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_a_figure_are_left_out() {
        let rows = [["", "keep", "KL"], ["dense", "-", "-"], ["a.gguf", "-", "0.1"]];
        let rows = with_figures(rows.map(|row| row.map(str::to_owned).to_vec()).to_vec());
        assert_eq!(rows, [vec!["", "KL"], vec!["dense", "-"], vec!["a.gguf", "0.1"]]);
    }

    #[test]
    fn ruined_models_keep_their_column_narrow() {
        assert_eq!(number(17.256, 2), "17.26");
        assert_eq!(number(123_456.7, 2), "1.2e5");
        assert_eq!((number(f64::INFINITY, 2), number(f64::NAN, 2)), ("inf".to_owned(), "NaN".to_owned()));
    }
}
