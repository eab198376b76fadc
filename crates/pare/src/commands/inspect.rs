//! `pare inspect`: where the redundancy is.

use super::{Given, Wanted, dated, open};
use crate::cli::Inspect;
use crate::show;
use anyhow::Result;
use pare_engine::figures::{BlockCurve, BlockRedundancy, BlockShare, ModelFacts, Report};
use pare_engine::inspect::{LEVELS, curve, inspect};
use pare_engine::progress::Work;
use pare_engine::prove::facts;
use pare_engine::report::html;
use pare_format::write::{NewFile, refuse_inputs};

/// More than any page has, so that a full disk is noticed first.
const MOST_PAGE_BYTES: u64 = 4 << 20;

pub(crate) fn run(arguments: &Inspect, work: Work<'_>) -> Result<()> {
    let bundle = dated(open(&arguments.model, work)?, &arguments.texts);
    let page = match &arguments.report {
        None => None,
        Some(path) => {
            refuse_inputs(path, [Some(&bundle.path), arguments.texts.text.as_ref()].into_iter().flatten())?;
            let page = NewFile::create(path, arguments.force)?;
            page.require_room(MOST_PAGE_BYTES)?;
            Some(page)
        }
    };
    let mut given = Given::read(&arguments.texts, &bundle, Wanted { calibration: true, verification: false })?;
    let text = given.calibration(&arguments.texts, &[&bundle], work)?;
    let found = inspect(&bundle.model, &text.sequences, work)?;
    let curves = match arguments.curve {
        true => curve(&bundle.model, &text.sequences, &LEVELS, work)?,
        false => Vec::new(),
    };
    let report = Report {
        title: format!("{}: where the redundancy is", bundle.name),
        model: facts(&bundle),
        recipe: None,
        picture: vec![BlockShare { attention: 1.0, ffn: 1.0 }; found.len()],
        redundancy: found.clone(),
        curves,
        figures: Vec::new(),
        samples: Vec::new(),
        conditions: vec![("text".to_owned(), text.origin)],
        notes: bundle.warnings.clone(),
    };
    // Figures that took minutes are shown, whatever becomes of the page.
    let written = match page {
        None => Ok(()),
        Some(page) => page.write_whole(html(&report)?.as_bytes()),
    };
    if arguments.json {
        show::json(&serde_json::to_value(&report)?)?;
    } else {
        show::print(&(table(&report.model, &found) + &losses(&report.curves)))?;
    }
    Ok(written?)
}

/// The redundancy of each block, and the sizes above it.
pub(crate) fn table(model: &ModelFacts, found: &[BlockRedundancy]) -> String {
    let mut rows = [
        [
            "",
            "attention",
            "ffn",
            "block",
            "idle",
            "effective",
            "alike",
            "mergeable",
            "kv group",
            "heads",
            "rank of",
            "nuclear",
        ],
        [
            "block", "moves", "moves", "moves", "channels", "channels", "channels", "channels", "spread", "alike",
            "input", "norm",
        ],
    ]
    .map(|row| row.map(str::to_owned).to_vec())
    .to_vec();
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    for (index, block) in found.iter().enumerate() {
        rows.push(vec![
            index.to_string(),
            format!("{:.3}", block.attention_influence),
            format!("{:.3}", block.ffn_influence),
            format!("{:.3}", block.block_influence),
            percent(block.idle_channels),
            percent(block.effective_channels),
            format!("{:.3}", block.channel_correlation),
            percent(block.mergeable_channels),
            format!("{:.2}x", block.group_spread),
            format!("{:.3}", block.head_correlation),
            percent(block.effective_rank),
            percent(block.nuclear_norm),
        ]);
    }
    format!(
        "{}: {}, {} blocks, width {}, {} query heads in {} groups, ffn {}, vocabulary {}; {} parameters, {} of them in blocks; stored as {}\n\
         moves: 1 - cosine of the residual before and after (0: changes nothing)\n\
         ffn channels. idle: carry the least 5 % of the score. effective: as many of equal energy would be as evenly spread\n\
         alike: mean of the largest correlation with another. mergeable: nearer to another than half of the largest distance\n\
         rank, norm: effective rank of what the block reads, over the width; nuclear norm over that of even directions\n\n{}",
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

/// What the answers lose without a part of one block; empty when it was not measured.
fn losses(curves: &[BlockCurve]) -> String {
    if curves.is_empty() {
        return String::new();
    }
    let level = |level: f64| if level == 1.0 { "ffn".to_owned() } else { format!("{:.0}%", 100.0 * level) };
    let heads = ["block".to_owned()].into_iter().chain(LEVELS.map(level)).chain(["whole".to_owned()]);
    let mut rows = vec![heads.collect::<Vec<_>>()];
    let shown = |kl: Option<f64>| kl.map_or_else(|| "-".to_owned(), |kl| format!("{kl:.4}"));
    for (index, curve) in curves.iter().enumerate() {
        let at = |level: f64| curve.channels.iter().find(|point| point.level == level).map(|point| point.kl_mean);
        let cells = LEVELS.map(at).into_iter().chain([curve.dropped]).map(shown);
        rows.push([index.to_string()].into_iter().chain(cells).collect());
    }
    format!(
        "\nKL mean, nats, when one block alone loses this share of its ffn channels, its ffn, or leaves as a whole; no repair\n\n{}",
        show::table(&rows)
    )
}
