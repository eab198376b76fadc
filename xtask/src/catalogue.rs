//! docs/METHODS.md, which `pare` writes from its registry of methods.

use crate::project::{Project, capture};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::process::Command;

const FILE: &str = "docs/METHODS.md";

/// Writes the catalogue.
pub(crate) fn write(project: &Project) -> Result<()> {
    let text = capture(project.pare("release").args(["methods", "--markdown"]))?;
    fs::write(project.root.join(FILE), text).with_context(|| FILE.to_owned())?;
    println!("wrote {FILE}");
    Ok(())
}

/// Compares the catalogue with what `pare` would write.
pub(crate) fn compare(project: &Project, mut pare: Command) -> Result<()> {
    let expected = capture(pare.args(["methods", "--markdown"]))?;
    let found = fs::read_to_string(project.root.join(FILE)).with_context(|| FILE.to_owned())?;
    match first_difference(&found, &expected) {
        None => Ok(()),
        Some(difference) => bail!("{FILE} is not what the registry says; run `cargo xtask methods`\n{difference}"),
    }
}

/// The first line that differs, both ways; none when the texts are equal.
fn first_difference(found: &str, expected: &str) -> Option<String> {
    if found == expected {
        return None;
    }
    let (found_lines, expected_lines): (Vec<&str>, Vec<&str>) = (found.lines().collect(), expected.lines().collect());
    let same = found_lines.iter().zip(&expected_lines).take_while(|(a, b)| a == b).count();
    let show = |lines: &[&str]| lines.get(same).map_or("(end of the text)".to_owned(), |line| (*line).to_owned());
    Some(format!("line {}:\n- {}\n+ {}", same + 1, show(&found_lines), show(&expected_lines)))
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn shows_the_first_line_that_differs() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\nc\n", "a\nx\nc\n").unwrap(), "line 2:\n- b\n+ x");
        assert_eq!(first_difference("a\n", "a\nb\n").unwrap(), "line 2:\n- (end of the text)\n+ b");
        assert!(first_difference("a", "a\n").is_some());
    }
}
