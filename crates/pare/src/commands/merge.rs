//! `pare merge`: two models of one architecture into one, beside both and their plain average.

use super::{Given, Wanted, dated, open, window};
use crate::cli::Merge;
use crate::show;
use anyhow::Result;
use pare_engine::as_read::AsRead;
use pare_engine::bundle::Bundle;
use pare_engine::figures::{Figures, Role};
use pare_engine::fingerprint::fingerprint;
use pare_engine::merging::{Joined, Request, check, merge};
use pare_engine::progress::Work;
use pare_engine::split::Split;
use pare_engine::text::{Named, Text, named};
use pare_engine::verify::{Entry, MeasureOptions, verify};
use pare_engine::write::{WriteAs, write_directory};
use pare_engine::{Error, refuse_not_finite};
use pare_format::write::{OutputDir, refuse_inputs};
use pare_methods::merge::{ENTRIES, Entry as Method, find};
use pare_methods::settings::Settings;
use serde_json::json;

/// What every merge is measured beside.
const BASELINE: &str = "average";

pub(crate) fn run(arguments: &Merge, work: Work<'_>) -> Result<()> {
    let asked = arguments.method.as_deref().map(find).transpose().map_err(Error::from)?;
    if asked.is_none() && arguments.no_verify {
        return Err(Error::Refused(
            "--no-verify: without figures nothing says which method wins; name the one to write with --method"
                .to_owned(),
        )
        .into());
    }
    let (first, second) = (dated(open(&arguments.first, work)?, &arguments.texts), open(&arguments.second, work)?);
    if let Some(remark) = check(&first, &second, arguments.size)? {
        show::remark(&format!("warning: {remark}"));
    }
    let settings = Settings::default();
    let serves = |entry: &Method| (entry.build)(&settings).and_then(|method| method.check(arguments.size));
    let methods: Vec<&Method> = match asked {
        Some(method) => vec![method],
        None => ENTRIES.iter().filter(|entry| serves(entry).is_ok()).collect(),
    };
    methods.iter().try_for_each(|method| serves(method)).map_err(Error::from)?;
    let texts = &arguments.texts;
    let inputs = [Some(&first.path), Some(&second.path), texts.text.as_ref(), texts.held_out.as_ref()];
    refuse_inputs(&arguments.output, inputs.into_iter().flatten())?;
    let write_as = match WriteAs::find(&arguments.dtype).unwrap_or(WriteAs::Auto) {
        WriteAs::Auto if AsRead::of(&first.model).is_some() => WriteAs::AsRead,
        other => other,
    };
    let output = OutputDir::create(&arguments.output, arguments.force)?;
    output.require_room((first.model.parameters().total as f64 * arguments.size * 4.0) as u64)?;

    let chooses = methods.len() > 1;
    let calibrated = chooses || methods.iter().any(|method| !method.card.needs.is_empty());
    let wanted = Wanted { calibration: calibrated, verification: !arguments.no_verify };
    let mut given = Given::read(texts, &first, wanted)?;
    refuse_not_finite(&first, work)?;
    refuse_not_finite(&second, work)?;
    let calibration = match (given.calibration.take(), wanted.calibration) {
        (None, true) => Some(given.calibration(texts, &[&first, &second], work)?),
        (given, _) => given,
    };
    let held_out = match wanted.verification {
        true => Some(given.verification(texts, calibration.as_ref(), &first, work)?),
        false => None,
    };
    let sequences = calibration.as_ref().map_or(&[][..], |text| &text.sequences);
    // What wins is chosen on a part of the text that no method saw, and figures are of a third text.
    let (fit, select) = match chooses {
        true => Split::of(sequences).map(|split| (split.fit, split.select))?,
        false => (sequences.to_vec(), Vec::new()),
    };
    let mut merges = Vec::with_capacity(methods.len());
    for &method in &methods {
        let request = Request { method, settings: &settings, size: arguments.size, calibration: &fit };
        let mut joined = merge(&first.model, &second.model, &request, work)?;
        // What is compared is what will be written.
        if let Some(form) = write_as.form(&first.model) {
            form.round_nearest(&mut joined.model, work)?;
        }
        merges.push((method.card.name, joined));
    }
    let best = match chooses {
        true => {
            let text = Text { sequences: select, origin: "the part of the calibration text for choices".to_owned() };
            lowest(&merges, &[Named { name: "choices".to_owned(), text }], window(texts, &first), work)?
        }
        false => 0,
    };
    let (method, joined) = merges.swap_remove(best);
    let written = write_directory(&output, &first, &joined.model, write_as, work)?;
    let figures = match &held_out {
        None => Vec::new(),
        Some(text) => figures(arguments, [&first, &second], &merges, (method, &output), text, work)?,
    };
    let verdict = verdict(&figures, asked.is_some());
    let of_both = [&first, &second].map(|one| json!({ "model": one.name, "fingerprint": fingerprint(&one.model) }));
    let record = json!({
        "merged": of_both,
        "method": method,
        "verdict": verdict,
        "size": arguments.size,
        "seed": texts.seed,
        "calibration": calibration.as_ref().map(|text| &text.origin),
        "held_out": held_out.as_deref().map(named),
        "dtype": if write_as.is_own() { write_as.name() } else { write_as.dtype(&first.model).name() },
        "weight_bytes": written.bytes,
        "blocks": joined.blocks,
        "figures": figures,
    });
    output.write_record(record)?;
    output.commit()?;
    if arguments.json {
        return show::json(&json!({
            "written": arguments.output,
            "method": method,
            "verdict": verdict,
            "figures": figures,
            "blocks": joined.blocks,
        }));
    }
    if !figures.is_empty() {
        show::print(&show::figures(&figures))?;
    }
    let verdict = verdict.map_or(String::new(), |verdict| format!("{verdict}\n"));
    show::print(&format!("{}{verdict}written: {}\n", summary(&joined), arguments.output.display()))
}

/// Which of the merges has the lowest perplexity on the text; of equal ones the first.
fn lowest(merges: &[(&'static str, Joined)], text: &[Named], context: usize, work: Work<'_>) -> Result<usize> {
    let entries: Vec<Entry<'_>> = merges
        .iter()
        .map(|(label, joined)| Entry {
            label,
            role: Role::Result,
            model: &joined.model,
            bytes: None,
            as_stored: false,
            speed_only: false,
        })
        .collect();
    let figures = verify(&entries, &MeasureOptions::of_text(text, context), work)?;
    let perplexity = |at: &usize| figures.get(*at).map_or(f64::INFINITY, perplexity);
    Ok((0..merges.len()).min_by(|a, b| perplexity(a).total_cmp(&perplexity(b))).unwrap_or(0))
}

fn perplexity(figures: &Figures) -> f64 {
    figures.perplexity.filter(|value| value.is_finite()).unwrap_or(f64::INFINITY)
}

/// Which merge has the lowest perplexity, whether it is the one that was written, and whether a model that went in is better still.
fn verdict(figures: &[Figures], asked: bool) -> Option<String> {
    let least = |figures: &mut dyn Iterator<Item = &Figures>| -> Option<(String, f64)> {
        figures.map(|one| (one.label.clone(), perplexity(one))).min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let written = figures.iter().find(|one| one.role == Role::Result)?;
    let (mut parents, mut others) =
        (figures.iter().take(2), figures.iter().skip(2).filter(|one| one.role != Role::Result));
    let (parent, of_parent) = least(&mut parents)?;
    let of_written = perplexity(written);
    let (name, mut best) = (&written.label, of_written);
    let mut said = match least(&mut others) {
        None => format!("{name} was measured alone"),
        Some((other, of_other)) if of_other < of_written => {
            best = of_other;
            let how = if asked {
                format!("--method {other} writes it")
            } else {
                format!("--method {other} --size 1 writes it")
            };
            format!("{other} would have won: perplexity {of_other:.3}, {name} {of_written:.3}; {how}")
        }
        Some((other, of_other)) => format!("{name} won: perplexity {of_written:.3}, {other} {of_other:.3}"),
    };
    if of_parent < best {
        said += &format!("; the {parent} model alone has {of_parent:.3}: on this text nothing was gained");
    }
    Some(said)
}

/// Both models, the merges that were not written, the average always among them, and what was written, on the same text.
fn figures(
    arguments: &Merge,
    [first, second]: [&Bundle; 2],
    others: &[(&'static str, Joined)],
    (method, output): (&str, &OutputDir),
    held_out: &[Named],
    work: Work<'_>,
) -> Result<Vec<Figures>> {
    let result = Bundle::open(&output.temporary().display().to_string(), work)?;
    let there = |name: &str| method == name || others.iter().any(|(other, _)| *other == name);
    let average = match ENTRIES.iter().find(|entry| entry.card.name == BASELINE && !there(BASELINE)) {
        None => None,
        Some(method) => {
            let request = Request { method, settings: &Settings::default(), size: 1.0, calibration: &[] };
            Some(merge(&first.model, &second.model, &request, work)?.model)
        }
    };
    let mut measured = vec![
        ("first", Role::Dense, Some(first.bytes), &first.model),
        ("second", Role::Baseline, Some(second.bytes), &second.model),
    ];
    measured.extend(average.iter().map(|model| (BASELINE, Role::Baseline, None, model)));
    measured.extend(others.iter().map(|(name, joined)| (*name, Role::Baseline, None, &joined.model)));
    measured.push((method, Role::Result, Some(result.bytes), &result.model));
    let entries: Vec<Entry<'_>> = measured
        .into_iter()
        .map(|(label, role, bytes, model)| Entry { label, role, model, bytes, as_stored: false, speed_only: false })
        .collect();
    Ok(verify(&entries, &MeasureOptions::of_text(held_out, window(&arguments.texts, first)), work)?)
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
