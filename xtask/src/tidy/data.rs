//! Rules of recipes and goldens.

use super::{Fault, File};

/// Files under `goldens/` that come from pare, not from a script beside them.
pub(crate) const OWN: &[&str] = &["goldens/end-to-end.tsv", "goldens/end-to-end/run.txt"];

/// A recipe is found by its file's name, so the two names are one.
pub(super) fn check_recipe(file: &File, text: &str, faults: &mut Vec<Fault>) {
    if file.folder() != "recipes" {
        return;
    }
    let Some(stem) = file.name().strip_suffix(".toml") else {
        return faults.push(Fault::new(&file.path, 0, "only recipes, *.toml, belong here"));
    };
    let top = text.lines().take_while(|line| !line.trim_start().starts_with('['));
    let name = top.filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "name");
    match name.map(|(_, value)| value.trim()) {
        Some(name) if name == format!("{stem:?}") => {}
        Some(name) => {
            faults.push(Fault::new(&file.path, 0, format!("its name is {name}, expected {stem:?} as the file")))
        }
        None => faults.push(Fault::new(&file.path, 0, format!("no name, expected {stem:?} as the file"))),
    }
}

/// Every golden can be made again: a script in its folder, or in one above it, has its name or names it.
pub(super) fn check_goldens(files: &[File], faults: &mut Vec<Fault>) {
    let goldens = || files.iter().filter(|file| file.path.starts_with("goldens/"));
    let scripts: Vec<&File> = goldens().filter(|file| file.extension() == "py").collect();
    for file in goldens().filter(|file| !["py", "md"].contains(&file.extension())) {
        if OWN.contains(&file.path.as_str()) {
            continue;
        }
        if !scripts.iter().any(|script| makes(script, file)) {
            let what = format!("no script in {}/ or above has its name or names it: where is it from?", file.folder());
            faults.push(Fault::new(&file.path, 0, what));
        }
    }
}

fn makes(script: &File, file: &File) -> bool {
    if script.folder() == file.folder() && script.stem() == file.stem() {
        return true;
    }
    let text = script.text.as_deref().unwrap_or_default();
    let Some(inner) = file.folder().strip_prefix(script.folder()) else { return false };
    match inner.trim_start_matches('/').split('/').next() {
        Some("") | None => text.contains(file.name()),
        Some(folder) => inner.starts_with('/') && text.contains(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: Some(text.to_owned()) }
    }

    #[test]
    fn goldens_need_a_script() {
        let orphans = |files: &[File]| {
            let mut faults = Vec::new();
            check_goldens(files, &mut faults);
            faults.len()
        };
        let script = || file("goldens/score/wanda.py", "writes 'other.bin' and a folder 'tiny'");
        assert_eq!(orphans(&[file("goldens/score/wanda.json", "")]), 1);
        assert_eq!(orphans(&[script(), file("goldens/score/wanda.json", "")]), 0);
        assert_eq!(orphans(&[script(), file("goldens/score/other.bin", "")]), 0);
        assert_eq!(orphans(&[script(), file("goldens/score/another.bin", "")]), 1);
        assert_eq!(orphans(&[script(), file("goldens/score/tiny/model.safetensors", "")]), 0);
        assert_eq!(orphans(&[script(), file("goldens/score/huge/model.safetensors", "")]), 1);
        assert_eq!(orphans(&[script(), file("goldens/metric/other.bin", "")]), 1);
        assert_eq!(orphans(&[script(), file("goldens/scores/other.bin", "")]), 1);
        assert_eq!(orphans(&[file(OWN[0], ""), file("goldens/README.md", "")]), 0);
    }

    #[test]
    fn a_recipe_has_the_name_of_its_file() {
        let wrong = |path: &str, text: &str| {
            let mut faults = Vec::new();
            check_recipe(&file(path, text), text, &mut faults);
            faults.len()
        };
        assert_eq!(wrong("recipes/slim.toml", "# a recipe\nname = \"slim\"\n"), 0);
        assert_eq!(wrong("recipes/slim.toml", "name = \"thin\"\n"), 1);
        assert_eq!(wrong("recipes/slim.toml", "[[cut]]\nname = \"slim\"\n"), 1);
        assert_eq!(wrong("recipes/notes.txt", ""), 1);
        assert_eq!(wrong("docs/slim.toml", ""), 0);
    }
}
