//! Rules of every text: size, leftovers, white space, paths of one machine, empty names.

use super::{Fault, File};

/// A file that a reader holds in mind at once.
const LONG: usize = 400;
/// A file that must be parted.
const TOO_LONG: usize = 600;
/// Texts that people write; data keeps its own form.
const WRITTEN: &[&str] = &["css", "html", "js", "md", "py", "rs", "sh", "toml", "yaml", "yml"];
/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// What must not be left behind in Rust. Spelt in two pieces, so that this list does not find itself.
const LEFTOVERS: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "a test that does not run proves nothing"),
    (concat!("to", "do!("), "unfinished"),
    (concat!("unimpl", "emented!("), "unfinished"),
    (concat!("db", "g!("), "left over from debugging"),
    (concat!("\"to", "do"), "unfinished: a text of a card"),
    (concat!("// to", "do:"), "unfinished"),
];
/// Where one machine keeps its users and builds.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Checks one text; a file on its way to being too long is a remark.
pub(super) fn check(file: &File, text: &str, faults: &mut Vec<Fault>, remarks: &mut Vec<Fault>) {
    let path = file.path.as_str();
    let written = WRITTEN.contains(&file.extension()) || !file.name().contains('.');
    if path.starts_with("crates/") && written {
        let lines = text.lines().count();
        if lines > TOO_LONG {
            faults.push(Fault::new(path, 0, format!("{lines} lines, at most {TOO_LONG}: part it by idea")));
        } else if lines > LONG {
            remarks.push(Fault::new(path, 0, format!("{lines} lines, from {LONG} on a file is hard to hold in mind")));
        }
    }
    if file.extension() == "rs" {
        for name in path.split('/').chain([file.stem()]) {
            if EMPTY_NAMES.contains(&name) {
                faults.push(Fault::new(path, 0, format!("{name:?} says nothing: name it after what it does")));
            }
        }
    }
    for (index, line) in text.lines().enumerate() {
        let mut fault = |what: String| faults.push(Fault::new(path, index + 1, what));
        if written && line.ends_with([' ', '\t']) {
            fault("white space at the end of the line".to_owned());
        }
        if let Some(found) = MACHINE_PATHS.iter().find(|found| stands_alone(line, found)) {
            fault(format!("{found} is a path of one machine"));
        }
        if file.extension() == "rs" {
            for (found, why) in LEFTOVERS.iter().filter(|(found, _)| line.contains(found)) {
                fault(format!("{found}: {why}"));
            }
        }
    }
    if written && !text.is_empty() && !text.ends_with('\n') {
        faults.push(Fault::new(path, 0, "no line break at the end of the file"));
    }
}

/// Whether `needle` begins a path somewhere in `line`, and is not the middle of one.
fn stands_alone(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !['.', '_', '-', '}', '~', '*', '$'].contains(&before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(path: &str, text: &str) -> Vec<String> {
        let (mut faults, mut remarks) = (Vec::new(), Vec::new());
        let file = File { path: path.to_owned(), text: None };
        check(&file, text, &mut faults, &mut remarks);
        faults.into_iter().chain(remarks).map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn finds_leftovers_in_rust_alone() {
        let line = format!("{}\n", LEFTOVERS[0].0);
        assert_eq!(faults_of("crates/a/src/x.rs", &line).len(), 1);
        assert!(faults_of("CONTRIBUTING.md", &line).is_empty());
        assert_eq!(faults_of("crates/a/src/x.rs", &format!("fn f() {{ {}) }}\n", LEFTOVERS[3].0)).len(), 1);
    }

    #[test]
    fn finds_white_space_and_paths() {
        assert_eq!(faults_of("a.md", "x \n"), ["a.md:1: white space at the end of the line"]);
        assert_eq!(faults_of("a.md", "x"), ["a.md: no line break at the end of the file"]);
        assert!(faults_of("goldens/a.json", "x ").is_empty());
        assert_eq!(faults_of("a.py", &format!("p = '{}me'\n", MACHINE_PATHS[1])).len(), 1);
        assert!(faults_of("a.py", &format!("see example.org{}me\n", MACHINE_PATHS[0])).is_empty());
    }

    #[test]
    fn counts_lines_of_crates() {
        assert!(faults_of("crates/a/src/x.rs", &"\n".repeat(LONG)).is_empty());
        assert!(faults_of("crates/a/src/x.rs", &"\n".repeat(TOO_LONG))[0].contains("600 lines, from 400 on"));
        assert!(faults_of("crates/a/src/x.rs", &"\n".repeat(TOO_LONG + 1))[0].contains("601 lines, at most"));
        assert!(faults_of("goldens/a.py", &"\n".repeat(TOO_LONG + 1)).is_empty());
    }

    #[test]
    fn refuses_names_that_say_nothing() {
        assert_eq!(faults_of("crates/a/src/utils.rs", "").len(), 1);
        assert_eq!(faults_of("crates/a/tests/common/mod.rs", "").len(), 1);
        assert!(faults_of("crates/a/src/uncommon.rs", "").is_empty());
    }
}
