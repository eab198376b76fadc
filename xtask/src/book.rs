//! One book of README.md, ARCHITECTURE.md and docs/, and the commands in it that take too long for CI.

use crate::check;
use crate::project::{Project, run};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Where the book's own files are.
const SOURCE: &str = "docs/book";
/// The test that runs the tutorial, and what names the folder in which it does so on the tutorial's own model.
const TUTORIAL: [&str; 2] = ["documents::the_tutorial_runs_as_it_stands", "PARE_BOOK"];

/// Runs the commands and builds the book.
///
/// # Errors
/// A command that fails; a chapter that is not there.
pub(crate) fn book(project: &Project) -> Result<()> {
    let folder = project.target.join("book");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    assemble(&project.root, &folder)?;
    let mut mdbook = project.command("mdbook");
    match mdbook.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => run(project.command("mdbook").arg("build").arg(&folder))?,
        _ => println!("not built: mdbook is not installed (`cargo install mdbook --locked`)"),
    }
    let [test, place] = TUTORIAL;
    let work = folder.join("tutorial");
    fs::create_dir_all(&work)?;
    run(check::prepared(project, &["--test", "end_to_end", "--", "--exact", "--nocapture", test])?.env(place, &work))?;
    run(project.pare("release").args(["demo", "-o"]).arg(folder.join("demo")))
}

/// The chapters at the places at which they stand in the checkout, so that their links hold.
fn assemble(root: &Path, folder: &Path) -> Result<()> {
    let summary = fs::read_to_string(root.join(SOURCE).join("SUMMARY.md")).context("SUMMARY.md")?;
    let source = folder.join("src");
    fs::create_dir_all(&source)?;
    fs::copy(root.join(SOURCE).join("book.toml"), folder.join("book.toml")).context("book.toml")?;
    fs::write(source.join("SUMMARY.md"), &summary)?;
    for chapter in chapters(&summary) {
        if !root.join(chapter).is_file() {
            bail!("{SOURCE}/SUMMARY.md: no chapter {chapter}");
        }
        let place = source.join(chapter);
        fs::create_dir_all(place.parent().unwrap_or(&source))?;
        fs::copy(root.join(chapter), place).with_context(|| chapter.to_owned())?;
    }
    Ok(())
}

/// The files that a summary links, from the root of the checkout.
fn chapters(summary: &str) -> impl Iterator<Item = &str> {
    summary.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chapter_is_there_and_every_text_for_users_is_a_chapter() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let summary = fs::read_to_string(root.join(SOURCE).join("SUMMARY.md")).unwrap();
        let named: Vec<&str> = chapters(&summary).collect();
        for chapter in &named {
            assert!(root.join(chapter).is_file(), "{chapter}");
        }
        for entry in fs::read_dir(root.join("docs")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                assert!(named.contains(&format!("docs/{name}").as_str()), "docs/{name} is in no book");
            }
        }
    }

    #[test]
    fn chapters_are_the_links_of_a_summary() {
        assert_eq!(
            chapters("# A\n\n[a](README.md)\n- [b](docs/b.md)\n").collect::<Vec<_>>(),
            ["README.md", "docs/b.md"]
        );
    }
}
