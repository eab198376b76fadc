//! Models that cannot be used: exit code 2, and a message that names the file and what is wrong in it.

use crate::model::{Tiny, tensor, tokenizer};
use crate::program::{names, pare};
use crate::words::story;
use serde_json::{Value, json};
use std::fs;

/// Every command that opens a model refuses it in the same way.
fn all_refuse(model: &str, tiny: &Tiny, parts: &[&str]) {
    let output = tiny.path("out");
    for arguments in [
        &["run", model, "hi"][..],
        &["eval", model],
        &["inspect", model],
        &["logits", model, "-o", &output],
        &["shrink", model, "--recipe", "slim", "-o", &output],
    ] {
        pare(arguments).refuses(parts);
        assert!(!tiny.folder().join("out").exists(), "{arguments:?}");
    }
}

/// What is done to a good file, and the words that the refusal must hold.
type Row<'a, T> = (&'a dyn Fn(&mut T), &'a [&'a str]);

#[test]
fn names_that_are_no_model() {
    let tiny = Tiny::new();
    all_refuse("smollm2-135n", &tiny, &["smollm2-135n: no such model", "did you mean \"smollm2-135m\"?"]);
    all_refuse("qwen", &tiny, &["qwen: no such model", "hf:organisation/name", "smollm2-135m"]);
    let file = tiny.write("notes.txt", "not a model");
    all_refuse(&file, &tiny, &["notes.txt", "neither a model directory nor a GGUF file"]);
    pare(["fetch", "smollm2"]).refuses(&["smollm2", "smollm2-135m"]);
}

#[test]
fn missing_files() {
    let tiny = Tiny::new();
    for (name, part) in [
        ("tokenizer.json", "the model's tokenizer"),
        ("model.safetensors", "safetensors"),
        ("config.json", "the model's description"),
    ] {
        fs::remove_file(tiny.model().join(name)).unwrap();
        all_refuse(&tiny.name(), &tiny, &[name, part]);
    }
}

#[test]
fn broken_weights() {
    let tiny = Tiny::new();
    let good = fs::read(tiny.model().join("model.safetensors")).unwrap();
    let rows: &[Row<'_, Vec<u8>>] = &[
        (&|file| file.clear(), &["model.safetensors", "0 bytes"]),
        (&|file| file[..8].fill(0xff), &["model.safetensors", "header"]),
        (&|file| file.truncate(file.len() - 1), &["model.safetensors", "1 byte"]),
        (&|file| file[8] = b'[', &["model.safetensors", "JSON"]),
        (&|file| *file = b"<!DOCTYPE html><html>".to_vec(), &["model.safetensors", "HTML page"]),
    ];
    for (spoil, parts) in rows {
        tiny.change_weights(|file| {
            good.clone_into(file);
            spoil(file);
        });
        all_refuse(&tiny.name(), &tiny, parts);
    }
}

#[test]
fn broken_configurations() {
    let tiny = Tiny::new();
    let file = tiny.model().join("config.json");
    let good: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, value) in [
        ("num_hidden_layers", json!(-1)),
        ("num_hidden_layers", json!(3)),
        ("num_attention_heads", json!("4")),
        ("num_key_value_heads", json!(3)),
        ("vocab_size", json!(4_000_000_000_u32)),
        ("model_type", json!("mamba")),
        ("max_position_embeddings", json!(0)),
    ] {
        let mut config = good.clone();
        config[key] = value;
        fs::write(&file, config.to_string()).unwrap();
        let said = pare(["run", &tiny.name(), "hi"]).refuses(&[]);
        assert!(said.contains("config.json") || said.contains("model.safetensors"), "{key}: {said}");
    }
    fs::write(&file, "{").unwrap();
    all_refuse(&tiny.name(), &tiny, &["config.json", "JSON"]);
}

#[test]
fn broken_tokenizers() {
    let tiny = Tiny::new();
    let rows: &[Row<'_, Value>] = &[
        (&|file| *file = json!([]), &["tokenizer.json", "an object"]),
        (&|file| file["model"]["type"] = json!("Unigram"), &["tokenizer.json", "model.type", "Unigram"]),
        (&|file| file["model"]["vocab"]["a"] = json!(-3), &["tokenizer.json", "vocab", "-3"]),
        (&|file| file["model"]["merges"] = json!(["a bc"]), &["tokenizer.json", "model.merges[0]", "bc"]),
        (&|file| file["model"]["vocab"]["zz"] = json!(500), &["tokenizer.json", "500", "128"]),
        (&|file| file["decoder"]["type"] = json!("Morse"), &["tokenizer.json", "decoder", "Morse"]),
    ];
    for (spoil, parts) in rows {
        let mut file = tokenizer(None);
        spoil(&mut file);
        tiny.write("model/tokenizer.json", file.to_string());
        all_refuse(&tiny.name(), &tiny, parts);
    }
    let text = tokenizer(None).to_string();
    tiny.write("model/tokenizer.json", &text[..text.len() / 2]);
    all_refuse(&tiny.name(), &tiny, &["tokenizer.json", "JSON"]);
}

#[test]
fn broken_gguf_files() {
    let tiny = Tiny::new();
    let header = |version: u32, tensors: u64, keys: u64| {
        [&b"GGUF"[..], &version.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
    };
    for (bytes, part) in [
        (Vec::new(), ""),
        (b"GGML and so on, long enough for a header".to_vec(), "GGUF"),
        (header(9, 1, 1), "version"),
        (header(3, u64::MAX, 1), "tensors"),
        (header(3, 0, 1 << 60), "kv_count"),
        (header(3, 0, 0), ""),
    ] {
        let file = tiny.write("model.gguf", bytes);
        all_refuse(&file, &tiny, &["model.gguf", part]);
    }
}

/// Everything that pares the model refuses it, before any text is written: there is neither a text nor a cache for one.
fn nothing_is_pared(tiny: &Tiny, parts: &[&str]) {
    let (model, output) = (tiny.name(), tiny.path("out"));
    let before = names(tiny.folder());
    for recipe in ["slim", "flattengpt", "gptq", "magnitude", "wanda"] {
        // The rows of gptq are no whole blocks: that is known first.
        let own = if recipe == "gptq" { &["rows of 80"][..] } else { parts };
        pare(["shrink", &model, "--recipe", recipe, "-o", &output]).refuses(own);
    }
    pare(["compare", &model, "--recipes", "slim", "--keep", "0.8", "-o", &output]).refuses(parts);
    let sound = Tiny::new();
    pare(["merge", &sound.name(), &model, "--method", "average", "--no-verify", "-o", &output]).refuses(parts);
    assert_eq!(names(tiny.folder()), before);
}

#[test]
fn numbers_that_are_not_finite_are_found_before_the_work() {
    let at = |name: &str, values: &[f32]| {
        let tiny = Tiny::new();
        tiny.change_weights(|file| {
            let (start, length) = tensor(file, name);
            for (bytes, value) in file[start..start + length].chunks_exact_mut(4).skip(10).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        });
        tiny
    };
    let place = "block 1 up: row 0, column 10 is NaN, expected a finite number";
    nothing_is_pared(&at("model.layers.1.mlp.up_proj.weight", &[f32::NAN]), &["model: ", place]);
    let place = "block 0 k: row 0, column 10 is -inf";
    nothing_is_pared(&at("model.layers.0.self_attn.k_proj.weight", &[f32::NEG_INFINITY]), &[place]);
    nothing_is_pared(&at("model.norm.weight", &[f32::INFINITY]), &["final norm: value 10 is inf"]);
    let norm = "model.layers.1.input_layernorm.weight";
    nothing_is_pared(&at(norm, &[f32::NAN]), &["block 1 attention norm: value 10 is NaN"]);
    // Every number is finite, what comes of them is not.
    let huge = at("model.layers.0.mlp.down_proj.weight", &[f32::MAX; 64 * 80 - 10]);
    nothing_is_pared(&huge, &["behind block 0, channel ", "of the token ", "expected a finite number"]);
}

#[test]
fn what_only_measures_or_writes_text_goes_on_with_numbers_that_are_not_finite() {
    let tiny = Tiny::new();
    tiny.change_weights(|file| {
        let (start, _) = tensor(file, "model.layers.1.mlp.up_proj.weight");
        file[start + 40..start + 44].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let model = tiny.name();
    // The figures say it.
    let text = tiny.write("b.txt", story(900, 2));
    pare(["run", &model, "hi", "-n", "8", "--temperature", "1"]).succeeds();
    let figures = pare(["eval", &model, "--json", "--probes", "1", "--no-speed", "--held-out", &text]).json();
    assert_eq!(figures["perplexity"], Value::Null);
}
