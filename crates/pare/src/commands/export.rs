//! `pare export`: a model as one GGUF file.

use super::{Given, Wanted, off_grid, open, window};
use crate::cli::Export as Arguments;
use crate::show;
use anyhow::Result;
use pare_engine::bundle::Bundle;
use pare_engine::export::mixed::{self, Losses, QuantiseOptions, Types};
use pare_engine::export::{Export, Target, Written};
use pare_engine::figures::Role;
use pare_engine::progress::Work;
use pare_engine::split::Split;
use pare_engine::text::{Named, Text, named};
use pare_engine::verify::{Entry, MeasureOptions, verify};
use pare_engine::{Error, refuse_not_finite};
use pare_format::imatrix::Imatrix;
use pare_format::write::{NewFile, refuse_inputs};
use pare_model::model::Model;
use serde_json::json;
use std::path::Path;

/// The name of the target that is no single type.
const MIXED: &str = "mixed";

pub(crate) fn run(arguments: &Arguments, work: Work<'_>) -> Result<()> {
    if arguments.gguf == MIXED {
        return run_mixed(arguments, work);
    }
    let Some(target) = Target::find(&arguments.gguf) else {
        let known = Target::names().chain([MIXED]).collect::<Vec<_>>().join(", ");
        return Err(refused(format!("--gguf {}: no such type; there are {known}", arguments.gguf)));
    };
    if arguments.bytes.is_some() {
        return Err(refused(format!(
            "--bytes: a file of {} has the size that it has; --gguf mixed chooses types that fit",
            arguments.gguf
        )));
    }
    let Some(path) = arguments.output.as_deref().filter(|_| !arguments.print_plan) else {
        return Err(refused(format!("--print-plan: {} is no choice; --gguf mixed makes one", arguments.gguf)));
    };
    if !arguments.gptq && arguments.texts.text.is_some() {
        return Err(refused("--text: nothing is calibrated; --gptq chooses codes on a text".to_owned()));
    }
    if arguments.texts.held_out.is_some() {
        return Err(refused(format!(
            "--held-out: nothing is measured with --gguf {}; pare eval FILE --against MODEL does it",
            arguments.gguf
        )));
    }
    let imatrix = arguments.imatrix.as_ref().map(Imatrix::open).transpose()?;
    let bundle = off_grid(open(&arguments.model, work)?, arguments.off_grid)?;
    let inputs = [Some(&bundle.path), arguments.texts.text.as_ref(), arguments.imatrix.as_ref()];
    refuse_inputs(path, inputs.into_iter().flatten())?;
    let written = if arguments.gptq {
        let types = mixed::types_of(&bundle, target)?;
        remark(&mixed::notes(&bundle));
        let file = NewFile::create(path, arguments.force)?;
        file.require_room(Export::plan(&bundle, target)?.bytes()?)?;
        refuse_not_finite(&bundle, work)?;
        let wanted = Wanted { calibration: true, verification: false };
        let text = Given::read(&arguments.texts, &bundle, wanted)?.calibration(&arguments.texts, &[&bundle], work)?;
        quantise(bundle, &types, &text, file, work)?
    } else {
        let mut export = Export::plan(&bundle, target)?;
        if let Some((file, imatrix)) = arguments.imatrix.as_ref().zip(imatrix.as_ref()) {
            export.weigh(file, imatrix, target)?;
        }
        remark(export.notes());
        let file = NewFile::create(path, arguments.force)?;
        file.require_room(export.bytes()?)?;
        export.write(file, work)?
    };
    match arguments.json {
        true => show::json(&serde_json::to_value(written)?),
        false => show::print(&said(path, &written)),
    }
}

fn run_mixed(arguments: &Arguments, work: Work<'_>) -> Result<()> {
    if arguments.imatrix.is_some() {
        return Err(refused("--imatrix: --gguf mixed measures losses on text, which --text gives".to_owned()));
    }
    let Some(bytes) = &arguments.bytes else {
        return Err(refused("--gguf mixed: no size; say how large the file may be, as in --bytes 91MB".to_owned()));
    };
    let budget = size(bytes)?;
    let texts = &arguments.texts;
    let bundle = off_grid(open(&arguments.model, work)?, arguments.off_grid)?;
    let inputs = [Some(&bundle.path), texts.text.as_ref(), texts.held_out.as_ref()];
    if let Some(path) = &arguments.output {
        refuse_inputs(path, inputs.into_iter().flatten())?;
    }
    let range = mixed::range(&bundle)?;
    if budget < range.least {
        return Err(refused(format!(
            "--bytes {bytes}: {budget} bytes are too few; this model takes {} to {} bytes",
            range.least, range.most
        )));
    }
    let output = arguments.output.as_deref().map(|path| {
        let file = NewFile::create(path, arguments.force)?;
        file.require_room(budget.min(range.most))?;
        Ok::<_, Error>((path, file))
    });
    let output = output.transpose()?;
    if budget >= range.most {
        show::remark(&format!(
            "note: with --bytes {bytes} every matrix stays as it was read, which takes {} bytes and loses nothing",
            range.most
        ));
        let Some((path, file)) = output else { return plan(&Types::as_read(&bundle.model)) };
        let written = Export::as_stored(&bundle)?.write(file, work)?;
        return report(arguments, path, &written, None, 0.0);
    }
    remark(&mixed::notes(&bundle));
    let measures = output.is_some() && !arguments.no_verify;
    let mut given = Given::read(texts, &bundle, Wanted { calibration: true, verification: measures })?;
    refuse_not_finite(&bundle, work)?;
    let text = given.calibration(texts, &[&bundle], work)?;
    let held_out = match measures {
        true => Some(given.verification(texts, Some(&text), &bundle, work)?),
        false => None,
    };
    // Codes are chosen on one part of the text, types by what they lose on the other.
    let Split { fit, select } = Split::of(&text.sequences)?;
    let part = |sequences, origin| Text { sequences, origin };
    let chooses = format!("the part of {} that chose the types", text.origin);
    let (text, select) = (part(fit, text.origin.clone()), part(select, chooses));
    let losses = Losses::measure(&bundle.model, &text, &select, work)?;
    let Some(choice) = losses.choose(&bundle.model, range, budget) else {
        return Err(refused(format!("--bytes {bytes}: no choice of types fits; please report this")));
    };
    let Some((path, file)) = output else { return plan(&choice.types) };
    let (reference, context) = (bundle.model.clone(), window(texts, &bundle));
    let written = quantise(bundle, &choice.types, &text, file, work)?;
    let Some(mut texts) = held_out else { return report(arguments, path, &written, None, choice.nats) };
    // First on the text that chose the types: do losses add up? Then on the others: does the choice carry over?
    texts.insert(0, Named { name: "selection".to_owned(), text: select });
    let measured = measured(path, &reference, &texts, context, work)?;
    report(arguments, path, &written, Some((&measured[..], &texts[..])), choice.nats)?;
    let Some((&on_selection, on_held_out)) = measured.split_first() else { return Ok(()) };
    mixed::compare(path, choice.nats, on_selection, &texts[0].text.origin)?;
    for (named, &nats) in texts[1..].iter().zip(on_held_out) {
        mixed::compare(path, on_selection, nats, &named.text.origin)?;
    }
    Ok(())
}

fn remark(notes: &[String]) {
    notes.iter().for_each(|note| show::remark(&format!("note: {note}")));
}

/// The file with these types; what is written of a matrix are the very codes that were chosen.
fn quantise(bundle: Bundle, types: &Types, text: &Text, file: NewFile, work: Work<'_>) -> Result<Written> {
    let bundle = mixed::quantise(bundle, types, &QuantiseOptions::default(), text, work)?;
    Ok(Export::as_stored(&bundle)?.write(file, work)?)
}

/// The divergence of the file from the model that it was made of on each text, in nats: the file is read back.
fn measured(path: &Path, reference: &Model, texts: &[Named], context: usize, work: Work<'_>) -> Result<Vec<f64>> {
    let written = Bundle::open(&path.display().to_string(), work)?;
    let entry = |label, role, model| Entry { label, role, model, bytes: None, as_stored: false, speed_only: false };
    let entries = [entry("dense", Role::Dense, reference), entry("written", Role::Result, &written.model)];
    let figures = verify(&entries, &MeasureOptions::of_text(texts, context), work)?;
    let texts = figures.get(1).map_or(&[][..], |figures| &figures.texts);
    Ok(texts.iter().map(|text| text.kl_mean.unwrap_or(f64::NAN)).collect())
}

/// The choice as arguments for llama-quantize.
fn plan(types: &Types) -> Result<()> {
    show::print(&format!("{}\n", types.for_llama_quantize().join("\n")))
}

/// What was written, what it was predicted to lose, and what it loses on which text.
fn report(
    arguments: &Arguments,
    path: &Path,
    written: &Written,
    measured: Option<(&[f64], &[Named])>,
    predicted: f64,
) -> Result<()> {
    if arguments.json {
        let mut value = serde_json::to_value(written)?;
        value["predicted_kl"] = json!(predicted);
        value["measured_kl"] = json!(measured.and_then(|(nats, _)| nats.last()));
        // The first text chose the types; the others are held out.
        value["selection_kl"] = json!(measured.and_then(|(nats, _)| nats.first()));
        let each = measured.map(|(nats, texts)| -> Vec<serde_json::Value> {
            let each = texts.iter().zip(nats).skip(1);
            each.map(|(text, nats)| json!({ "name": text.name, "measured_kl": nats })).collect()
        });
        value["texts"] = json!(each);
        value["held_out"] = json!(measured.map(|(_, texts)| named(texts.get(1..).unwrap_or_default())));
        return show::json(&value);
    }
    let loss = match measured {
        Some((nats, texts)) => {
            let each = nats.iter().zip(texts).map(|(nats, text)| format!("{nats:.4} measured on {}", text.text.origin));
            format!("mean divergence, nats: {predicted:.4} predicted, {}\n", each.collect::<Vec<_>>().join(", "))
        }
        None if predicted == 0.0 => String::new(),
        None => format!("mean divergence, nats: {predicted:.4} predicted, not measured\n"),
    };
    show::print(&format!("{}{loss}", said(path, written)))
}

fn said(path: &Path, written: &Written) -> String {
    let types: Vec<String> = written.tensors.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let (file, size, architecture) = (path.display(), written.bytes, written.architecture);
    format!("written: {file}, {size} bytes, architecture {architecture}, {}\n", types.join(", "))
}

fn refused(why: String) -> anyhow::Error {
    Error::Refused(why).into()
}

/// Bytes of a size such as `91MB`, `87.5MiB` or `91000000`.
fn size(text: &str) -> Result<u64> {
    const UNITS: [(&str, f64); 7] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("B", 1.0),
    ];
    let found = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = found.unwrap_or((text, 1.0));
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match number.trim().parse::<f64>() {
        Ok(number) if digits && number > 0.0 && number * factor < 1e15 => Ok((number * factor) as u64),
        _ => Err(refused(format!("--bytes {text}: not a size; expected a number, as in 91MB, 87MiB or 91000000"))),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        for (text, bytes) in [("91MB", 91_000_000), ("91000000", 91_000_000), ("1.5KiB", 1536), ("2GB", 2_000_000_000)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "MB", "-1MB", "1e9", "inf", "91 MB x", "0"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
