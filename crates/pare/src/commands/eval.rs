//! `pare eval`: figures of a model, alone or against another.

use super::{Given, Wanted, dated, held_out, memory, off_grid, open, sources};
use crate::cli::Eval;
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::bundle::Bundle;
use pare_engine::figures::Role;
use pare_engine::probe::Series;
use pare_engine::progress::Work;
use pare_engine::tasks::{self, Accuracy, Outcome};
use pare_engine::text::{Text, named};
use pare_engine::verify::{Entry, MeasureOptions, verify};
use pare_methods::metric::Estimate;
use pare_model::model::PackAs;
use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn run(arguments: &Eval, work: Work<'_>) -> Result<()> {
    let bundle = dated(off_grid(open(&arguments.model, work)?, arguments.off_grid)?, &arguments.texts);
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
    let context = super::window(&arguments.texts, reference);
    let stride = arguments.stride.map(|stride| stride as usize);
    if let Some(stride) = stride.filter(|&stride| stride > context) {
        let message = format!("--stride {stride}: longer than the windows of {context} tokens would leave tokens out");
        return Err(Error::Refused(message).into());
    }
    let tasks = arguments.tasks.as_deref().map(|file| Tasks::read(file, &bundle, against.as_ref())).transpose()?;
    let asked = &arguments.texts;
    // What a model wrote says nothing of that model: without a reference, which writes for all that are compared with it, it is fixed text.
    let texts = match (&asked.held_out, &against) {
        (Some(file), _) if arguments.whole_text => vec![held_out(asked, Text::whole_file(file, reference)?)],
        (None, None) => vec![sources(asked, &[reference]).reference(asked.windows as usize, work)?],
        _ => {
            let given = Given::read(asked, reference, Wanted { calibration: false, verification: true })?;
            given.verification(asked, None, reference, work)?
        }
    };
    let mut entries = Vec::new();
    if let Some(against) = &against {
        entries.push(Entry {
            label: "reference",
            role: Role::Dense,
            model: &against.model,
            bytes: Some(against.bytes),
            as_stored: false,
            speed_only: false,
        });
    }
    let role = if against.is_some() { Role::Result } else { Role::Dense };
    entries.push(Entry {
        label: &arguments.model,
        role,
        model: &bundle.model,
        bytes: Some(bundle.bytes),
        as_stored: false,
        speed_only: false,
    });
    let series = Series { tasks: arguments.probes, seed: arguments.texts.seed };
    let probes = (arguments.probes > 0).then_some((&bundle.tokenizer, series));
    let pack = arguments.weights.pack();
    let measures = MeasureOptions {
        texts: &texts,
        context,
        stride,
        probes,
        speed: !arguments.no_speed,
        pack,
        text_as_packed: true,
    };
    let mut figures = verify(&entries, &measures, work)?;
    // Memory is measured in a process of its own, which runs what is stored.
    if !arguments.no_speed && pack == PackAs::Stored {
        let paths = against.iter().chain([&bundle]).map(|bundle| &bundle.path);
        for (figures, path) in figures.iter_mut().zip(paths) {
            figures.peak_memory_bytes = memory::of(path, work.pool.threads());
        }
    }
    let answered = tasks.map(|tasks| tasks.answer(arguments, work)).transpose()?;
    if arguments.json {
        let Some(own) = figures.last() else { return Ok(()) };
        let mut value = serde_json::to_value(own)?;
        value["context"] = json!(context);
        if let Some(stride) = stride {
            value["stride"] = json!(stride);
        }
        value["text"] = json!(named(&texts));
        if let Some(answered) = &answered {
            value["tasks"] = answered.json()?;
        }
        return show::json(&value);
    }
    let windows = stride.map_or("without overlap".to_owned(), |stride| format!("every {stride} tokens"));
    let how = format!(
        "perplexity: windows of {context} tokens {windows}, natural-log mean over predicted tokens; {}\n",
        named(&texts)
    );
    let answered = answered.map_or(String::new(), |answered| answered.table());
    show::print(&(show::figures(&figures) + &answered + &how))
}

/// Tasks in the tokens of the model, and of the one that it is compared with.
struct Tasks<'a> {
    file: &'a Path,
    models: Vec<(&'a Bundle, Vec<tasks::Encoded>)>,
}

/// What each model answered, the reference first where there is one.
struct Answered<'a> {
    file: &'a Path,
    outcomes: Vec<Vec<Outcome>>,
}

impl<'a> Tasks<'a> {
    fn read(file: &'a Path, bundle: &'a Bundle, against: Option<&'a Bundle>) -> Result<Self> {
        let tasks = tasks::read(file)?;
        let models = against.into_iter().chain([bundle]);
        let models = models.map(|bundle| Ok((bundle, tasks::encode(&tasks, bundle)?))).collect::<Result<_, Error>>()?;
        Ok(Self { file, models })
    }

    fn answer(self, arguments: &Eval, work: Work<'_>) -> Result<Answered<'a>, Error> {
        let answer = |(bundle, tasks): &(&Bundle, Vec<tasks::Encoded>)| {
            let packed = bundle.model.packed(arguments.weights.pack(), work.pool);
            tasks::run(&packed, bundle, tasks, work)
        };
        Ok(Answered { file: self.file, outcomes: self.models.iter().map(answer).collect::<Result<_, Error>>()? })
    }
}

impl Answered<'_> {
    /// Accuracy of each model; of the last one beside that of the first.
    fn accuracies(&self) -> Vec<Accuracy> {
        let reference = |index: usize| (index > 0).then(|| self.outcomes[0].as_slice());
        self.outcomes.iter().enumerate().map(|(index, own)| Accuracy::of(own, reference(index))).collect()
    }

    fn json(&self) -> Result<Value> {
        let Some((own, accuracy)) = self.outcomes.last().zip(self.accuracies().pop()) else { return Ok(Value::Null) };
        let mut value = serde_json::to_value(accuracy)?;
        value["file"] = json!(self.file.display().to_string());
        value["outcomes"] = serde_json::to_value(own)?;
        Ok(value)
    }

    fn table(&self) -> String {
        let estimate = |value: Option<Estimate>, sign: bool| {
            let Some(Estimate { mean, standard_error }) = value else { return "-".to_owned() };
            let error = standard_error.map_or(String::new(), |error| format!(" ± {:.1}", 100.0 * error));
            if sign { format!("{:+.1}{error} points", 100.0 * mean) } else { format!("{:.1}{error} %", 100.0 * mean) }
        };
        let accuracies = self.accuracies();
        let mut rows = Vec::new();
        let mut row = |name: &str, sign: bool, value: &dyn Fn(&Accuracy) -> Option<Estimate>| {
            if accuracies.iter().any(|accuracy| value(accuracy).is_some()) {
                let cells = accuracies.iter().map(|accuracy| estimate(value(accuracy), sign));
                rows.push(std::iter::once(name.to_owned()).chain(cells).collect::<Vec<String>>());
            }
        };
        row("tasks: accuracy", false, &|own| own.accuracy);
        row("  less the reference's", true, &|own| own.difference);
        row("  per character", false, &|own| own.accuracy_per_character);
        row("  less the reference's", true, &|own| own.difference_per_character);
        let count = accuracies.first().map_or(0, |own| own.tasks);
        format!("{}tasks: {count} of {}; ± is one standard error\n", show::table(&rows), self.file.display())
    }
}
