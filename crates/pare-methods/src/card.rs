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
    use super::WITH_EIGENVECTORS;
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
}
