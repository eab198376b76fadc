//! What every method says of itself. `pare methods`, the help, the recipe schema and the test matrix come from these.

use pare_model::stats::Stat;

/// The description of one method.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Key in recipes and on the command line, kebab-case.
    pub name: &'static str,
    /// The idea in one line.
    pub about: &'static str,
    /// Title and arXiv id of the source, or "folklore" with a reason.
    pub source: &'static str,
    /// The formula, as the head of the method's file says it (a test holds both equal); the head also gives the shape of every letter.
    pub formula: &'static str,
    /// Statistics that must have been observed.
    pub needs: &'static [Stat],
    /// Parameters of [`crate::settings::Settings`] that it reads.
    pub parameters: &'static [&'static str],
    /// What it removes or repairs (empty: everything on its axis).
    pub grains: &'static [Grain],
    /// Cost in words: operations and memory.
    pub cost: &'static str,
    /// Where it departs from the source.
    pub departs: &'static str,
    /// Agreement with the golden from the independent reference, as a relative error (0.0: exact).
    pub exactness: f64,
}

/// Methods whose results hold eigenvectors. Those are faer's, whose sums follow the instructions and the caches of the machine: on another kind
/// of machine the last bits of the result differ.
pub const WITH_EIGENVECTORS: [&str; 5] = ["activation-svd", "eora", "slice", "slice-global", "svd"];

/// The size of the unit that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grain {
    /// One weight of one projection.
    Weight,
    /// One FFN channel: its gate row, up row and down column.
    Channel,
    /// One KV group: its K and V heads with all their query heads (q rows, o columns).
    Group,
    /// The attention part of a block.
    Attention,
    /// The feed-forward part of a block.
    Ffn,
    /// A whole block.
    Block,
}

#[cfg(test)]
mod tests {
    use super::{Card, WITH_EIGENVECTORS};
    use crate::{allocate, compensate, encode, merge, rewrite, score};
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_method_that_takes_eigenvectors_is_named() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        for axis in ["score", "allocate", "compensate", "encode", "rewrite", "merge"] {
            for file in fs::read_dir(source.join(axis)).unwrap() {
                let Ok(text) = fs::read_to_string(file.unwrap().path()) else { continue };
                // The two files beside the axes that call for eigenvectors, and the calls themselves.
                let takes = [
                    "use crate::low_rank",
                    "basis::Basis",
                    "basis::{Basis",
                    "linalg::symmetric_eigen(",
                    "linalg::principal_axes(",
                ];
                if takes.iter().any(|takes| text.contains(takes)) {
                    let name = text.split("name: \"").nth(1).and_then(|rest| rest.split('"').next());
                    found.push(name.unwrap().to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, WITH_EIGENVECTORS);
    }

    /// The paragraph `Formula` of a file's head, on one line.
    fn formula_of_head(text: &str) -> String {
        let head = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
        let mut paragraph =
            head.skip_while(|line| !line.starts_with("Formula ")).take_while(|line| !line.starts_with("Shapes "));
        let first = paragraph.next().and_then(|line| line.strip_prefix("Formula")).unwrap_or_default().trim();
        paragraph.fold(first.to_owned(), |said, line| said + " " + line)
    }

    #[test]
    fn the_formula_of_a_card_is_that_of_the_head() {
        let axes: [(&str, Vec<Card>); 6] = [
            ("score", score::ENTRIES.iter().map(|entry| entry.card).collect()),
            ("allocate", allocate::ENTRIES.iter().map(|entry| entry.card).collect()),
            ("compensate", compensate::ENTRIES.iter().map(|entry| entry.card).collect()),
            ("encode", encode::ENTRIES.iter().map(|entry| entry.card).collect()),
            ("rewrite", rewrite::ENTRIES.iter().map(|entry| entry.card).collect()),
            ("merge", merge::ENTRIES.iter().map(|entry| entry.card).collect()),
        ];
        for (axis, cards) in axes {
            for card in cards {
                let file = format!("src/{axis}/{}.rs", card.name.replace('-', "_"));
                let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap();
                assert!(!card.formula.is_empty(), "{file}");
                assert_eq!(card.formula, formula_of_head(&text), "{file}: the card, and then the head");
            }
        }
    }
}
