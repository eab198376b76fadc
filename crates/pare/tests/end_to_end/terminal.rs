//! What files and names hold never drives the terminal: control characters are shown, not sent.

use crate::model::{Tiny, tokenizer};
use crate::program::pare;
use crate::words::story;
use serde_json::Value;
use std::fs;

/// Moves the cursor, changes the title, rings, deletes; C1 forms too.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{8}\r\u{7f}\u{9b}31m";

fn tame(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t')
}

/// Runs a command whatever its exit code; neither stream holds a control character.
fn stays_tame(arguments: &[&str]) -> String {
    let ended = pare(arguments).run();
    assert!(tame(&ended.stdout) && tame(&ended.stderr), "{arguments:?}: {ended:?}");
    ended.stdout + &ended.stderr
}

#[test]
fn hostile_paths() {
    let tiny = Tiny::new();
    let model = tiny.path(&format!("m{HOSTILE}"));
    fs::rename(tiny.model(), &model).unwrap();
    let (a, b) = (tiny.write(&format!("a{HOSTILE}.txt"), story(900, 1)), tiny.write("b.txt", story(900, 2)));
    let output = tiny.path(&format!("o{HOSTILE}"));
    let missing = tiny.path(&format!("none{HOSTILE}"));
    let report = tiny.path(&format!("r{HOSTILE}.html"));
    assert!(stays_tame(&["run", &missing, "hi"]).contains("\\u{1b}[2J"));
    stays_tame(&["run", &model, "hi", "-n", "8"]);
    assert!(stays_tame(&["inspect", &model, "--text", &a, "--report", &report]).contains("\\u{1b}"));
    stays_tame(&["eval", &model, "--held-out", &a, "--no-speed", "--probes", "0"]);
    stays_tame(&["shrink", &model, "--recipe", &missing, "-o", &output]);
    stays_tame(&["shrink", &model, "--recipe", "slim", "-o", &model]);
    let shrink = ["shrink", &model, "--recipe", "slim", "--text", &a, "--held-out", &b, "-o", &output];
    assert!(stays_tame(&shrink).contains("written: "));
    stays_tame(&shrink);
    stays_tame(&["shrink", &model, "--recipe", "slim", "--text", &a, "--held-out", &a, "-o", &missing]);
    for page in [report, output.clone() + "/report.html"] {
        let page = fs::read_to_string(page).unwrap();
        assert!(tame(&page) && page.contains("⟨ESC⟩"));
    }

    // JSON keeps the name, spelt so that it passes through a terminal.
    let printed = stays_tame(&["--quiet", "eval", &model, "--held-out", &a, "--no-speed", "--probes", "0", "--json"]);
    let figures: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(figures["label"], Value::from(model));
}

#[test]
fn hostile_tokens() {
    let tiny = Tiny::new();
    tiny.write("model/tokenizer.json", tokenizer(Some(HOSTILE)).to_string());
    let model = tiny.name();
    let mut shown = 0;
    for seed in 0..20 {
        let seed = seed.to_string();
        let arguments = ["run", &model, "hi", "-n", "60", "--temperature", "2", "--seed", &seed];
        shown += usize::from(stays_tame(&arguments).contains("\\u{1b}[2J"));
        let printed = stays_tame(&[&arguments[..], &["--json", "--quiet"]].concat());
        let text = serde_json::from_str::<Value>(&printed).unwrap()["text"].clone();
        shown += usize::from(text.as_str().unwrap().contains(HOSTILE));
    }
    assert!(shown > 0, "the hostile token was never drawn");
}

#[test]
fn hostile_recipes_and_texts() {
    let tiny = Tiny::new();
    let model = tiny.name();
    let output = tiny.path("out");
    let recipe = tiny.write("own.toml", format!("name = \"x\"\n\"{HOSTILE}\" = 1\n"));
    stays_tame(&["shrink", &model, "--recipe", &recipe, "-o", &output]);
    let recipe = tiny.write("own.toml", "name = \"x\"\n\"\\u001b[2J\" = 1\n");
    stays_tame(&["shrink", &model, "--recipe", &recipe, "-o", &output]);
    // The overlap is quoted in the message.
    let text = tiny.write("a.txt", HOSTILE.replace('\u{9b}', "").repeat(100));
    let said = stays_tame(&["shrink", &model, "--recipe", "slim", "-o", &output, "--text", &text, "--held-out", &text]);
    assert!(said.contains("overlap"));
    let file = tiny.model().join("config.json");
    let config = fs::read_to_string(&file).unwrap().replace("\"silu\"", "\"\\u001b[2J\\u009b\"");
    fs::write(file, config).unwrap();
    stays_tame(&["run", &model, "hi"]);
}
