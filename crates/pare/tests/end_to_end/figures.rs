//! `pare eval` and `pare inspect`.

use crate::model::Tiny;
use crate::program::pare;
use crate::words::story;
use serde_json::{Value, json};

const KEYS: [&str; 16] = [
    "bytes",
    "context",
    "decode_tok_s",
    "kl_mean",
    "kl_p99",
    "label",
    "parameters",
    "peak_memory_bytes",
    "perplexity",
    "perplexity_ratio",
    "prefill_tok_s",
    "probes",
    "role",
    "text",
    "texts",
    "top1_agreement",
];
const PROBES: [&str; 8] = [
    "addition",
    "addition_generated",
    "brackets",
    "brackets_generated",
    "copying",
    "copying_generated",
    "counting",
    "counting_generated",
];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn against_itself_nothing_differs() {
    let tiny = Tiny::new();
    let (model, text) = (tiny.name(), tiny.write("b.txt", story(900, 2)));
    let figures = pare(["eval", &model, "--against", &model, "--held-out", &text, "--probes", "2", "--json"]).json();
    assert_eq!(keys(&figures), KEYS);
    assert_eq!(keys(&figures["probes"]), PROBES);
    assert_eq!((&figures["perplexity_ratio"], &figures["top1_agreement"]), (&json!(1.0), &json!(1.0)));
    // Rounding of the two sums of one distribution is all that is left.
    for key in ["kl_mean", "kl_p99"] {
        assert!(figures[key].as_f64().unwrap().abs() < 1e-12, "{key}: {figures}");
    }
    assert_eq!((&figures["label"], &figures["role"]), (&json!(model), &json!("result")));
    assert_eq!((&figures["context"], &figures["parameters"]), (&json!(64), &json!(63_808)));
    let bytes = tiny.model().join("model.safetensors").metadata().unwrap().len();
    assert_eq!(figures["bytes"], bytes);
    assert!(figures["text"].as_str().unwrap().contains("b.txt"));
    for key in ["prefill_tok_s", "decode_tok_s"] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{key}");
    }
    for probe in PROBES {
        assert!((0.0..=1.0).contains(&figures["probes"][probe].as_f64().unwrap()), "{probe}");
    }
}

#[test]
fn alone_it_has_the_same_keys_and_no_divergence() {
    let tiny = Tiny::new();
    let (model, text) = (tiny.name(), tiny.write("b.txt", story(900, 2)));
    let fixed = ["eval", &model, "--held-out", &text, "--probes", "0", "--no-speed"];
    let figures = pare([&fixed[..], &["--json", "--context", "32"]].concat()).json();
    assert_eq!(keys(&figures), KEYS);
    assert_eq!((&figures["role"], &figures["perplexity_ratio"]), (&json!("dense"), &json!(1.0)));
    for key in ["kl_mean", "kl_p99", "top1_agreement", "prefill_tok_s", "decode_tok_s"] {
        assert_eq!(figures[key], Value::Null, "{key}");
    }
    assert_eq!((&figures["probes"], &figures["context"]), (&json!({}), &json!(32)));
    let table = pare(fixed).succeeds();
    assert!(
        table.contains("perplexity") && table.contains("windows of 64 tokens") && table.contains("b.txt"),
        "{table}"
    );
    assert!(!table.contains("tok/s") && !table.contains("probe add") && !table.contains("KL mean"), "{table}");
}

#[test]
fn a_model_is_never_measured_on_text_that_it_wrote_itself() {
    let tiny = Tiny::new();
    let (model, cache) = (tiny.name(), tiny.path("cache"));
    let eval = |more: &[&str]| {
        let fixed = ["eval", &model, "--probes", "0", "--no-speed", "--windows", "2", "--context", "32"];
        let nowhere = pare([&fixed[..], more].concat()).env("PIP_INDEX_URL", "http://127.0.0.1:9/simple");
        nowhere.env("PARE_CACHE", &cache)
    };
    eval(&["--own-text"]).refuses(&["no text to measure on", "--held-out FILE", "--against MODEL"]);
    // Nothing can be fetched.
    eval(&[]).env("PARE_PYTHON", "no-such-python").refuses(&["no-such-python", "encyclopedia", "--held-out FILE"]);
    // Another model writes for both; what cannot be fetched is said.
    let ended = eval(&["--against", &model, "--json"]).env("PARE_PYTHON", "no-such-python").run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("note: without the packaged text encyclopedia"), "{ended:?}");
    let figures: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(figures["texts"][0]["name"], "own text");
    assert_eq!(figures["texts"][0]["perplexity"], figures["perplexity"]);
}

#[test]
fn conversations_are_held_out_text() {
    let tiny = Tiny::new();
    let row = |index: usize| {
        let said = [("user", format!("what is {index} plus 1?")), ("assistant", format!("it is {}.", index + 1))];
        json!({ "messages": said.map(|(role, content)| json!({ "role": role, "content": content })) }).to_string()
    };
    let text = tiny.write("chat.jsonl", (0..40).map(row).collect::<Vec<_>>().join("\n"));
    let model = tiny.name();
    let eval = || pare(["eval", &model, "--held-out", &text, "--probes", "0", "--no-speed", "--json"]);
    eval().refuses(&["chat.jsonl", "no chat template"]);
    let template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}";
    tiny.write("model/tokenizer_config.json", json!({ "chat_template": template }).to_string());
    let figures = eval().json();
    assert!(figures["perplexity"].as_f64().is_some_and(f64::is_finite), "{figures}");
    assert_eq!(figures["texts"][0]["name"], "chat.jsonl");
}

#[test]
fn figures_do_not_depend_on_threads() {
    let tiny = Tiny::new();
    let (model, text) = (tiny.name(), tiny.write("b.txt", story(900, 2)));
    let figures = |threads: &str| {
        let fixed = ["eval", &model, "--held-out", &text, "--probes", "3", "--no-speed", "--json"];
        pare([&fixed[..], &["--threads", threads]].concat()).json()
    };
    assert_eq!(figures("1"), figures("2"));
}

#[test]
fn inspect_has_a_row_per_block() {
    let tiny = Tiny::new();
    let (model, text, page) = (tiny.name(), tiny.write("a.txt", story(900, 1)), tiny.path("page.html"));
    let table = pare(["inspect", &model, "--text", &text, "--report", &page]).succeeds();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].contains("llama, 2 blocks, width 64, 4 query heads in 2 groups, ffn 80, vocabulary 128"),
        "{table}"
    );
    assert!(lines.iter().skip(1).all(|line| line.chars().count() <= 120), "{table}");
    assert!(lines[lines.len() - 2].starts_with("0 ") && lines[lines.len() - 1].starts_with("1 "), "{table}");
    assert!(std::fs::read_to_string(page).unwrap().trim_end().ends_with("</html>"));
    let report = pare(["inspect", &model, "--text", &text, "--json"]).json();
    let blocks = report["redundancy"].as_array().unwrap();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let shares = [
            "channel_correlation",
            "effective_channels",
            "effective_rank",
            "energy_entropy",
            "head_correlation",
            "idle_channels",
            "mergeable_channels",
            "nuclear_norm",
        ];
        let mut all =
            [&shares[..], &["attention_influence", "block_influence", "ffn_influence", "group_spread"]].concat();
        all.sort_unstable();
        assert_eq!(keys(block), all);
        for share in shares {
            assert!((0.0..=1.0).contains(&block[share].as_f64().unwrap()), "{share}: {block}");
        }
        assert!((0.0..=2.0).contains(&block["block_influence"].as_f64().unwrap()));
    }
    assert_eq!(report["curves"], json!([]));
}

#[test]
fn inspect_measures_curves_when_asked() {
    let tiny = Tiny::new();
    let (model, text, page) = (tiny.name(), tiny.write("a.txt", story(900, 1)), tiny.path("page.html"));
    let inspect = ["inspect", &model, "--text", &text, "--curve"];
    let table = pare([&inspect[..], &["--report", &page]].concat()).succeeds();
    let (_, losses) = table.split_once("KL mean, nats").unwrap();
    let rows: Vec<Vec<&str>> = losses.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["block", "10%", "25%", "50%", "ffn", "whole"]);
    assert_eq!((rows.len(), rows[2].len()), (3, 6), "{table}");
    assert!(std::fs::read_to_string(page).unwrap().contains(">Distortion curves<"));
    let report = pare([&inspect[..], &["--json"]].concat()).json();
    for (curve, row) in report["curves"].as_array().unwrap().iter().zip(&rows[1..]) {
        assert_eq!(keys(curve), ["channels", "dropped"]);
        let points = curve["channels"].as_array().unwrap();
        assert_eq!(
            points.iter().map(|point| point["removed_channels"].as_u64().unwrap()).collect::<Vec<_>>(),
            [8, 20, 40, 80]
        );
        let losses = points.iter().map(|point| &point["kl_mean"]).chain([&curve["dropped"]]);
        for (loss, cell) in losses.zip(&row[1..]) {
            assert_eq!(format!("{:.4}", loss.as_f64().unwrap()), *cell);
        }
    }
}

#[test]
fn models_that_cannot_be_compared() {
    let (tiny, other) = (Tiny::new(), Tiny::of_family("mistral"));
    let text = tiny.write("b.txt", story(900, 2));
    let against = |other: &str| {
        pare(["eval", &tiny.name(), "--against", other, "--held-out", &text, "--no-speed", "--probes", "0"])
    };
    assert!(against(&other.name()).succeeds().contains("over dense"));
    against("nothing").refuses(&["nothing: no such model"]);
}
