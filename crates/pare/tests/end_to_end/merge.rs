//! `pare merge`: what it writes, what it says, what it refuses; and a real model merged with a pruned copy whose units lie elsewhere.

use crate::model::Tiny;
use crate::program::{names, pare, real, text};
use crate::words::story;
use pare_engine::bundle::Bundle;
use pare_engine::progress::{Interrupt, Silent, Work};
use pare_engine::write::{WriteAs, write_directory};
use pare_format::write::OutputDir;
use pare_kernels::pool::Pool;
use pare_model::block::Mixer;
use pare_model::rng::SplitMix64;
use pare_model::site::Projection;
use pare_model::storage::Dense;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const MODEL: &str = "smollm2-135m";

fn shuffled(count: usize, rng: &mut SplitMix64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    (1..count).rev().for_each(|at| order.swap(at, rng.below(at + 1)));
    order
}

/// Writes `model` with its channels and KV groups in another order to `to`.
fn permute(model: &str, to: &Path) {
    static NEVER: Interrupt = Interrupt::new();
    let pool = Pool::new(2);
    let work = Work { pool: &pool, progress: &Silent, interrupt: &NEVER };
    let bundle = Bundle::open(model, work).unwrap();
    let (mut other, mut rng) = (bundle.model.clone(), SplitMix64::new(4));
    for block in &mut other.blocks {
        let (attention, ffn) = (block.attention().unwrap(), block.ffn.as_ref().unwrap());
        let attention = attention.keep_groups(&shuffled(attention.groups, &mut rng));
        let ffn = ffn.keep_channels(&shuffled(ffn.width(), &mut rng));
        (block.mixer, block.ffn) = (Some(Mixer::Attention(attention)), Some(ffn));
    }
    let output = OutputDir::create(to, true).unwrap();
    write_directory(&output, &bundle, &other, WriteAs::Auto, work).unwrap();
    output.commit().unwrap();
}

/// Writes `model` with the same strong noise added to every projection and taken from it.
fn apart(model: &str, to: [&Path; 2]) {
    static NEVER: Interrupt = Interrupt::new();
    let pool = Pool::new(2);
    let work = Work { pool: &pool, progress: &Silent, interrupt: &NEVER };
    let bundle = Bundle::open(model, work).unwrap();
    for (to, sign) in to.into_iter().zip([1.0, -1.0]) {
        let (mut other, mut rng) = (bundle.model.clone(), SplitMix64::new(7));
        for block in &mut other.blocks {
            for projection in Projection::ALL {
                let linear = block.linear_mut(projection).unwrap();
                let mut matrix = linear.to_matrix();
                for value in matrix.data_mut() {
                    *value *= (1.0 + sign * 1.5 * (2.0 * rng.unit() - 1.0)) as f32;
                }
                linear.weight = Arc::new(Dense(matrix));
            }
        }
        let output = OutputDir::create(to, true).unwrap();
        write_directory(&output, &bundle, &other, WriteAs::Auto, work).unwrap();
        output.commit().unwrap();
    }
}

fn perplexities(said: &Value) -> Vec<(String, f64)> {
    let of = |figures: &Value| (figures["label"].as_str().unwrap().to_owned(), figures["perplexity"].as_f64().unwrap());
    said["figures"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_permuted_copy_merges_back_and_is_written_the_same_at_any_number_of_threads() {
    let tiny = Tiny::new();
    let (a, b) = (tiny.write("a.txt", story(900, 1)), tiny.write("b.txt", story(900, 2)));
    let (model, copy) = (tiny.name(), tiny.path("copy"));
    permute(&model, Path::new(&copy));
    let run = |output: &str, more: &[&str]| {
        let fixed =
            ["merge", &model, &copy, "-o", output, "--text", &a, "--held-out", &b, "--context", "48", "--force"];
        pare([&fixed[..], more].concat())
    };
    let [one, two] = ["1", "2"].map(|threads| {
        let output = tiny.path(&format!("out-{threads}"));
        let said = run(&output, &["--threads", threads, "--json"]).json();
        assert_eq!(said["written"], json!(output));
        (output, perplexities(&said))
    });
    assert_eq!(one.1, two.1);
    let labels: Vec<&str> = one.1.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["first", "second", "average", "pleas"]);
    let [dense, second, average, pleas] = [0, 1, 2, 3].map(|at| one.1[at].1);
    // The copy and the result are written in f16.
    assert!((dense / second - 1.0).abs() < 1e-2 && (second / pleas - 1.0).abs() < 1e-5, "{:?}", one.1);
    assert!(average > 2.0 * pleas, "{:?}", one.1);
    for name in names(Path::new(&one.0)) {
        assert!(fs::read(Path::new(&one.0).join(&name)).unwrap() == fs::read(Path::new(&two.0).join(&name)).unwrap());
    }
    let record: Value = serde_json::from_slice(&fs::read(Path::new(&one.0).join("pare.json")).unwrap()).unwrap();
    assert_eq!((&record["method"], &record["size"]), (&json!("pleas"), &json!(1.0)));
    assert!(record["verdict"].as_str().unwrap().starts_with("pleas won"), "{}", record["verdict"]);
    assert_eq!(record["blocks"].as_array().unwrap().len(), 2);
    assert!(record["calibration"].as_str().unwrap().contains("a.txt"));

    let wide = tiny.path("wide");
    let said = run(&wide, &["--size", "1.5"]).succeeds();
    assert!(said.contains("perplexity") && said.contains("channels") && said.ends_with(&format!("written: {wide}\n")));
    let config: Value = serde_json::from_slice(&fs::read(Path::new(&wide).join("config.json")).unwrap()).unwrap();
    assert_eq!(config["intermediate_size"], 120);
    pare(["run", &wide, "hi", "-n", "4"]).succeeds();

    run(&wide, &["--no-verify"]).refuses(&["--no-verify", "--method"]);
    let plain = run(&wide, &["--method", "average", "--no-verify"]).succeeds();
    assert_eq!(plain, format!("written: {wide}\n"));
    run(&wide, &["--method", "average", "--size", "1.5"]).refuses(&["parameter size", "average"]);
    run(&wide, &["--size", "3"]).refuses(&["--size 3", "1..=2"]);
    run(&wide, &["--method", "plea"]).refuses(&["\"plea\"", "did you mean \"pleas\"?"]);
    let other = Tiny::of_family("qwen2");
    pare(["merge", &model, &other.name(), "-o", &wide, "--force"]).refuses(&["one architecture", "qwen2"]);
    pare(["merge", &model, &copy, "-o", &copy, "--force"]).refuses(&["copy"]);
}

/// Two ends of one model that lie on either side of it: their average is the model, and whatever matches units moves away from it.
#[test]
fn the_default_writes_what_won_and_a_named_method_says_what_would_have() {
    let tiny = Tiny::new();
    let (a, b) = (tiny.write("a.txt", story(900, 1)), tiny.write("b.txt", story(900, 2)));
    let ends = ["left", "right"].map(|name| tiny.path(name));
    apart(&tiny.name(), [&ends[0], &ends[1]].map(Path::new));
    let run = |output: &str, more: &[&str]| {
        let fixed = ["merge", &ends[0], &ends[1], "-o", output, "--text", &a, "--held-out", &b, "--context", "48"];
        pare([&fixed[..], more].concat())
    };
    let config = |output: &str| -> Value {
        serde_json::from_slice(&fs::read(Path::new(output).join("pare.json")).unwrap()).unwrap()
    };
    let (default, named) = (tiny.path("default"), tiny.path("named"));
    let said = run(&default, &["--json"]).json();
    let labels: Vec<String> = perplexities(&said).into_iter().map(|(label, _)| label).collect();
    assert_eq!(labels, ["first", "second", "pleas", "average"], "{said}");
    assert_eq!((&said["method"], &config(&default)["method"]), (&json!("average"), &json!("average")));
    assert!(said["verdict"].as_str().unwrap().starts_with("average won"), "{}", said["verdict"]);
    let line = run(&named, &["--method", "pleas"]).succeeds();
    assert!(line.contains("average would have won") && line.contains("--method average"), "{line}");
    assert_eq!(config(&named)["method"], "pleas");
}

#[test]
fn real_model_merges_with_a_pruned_copy_whose_units_lie_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let file = |name: &str, seed| {
        fs::write(path(name), story(4000, seed)).unwrap();
        text(&path(name)).to_owned()
    };
    let (a, b) = (file("a.txt", 11), file("b.txt", 12));
    let sizes = ["--context", "256", "--calibration-windows", "4", "--windows", "2", "--text", &a];
    let (pruned, copy, output) = (path("pruned"), path("copy"), path("merged"));
    let shrink = ["shrink", MODEL, "--recipe", "wanda", "--keep", "0.7", "--no-verify", "-o", text(&pruned)];
    real([&shrink[..], &sizes].concat()).succeeds();
    permute(text(&pruned), &copy);
    // Plain, so that it is the merge that is measured and not the rounding.
    let merge = ["merge", MODEL, text(&copy), "-o", text(&output), "--held-out", &b, "--json", "--dtype", "f16"];
    let said = real([&merge[..], &sizes].concat()).json();
    let found = perplexities(&said);
    let [dense, second, average, pleas] = [0, 1, 2, 3].map(|at| found[at].1);
    // The aligned merge lies between its parents, or below both; the plain average is no model at all.
    let worst = dense.max(second);
    assert!(pleas <= worst && average > 100.0 * worst, "{found:?}");
    for block in said["blocks"].as_array().unwrap() {
        assert!(block["moved_channels"].as_u64().unwrap() > 1500, "{block}");
        assert!(block["error_after"].as_f64().unwrap() <= block["error_before"].as_f64().unwrap(), "{block}");
    }
}
