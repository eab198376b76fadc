//! `pare logits`: what other programs compare themselves with.

use super::open;
use crate::cli::Logits;
use crate::commands::shrink::PROMPTS;
use anyhow::Result;
use pare_engine::progress::Work;
use pare_model::forward::{KvCache, Runner, Segment};
use serde_json::json;

pub(crate) fn run(arguments: &Logits, work: Work<'_>) -> Result<()> {
    let bundle = open(&arguments.model, None)?;
    let prompts: Vec<String> = match &arguments.prompts {
        Some(file) => {
            pare_engine::text::read_text(file)?.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        None => PROMPTS.map(str::to_owned).to_vec(),
    };
    let mut results = Vec::new();
    for prompt in &prompts {
        let ids = bundle.prompt(prompt, false)?;
        let mut runner = Runner::new(&bundle.model, work.pool);
        let mut caches = [KvCache::new(&bundle.model, ids.len())];
        runner.hidden(&ids, &[Segment { sequence: 0, start: 0, len: ids.len() }], &mut caches, None);
        let logits = runner.logits(&[ids.len() - 1]).to_vec();
        results.push(json!({ "prompt": prompt, "ids": ids, "logits": logits }));
    }
    let text = format!("{}\n", json!({ "prompts": results }));
    Ok(pare_format::write::write_file_atomic(&arguments.output, text.as_bytes())?)
}
