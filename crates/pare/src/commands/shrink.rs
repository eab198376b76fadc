//! `pare shrink`: remove, write, verify, report.

use super::{Given, Wanted, dated, memory, off_grid, open, window};
use crate::cli::Shrink;
use crate::show;
use anyhow::Result;
use pare_engine::bundle::Bundle;
use pare_engine::figures::Report;
use pare_engine::probe::{self, Series};
use pare_engine::progress::Work;
use pare_engine::prove::{Job, Proof, bytes_to_write, check, job_bytes, only_pare, prove, record, size_note};
use pare_engine::recipe::Recipe;
use pare_engine::report::html;
use pare_engine::shrink::job::JobDirectory;
use pare_engine::text::Named;
use pare_engine::write::{WriteAs, other_family};
use pare_engine::{Error, refuse_not_finite};
use pare_format::write::{OutputDir, refuse_inputs};
use serde_json::json;
use std::path::Path;

/// Tasks per probe that the report runs.
const PROBES: usize = 24;
/// Prompts that the dense and the pared model continue side by side.
pub(crate) const PROMPTS: [&str; 3] = [
    "What is the capital of France?",
    "Explain in two sentences why the sky is blue.",
    "Write a short story about a fox who finds a lantern.",
];

pub(crate) fn run(arguments: &Shrink, work: Work<'_>) -> Result<()> {
    // Everything that can be refused is refused before the first second of work.
    let recipe = Recipe::find(&arguments.recipe).map_err(Error::from)?;
    let keep = arguments.keep.unwrap_or(recipe.keep);
    let bundle = dated(off_grid(open(&arguments.model, work)?, arguments.off_grid)?, &arguments.texts);
    let write_as = WriteAs::find(&arguments.dtype).unwrap_or(WriteAs::Auto).of(&recipe, &bundle.model);
    check(&bundle, &recipe, keep, write_as)?;
    let texts = &arguments.texts;
    refuse_inputs(
        &arguments.output,
        [Some(&bundle.path), texts.text.as_ref(), texts.held_out.as_ref()].into_iter().flatten(),
    )?;
    write_as.check(&bundle.model, &recipe, work)?;
    let output = OutputDir::create(&arguments.output, arguments.force)?;
    require_room(&output, (&bundle, &recipe, keep), write_as, !arguments.no_verify)?;
    let notes = [
        other_family(&bundle.config, &recipe),
        only_pare(&recipe, bundle.config.family, write_as),
        size_note(&bundle, &recipe, keep, write_as),
    ];
    for note in notes.into_iter().flatten() {
        show::remark(&format!("note: {note}"));
    }
    let wanted = Wanted { calibration: true, verification: !arguments.no_verify };
    let mut given = Given::read(texts, &bundle, wanted)?;
    refuse_not_finite(&bundle, work)?;
    if !arguments.no_verify {
        probe::check(&bundle.tokenizer, Series { tasks: PROBES, seed: texts.seed })?;
    }
    let calibration = given.calibration(texts, &[&bundle], work)?;
    let verification = match arguments.no_verify {
        true => None,
        false => Some(given.verification(texts, Some(&calibration), &bundle, work)?),
    };
    let job = Job {
        bundle: &bundle,
        recipe: &recipe,
        keep,
        calibration: &calibration,
        seed: texts.seed,
        write_as,
        resumable: true,
    };
    let context = window(texts, &bundle);
    let report = carry_out(&job, output, verification.as_deref(), context, work)?;
    match (&report, arguments.json) {
        (Some(report), true) => show::json(&serde_json::to_value(report)?),
        (None, true) => show::json(&json!({ "written": arguments.output })),
        (Some(report), false) => {
            show::print(&show::figures(&report.figures))?;
            show::print(&format!("\nwritten: {0}\nreport:  {0}/report.html\n", arguments.output.display()))
        }
        (None, false) => show::print(&format!("written: {}\n", arguments.output.display())),
    }
}

/// Refuses a disk without room for the result, what is measured beside it, and the finished blocks that are kept until it is in place.
fn require_room(
    output: &OutputDir,
    (bundle, recipe, keep): (&Bundle, &Recipe, f64),
    write_as: WriteAs,
    with_proof: bool,
) -> Result<()> {
    // What an earlier run left there takes its room already.
    let there = JobDirectory::at(pare_engine::shrink::job::beside(output.target())).bytes();
    let blocks = job_bytes(&bundle.model, recipe, keep, write_as).saturating_sub(there);
    let written = bytes_to_write(&bundle.model, recipe, keep, write_as, with_proof);
    Ok(output.require_room(written.saturating_add(blocks))?)
}

/// Shrinks, writes, and, with a verification text, measures what was written. The directory appears whole, at the end.
pub(crate) fn carry_out(
    job: &Job<'_>,
    output: OutputDir,
    verification: Option<&[Named]>,
    context: usize,
    work: Work<'_>,
) -> Result<Option<Report>> {
    let made = job.run(&output, work)?;
    for note in &made.shrunk.notes {
        show::remark(&format!("note: {note}"));
    }
    let report = match verification {
        None => None,
        Some(verification) => {
            let weigh = |path: &Path| memory::of(path, work.pool.threads());
            let proof = Proof {
                verification,
                context,
                probes: PROBES,
                prompts: &PROMPTS,
                continuation: 64,
                speed: true,
                weigh: Some(&weigh),
            };
            Some(prove(job, &made, output.temporary(), &proof, work)?)
        }
    };
    if let Some(report) = &report {
        output.write("report.html", html(report)?.as_bytes())?;
    }
    output.write_record(record(job, &made, report.as_ref()))?;
    let finished = JobDirectory::at(pare_engine::shrink::job::beside(output.target()));
    output.commit()?;
    // The result is in place: nothing is left to go on with.
    finished.remove()?;
    Ok(report)
}
