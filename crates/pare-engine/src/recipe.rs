//! Recipes: what is removed, by which score, in what share, and how it is repaired. A paper is a recipe.

mod check;

use pare_methods::card::Grain;
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_methods::{allocate, compensate, encode, names, rewrite, score};
use pare_model::site::Projection;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;

/// A recipe, as written in TOML. Unknown keys are errors.
///
/// Stages follow each other: the model is rewritten, then units are cut (and what reads them is repaired), then matrices are encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Key on the command line, kebab-case.
    pub name: String,
    /// One line.
    pub about: String,
    /// Title and arXiv id of the paper, or how the recipe was chosen.
    pub source: String,
    /// What is done otherwise than in the source: `nothing`, or what and why. The built-in recipes all say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub departs: String,
    /// Share of the blocks' projection weights that stays, when `--keep` is not given.
    pub keep: f64,
    /// Score each block on the inputs that the already cut blocks before it produce.
    #[serde(default)]
    pub sequential: bool,
    /// Rank the units of all cuts together, by the allocation of the first; shares of cuts mean nothing then.
    #[serde(default)]
    pub joint: bool,
    /// What is done to the model as a whole, first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrite: Vec<Rewrite>,
    /// What is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Cut>,
    /// What is put into another storage, last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encode: Vec<Encode>,
}

/// One rewrite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rewrite {
    /// Key of the method.
    pub method: String,
    /// Which part of the whole removal it makes, when it removes.
    #[serde(default = "one")]
    pub share: f64,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub with: Settings,
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
    /// Parameters of the allocation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allocate_with: Settings,
    /// Parameters of the repair.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compensate_with: Settings,
}

/// One encoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Encode {
    /// Key of the method.
    pub method: String,
    /// Which projections; none are all seven.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projections: Vec<Projection>,
    /// Which weights are compared with each other, for methods that choose single weights.
    #[serde(default)]
    pub compare: Compare,
    /// Which part of the whole removal it makes, when it removes.
    #[serde(default = "one")]
    pub share: f64,
    /// Key of the repair of what the encoding lost; none repairs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<String>,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub with: Settings,
    /// Parameters of the repair.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compensate_with: Settings,
}

fn is_default(settings: &Settings) -> bool {
    *settings == Settings::default()
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
    "armor",
    "armor-solved",
    "asvd",
    "bitmod",
    "block-float",
    "delta-drop",
    "eora",
    "flap",
    "flattengpt",
    "global-magnitude",
    "gptq",
    "gptq-eora",
    "layer-adaptive",
    "llm-drop",
    "llm-drop-joint",
    "magnitude",
    "merge-features",
    "neighbour-average",
    "owl",
    "random",
    "round-nearest",
    "shortgpt",
    "shrp",
    "sleb",
    "slice-global",
    "slicegpt",
    "slim",
    "slim-free",
    "slim-measured",
    "sparsegpt",
    "sparsegpt-2of4",
    "sparsegpt-4of8",
    "sparsegpt-8rows",
    "sparsegpt-int4",
    "sparsegpt-solved",
    "struct-energy",
    "svd",
    "tyr",
    "wanda",
    "wanda-2of4",
    "wanda-4of8",
    "wanda-8rows",
    "wanda-solved",
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
    "departs",
    "keep",
    "sequential",
    "joint",
    "rewrite",
    "cut",
    "encode",
    "method",
    "with",
    "projections",
    "allocate-with",
    "compensate-with",
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
                && let Some(near) = names::nearest(key, KEYS.iter().copied().chain(Settings::names()))
            {
                let _ = write!(what, "; did you mean {near:?}?");
            }
            RecipeError::Syntax { file: file.to_owned(), what }
        })?;
        recipe.check(file)?;
        Ok(recipe)
    }

    /// The same removal decided by another score and without repair: what the recipe must beat.
    ///
    /// Where units are cut, the same units; where matrices are masked or encoded, single weights with the same pattern; where the model is
    /// rewritten as a whole, channels.
    #[must_use]
    pub fn baseline(&self, score: &str) -> Self {
        let mut recipe = self.clone();
        recipe.name = format!("{score}, no repair");
        (recipe.sequential, recipe.joint) = (false, false);
        let cuts = recipe.cut.len() as f64;
        for cut in &mut recipe.cut {
            cut.score = score.to_owned();
            cut.compensate = None;
            cut.allocate = uniform();
            if self.joint {
                cut.share = 1.0 / cuts;
            }
        }
        let encodes = self.encode.iter().any(|step| encode::find(&step.method).is_ok_and(|entry| entry.removes));
        if recipe.cut.is_empty() {
            let grain = if encodes { Grain::Weight } else { Grain::Channel };
            let compare = self.patterns_of_encodings().next().unwrap_or(Compare::Row);
            recipe.cut = vec![Cut::by(grain, score, compare)];
        } else if encodes {
            let whole: f64 = recipe.cut.iter().map(|cut| cut.share).sum();
            recipe.cut.iter_mut().for_each(|cut| cut.share /= whole);
        }
        (recipe.rewrite, recipe.encode) = (Vec::new(), Vec::new());
        recipe
    }

    /// What the recipe must beat: where it removes units or zeroes weights, the same by chance and by magnitude, without repair; where it
    /// makes another model, whole blocks dropped at the same share. An encoding that removes nothing has plain bits beside it alone.
    pub fn baselines(&self) -> Vec<Self> {
        let removing = |step: &Encode| encode::find(&step.method).is_ok_and(|entry| entry.removes);
        let mut baselines = Vec::new();
        if !self.cut.is_empty() || self.encode.iter().any(removing) {
            let itself = |score: &str| {
                let only = self.rewrite.is_empty() && self.encode.is_empty();
                only && self.baseline(score).cut == self.cut
            };
            let others = ["random", "magnitude"].into_iter().filter(|score| !itself(score));
            baselines.extend(others.map(|score| self.baseline(score)));
        }
        if self.rewrite.iter().any(|step| rewrite::find(&step.method).is_ok_and(|entry| entry.removes)) {
            let mut dropped = self.baseline("block-influence");
            dropped.name = "blocks dropped".to_owned();
            dropped.cut =
                vec![Cut { allocate: "global".to_owned(), ..Cut::by(Grain::Block, "block-influence", Compare::Row) }];
            baselines.push(dropped);
        }
        baselines
    }

    /// Whether every block ends with the same shape and in plain matrices, so that standard loaders can read the result.
    pub fn is_uniform(&self) -> bool {
        let rewrites = self.rewrite.iter().all(|step| rewrite::find(&step.method).is_ok_and(|entry| entry.uniform));
        self.has_uniform_cuts() && rewrites && self.leaves_plain()
    }

    /// Whether every matrix ends as one matrix of plain numbers.
    pub fn leaves_plain(&self) -> bool {
        let repairs = self.cut.iter().map(|cut| &cut.compensate).chain(self.encode.iter().map(|step| &step.compensate));
        let composed = |name: &String| compensate::find(name).is_ok_and(|entry| entry.composes);
        let plain = |step: &Encode| {
            let one_of_numbers = |entry: &encode::Entry| {
                !entry.composes && (entry.build)(&step.with).is_ok_and(|method| method.blocks().is_none())
            };
            encode::find(&step.method).is_ok_and(one_of_numbers)
        };
        self.encode.iter().all(plain) && !repairs.flatten().any(composed)
    }

    /// Whether an encoding rounds to a grid of its own, which other blocks would spoil.
    pub fn has_own_grid(&self) -> bool {
        let removes = |step: &Encode| encode::find(&step.method).is_ok_and(|entry| entry.removes);
        self.encode.iter().any(|step| !removes(step) || step.with.bits.is_some())
    }

    /// How each step that zeroes single weights, or those of a core, compares them.
    pub fn patterns(&self) -> impl Iterator<Item = Compare> {
        let cuts = self.cut.iter().filter(|cut| cut.grain == Grain::Weight).map(|cut| cut.compare);
        cuts.chain(self.patterns_of_encodings())
    }

    fn patterns_of_encodings(&self) -> impl Iterator<Item = Compare> {
        self.encode.iter().filter_map(|step| {
            let method = (encode::find(&step.method).ok()?.build)(&step.with).ok()?;
            method.pattern(step.compare)
        })
    }

    /// Whether its cuts leave every block with one shape.
    pub fn has_uniform_cuts(&self) -> bool {
        self.cut.iter().all(|cut| match cut.grain {
            Grain::Weight | Grain::Block => true,
            Grain::Channel | Grain::Group => cut.allocate == "uniform" && !self.joint,
            Grain::Attention | Grain::Ffn => false,
        })
    }

    /// Whether it removes anything, so that a `keep` below 1 means something.
    pub fn removes(&self) -> bool {
        !self.cut.is_empty()
            || self.rewrite.iter().any(|step| rewrite::find(&step.method).is_ok_and(|entry| entry.removes))
            || self.encode.iter().any(|step| encode::find(&step.method).is_ok_and(|entry| entry.removes))
    }
}

impl Cut {
    /// A cut decided by `score`, the same share everywhere, without repair.
    pub fn by(grain: Grain, score: &str, compare: Compare) -> Self {
        Self {
            grain,
            score: score.to_owned(),
            allocate: uniform(),
            compensate: None,
            share: 1.0,
            multiple: 1,
            compare,
            allocate_with: Settings::default(),
            compensate_with: Settings::default(),
        }
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
    let stages = recipe.rewrite.len() + recipe.cut.len() + recipe.encode.len();
    assert!(stages > 0, "no stage");
    for cut in &recipe.cut {
        assert!(cut.share > 0.0 && cut.share <= 1.0 + 1e-6, "share {}", cut.share);
        assert!(cut.multiple > 0, "multiple 0");
        assert!(score::ENTRIES.iter().any(|entry| entry.card.name == cut.score), "score {}", cut.score);
        assert!(allocate::ENTRIES.iter().any(|entry| entry.card.name == cut.allocate), "allocate {}", cut.allocate);
    }
    let written = toml::to_string(&recipe).unwrap_or_default();
    assert_eq!(Recipe::parse("fuzz.toml", &written).ok(), Some(recipe), "writing and reading back changes it");
}
