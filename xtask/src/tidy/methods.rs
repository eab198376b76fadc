//! Rules of the methods: the head of each file, and that axes do not know each other.

use super::{Fault, File};

/// Folders of crates/pare-methods/src that hold one file per idea.
pub(crate) const AXES: &[&str] = &["score", "allocate", "compensate", "encode", "rewrite", "merge", "metric"];
/// What the head of a method's file says, in this order.
const HEADINGS: &[&str] =
    &["Source", "Formula", "Shapes", "Needs", "Parameters", "Cost", "Departs", "Errors", "Exactness"];

/// Checks one file, when it is on an axis.
pub(super) fn check(file: &File, text: &str, faults: &mut Vec<Fault>) {
    let Some(rest) = file.path.strip_prefix("crates/pare-methods/src/") else { return };
    let Some((axis, rest)) = rest.split_once('/').filter(|(axis, _)| AXES.contains(axis)) else { return };
    if file.extension() != "rs" {
        return;
    }
    for (line, other) in foreign(text, axis) {
        let what = format!("{axis} reads {other}: axes meet only in a recipe; what both need goes beside the folders");
        faults.push(Fault::new(&file.path, line, what));
    }
    // Deeper files and tests belong to a method that has its head elsewhere.
    if !rest.contains('/') && !["mod.rs", "tests.rs"].contains(&rest) {
        faults.extend(headings(text).into_iter().map(|what| Fault::new(&file.path, 0, what)));
        let open = |line: &str| line.starts_with("//!") && line.contains(concat!("to", "do"));
        let unfinished = text.lines().enumerate().filter(|(_, line)| open(line));
        faults.extend(unfinished.map(|(index, _)| Fault::new(&file.path, index + 1, "the head is unfinished")));
    }
}

/// What the head of a method's file lacks.
pub(crate) fn headings(text: &str) -> Vec<String> {
    let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let mut wrong = Vec::new();
    let mut last = None;
    for heading in HEADINGS {
        let found = head.iter().position(|line| {
            line.strip_prefix(heading).is_some_and(|said| said.starts_with(' ') && !said.trim().is_empty())
        });
        match found {
            None => wrong.push(format!("the head does not say {heading:?}")),
            Some(at) if last.is_some_and(|last| at < last) => {
                wrong.push(format!("{heading:?} is out of order: {}", HEADINGS.join(", ")));
            }
            Some(at) => last = Some(at),
        }
    }
    wrong
}

/// Lines that name another axis, with its name.
fn foreign(text: &str, axis: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (at, start) in text.match_indices("crate::").map(|(at, name)| (at, at + name.len())) {
        let line = text[..at].matches('\n').count() + 1;
        // A comment may speak of another axis.
        if text[..at].lines().next_back().is_some_and(|line| line.trim_start().starts_with("//")) {
            continue;
        }
        let roots = roots(&text[start..]);
        let others = AXES.iter().filter(|other| **other != axis && roots.contains(*other));
        found.extend(others.map(|other| (line, *other)));
    }
    found
}

/// The first names of a path, or of each path of a group in braces.
fn roots(path: &str) -> Vec<&str> {
    let name = |path: &str| path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    let Some(group) = path.strip_prefix('{') else { return vec![&path[..name(path)]] };
    let mut roots = Vec::new();
    let (mut depth, mut fresh) = (0, true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            letter if fresh && letter.is_alphabetic() => {
                roots.push(&group[at..at + name(&group[at..])]);
                fresh = false;
            }
            _ => {}
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> String {
        HEADINGS.iter().map(|heading| format!("//! {heading:<10} x\n")).collect()
    }

    #[test]
    fn every_heading_is_asked_for_in_order() {
        assert!(headings(&head()).is_empty());
        for heading in HEADINGS {
            let gone = head().replace(&format!("//! {heading} "), "//! Nothing ");
            assert_eq!(headings(&gone), [format!("the head does not say {heading:?}")]);
        }
        let turned: String = head().lines().rev().map(|line| format!("{line}\n")).collect();
        assert_eq!(headings(&turned).len(), HEADINGS.len() - 1);
        assert_eq!(headings(&head().replace("Cost       x", "Cost")).len(), 1);
    }

    #[test]
    fn finds_other_axes_in_paths_and_groups() {
        let text = "use crate::card::Card;\nuse crate::{allocate::Row, error::{A, score}};\n// crate::metric\n";
        assert_eq!(foreign(text, "score"), [(2, "allocate")]);
        assert_eq!(foreign("let x = crate::score::find(\"wanda\");\n", "compensate"), [(1, "score")]);
        assert!(foreign("use crate::score::Score;\nuse crate::scores::S;\n", "score").is_empty());
        assert_eq!(foreign("use crate::{\n    card::Card,\n    metric,\n};\n", "score"), [(1, "metric")]);
    }

    #[test]
    fn other_files_have_no_head() {
        let mut faults = Vec::new();
        for path in
            ["crates/pare-methods/src/score/mod.rs", "crates/pare-methods/src/card.rs", "crates/pare/src/main.rs"]
        {
            check(&File { path: path.to_owned(), text: None }, "", &mut faults);
        }
        assert!(faults.is_empty(), "{faults:?}");
        check(&File { path: "crates/pare-methods/src/score/x.rs".to_owned(), text: None }, "", &mut faults);
        assert_eq!(faults.len(), HEADINGS.len());
    }

    #[test]
    fn an_unfinished_head_is_no_head() {
        let mut faults = Vec::new();
        let file = File { path: "crates/pare-methods/src/score/x.rs".to_owned(), text: None };
        check(&file, &head().replace("Cost       x", concat!("Cost       to", "do")), &mut faults);
        assert_eq!(faults, [Fault::new(&file.path, 6, "the head is unfinished")]);
    }
}
