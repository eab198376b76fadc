//! `pare inspect`: where the redundancy is.

use super::{calibration, open};
use crate::cli::Inspect;
use crate::show;
use anyhow::Result;
use pare_engine::inspect::inspect;
use pare_engine::progress::Work;
use pare_engine::prove::{facts, html};
use pare_engine::report::{BlockRedundancy, BlockShare, ModelFacts, Report};

pub(crate) fn run(arguments: &Inspect, work: Work<'_>) -> Result<()> {
    let bundle = open(&arguments.model, None)?;
    let text = calibration(&arguments.texts, &bundle, work)?;
    let found = inspect(&bundle.model, &text.sequences, work)?;
    let report = Report {
        title: format!("{}: where the redundancy is", bundle.name),
        model: facts(&bundle),
        recipe: None,
        picture: vec![BlockShare { attention: 1.0, ffn: 1.0 }; found.len()],
        redundancy: found.clone(),
        figures: Vec::new(),
        samples: Vec::new(),
        conditions: vec![("text".to_owned(), text.origin)],
        notes: bundle.warnings.clone(),
    };
    if let Some(path) = &arguments.report {
        pare_format::write::write_file_atomic(path, html(&report)?.as_bytes())?;
    }
    if arguments.json {
        return show::json(&serde_json::to_value(&report)?);
    }
    show::print(&table(&report.model, &found))
}

/// The redundancy of each block, and the sizes above it.
pub(crate) fn table(model: &ModelFacts, found: &[BlockRedundancy]) -> String {
    let mut rows = vec![
        ["block", "attention moves", "ffn moves", "block moves", "idle channels", "kv group spread"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (index, block) in found.iter().enumerate() {
        rows.push(vec![
            index.to_string(),
            format!("{:.3}", block.attention_influence),
            format!("{:.3}", block.ffn_influence),
            format!("{:.3}", block.block_influence),
            format!("{:.1}%", 100.0 * block.idle_channels),
            format!("{:.2}x", block.group_spread),
        ]);
    }
    format!(
        "{}: {}, {} blocks, width {}, {} query heads in {} groups, ffn {}, vocabulary {}; {} parameters, {} of them in blocks; stored as {}\n\
         moves: 1 - cosine of the residual before and after (0: changes nothing). idle: channels that carry the least 5 % of the score.\n\n{}",
        model.name,
        model.family,
        model.blocks,
        model.hidden,
        model.heads,
        model.groups,
        model.ffn,
        model.vocab,
        model.parameters,
        model.block_parameters,
        model.storage,
        show::table(&rows)
    )
}
