//! The commands of README.md and docs/tutorial.md, run as they stand there: on tiny models, and by `cargo xtask book` on the model of the text.

use crate::model::Tiny;
use crate::program::{LIMIT, apart_from_user, collect, wait};
use crate::words::story;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What names the folder in which the tutorial is run on its own model; unset in CI.
const BOOK: &str = "PARE_BOOK";
/// Longest that the whole tutorial may take on its own model.
const BOOK_LIMIT: Duration = Duration::from_secs(4 * 3600);

/// A fenced block of a document.
struct Fence {
    /// What stands behind the opening fence.
    info: String,
    /// Its lines.
    text: String,
}

fn document(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

fn fences(document: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<Fence> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some(Fence { info: info.to_owned(), text: String::new() }),
            (Some(_), Some(_)) => fences.extend(open.take()),
            (None, Some(fence)) => fence.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block that never ends");
    fences
}

/// The fence with the command lines `pare ...` of README.md.
fn commands() -> Vec<String> {
    let fences = fences(&document("README.md"));
    let listed = fences.iter().find(|fence| fence.text.starts_with("pare demo ")).unwrap();
    // Behind two spaces stands what the command is for.
    listed.text.lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect()
}

/// Runs a script of bash in `folder`, `pare` on its path; what it wrote to both streams. Fails unless it succeeds.
fn bash(folder: &Path, script: &str, limit: Duration, own_model: bool) -> String {
    let programs = folder.join("bin");
    fs::create_dir_all(&programs).unwrap();
    let link = programs.join("pare");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pare"), link).unwrap();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(programs).chain(std::env::split_paths(&paths));
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -euo pipefail\n{script}")]).current_dir(folder);
    command.env("PATH", std::env::join_paths(paths).unwrap()).stdin(Stdio::null());
    if !own_model {
        apart_from_user(&mut command);
        command.env("PARE_CACHE", folder.join("cache"));
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let code = wait(&mut child, limit).unwrap_or_else(|| panic!("still running after {limit:?}:\n{script}"));
    let said = format!("{}\n{}", stdout.join().unwrap(), stderr.join().unwrap());
    assert_eq!(code, Some(0), "{script}\n{said}");
    said
}

/// A model that knows a chat template and takes 8192 tokens, in blocks of 8 bits, as the file `path`.
fn tiny_file(tiny: &Tiny, path: &Path) {
    let config = tiny.model().join("config.json");
    let mut told: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    told["max_position_embeddings"] = json!(8192);
    tiny.write("model/config.json", told.to_string());
    let template = "{% for message in messages %}{{ message['content'] }}{% endfor %}";
    tiny.write("model/tokenizer_config.json", json!({ "chat_template": template }).to_string());
    crate::program::pare(["export", &tiny.name(), "--gguf", "q8_0", "-o", path.to_str().unwrap()]).succeeds();
}

/// The words behind `-o` and `--report` in a script.
fn outputs(script: &str) -> Vec<&str> {
    let words: Vec<&str> = script.split_whitespace().collect();
    words.windows(2).filter(|pair| ["-o", "--report"].contains(&pair[0])).map(|pair| pair[1]).collect()
}

#[test]
fn the_tutorial_runs_as_it_stands() {
    let text = document("docs/tutorial.md");
    let blocks = fences(&text);
    for block in &blocks {
        let runs = block.info.starts_with("sh");
        assert!(runs || !block.text.contains("pare "), "a block of commands begins with ```sh:\n{}", block.text);
    }
    let book = std::env::var_os(BOOK).map(PathBuf::from);
    let tiny = Tiny::five_blocks();
    let folder = book.clone().unwrap_or_else(|| tiny.folder().join("work"));
    fs::create_dir_all(&folder).unwrap();
    let (fetches, other): (Vec<&Fence>, Vec<&Fence>) =
        blocks.iter().filter(|block| block.info.starts_with("sh")).partition(|block| block.info == "sh fetch");
    assert!(fetches.len() == 1 && other.len() >= 5, "{} and {}", fetches.len(), other.len());
    let script: String = other.iter().map(|block| block.text.as_str()).collect();
    if book.is_some() {
        bash(&folder, &fetches[0].text, BOOK_LIMIT, true);
    } else {
        // The file that the first block fetches, under its name.
        let name = fetches[0].text.split_whitespace().find(|word| word.ends_with(".gguf")).unwrap();
        tiny_file(&tiny, &folder.join(name));
    }
    let said = bash(&folder, &script, if book.is_some() { BOOK_LIMIT } else { LIMIT }, book.is_some());
    let written = outputs(&script);
    assert!(written.len() >= 4, "{written:?}");
    for output in written {
        assert!(folder.join(output).exists(), "{output}\n{said}");
    }
    if book.is_some() {
        fs::write(folder.join("tutorial.log"), said).unwrap();
    }
}

#[test]
fn every_command_of_the_readme_runs_with_the_options_that_it_names() {
    let tiny = Tiny::five_blocks();
    let folder = tiny.folder().join("work");
    fs::create_dir_all(&folder).unwrap();
    tiny_file(&tiny, &folder.join("model.gguf"));
    fs::copy(folder.join("model.gguf"), folder.join("other.gguf")).unwrap();
    fs::write(folder.join("a.txt"), story(4000, 1)).unwrap();
    fs::write(folder.join("b.txt"), story(4000, 2)).unwrap();
    // llama-bench is not there: the other peer that the option takes stands in.
    let peer = format!("pare={}", env!("CARGO_BIN_EXE_pare"));
    let (mut left_out, mut outputs) = (Vec::new(), Vec::new());
    for line in commands() {
        let name = line.split_whitespace().nth(1).unwrap().to_owned();
        // One needs minutes and the real model, the other a hub.
        if ["demo", "pull"].contains(&name.as_str()) {
            left_out.push(name);
            continue;
        }
        let mut made: Option<String> = None;
        let mut before = "";
        let mut words = Vec::new();
        let bare = line.replace(['[', ']'], "");
        for word in bare.split(' ') {
            let output = ["-o", "--report"].contains(&before);
            words.push(match word {
                "MODEL" | "MODEL..." | "A" | "A.gguf" | "REF" => "model.gguf".to_owned(),
                "B" => "other.gguf".to_owned(),
                "DIR" if !output => outputs.iter().find(|made: &&String| !made.contains('.')).unwrap().clone(),
                "DIR" | "FILE" | "FILE.gguf" => {
                    let ending = if word == "DIR" {
                        ""
                    } else if word == "FILE" {
                        ".html"
                    } else {
                        ".gguf"
                    };
                    made.insert(format!("{name}{}{ending}", outputs.len())).clone()
                }
                "llama.cpp=PATH" => peer.clone(),
                word => word.to_owned(),
            });
            before = word;
        }
        // What keeps it short, and a place for what is written.
        let texts = "--text a.txt --held-out b.txt --context 64 --calibration-windows 4 --windows 2";
        let more = match name.as_str() {
            "shrink" | "merge" | "inspect" => texts.to_owned(),
            "imatrix" => "--text a.txt --context 64 --calibration-windows 4".to_owned(),
            "compare" if line.contains("--models") => {
                "--held-out b.txt --context 64 --windows 2 --probes 1 --no-speed".to_owned()
            }
            "eval" => format!("{texts} --probes 1 --no-speed"),
            "compare" => format!("{texts} --probes 1 --no-speed --recipes slim"),
            "export" if line.contains("mixed") => {
                format!("{texts} -o {}", made.insert(format!("mixed{}.gguf", outputs.len())))
            }
            "run" => "--tokens 4".to_owned(),
            "bench" => "--prompt 16 --tokens 4 --contexts 0 --rounds 3".to_owned(),
            _ => String::new(),
        };
        let said = bash(&folder, &format!("{} {more} --quiet", words.join(" ")), LIMIT, false);
        if let Some(made) = made {
            assert!(folder.join(&made).exists(), "{line}: {made}: {said}");
            outputs.push(made);
        }
    }
    assert_eq!(left_out, ["demo", "pull"]);
    assert!(outputs.len() >= 6, "{outputs:?}");
}

#[test]
fn the_first_commands_of_the_readme_are_those_that_are_run_elsewhere() {
    // The demonstration by `cargo xtask book`, the tests by everybody.
    let fences = fences(&document("README.md"));
    assert_eq!(fences[0].text, "cargo run --release -- demo\ncargo xtask test\n");
    let with_commands = fences.iter().filter(|fence| fence.text.lines().any(|line| line.starts_with("pare "))).count();
    assert_eq!(with_commands, 1, "the list of commands alone: a further block is run by a test of its own");
}
