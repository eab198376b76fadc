//! `pare export`: a file that reads back, and refusals that leave everything as it was.

use crate::model::Tiny;
use crate::program::{names, pare};
use crate::words::story;
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_file_is_written_read_and_not_replaced_unasked() {
    let tiny = Tiny::new();
    let (model, file) = (tiny.name(), tiny.path("m.gguf"));
    let said = pare(["export", &model, "--gguf", "q8_0", "-o", &file, "--json"]).json();
    assert_eq!(said["architecture"], "llama");
    assert_eq!(said["bytes"], fs::metadata(&file).unwrap().len());
    let logits = tiny.path("logits.json");
    pare(["logits", &file, "-o", &logits]).succeeds();
    let before = fs::read(&file).unwrap();
    let again = ["export", &model, "--gguf", "f16", "-o", &file];
    pare(again).refuses(&["m.gguf", "--force"]);
    assert!(fs::read(&file).unwrap() == before);
    let line = pare(again.iter().chain(&["--force"])).succeeds();
    assert!(line.contains("F16") && fs::read(&file).unwrap() != before, "{line}");
    assert_eq!(names(tiny.folder()), ["logits.json", "m.gguf", "model"]);
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let tiny = Tiny::of_family("llama-yarn");
    let (model, file) = (tiny.name(), tiny.path("m.gguf"));
    pare(["export", &model, "--gguf", "q3_k", "-o", &file]).refuses(&["q3_k", "q4_k_m"]);
    pare(["export", &model, "--gguf", "f16", "-o", &file]).refuses(&["cannot be exported", "beta_fast"]);
    pare(["export", &model, "--gguf", "f16", "-o", &model]).refuses(&["model"]);
    assert_eq!(names(tiny.folder()), ["model"]);
}

#[test]
fn off_grid_changes_the_weights_by_its_seed() {
    let tiny = Tiny::new();
    let written = |seed: &str, name: &str| {
        let file = tiny.path(name);
        pare(["export", &tiny.name(), "--gguf", "f32", "--off-grid", seed, "-o", &file]).succeeds();
        fs::read(&file).unwrap()
    };
    assert!(written("1", "a.gguf") == written("1", "b.gguf"));
    assert!(written("1", "c.gguf") != written("2", "d.gguf"));
}

#[test]
fn predictions_of_windows_are_distributions() {
    let tiny = Tiny::new();
    let windows = tiny.write("w.json", r#"{"from": 1, "windows": [[1, 2, 3, 4], [5, 6, 7, 8]]}"#);
    let out = tiny.path("p.f32");
    pare(["logits", &tiny.name(), "--windows", &windows, "-o", &out]).succeeds();
    let bytes = fs::read(&out).unwrap();
    assert_eq!(bytes.len(), 2 * 2 * 128 * 4);
    for row in bytes.chunks(128 * 4) {
        let logs = row.as_chunks::<4>().0.iter().map(|raw| f64::from(f32::from_le_bytes(*raw)));
        assert!((logs.map(f64::exp).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    for bad in [
        r#"{"from": 3, "windows": [[1, 2, 3, 4]]}"#,
        r#"{"from": 0, "windows": [[1, 999]]}"#,
        r#"{"from": 0, "windows": []}"#,
        "{}",
        "null",
    ] {
        let windows = tiny.write("w.json", bad);
        pare(["logits", &tiny.name(), "--windows", &windows, "-o", &tiny.path("bad.f32")]).refuses(&["w.json"]);
    }
}

#[test]
fn requests_that_cannot_be_met_are_refused_before_the_work() {
    let tiny = Tiny::new();
    let (model, file) = (tiny.name(), tiny.path("m.gguf"));
    let export = |more: &[&str]| pare(["export", &model, "-o", &file].into_iter().chain(more.iter().copied()));
    export(&["--gguf", "mixed"]).refuses(&["--bytes"]);
    export(&["--gguf", "mixed", "--bytes", "many"]).refuses(&["many", "91MB"]);
    export(&["--gguf", "q8_0", "--bytes", "91MB"]).refuses(&["--bytes", "mixed"]);
    export(&["--gguf", "q8_0", "--text", "a.txt"]).refuses(&["--text", "--gptq"]);
    export(&["--gguf", "q8_0", "--held-out", "a.txt"]).refuses(&["--held-out", "pare eval"]);
    pare(["export", &model, "--gguf", "q8_0", "--print-plan"]).refuses(&["--print-plan", "mixed"]);
    export(&["--gguf", "f16", "--gptq"]).refuses(&["--gptq", "f16 has no codes to choose"]);
    assert_eq!(names(tiny.folder()), ["model"]);
}

#[test]
fn a_mixed_file_says_what_it_should_lose_and_what_it_loses() {
    let tiny = Tiny::new();
    let (a, b) = (tiny.write("a.txt", story(900, 1)), tiny.write("b.txt", story(900, 2)));
    let (small, file) = (tiny.path("small"), tiny.path("m.gguf"));
    // Rows of whole blocks: 64 of 80 channels.
    let model = tiny.name();
    let shrink = ["shrink", &model, "--recipe", "wanda-sp", "--keep", "0.85", "--context", "48"];
    pare([&shrink[..], &["--no-verify", "--text", &a, "-o", &small]].concat()).succeeds();
    let texts = ["--text", &a, "--held-out", &b, "--context", "48", "--calibration-windows", "8", "--windows", "4"];
    let export = |bytes: &str, more: &[&str]| {
        let fixed = ["export", &small, "--gguf", "mixed", "--bytes", bytes, "--force"];
        pare([&fixed[..], &texts, more].concat())
    };
    let whole = export("1GB", &["-o", &file, "--json"]).json();
    assert_eq!((&whole["predicted_kl"], &whole["measured_kl"]), (&json!(0.0), &Value::Null));
    let against = |file: &str| {
        let measured = ["--held-out", &b, "--context", "48", "--windows", "4", "--probes", "0", "--no-speed", "--json"];
        let measured = [&measured[..], &["--weights", "exact"]].concat();
        let said = pare([&["eval", file, "--against", &small][..], &measured].concat()).json();
        said["kl_mean"].as_f64().unwrap()
    };
    assert!(against(&file) < 1e-12, "a copy");

    let most = whole["bytes"].as_u64().unwrap();
    let less = (most / 2).to_string();
    let before = fs::read(&file).unwrap();
    let plan = export(&less, &["--print-plan"]).succeeds();
    assert!(plan.lines().all(|line| line.starts_with("--t") || line.starts_with("--output-tensor-type ")), "{plan}");
    assert!(plan.contains(r"--tensor-type '^blk\.(") && plan.contains("--token-embedding-type "), "{plan}");
    assert!(fs::read(&file).unwrap() == before, "nothing is written with --print-plan");

    let ended = export(&less, &["-o", &file, "--json"]).run();
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    let figure = |name: &str| said[name].as_f64().unwrap();
    let (predicted, selection, measured) = (figure("predicted_kl"), figure("selection_kl"), figure("measured_kl"));
    assert!(predicted > 0.0 && (measured / against(&file) - 1.0).abs() < 1e-9, "{said}");
    assert!(said["held_out"].as_str().unwrap().contains("b.txt") && figure("bytes") <= less.parse().unwrap(), "{said}");
    // Losses add up on the text that chose the types, and that choice carries over to the text that is held out.
    let apart = |a: f64, b: f64| !(1.0 / 1.5..=1.5).contains(&((a + 1e-3) / (b + 1e-3)));
    let gap = apart(selection, predicted) || apart(measured, selection);
    assert_eq!(ended.code, Some(i32::from(gap)), "{said}: {}", ended.stderr);
    assert_eq!(ended.stderr.contains("does not hold"), gap, "{}", ended.stderr);
}
