//! The project's own rules, which neither the compiler nor clippy knows.

mod circles;
mod data;
mod layers;
mod methods;
mod text;

pub(crate) use data::OWN;
pub(crate) use methods::AXES;
#[cfg(test)]
pub(crate) use methods::headings;

use anyhow::{Context as _, Result, bail};
use std::fmt;
use std::fs;
use std::path::Path;

/// Folders of the project; what people put beside them (models, results) is not looked at.
const FOLDERS: &[&str] = &[".ci", "bench", "crates", "docs", "goldens", "recipes", "tools", "xtask"];
/// Folders inside them that tools write.
const WRITTEN_BY_TOOLS: &[&str] = &["target", "corpus", "artifacts", "coverage", "__pycache__"];

/// A broken rule and its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Path from the root, with `/`.
    path: String,
    /// Line, from 1; 0 for the whole file.
    line: usize,
    /// What is wrong, and what is right.
    what: String,
}

impl Fault {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// A file of the project.
struct File {
    /// Path from the root, with `/`.
    path: String,
    /// Its text; none when it is not text.
    text: Option<String>,
}

impl File {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn stem(&self) -> &str {
        self.name().split_once('.').map_or(self.name(), |(stem, _)| stem)
    }

    fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

/// Checks every rule and prints what breaks one.
///
/// # Errors
/// A broken rule; a file that cannot be read.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = files(root)?;
    let mut faults = Vec::new();
    let mut remarks = Vec::new();
    for file in &files {
        if let Some(text) = &file.text {
            text::check(file, text, &mut faults, &mut remarks);
            methods::check(file, text, &mut faults);
            data::check_recipe(file, text, &mut faults);
        }
    }
    data::check_goldens(&files, &mut faults);
    circles::check(&files, &mut faults);
    layers::check(root, &mut faults)?;
    remarks.iter().for_each(|remark| println!("remark: {remark}"));
    faults.iter().for_each(|fault| println!("{fault}"));
    if !faults.is_empty() {
        bail!("{} places break a rule", faults.len());
    }
    println!("{} files keep the rules", files.len());
    Ok(())
}

/// Every file of the project's folders, and those at the root, by path.
fn files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    read_folder(root, "", false, &mut files)?;
    for folder in FOLDERS {
        if root.join(folder).is_dir() {
            read_folder(&root.join(folder), &format!("{folder}/"), true, &mut files)?;
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// A model or a report that somebody wrote beside the sources is none of ours.
fn belongs_at_the_root(name: &str) -> bool {
    name.starts_with("LICENSE") || name == ".gitignore" || name.ends_with(".md") || name.ends_with(".toml")
}

fn read_folder(folder: &Path, prefix: &str, deep: bool, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() && deep && !WRITTEN_BY_TOOLS.contains(&name.as_str()) {
            read_folder(&entry.path(), &format!("{prefix}{name}/"), deep, files)?;
        } else if kind.is_file() && (deep || belongs_at_the_root(&name)) {
            let bytes = fs::read(entry.path()).with_context(|| entry.path().display().to_string())?;
            let text = if bytes.contains(&0) { None } else { String::from_utf8(bytes).ok() };
            files.push(File { path: format!("{prefix}{name}"), text });
        }
    }
    Ok(())
}
