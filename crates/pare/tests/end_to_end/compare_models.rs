//! `pare compare --models` on tiny models: one table over files that are there already, beside recipes or alone.

use crate::model::{Tiny, tokenizer};
use crate::program::{Ended, Pare, names, pare};
use crate::words::story;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Five blocks, and beside the directory: files of it in f16, 8 and 4 bits.
fn with_files() -> Tiny {
    let tiny = Tiny::five_blocks();
    tiny.write("a.txt", story(900, 1));
    tiny.write("b.txt", story(900, 2));
    for target in ["f16", "q8_0", "q4_0"] {
        pare(["export", &tiny.name(), "--gguf", target, "-o", &tiny.path(&format!("{target}.gguf"))]).succeeds();
    }
    tiny
}

fn beside(tiny: &Tiny, models: &[&str], more: &[&str]) -> Pare {
    let (model, b, output) = (tiny.name(), tiny.path("b.txt"), tiny.path("out"));
    let models: Vec<String> = models.iter().map(|name| tiny.path(name)).collect();
    let mut arguments = vec!["compare", "--models"];
    arguments.extend(models.iter().map(String::as_str));
    arguments.extend(["--against", &model, "--held-out", &b, "-o", &output, "--context", "48", "--probes", "1"]);
    pare([&arguments[..], more].concat())
}

fn succeeds(pare: Pare) -> Ended {
    let ended = pare.run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

fn counts(computed: usize, found: usize) -> String {
    format!("measured now: {computed}; found from earlier runs: {found}\n")
}

/// What was measured and what was found, behind warnings about the model's files.
fn counted(ended: &Ended) -> String {
    let lines: Vec<&str> = ended.stderr.split_inclusive('\n').collect();
    assert!(lines.iter().rev().skip(1).all(|line| line.contains("not a multiple of 8")), "{ended:?}");
    (*lines.last().unwrap()).to_owned()
}

fn written(tiny: &Tiny) -> Value {
    serde_json::from_slice(&fs::read(tiny.folder().join("out/compare.json")).unwrap()).unwrap()
}

fn of<'v>(found: &'v Value, name: &str) -> &'v Value {
    let models = found["models"].as_array().unwrap();
    models.iter().find(|model| model["name"] == name).unwrap_or_else(|| panic!("{name}: {found}"))
}

/// The file `name` in two parts, as `llama-gguf-split` writes them: tensors from `at` on in the second.
fn split(tiny: &Tiny, name: &str) -> [String; 2] {
    use pare_format::gguf::{GgufModel, GgufWriter, TensorSpec, Value};
    let file = GgufModel::open(Path::new(&tiny.path(name))).unwrap();
    let tensors: Vec<_> = file.tensors().collect();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    [(0, first), (1, second)].map(|(no, part)| {
        let path = tiny.path(&format!("parts-{:05}-of-00002.gguf", no + 1));
        let mut metadata = if no == 0 { file.header().metadata().to_vec() } else { Vec::new() };
        metadata.extend([
            ("split.no".to_owned(), Value::U16(no)),
            ("split.count".to_owned(), Value::U16(2)),
            ("split.tensors.count".to_owned(), Value::I32(tensors.len() as i32)),
        ]);
        let spec = |tensor: &&pare_format::gguf::GgufTensor| TensorSpec {
            name: tensor.name.clone(),
            ggml_type: tensor.ggml_type,
            shape: tensor.shape.clone(),
        };
        let specs: Vec<TensorSpec> = part.iter().map(spec).collect();
        let mut writer = GgufWriter::new(Path::new(&path), Vec::new(), &metadata, &specs).unwrap();
        for tensor in part {
            writer.tensor(&tensor.name, &file.tensor(&tensor.name).unwrap().1).unwrap();
        }
        fs::write(&path, writer.finish().unwrap()).unwrap();
        path
    })
}

/// A model file of [`Tiny::five_blocks`] whose embedding, its first tensor, has `more` rows of zeros behind its own.
fn with_rows(file: &[u8], more: usize) -> Vec<u8> {
    let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let (embedding, rest) = file[8 + length..].split_at(128 * 64 * 4);
    let added = more * 64 * 4;
    for (name, tensor) in header.as_object_mut().unwrap() {
        let begin = tensor["data_offsets"][0].as_u64().unwrap() as usize;
        let end = tensor["data_offsets"][1].as_u64().unwrap() as usize;
        let is_first = name == "model.embed_tokens.weight";
        tensor["data_offsets"] = json!([if is_first { begin } else { begin + added }, end + added]);
        if is_first {
            tensor["shape"] = json!([128 + more, 64]);
        }
    }
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), embedding, &vec![0; added], rest].concat()
}

#[test]
fn files_of_every_kind_stand_in_one_table() {
    let tiny = with_files();
    let parts = split(&tiny, "q4_0.gguf");
    fs::copy(tiny.path("f16.gguf"), tiny.path("copy.gguf")).unwrap();
    let asked =
        ["f16.gguf", "copy.gguf", "q8_0.gguf", "model", "parts-00001-of-00002.gguf", "parts-00002-of-00002.gguf"];
    let ended = succeeds(beside(&tiny, &asked, &["--json"]));
    // The second part is no other model.
    let again = format!("note: --models: {} is the model {} once more; it has one row\n", parts[1], parts[0]);
    assert!(ended.stderr.contains(&again) && ended.stderr.ends_with(&counts(6, 0)), "{}", ended.stderr);
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found, written(&tiny));
    assert_eq!(names(&tiny.folder().join("out")), ["compare.html", "compare.json", "entries"]);
    assert_eq!((&found["keeps"], &found["entries"]), (&json!([]), &json!([])));
    let labels: Vec<&str> =
        found["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(labels, ["f16.gguf", "copy.gguf", "q8_0.gguf", "model", "parts-00001-of-00002.gguf"]);

    let kl = |name: &str| of(&found, name)["kl_mean"].as_f64().unwrap();
    // The directory is the reference itself; 16 bits lose next to nothing, 4 bits more than 8.
    assert_eq!((kl("model"), &of(&found, "model")["top1_agreement"]), (0.0, &json!(1.0)));
    assert!(found["notes"].to_string().contains("model holds the very numbers of the reference"), "{found}");
    let parts = "parts-00001-of-00002.gguf";
    assert!(kl("f16.gguf") < kl("q8_0.gguf") && kl("q8_0.gguf") < kl(parts) && kl("f16.gguf") < 1e-4, "{found}");
    assert_eq!(of(&found, "copy.gguf")["kl_mean"], of(&found, "f16.gguf")["kl_mean"]);
    for name in labels {
        let own = of(&found, name);
        let number = |key: &str| own[key].as_f64().unwrap_or_else(|| panic!("{key}: {own}"));
        let ratio = number("perplexity") / found["dense"]["perplexity"].as_f64().unwrap();
        assert!((ratio / number("perplexity_ratio") - 1.0).abs() < 1e-9, "{own}");
        let speed = |key: &str| own["speed"][key].as_f64().unwrap();
        assert!(speed("decode_tok_s") > 0.0 && speed("prefill_tok_s") > 0.0, "{own}");
        assert!(!cfg!(target_os = "linux") || own["peak_memory_bytes"].as_u64() > Some(1 << 20), "{own}");
        assert_eq!(own["kept"], Value::Null);
        let file = own["path"].as_str().unwrap();
        let bytes = fs::metadata(file).unwrap();
        if name.ends_with(".gguf") && name != parts {
            assert_eq!(own["bytes"], bytes.len());
        }
    }
    // The smallest file begins the front in bytes; those in 16 bits are larger than the reference written so, by their headers.
    assert_eq!(found["fronts"]["bytes"], json!([parts, "q8_0.gguf", "dense"]));
    assert!(!found["fronts"]["speed"].as_array().unwrap().is_empty());

    let page = fs::read_to_string(tiny.folder().join("out/compare.html")).unwrap();
    assert_eq!(page.matches("<svg class=\"pareto\"").count(), 2);
    for part in
        ["and models beside it", "<h2>Models</h2>", "q8_0.gguf", "Prefill", "Memory", "Least divergence of what is"]
    {
        assert!(page.contains(part), "{part}");
    }
    for absent in ["<h2>Recipes</h2>", "Making", "Keep 0", "calibration text", "<script", "http:", "https:"] {
        assert!(!page.contains(absent), "{absent}");
    }

    // The same figures as `eval` has, where both run a model as it is stored.
    let (q8, model, b) = (tiny.path("q8_0.gguf"), tiny.name(), tiny.path("b.txt"));
    let eval = ["eval", &q8, "--against", &model, "--held-out", &b, "--context", "48", "--json", "--no-speed"];
    let alone = pare([&eval[..], &["--probes", "1"]].concat()).json();
    for key in ["perplexity", "kl_mean", "kl_p99", "top1_agreement", "bytes", "parameters", "probes"] {
        assert_eq!(alone[key], of(&found, "q8_0.gguf")[key], "{key}");
    }
}

#[test]
fn a_reference_may_be_a_file_and_what_is_there_is_not_measured_again() {
    let tiny = with_files();
    let (f16, b, output) = (tiny.path("f16.gguf"), tiny.path("b.txt"), tiny.path("out"));
    let run = |models: &[&str], more: &[&str]| {
        let models: Vec<String> = models.iter().map(|name| tiny.path(name)).collect();
        let mut arguments = vec!["compare", "--models"];
        arguments.extend(models.iter().map(String::as_str));
        arguments.extend(["--against", &f16, "--held-out", &b, "-o", &output, "--context", "48", "--probes", "0"]);
        succeeds(pare([&arguments[..], more].concat()))
    };
    let first = run(&["q8_0.gguf", "q4_0.gguf"], &[]);
    assert_eq!(counted(&first), counts(3, 0));
    for part in ["as read", "dense", "q8_0.gguf", "q4_0.gguf", "unbeaten in KL against bytes: q4_0.gguf"] {
        assert!(first.stdout.contains(part), "{part}: {}", first.stdout);
    }
    let json = written(&tiny);
    let second = run(&["q8_0.gguf", "q4_0.gguf"], &[]);
    assert_eq!((counted(&second), &second.stdout), (counts(0, 3), &first.stdout));
    assert_eq!(written(&tiny), json);
    // Another order, one more model, the same under another name: only what is new is measured.
    fs::rename(tiny.path("q4_0.gguf"), tiny.path("four.gguf")).unwrap();
    assert_eq!(counted(&run(&["four.gguf", "model", "q8_0.gguf"], &[])), counts(1, 3));
    assert_eq!(of(&written(&tiny), "four.gguf")["kl_mean"], of(&json, "q4_0.gguf")["kl_mean"]);
    // Without speeds they are other entries.
    assert_eq!(counted(&run(&["q8_0.gguf"], &["--no-speed"])), counts(2, 0));
    assert_eq!(of(&written(&tiny), "q8_0.gguf")["peak_memory_bytes"], Value::Null);
    // A model of another family with the same tokens compares too.
    let qwen = Tiny::of_family("qwen2");
    let other = run(&[&qwen.name()], &["--no-speed"]);
    assert_eq!(counted(&other), counts(1, 1));
    assert!(written(&tiny)["models"][0]["kl_mean"].as_f64() > Some(0.01));
    // Recipes and models stand in one table, and both tables share what does not depend on the calibration text.
    let (a, four) = (tiny.path("a.txt"), tiny.path("four.gguf"));
    let both =
        ["compare", &f16, "--models", &four, "--recipes", "wanda", "--keep", "0.5", "--text", &a, "--held-out", &b];
    let ended = succeeds(pare([&both[..], &["-o", &output, "--context", "48", "--probes", "0"]].concat()));
    assert_eq!(counted(&ended), counts(3, 2));
    let found = written(&tiny);
    assert_eq!((found["models"].as_array().unwrap().len(), found["entries"].as_array().unwrap().len()), (1, 3));
    let page = fs::read_to_string(tiny.folder().join("out/compare.html")).unwrap();
    for part in ["recipes and models beside it", "<h2>Models</h2>", "<h2>Keep 0.5</h2>", "Making"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn models_that_cannot_be_compared_are_refused_by_name_before_the_work() {
    let tiny = with_files();
    let refuses = |models: &[&str], more: &[&str], parts: &[&str]| {
        beside(&tiny, models, more).refuses(parts);
        assert!(!Path::new(&tiny.path("out")).exists(), "{models:?} {more:?}");
    };
    refuses(&["q8_0.gguf", "none.gguf"], &[], &["none.gguf"]);
    tiny.write("short.gguf", &fs::read(tiny.path("q4_0.gguf")).unwrap()[..3000]);
    refuses(&["q8_0.gguf", "short.gguf"], &[], &["short.gguf"]);
    tiny.write("words.gguf", "words");
    refuses(&["words.gguf", "q8_0.gguf"], &[], &["words.gguf"]);
    // A number that is none, behind a sound header.
    let mut bytes = fs::read(tiny.path("f16.gguf")).unwrap();
    let end = bytes.len() - 64 * 4;
    bytes[end..end + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    tiny.write("nan.gguf", bytes);
    refuses(&["q8_0.gguf", "nan.gguf"], &[], &["nan.gguf", "NaN"]);

    let copy = |name: &str| {
        fs::create_dir(tiny.path(name)).unwrap();
        for file in names(&tiny.model()) {
            fs::copy(tiny.model().join(&file), tiny.folder().join(name).join(&file)).unwrap();
        }
    };
    copy("other");
    tiny.write("other/tokenizer.json", tokenizer(Some("<end>")).to_string());
    let token = ["other: tokenizer, token 127: found \"<end>\", expected \"\\u{7f}\" as in", "another reference"];
    refuses(&["q8_0.gguf", "other"], &[], &token);
    copy("brief");
    let config = fs::read_to_string(tiny.path("model/config.json")).unwrap();
    tiny.write("brief/config.json", config.replace("\"max_position_embeddings\":64", "\"max_position_embeddings\":32"));
    refuses(&["brief"], &[], &["brief: context: found 32 tokens, expected the 48 of a window", "--context 32"]);
    copy("padded");
    tiny.write("padded/config.json", config.replace("\"vocab_size\":128", "\"vocab_size\":160"));
    tiny.write("padded/model.safetensors", with_rows(&fs::read(tiny.path("model/model.safetensors")).unwrap(), 32));
    refuses(
        &["padded"],
        &[],
        &["padded: vocabulary: found 160 tokens, expected 128 tokens as in", "another reference"],
    );

    let (model, output) = (tiny.name(), tiny.path("out"));
    for (option, value) in [("--recipes", "slim"), ("--keep", "0.5"), ("--text", &tiny.path("a.txt"))] {
        refuses(&["q8_0.gguf"], &[option, value], &["--against", option, "cannot be used with"]);
    }
    let q8 = tiny.path("q8_0.gguf");
    pare(["compare", "--models", &q8, "-o", &output]).refuses(&["--against"]);
    pare(["compare", "--against", &model, "-o", &output]).refuses(&["--models"]);
    pare(["compare", &model, "--models", &q8, "--against", &model, "-o", &output]).refuses(&["cannot be used with"]);
    pare(["compare", "--models", &q8, "--against", &model, "-o", &q8]).refuses(&["also an input"]);
    assert!(!Path::new(&output).exists());
}
