//! `pare bench` on tiny models, beside peers that the tests write. No test says how fast anything is.

use crate::model::Tiny;
use crate::program::{Pare, names, pare};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Small enough for the tiny models' window of 64.
const SIZES: [&str; 8] = ["--rounds", "3", "--prompt", "24", "--tokens", "4", "--contexts", "0,16,512"];

fn bench(arguments: &[&str]) -> Pare {
    pare([&["bench"], &SIZES[..], arguments].concat())
}

/// A peer that is a shell script, as an argument.
pub(crate) fn peer(tiny: &Tiny, body: &str) -> String {
    let folder = tiny.folder().join("peer");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("llama-bench");
    fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("llama.cpp={}", folder.display())
}

/// What llama-bench prints for these sizes, as far as it is read.
fn answer(speed: f64) -> String {
    let test = |prompt: u32, tokens: u32, depth: u32, avg_ts: f64| {
        json!({
            "build_commit": "0123abc", "build_number": 42, "backends": "CPU", "type_k": "f16", "n_threads": 2,
            "n_prompt": prompt, "n_gen": tokens, "n_depth": depth, "avg_ts": avg_ts, "stddev_ts": 0.0,
        })
    };
    let at = |depth: u32| [test(24, 0, depth, 10.0 * speed), test(0, 4, depth, speed)];
    json!([at(0), at(16)].concat()).to_string()
}

/// A GGUF file as far as its first bytes.
fn gguf(tiny: &Tiny, name: &str) -> String {
    tiny.write(name, b"GGUF")
}

fn is_spread(value: &Value) -> bool {
    let number = |key: &str| value[key].as_f64().unwrap();
    number("min") > 0.0 && number("min") <= number("median") && number("median") <= number("max")
}

#[test]
fn json_has_every_figure() {
    let tiny = Tiny::new();
    let model = tiny.name();
    let found = bench(&[&model, &model, "--json", "--threads", "2"]).json();
    assert_eq!(
        found["settings"],
        json!({
            "prompt_tokens": 24, "decoded_tokens": 4, "contexts": [0, 16, 512], "rounds": 3, "weights": "stored",
        })
    );
    assert_eq!(found["models"].as_array().unwrap().len(), 2);
    for figures in found["models"].as_array().unwrap() {
        assert_eq!(figures["model"], model.as_str());
        assert_eq!(figures["weights"], "f32");
        assert!(is_spread(&figures["prefill_tok_s"]));
        assert!(figures["prefill_flops_share"].as_f64().unwrap() > 0.0);
        if cfg!(target_os = "linux") {
            assert!(figures["peak_memory_bytes"].as_u64().unwrap() > 1_000_000);
        }
        let decode = figures["decode"].as_array().unwrap();
        assert_eq!(decode.iter().map(|at| at["context"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 16]);
        for at in decode {
            assert!(is_spread(&at["tok_s"]) && at["bandwidth_share"].as_f64().unwrap() > 0.0);
            let bytes = |key: &str| at[key].as_u64().unwrap();
            assert_eq!(bytes("bytes_per_token"), bytes("weight_bytes_per_token") + bytes("cache_bytes_per_token"));
        }
        // Two blocks of 2 groups of 16: keys of 16 and values padded to 32, in f32.
        let position = 2 * 2 * (16 + 32) * 4;
        assert_eq!(decode[0]["cache_bytes_per_token"], position * 5 / 2);
        assert_eq!(decode[1]["cache_bytes_per_token"], position * 37 / 2);
        assert_eq!(figures["skipped"][0]["context"], 512);
        assert!(figures["skipped"][0]["why"].as_str().unwrap().contains("window of 64 tokens"));
    }
    let machine = &found["machine"];
    assert_eq!(machine["threads"], 2);
    for key in ["read_bandwidth_bytes_s", "peak_flops", "peak_int8_ops", "read_buffer_bytes"] {
        assert!(machine[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(is_spread(&machine["read_bandwidth_spread"]) && is_spread(&machine["peak_flops_spread"]));
    assert!(["cpu", "isa", "os"].iter().all(|key| !machine[key].as_str().unwrap().is_empty()));
    assert_eq!(found["peer"], Value::Null);
    let ratios = found["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 1);
    assert!(is_spread(&ratios[0]["prefill"]) && is_spread(&ratios[0]["decode"][1]["ratio"]));
    assert_eq!(found["pare_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(found["date"].as_str().unwrap().len(), "2026-03-01T12:00:00Z".len());
    assert_eq!([&found["command"][0], &found["command"][1]], ["pare", "bench"]);
}

#[test]
fn a_peer_takes_its_turns() {
    let tiny = Tiny::new();
    let (model, file, log) = (tiny.name(), gguf(&tiny, "peer.gguf"), tiny.path("log"));
    let answer = tiny.write("answer.json", answer(1e9));
    let peer = peer(&tiny, &format!("echo \"$@\" >> '{log}'\ncat '{answer}'"));
    let found = bench(&[&model, &model, "--json", "--peer", &peer, "--peer-model", &file, "--threads", "2"]).json();
    // One file for both models: one run in each of the four rounds.
    let asked = fs::read_to_string(log).unwrap();
    assert_eq!(asked, format!("-m {file} -t 2 -p 24 -n 4 -d 0,16 -r 1 -o json\n").repeat(4));
    let run = &found["peer"]["runs"][0];
    assert_eq!(found["peer"]["name"], "llama.cpp");
    assert_eq!((&run["build_commit"], &run["build_number"]), (&json!("0123abc"), &json!(42)));
    assert_eq!(run["prefill_tok_s"], json!({ "min": 1e10, "median": 1e10, "max": 1e10 }));
    assert_eq!(run["decode"][1]["tok_s"]["median"], 1e9);
    let ratios = found["ratios"].as_array().unwrap();
    assert_eq!(
        ratios.iter().map(|ratio| ratio["over"].clone()).collect::<Vec<_>>(),
        [json!(model), json!("llama.cpp peer.gguf"), json!("llama.cpp peer.gguf"),]
    );
    let own = &found["models"][0]["decode"][0]["tok_s"]["median"];
    let ratio = ratios[1]["decode"][0]["ratio"]["median"].as_f64().unwrap();
    assert!((ratio / (own.as_f64().unwrap() / 1e9) - 1.0).abs() < 1e-9);

    let text = bench(&[&model, "--peer", &peer, "--peer-model", &file]).succeeds();
    for part in [
        "prefill, tok/s",
        "decode at 16, tok/s",
        "of read bandwidth",
        "peak memory",
        "build 42 (0123abc)",
        "context 512 was not measured",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn another_build_of_pare_is_a_peer() {
    let tiny = Tiny::new();
    let model = tiny.name();
    let peer = format!("pare={}", env!("CARGO_BIN_EXE_pare"));
    let found = bench(&[&model, "--json", "--peer", &peer, "--threads", "2"]).json();
    let run = &found["peer"]["runs"][0];
    assert_eq!(found["peer"]["name"], "pare");
    assert_eq!((&run["build_commit"], &run["file"]), (&json!(env!("CARGO_PKG_VERSION")), &json!("model")));
    assert!(is_spread(&run["prefill_tok_s"]) && is_spread(&run["decode"][1]["tok_s"]));
    let ratio = &found["ratios"][0];
    assert_eq!((&ratio["of"], &ratio["over"]), (&json!(model), &json!("pare model")));
    assert!(is_spread(&ratio["prefill"]) && is_spread(&ratio["decode"][0]["ratio"]));

    let text = bench(&[&model, "--peer", &peer, "--weights", "f16"]).succeeds();
    assert!(text.contains(&format!("pare: version {}", env!("CARGO_PKG_VERSION"))), "{text}");
}

#[test]
fn a_peer_that_fails_is_an_error_with_its_last_words() {
    let tiny = Tiny::new();
    let (model, file) = (tiny.name(), gguf(&tiny, "peer.gguf"));
    let incomplete = answer(1.0).replace("\"n_depth\":16", "\"n_depth\":17");
    let incomplete = tiny.write("incomplete.json", incomplete);
    for (body, parts) in [
        ("echo first >&2; echo 'out of luck' >&2; exit 3", &["exit status: 3", "first | out of luck"][..]),
        ("echo 'loading' >&2; kill -ILL $$", &["SIGILL", "loading"]),
        ("echo '| model | t/s |'; echo hm >&2", &["no JSON", "| model | t/s |", "it said: hm"]),
        ("exit 0", &["no JSON", "but nothing"]),
        (&format!("cat '{incomplete}'"), &["4 decoded ones after 16"]),
        ("echo '[{\"n_prompt\": 24}]'", &["no JSON of tests", "missing field"]),
    ] {
        let ended = bench(&[&model, "--peer", &peer(&tiny, body), "--peer-model", &file]).run();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{body}: {ended:?}");
        for part in parts.iter().chain(&["llama-bench", "peer.gguf"]) {
            assert!(ended.stderr.contains(part), "{body}: {part:?} is not in {:?}", ended.stderr);
        }
    }
}

#[test]
fn records_are_kept_side_by_side() {
    let tiny = Tiny::new();
    let (model, runs) = (tiny.name(), tiny.path("bench/runs"));
    let shown = bench(&[&model, "--json", "--save", &runs]).json();
    bench(&[&model, "--save", &runs]).succeeds();
    let days = names(Path::new(&runs));
    assert!(days.len() <= 2 && days[0].starts_with(&shown["date"].as_str().unwrap()[..10]), "{days:?}");
    let files: Vec<String> = days.iter().flat_map(|day| names(&Path::new(&runs).join(day))).collect();
    if days.len() == 1 {
        assert_eq!(files, ["model-2.json", "model-2.md", "model.json", "model.md"]);
    }
    let day = Path::new(&runs).join(&days[0]);
    let kept: Value = serde_json::from_slice(&fs::read(day.join("model.json")).unwrap()).unwrap();
    assert_eq!(kept, shown);
    let page = fs::read_to_string(day.join("model.md")).unwrap();
    assert!(
        page.starts_with("# model\n") && page.contains("bench --rounds 3") && page.contains("| prefill, tok/s |"),
        "{page}"
    );
}

#[test]
fn what_cannot_be_measured_is_refused_before_the_work() {
    let tiny = Tiny::new();
    let (model, file, text) = (tiny.name(), gguf(&tiny, "peer.gguf"), tiny.write("a.txt", "text"));
    let started = tiny.path("started");
    let good = peer(&tiny, &format!("touch '{started}'"));
    let missing = format!("llama.cpp={}", tiny.path("none"));
    let no_program = format!("llama.cpp={text}");
    let below_a_file = format!("{text}/runs");
    let rows: &[(&[&str], &[&str])] = &[
        (&[], &["MODEL"]),
        (&["--rounds", "0", &model], &["--rounds", "0"]),
        (&["--contexts", "0,x", &model], &["--contexts", "x"]),
        (&["--weights", "q4", &model], &["--weights", "exact"]),
        (&["--prompt", "65", &model], &["--prompt 65", "window holds 64"]),
        (&["nothing-here"], &["nothing-here", "no such model"]),
        (&[&model, "--peer", "transformers=x"], &["transformers", "llama.cpp=PATH", "pare=PATH"]),
        (&[&model, "--peer", &format!("pare={}", tiny.path("none"))], &["none", "no file"]),
        (&[&model, "--peer", "llama.cpp"], &["expected llama.cpp=PATH"]),
        (&[&model, "--peer", &missing], &["none", "no file"]),
        (&[&model, "--peer", &no_program], &["a.txt", "no program that can be run"]),
        (&[&model, "--peer", &good], &[&model, "--peer-model"]),
        (&[&model, "--peer", &good, "--peer-model", &text], &["a.txt", "not a GGUF file"]),
        (
            &[&model, &model, &model, "--peer", &good, "--peer-model", &file, "--peer-model", &file],
            &["2 files for 3 models"],
        ),
        (&[&model, "--peer-model", &file], &["--peer"]),
        (&[&model, "--save", &below_a_file], &["--save", "a.txt is not a directory"]),
    ];
    for (arguments, parts) in rows {
        pare([&["bench"], *arguments].concat()).refuses(parts);
    }
    assert!(!Path::new(&started).exists());
}
