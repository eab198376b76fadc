//! Which crate may depend on which: arrows point down only.

use super::Fault;
use crate::project::capture;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Each crate with the crates of ours that it may depend on, also in its tests.
const LAYERS: &[(&str, &[&str])] = &[
    ("pare-kernels", &[]),
    ("pare-format", &[]),
    ("pare-model", &["pare-kernels", "pare-format"]),
    ("pare-methods", &["pare-kernels", "pare-model"]),
    ("pare-engine", &["pare-kernels", "pare-format", "pare-model", "pare-methods"]),
    ("pare-llm", &["pare-kernels", "pare-format", "pare-model", "pare-methods", "pare-engine"]),
    ("xtask", &[]),
];
/// Crates that only a program may depend on: a library returns its own errors and leaves the terminal alone.
const FOR_PROGRAMS: &[&str] = &["anyhow", "clap", "ctrlc", "indicatif"];

/// Checks the dependencies that every manifest declares.
pub(super) fn check(root: &Path, faults: &mut Vec<Fault>) -> Result<()> {
    let cargo: OsString = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&capture(&mut command)?).context("cargo metadata")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for package in metadata["packages"].as_array().context("cargo metadata: no packages")? {
        let dependencies: Vec<String> =
            package["dependencies"].as_array().into_iter().flatten().map(|one| text(&one["name"])).collect();
        let manifest = text(&package["manifest_path"]);
        let path = Path::new(&manifest).strip_prefix(root).map_or(manifest.clone(), |path| path.display().to_string());
        let wrong = wrong(&text(&package["name"]), &dependencies);
        faults.extend(wrong.into_iter().map(|what| Fault::new(&path, 0, what)));
    }
    Ok(())
}

/// What is wrong with the dependencies of one crate.
fn wrong(name: &str, dependencies: &[String]) -> Vec<String> {
    let Some((_, below)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        return vec![format!("{name} has no place among the layers: see ARCHITECTURE.md and xtask/src/tidy/layers.rs")];
    };
    let program = ["pare-llm", "xtask"].contains(&name);
    let mut wrong = Vec::new();
    for dependency in dependencies {
        let ours = LAYERS.iter().any(|(layer, _)| layer == dependency);
        if ours && !below.contains(&dependency.as_str()) {
            wrong.push(format!("{name} depends on {dependency}, which is not below it"));
        }
        if !program && FOR_PROGRAMS.contains(&dependency.as_str()) {
            wrong.push(format!("{name} depends on {dependency}, which is for programs"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, dependencies: &[&str]) -> usize {
        wrong(name, &dependencies.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).len()
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(faults("pare-model", &["pare-kernels", "pare-format", "serde"]), 0);
        assert_eq!(faults("pare-kernels", &["pare-format"]), 1, "siblings");
        assert_eq!(faults("pare-model", &["pare-methods"]), 1);
        assert_eq!(faults("pare-methods", &["pare-format"]), 1);
        assert_eq!(faults("pare-serve", &[]), 1, "a crate without a place");
    }

    #[test]
    fn a_layer_is_above_all_that_it_may_use() {
        for (index, (name, below)) in LAYERS.iter().enumerate() {
            for lower in *below {
                let place = LAYERS.iter().position(|(layer, _)| layer == lower);
                assert!(place.is_some_and(|place| place < index), "{name} and {lower}");
            }
        }
    }

    #[test]
    fn libraries_leave_the_terminal_alone() {
        assert_eq!(faults("pare-engine", &["anyhow", "indicatif"]), 2);
        assert_eq!(faults("pare-llm", &["anyhow", "indicatif"]), 0);
    }
}
