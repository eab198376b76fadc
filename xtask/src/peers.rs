//! Comparison with other programs: does what pare wrote load there, and are the numbers the same?

mod llama_cpp;
mod log_probs;
mod templates;

pub(crate) use llama_cpp::llama_cpp;
pub(crate) use templates::templates;

use crate::project::{FETCH, Project, capture, capture_any, run};
use crate::python;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;

/// Some gigabytes: `torch` brings its GPU libraries with it.
const TRANSFORMERS: &[(&str, &str)] = &[("torch", "2.15.0"), ("transformers", "5.23.0"), ("safetensors", "0.8.0")];
const SCRIPT: &str = "tools/peer_transformers.py";
/// Prose, code, figures, and letters beyond ASCII.
const PROMPTS: &str = "\
The river that runs through the old town has carried
def area(width, height): return
3, 6, 9, 12,
Ein Dreieck hat drei Ecken; à midi, il fait 20 °C.
";

/// Loads a model that pare wrote in transformers, compares logits, and writes docs/peers/transformers-DATE.md.
///
/// # Errors
/// A program that is missing or fails; logits that differ, after the page is written.
pub(crate) fn transformers(project: &Project, directory: Option<&str>) -> Result<()> {
    let folder = project.target.join("peers");
    let python = python::environment(project, &folder.join("transformers-venv"), TRANSFORMERS)?;
    let (prompts, logits) = (folder.join("prompts.txt"), folder.join("logits.json"));
    fs::write(&prompts, PROMPTS).with_context(|| prompts.display().to_string())?;

    let (model, made_by) = match directory {
        Some(directory) => (directory.into(), format!("the directory {directory}")),
        None => {
            let out = folder.join("slim");
            if out.exists() {
                fs::remove_dir_all(&out).with_context(|| out.display().to_string())?;
            }
            run(project.pare("release").args(FETCH))?;
            run(project
                .pare("release")
                .args(["shrink", FETCH[1], "--recipe", "slim", "--no-verify", "--json", "-o"])
                .arg(&out))?;
            (out, format!("`pare shrink {} --recipe slim`", FETCH[1]))
        }
    };
    let mut write_logits = project.pare("release");
    run(write_logits.arg("logits").arg(&model).arg("--prompts").arg(&prompts).arg("-o").arg(&logits))?;

    let (said, agrees) = capture_any(project.command(&python).arg(SCRIPT).arg(&model).arg(&logits))?;
    let report: Value = serde_json::from_str(&said).with_context(|| format!("{SCRIPT} printed:\n{said}"))?;
    let date = date(project)?;
    let commit = capture(project.command("git").args(["describe", "--always", "--dirty"]))?;
    let about = About { date: &date, commit: commit.trim(), made_by: &made_by, machine: &machine() };
    let path = format!("docs/peers/transformers-{}.md", about.date);
    fs::write(project.root.join(&path), page(&about, &report)).with_context(|| path.clone())?;
    println!("wrote {path}");
    if !agrees {
        bail!("transformers does not agree, see {path}");
    }
    Ok(())
}

/// Today, as in 2026-01-31.
fn date(project: &Project) -> Result<String> {
    let system = std::env::var_os("PARE_PYTHON").unwrap_or_else(|| "python3".into());
    let today = "import datetime; print(datetime.datetime.now(datetime.timezone.utc).date())";
    Ok(capture(project.command(system).args(["-c", today]))?.trim().to_owned())
}

/// Where the figures are from.
struct About<'a> {
    date: &'a str,
    commit: &'a str,
    made_by: &'a str,
    machine: &'a str,
}

/// The page of one comparison.
fn page(about: &About<'_>, report: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let versions = report["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> = versions.map(|(name, version)| format!("{name} {}", text(version))).collect();
    let verdict = match report["agrees"].as_bool() {
        Some(true) => "The logits agree.".to_owned(),
        Some(false) => format!("**The logits do not agree.** Problems: {}", report["problems"]),
        None => format!("**It does not load.** {}", text(&report["error"])),
    };
    let mut page = format!(
        "# transformers, {}\n\n{verdict}\n\n\
         Model: {}. pare {}. Peer: {}. Machine: {}.\n\
         Again: `cargo xtask peers transformers`.\n\n\
         Tolerance: {} on every logit of the last position, in f32.\n",
        about.date,
        about.made_by,
        about.commit,
        versions.join(", "),
        about.machine,
        text(&report["tolerance"]),
    );
    if let Some(prompts) = report["prompts"].as_array() {
        page.push_str("\n| prompt | tokens | largest difference | same best token |\n|---|---|---|---|\n");
        for (index, prompt) in prompts.iter().enumerate() {
            let difference = prompt["max_abs_diff"].as_f64().map_or("?".to_owned(), |most| format!("{most:.1e}"));
            let same = if prompt["same_top1"] == true { "yes" } else { "no" };
            let _ = writeln!(page, "| {} | {} | {difference} | {same} |", index + 1, text(&prompt["tokens"]));
        }
    }
    page
}

/// Processor and threads, as the system names them.
fn machine() -> String {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(": "));
    format!("{}, {threads} threads, {}", name.map_or(std::env::consts::ARCH, |(_, name)| name), std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ABOUT: About<'_> = About { date: "2026-01-02", commit: "abc", made_by: "m", machine: "one" };

    #[test]
    fn the_page_shows_figures_and_verdict() {
        let report = json!({"versions": {"torch": "2"}, "tolerance": 0.002, "agrees": true, "problems": {},
            "prompts": [{"tokens": 7, "max_abs_diff": 0.000123, "same_top1": true}]});
        let page = page(&ABOUT, &report);
        assert!(page.starts_with("# transformers, 2026-01-02\n\nThe logits agree.\n"), "{page}");
        assert!(page.contains("| 1 | 7 | 1.2e-4 | yes |"), "{page}");
        assert!(page.contains("Peer: torch 2."), "{page}");
    }

    #[test]
    fn a_failure_is_said_first() {
        let page = page(&ABOUT, &json!({"versions": {}, "tolerance": 1, "error": "KeyError: x"}));
        assert!(page.contains("**It does not load.** KeyError: x"), "{page}");
        let off = json!({"agrees": false, "problems": {"missing_keys": ["a"]}, "prompts": []});
        assert!(super::page(&ABOUT, &off).contains("do not agree.** Problems: {\"missing_keys\":[\"a\"]}"));
    }
}
