//! What a comparison holds: the dense model, models beside it, and what became of every recipe at every keep.

#[cfg(doc)]
use super::{AS_READ, DENSE, PLAIN_BITS};
use crate::bench::spread::Spread;
use crate::figures::ModelFacts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Recipes on one model, and models beside it, with the same texts. Also written as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Version that measured.
    pub pare: String,
    /// The model before.
    pub model: ModelFacts,
    /// The shares that were asked for, largest first.
    pub keeps: Vec<f64>,
    /// Figures of the model before, in plain numbers.
    pub dense: ModelFigures,
    /// The files that the user gave, run as they are stored: the answers are by definition those of `dense`, bytes and speed are its own.
    pub as_read: ModelFigures,
    /// The models that the user has already, in the order given.
    pub models: Vec<ModelEntry>,
    /// The dense model in fewer bits, at the sizes of what recipes make, the largest first.
    pub plain_bits: Vec<PlainEntry>,
    /// Each recipe at each keep, recipe by recipe, keeps in the order of `keeps`.
    pub entries: Vec<Entry>,
    /// Which entries no other one beats.
    pub fronts: Fronts,
    /// How the figures were made.
    pub conditions: Vec<(String, String)>,
    /// Remarks, in plain words.
    pub notes: Vec<String>,
}

/// Names of the entries that no other one beats, the cheapest first; [`DENSE`], [`AS_READ`] and [`PLAIN_BITS`] are among the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fronts {
    /// Divergence against bytes.
    pub bytes: Vec<String>,
    /// Divergence against decoding speed; empty when no speed was measured.
    pub speed: Vec<String>,
}

/// A model that the user has already, run as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelEntry {
    /// Its name in tables: that of its file or directory, with as many folders before it as tell it from the others.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: ModelFigures,
}

/// The dense model with nothing cut, every matrix rounded to the nearest: what a size holds without a recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlainEntry {
    /// With its size, as in `plain bits 83.1 MB`.
    pub name: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: ModelFigures,
}

/// One recipe at one keep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Name of the recipe.
    pub recipe: String,
    /// What it does, in one line.
    pub about: String,
    /// Its paper.
    pub source: String,
    /// Whether it is a simple method that the others must beat.
    pub baseline: bool,
    /// Share of the blocks' projection weights that was to stay.
    pub keep: f64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a recipe at a keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// The artefact was written, read back and measured.
    Measured(Box<ModelFigures>),
    /// The recipe cannot keep this share of this model.
    NotApplicable {
        /// Why, in plain words.
        why: String,
    },
    /// A method refused what it met on the way.
    Failed {
        /// Why, in plain words.
        why: String,
    },
}

/// Figures of one artefact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFigures {
    /// Natural-log perplexity on the first of the held-out texts.
    #[serde(with = "number")]
    pub perplexity: f64,
    /// Perplexity over that of the dense model, from the same run.
    #[serde(with = "number")]
    pub perplexity_ratio: f64,
    /// Mean KL divergence from the dense model, nats.
    #[serde(with = "number")]
    pub kl_mean: f64,
    /// 99th percentile of the same.
    #[serde(with = "number")]
    pub kl_p99: f64,
    /// Share of positions with the same most likely token.
    #[serde(with = "number")]
    pub top1_agreement: f64,
    /// The first three of these on every held-out text, the first included.
    pub texts: Vec<OnOneText>,
    /// Accuracy per probe; `name` by likelihood among four, `name_generated` by greedy decoding.
    pub probes: BTreeMap<String, f64>,
    /// Share of the blocks' weights that stayed: units that leave as a whole seldom meet what was asked exactly. None for a model that was not
    /// made here.
    pub kept: Option<f64>,
    /// Stored numbers, tied head once.
    pub parameters: u64,
    /// Bytes of the weight files, as the file system says.
    pub bytes: u64,
    /// How the projections were written, as in `f16` or `2of4-f16`.
    pub storage: String,
    /// Speed, when it was measured.
    pub speed: Option<Speed>,
    /// The most memory of a process that runs the artefact alone; none where that was not, or cannot be, measured.
    pub peak_memory_bytes: Option<u64>,
    /// What it took to make the artefact.
    pub cost: Cost,
}

/// What one of several texts says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnOneText {
    /// The text, as in `speeches`.
    pub name: String,
    /// Natural-log perplexity.
    #[serde(with = "number")]
    pub perplexity: f64,
    /// Perplexity over that of the dense model.
    #[serde(with = "number")]
    pub perplexity_ratio: f64,
    /// Mean KL divergence from the dense model, nats.
    #[serde(with = "number")]
    pub kl_mean: f64,
}

/// Speed, the dense model taking turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Median tokens per second of greedy decoding.
    pub decode_tok_s: f64,
    /// The same of a prompt.
    pub prefill_tok_s: f64,
    /// Decoding speed of the dense model, in the same rounds.
    pub dense_decode_tok_s: f64,
    /// Decoding speed over that of the dense model, round by round.
    pub over_dense: Spread,
}

/// Time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds from the first observation to the last repair.
    pub shrink_seconds: f64,
    /// Seconds of the whole entry, measuring included.
    pub seconds: f64,
    /// Most memory that the process held while the artefact was made and written, mapped files as far as they were in memory; none where
    /// the system does not say.
    pub peak_memory_bytes: Option<u64>,
    /// Whether that figure began anew with this entry; otherwise it holds what ran before, too.
    pub peak_is_own: bool,
}

impl Entry {
    /// Recipe and keep, as in `slim 0.8`.
    pub fn name(&self) -> String {
        format!("{} {}", self.recipe, self.keep)
    }

    /// The figures, when there are any.
    pub fn measured(&self) -> Option<&ModelFigures> {
        match &self.outcome {
            Outcome::Measured(measured) => Some(measured),
            _ => None,
        }
    }

    /// Why there are no figures.
    pub fn why(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Measured(_) => None,
            Outcome::NotApplicable { why } | Outcome::Failed { why } => Some(why),
        }
    }
}

impl ModelFigures {
    /// Tokens per second if the dense model decoded as fast as it did when it was measured itself: speeds of different moments compare
    /// only through the dense model that took turns with each.
    pub fn comparable_tok_s(&self, dense: &Self) -> Option<f64> {
        Some(self.speed?.over_dense.median * dense.speed?.decode_tok_s)
    }

    /// Mean accuracy of the probes that are answered by likelihood, or, with `generated`, of those that are decoded.
    pub fn mean_probe(&self, generated: bool) -> Option<f64> {
        let of_kind = self.probes.iter().filter(|(name, _)| name.ends_with("_generated") == generated);
        let shares: Vec<f64> = of_kind.map(|(_, &share)| share).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }
}

/// JSON has no infinity and nothing that is not a number: those are the strings `inf`, `-inf` and `nan`.
mod number {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Word(String),
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        match *value {
            value if value.is_finite() => to.serialize_f64(value),
            value if value.is_nan() => to.serialize_str("nan"),
            value if value > 0.0 => to.serialize_str("inf"),
            _ => to.serialize_str("-inf"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        match Written::deserialize(from)? {
            Written::Number(value) => Ok(value),
            Written::Word(word) => match word.as_str() {
                "nan" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(D::Error::custom(format!("{word:?} is no number"))),
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn on_one_text(name: &str, kl_mean: f64) -> OnOneText {
        OnOneText { name: name.to_owned(), perplexity: 17.5, perplexity_ratio: 1.25, kl_mean }
    }

    /// Figures that a pared model could have.
    pub(crate) fn measured(kl_mean: f64, bytes: u64, over_dense: f64) -> ModelFigures {
        let over_dense = Spread { min: over_dense * 0.9, median: over_dense, max: over_dense * 1.1 };
        ModelFigures {
            perplexity: 17.5,
            perplexity_ratio: 1.25,
            kl_mean,
            kl_p99: 3.0 * kl_mean,
            top1_agreement: 0.75,
            texts: ["speeches", "own text"].map(|name| on_one_text(name, kl_mean)).to_vec(),
            probes: [("copying".to_owned(), 0.8), ("copying_generated".to_owned(), 0.6)].into(),
            kept: Some(0.8),
            parameters: bytes / 2,
            bytes,
            storage: "f16".to_owned(),
            speed: Some(Speed {
                decode_tok_s: 30.0 * over_dense.median,
                prefill_tok_s: 300.0,
                dense_decode_tok_s: 30.0,
                over_dense,
            }),
            peak_memory_bytes: Some(2 * bytes),
            cost: Cost { shrink_seconds: 12.5, seconds: 60.0, peak_memory_bytes: Some(900 << 20), peak_is_own: true },
        }
    }

    #[test]
    fn figures_survive_json_whatever_they_are() {
        for kl_mean in [0.1 + 0.2, 1e-300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let outcome = Outcome::Measured(Box::new(measured(kl_mean, 5, 1.0 / 3.0)));
            let text = serde_json::to_string(&outcome).unwrap();
            let Outcome::Measured(read) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
            assert_eq!(read.kl_mean.to_bits(), kl_mean.to_bits(), "{text}");
            assert_eq!(serde_json::to_string(&Outcome::Measured(read)).unwrap(), text);
        }
        assert!(serde_json::from_str::<Outcome>(r#"{"status":"measured","perplexity":"much"}"#).is_err());
    }

    #[test]
    fn probes_of_both_kinds_have_their_own_mean() {
        let mut figures = measured(0.1, 1, 1.0);
        figures.probes.insert("adding".to_owned(), 0.4);
        assert!((figures.mean_probe(false).unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(figures.mean_probe(true), Some(0.6));
        figures.probes.clear();
        assert_eq!(figures.mean_probe(true), None);
    }
}
