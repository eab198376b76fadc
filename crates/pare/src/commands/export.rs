//! `pare export`: a model as one GGUF file.

use super::{limited, off_grid, open, text};
use crate::cli::Export as Arguments;
use crate::show;
use anyhow::Result;
use pare_engine::bundle::Bundle;
use pare_engine::export::mixed::{self, Losses, Manner, Types};
use pare_engine::export::{Export, Target, Written};
use pare_engine::progress::Work;
use pare_engine::text::{Amount, Purpose, Text};
use pare_engine::{Error, refuse_not_finite};
use pare_format::write::{NewFile, refuse_inputs};

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
    if !arguments.gptq && arguments.text.is_some() {
        return Err(refused("--text: nothing is calibrated; --gptq chooses codes on a text".to_owned()));
    }
    let bundle = off_grid(open(&arguments.model, work)?, arguments.off_grid)?;
    refuse_inputs(&arguments.output, [Some(&bundle.path), arguments.text.as_ref()].into_iter().flatten())?;
    if arguments.gptq {
        let types = mixed::types_of(&bundle, target)?;
        let file = NewFile::create(&arguments.output, arguments.force)?;
        let text = calibration(arguments, &bundle, work)?;
        return quantise(arguments, bundle, &types, &text, file, work);
    }
    let file = NewFile::create(&arguments.output, arguments.force)?;
    let export = Export::plan(&bundle, target)?;
    file.require_room(export.bytes()?)?;
    for note in export.notes() {
        show::remark(&format!("note: {note}"));
    }
    let written = export.write(file, work)?;
    say(arguments, &written)
}

fn run_mixed(arguments: &Arguments, work: Work<'_>) -> Result<()> {
    let Some(bytes) = &arguments.bytes else {
        return Err(refused("--gguf mixed: no size; say how large the file may be, as in --bytes 91MB".to_owned()));
    };
    let budget = size(bytes)?;
    let bundle = off_grid(open(&arguments.model, work)?, arguments.off_grid)?;
    refuse_inputs(&arguments.output, [Some(&bundle.path), arguments.text.as_ref()].into_iter().flatten())?;
    let range = mixed::range(&bundle)?;
    if budget < range.least {
        return Err(refused(format!(
            "--bytes {bytes}: {budget} bytes are too few; this model takes {} to {} bytes",
            range.least, range.most
        )));
    }
    if budget > range.most {
        show::remark(&format!("note: --bytes {bytes} is more than the {} bytes that the model can take", range.most));
    }
    let file = NewFile::create(&arguments.output, arguments.force)?;
    file.require_room(budget.min(range.most))?;
    let text = calibration(arguments, &bundle, work)?;
    let losses = Losses::measure(&bundle.model, &text, work)?;
    let Some(choice) = losses.choose(&bundle.model, range, budget) else {
        return Err(refused(format!("--bytes {bytes}: no choice of types fits; please report this")));
    };
    quantise(arguments, bundle, &choice.types, &text, file, work)
}

fn quantise(
    arguments: &Arguments,
    bundle: Bundle,
    types: &Types,
    text: &Text,
    file: NewFile,
    work: Work<'_>,
) -> Result<()> {
    let bundle = mixed::quantise(bundle, types, &Manner::default(), text, work)?;
    let written = Export::as_stored(&bundle)?.write(file, work)?;
    say(arguments, &written)
}

/// The text to calibrate on, for a model whose numbers are finite.
fn calibration(arguments: &Arguments, bundle: &Bundle, work: Work<'_>) -> Result<Text> {
    refuse_not_finite(bundle, work)?;
    let length = limited(arguments.context, bundle);
    let amount = Amount { sequences: arguments.calibration_windows as usize, length };
    text(arguments.text.as_deref(), Purpose::Calibration, amount, arguments.seed, bundle, work)
}

fn say(arguments: &Arguments, written: &Written) -> Result<()> {
    if arguments.json {
        return show::json(&serde_json::to_value(written)?);
    }
    let types: Vec<String> = written.tensors.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let (file, size) = (arguments.output.display(), written.bytes);
    show::print(&format!(
        "written: {file}, {size} bytes, architecture {}, {}\n",
        written.architecture,
        types.join(", ")
    ))
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
