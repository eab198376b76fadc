//! `pare shrink` on tiny models: what it writes, what it says, and that it writes the same again.

use crate::model::Tiny;
use crate::program::{names, pare};
use crate::words::story;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const WRITTEN: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "pare.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];
const FAMILIES: [&str; 7] =
    ["llama-linear", "llama-llama3-biases", "llama-tied", "llama-yarn", "mistral", "qwen2", "qwen3"];

/// A recipe for each way to cut that ends in plain matrices.
const CUTS: [&str; 10] = [
    "llm-drop",
    "magnitude",
    "random",
    "shortgpt",
    "slim",
    "slim-free",
    "wanda",
    "wanda-2of4",
    "wanda-8rows",
    "wanda-sp",
];

/// All recipes.
fn recipes() -> Vec<String> {
    let json = pare(["methods", "--json"]).json();
    let known = json["recipes"].as_array().unwrap().iter().map(|recipe| recipe["name"].as_str().unwrap().to_owned());
    let recipes: Vec<String> = known.collect();
    assert!(recipes.len() >= 44, "{recipes:?}");
    recipes
}

/// A share that the recipe can keep of a tiny model, and that removes something.
fn keep(recipe: &str) -> &'static str {
    match recipe {
        "llm-drop" => "0.78",
        "shortgpt" | "magnitude" | "random" | "wanda" | "wanda-2of4" | "wanda-8rows" => "0.5",
        _ => "0.8",
    }
}

fn with_texts(family: &str) -> Tiny {
    let tiny = Tiny::of_family(family);
    tiny.write("a.txt", story(900, 1));
    tiny.write("b.txt", story(900, 2));
    tiny
}

fn record(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("pare.json")).unwrap()).unwrap()
}

/// Removes every key that holds a time or a speed; how many there were.
fn remove_timings(value: &mut Value) -> usize {
    match value {
        Value::Object(map) => {
            let before = map.len();
            map.retain(|key, _| {
                !["seconds", "prefill_tok_s", "decode_tok_s", "peak_memory_bytes"].contains(&key.as_str())
            });
            before - map.len() + map.values_mut().map(remove_timings).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(remove_timings).sum(),
        _ => 0,
    }
}

#[test]
fn every_recipe_writes_a_model_that_loads_the_same_at_any_number_of_threads() {
    let tiny = Tiny::five_blocks();
    let (model, a, b) = (tiny.name(), tiny.write("a.txt", story(900, 1)), tiny.write("b.txt", story(900, 2)));
    let eval = |model: &str, more: &[&str]| {
        let fixed = ["eval", model, "--held-out", &b, "--json", "--probes", "0", "--no-speed"];
        pare([&fixed[..], more].concat()).json()
    };
    let dense = eval(&model, &[]);
    for recipe in recipes() {
        let outputs = ["1", "2"].map(|threads| {
            let output = tiny.path(&format!("{recipe}-{threads}"));
            let fixed = ["shrink", &model, "--recipe", &recipe, "--text", &a, "--no-verify", "--json"];
            let said = pare([&fixed[..], &["-o", &output, "--threads", threads]].concat()).json();
            assert_eq!(said, json!({ "written": output }));
            output
        });
        let [one, two] = [Path::new(&outputs[0]), Path::new(&outputs[1])];
        assert_eq!(names(one), WRITTEN, "{recipe}");
        for name in WRITTEN {
            assert!(fs::read(one.join(name)).unwrap() == fs::read(two.join(name)).unwrap(), "{recipe}: {name} differs");
        }

        let record = record(one);
        assert_eq!((&record["recipe"]["name"], &record["seed"]), (&json!(recipe), &json!(0)));
        assert_eq!(record["pare"], env!("CARGO_PKG_VERSION"));
        assert!(record["calibration"].as_str().unwrap().contains("a.txt"));
        let edits = record["plan"].as_array().unwrap();
        let cuts = record["recipe"]["cut"].as_array().is_some_and(|cuts| !cuts.is_empty());
        assert_eq!(!edits.is_empty(), cuts, "{recipe}: a plan says what was cut");
        assert!(record["report"].is_null() && record["dtype"].is_string(), "{recipe}");
        let bytes = fs::metadata(one.join("model.safetensors")).unwrap().len();
        assert_eq!(record["weight_bytes"], bytes, "{recipe}");

        let figures = eval(&outputs[0], &["--against", &model]);
        assert_eq!(figures["bytes"], bytes, "{recipe}");
        assert!(figures["perplexity"].as_f64().is_some_and(f64::is_finite), "{recipe}: {figures}");
        assert!(figures["kl_mean"].as_f64().is_some_and(|nats| nats > 0.0), "{recipe}: {figures}");
        if cuts {
            let (before, after) = (dense["parameters"].as_u64().unwrap(), figures["parameters"].as_u64().unwrap());
            let masks = edits.iter().all(|edit| edit["edit"] == "mask");
            assert_eq!(after == before, masks, "{recipe}: {before} -> {after}");
        }
        pare(["run", &outputs[0], "hi", "-n", "4"]).succeeds();
        let reloaded = tiny.path("again");
        pare(["shrink", &outputs[0], "--recipe", "magnitude", "--text", &a, "--no-verify", "-o", &reloaded, "--force"])
            .succeeds();
    }
}

#[test]
fn every_family_shrinks_with_repair_and_loads() {
    for family in FAMILIES {
        let tiny = with_texts(family);
        let (model, a, b, output) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"), tiny.path("out"));
        for recipe in ["slim", "slim-free", "wanda", "shortgpt", "llm-drop"] {
            let fixed =
                ["shrink", &model, "--recipe", recipe, "--keep", keep(recipe), "--text", &a, "--no-verify", "--force"];
            pare([&fixed[..], &["-o", &output, "--context", "64"]].concat()).succeeds();
            let figures =
                ["eval", &output, "--against", &model, "--held-out", &b, "--context", "64", "--json", "--no-speed"];
            let figures = pare([&figures[..], &["--probes", "1"]].concat()).json();
            assert!(figures["perplexity"].as_f64().is_some_and(f64::is_finite), "{family}: {recipe}: {figures}");
            pare(["run", &output, "hi", "-n", "4"]).succeeds();
        }
    }
}

#[test]
fn a_proof_differs_between_runs_in_its_times_alone() {
    let tiny = with_texts("llama-tied");
    let (model, a, b) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"));
    let [mut one, mut two] = ["1", "2"].map(|threads| {
        let output = tiny.path(&format!("out-{threads}"));
        let texts = ["--text", &a, "--held-out", &b, "--context", "48"];
        let fixed = ["shrink", &model, "--recipe", "slim", "-o", &output, "--threads", threads];
        let said = pare([&fixed[..], &texts].concat()).succeeds();
        let expected = format!("\nwritten: {output}\nreport:  {output}/report.html\n");
        assert!(said.starts_with(' ') && said.contains("perplexity") && said.ends_with(&expected), "{said}");
        let output = Path::new(&output).to_owned();
        let mut expected = [&WRITTEN[..], &["report.html"]].concat();
        expected.sort_unstable();
        assert_eq!(names(&output), expected);
        let page = fs::read_to_string(output.join("report.html")).unwrap();
        assert!(page.starts_with("<!") && page.trim_end().ends_with("</html>") && page.contains("slim"));
        for loads in ["<script", "<link", "src=", "url(", "@import"] {
            assert!(!page.contains(loads), "{loads}");
        }
        (record(&output), fs::read(output.join("model.safetensors")).unwrap())
    });
    assert!(one.1 == two.1, "the weights differ");
    let figures = one.0["report"]["figures"].as_array().unwrap().len();
    assert_eq!(figures, 6, "dense, as read, the result, two baselines and plain bits");
    // Two speeds and a memory per model, and the seconds of the shrinking.
    assert_eq!((remove_timings(&mut one.0), remove_timings(&mut two.0)), (3 * figures + 1, 3 * figures + 1));
    assert_eq!(one.0, two.0);
}

#[test]
fn a_model_that_writes_its_own_texts_needs_none() {
    let tiny = Tiny::new();
    let (model, output, cache) = (tiny.name(), tiny.path("out"), tiny.path("cache"));
    let fixed =
        ["shrink", &model, "--recipe", "slim", "-o", &output, "--json", "--force", "--context", "48", "--own-text"];
    let proof = || pare([&fixed[..], &["--calibration-windows", "40"]].concat()).env("PARE_CACHE", &cache);
    let mut first = proof().json();
    assert!(
        first["conditions"].to_string().contains("40 x 48 tokens written by the model itself (calibration seed 0)")
    );
    let texts = names(&tiny.folder().join("cache/text"));
    assert_eq!(texts.len(), 2, "{texts:?}");
    // The second run reads them, the third finds them corrupt and writes them again.
    let mut second = proof().json();
    for text in &texts {
        fs::write(tiny.folder().join("cache/text").join(text), "corrupt").unwrap();
    }
    let mut third = proof().json();
    for report in [&mut first, &mut second, &mut third] {
        remove_timings(report);
    }
    assert_eq!(first, second);
    assert_eq!(first, third);
}

#[test]
fn uneven_recipes_say_before_the_work_who_can_run_the_result() {
    // The text is too short: the work ends at its first step, after the note.
    let tiny = Tiny::new();
    let (model, output, short) = (tiny.name(), tiny.path("out"), tiny.write("short.txt", "short"));
    for recipe in CUTS {
        let ended = pare(["shrink", &model, "--recipe", recipe, "--text", &short, "--no-verify", "-o", &output]).run();
        assert_eq!(ended.code, Some(2), "{recipe}: {ended:?}");
        let first = ended.stderr.lines().next().unwrap();
        let noted = first.starts_with("note: ") && first.contains("only pare will be able to run the result");
        assert_eq!(noted, ["slim-free", "llm-drop"].contains(&recipe), "{recipe}: {ended:?}");
    }

    let a = tiny.write("a.txt", story(900, 1));
    for (recipe, notes) in [("slim", 0), ("slim-free", 1)] {
        let ended =
            pare(["shrink", &model, "--recipe", recipe, "-o", &output, "--text", &a, "--no-verify", "--force"]).run();
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(0), notes), "{ended:?}");
    }
}

#[test]
fn keep_1_changes_nothing_but_the_type() {
    let tiny = with_texts("llama-tied");
    let (model, a, b, output) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"), tiny.path("out"));
    for recipe in CUTS {
        let fixed = ["shrink", &model, "--recipe", recipe, "--keep", "1", "--dtype", "f32", "--force"];
        let command = pare([&fixed[..], &["--text", &a, "--no-verify", "-o", &output]].concat());
        if recipe == "wanda-2of4" {
            command.refuses(&["--keep 1", "keeps half"]);
            continue;
        }
        command.succeeds();
        let figures = ["eval", &output, "--against", &model, "--held-out", &b, "--json", "--no-speed", "--probes", "0"];
        let figures = pare(figures).json();
        assert_eq!((&figures["perplexity_ratio"], &figures["top1_agreement"]), (&json!(1.0), &json!(1.0)), "{recipe}");
        assert!(figures["kl_mean"].as_f64().unwrap().abs() < 1e-12, "{recipe}: {figures}");
    }
}

#[test]
fn a_pattern_is_written_without_its_zeros_measured_so_and_refused_where_it_is_not() {
    let tiny = with_texts("llama-tied");
    let (model, a, b) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"));
    for (recipe, dtype, kind, values) in
        [("wanda-2of4", "2of4-int8", "2of4", json!("int8")), ("wanda-8rows", "rows8-f16", "rows8", json!("f16"))]
    {
        let (output, plain) = (tiny.path(dtype), tiny.path(&format!("{dtype}-plain")));
        let fixed = ["shrink", &model, "--recipe", recipe, "--text", &a, "--held-out", &b, "--context", "48"];
        let ended = pare([&fixed[..], &["--dtype", dtype, "-o", &output, "--json"]].concat()).run();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("only pare will be able to run the result"), "{ended:?}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        pare([&fixed[..], &["--no-verify", "-o", &plain]].concat()).succeeds();
        let size = |directory: &str| fs::metadata(Path::new(directory).join("model.safetensors")).unwrap().len();
        assert!(size(&output) < size(&plain), "{dtype}: {} and {}", size(&output), size(&plain));

        let record = record(Path::new(&output));
        assert_eq!((&record["dtype"], &record["weight_bytes"]), (&json!(dtype), &json!(size(&output))));
        let storages = record["storages"].as_object().unwrap();
        assert_eq!(storages.len(), 14, "every projection: {storages:?}");
        for kept in storages.values() {
            assert_eq!((&kept["kind"], &kept["values"]), (&json!(kind), &values));
        }
        let bytes: u64 = storages.values().map(|kept| kept["bytes"].as_u64().unwrap()).sum();
        assert!(bytes > 0 && bytes < size(&output));

        // The report measured the files in their own storage: eval of them alone says the same.
        let arguments = ["eval", &output, "--held-out", &b, "--context", "48", "--json", "--no-speed", "--probes", "0"];
        let again = pare([&arguments[..], &["--weights", "stored"]].concat()).json();
        let figures = report["figures"].as_array().unwrap();
        let own = figures.iter().find(|figures| figures["label"] == recipe).unwrap();
        assert_eq!((&own["perplexity"], &own["bytes"]), (&again["perplexity"], &json!(size(&output))), "{dtype}");
        pare(["run", &output, "hi", "-n", "4"]).succeeds();

        let arguments = ["shrink", &model, "--recipe", "wanda", "--text", &a, "--no-verify", "--dtype", dtype];
        pare([&arguments[..], &["-o", &tiny.path("refused")]].concat()).refuses(&[
            "q of the first block",
            "row",
            recipe,
        ]);
        assert!(!Path::new(&tiny.path("refused")).exists());
    }
    let output = tiny.path("q4_k");
    pare(["shrink", &model, "--recipe", "slim", "--text", &a, "--no-verify", "--dtype", "q4_k", "-o", &output])
        .succeeds();
    let kept = &record(Path::new(&output))["storages"]["model.layers.0.self_attn.q_proj.weight"];
    assert_eq!((&kept["kind"], &kept["values"]), (&json!("q5_0"), &Value::Null), "64 inputs are no block of 256");
    pare(["run", &output, "hi", "-n", "4"]).succeeds();
}
