//! `pare bench`: how fast models run, beside the machine's limits and beside a peer.

mod date;
mod save;
mod table;

use super::open;
use crate::cli::Bench;
use crate::show;
use anyhow::Result;
use pare_engine::bench::peer::Peer;
use pare_engine::bench::{Entry, Outcome, Rival, Settings, run as measure};
use pare_engine::progress::Work;
use serde_json::{Value, json};
use std::time::SystemTime;

pub(crate) fn run(arguments: &Bench, work: Work<'_>) -> Result<()> {
    let rival = rival(arguments)?;
    if let Some(folder) = &arguments.save {
        save::refuse_files(folder)?;
    }
    let settings = Settings {
        prompt: arguments.prompt as usize,
        tokens: arguments.tokens as usize,
        contexts: arguments.contexts.iter().map(|&context| context as usize).collect(),
        rounds: arguments.rounds as usize,
        pack: arguments.weights.pack(),
    };
    let mut entries = Vec::new();
    for model in &arguments.models {
        entries.push(Entry::new(&open(model, work)?, &settings)?);
    }
    let outcome = measure(&entries, &settings, rival.as_ref(), work)?;
    let record = record(arguments, &outcome)?;
    let table = table::Table::new(&outcome, &settings);
    // Shown first: figures that took minutes are not lost when the disk refuses them.
    if arguments.json {
        show::json(&record)?;
    } else {
        show::print(&table.text())?;
    }
    if let Some(folder) = &arguments.save {
        let path = save::save(folder, &record, &table, &arguments.models)?;
        show::remark(&format!("saved as {}", path.display()));
    }
    Ok(())
}

fn rival(arguments: &Bench) -> Result<Option<Rival>> {
    let Some(option) = &arguments.peer else { return Ok(None) };
    let peer = Peer::parse(option, &weights_name(arguments))?;
    let files = peer.files(&arguments.models, &arguments.peer_model)?;
    Ok(Some(Rival { peer, files }))
}

/// The value of `--weights`.
fn weights_name(arguments: &Bench) -> String {
    format!("{:?}", arguments.weights.packing).to_lowercase()
}

/// Everything as JSON, with what is needed to run it again.
fn record(arguments: &Bench, outcome: &Outcome) -> Result<Value> {
    #[expect(clippy::disallowed_methods, reason = "a record of speed says when it was made")]
    let now = SystemTime::now();
    let mut record = serde_json::to_value(outcome)?;
    record["pare_version"] = json!(env!("CARGO_PKG_VERSION"));
    record["date"] = json!(date::text(now));
    // The program by its name alone: where it lies on this machine is nobody's business.
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    record["command"] = std::iter::once("pare".to_owned()).chain(words).collect();
    record["settings"] = json!({
        "prompt_tokens": arguments.prompt,
        "decoded_tokens": arguments.tokens,
        "contexts": arguments.contexts,
        "rounds": arguments.rounds,
        "weights": weights_name(arguments),
    });
    Ok(record)
}
