//! What people see: tables, numbers, errors.

use pare_engine::figures::{Figures, OnText, Report, Role};
use serde_json::Value;
use std::io::{self, Write as _};

/// Writes text to the output stream.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write(&printable(text))
}

/// Writes JSON and a line break to the output stream.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    // serde_json leaves DEL and the C1 characters as they are; a terminal acts on them.
    let show = |c: char| if c.is_control() && c != '\n' { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    let text: String = format!("{value:#}\n").chars().map(show).collect();
    write(&text)
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes an error to the error stream; when that is closed there is nobody to tell.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "pare: {}", printable(text));
}

/// Writes an error and its causes, each once: some errors say their cause themselves.
pub(crate) fn failure(failure: &anyhow::Error) {
    let causes = failure.chain().skip(1).map(ToString::to_string);
    let add = |said: String, cause: String| if said.contains(&cause) { said } else { format!("{said}: {cause}") };
    error(&causes.fold(failure.to_string(), add));
}

/// Writes a remark to the error stream.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Control characters of names and texts from files must not reach the terminal.
fn printable(text: &str) -> String {
    let show =
        |c: char| if c.is_control() && c != '\n' && c != '\t' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(show).collect()
}

pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

/// Columns of text, the first left, the others right aligned.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[column] - cell.chars().count());
            if column == 0 {
                text += &format!("{cell}{gap}");
            } else {
                text += &format!("  {gap}{cell}");
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.1}%", 100.0 * value))
}

/// The figures of a report as a table, models as columns.
pub(crate) fn figures(figures: &[Figures]) -> String {
    let mut rows =
        vec![std::iter::once(String::new()).chain(figures.iter().map(|model| model.label.clone())).collect()];
    let mut row = |name: &str, value: &dyn Fn(&Figures) -> String| {
        let cells: Vec<String> = figures.iter().map(value).collect();
        if cells.iter().any(|cell| cell != "-") {
            rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
        }
    };
    let names: Vec<&str> =
        figures.first().map_or(Vec::new(), |model| model.texts.iter().map(|text| text.name.as_str()).collect());
    for (index, name) in names.iter().enumerate() {
        let title = if names.len() > 1 { format!("perplexity, {name}") } else { "perplexity".to_owned() };
        let on = |model: &Figures, of: fn(&OnText) -> Option<f64>| model.texts.get(index).and_then(of);
        row(&title, &|model| number(on(model, |text| text.perplexity), 3));
        row("  over dense", &|model| {
            let ratio = on(model, |text| text.perplexity_ratio);
            if matches!(model.role, Role::Dense | Role::AsRead) { "-".to_owned() } else { number(ratio, 3) }
        });
        row("  KL mean, nats", &|model| number(on(model, |text| text.kl_mean), 4));
        row("  KL 99 %", &|model| number(on(model, |text| text.kl_p99), 3));
        row("  same top-1", &|model| percent(on(model, |text| text.top1_agreement)));
    }
    row("parameters, M", &|model| format!("{:.2}", model.parameters as f64 / 1e6));
    row("weights, MB", &|model| number(model.bytes.map(|bytes| bytes as f64 / 1e6), 1));
    row("prefill, tok/s", &|model| number(model.prefill_tok_s, 0));
    row("decode, tok/s", &|model| number(model.decode_tok_s, 1));
    row("peak memory, MB", &|model| number(model.peak_memory_bytes.map(|bytes| bytes as f64 / 1e6), 0));
    let names: Vec<&String> = figures.first().map_or(Vec::new(), |model| model.probes.keys().collect());
    for name in names {
        row(&format!("probe {name}"), &|model| percent(model.probes.get(name).copied()));
    }
    table(&rows)
}

/// The samples of a report.
pub(crate) fn samples(report: &Report) -> String {
    let mut text = String::new();
    for sample in &report.samples {
        text += &format!("\n> {}\n", sample.prompt);
        for (label, continuation) in &sample.texts {
            let shown = continuation.trim().replace('\n', "\n    ");
            text += &format!("  {label}:\n    {shown}\n");
        }
    }
    text
}
