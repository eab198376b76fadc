//! `pare demo`: a real model, pared and proven, in minutes.

use super::inspect::table;
use super::shrink::carry_out;
use super::{Given, open, window};
use crate::cli::{Demo, Texts};
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::figures::{Figures, Report};
use pare_engine::inspect::inspect;
use pare_engine::progress::Work;
use pare_engine::prove::{AS_READ, Job, PLAIN_BITS, bytes_to_write, facts};
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
        date: None,
    };
    // The demo may replace what a demo wrote, and nothing else.
    let output = OutputDir::create(&arguments.output, true)?;

    step(&format!("fetching {MODEL}"));
    let bundle = open(MODEL, work)?;
    let recipe = Recipe::find(RECIPE).map_err(Error::from)?;
    let write_as = WriteAs::Auto.of(&recipe, &bundle.model);
    output.require_room(bytes_to_write(&bundle.model, &recipe, recipe.keep, write_as, true))?;
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
        "shrinking by {RECIPE} ({}), a demonstration of cuts; then measuring what was written beside the file that was read, the dense \
         model, the baselines, and plain bits of the same size",
        recipe.about
    ));
    let job = Job {
        bundle: &bundle,
        recipe: &recipe,
        keep: recipe.keep,
        calibration: &calibration,
        seed: texts.seed,
        write_as,
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
    show::print(&verdict(&report))?;
    show::print(&show::samples(&report))?;
    show::print(&format!("\nwritten: {0}\nreport:  {0}/report.html\n", arguments.output.display()))
}

/// What the table says, in words: cuts beside bits.
fn verdict(report: &Report) -> String {
    let of = |label: &str| report.figures.iter().find(|figures| figures.label == label);
    let (Some(read), Some(result), Some(plain)) = (of(AS_READ), of(RECIPE), of(PLAIN_BITS)) else {
        return String::new();
    };
    let mega = |figures: &Figures| figures.bytes.map_or(f64::NAN, |bytes| bytes as f64 / 1e6);
    let faster = result.decode_tok_s.zip(read.decode_tok_s).map_or(f64::NAN, |(own, read)| own / read);
    let kl = |figures: &Figures| figures.kl_mean.unwrap_or(f64::NAN);
    format!(
        "\nThis demonstrates cuts. {RECIPE} makes of the {:.1} MB that were read {:.1} MB that decode {faster:.2} times as fast, at a KL of \
         {:.3}; the same model with nothing cut and every matrix rounded to fewer bits has {:.3} at {:.1} MB. Bits are cheaper than cuts:\n\
         for the best file of a size alone, `pare export {MODEL} --gguf mixed --bytes 91MB -o FILE.gguf`.\n",
        mega(read),
        mega(result),
        kl(result),
        kl(plain),
        mega(plain),
    )
}
