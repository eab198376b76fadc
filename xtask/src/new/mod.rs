//! Skeletons of new methods, in the shape that the files of their axis have.

use crate::tidy::AXES;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;

const GOLDEN: &str = include_str!("golden.txt");
/// Axes whose files are alike enough for a skeleton.
const SKELETONS: &[(&str, &str)] = &[
    ("score", include_str!("score.txt")),
    ("allocate", include_str!("allocate.txt")),
    ("compensate", include_str!("compensate.txt")),
    ("encode", include_str!("encode.txt")),
];

/// Writes the method's file and its golden's script, and says what is left to do.
///
/// # Errors
/// An unknown axis, a name that is not kebab-case, a method of this name.
pub(crate) fn write(root: &Path, axis: &str, name: &str) -> Result<()> {
    let Some((_, skeleton)) = SKELETONS.iter().find(|(known, _)| *known == axis) else {
        let known: Vec<&str> = SKELETONS.iter().map(|(known, _)| *known).collect();
        let why = if AXES.contains(&axis) { "has no skeleton, see its files" } else { "is no axis" };
        bail!("{axis:?} {why}; expected one of {}", known.join(", "));
    };
    let name = Name::parse(name)?;
    let snake = &name.snake;
    let method = format!("crates/pare-methods/src/{axis}/{snake}.rs");
    let golden = format!("goldens/{axis}/{snake}.py");
    for path in [&method, &golden] {
        if root.join(path).exists() {
            bail!("{path} exists");
        }
    }
    for (path, text) in [(&method, skeleton), (&golden, &GOLDEN)] {
        let full = root.join(path);
        fs::create_dir_all(full.parent().unwrap_or(root)).with_context(|| path.clone())?;
        fs::write(&full, name.fill(axis, text)).with_context(|| path.clone())?;
        println!("wrote {path}");
    }
    let camel = &name.camel;
    println!(
        "
left to do, in this order (CONTRIBUTING.md says more):
  1. {method}: the head, the card, the pure function, the numbers by hand
  2. crates/pare-methods/src/{axis}/mod.rs: `mod {snake};`, `pub use {snake}::{camel};`, `{snake}::ENTRY` in the ENTRIES, by name
  3. {golden}: finish it, run it once, commit it with its output
  4. crates/pare-methods/tests/suite/: compare with that output, in the golden_*.rs of the axis or in golden.rs
  5. cargo xtask methods, then cargo xtask check"
    );
    Ok(())
}

/// A method's name, as in `block-influence`, in the three ways in which it is written.
struct Name {
    kebab: String,
    snake: String,
    camel: String,
}

impl Name {
    fn parse(kebab: &str) -> Result<Self> {
        let word = |word: &str| {
            let mut letters = word.chars();
            letters.next().is_some_and(|first| first.is_ascii_lowercase())
                && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        };
        if !kebab.split('-').all(word) {
            bail!("{kebab:?} is no name: expected words of small letters joined by hyphens, as block-influence");
        }
        let camel = kebab.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        Ok(Self { kebab: kebab.to_owned(), snake: kebab.replace('-', "_"), camel })
    }

    fn fill(&self, axis: &str, skeleton: &str) -> String {
        skeleton
            .replace("$AXIS", axis)
            .replace("$NAME", &self.kebab)
            .replace("$SNAKE", &self.snake)
            .replace("$CAMEL", &self.camel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::headings;

    #[test]
    fn names_are_written_in_three_ways() {
        let name = Name::parse("block-influence2").unwrap();
        assert_eq!((name.snake.as_str(), name.camel.as_str()), ("block_influence2", "BlockInfluence2"));
        for bad in ["", "Wanda", "block_influence", "-a", "a--b", "2a", "é"] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn skeletons_have_the_whole_head_and_cannot_pass_as_done() {
        let name = Name::parse("block-influence").unwrap();
        for (axis, skeleton) in SKELETONS {
            let text = name.fill(axis, skeleton);
            assert_eq!(headings(&text), Vec::<String>::new(), "{axis}");
            assert!(text.contains(concat!("to", "do!(")), "{axis}");
            assert!(!text.contains('$'), "{axis}");
        }
        assert!(!name.fill("score", GOLDEN).contains('$'));
    }
}
