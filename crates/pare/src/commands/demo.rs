//! `pare demo`: a real model, pared and proven, in minutes.

use super::inspect::table;
use super::shrink::carry_out;
use super::{Given, open, window};
use crate::cli::{Demo, Texts};
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::inspect::inspect;
use pare_engine::progress::Work;
use pare_engine::prove::{Job, bytes_to_write, facts};
use pare_engine::recipe::Recipe;
use pare_engine::write::WriteAs;
use pare_format::write::OutputDir;
use std::time::Instant;

const MODEL: &str = "smollm2-135m";
const RECIPE: &str = "slim";

pub(crate) fn run(arguments: &Demo, work: Work<'_>) -> Result<()> {
    let start = Instant::now();
    let step = |text: &str| show::remark(&format!("[{:>4.0} s] {text}", start.elapsed().as_secs_f64()));
    let texts = Texts {
        text: None,
        held_out: None,
        own_text: false,
        context: 512,
        calibration_windows: 32,
        windows: 16,
        seed: 0,
    };
    // The demo may replace what a demo wrote, and nothing else.
    let output = OutputDir::create(&arguments.output, true)?;

    step(&format!("fetching {MODEL}"));
    let bundle = open(MODEL, work)?;
    let recipe = Recipe::find(RECIPE).map_err(Error::from)?;
    output.require_room(bytes_to_write(&bundle.model, &recipe, recipe.keep, WriteAs::Auto, true))?;
    step("fetching text, and letting the model write some: to calibrate on, and other text to measure on");
    let mut given = Given::default();
    let calibration = given.calibration(&texts, &[&bundle], work)?;
    let verification = given.verification(&texts, Some(&calibration), &bundle, work)?;
    step("looking for redundancy");
    let found = inspect(&bundle.model, &calibration.sequences[..8.min(calibration.sequences.len())], work)?;
    if !arguments.json {
        show::print(&(table(&facts(&bundle), &found) + "\n"))?;
    }
    step(&format!(
        "shrinking by {RECIPE} ({}), then measuring what was written beside the dense model and the baselines",
        recipe.about
    ));
    let job = Job {
        bundle: &bundle,
        recipe: &recipe,
        keep: recipe.keep,
        calibration: &calibration,
        seed: texts.seed,
        write_as: WriteAs::Auto,
        resumable: false,
    };
    let context = window(&texts, &bundle);
    let report = carry_out(&job, output, Some(&verification), context, work)?;
    step("done");
    let Some(report) = report else { return Ok(()) };
    if arguments.json {
        return show::json(&serde_json::to_value(&report)?);
    }
    show::print(&show::figures(&report.figures))?;
    show::print(&show::samples(&report))?;
    show::print(&format!("\nwritten: {0}\nreport:  {0}/report.html\n", arguments.output.display()))
}
