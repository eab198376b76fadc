//! `pare eval`: figures of a model, alone or against another.

use super::{Given, Wanted, off_grid, open, sources};
use crate::cli::Eval;
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::probe::Series;
use pare_engine::progress::Work;
use pare_engine::report::Role;
use pare_engine::text::named;
use pare_engine::verify::{Entry, Measures, verify};
use serde_json::json;

pub(crate) fn run(arguments: &Eval, work: Work<'_>) -> Result<()> {
    let bundle = off_grid(open(&arguments.model, work)?, arguments.off_grid)?;
    let against = arguments.against.as_deref().map(|name| open(name, work)).transpose()?;
    let reference = against.as_ref().unwrap_or(&bundle);
    if reference.model.architecture.vocab != bundle.model.architecture.vocab {
        let (own, other) = (bundle.model.architecture.vocab, reference.model.architecture.vocab);
        let message = format!(
            "{} has {own} tokens and {} has {other}: their predictions cannot be compared",
            bundle.name, reference.name
        );
        return Err(Error::Refused(message).into());
    }
    let asked = &arguments.texts;
    let given = Given::read(asked, reference, Wanted { calibration: false, verification: true })?;
    // What a model wrote says nothing of that model: without a reference, which writes for all that are compared with it, it is fixed text.
    let texts = match (given.held_out.is_some(), &against) {
        (false, None) => vec![sources(asked, &[reference]).reference(asked.windows as usize, work)?],
        _ => given.verification(asked, None, reference, work)?,
    };
    let mut entries = Vec::new();
    if let Some(against) = &against {
        entries.push(Entry {
            label: "reference",
            role: Role::Dense,
            model: &against.model,
            bytes: Some(against.bytes),
            as_stored: false,
        });
    }
    let role = if against.is_some() { Role::Result } else { Role::Dense };
    entries.push(Entry {
        label: &arguments.model,
        role,
        model: &bundle.model,
        bytes: Some(bundle.bytes),
        as_stored: false,
    });
    let context = super::window(&arguments.texts, reference);
    let series = Series { tasks: arguments.probes, seed: arguments.texts.seed };
    let probes = (arguments.probes > 0).then_some((&bundle.tokenizer, series));
    let pack = arguments.weights.pack();
    let measures = Measures { texts: &texts, context, probes, speed: !arguments.no_speed, pack, text_as_packed: true };
    let figures = verify(&entries, &measures, work)?;
    if arguments.json {
        let Some(own) = figures.last() else { return Ok(()) };
        let mut value = serde_json::to_value(own)?;
        value["context"] = json!(context);
        value["text"] = json!(named(&texts));
        return show::json(&value);
    }
    let how = format!(
        "perplexity: windows of {context} tokens without overlap, natural-log mean over predicted tokens; {}\n",
        named(&texts)
    );
    show::print(&(show::figures(&figures) + &how))
}
