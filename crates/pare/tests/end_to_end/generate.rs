//! `pare run`.

use crate::model::{Tiny, tokenizer};
use crate::program::{LIMIT, collect, pare, real, wait};
use serde_json::Value;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const MODEL: &str = "smollm2-135m";
const PROMPT: &str = "Once upon a time there was a";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/end-to-end/run.txt")
}

#[test]
fn real_text_is_the_golden_one() {
    let found = real(["run", MODEL, PROMPT, "-n", "40", "--weights", "exact"]).succeeds();
    let golden = golden();
    if std::env::var_os("PARE_UPDATE_GOLDENS").is_some() {
        let head = format!(
            "# pare run {MODEL} {PROMPT:?} -n 40 --weights exact\n# Written by the end-to-end tests: cargo xtask golden --update\n"
        );
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        return fs::write(golden, head + &found).unwrap();
    }
    let file = fs::read_to_string(&golden).unwrap();
    let expected: String = file.split_inclusive('\n').skip_while(|line| line.starts_with('#')).collect();
    assert_eq!(found, expected);
}

#[test]
fn real_text_is_the_same_at_any_number_of_threads() {
    let json = |threads: &str| real(["run", MODEL, PROMPT, "-n", "12", "--json", "--threads", threads]).json();
    let (one, two) = (json("1"), json("2"));
    let mut keys: Vec<&String> = one.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["fit", "peak_memory_bytes", "prompt_tokens", "seconds", "text", "tokens"]);
    assert_eq!(one["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(one["prompt_tokens"], 7);
    assert!(one["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!((&one["tokens"], &one["text"]), (&two["tokens"], &two["text"]));
}

#[test]
fn real_draws_depend_on_the_seed_alone() {
    let draw = |seed: &str, threads: &str| {
        let sampling = ["--temperature", "0.8", "--top-p", "0.95", "--top-k", "50", "--min-p", "0.02"];
        let fixed = ["run", MODEL, PROMPT, "-n", "12", "--seed", seed, "--threads", threads];
        real([&fixed[..], &sampling].concat()).succeeds()
    };
    let first = draw("7", "2");
    assert_eq!(first, draw("7", "1"));
    assert_ne!(first, draw("8", "2"));
}

#[test]
fn real_reader_that_leaves_ends_it_quietly() {
    let mut child = real(["run", MODEL, PROMPT, "-n", "2000", "--ignore-end", "--quiet"]).start();
    let mut first = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let stderr = collect(child.stderr.take());
    // Long before 2,000 tokens are written.
    assert_eq!(wait(&mut child, LIMIT), Some(Some(0)));
    assert_eq!(stderr.join().unwrap(), "");
}

#[test]
fn tables_and_json_end_quietly_too_when_nobody_reads() {
    let tiny = Tiny::new();
    let model = tiny.name();
    for arguments in
        [&["methods"][..], &["methods", "--json"], &["run", &model, "hi", "--json", "--quiet"], &["--help"]]
    {
        let mut child = pare(arguments).start();
        drop(child.stdout.take());
        let stderr = collect(child.stderr.take());
        assert_eq!(wait(&mut child, LIMIT), Some(Some(0)), "{arguments:?}");
        assert_eq!(stderr.join().unwrap(), "", "{arguments:?}");
    }
}

#[test]
fn text_and_json_agree_and_options_hold() {
    let tiny = Tiny::new();
    let model = tiny.name();
    let run = |more: &[&str]| pare([&["run", &model, "The fox"], more].concat());
    let figures = run(&["-n", "20", "--json"]).json();
    let Value::Array(tokens) = &figures["tokens"] else { panic!("{figures}") };
    assert_eq!((tokens.len(), &figures["prompt_tokens"]), (20, &Value::from(7)));
    // Without an end of text in its tokenizer the tiny model ends at the ids of its configuration.
    assert!(tokens.iter().all(|token| token.as_u64().unwrap() < 128));
    let text = figures["text"].as_str().unwrap();
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { c.escape_default().to_string() } else { c.into() })
        .collect();
    assert_eq!(run(&["-n", "20"]).succeeds(), shown + "\n");
    assert_eq!(run(&["-n", "0"]).succeeds(), "\n");
    // The context is the limit: 64 tokens, 7 of them the prompt's.
    let all = run(&["-n", "1000", "--ignore-end", "--json"]).json();
    assert_eq!(all["tokens"].as_array().unwrap().len(), 57);
    // One token to choose from: a draw is greedy.
    let drawn = run(&["-n", "20", "--json", "--temperature", "1", "--top-k", "1", "--seed", "3"]).json();
    assert_eq!(drawn["tokens"], figures["tokens"]);
    for weights in ["f32", "f16", "bf16"] {
        assert_eq!(run(&["-n", "1", "--weights", weights, "--json"]).json()["tokens"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn logits_say_what_a_greedy_run_writes() {
    let tiny = Tiny::new();
    let (output, prompts) = (tiny.path("logits.json"), tiny.write("prompts.txt", "Hello\n\nfox\n"));
    pare(["logits", &tiny.name(), "-o", &output, "--prompts", &prompts]).succeeds();
    let written: Value = serde_json::from_str(&fs::read_to_string(output).unwrap()).unwrap();
    let written = written["prompts"].as_array().unwrap();
    let ids: Vec<&Value> = written.iter().map(|prompt| &prompt["ids"]).collect();
    assert_eq!(ids, [&serde_json::json!([72, 101, 108, 108, 111]), &serde_json::json!([102, 111, 120])]);
    assert!(written.iter().all(|prompt| prompt["logits"].as_array().unwrap().len() == 128));
    let best = |logits: &Value| {
        let logits = logits.as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).enumerate();
        logits.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
    };
    let first = pare(["run", &tiny.name(), "Hello", "-n", "1", "--json"]).json();
    assert_eq!(first["tokens"][0], best(&written[0]["logits"]));
}

#[test]
fn prompts_beyond_the_context_are_refused_alike() {
    let tiny = Tiny::new();
    let long = "a".repeat(65);
    let prompts = tiny.write("prompts.txt", &long);
    let says = ["the prompt has 65 tokens", "context holds 64"];
    pare(["run", &tiny.name(), &long]).refuses(&says);
    pare(["logits", &tiny.name(), "--prompts", &prompts, "-o", &tiny.path("out.json")]).refuses(&says);
}

#[test]
fn templates_see_the_day_that_is_given() {
    let tiny = Tiny::new();
    tiny.write("model/chat_template.jinja", "{{ strftime_now('%d') }}");
    let tokens = |date: &str| {
        pare(["run", &tiny.name(), "x", "--chat", "-n", "1", "--json", "--date", date]).json()["tokens"].clone()
    };
    // The prompt is the day alone: the same day, the same answer.
    assert_eq!(tokens("2026-03-09"), tokens("2025-12-09"));
    pare(["run", &tiny.name(), "x", "--chat", "--date", "2026-02-30"]).refuses(&["--date", "2026-02-30"]);
    // Without an option it is today.
    pare(["run", &tiny.name(), "x", "--chat", "-n", "1"]).succeeds();
}

#[test]
fn special_tokens_are_text_unless_asked_for() {
    let tiny = Tiny::new();
    let mut json = tokenizer(Some("<|im_end|>"));
    json["added_tokens"][0]["special"] = true.into();
    tiny.write("model/tokenizer.json", json.to_string());
    let count = |arguments: &[&str]| {
        let fixed = ["run", &tiny.name(), "a<|im_end|>", "-n", "1", "--json"];
        pare([&fixed[..], arguments].concat()).json()["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!((count(&[]), count(&["--special"])), (11, 2));
}
