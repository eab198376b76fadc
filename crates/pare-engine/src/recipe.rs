//! Recipes: what is removed, by which score, in what share, and how it is repaired. A paper is a recipe.

use pare_methods::card::Grain;
use pare_methods::select::Compare;
use pare_methods::{allocate, compensate, names, score};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

/// A recipe, as written in TOML. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Key on the command line, kebab-case.
    pub name: String,
    /// One line.
    pub about: String,
    /// Title and arXiv id of the paper, or how the recipe was chosen.
    pub source: String,
    /// Share of the blocks' projection weights that stays, when `--keep` is not given.
    pub keep: f64,
    /// Score each block on the inputs that the already cut blocks before it produce. Needs an allocation that does not look at scores.
    #[serde(default)]
    pub sequential: bool,
    /// What is removed.
    pub cut: Vec<Cut>,
}

/// One removal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cut {
    /// Size of the unit.
    pub grain: Grain,
    /// Key of the score.
    pub score: String,
    /// Key of the allocation.
    #[serde(default = "uniform")]
    pub allocate: String,
    /// Key of the repair; none repairs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<String>,
    /// Which part of the whole removal this cut makes; the shares of a recipe add up to 1.
    #[serde(default = "one")]
    pub share: f64,
    /// Kept channels are rounded to a multiple of this (kernels read 32 at a time).
    #[serde(default = "one_unit")]
    pub multiple: usize,
    /// For weights: which are compared with each other.
    #[serde(default)]
    pub compare: Compare,
}

fn uniform() -> String {
    "uniform".to_owned()
}

fn one() -> f64 {
    1.0
}

fn one_unit() -> usize {
    1
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The recipes that ship with pare: name and text.
        pub const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../recipes/", $name, ".toml")))),*];
    };
}

built_in!(
    "llm-drop",
    "magnitude",
    "random",
    "shortgpt",
    "slim",
    "slim-free",
    "wanda",
    "wanda-2of4",
    "wanda-8rows",
    "wanda-sp"
);

/// A recipe that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Neither a file nor a built-in name.
    #[error("no recipe {name:?}: neither a file nor a built-in recipe{nearest}; built in: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// `; did you mean "..."?`, or nothing.
        nearest: String,
        /// The built-in names.
        known: String,
    },
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not a recipe.
    #[error("{file}: {what}")]
    Syntax {
        /// The file.
        file: String,
        /// Where and what.
        what: String,
    },
    /// A field with a value that means nothing.
    #[error("{file}: field {field}: found {found}, expected {expected}")]
    Field {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
}

const MAX_RECIPE_BYTES: u64 = 1 << 20;
const KEYS: &[&str] = &[
    "name",
    "about",
    "source",
    "keep",
    "sequential",
    "cut",
    "grain",
    "score",
    "allocate",
    "compensate",
    "share",
    "multiple",
    "compare",
];

impl Recipe {
    /// A built-in recipe by name, or a recipe file.
    ///
    /// # Errors
    /// Neither exists; the text is not a recipe.
    pub fn find(name_or_file: &str) -> Result<Self, RecipeError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_file) {
            return Self::parse(&format!("recipes/{name}.toml"), text);
        }
        let path = Path::new(name_or_file);
        if path.is_file() {
            let io = |source| RecipeError::Io { file: name_or_file.to_owned(), source };
            let size = std::fs::metadata(path).map_err(io)?.len();
            if size > MAX_RECIPE_BYTES {
                let what = format!("{size} bytes, a recipe has at most {MAX_RECIPE_BYTES}");
                return Err(RecipeError::Syntax { file: name_or_file.to_owned(), what });
            }
            return Self::parse(name_or_file, &std::fs::read_to_string(path).map_err(io)?);
        }
        let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        let nearest = names::nearest(name_or_file, known.iter().copied());
        Err(RecipeError::Unknown {
            name: name_or_file.to_owned(),
            nearest: nearest.map_or(String::new(), |near| format!("; did you mean {near:?}?")),
            known: known.join(", "),
        })
    }

    /// Reads a recipe; `file` is for messages.
    ///
    /// # Errors
    /// Not TOML, an unknown key (with the nearest one), a value out of range, an unknown method (with the nearest one).
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            let mut what = error.to_string().trim_end().to_owned();
            if let Some(key) = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
                && let Some(near) = names::nearest(key, KEYS.iter().copied())
            {
                let _ = write!(what, "; did you mean {near:?}?");
            }
            RecipeError::Syntax { file: file.to_owned(), what }
        })?;
        recipe.check(file)?;
        Ok(recipe)
    }

    fn check(&self, file: &str) -> Result<(), RecipeError> {
        let field = |field: String, found: String, expected: String| RecipeError::Field {
            file: file.to_owned(),
            field,
            found,
            expected,
        };
        if !(self.keep > 0.0 && self.keep <= 1.0) {
            return Err(field("keep".into(), self.keep.to_string(), "a number above 0, at most 1".into()));
        }
        if self.cut.is_empty() {
            return Err(field("cut".into(), "none".into(), "at least one [[cut]]".into()));
        }
        let whole: f64 = self.cut.iter().map(|cut| cut.share).sum();
        if (whole - 1.0).abs() > 1e-6 || self.cut.iter().any(|cut| cut.share.is_nan() || cut.share <= 0.0) {
            let found = self.cut.iter().map(|cut| cut.share.to_string()).collect::<Vec<_>>().join(" + ");
            return Err(field("cut.share".into(), found, "positive shares that add up to 1".into()));
        }
        let grains: Vec<Grain> = self.cut.iter().map(|cut| cut.grain).collect();
        let repeated = grains.iter().enumerate().any(|(index, grain)| grains[..index].contains(grain));
        if repeated || (grains.contains(&Grain::Weight) && grains.len() > 1) {
            let expected =
                "one cut per grain, and weights alone: a repair would fill the zeros of a mask again".to_owned();
            return Err(field("cut.grain".into(), format!("{grains:?}"), expected));
        }
        for (index, cut) in self.cut.iter().enumerate() {
            let at = |key: &str| format!("cut[{index}].{key}");
            let unknown = |key: &str, found: &str, known: Vec<&'static str>| {
                let mut expected = format!("one of {}", known.join(", "));
                if let Some(near) = names::nearest(found, known.iter().copied()) {
                    let _ = write!(expected, "; did you mean {near:?}?");
                }
                field(at(key), format!("{found:?}"), expected)
            };
            let scores = || score::ENTRIES.iter().map(|entry| entry.card.name).collect();
            let entry = score::ENTRIES.iter().find(|entry| entry.card.name == cut.score);
            let entry = entry.ok_or_else(|| unknown("score", &cut.score, scores()))?;
            if !entry.card.grains.is_empty() && !entry.card.grains.contains(&cut.grain) {
                let expected = format!("a score that serves it; {} serves {:?}", cut.score, entry.card.grains);
                return Err(field(at("grain"), format!("{:?}", cut.grain), expected));
            }
            if !allocate::ENTRIES.iter().any(|entry| entry.card.name == cut.allocate) {
                let known = allocate::ENTRIES.iter().map(|entry| entry.card.name).collect();
                return Err(unknown("allocate", &cut.allocate, known));
            }
            if let Some(repair) = &cut.compensate {
                if !compensate::ENTRIES.iter().any(|entry| entry.card.name == repair) {
                    let known = compensate::ENTRIES.iter().map(|entry| entry.card.name).collect();
                    return Err(unknown("compensate", repair, known));
                }
                if !matches!(cut.grain, Grain::Channel | Grain::Group) {
                    let expected = "channel or group: a repair needs a reader whose columns were removed".to_owned();
                    return Err(field(at("compensate"), format!("grain {:?}", cut.grain), expected));
                }
            }
            if cut.multiple == 0 || (cut.multiple > 1 && cut.grain != Grain::Channel) {
                let expected = "at least 1, and above 1 only for channels".to_owned();
                return Err(field(at("multiple"), cut.multiple.to_string(), expected));
            }
            if cut.compare != Compare::Row && cut.grain != Grain::Weight {
                return Err(field(at("compare"), format!("{:?}", cut.compare), "only with grain = \"weight\"".into()));
            }
            if self.sequential
                && (cut.allocate != "uniform" || !matches!(cut.grain, Grain::Weight | Grain::Channel | Grain::Group))
            {
                let expected =
                    "false, unless every cut is of weights, channels or groups with allocate = \"uniform\"".to_owned();
                return Err(field("sequential".into(), "true".into(), expected));
            }
        }
        Ok(())
    }

    /// The same removal decided by another score and without repair: what the recipe must beat.
    #[must_use]
    pub fn baseline(&self, score: &str) -> Self {
        let mut recipe = self.clone();
        recipe.name = format!("{score}, no repair");
        recipe.sequential = false;
        for cut in &mut recipe.cut {
            cut.score = score.to_owned();
            cut.compensate = None;
            cut.allocate = uniform();
        }
        recipe
    }

    /// Whether every block ends with the same shape, so that standard loaders can read the result.
    pub fn is_uniform(&self) -> bool {
        self.cut.iter().all(|cut| match cut.grain {
            Grain::Weight | Grain::Block => true,
            Grain::Channel | Grain::Group => cut.allocate == "uniform",
            Grain::Attention | Grain::Ffn => false,
        })
    }
}

/// Reads any bytes as a recipe, for fuzzing: what is accepted must hold what the engine relies on.
///
/// # Panics
/// When an accepted recipe does not: a fault in [`Recipe::parse`].
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(recipe) = Recipe::parse("fuzz.toml", text) else { return };
    assert!(recipe.keep > 0.0 && recipe.keep <= 1.0, "keep {}", recipe.keep);
    assert!(!recipe.cut.is_empty(), "no cut");
    for cut in &recipe.cut {
        assert!(cut.share > 0.0 && cut.share <= 1.0 + 1e-6, "share {}", cut.share);
        assert!(cut.multiple > 0, "multiple 0");
        assert!(score::ENTRIES.iter().any(|entry| entry.card.name == cut.score), "score {}", cut.score);
        assert!(allocate::ENTRIES.iter().any(|entry| entry.card.name == cut.allocate), "allocate {}", cut.allocate);
    }
    let written = toml::to_string(&recipe).unwrap_or_default();
    assert_eq!(Recipe::parse("fuzz.toml", &written).ok(), Some(recipe), "writing and reading back changes it");
}
