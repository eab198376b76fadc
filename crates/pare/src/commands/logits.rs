//! `pare logits`: what other programs compare themselves with.

use super::open;
use crate::cli::Logits;
use crate::commands::shrink::PROMPTS;
use anyhow::Result;
use pare_engine::bundle::Bundle;
use pare_engine::progress::Work;
use pare_engine::{Error, VERSION};
use pare_format::write::{NewFile, VERSION_KEY, refuse_inputs};
use pare_model::forward::{KvCache, Runner, Segment};
use serde_json::json;
use std::io::Write as _;
use std::path::Path;

pub(crate) fn run(arguments: &Logits, work: Work<'_>) -> Result<()> {
    let bundle = open(&arguments.model, work)?;
    let inputs = [Some(&bundle.path), arguments.prompts.as_ref(), arguments.windows.as_ref()];
    refuse_inputs(&arguments.output, inputs.into_iter().flatten())?;
    let output = NewFile::create(&arguments.output, arguments.force)?;
    if let Some(file) = &arguments.windows {
        return windows(&bundle, file, output, work);
    }
    let prompts: Vec<String> = match &arguments.prompts {
        Some(file) => {
            pare_engine::text::read_plain(file)?.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        None => PROMPTS.map(str::to_owned).to_vec(),
    };
    let mut results = Vec::new();
    for prompt in &prompts {
        let ids = bundle.raw_prompt(prompt, arguments.special)?;
        bundle.check_length(&ids, 0)?;
        let mut runner = Runner::new(&bundle.model, work.pool);
        let mut caches = [KvCache::new(&bundle.model, ids.len())];
        runner.hidden(&ids, &[Segment { sequence: 0, start: 0, len: ids.len() }], &mut caches, None);
        let logits = runner.logits(&[ids.len() - 1]).to_vec();
        results.push(json!({ "prompt": prompt, "ids": ids, "logits": logits }));
    }
    // "pare" is the first key: by it a later run knows the file as one that pare wrote.
    let text = format!("{}\n", json!({ VERSION_KEY: VERSION, "prompts": results }));
    Ok(output.write_whole(text.as_bytes())?)
}

/// Windows of tokens, and the first position whose prediction is wanted.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"from\": N, \"windows\": [[...]]}")]
struct Windows {
    from: usize,
    windows: Vec<Vec<u32>>,
}

/// Log-probabilities of every token at many positions: too many numbers for JSON.
fn windows(bundle: &Bundle, file: &Path, mut out: NewFile, work: Work<'_>) -> Result<()> {
    let refused = |why: String| anyhow::Error::from(Error::Refused(format!("{}: {why}", file.display())));
    let text = pare_engine::text::read_plain(file)?;
    let asked: Windows = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    if asked.windows.is_empty() {
        return Err(refused("no windows; expected at least one".to_owned()));
    }
    let architecture = &bundle.model.architecture;
    for (index, ids) in asked.windows.iter().enumerate() {
        if ids.len() < 2 || asked.from > ids.len() - 2 || ids.len() > architecture.context {
            let (found, most) = (ids.len(), architecture.context);
            return Err(refused(format!("window {index} has {found} tokens, expected {} to {most}", asked.from + 2)));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= architecture.vocab) {
            return Err(refused(format!("window {index}: token {id}, expected ids below {}", architecture.vocab)));
        }
    }
    let rows: usize = asked.windows.iter().map(|ids| ids.len() - 1 - asked.from).sum();
    out.require_room((rows * architecture.vocab * 4) as u64)?;
    work.progress.begin("predicting", asked.windows.len() as u64);
    let longest = asked.windows.iter().map(Vec::len).max().unwrap_or(0);
    let mut runner = Runner::new(&bundle.model, work.pool);
    let mut caches = [KvCache::new(&bundle.model, longest)];
    for ids in &asked.windows {
        work.interrupt.check()?;
        runner.hidden(ids, &[Segment { sequence: 0, start: 0, len: ids.len() }], &mut caches, None);
        let positions: Vec<usize> = (asked.from..ids.len() - 1).collect();
        for positions in positions.chunks(32) {
            for row in runner.logits(positions).chunks_exact(architecture.vocab) {
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total = row.iter().map(|&logit| f64::from(logit - most).exp()).sum::<f64>().ln();
                for &logit in row {
                    let log_probability = f64::from(logit - most) - total;
                    out.write_all(&(log_probability as f32).to_le_bytes())?;
                }
            }
        }
        work.progress.advance(1, "");
    }
    work.progress.end();
    Ok(out.commit()?)
}
