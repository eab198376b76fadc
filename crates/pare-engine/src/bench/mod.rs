//! How fast models run, honestly: in turns, beside what the machine can do at most, and beside a peer.

mod figures;
pub(crate) mod machine;
pub mod measure;
pub mod peer;
pub mod spread;

pub use figures::{Decode, DecodeRatio, ModelFigures, PeerDecode, PeerFigures, PeerRun, Ratio, Skipped};
pub use machine::Machine;

use crate::Error;
use crate::bundle::Bundle;
use crate::progress::Work;
use figures::Facts;
use machine::Limits;
use measure::{Sizes, Track, Turn, in_turn};
use pare_model::model::{Model, PackAs};
use peer::{Build, Peer};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Tokens of the prompt.
pub const PROMPT: usize = 512;

/// Tokens of context that [`peak_memory`] runs at, where a model's window allows it.
pub const MEMORY_CONTEXT: usize = 2048;

/// The most memory of this process while it opens the model called `name`, packs it as it is stored, and runs it at [`MEMORY_CONTEXT`]
/// tokens; for a process that has done nothing else. Mapped files count as far as they are in memory. None where the system does not say.
///
/// # Errors
/// There is no such model; what is wrong with its files; the user stops it.
pub fn peak_memory(name: &str, work: Work<'_>) -> Result<Option<u64>, Error> {
    let bundle = Bundle::open(name, work)?;
    let model = bundle.model.packed(PackAs::Stored, work.pool);
    let window = model.architecture.context;
    let context = MEMORY_CONTEXT.min(window).saturating_sub(1);
    let sizes = Sizes { prompt: PROMPT.min(window), tokens: 1, contexts: vec![context] };
    Track::new(&model, sizes, work.pool).turn(work.interrupt)?;
    Ok(machine::peak_memory())
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tokens of the prompt, at least one.
    pub prompt: usize,
    /// Tokens decoded at each context, at least one.
    pub tokens: usize,
    /// Tokens in the cache before decoding begins, in any order.
    pub contexts: Vec<usize>,
    /// Counted rounds, at least one.
    pub rounds: usize,
    /// Type into which weights are repacked.
    pub pack: PackAs,
}

/// A model that fits the settings, to be opened again when its turn comes.
#[derive(Clone, Debug)]
pub struct Entry {
    label: String,
    path: PathBuf,
    sizes: Sizes,
    skipped: Vec<Skipped>,
}

impl Entry {
    /// Checks a model against the settings.
    ///
    /// # Errors
    /// The prompt is longer than the model's window.
    pub fn new(bundle: &Bundle, settings: &Settings) -> Result<Self, Error> {
        let (window, tokens) = (bundle.model.architecture.context, settings.tokens);
        if settings.prompt > window {
            let prompt = settings.prompt;
            let message = format!(
                "{}: --prompt {prompt}: the model's window holds {window} tokens; give --prompt {window} or less",
                bundle.name
            );
            return Err(Error::Refused(message));
        }
        let mut contexts = settings.contexts.clone();
        contexts.sort_unstable();
        contexts.dedup();
        let fits = |context: usize| context.checked_add(tokens).is_some_and(|end| end <= window);
        let too_long = |&context: &usize| {
            let why = format!("the model's window of {window} tokens has no room for {tokens} after {context}");
            Skipped { context, why }
        };
        let skipped = contexts.iter().filter(|&&context| !fits(context)).map(too_long).collect();
        contexts.retain(|&context| fits(context));
        let sizes = Sizes { prompt: settings.prompt, tokens, contexts };
        Ok(Self { label: bundle.name.clone(), path: bundle.path.clone(), sizes, skipped })
    }

    fn load(&self, settings: &Settings, work: Work<'_>) -> Result<Model, Error> {
        Ok(Bundle::open(&self.path.display().to_string(), work)?.model.packed(settings.pack, work.pool))
    }

    /// The most memory of the process while this model alone is in it: opened, packed, and run once.
    fn weigh(&self, settings: &Settings, work: Work<'_>, is_first: bool) -> Result<Option<u64>, Error> {
        let forgotten = machine::forget_peak_memory();
        let model = self.load(settings, work)?;
        Track::new(&model, self.sizes.clone(), work.pool).turn(work.interrupt)?;
        // Without a new beginning the figure could be that of a model before.
        Ok(if forgotten || is_first { machine::peak_memory() } else { None })
    }
}

/// A peer and the file that it reads for each model.
#[derive(Clone, Debug)]
pub struct Rival {
    /// The peer.
    pub peer: Peer,
    /// One file per model, in the order of the models; equal ones are measured once.
    pub files: Vec<PathBuf>,
}

/// Everything that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Each model.
    pub models: Vec<ModelFigures>,
    /// The machine.
    pub machine: Machine,
    /// The peer, when there was one.
    pub peer: Option<PeerFigures>,
    /// Who was faster than whom, round by round: the first model beside each other one, each model beside its peer.
    pub ratios: Vec<Ratio>,
}

/// Who takes a turn.
enum Entrant<'a> {
    Model(Box<Track<'a>>),
    Peer { peer: &'a Peer, file: &'a Path, sizes: Sizes, build: Build },
}

impl Entrant<'_> {
    fn turn(&mut self, work: Work<'_>) -> Result<Turn, Error> {
        match self {
            Self::Model(track) => Ok(track.turn(work.interrupt)?),
            Self::Peer { peer, file, sizes, build } => {
                let (turn, found) = peer.turn(file, sizes, work.pool.threads(), work.interrupt)?;
                *build = found;
                Ok(turn)
            }
        }
    }
}

/// Measures models, and the peer's, in turns.
///
/// # Errors
/// A model that cannot be read again; the peer fails; the user stops it.
///
/// # Panics
/// When the rival has not one file per model.
pub fn run(entries: &[Entry], settings: &Settings, rival: Option<&Rival>, work: Work<'_>) -> Result<Outcome, Error> {
    let load_before = machine::load();
    work.progress.begin("weighing", entries.len() as u64);
    let mut peaks = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        peaks.push(entry.weigh(settings, work, index == 0)?);
        work.progress.advance(1, &entry.label);
    }
    work.progress.end();

    let models = entries.iter().map(|entry| entry.load(settings, work)).collect::<Result<Vec<Model>, Error>>()?;
    let mut entrants = Vec::new();
    for (entry, model) in entries.iter().zip(&models) {
        entrants.push(Entrant::Model(Box::new(Track::new(model, entry.sizes.clone(), work.pool))));
    }
    let runs = rival.map_or(Vec::new(), |rival| peer_runs(entries, &rival.files));
    if let Some(rival) = rival {
        entrants.extend(runs.iter().map(|(file, sizes)| Entrant::Peer {
            peer: &rival.peer,
            file,
            sizes: sizes.clone(),
            build: Build::default(),
        }));
    }
    let mut limits = Limits::new(work.pool);
    let between = || {
        limits.measure();
        Ok(())
    };
    let turns = in_turn(&mut entrants, settings.rounds, work, |entrant| entrant.turn(work), between)?;
    let machine = limits.machine(load_before).ok_or_else(|| Error::Refused("no round was measured".to_owned()))?;

    let (turns, peer_turns) = turns.split_at(entries.len());
    let mut figures = Vec::new();
    let mut builds = Vec::new();
    for entrant in &entrants {
        match entrant {
            Entrant::Model(track) => {
                let index = figures.len();
                let facts = Facts {
                    entry: &entries[index],
                    model: &models[index],
                    cache_bytes_per_position: track.cache_bytes_per_position(),
                    peak_memory_bytes: peaks[index],
                };
                figures.push(facts.figures(&turns[index], &machine));
            }
            Entrant::Peer { build, .. } => builds.push(build.clone()),
        }
    }
    let peer = rival.map(|rival| PeerFigures::new(&rival.peer, &builds, &runs, peer_turns));
    let ratios = figures::ratios(entries, turns, rival, &runs, peer_turns);
    Ok(Outcome { models: figures, machine, peer, ratios })
}

/// What the peer measures: each file once, at every context of the models that it stands beside.
fn peer_runs<'a>(entries: &[Entry], files: &'a [PathBuf]) -> Vec<(&'a Path, Sizes)> {
    assert_eq!(entries.len(), files.len(), "one file per model");
    let mut runs: Vec<(&Path, Sizes)> = Vec::new();
    for (entry, file) in entries.iter().zip(files) {
        match runs.iter_mut().find(|run| run.0 == file) {
            Some((_, sizes)) => {
                sizes.contexts.extend(&entry.sizes.contexts);
                sizes.contexts.sort_unstable();
                sizes.contexts.dedup();
            }
            None => runs.push((file, entry.sizes.clone())),
        }
    }
    runs
}
