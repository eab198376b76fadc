//! The run: what is known is looked up, the rest is measured entry by entry and kept at once.

use super::cache::{Folder, Found, Key, tokens};
use super::entry::{Comparison, Entry, Fronts, ModelEntry, ModelFigures, Outcome, PlainEntry};
use super::front::{Point, front};
use super::steps::{Clock, Step};
use super::{AS_READ, BASELINES, DENSE, Done, GivenModel, PLAIN_BITS, Recipes, Request, in_blocks, measure, storage};
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
/// Sizes within this factor are nearly the same.
const NEARLY: f64 = 1.01;

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
        corrupt: Vec::new(),
    };
    let dense_key = run.key(None);
    let given: Vec<(&GivenModel, Key, Option<ModelFigures>)> =
        request.models.iter().map(|model| run.look_up_model(model)).collect();
    let mut planned = Vec::new();
    if let Some(recipes) = &request.recipes {
        for recipe in recipes.list {
            for &keep in recipes.keeps {
                planned.push(run.look_up(recipes, recipe, keep));
            }
        }
    }
    let mut left = planned.iter().filter(|planned| planned.entry.is_none()).count();
    left += given.iter().filter(|(_, _, known)| known.is_none()).count();
    // The dense model is the first entry.
    let count = 1 + given.len() + planned.len();
    let [dense, as_read] = {
        let step = Step::new(work.progress, (1, count), "dense", None);
        run.dense(&dense_key, Work { progress: &step, ..work })?
    };
    let mut number = 1;
    let mut step = |name: &str, known: bool, clock: &Clock| {
        number += 1;
        let step = Step::new(work.progress, (number, count), name, clock.left(left));
        left -= usize::from(!known);
        step
    };
    let mut models = Vec::with_capacity(given.len());
    for (model, key, known) in given {
        work.interrupt.check()?;
        let step = step(&model.name, known.is_some(), &run.clock);
        let figures = match known {
            Some(figures) => figures,
            None => run.measure(model, &key, &as_read, Work { progress: &step, ..work })?,
        };
        let (name, path) = (model.name.clone(), model.bundle.path.display().to_string());
        models.push(ModelEntry { name, path, figures });
    }
    let mut entries = Vec::with_capacity(planned.len());
    for Planned { recipes, recipe, keep, key, entry } in planned {
        work.interrupt.check()?;
        let step = step(&format!("{} {keep}", recipe.name), entry.is_some(), &run.clock);
        entries.push(match entry {
            Some(entry) => entry,
            None => run.compute((recipes, recipe, keep), &key, Work { progress: &step, ..work })?,
        });
    }
    let keeps = request.recipes.map_or(Vec::new(), |recipes| recipes.keeps.to_vec());
    let unbeaten = fronts([&dense, &as_read], &models, &[], &entries).bytes;
    let sizes = sizes(&unbeaten, &keeps, &entries, as_read.bytes.min(dense.bytes));
    let mut notes = notes(request, &models, &entries);
    let mut plain_bits: Vec<PlainEntry> = Vec::new();
    for (index, &bytes) in sizes.iter().enumerate() {
        work.interrupt.check()?;
        let name = plain_name(bytes);
        let step = Step::new(work.progress, (count + 1 + index, count + sizes.len()), &name, None);
        let figures = match run.plain_bits(bytes, Work { progress: &step, ..work })? {
            Outcome::Measured(figures) => *figures,
            Outcome::NotApplicable { why } | Outcome::Failed { why } => {
                notes.push(format!("There is no {name}: {why}."));
                continue;
            }
        };
        let (name, least) = (plain_name(figures.bytes), figures.bytes > bytes);
        plain_bits.push(PlainEntry { name, figures });
        // Nothing smaller can be said in plain types.
        if least {
            break;
        }
    }
    plain_bits.dedup_by_key(|entry| entry.figures.bytes);
    let comparison = Comparison {
        pare: env!("CARGO_PKG_VERSION").to_owned(),
        model: facts(request.bundle),
        keeps,
        fronts: fronts([&dense, &as_read], &models, &plain_bits, &entries),
        conditions: conditions(request, work.pool.threads()),
        notes,
        dense,
        as_read,
        models,
        plain_bits,
        entries,
    };
    Ok(Done { comparison, computed: run.computed, found: run.found, corrupt: run.corrupt })
}

/// One recipe at one keep, with what is known of it.
struct Planned<'a> {
    recipes: &'a Recipes<'a>,
    recipe: &'a Recipe,
    keep: f64,
    key: Key,
    entry: Option<Entry>,
}

struct Run<'a> {
    request: &'a Request<'a>,
    folder: Folder,
    /// What every entry depends on; what is made of the model also on the calibration text.
    shared: Value,
    clock: Clock,
    computed: usize,
    found: usize,
    corrupt: Vec<String>,
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
        "verification": texts,
        "seed": request.seed,
        "context": request.context,
        "probes": request.probes,
        "speed": request.speed.then_some(speed),
    })
}

impl<'a> Run<'a> {
    fn key(&self, pared: Option<(&Recipes<'_>, &Recipe, f64)>) -> Key {
        let mut made_from = self.shared.clone();
        let Some((recipes, recipe, keep)) = pared else { return Key::new(made_from, "dense") };
        made_from["calibration"] = json!(tokens(&recipes.calibration.sequences));
        made_from["recipe"] = json!(recipe);
        made_from["keep"] = json!(keep);
        made_from["storage"] = json!(storage(recipe, in_blocks(self.request)).name());
        Key::new(made_from, &format!("{}-{keep}", recipe.name))
    }

    fn load(&mut self, key: &Key) -> Option<Outcome> {
        match self.folder.load(key) {
            Found::Nothing => None,
            Found::Outcome(outcome) => Some(outcome),
            Found::Corrupt(why) => {
                self.corrupt.push(why);
                None
            }
        }
    }

    /// The dense model, and the model as it was read: one entry.
    fn dense(&mut self, key: &Key, work: Work<'_>) -> Result<[ModelFigures; 2], Error> {
        let mut made_from = self.shared.clone();
        made_from["as"] = json!(AS_READ);
        let key_of_read = Key::new(made_from, "as-read");
        let found = [self.load(key), self.load(&key_of_read)];
        if let [Some(Outcome::Measured(dense)), Some(Outcome::Measured(as_read))] = found {
            self.found += 1;
            return Ok([*dense, *as_read]);
        }
        let measured = measure::dense(self.request, &self.folder, key, work)?;
        self.computed += 1;
        for (key, measured) in [key, &key_of_read].into_iter().zip(&measured) {
            self.folder.store(key, &Outcome::Measured(Box::new(measured.clone())))?;
        }
        Ok(measured)
    }

    /// What an earlier run measured of a model that is there already.
    fn look_up_model(&mut self, model: &'a GivenModel) -> (&'a GivenModel, Key, Option<ModelFigures>) {
        let mut made_from = self.shared.clone();
        made_from["other"] = json!({ "model": fingerprint(&model.bundle.model), "bytes": model.bundle.bytes });
        // The same model under another name is the same entry.
        let key = Key::new(made_from, "model");
        let known = match self.load(&key) {
            Some(Outcome::Measured(figures)) => Some(*figures),
            _ => None,
        };
        if let Some(figures) = &known {
            self.found += 1;
            self.clock.found(Some(figures));
        }
        (model, key, known)
    }

    fn measure(
        &mut self,
        model: &GivenModel,
        key: &Key,
        as_read: &ModelFigures,
        work: Work<'_>,
    ) -> Result<ModelFigures, Error> {
        let figures = match is_reference(self.request, model) {
            // One and the same model: it has the figures of the row above, and the bytes of its own files.
            true => ModelFigures { bytes: model.bundle.bytes, kept: None, ..as_read.clone() },
            false => measure::given(self.request, model, work)?,
        };
        self.computed += 1;
        self.folder.store(key, &Outcome::Measured(Box::new(figures.clone())))?;
        self.clock.measured(Some(&figures));
        Ok(figures)
    }

    /// What is known before the work: that it cannot be, or what an earlier run measured.
    fn look_up(&mut self, recipes: &'a Recipes<'a>, recipe: &'a Recipe, keep: f64) -> Planned<'a> {
        let key = self.key(Some((recipes, recipe, keep)));
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
            self.clock.found(entry.measured());
        }
        Planned { recipes, recipe, keep, key, entry }
    }

    /// The dense model in fewer bits, within `bytes`.
    fn plain_bits(&mut self, bytes: u64, work: Work<'_>) -> Result<Outcome, Error> {
        let mut made_from = self.shared.clone();
        made_from[PLAIN_BITS] = json!(bytes);
        let key = Key::new(made_from, &format!("plain-bits-{bytes}"));
        let there = !self.request.keep_models || self.folder.model(&key).is_dir();
        if let Some(outcome) = self.load(&key).filter(|_| there) {
            self.found += 1;
            return Ok(outcome);
        }
        let outcome = match measure::rounded(self.request, bytes, (&self.folder, &key), work) {
            Ok(measured) => Outcome::Measured(Box::new(measured)),
            Err(error) => refusal(error)?,
        };
        self.computed += 1;
        self.folder.store(&key, &outcome)?;
        Ok(outcome)
    }

    fn compute(
        &mut self,
        (recipes, recipe, keep): (&Recipes<'_>, &Recipe, f64),
        key: &Key,
        work: Work<'_>,
    ) -> Result<Entry, Error> {
        let made = measure::pared(self.request, (recipes, recipe, keep), (&self.folder, key), work);
        let outcome = match made {
            Ok(measured) => Outcome::Measured(Box::new(measured)),
            Err(error) => match refusal(error)? {
                Outcome::Failed { why } => Outcome::Failed { why: self.folder.without_path(&why, key) },
                other => other,
            },
        };
        self.computed += 1;
        self.folder.store(key, &outcome)?;
        let entry = entry(recipe, keep, outcome);
        self.clock.measured(entry.measured());
        Ok(entry)
    }
}

/// As in `plain bits 83.1 MB`.
fn plain_name(bytes: u64) -> String {
    let mega = bytes as f64 / 1e6;
    if mega < 10.0 { format!("{PLAIN_BITS} {mega:.3} MB") } else { format!("{PLAIN_BITS} {mega:.1} MB") }
}

/// The sizes at which the dense model in fewer bits must stand beside the recipes: those of recipes that are `unbeaten` without it, and
/// of the one that loses least at each keep among what is smaller than it was `before`. What one of the first beats, its plain bits beat too.
/// The largest first; of sizes that are nearly the same the smallest stands for all.
fn sizes(unbeaten: &[String], keeps: &[f64], entries: &[Entry], before: u64) -> Vec<u64> {
    let named = |entry: &&Entry| unbeaten.contains(&entry.name());
    let on_front = entries.iter().filter(named).filter_map(Entry::measured);
    let least = keeps.iter().filter_map(|&keep| {
        let of_keep = entries.iter().filter(|entry| entry.keep == keep).filter_map(Entry::measured);
        of_keep.filter(|own| own.bytes < before).min_by(|a, b| a.kl_mean.total_cmp(&b.kl_mean))
    });
    let mut all: Vec<u64> = on_front.chain(least).map(|figures| figures.bytes).collect();
    all.sort_unstable();
    all.dedup_by(|larger, smallest| *larger as f64 <= *smallest as f64 * NEARLY);
    all.reverse();
    all
}

/// Whether a model holds the very numbers of the reference, in the same storage.
fn is_reference(request: &Request<'_>, model: &GivenModel) -> bool {
    !request.bundle.rewritten && fingerprint(&model.bundle.model) == fingerprint(&request.bundle.model)
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

fn fronts(
    [dense, as_read]: [&ModelFigures; 2],
    models: &[ModelEntry],
    plain_bits: &[PlainEntry],
    entries: &[Entry],
) -> Fronts {
    let before = [(AS_READ.to_owned(), as_read), (DENSE.to_owned(), dense)];
    let given = models.iter().map(|model| (model.name.clone(), &model.figures));
    let plain = plain_bits.iter().map(|entry| (entry.name.clone(), &entry.figures));
    let pared = entries.iter().filter_map(|entry| Some((entry.name(), entry.measured()?)));
    let measured: Vec<(String, &ModelFigures)> = before.into_iter().chain(given).chain(plain).chain(pared).collect();
    let names = |cost: &dyn Fn(&ModelFigures) -> f64| -> Vec<String> {
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
            "a prompt of {} tokens, then {} decoded greedily, medians of {} rounds in which the dense model takes turns; {threads} threads",
            measure::PROMPT,
            measure::DECODED,
            measure::ROUNDS
        ),
    };
    let memory = match request.speed {
        false => "not measured".to_owned(),
        true => format!(
            "most memory of a process with the model alone, at a context of {} tokens",
            crate::bench::MEMORY_CONTEXT
        ),
    };
    let probes = match request.probes {
        0 => "not run".to_owned(),
        tasks => format!("{tasks} tasks of each kind, 3 solved examples before each"),
    };
    let mut lines = vec![line("pare", env!("CARGO_PKG_VERSION").to_owned())];
    lines.extend(request.recipes.map(|recipes| line("calibration text", recipes.calibration.origin.clone())));
    lines.extend([
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
        line("memory", memory),
    ]);
    if request.recipes.is_some() {
        let plain = "the dense model with nothing cut, every matrix rounded to the nearest, in the types that lose least within the bytes of \
                     a recipe: of each that is otherwise unbeaten, and of the one that loses least at each keep";
        lines.push(line(PLAIN_BITS, plain.to_owned()));
        lines.push(line(
            "time of making",
            "from the first observation to the last repair, without writing and measuring".to_owned(),
        ));
        let peak = "most resident memory of the process while the artefact was made and written";
        lines.push(line("memory of making", peak.to_owned()));
    }
    lines.push(line("seed", request.seed.to_string()));
    lines
}

fn notes(request: &Request<'_>, models: &[ModelEntry], entries: &[Entry]) -> Vec<String> {
    let bundle = request.bundle;
    let mut notes = bundle.warnings.clone();
    notes.push(about_as_read(bundle, &WriteAs::Auto.dtype(&bundle.model).name().to_lowercase()));
    for (model, shown) in request.models.iter().zip(models) {
        if is_reference(request, model) {
            let name = &shown.name;
            notes.push(format!("{name} holds the very numbers of the reference: its figures are those of {AS_READ}."));
        }
        notes.extend(model.bundle.warnings.iter().map(|warning| format!("{}: {warning}", shown.name)));
    }
    let measured = || models.iter().map(|model| &model.figures).chain(entries.iter().filter_map(Entry::measured));
    if measured().any(|figures| !figures.perplexity.is_finite() || !figures.kl_mean.is_finite()) {
        notes.push("A model gave numbers that are not finite: its figures say so, and it is on no plot.".to_owned());
    }
    let restless =
        |figures: &&ModelFigures| figures.speed.is_some_and(|speed| speed.over_dense.max > BUSY * speed.over_dense.min);
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

    fn of(name: &str, figures: ModelFigures) -> Entry {
        Entry {
            recipe: name.to_owned(),
            about: String::new(),
            source: String::new(),
            baseline: false,
            keep: 0.8,
            outcome: Outcome::Measured(Box::new(figures)),
        }
    }

    #[test]
    fn a_recipe_that_plain_bits_of_its_size_beat_is_not_unbeaten() {
        let (dense, as_read) = (measured(0.0, 269, 1.0), measured(0.0, 98, 2.3));
        // Beaten by slim; on the front; twice nearly the size of another; as large as what was read.
        let entries = [
            of("random", measured(2.0, 85, 2.5)),
            of("slim", measured(0.4, 83, 2.6)),
            of("flap", measured(0.3, 97, 2.4)),
            of("wanda", measured(0.1, 98, 2.3)),
            of("shortgpt", measured(0.9, 60, 3.5)),
        ];
        let before = fronts([&dense, &as_read], &[], &[], &entries);
        assert_eq!(before.bytes, ["shortgpt 0.8", "slim 0.8", "flap 0.8", "as read"]);
        assert_eq!(sizes(&before.bytes, &[0.8], &entries, 98), [97, 83, 60]);
        assert_eq!(
            sizes(&[], &[0.8, 0.5], &entries, 98),
            [97],
            "what loses least has plain bits beside it all the same"
        );
        assert_eq!(sizes(&[], &[0.8], &entries, 50), [0; 0]);
        let near = [of("slim", measured(0.4, 8_300, 2.6)), of("flap", measured(0.3, 8_350, 2.4))];
        assert_eq!(sizes(&["slim 0.8".to_owned(), "flap 0.8".to_owned()], &[], &near, 9_000), [8_300]);

        let plain = |kl_mean, bytes| PlainEntry { name: plain_name(bytes), figures: measured(kl_mean, bytes, 2.5) };
        let plain = [plain(0.1, 96), plain(0.3, 82), plain(1.5, 60)];
        let found = fronts([&dense, &as_read], &[], &plain, &entries);
        assert_eq!(found.bytes, ["shortgpt 0.8", plain[1].name.as_str(), plain[0].name.as_str(), "as read"]);
        assert_eq!(
            (plain_name(83_060_000), plain_name(83_060)),
            ("plain bits 83.1 MB".into(), "plain bits 0.083 MB".into())
        );
    }

    #[test]
    fn the_model_before_is_on_the_front_and_a_mask_of_its_bytes_is_not() {
        let entries = [of("wanda", measured(0.05, 269, 1.0)), of("slim", measured(0.4, 226, 1.25))];
        let dense = measured(0.0, 269, 1.0);
        // A file that was f16 is the dense model.
        let found = fronts([&dense, &dense], &[], &[], &entries);
        assert_eq!(found.bytes, ["slim 0.8", "as read", "dense"]);
        // A file in blocks is smaller and faster than all of them.
        let found = fronts([&dense, &measured(0.0, 98, 2.3)], &[], &[], &entries);
        assert_eq!((found.bytes, found.speed), (vec!["as read".to_owned()], vec!["as read".to_owned()]));
        let entries = [of("slim", measured(0.4, 83, 2.6))];
        assert_eq!(fronts([&dense, &measured(0.0, 98, 2.3)], &[], &[], &entries).bytes, ["slim 0.8", "as read"]);
        // A model that was given stands among them.
        let (name, path) = ("a.gguf".to_owned(), "m/a.gguf".to_owned());
        let given = [ModelEntry { name, path, figures: measured(0.1, 70, 3.0) }];
        let found = fronts([&dense, &measured(0.0, 98, 2.3)], &given, &[], &entries);
        assert_eq!(
            (found.bytes, found.speed),
            (["a.gguf", "as read"].map(str::to_owned).to_vec(), vec!["a.gguf".to_owned(), "as read".to_owned()])
        );
    }
}
