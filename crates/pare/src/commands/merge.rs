//! `pare merge`: two models of one architecture into one, beside both and their plain average.

use super::{Given, Wanted, open, text, window};
use crate::cli::Merge;
use crate::show;
use anyhow::Result;
use pare_engine::bundle::Bundle;
use pare_engine::merging::{Joined, Request, check, merge};
use pare_engine::progress::Work;
use pare_engine::report::{Figures, Role};
use pare_engine::text::{Amount, Purpose, Text, fingerprint};
use pare_engine::verify::{Entry, Measures, verify};
use pare_engine::write::{WriteAs, write_directory};
use pare_engine::{Error, refuse_not_finite};
use pare_format::write::{OutputDir, refuse_inputs};
use pare_methods::merge::{ENTRIES, find};
use pare_methods::settings::Settings;
use pare_model::model::PackAs;
use serde_json::json;

/// What every merge is measured beside.
const BASELINE: &str = "average";

pub(crate) fn run(arguments: &Merge, work: Work<'_>) -> Result<()> {
    let method = find(&arguments.method).map_err(Error::from)?;
    let (first, second) = (open(&arguments.first, work)?, open(&arguments.second, work)?);
    if let Some(remark) = check(&first, &second, arguments.size)? {
        show::remark(&format!("warning: {remark}"));
    }
    let settings = Settings::default();
    (method.build)(&settings).and_then(|method| method.check(arguments.size)).map_err(Error::from)?;
    let texts = &arguments.texts;
    let inputs = [Some(&first.path), Some(&second.path), texts.text.as_ref(), texts.held_out.as_ref()];
    refuse_inputs(&arguments.output, inputs.into_iter().flatten())?;
    let write_as = WriteAs::find(&arguments.dtype).unwrap_or(WriteAs::Auto);
    let output = OutputDir::create(&arguments.output, arguments.force)?;
    output.require_room((first.model.parameters().total as f64 * arguments.size * 4.0) as u64)?;

    let wanted = Wanted { calibration: !method.card.needs.is_empty(), verification: !arguments.no_verify };
    let mut given = Given::read(texts, &first, wanted)?;
    refuse_not_finite(&first, work)?;
    refuse_not_finite(&second, work)?;
    let calibration = match (given.calibration.take(), wanted.calibration) {
        (None, true) => Some(written_by_both(arguments, &first, &second, work)?),
        (given, _) => given,
    };
    let held_out = match wanted.verification {
        true => Some(given.verification(texts, calibration.as_ref(), &first, work)?),
        false => None,
    };
    let sequences = calibration.as_ref().map_or(&[][..], |text| &text.sequences);
    let request = Request { method, settings: &settings, size: arguments.size, calibration: sequences };
    let joined = merge(&first.model, &second.model, &request, work)?;
    let written = write_directory(&output, &first, &joined.model, write_as, work)?;
    let figures = match &held_out {
        None => Vec::new(),
        Some(text) => figures(arguments, [&first, &second], &output, text, work)?,
    };
    let of_both = [&first, &second].map(|one| json!({ "model": one.name, "fingerprint": fingerprint(&one.model) }));
    let record = json!({
        "merged": of_both,
        "method": method.card.name,
        "size": arguments.size,
        "seed": texts.seed,
        "calibration": calibration.as_ref().map(|text| &text.origin),
        "held_out": held_out.as_ref().map(|text| &text.origin),
        "dtype": write_as.dtype(&first.model).name(),
        "weight_bytes": written.bytes,
        "blocks": joined.blocks,
        "figures": figures,
    });
    output.write_record(record)?;
    output.commit()?;
    if arguments.json {
        return show::json(&json!({ "written": arguments.output, "figures": figures, "blocks": joined.blocks }));
    }
    if !figures.is_empty() {
        show::print(&show::figures(&figures))?;
    }
    show::print(&format!("{}written: {}\n", summary(&joined), arguments.output.display()))
}

/// What both models write themselves, half each.
fn written_by_both(arguments: &Merge, first: &Bundle, second: &Bundle, work: Work<'_>) -> Result<Text> {
    let texts = &arguments.texts;
    let windows = texts.calibration_windows as usize;
    let of = |bundle: &Bundle, sequences: usize| {
        let amount = Amount { sequences, length: window(texts, bundle) };
        text(None, Purpose::Calibration, amount, texts.seed, bundle, work)
    };
    if windows < 2 {
        return of(first, windows);
    }
    let (mut own, other) = (of(first, windows.div_ceil(2))?, of(second, windows / 2)?);
    own.sequences.extend(other.sequences);
    own.origin = format!("{} ({}); {} ({})", own.origin, first.name, other.origin, second.name);
    Ok(own)
}

/// Both models, their average and what was written, on the same text.
fn figures(
    arguments: &Merge,
    [first, second]: [&Bundle; 2],
    output: &OutputDir,
    text: &Text,
    work: Work<'_>,
) -> Result<Vec<Figures>> {
    let result = Bundle::open(&output.temporary().display().to_string(), work)?;
    let entry = |label, role, bundle: &'_ Bundle| (label, role, Some(bundle.bytes));
    let average = match ENTRIES.iter().find(|entry| entry.card.name == BASELINE && arguments.method != BASELINE) {
        None => None,
        Some(method) => {
            let request = Request { method, settings: &Settings::default(), size: 1.0, calibration: &[] };
            Some(merge(&first.model, &second.model, &request, work)?.model)
        }
    };
    let mut measured = vec![
        (entry("first", Role::Dense, first), &first.model),
        (entry("second", Role::Baseline, second), &second.model),
    ];
    measured.extend(average.iter().map(|model| ((BASELINE, Role::Baseline, None), model)));
    measured.push((entry(&arguments.method, Role::Result, &result), &result.model));
    let entries: Vec<Entry<'_>> = measured
        .into_iter()
        .map(|((label, role, bytes), model)| Entry { label, role, model, bytes, as_stored: false })
        .collect();
    let context = window(&arguments.texts, first);
    let measures = Measures {
        text,
        context,
        stride: None,
        probes: None,
        speed: false,
        pack: PackAs::Exact,
        text_as_packed: false,
    };
    Ok(verify(&entries, &measures, work)?)
}

/// What was matched and what was left of the error, in one line; nothing for a method that looks at no text.
fn summary(joined: &Joined) -> String {
    let sum = |of: &dyn Fn(&pare_methods::merge::Info) -> Option<f64>| joined.blocks.iter().filter_map(of).sum::<f64>();
    let (before, after) = (sum(&|info| info.error_before), sum(&|info| info.error_after));
    if joined.blocks.iter().all(|info| info.error_before.is_none()) {
        return String::new();
    }
    let channels: usize = joined.blocks.iter().map(|info| info.moved_channels).sum();
    let groups: usize = joined.blocks.iter().map(|info| info.moved_groups).sum();
    let left = if before > 0.0 { format!("{:.1} %", 100.0 * after / before) } else { "nothing".to_owned() };
    format!(
        "matched across places: {channels} channels, {groups} KV groups; least squares left {left} of the aligned average's squared error\n"
    )
}
