//! Comparison with llama.cpp: does it load what pare exported, and does it predict the same?

use super::log_probs::{Agreement, Base};
use super::{date, machine};
use crate::project::{FETCH, Project, capture, run};
use crate::python;
use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Brings the sources of llama.cpp.
const SOURCE: &str = "llama-cpp-python==0.3.36";
/// What unpacking them needs: the isolation of pip would fetch and build it again, without end on some machines.
const BUILD: &[(&str, &str)] = &[
    ("scikit-build-core", "0.11.6"),
    ("cmake", "4.1.2"),
    ("ninja", "1.13.0"),
    ("pathspec", "0.12.1"),
    ("setuptools-scm", "9.2.2"),
];
const TOOLS: [&str; 4] = ["llama-perplexity", "llama-quantize", "llama-bench", "llama-imatrix"];
/// Instructions that are named one by one, because a native build takes some that virtual machines announce and do not have: flag of
/// the processor, option of ggml.
const FEATURES: &[(&str, &str)] = &[
    ("avx", "GGML_AVX"),
    ("avx2", "GGML_AVX2"),
    ("bmi2", "GGML_BMI2"),
    ("fma", "GGML_FMA"),
    ("f16c", "GGML_F16C"),
    ("avx512f", "GGML_AVX512"),
    ("avx512_vnni", "GGML_AVX512_VNNI"),
    ("avx512_bf16", "GGML_AVX512_BF16"),
];

/// Files that are compared: name, the recipe that pares the model first, type.
const FILES: &[(&str, Option<&str>, &str)] = &[
    ("f16", None, "f16"),
    ("q8_0", None, "q8_0"),
    ("q4_0", None, "q4_0"),
    ("q4_k_m", None, "q4_k_m"),
    ("slim-free-f16", Some("slim-free"), "f16"),
    ("llm-drop-f16", Some("llm-drop"), "f16"),
];
/// Tokens of a window, and windows.
const CONTEXT: usize = 512;
const WINDOWS: usize = 4;
/// Largest mean divergence of files in f16, which both programs compute in f32 or f16 arithmetic.
const MOST_DIVERGENCE: f64 = 1e-3;
/// Largest relative difference of perplexities of those.
const MOST_DIFFERENCE: f64 = 0.005;
/// The same for quantised files, which llama.cpp computes with activations rounded to 8 bits.
const MOST_QUANTISED: f64 = 0.01;

/// Exports the built-in model in several types, runs llama.cpp on them, and writes docs/peers/llama.cpp-DATE.md.
///
/// # Errors
/// A program that is missing or fails; predictions that differ, after the page is written.
pub(crate) fn llama_cpp(project: &Project, tools: Option<&str>) -> Result<()> {
    let folder = project.target.join("peers").join("llama.cpp");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let tools = match tools {
        Some(tools) => PathBuf::from(tools),
        None => build(project, &folder)?,
    };
    let version = version(&tools)?;
    run(project.pare("release").args(FETCH))?;
    let text = folder.join("text.txt");
    let words = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/METHODS.md"];
    let words = words.map(|name| fs::read_to_string(project.root.join(name)).with_context(|| name.to_owned()));
    fs::write(&text, words.into_iter().collect::<Result<String>>()?).with_context(|| text.display().to_string())?;

    let mut rows = Vec::new();
    for &(name, recipe, ty) in FILES {
        let source = match recipe {
            None => PathBuf::from(FETCH[1]),
            Some(recipe) => {
                let out = folder.join(recipe);
                let mut shrink = project.pare("release");
                shrink.args(["shrink", FETCH[1], "--recipe", recipe, "--no-verify", "--json", "--force", "-o"]);
                run(shrink.arg(&out))?;
                out
            }
        };
        let file = folder.join(format!("{name}.gguf"));
        run(project.pare("release").arg("export").arg(&source).args(["--gguf", ty, "--force", "-o"]).arg(&file))?;
        let row = compare(project, &folder, &tools, &text, &file);
        rows.push((name, ty, row.with_context(|| name.to_owned())));
    }
    let date = date(project)?;
    let commit = capture(project.command("git").args(["describe", "--always", "--dirty"]))?;
    let path = format!("docs/peers/llama.cpp-{date}.md");
    let about = format!("pare {}. Peer: {version}. Machine: {}, one thread of llama.cpp.", commit.trim(), machine());
    fs::write(project.root.join(&path), page(&date, &about, &rows)).with_context(|| path.clone())?;
    println!("wrote {path}");
    if rows.iter().any(|(_, ty, row)| !agrees(ty, row)) {
        bail!("llama.cpp does not agree, see {path}");
    }
    Ok(())
}

/// Builds the tools in `folder` and returns where they are.
fn build(project: &Project, folder: &Path) -> Result<PathBuf> {
    let python = python::environment(project, &folder.join("venv"), BUILD)?;
    let source = sources(project, folder)?;
    let build = folder.join("build");
    let cmake = python.with_file_name("cmake");
    let mut configure = project.command(&cmake);
    configure.arg("-S").arg(source.join("vendor/llama.cpp")).arg("-B").arg(&build);
    configure.args(["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=OFF", "-DLLAMA_CURL=OFF"]);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    configure.args(features(&info));
    run(&mut configure)?;
    run(project.command(&cmake).arg("--build").arg(&build).args(["--parallel", "--target"]).args(TOOLS))?;
    Ok(build.join("bin"))
}

/// The sources, fetched by the name of the package that brings them.
pub(super) fn sources(project: &Project, folder: &Path) -> Result<PathBuf> {
    let source = folder.join("source");
    let python = python::environment(project, &folder.join("venv"), BUILD)?;
    if !source.is_dir() {
        fs::create_dir_all(&source)?;
        let options = ["-m", "pip", "download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "-d"];
        run(project.command(&python).args(options).arg(folder).arg(SOURCE))?;
        let archive = format!("{}.tar.gz", SOURCE.replace("==", "-").replace("llama-cpp-python", "llama_cpp_python"));
        run(project
            .command("tar")
            .arg("xzf")
            .arg(folder.join(archive))
            .arg("-C")
            .arg(&source)
            .arg("--strip-components=1"))?;
    }
    Ok(source)
}

/// Options for the instructions that the processor says it has.
fn features(cpuinfo: &str) -> Vec<String> {
    let flags: Vec<&str> = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .map_or(Vec::new(), |rest| rest.split_whitespace().collect());
    let on = |flag: &str| if flags.contains(&flag) { "ON" } else { "OFF" };
    FEATURES.iter().map(|(flag, option)| format!("-D{option}={}", on(flag))).collect()
}

fn tool(tools: &Path, name: &str) -> Command {
    let mut command = Command::new(tools.join(name));
    // The libraries lie beside the programs.
    command.env("LD_LIBRARY_PATH", tools);
    command
}

fn version(tools: &Path) -> Result<String> {
    let output = tool(tools, TOOLS[0]).arg("--version").output().with_context(|| tools.display().to_string())?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let line = said.lines().find(|line| line.contains("version"));
    Ok(format!("llama.cpp of {SOURCE}, {}", line.unwrap_or("version unknown").trim()))
}

/// What both programs predict in the second half of each window.
fn compare(project: &Project, folder: &Path, tools: &Path, text: &Path, file: &Path) -> Result<Agreement> {
    let base_file = folder.join("base.bin");
    let mut perplexity = tool(tools, TOOLS[0]);
    perplexity.arg("-m").arg(file).arg("-f").arg(text).arg("--save-all-logits").arg(&base_file);
    perplexity.args(["-t", "1", "-c", &CONTEXT.to_string(), "--chunks", &WINDOWS.to_string()]);
    println!("$ {} on {}", TOOLS[0], file.display());
    let output = perplexity.stdin(Stdio::null()).output().context(TOOLS[0])?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        bail!("{}: {}: {}", TOOLS[0], output.status, last.into_iter().rev().collect::<Vec<_>>().join(" / "));
    }
    let stored = fs::read(&base_file)?;
    let base = Base::parse(&stored)?;
    let (windows, ours) = (folder.join("windows.json"), folder.join("ours.f32"));
    fs::write(&windows, base.windows().to_string())?;
    run(project.pare("release").arg("logits").arg(file).arg("--windows").arg(&windows).arg("-o").arg(&ours))?;
    let agreement = base.compare(&fs::read(&ours)?)?;
    for file in [base_file, ours] {
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
    }
    Ok(agreement)
}

fn agrees(ty: &str, row: &Result<Agreement>) -> bool {
    let Ok(row) = row else { return false };
    let difference = row.difference().abs();
    match ty {
        "f16" => difference <= MOST_DIFFERENCE && row.divergence <= MOST_DIVERGENCE,
        _ => difference <= MOST_QUANTISED,
    }
}

/// The page of one comparison.
fn page(date: &str, about: &str, rows: &[(&str, &str, Result<Agreement>)]) -> String {
    let verdict = match rows.iter().all(|(_, ty, row)| agrees(ty, row)) {
        true => "Every file loads, and the predictions agree.",
        false => "**Not every file agrees.**",
    };
    let mut page = format!(
        "# llama.cpp, {date}\n\n{verdict}\n\n{about}\n\
         Again: `cargo xtask peers llama.cpp` (or with `--tools DIR` for programs that are built already).\n\n\
         Model: {}, exported by `pare export --gguf TYPE`; slim-free and llm-drop are pared by that recipe first, their blocks differ \
         (architecture `deci`). Text: ARCHITECTURE.md, CONTRIBUTING.md and docs/METHODS.md, {WINDOWS} windows of {CONTEXT} tokens. \
         Counted, by both, is the second half of each window: what follows {} and more tokens. Divergence is the mean of \
         KL(llama.cpp to pare) per position, in nats, over the tokens that llama-perplexity keeps (those above e^-16 of the best). \
         llama.cpp computes quantised files with activations rounded to 8 bits, pare in f32. Limits: for f16 perplexity within {:.1} % \
         and a divergence of {MOST_DIVERGENCE:e}; for quantised files perplexity within {:.1} %.\n\n\
         | file | perplexity llama.cpp | perplexity pare | difference | divergence | same best token |\n|---|---|---|---|---|---|\n",
        FETCH[1],
        CONTEXT / 2 + 1,
        100.0 * MOST_DIFFERENCE,
        100.0 * MOST_QUANTISED,
    );
    for (name, ty, row) in rows {
        let mark = if agrees(ty, row) { "" } else { "**" };
        let _ = match row {
            Ok(row) => writeln!(
                page,
                "| {mark}{name}{mark} | {:.4} | {:.4} | {:+.3} % | {:.1e} | {:.2} % of {} |",
                row.theirs,
                row.ours,
                100.0 * row.difference(),
                row.divergence,
                100.0 * row.same_best,
                row.positions
            ),
            Err(error) => writeln!(page, "| {mark}{name}{mark} | {error:#} | | | | |"),
        };
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, divergence: f64) -> Agreement {
        Agreement { theirs: 20.0, ours, divergence, same_best: 0.99, positions: 4 }
    }

    #[test]
    fn the_limits_hold() {
        assert!(agrees("f16", &Ok(row(20.05, 1e-4))));
        assert!(!agrees("f16", &Ok(row(20.05, 2e-3))) && agrees("q4_0", &Ok(row(20.05, 2e-3))));
        assert!(!agrees("q4_0", &Ok(row(19.7, 0.0))) && !agrees("f16", &Ok(row(19.85, 0.0))));
        assert!(!agrees("q4_0", &Err(anyhow::anyhow!("x"))));
    }

    #[test]
    fn a_failure_is_said_first() {
        let rows = [("a", "f16", Ok(row(20.0, 1e-6))), ("b", "f16", Err(anyhow::anyhow!("does not load")))];
        let page = page("2026-01-02", "About.", &rows);
        assert!(page.starts_with("# llama.cpp, 2026-01-02\n\n**Not every file agrees.**\n"), "{page}");
        assert!(page.contains("| a | 20.0000 | 20.0000 | +0.000 % | 1.0e-6 | 99.00 % of 4 |"), "{page}");
        assert!(page.contains("| **b** | does not load |"), "{page}");
    }

    #[test]
    fn only_what_the_processor_has_is_built() {
        let options = features("model name : x\nflags : avx avx2 avx512f amx_tile\n");
        assert!(options.contains(&"-DGGML_AVX512=ON".to_owned()) && options.contains(&"-DGGML_FMA=OFF".to_owned()));
    }
}
