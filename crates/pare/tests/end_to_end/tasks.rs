//! `pare eval --tasks` and `--whole-text`: what papers report.

use crate::model::Tiny;
use crate::program::pare;
use crate::words::story;
use serde_json::{Value, json};

const FIXED: [&str; 4] = ["--probes", "0", "--no-speed", "--json"];

fn eval(tiny: &Tiny, arguments: &[&str]) -> Value {
    pare([&["eval", &tiny.name()], &FIXED[..], arguments].concat()).json()
}

/// The logits after `prompt`.
fn logits(tiny: &Tiny, prompt: &str) -> Vec<f64> {
    let (prompts, output) = (tiny.write("prompts.txt", prompt), tiny.path("logits.json"));
    pare(["logits", &tiny.name(), "--prompts", &prompts, "-o", &output]).succeeds();
    let found: Value = serde_json::from_slice(&std::fs::read(output).unwrap()).unwrap();
    found["prompts"][0]["logits"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn choices_are_weighed_by_their_logits() {
    let tiny = Tiny::new();
    let held_out = tiny.write("b.txt", story(900, 2));
    // The tokens are characters. White space at the end of the prompt, or a space where there is none, comes before the choice.
    let rows = [
        json!({ "prompt": "a b", "choices": ["c", "d"], "answer": 0 }),
        json!({ "prompt": "a b ", "choices": ["c", "d"], "answer": 1, "about": "the same" }),
        json!({ "prompt": "a b", "choices": [" c", " d"], "answer": 0 }),
    ];
    let file = tiny.write("tasks.jsonl", rows.map(|row| format!("{row}\n\n")).concat());
    let model = tiny.name();
    let found = eval(&tiny, &["--held-out", &held_out, "--tasks", &file, "--against", &model]);
    let tasks = &found["tasks"];
    let likely = logits(&tiny, "a b ");
    let (c, d) = (likely[usize::from(b'c')], likely[usize::from(b'd')]);
    for (index, outcome) in tasks["outcomes"].as_array().unwrap().iter().enumerate() {
        let nats: Vec<f64> =
            outcome["log_likelihoods"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        assert!((nats[0] - nats[1] - (c - d)).abs() < 1e-5, "{nats:?}: {c} {d}");
        assert_eq!(outcome["is_right"], (c > d) == (index != 1));
    }
    let share = if c > d { 2.0 / 3.0 } else { 1.0 / 3.0 };
    assert!((tasks["accuracy"]["mean"].as_f64().unwrap() - share).abs() < 1e-12, "{tasks}");
    // One of three: the squares add up to 2/3, over 2 and over 3.
    assert!((tasks["accuracy"]["standard_error"].as_f64().unwrap() - (1.0f64 / 9.0).sqrt()).abs() < 1e-12);
    assert_eq!(tasks["difference"], json!({ "mean": 0.0, "standard_error": 0.0 }));
    assert_eq!(tasks["tasks"], 3);
}

#[test]
fn exact_answers_are_what_greedy_decoding_writes() {
    let tiny = Tiny::new();
    let held_out = tiny.write("b.txt", story(900, 2));
    let written = pare(["run", &tiny.name(), "a b", "-n", "20", "--json"]).json();
    let line = written["text"].as_str().unwrap().trim_start().lines().next().unwrap_or("").trim().to_owned();
    let rows = [json!({ "prompt": "a b", "answer": "zzz" }), json!({ "prompt": "a b", "answer": "q" })];
    let file = tiny.write("tasks.jsonl", rows.map(|row| format!("{row}\n")).concat());
    let found = eval(&tiny, &["--held-out", &held_out, "--tasks", &file]);
    let first = found["tasks"]["outcomes"][0]["written"].as_str().unwrap();
    assert!(!first.is_empty() && (line.starts_with(first) || first.starts_with(&line)), "{first:?} {line:?}");
    assert_eq!(found["tasks"]["accuracy"]["mean"], 0.0);
    assert_eq!(found["tasks"]["accuracy_per_character"], Value::Null);
    // Told to the letter, it is right.
    let file = tiny.write("tasks.jsonl", json!({ "prompt": "a b", "answer": first }).to_string());
    let again = eval(&tiny, &["--held-out", &held_out, "--tasks", &file]);
    let second = again["tasks"]["outcomes"][0]["written"].as_str().unwrap();
    assert_eq!(again["tasks"]["outcomes"][0]["is_right"], second == first, "{second:?}");
}

#[test]
fn a_whole_text_is_measured_in_windows_or_by_a_stride() {
    let tiny = Tiny::new();
    let text = story(900, 2);
    let exact: String = text.chars().take(32 * 20).collect();
    let held_out = tiny.write("b.txt", &exact);
    let perplexity = |arguments: &[&str]| {
        let fixed = ["--held-out", held_out.as_str(), "--context", "32"];
        eval(&tiny, &[&fixed[..], arguments].concat())["perplexity"].as_f64().unwrap()
    };
    let whole = perplexity(&["--whole-text"]);
    // 20 whole windows, as many as --windows asks for: the same tokens.
    assert_eq!(whole, perplexity(&["--windows", "20"]));
    assert_eq!(whole, perplexity(&["--whole-text", "--stride", "32"]));
    // Every token has at least 24 before it.
    assert_ne!(whole, perplexity(&["--whole-text", "--stride", "8"]));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let tiny = Tiny::new();
    let (model, held_out) = (tiny.name(), tiny.write("b.txt", story(900, 2)));
    let long = tiny.write("long.jsonl", json!({ "prompt": "a".repeat(70), "answer": "b" }).to_string());
    let bad = tiny.write("bad.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"a\"}\n");
    let cut = tiny.write("cut.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\", \"score\": NaN}\n{\"prompt\": \"a\"");
    let empty = tiny.write("empty.jsonl", "\n");
    for (arguments, parts) in [
        (&["--tasks", long.as_str()][..], &["long.jsonl: line 1", "holds 64"][..]),
        (&["--tasks", bad.as_str()], &["bad.jsonl: line 2", "\"answer\""]),
        (&["--tasks", cut.as_str()], &["cut.jsonl: line 2: not valid JSON", "(column 14)"]),
        (&["--tasks", empty.as_str()], &["empty.jsonl", "no task"]),
        (&["--tasks", "nothing.jsonl"], &["nothing.jsonl"]),
        (&["--stride", "8"], &["--whole-text"]),
        (&["--whole-text", "--stride", "65"], &["--stride 65", "64 tokens"]),
        (&["--whole-text", "--stride", "0"], &["--stride"]),
    ] {
        pare([&["eval", &model, "--held-out", &held_out], arguments].concat()).refuses(parts);
    }
    pare(["eval", &model, "--whole-text"]).refuses(&["--held-out"]);
}
