//! What was measured, as a table for people: on the terminal and in Markdown.

use crate::show;
use pare_engine::bench::spread::Spread;
use pare_engine::bench::{Machine, Outcome, Settings};

/// Load of the machine from which on something else than this run was computing.
const BUSY: f64 = 0.5;

/// Rows of cells under a row of names, with lines of text before and after.
pub(super) struct Table {
    machine: Vec<String>,
    figures: Vec<Vec<String>>,
    ratios: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub(super) fn new(outcome: &Outcome, settings: &Settings) -> Self {
        let Settings { prompt, tokens, rounds, .. } = settings;
        let mut notes = vec![
            format!(
                "median (least - greatest) of {rounds} rounds after one that warms up; all take turns in every round"
            ),
            format!("prefill: {prompt} tokens at once; decode: {tokens} tokens, one by one, after the context"),
            "peak memory: of the whole process, while this model alone is in it".to_owned(),
        ];
        if let Some(load) = outcome.machine.load_before.filter(|&load| load > BUSY) {
            notes.push(format!(
                "the machine was busy (load {load:.2} before the run): these figures say little, and a peer whose threads wait for each other by spinning suffers most"
            ));
        }
        for model in &outcome.models {
            let skipped = |skipped: &pare_engine::bench::Skipped| {
                format!("{}: context {} was not measured: {}", model.model, skipped.context, skipped.why)
            };
            notes.extend(model.skipped.iter().map(skipped));
        }
        if let Some(peer) = &outcome.peer {
            for run in &peer.runs {
                let (build, file) = (&run.build, &run.file);
                let which = match build.build_number {
                    Some(number) => format!("build {number} ({})", build.build_commit),
                    None => format!("version {}", build.build_commit),
                };
                let cache = if build.type_k.is_empty() { String::new() } else { format!(", cache {}", build.type_k) };
                notes.push(format!("{}: {which}, backends {}{cache}: {file}", peer.name, build.backends));
            }
        }
        Self { machine: machine(&outcome.machine), figures: figures(outcome), ratios: ratios(outcome), notes }
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.machine.join("\n") + "\n\n" + &show::table(&self.figures);
        if !self.ratios.is_empty() {
            text += &format!("\n{}", show::table(&self.ratios));
        }
        text + "\n" + &self.notes.join("\n") + "\n"
    }

    pub(super) fn markdown(&self) -> String {
        let lines = |lines: &[String]| lines.iter().map(|line| format!("- {}\n", escaped(line))).collect::<String>();
        let mut text = lines(&self.machine) + "\n" + &markdown(&self.figures) + "\n";
        if !self.ratios.is_empty() {
            text += &format!("{}\n", markdown(&self.ratios));
        }
        text + &lines(&self.notes)
    }
}

fn machine(machine: &Machine) -> Vec<String> {
    let (reads, peak) = (machine.read_bandwidth_spread, machine.peak_flops_spread);
    let load = machine.load_before.map_or(String::new(), |load| format!(", load before {load:.2}"));
    let cache = machine.last_cache_bytes.map_or("not known".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    vec![
        format!("{}, {} threads, {}, {}{load}", machine.cpu, machine.threads, machine.isa, machine.os),
        format!(
            "reads {} GB/s from a buffer of {} MiB (last cache: {cache}); computes {} GFLOP/s in f32 and {} Gop/s in 8-bit integers at most",
            spread(&reads, 1e-9, 1),
            machine.read_buffer_bytes >> 20,
            spread(&peak, 1e-9, 0),
            spread(&machine.peak_int8_spread, 1e-9, 0),
        ),
    ]
}

fn figures(outcome: &Outcome) -> Vec<Vec<String>> {
    let runs = || outcome.peer.iter().flat_map(|peer| peer.runs.iter().map(|run| (peer.name.as_str(), run)));
    let mut contexts: Vec<usize> =
        outcome.models.iter().flat_map(|model| model.decode.iter().map(|decode| decode.context)).collect();
    contexts.sort_unstable();
    contexts.dedup();

    let mut rows = vec![vec![String::new()]];
    rows[0].extend(outcome.models.iter().map(|model| format!("{} ({})", model.model, model.weights)));
    rows[0].extend(runs().map(|(name, run)| format!("{name} {}", run.file)));
    let mut row = |name: String, models: Vec<String>, peers: Vec<String>| {
        rows.push([vec![name], models, peers].concat());
    };
    let of_models = |value: &dyn Fn(&pare_engine::bench::ModelFigures) -> String| {
        outcome.models.iter().map(value).collect::<Vec<String>>()
    };
    let blank = || vec!["-".to_owned(); runs().count()];
    row(
        "prefill, tok/s".into(),
        of_models(&|model| optional(model.prefill_tok_s.as_ref(), 0)),
        runs().map(|(_, run)| optional(run.prefill_tok_s.as_ref(), 0)).collect(),
    );
    row("  of the peak of its arithmetic".into(), of_models(&|model| percent(model.prefill_flops_share)), blank());
    for &context in &contexts {
        let at = |model: &pare_engine::bench::ModelFigures| {
            model.decode.iter().find(|decode| decode.context == context).cloned()
        };
        row(
            format!("decode at {context}, tok/s"),
            of_models(&|model| optional(at(model).and_then(|decode| decode.tok_s).as_ref(), 1)),
            runs()
                .map(|(_, run)| {
                    let decode = run.decode.iter().find(|decode| decode.context == context);
                    optional(decode.and_then(|decode| decode.tok_s.as_ref()), 1)
                })
                .collect(),
        );
        row(
            "  MB read per token".into(),
            of_models(&|model| at(model).map_or("-".to_owned(), |decode| megabytes(decode.bytes_per_token))),
            blank(),
        );
        row(
            "  of read bandwidth".into(),
            of_models(&|model| percent(at(model).and_then(|decode| decode.bandwidth_share))),
            blank(),
        );
    }
    row(
        "peak memory, MB".into(),
        of_models(&|model| model.peak_memory_bytes.map_or("-".to_owned(), megabytes)),
        blank(),
    );
    rows
}

fn ratios(outcome: &Outcome) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for ratio in &outcome.ratios {
        rows.push(vec![format!("{} / {}", ratio.of, ratio.over), "faster by".to_owned()]);
        rows.push(vec!["  prefill".to_owned(), optional(ratio.prefill.as_ref(), 3)]);
        for decode in &ratio.decode {
            rows.push(vec![format!("  decode at {}", decode.context), spread(&decode.ratio, 1.0, 3)]);
        }
    }
    rows
}

fn optional(value: Option<&Spread>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| spread(value, 1.0, digits))
}

fn spread(value: &Spread, scale: f64, digits: usize) -> String {
    let Spread { min, median, max } = value;
    format!("{:.digits$} ({:.digits$} - {:.digits$})", median * scale, min * scale, max * scale)
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.1}%", 100.0 * value))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// The first row is the head.
fn markdown(rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell.trim())).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text += &line(row);
        if index == 0 {
            text += &format!("|---|{}\n", "---:|".repeat(row.len() - 1));
        }
    }
    text
}

/// Names of files must not become table cells or tags of their own.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_show_the_median_first() {
        let value = Spread { min: 1.25e9, median: 2.5e9, max: 3e9 };
        assert_eq!(spread(&value, 1e-9, 2), "2.50 (1.25 - 3.00)");
        assert_eq!(optional(None, 2), "-");
        assert_eq!((percent(Some(0.5)), megabytes(1_500_000)), ("50.0%".to_owned(), "1.5".to_owned()));
    }

    #[test]
    fn markdown_has_a_head_and_survives_names() {
        let rows = [vec![String::new(), "a|b".to_owned()], vec!["  x".to_owned(), "<i>".to_owned()]];
        assert_eq!(markdown(&rows), "|  | a\\|b |\n|---|---:|\n| x | &lt;i> |\n");
    }
}
