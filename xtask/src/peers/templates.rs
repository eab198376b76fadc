//! Comparison with transformers: chat templates of many models, rendered by both.

use super::llama_cpp::sources;
use super::{date, machine};
use crate::project::{Project, capture, capture_any, run};
use crate::python;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Rendering needs no torch.
const TRANSFORMERS: &[(&str, &str)] = &[("transformers", "5.24.0"), ("jinja2", "3.1.6")];
const SCRIPT: &str = "tools/peer_templates.py";
/// Where the sources of llama.cpp keep the templates of models.
const TEMPLATES: &str = "vendor/llama.cpp/models/templates";

/// Renders every template that llama.cpp ships, or those of `folder`, on a battery of conversations, and writes
/// docs/peers/templates-DATE.md. The templates are other people's text: they are fetched and never kept here.
///
/// # Errors
/// A program that is missing or fails; templates that differ, after the page is written.
pub(crate) fn templates(project: &Project, folder: Option<&str>) -> Result<()> {
    let peers = project.target.join("peers");
    let templates = match folder {
        Some(folder) => PathBuf::from(folder),
        None => sources(project, &peers.join("llama.cpp"))?.join(TEMPLATES),
    };
    let python = python::environment(project, &peers.join("templates-venv"), TRANSFORMERS)?;
    run(project.command("cargo").args(["build", "--release", "--locked", "-p", "pare-format", "--example", "render"]))?;
    let render = project.target.join("release/examples/render");
    let (said, agrees) = capture_any(project.command(&python).arg(SCRIPT).arg(render).arg(&templates))?;
    let report: Value = serde_json::from_str(&said).with_context(|| format!("{SCRIPT} printed:\n{said}"))?;
    let commit = capture(project.command("git").args(["describe", "--always", "--dirty"]))?;
    let path = format!("docs/peers/templates-{}.md", date(project)?);
    let head = format!("pare {}. Machine: {}.", commit.trim(), machine());
    fs::write(project.root.join(&path), page(&path, &head, &report)).with_context(|| path.clone())?;
    println!("wrote {path}");
    if !agrees {
        bail!("templates differ, see {path}");
    }
    Ok(())
}

/// The page of one comparison.
fn page(path: &str, head: &str, report: &Value) -> String {
    let verdict = match report["agrees"].as_bool() {
        Some(true) => "Every prompt is the same, and what one refuses the other refuses.",
        _ => "**Some prompts differ.**",
    };
    let title = path.trim_start_matches("docs/peers/").trim_end_matches(".md");
    let mut page = format!(
        "# {title}\n\n{verdict}\n\n{} templates that llama.cpp ships (llama-cpp-python, `{TEMPLATES}`), {} prompts, {} of them refused by \
         transformers; {} of these stop in a TypeError of the template itself (a loop over tools that are not there) and pare renders \
         them. {head} Peer: transformers {}, jinja2 {}.\nAgain: `cargo xtask peers templates`.\n",
        report["templates"],
        report["cases"],
        report["raised"],
        report["lenient"],
        report["versions"]["transformers"].as_str().unwrap_or("?"),
        report["versions"]["jinja2"].as_str().unwrap_or("?"),
    );
    for (name, row) in report["differing"].as_object().into_iter().flatten() {
        let first = &row["first"];
        page.push_str(&format!("\n## {name}\n\n{} prompts. The first: {}\n", row["cases"], first["case"]));
        for side in ["transformers", "pare"] {
            page.push_str(&format!("\n{side}:\n\n```\n{}\n```\n", first[side]));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::page;
    use serde_json::json;

    #[test]
    fn the_page_shows_what_differs() {
        let versions = json!({"transformers": "5", "jinja2": "3"});
        let same = json!({"versions": versions, "templates": 2, "cases": 8, "raised": 1, "lenient": 0, "agrees": true, "differing": {}});
        let text = page("docs/peers/templates-2026-01-02.md", "pare abc.", &same);
        assert!(text.starts_with("# templates-2026-01-02\n\nEvery prompt is the same"), "{text}");
        assert!(text.contains("2 templates") && text.contains("8 prompts, 1 of them refused"), "{text}");
        let mut other = same;
        other["agrees"] = json!(false);
        other["differing"] = json!({"a.jinja": {"cases": 3, "first": {"case": "user", "transformers": {"text": "x"}, "pare": {"text": "y"}}}});
        let text = page("docs/peers/templates-2026-01-02.md", "pare abc.", &other);
        assert!(
            text.contains("**Some prompts differ.**")
                && text.contains("## a.jinja\n\n3 prompts")
                && text.contains(r#"{"text":"y"}"#),
            "{text}"
        );
    }
}
