//! Comparing: every applicable recipe on one model, that model in fewer bits, and models that people have already, with the same text.
//!
//! Each entry is measured once, on the artefact that was written, and kept under a hash of what it depends on: a run that was stopped
//! goes on where it was.

mod cache;
mod entry;
mod front;
mod measure;
mod models;
mod run;
mod steps;

pub use cache::check_folder;
pub use entry::{Comparison, Cost, Entry, Fronts, ModelEntry, ModelFigures, OnOneText, Outcome, PlainEntry, Speed};
pub use front::{Point, front};
pub use models::{GivenModel, models};
pub use run::run;

#[cfg(test)]
pub(crate) use entry::tests::measured as example;

use crate::Error;
use crate::as_read::AsRead;
use crate::bundle::Bundle;
use crate::prove::Weigh;
use crate::recipe::{BUILT_IN, Recipe};
use crate::text::{Named, Text};
use crate::write::WriteAs;
use std::path::Path;

/// How the dense model is called among the entries of a front.
pub const DENSE: &str = "dense";
pub use crate::prove::{AS_READ, PLAIN_BITS};

/// The recipes that every comparison holds: what the others must beat.
pub const BASELINES: [&str; 2] = ["random", "magnitude"];

/// What to compare, and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The model before: what divergences are measured from.
    pub bundle: &'a Bundle,
    /// What to make of it; without, only `models` stand beside it.
    pub recipes: Option<Recipes<'a>>,
    /// The models that the user has already; see [`models()`].
    pub models: &'a [GivenModel],
    /// Texts that only figures see, one at least.
    pub verification: &'a [Named],
    /// Window of the perplexity, in tokens.
    pub context: usize,
    /// Tasks per probe; none are run for 0.
    pub probes: usize,
    /// Whether speed and memory are measured.
    pub speed: bool,
    /// The most memory of a process that opens the model at a path alone and runs it; none where that cannot be measured.
    pub weigh: Option<&'a Weigh<'a>>,
    /// Seed of what draws.
    pub seed: u64,
    /// Where entries are kept.
    pub folder: &'a Path,
    /// Whether the artefacts stay, in `models` of the folder.
    pub keep_models: bool,
}

/// Recipes, and what they work with.
#[derive(Clone, Copy)]
pub struct Recipes<'a> {
    /// The recipes, each name once; see [`recipes`].
    pub list: &'a [Recipe],
    /// The shares, each once; see [`keeps`].
    pub keeps: &'a [f64],
    /// Text that methods see.
    pub calibration: &'a Text,
}

/// A comparison, and how much of it was there already.
#[derive(Clone, Debug)]
pub struct Done {
    /// The figures.
    pub comparison: Comparison,
    /// Entries that were measured now, the dense model included.
    pub computed: usize,
    /// Entries that an earlier run measured.
    pub found: usize,
    /// Kept files that were not what had been written; their entries were measured anew.
    pub corrupt: Vec<String>,
}

/// The recipes of these names or files, or all built-in ones when there are none; random and magnitude are always among them.
///
/// # Errors
/// A recipe that there is not; two different ones of the same name.
pub fn recipes(asked: &[String]) -> Result<Vec<Recipe>, Error> {
    let all: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let asked = if asked.is_empty() { &all } else { asked };
    let baselines = BASELINES.map(str::to_owned);
    let mut recipes: Vec<Recipe> = Vec::new();
    for name in asked.iter().chain(&baselines) {
        let recipe = Recipe::find(name)?;
        match recipes.iter().find(|other| other.name == recipe.name) {
            Some(other) if *other == recipe => {}
            Some(_) => {
                let own = &recipe.name;
                let message = format!("{name}: two different recipes are called {own:?}; give one another name");
                return Err(Error::Refused(message));
            }
            None => recipes.push(recipe),
        }
    }
    Ok(recipes)
}

/// The shares to compare, largest first, each once.
///
/// # Errors
/// A share that is not above 0 and at most 1.
pub fn keeps(asked: &[f64]) -> Result<Vec<f64>, Error> {
    let inside = |keep: f64| keep > 0.0 && keep <= 1.0;
    if let Some(&keep) = asked.iter().find(|&&keep| !inside(keep)) {
        return Err(Error::Keep { keep, why: "it must be above 0 and at most 1".into() });
    }
    let mut keeps = asked.to_vec();
    keeps.sort_unstable_by(|a, b| b.total_cmp(a));
    keeps.dedup();
    if keeps.is_empty() { Err(Error::Refused("--keep: give at least one share".to_owned())) } else { Ok(keeps) }
}

/// Whether the model was read in quantised blocks.
fn in_blocks(request: &Request<'_>) -> bool {
    AsRead::of(&request.bundle.model).is_some()
}

/// In which form the result of `recipe` is written: without the zeros of a pattern that has a storage, else as the recipe leaves it.
fn storage(recipe: &Recipe, in_blocks: bool) -> WriteAs {
    match WriteAs::Auto.of_kind(recipe, in_blocks) {
        WriteAs::Auto => WriteAs::of_pattern(recipe).unwrap_or(WriteAs::Auto),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_sorted_and_checked() {
        assert_eq!(keeps(&[0.5, 0.9, 0.5, 1.0]).unwrap(), [1.0, 0.9, 0.5]);
        assert!(keeps(&[]).is_err());
        for bad in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(keeps(&[0.5, bad]), Err(Error::Keep { .. })), "{bad}");
        }
    }

    #[test]
    fn baselines_are_always_in_and_names_are_unique() {
        let names = |asked: &[&str]| -> Vec<String> {
            let asked: Vec<String> = asked.iter().map(|&name| name.to_owned()).collect();
            recipes(&asked).unwrap().into_iter().map(|recipe| recipe.name).collect()
        };
        assert_eq!(names(&["slim", "magnitude", "slim"]), ["slim", "magnitude", "random"]);
        assert_eq!(names(&[]).len(), BUILT_IN.len());
        assert!(matches!(recipes(&["slmi".to_owned()]), Err(Error::BadRecipe(_))));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.toml");
        let own = BUILT_IN.iter().find(|(name, _)| *name == "slim").unwrap().1.replace("keep = 0.8", "keep = 0.7");
        std::fs::write(&file, own).unwrap();
        let asked = ["slim".to_owned(), file.to_str().unwrap().to_owned()];
        assert!(recipes(&asked).unwrap_err().to_string().contains("two different recipes are called \"slim\""));
    }

    #[test]
    fn patterns_are_written_without_their_zeros() {
        let form = |name: &str| storage(&Recipe::find(name).unwrap(), false).name();
        for (name, want) in [
            ("wanda-2of4", "2of4-f16"),
            ("sparsegpt-2of4", "2of4-f16"),
            ("wanda-8rows", "rows8-f16"),
            ("eora", "2of4-f16"),
            ("armor", "2of4-f16"),
            ("armor-solved", "2of4-f16"),
            ("wanda-solved", "2of4-f16"),
            ("sparsegpt-solved", "auto"),
            ("wanda", "auto"),
            ("sparsegpt", "auto"),
            ("slim", "auto"),
            ("asvd", "kept"),
            ("gptq", "kept"),
            ("gptq-eora", "kept"),
        ] {
            assert_eq!(form(name), want, "{name}");
        }
    }

    #[test]
    fn what_was_in_blocks_stays_in_blocks() {
        let form = |name: &str| storage(&Recipe::find(name).unwrap(), true).name();
        for name in ["slim", "wanda", "wanda-2of4", "random", "flap", "shortgpt", "slicegpt", "sparsegpt"] {
            assert_eq!(form(name), "as-read", "{name}");
        }
        // Recipes that end in a storage or on a grid of their own keep it.
        for (name, want) in [
            ("gptq", "kept"),
            ("asvd", "kept"),
            ("armor", "2of4-f16"),
            ("bitmod", "auto"),
            ("sparsegpt-int4", "2of4-f16"),
        ] {
            assert_eq!(form(name), want, "{name}");
        }
    }
}
