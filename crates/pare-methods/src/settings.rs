//! Parameters of methods, by the names that recipes use. A method's card says which of them it reads.

use crate::error::MethodError;
use serde::{Deserialize, Serialize};

/// What a recipe may set; none leaves a parameter at the method's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// A storage by name, as in `q4_0`, `f16`, `int8`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Bits of a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Neighbouring inputs that share a scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// Whether codes are symmetric around zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric: Option<bool>,
    /// Rank of a low-rank matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Damping relative to the mean diagonal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping: Option<f64>,
    /// Whether columns are taken in the order of their activations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act_order: Option<bool>,
    /// Rounds of an iterative method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<usize>,
    /// Size of a square block, or columns that are taken together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// The least share of a group of units that stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// How far shares may lie from the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<f64>,
    /// A factor above which something counts, or a temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Levels at which something is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<usize>,
    /// Changes that are tried per round of a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offspring: Option<usize>,
}

/// One parameter: its name in recipes, and whether it is set.
type Key = (&'static str, fn(&Settings) -> bool);

const KEYS: [Key; 14] = [
    ("type", |settings| settings.storage.is_some()),
    ("bits", |settings| settings.bits.is_some()),
    ("group", |settings| settings.group.is_some()),
    ("symmetric", |settings| settings.symmetric.is_some()),
    ("rank", |settings| settings.rank.is_some()),
    ("damping", |settings| settings.damping.is_some()),
    ("act-order", |settings| settings.act_order.is_some()),
    ("iterations", |settings| settings.iterations.is_some()),
    ("block", |settings| settings.block.is_some()),
    ("floor", |settings| settings.floor.is_some()),
    ("reach", |settings| settings.reach.is_some()),
    ("factor", |settings| settings.factor.is_some()),
    ("levels", |settings| settings.levels.is_some()),
    ("offspring", |settings| settings.offspring.is_some()),
];

impl Settings {
    /// The names of all parameters.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|(name, _)| *name)
    }

    /// The parameters that are set.
    pub fn set(&self) -> impl Iterator<Item = &'static str> {
        KEYS.iter().filter(|(_, is_set)| is_set(self)).map(|(name, _)| *name)
    }

    /// Refuses a parameter that a method which reads `known` would ignore.
    ///
    /// # Errors
    /// `Params` with the first such parameter.
    pub fn only(&self, known: &[&str]) -> Result<(), MethodError> {
        match self.set().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(key) if known.is_empty() => {
                Err(MethodError::Params { key, why: "the method has no parameters".into() })
            }
            Some(key) => {
                let why = format!("the method does not read it; it reads {}", known.join(", "));
                Err(MethodError::Params { key, why })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_method_does_not_read_is_refused() {
        let settings = Settings { rank: Some(3), block: Some(4), ..Settings::default() };
        assert_eq!(settings.set().collect::<Vec<_>>(), ["rank", "block"]);
        assert_eq!(settings.only(&["block", "rank"]), Ok(()));
        let message = settings.only(&["rank"]).unwrap_err().to_string();
        assert_eq!(message, "parameter block: the method does not read it; it reads rank");
        assert_eq!(settings.only(&[]).unwrap_err().to_string(), "parameter rank: the method has no parameters");
        assert_eq!(Settings::default().only(&[]), Ok(()));
        assert_eq!(Settings::names().count(), 14);
    }
}
