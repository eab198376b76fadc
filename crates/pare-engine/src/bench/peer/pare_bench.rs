//! How another build of pare is asked for one round of `pare bench`, and what it prints.

use super::{Build, json, speed};
use crate::bench::measure::{Sizes, Turn};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// What is read of the record that `pare bench --json` prints.
#[derive(Deserialize)]
struct Record {
    models: Vec<Model>,
    pare_version: String,
}

#[derive(Deserialize)]
struct Model {
    prefill_tok_s: Option<Spread>,
    decode: Vec<Decode>,
}

#[derive(Deserialize)]
struct Decode {
    context: usize,
    tok_s: Option<Spread>,
}

#[derive(Deserialize)]
struct Spread {
    median: f64,
}

/// One counted round, after the one that warms up.
pub(super) fn ask(command: &mut Command, file: &Path, sizes: &Sizes, threads: usize, weights: &str) {
    command.arg("bench").arg(file);
    command.args(["--rounds", "1", "--prompt", &sizes.prompt.to_string(), "--tokens", &sizes.tokens.to_string()]);
    let contexts: Vec<String> = sizes.contexts.iter().map(usize::to_string).collect();
    // A context in which nothing is decoded is left out by the program itself; it needs one all the same.
    let contexts = if contexts.is_empty() { "0".to_owned() } else { contexts.join(",") };
    command.args([
        "--contexts",
        &contexts,
        "--weights",
        weights,
        "--threads",
        &threads.to_string(),
        "--quiet",
        "--json",
    ]);
}

pub(super) fn read(stdout: &[u8], sizes: &Sizes) -> Result<(Turn, Build), String> {
    let record: Record = json(stdout, "figures")?;
    let [model] = &record.models[..] else {
        return Err(format!("printed figures of {} models, not of the one that was asked for", record.models.len()));
    };
    let median = |spread: &Option<Spread>, what: &dyn Fn() -> String| {
        let spread = spread.as_ref().ok_or_else(|| format!("did not print {}", what()))?;
        speed(spread.median, what)
    };
    let prefill_tok_s = median(&model.prefill_tok_s, &|| "the median of the prompt".to_owned())?;
    let decode = sizes.contexts.iter().map(|&context| {
        let what = || format!("the median of decoding after {context} tokens");
        let found = model.decode.iter().find(|decode| decode.context == context);
        median(&found.ok_or_else(|| format!("did not print {}", what()))?.tok_s, &what)
    });
    let decode_tok_s = decode.collect::<Result<_, String>>()?;
    let build = Build { build_commit: record.pare_version, backends: "CPU".to_owned(), ..Build::default() };
    Ok((Turn { prefill_tok_s, decode_tok_s }, build))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, contexts: &[usize]) -> Result<(Turn, Build), String> {
        read(text.as_bytes(), &Sizes { prompt: 8, tokens: 4, contexts: contexts.to_vec() })
    }

    #[test]
    fn the_medians_asked_for_are_found() {
        let spread = |median: f64| format!("{{\"min\": 1.0, \"median\": {median}, \"max\": 900.0}}");
        let text = |models: usize| {
            let decode = format!(
                "[{{\"context\": 16, \"tok_s\": {}}}, {{\"context\": 0, \"tok_s\": {}}}, {{\"context\": 32, \"tok_s\": null}}]",
                spread(3.5),
                spread(4.0)
            );
            let model =
                format!("{{\"prefill_tok_s\": {}, \"decode\": {decode}, \"weights\": \"q4_1\"}}", spread(100.25));
            format!("{{\"pare_version\": \"9.9.9\", \"models\": [{}]}}", vec![model; models].join(","))
        };
        let (turn, build) = read_text(&text(1), &[0, 16]).unwrap();
        assert_eq!(turn, Turn { prefill_tok_s: 100.25, decode_tok_s: vec![4.0, 3.5] });
        assert_eq!((build.build_commit.as_str(), build.build_number), ("9.9.9", None));
        assert!(read_text(&text(1), &[32]).unwrap_err().contains("did not print the median of decoding after 32"));
        assert!(read_text(&text(1), &[64]).unwrap_err().contains("after 64"));
        assert!(read_text(&text(2), &[]).unwrap_err().contains("2 models"));
        assert!(read_text("warming up", &[]).unwrap_err().contains("warming up"));
        let none = text(1).replace("100.25", "0");
        assert!(read_text(&none, &[]).unwrap_err().contains("printed 0 tokens per second"));
    }
}
