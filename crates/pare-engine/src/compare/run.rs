//! The run: what is known is looked up, the rest is measured entry by entry and kept at once.

use super::cache::{Folder, Found, Key, tokens};
use super::entry::{Comparison, Entry, Fronts, Measured, Outcome};
use super::front::{Point, front};
use super::steps::{Clock, Step};
use super::{AS_READ, BASELINES, DENSE, Done, Request, in_blocks, measure, storage};
use crate::fingerprint::fingerprint;
use crate::progress::Work;
use crate::prove::{about_as_read, check, facts};
use crate::recipe::Recipe;
use crate::text::{Named, named};
use crate::write::WriteAs;
use crate::{Error, is_bad_file};
use pare_format::{FormatError, FormatErrorKind};
use serde_json::{Value, json};

/// Rounds on a quiet machine differ by less than this factor.
const BUSY: f64 = 1.25;

/// Compares. What is measured is kept at once, entry by entry.
///
/// # Errors
/// A folder that cannot be used; the disk; a held-out text that is too short; the user stops it. What a recipe cannot reach or a method
/// refuses is an entry that says so.
pub fn run(request: &Request<'_>, work: Work<'_>) -> Result<Done, Error> {
    let mut run = Run {
        request,
        folder: Folder::open(request.folder)?,
        shared: shared(request, work.pool.threads()),
        clock: Clock::default(),
        computed: 0,
        found: 0,
        spoilt: Vec::new(),
    };
    let dense_key = run.key(None);
    let mut planned = Vec::new();
    for recipe in request.recipes {
        for &keep in request.keeps {
            planned.push(run.look_up(recipe, keep));
        }
    }
    let mut left = planned.iter().filter(|planned| planned.entry.is_none()).count();
    // The dense model is the first entry.
    let count = planned.len() + 1;
    let [dense, as_read] = {
        let step = Step::new(work.progress, (1, count), "dense", None);
        run.dense(&dense_key, Work { progress: &step, ..work })?
    };
    let mut entries = Vec::with_capacity(planned.len());
    for (index, Planned { recipe, keep, key, entry }) in planned.into_iter().enumerate() {
        work.interrupt.check()?;
        entries.push(match entry {
            Some(entry) => entry,
            None => {
                let name = format!("{} {keep}", recipe.name);
                let step = Step::new(work.progress, (index + 2, count), &name, run.clock.left(left));
                left -= 1;
                run.compute((recipe, keep), &key, Work { progress: &step, ..work })?
            }
        });
    }
    let comparison = Comparison {
        pare: env!("CARGO_PKG_VERSION").to_owned(),
        model: facts(request.bundle),
        keeps: request.keeps.to_vec(),
        fronts: fronts([&dense, &as_read], &entries),
        conditions: conditions(request, work.pool.threads()),
        notes: notes(request, &entries),
        dense,
        as_read,
        entries,
    };
    Ok(Done { comparison, computed: run.computed, found: run.found, spoilt: run.spoilt })
}

/// One recipe at one keep, with what is known of it.
struct Planned<'a> {
    recipe: &'a Recipe,
    keep: f64,
    key: Key,
    entry: Option<Entry>,
}

struct Run<'a> {
    request: &'a Request<'a>,
    folder: Folder,
    /// What every entry depends on.
    shared: Value,
    clock: Clock,
    computed: usize,
    found: usize,
    spoilt: Vec<String>,
}

fn shared(request: &Request<'_>, threads: usize) -> Value {
    let model = &request.bundle.model;
    let text = |named: &Named| json!({ "name": named.name, "tokens": tokens(&named.text.sequences) });
    let texts: Vec<Value> = request.verification.iter().map(text).collect();
    // Speeds depend on the number of threads; nothing else does.
    let speed = [measure::PROMPT, measure::DECODED, measure::ROUNDS, threads];
    json!({
        "model": fingerprint(model),
        "bytes": request.bundle.bytes,
        "dtype": WriteAs::Auto.dtype(model).name(),
        "calibration": tokens(&request.calibration.sequences),
        "verification": texts,
        "seed": request.seed,
        "context": request.context,
        "probes": request.probes,
        "speed": request.speed.then_some(speed),
    })
}

impl<'a> Run<'a> {
    fn key(&self, pared: Option<(&Recipe, f64)>) -> Key {
        let mut made_from = self.shared.clone();
        let Some((recipe, keep)) = pared else { return Key::new(made_from, "dense") };
        made_from["recipe"] = json!(recipe);
        made_from["keep"] = json!(keep);
        made_from["storage"] = json!(storage(recipe, in_blocks(self.request)).name());
        Key::new(made_from, &format!("{}-{keep}", recipe.name))
    }

    fn load(&mut self, key: &Key) -> Option<Outcome> {
        match self.folder.load(key) {
            Found::Nothing => None,
            Found::Outcome(outcome) => Some(outcome),
            Found::Spoilt(why) => {
                self.spoilt.push(why);
                None
            }
        }
    }

    /// The dense model, and the model as it was read: one entry.
    fn dense(&mut self, key: &Key, work: Work<'_>) -> Result<[Measured; 2], Error> {
        let mut made_from = self.shared.clone();
        made_from["as"] = json!(AS_READ);
        let key_of_read = Key::new(made_from, "as-read");
        let found = [self.load(key), self.load(&key_of_read)];
        if let [Some(Outcome::Measured(dense)), Some(Outcome::Measured(as_read))] = found {
            self.found += 1;
            return Ok([dense, as_read]);
        }
        let measured = measure::dense(self.request, &self.folder, key, work)?;
        self.computed += 1;
        for (key, measured) in [key, &key_of_read].into_iter().zip(&measured) {
            self.folder.store(key, &Outcome::Measured(measured.clone()))?;
        }
        Ok(measured)
    }

    /// What is known before the work: that it cannot be, or what an earlier run measured.
    fn look_up(&mut self, recipe: &'a Recipe, keep: f64) -> Planned<'a> {
        let key = self.key(Some((recipe, keep)));
        let outcome = match check(self.request.bundle, recipe, keep, storage(recipe, in_blocks(self.request))) {
            Err(error) => Some(Outcome::NotApplicable { why: reason(&error) }),
            Ok(()) => self.load(&key).filter(|outcome| {
                let wanted = self.request.keep_models && matches!(outcome, Outcome::Measured(_));
                !wanted || self.folder.model(&key).is_dir()
            }),
        };
        let entry = outcome.map(|outcome| entry(recipe, keep, outcome));
        if let Some(entry) = entry.as_ref().filter(|entry| !matches!(entry.outcome, Outcome::NotApplicable { .. })) {
            self.found += 1;
            self.clock.found(entry);
        }
        Planned { recipe, keep, key, entry }
    }

    fn compute(&mut self, (recipe, keep): (&Recipe, f64), key: &Key, work: Work<'_>) -> Result<Entry, Error> {
        let made = measure::pared(self.request, recipe, keep, (&self.folder, key), work);
        let outcome = match made {
            Ok(measured) => Outcome::Measured(measured),
            Err(error) => match refusal(error)? {
                Outcome::Failed { why } => Outcome::Failed { why: self.folder.without_path(&why, key) },
                other => other,
            },
        };
        self.computed += 1;
        self.folder.store(key, &outcome)?;
        let entry = entry(recipe, keep, outcome);
        self.clock.measured(&entry);
        Ok(entry)
    }
}

fn entry(recipe: &Recipe, keep: f64, outcome: Outcome) -> Entry {
    Entry {
        recipe: recipe.name.clone(),
        about: recipe.about.clone(),
        source: recipe.source.clone(),
        baseline: BASELINES.contains(&recipe.name.as_str()),
        keep,
        outcome,
    }
}

/// What an error says of the entry alone; an error when it ends the run.
fn refusal(error: Error) -> Result<Outcome, Error> {
    match error {
        Error::Keep { .. } => Ok(Outcome::NotApplicable { why: reason(&error) }),
        Error::Interrupted(_) | Error::Io { .. } | Error::Recipe | Error::Peer { .. } | Error::Text(_) => Err(error),
        // A value that the written type cannot hold is the recipe's doing; what the system refuses is not.
        Error::Format(format) if !is_bad_file(&format) || is_system(&format) => Err(Error::Format(format)),
        other => Ok(Outcome::Failed { why: reason(&other) }),
    }
}

/// Whether the fault is in the files around the run, and may be gone tomorrow.
fn is_system(error: &FormatError) -> bool {
    matches!(
        error.kind,
        FormatErrorKind::Io(_)
            | FormatErrorKind::Write(_)
            | FormatErrorKind::Locked { .. }
            | FormatErrorKind::Exists
            | FormatErrorKind::NotOurs { .. }
    )
}

/// The error without the option that the entry itself names.
fn reason(error: &Error) -> String {
    match error {
        Error::Keep { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

fn fronts([dense, as_read]: [&Measured; 2], entries: &[Entry]) -> Fronts {
    let before = [(AS_READ.to_owned(), as_read), (DENSE.to_owned(), dense)];
    let pared = entries.iter().filter_map(|entry| Some((entry.name(), entry.measured()?)));
    let measured: Vec<(String, &Measured)> = before.into_iter().chain(pared).collect();
    let names = |cost: &dyn Fn(&Measured) -> f64| -> Vec<String> {
        let points: Vec<Point> =
            measured.iter().map(|(_, figures)| Point { cost: cost(figures), loss: figures.kl_mean }).collect();
        front(&points).into_iter().map(|index| measured[index].0.clone()).collect()
    };
    let speed = names(&|figures| figures.comparable_tok_s(dense).map_or(f64::NAN, |rate| -rate));
    Fronts { bytes: names(&|figures| figures.bytes as f64), speed }
}

fn conditions(request: &Request<'_>, threads: usize) -> Vec<(String, String)> {
    let line = |name: &str, value: String| (name.to_owned(), value);
    let speed = match request.speed {
        false => "not measured".to_owned(),
        true => format!(
            "{} tokens decoded after {}, greedily, medians of {} rounds in which the dense model takes turns; {threads} threads",
            measure::DECODED,
            measure::PROMPT,
            measure::ROUNDS
        ),
    };
    let probes = match request.probes {
        0 => "not run".to_owned(),
        tasks => format!("{tasks} tasks of each kind, 3 solved examples before each"),
    };
    vec![
        line("pare", env!("CARGO_PKG_VERSION").to_owned()),
        line("calibration text", request.calibration.origin.clone()),
        line("held-out text", named(request.verification)),
        line(
            "perplexity",
            format!(
                "windows of {} tokens without overlap; exp of the mean natural-log loss over every token but a window's first",
                request.context
            ),
        ),
        line("divergence", "KL from the dense model, in nats, at the same positions".to_owned()),
        line("probes", probes),
        line("speed", speed),
        line("time", "from the first observation to the last repair, without writing and measuring".to_owned()),
        line("memory", "most resident memory of the process while the artefact was made and written".to_owned()),
        line("seed", request.seed.to_string()),
    ]
}

fn notes(request: &Request<'_>, entries: &[Entry]) -> Vec<String> {
    let bundle = request.bundle;
    let mut notes = bundle.warnings.clone();
    notes.push(about_as_read(bundle, &WriteAs::Auto.dtype(&bundle.model).name().to_lowercase()));
    let measured = || entries.iter().filter_map(Entry::measured);
    if measured().any(|figures| !figures.perplexity.is_finite() || !figures.kl_mean.is_finite()) {
        notes.push("A model gave numbers that are not finite: its figures say so, and it is on no plot.".to_owned());
    }
    let restless =
        |figures: &&Measured| figures.speed.is_some_and(|speed| speed.over_dense.max > BUSY * speed.over_dense.min);
    let (restless, all) = (measured().filter(restless).count(), measured().count());
    if restless > 0 {
        notes.push(format!(
            "Speeds say little: beside the dense model, {restless} of {all} entries were more than {BUSY} times as fast in one round as in another. Something else was running."
        ));
    }
    if measured().any(|figures| figures.cost.peak_memory_bytes.is_some() && !figures.cost.peak_is_own) {
        let why = "The system does not let the peak of the memory begin anew: it is that of the run until then.";
        notes.push(why.to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::measured;
    use super::*;

    #[test]
    fn the_model_before_is_on_the_front_and_a_mask_of_its_bytes_is_not() {
        let of = |name: &str, figures: Measured| Entry {
            recipe: name.to_owned(),
            about: String::new(),
            source: String::new(),
            baseline: false,
            keep: 0.8,
            outcome: Outcome::Measured(figures),
        };
        let entries = [of("wanda", measured(0.05, 269, 1.0)), of("slim", measured(0.4, 226, 1.25))];
        let dense = measured(0.0, 269, 1.0);
        // A file that was f16 is the dense model.
        let found = fronts([&dense, &dense], &entries);
        assert_eq!(found.bytes, ["slim 0.8", "as read", "dense"]);
        // A file in blocks is smaller and faster than all of them.
        let found = fronts([&dense, &measured(0.0, 98, 2.3)], &entries);
        assert_eq!((found.bytes, found.speed), (vec!["as read".to_owned()], vec!["as read".to_owned()]));
        let entries = [of("slim", measured(0.4, 83, 2.6))];
        assert_eq!(fronts([&dense, &measured(0.0, 98, 2.3)], &entries).bytes, ["slim 0.8", "as read"]);
    }
}
