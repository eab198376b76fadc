//! A comparison as a table for people.

use crate::cli::Sort;
use crate::show;
use pare_engine::compare::{AS_READ, Comparison, DENSE, Entry, Measured};
use std::cmp::Ordering;

const HEAD: [&str; 16] = [
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
    "tok/s",
    "x dense",
    "time, s",
    "peak MB",
];

/// Everything that the terminal shows of a comparison.
pub(super) fn text(comparison: &Comparison, sort: Option<Sort>) -> String {
    let mut entries: Vec<(&Entry, &Measured)> =
        comparison.entries.iter().filter_map(|entry| Some((entry, entry.measured()?))).collect();
    entries.sort_by(|a, b| order(*a, *b, sort));
    let mut rows =
        vec![head(&comparison.dense), row(AS_READ, None, &comparison.as_read), row(DENSE, None, &comparison.dense)];
    rows.extend(entries.iter().map(|(entry, figures)| row(&entry.recipe, Some(entry.keep), figures)));
    let mut text = show::table(&rows);
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

/// Column before which the other texts stand.
const AFTER_TEXT: usize = 8;

fn head(dense: &Measured) -> Vec<String> {
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

/// By the figure that was asked for; without one by keep, largest first, then by divergence. Names decide the rest.
fn order(a: (&Entry, &Measured), b: (&Entry, &Measured), sort: Option<Sort>) -> Ordering {
    let speed = |figures: &Measured| figures.speed.map_or(f64::NEG_INFINITY, |speed| speed.over_dense.median);
    let kl = a.1.kl_mean.total_cmp(&b.1.kl_mean);
    let first = match sort {
        None => b.0.keep.total_cmp(&a.0.keep),
        Some(Sort::Kl) => Ordering::Equal,
        Some(Sort::Bytes) => a.1.bytes.cmp(&b.1.bytes),
        Some(Sort::Speed) => speed(b.1).total_cmp(&speed(a.1)),
    };
    first.then(kl).then_with(|| a.0.recipe.cmp(&b.0.recipe)).then(b.0.keep.total_cmp(&a.0.keep))
}

fn row(label: &str, keep: Option<f64>, figures: &Measured) -> Vec<String> {
    let optional = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| number(value, digits));
    let percent = |value: f64| format!("{:.1}%", 100.0 * value);
    let probe = |generated: bool| figures.mean_probe(generated).map_or("-".to_owned(), percent);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let mut row = vec![
        label.to_owned(),
        keep.map_or("-".to_owned(), |keep| keep.to_string()),
        if keep.is_some() { format!("{:.3}", figures.kept) } else { "-".to_owned() },
        number(figures.perplexity, 2),
        if keep.is_some() { number(figures.perplexity_ratio, 3) } else { "-".to_owned() },
        if keep.is_some() { number(figures.kl_mean, 4) } else { "-".to_owned() },
        if keep.is_some() { number(figures.kl_p99, 3) } else { "-".to_owned() },
        if keep.is_some() { percent(figures.top1_agreement) } else { "-".to_owned() },
        probe(false),
        probe(true),
        format!("{:.2}", figures.parameters as f64 / 1e6),
        format!("{:.1}", megabytes(figures.bytes)),
        optional(figures.speed.map(|speed| speed.decode_tok_s), 1),
        if label == DENSE { "-".to_owned() } else { optional(figures.speed.map(|speed| speed.over_dense.median), 3) },
        if keep.is_some() { number(figures.cost.shrink_seconds, 1) } else { "-".to_owned() },
        figures.cost.peak_memory_bytes.map_or("-".to_owned(), |bytes| format!("{:.0}", megabytes(bytes))),
    ];
    let others = figures.texts.iter().skip(1).flat_map(|text| {
        let kl = if keep.is_some() { number(text.kl_mean, 4) } else { "-".to_owned() };
        [number(text.perplexity, 2), kl]
    });
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
    fn ruined_models_keep_their_column_narrow() {
        assert_eq!(number(17.256, 2), "17.26");
        assert_eq!(number(123_456.7, 2), "1.2e5");
        assert_eq!((number(f64::INFINITY, 2), number(f64::NAN, 2)), ("inf".to_owned(), "NaN".to_owned()));
    }
}
