//! `pare fit`: does a model fit this machine, and how fast will it run?

use super::open;
use crate::cli;
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::fit::{Fit, longest_context};
use pare_engine::progress::Work;
use serde_json::json;

pub(crate) fn run(arguments: &cli::Fit, work: Work<'_>) -> Result<()> {
    let bundle = open(&arguments.model, work)?;
    let (most, pack, threads) = (bundle.model.architecture.context, arguments.weights.pack(), work.pool.threads());
    let context = arguments.context.map_or(most, |context| context as usize);
    if context > most {
        let message = format!("--context {context}: the model's context holds {most}");
        return Err(Error::Refused(message).into());
    }
    let fit = Fit::of(&bundle, pack, context, context, threads);
    let longest = match fit.fits() {
        Some(false) => longest_context(&bundle, pack, context, threads),
        _ => None,
    };
    // Measured last: what it takes would be missing from what is available.
    let speed = fit.speed(work)?;
    if arguments.json {
        let figures = json!({ "fit": fit, "fits": fit.fits(), "longest_context": longest, "speed": speed });
        return show::json(&figures);
    }
    let row = |what: &str, bytes: u64, remark: &str| vec![what.to_owned(), megabytes(bytes), remark.to_owned()];
    let memory = fit.memory;
    let mut rows = vec![
        row("weights in files", fit.file_bytes, "mapped: dropped and read again where memory is short"),
        row("weights, packed", memory.weights_bytes, "held while it runs"),
        row("cache", memory.cache_bytes, &format!("keys and values of {context} tokens, f32")),
        row("work", memory.work_bytes, "activations of a prompt of that length in one pass, logits"),
        row("program", fit.held_bytes, "with the tokenizer, now"),
        row("peak memory", fit.peak_bytes, "all of it"),
    ];
    if let Some(available) = fit.available_bytes {
        rows.push(row("available", available, "on this machine, or in this group of processes"));
    }
    let width = rows.iter().map(|row| row[1].len()).max().unwrap_or(0);
    let mut text: String =
        rows.iter().map(|row| format!("{:<16} {:>width$} MB  {}\n", row[0], row[1], row[2])).collect();
    text += "\n";
    text += &match (fit.fits(), fit.available_bytes, longest) {
        (Some(true), _, _) => "It fits.\n".to_owned(),
        (Some(false), Some(available), Some(longest)) => {
            let lacking = megabytes(memory.bytes().saturating_sub(available));
            format!("It does not fit: {lacking} MB are lacking. With --context {longest} it fits.\n")
        }
        (Some(false), Some(available), None) => {
            let lacking = megabytes(memory.bytes().saturating_sub(available));
            format!("It does not fit: {lacking} MB are lacking, at any context.\n")
        }
        _ => "This system does not say how much memory it has.\n".to_owned(),
    };
    if let Some(speed) = speed {
        text += &format!(
            "Decodes at most {:.0} tok/s at the start and {:.0} tok/s with {context} tokens held: {} MB and {} MB are read for each, at the {:.1} GB/s that {threads} threads read now.\n",
            speed.decode_tok_s,
            speed.decode_full_tok_s,
            megabytes(memory.weights_per_token_bytes),
            megabytes(memory.weights_per_token_bytes + memory.cache_bytes),
            speed.read_bandwidth_bytes_s / 1e9,
        );
    }
    show::print(&text)
}

/// What `run` says before it begins.
pub(crate) fn line(name: &str, fit: &Fit) -> String {
    let available = fit.available_bytes.map_or(String::new(), |bytes| format!(" of {} MB available", megabytes(bytes)));
    let verdict = if fit.fits() == Some(false) { "; IT DOES NOT FIT (pare fit says what would)" } else { "" };
    format!(
        "{name}: weights {} MB, cache {} MB for {} tokens, peak memory {} MB{available}{verdict}",
        megabytes(fit.memory.weights_bytes),
        megabytes(fit.memory.cache_bytes),
        fit.context,
        megabytes(fit.peak_bytes),
    )
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
