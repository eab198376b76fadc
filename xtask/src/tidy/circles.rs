//! No circle among the modules of a crate: two that need each other are one, or share something that belongs below both.

use super::{Fault, File};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Each module at the top of a crate (a file and the folder of its name) with those that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Checks every crate. Tests may use what they like.
pub(super) fn check(files: &[File], faults: &mut Vec<Fault>) {
    let mut crates: BTreeMap<&str, Uses> = BTreeMap::new();
    for file in files.iter().filter(|file| file.extension() == "rs" && file.name() != "tests.rs") {
        let (Some((source, within)), Some(text)) = (file.path.split_once("/src/"), &file.text) else { continue };
        let module = within.split(['/', '.']).next().unwrap_or_default();
        if !["lib", "main"].contains(&module) {
            let own = crates.entry(source).or_default().entry(module.to_owned()).or_default();
            own.extend(used(text, !within.contains('/')));
        }
    }
    for (source, uses) in &crates {
        let mut known = BTreeSet::new();
        for module in uses.keys() {
            if known.contains(module) {
                continue;
            }
            if let Some(circle) = circle(uses, module) {
                faults.push(Fault::new(
                    &format!("{source}/src"),
                    0,
                    format!("{}: a circle of modules", circle.join(" -> ")),
                ));
                known.extend(circle);
            }
        }
    }
}

/// The modules at the top of its crate that a file names outside of its tests.
fn used(text: &str, at_the_top: bool) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for root in ["crate::", "super::"].iter().filter(|&&root| root == "crate::" || at_the_top) {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            // `pare_engine::...` in a path of another crate, or `super::super::`.
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':') {
                continue;
            }
            found.extend(names(&code[at + root.len()..]));
        }
    }
    found
}

/// The first name, or the first of each path in braces.
fn names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(inside) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut start, mut found) = (0usize, 0, Vec::new());
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(name(&inside[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(name(&inside[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The shortest way from a module back to itself.
fn circle(uses: &Uses, start: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| uses.get(last)).into_iter().flatten() {
            if !uses.contains_key(next) || (way.len() == 1 && next == start) {
                continue;
            }
            let longer = [way.clone(), vec![next.clone()]].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: Some((*text).to_owned()) })
            .collect();
        let mut faults = Vec::new();
        check(&files, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_circle_is_found_through_folders_and_braces() {
        let found = faults(&[
            ("crates/x/src/a.rs", "use crate::{Error, b::{C, D}, e};\n"),
            ("crates/x/src/b/deep.rs", "fn f() { crate::c::g() }\n"),
            ("crates/x/src/c.rs", "use super::a::A;\n"),
            ("crates/x/src/e.rs", "use std::fmt;\n"),
            ("crates/x/src/lib.rs", "pub use a::A;\n"),
        ]);
        assert_eq!(found, ["crates/x/src: a -> b -> c -> a: a circle of modules"]);
    }

    #[test]
    fn tests_comments_other_crates_and_a_module_itself_are_none() {
        let found = faults(&[
            ("crates/x/src/a.rs", "use crate::b::B;\nuse crate::a::c::C;\n"),
            (
                "crates/x/src/b.rs",
                "//! As [`crate::a`].\nuse other_crate::a::A;\n\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n",
            ),
            ("crates/x/src/b/tests.rs", "use crate::a::A;\n"),
            ("crates/y/src/b.rs", "use crate::a::A;\n"),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
