//! One file per command, and what they share.

mod bench;
mod compare;
mod demo;
mod eval;
mod export;
mod fit;
mod imatrix;
mod inspect;
mod logits;
mod memory;
mod merge;
mod methods;
mod pull;
mod run;
mod shrink;

use crate::cli::{Command, Texts, USUAL_CONTEXT};
use crate::show;
use anyhow::Result;
use pare_engine::bundle::Bundle;
use pare_engine::progress::Work;
use pare_engine::text::{Amount, Found, Named, Sources, Text};
use std::path::{Path, PathBuf};
use std::sync::Once;

pub(crate) fn run(command: Command, quiet: bool, work: Work<'_>) -> Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, work),
        Command::Inspect(arguments) => inspect::run(&arguments, work),
        Command::Shrink(arguments) => shrink::run(&arguments, work),
        Command::Compare(arguments) => compare::run(&arguments, work),
        Command::Eval(arguments) => eval::run(&arguments, work),
        Command::Merge(arguments) => merge::run(&arguments, work),
        Command::Export(arguments) => export::run(&arguments, work),
        Command::Imatrix(arguments) => imatrix::run(&arguments, work),
        Command::Run(arguments) => run::run(&arguments, quiet, work),
        Command::Fit(arguments) => fit::run(&arguments, work),
        Command::Bench(arguments) => bench::run(&arguments, work),
        Command::Methods(arguments) => methods::run(&arguments),
        Command::Memory { model } => memory::run(&model, work),
        Command::Pull(arguments) => pull::run(&arguments, work),
        Command::Logits(arguments) => logits::run(&arguments, work),
    }
}

/// Opens a model and passes its warnings on.
fn open(name: &str, work: Work<'_>) -> Result<Bundle> {
    let bundle = Bundle::open(name, work)?;
    for warning in &bundle.warnings {
        show::remark(&format!("warning: {name}: {warning}"));
    }
    Ok(bundle)
}

/// The model in other weights that compute the same, when there is a seed.
fn off_grid(bundle: Bundle, seed: Option<u64>) -> Result<Bundle> {
    match seed {
        Some(seed) => Ok(bundle.off_grid(seed)?),
        None => Ok(bundle),
    }
}

/// The model on the day that chat templates are to see, when one is given.
fn dated(bundle: Bundle, texts: &Texts) -> Bundle {
    let date = texts.date.unwrap_or(bundle.tokenizer.date());
    Bundle { tokenizer: bundle.tokenizer.with_date(date), ..bundle }
}

/// Which texts a command needs.
#[derive(Clone, Copy)]
struct Wanted {
    calibration: bool,
    verification: bool,
}

/// The texts that are files, read first: what is wrong with them is said before the model writes any.
#[derive(Default)]
struct Given {
    calibration: Option<Text>,
    held_out: Option<Text>,
}

impl Given {
    fn read(texts: &Texts, bundle: &Bundle, wanted: Wanted) -> Result<Self> {
        let read = |file: &Option<PathBuf>, windows: u32, wanted: bool| {
            let amount = Amount { sequences: windows as usize, length: window(texts, bundle) };
            let file = file.as_deref().filter(|_| wanted);
            file.map(|file| Text::from_file(file, &bundle.tokenizer, amount)).transpose()
        };
        let calibration = read(&texts.text, texts.calibration_windows, wanted.calibration)?;
        let held_out = read(&texts.held_out, texts.windows, wanted.verification)?;
        if let (Some(calibration), Some(held_out)) = (&calibration, &held_out) {
            calibration.refuse_overlap(held_out, &bundle.tokenizer)?;
        }
        Ok(Self { calibration, held_out })
    }

    /// The text to calibrate on; when none was given, one that is apart from the one to verify on.
    fn calibration(&mut self, texts: &Texts, authors: &[&Bundle], work: Work<'_>) -> Result<Text> {
        if let Some(text) = self.calibration.take() {
            return Ok(text);
        }
        let apart: Vec<&Text> = self.held_out.iter().collect();
        let windows = texts.calibration_windows as usize;
        Ok(told(sources(texts, authors).calibration(windows, &apart, work)?))
    }

    /// The texts to verify on; when none was given, some that are apart from `calibration`.
    fn verification(
        self,
        texts: &Texts,
        calibration: Option<&Text>,
        bundle: &Bundle,
        work: Work<'_>,
    ) -> Result<Vec<Named>> {
        if let Some(text) = self.held_out {
            return Ok(vec![held_out(texts, text)]);
        }
        let apart: Vec<&Text> = calibration.into_iter().collect();
        Ok(told(sources(texts, &[bundle]).verification(texts.windows as usize, &apart, work)?))
    }
}

/// A text of the user, by the name of its file.
fn held_out(texts: &Texts, text: Text) -> Named {
    let file = texts.held_out.as_deref().and_then(Path::file_name).unwrap_or_default();
    Named { name: file.to_string_lossy().into_owned(), text }
}

/// What is read and written where the user gives no text.
fn sources<'a>(texts: &Texts, authors: &'a [&'a Bundle]) -> Sources<'a> {
    let length = authors.iter().map(|author| window(texts, author)).min().unwrap_or(texts.context as usize);
    Sources { authors, length, seed: texts.seed, own_alone: texts.own_text }
}

/// A text, once its notes were passed on.
fn told<T>(found: Found<T>) -> T {
    for note in &found.notes {
        show::remark(&format!("note: {note}"));
    }
    found.found
}

/// Tokens per window: what was asked with `--context`, or the model's whole context when that is shorter: then with a note, given once.
fn window(texts: &Texts, bundle: &Bundle) -> usize {
    let context = texts.context;
    static SAID: Once = Once::new();
    let most = bundle.model.architecture.context;
    if context as usize > most && context != USUAL_CONTEXT {
        let name = &bundle.name;
        SAID.call_once(|| {
            show::remark(&format!("note: --context {context}: the context of {name} is {most}; using that"))
        });
    }
    (context as usize).min(most)
}
