//! `pare fit`: what it predicts is what a run takes.

use crate::model::Tiny;
use crate::program::{pare, real};
use serde_json::Value;

/// How far the peak of a run may lie from what was predicted for the real model: buffers that an allocator rounds up, pages of the program.
const TOLERANCE: f64 = 0.10;

fn figure(json: &Value, name: &str) -> f64 {
    json[name].as_f64().unwrap_or_else(|| panic!("{name} of {json}"))
}

#[test]
fn real_peak_memory_is_what_was_predicted() {
    let prompt = "The history of the city begins with a small harbour. ".repeat(60);
    for (prompt, tokens, weights) in
        [("Once upon a time", "24", "stored"), (&prompt, "4", "stored"), ("Once", "4", "f16")]
    {
        let json =
            real(["run", "smollm2-135m", prompt, "-n", tokens, "--ignore-end", "--weights", weights, "--json"]).json();
        let (predicted, measured) = (figure(&json["fit"], "peak_bytes"), figure(&json, "peak_memory_bytes"));
        let off = (predicted / measured - 1.0).abs();
        assert!(off <= TOLERANCE, "{weights}: predicted {predicted}, measured {measured}");
    }
}

#[test]
fn it_says_what_is_needed_and_what_there_is() {
    let tiny = Tiny::new();
    let json = pare(["fit", &tiny.name(), "--json"]).json();
    let fit = &json["fit"];
    assert_eq!((&json["fits"], &fit["context"]), (&Value::Bool(true), &Value::from(64)));
    // 2 blocks, f32: keys of D and values of D rounded up to 32, for 64 positions.
    let half = pare(["fit", &tiny.name(), "--context", "32", "--json"]).json();
    assert_eq!(figure(fit, "cache_bytes"), 2.0 * figure(&half["fit"], "cache_bytes"));
    let parts = ["weights_bytes", "cache_bytes", "work_bytes", "held_bytes", "file_bytes"];
    assert_eq!(figure(fit, "peak_bytes"), parts.iter().map(|name| figure(fit, name)).sum::<f64>());
    let (start, full) = (figure(&json["speed"], "decode_tok_s"), figure(&json["speed"], "decode_full_tok_s"));
    assert!(start > full && full > 0.0, "{json}");
    let text = pare(["fit", &tiny.name()]).succeeds();
    for part in ["weights in files", "cache", "peak memory", "It fits.", "GB/s"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    pare(["fit", &tiny.name(), "--context", "65"]).refuses(&["--context 65", "holds 64"]);
}

#[test]
fn a_run_says_it_first_unless_it_is_to_be_quiet() {
    let tiny = Tiny::new();
    let said = pare(["run", &tiny.name(), "hi", "-n", "2"]).run();
    let line = said.stderr.lines().next().unwrap_or_default();
    assert!(line.contains("weights") && line.contains("for 4 tokens") && line.contains("peak memory"), "{line:?}");
    assert_eq!(pare(["run", &tiny.name(), "hi", "-n", "2", "--quiet"]).run().stderr, "");
}
