//! What is accepted runs: configurations with every field at its ends, and GGUF files with every byte of the header changed.
//!
//! Seeds are generated: `PARE_WRITE_SEEDS=1 cargo test -p pare-model --test main fuzz_replay` writes them again.

use crate::tiny::Draw;
use pare_format::gguf::{Array, GgmlType, Gguf, GgufWriter, TensorSpec, Value};
use pare_model::load::{fuzz_config, fuzz_gguf};
use std::path::{Path, PathBuf};

const FAMILIES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// A tiny model with `entries` replaced.
fn config(family: &str, entries: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("hidden_size", "8"),
        ("intermediate_size", "6"),
        ("num_hidden_layers", "2"),
        ("num_attention_heads", "2"),
        ("num_key_value_heads", "1"),
        ("head_dim", "4"),
        ("vocab_size", "5"),
        ("max_position_embeddings", "16"),
        ("rms_norm_eps", "1e-6"),
        ("rope_theta", "1e4"),
        ("tie_word_embeddings", "true"),
        ("rope_scaling", "null"),
    ];
    for (key, value) in entries {
        all.retain(|(name, _)| name != key);
        all.push((key, value));
    }
    let all: Vec<String> = all.iter().map(|(key, value)| format!("{key:?}: {value}")).collect();
    format!("{{\"model_type\": {family:?}, {}}}", all.join(", "))
}

#[test]
fn a_configuration_that_is_read_runs() {
    let sizes = [
        "0",
        "1",
        "2",
        "3",
        "7",
        "31",
        "33",
        "64",
        "512",
        "514",
        "1022",
        "1024",
        "4096",
        "16384",
        "4194304",
        "1073741824",
        "1e18",
    ];
    let numbers = ["0", "1e-300", "1e-45", "1e-6", "0.999", "1", "1.5", "1e38", "1e300"];
    let scalings = [
        r#"{"type": "linear", "factor": 1e300}"#,
        r#"{"type": "yarn", "factor": 1e300, "original_max_position_embeddings": 1}"#,
        r#"{"type": "yarn", "factor": 1, "beta_fast": 1e300, "beta_slow": 1e-300}"#,
        r#"{"type": "yarn", "factor": 4, "attention_factor": 1e300}"#,
        r#"{"type": "llama3", "factor": 8, "low_freq_factor": 1e-300, "high_freq_factor": 1e300}"#,
    ];
    let mut cases = Vec::new();
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "sliding_window",
    ] {
        cases.extend(sizes.map(|value| (key, value)));
    }
    for key in ["rms_norm_eps", "rope_theta"] {
        cases.extend(numbers.map(|value| (key, value)));
    }
    for key in ["tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window"] {
        cases.extend(["true", "false"].map(|value| (key, value)));
    }
    cases.extend(scalings.map(|value| ("rope_scaling", value)));
    let parts =
        r#"{"blocks": [{"attention": {"heads": 7, "kv_heads": 7}, "ffn": null}, {"attention": null, "ffn": null}]}"#;
    cases.push(("pare", parts));
    let mut read = 0;
    for family in FAMILIES {
        for &(key, value) in &cases {
            // Wide heads beside everything: the sizes of several buffers follow from them.
            for width in ["2", "4", "510", "1024"] {
                read += usize::from(fuzz_config(config(family, &[("head_dim", width), (key, value)]).as_bytes()));
            }
        }
    }
    assert!(read > 500, "{read} were read");
}

#[test]
fn a_head_wider_than_any_published_one_runs() {
    for width in ["1024", "4098"] {
        assert!(fuzz_config(config("qwen3", &[("head_dim", width)]).as_bytes()), "{width}");
    }
}

/// A file of two blocks: C 32, two heads of 16 in one group, F 32, V 6.
fn seed(architecture: &str, ty: GgmlType) -> Vec<u8> {
    let mut keys: Vec<(String, Value)> = vec![("general.architecture".into(), Value::text(architecture))];
    let mut put = |key: &str, value: Value| keys.push((format!("{architecture}.{key}"), value));
    let per_block = |value: u32| match architecture {
        "deci" => Value::Array(Array::U32(vec![value; 2])),
        _ => Value::U32(value),
    };
    put("block_count", Value::U32(2));
    put("context_length", Value::U32(16));
    put("embedding_length", Value::U32(32));
    put("feed_forward_length", per_block(32));
    put("attention.head_count", per_block(2));
    put("attention.head_count_kv", per_block(1));
    put("attention.key_length", Value::U32(16));
    put("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    put("rope.freq_base", Value::F32(1e4));
    put("rope.scaling.type", Value::text("yarn"));
    put("rope.scaling.factor", Value::F32(2.0));
    let mut specs = Vec::new();
    let mut tensor = |name: String, ggml_type: GgmlType, shape: &[usize]| {
        specs.push(TensorSpec { name, ggml_type, shape: shape.to_vec() });
    };
    tensor("token_embd.weight".into(), ty, &[32, 6]);
    for block in 0..2 {
        for (name, rows) in [("attn_q", 32), ("attn_k", 16), ("attn_v", 16), ("attn_output", 32)] {
            tensor(format!("blk.{block}.{name}.weight"), ty, &[32, rows]);
        }
        for name in ["ffn_gate", "ffn_up", "ffn_down"] {
            tensor(format!("blk.{block}.{name}.weight"), ty, &[32, 32]);
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensor(format!("blk.{block}.{name}.weight"), GgmlType::F32, &[32]);
        }
        if architecture == "qwen3" {
            tensor(format!("blk.{block}.attn_q_norm.weight"), GgmlType::F32, &[16]);
            tensor(format!("blk.{block}.attn_k_norm.weight"), GgmlType::F32, &[16]);
        }
    }
    tensor("output_norm.weight".into(), GgmlType::F32, &[32]);
    let mut writer = GgufWriter::new(Path::new("seed.gguf"), Vec::new(), &keys, &specs).unwrap();
    let mut draw = Draw::new(3);
    for spec in &specs {
        let bytes = match spec.ggml_type {
            // A scale of 1 and codes.
            GgmlType::Q8_0 => [&[0x00, 0x3c][..], &[1, 2, 255, 254].repeat(8)].concat().repeat(spec.shape[1]),
            _ => draw.many(spec.shape.iter().product(), 0.0, 1.0).iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        writer.tensor(&spec.name, &bytes).unwrap();
    }
    writer.finish().unwrap()
}

fn seeds() -> [(&'static str, Vec<u8>); 4] {
    [
        ("llama", seed("llama", GgmlType::F32)),
        ("llama-blocks", seed("llama", GgmlType::Q8_0)),
        ("deci", seed("deci", GgmlType::F32)),
        ("qwen3", seed("qwen3", GgmlType::F32)),
    ]
}

/// Configurations with the keys that a fuzzer would not find by itself.
fn config_seeds() -> [(&'static str, Vec<u8>); 4] {
    let uneven = r#"{"blocks": [{"attention": {"heads": 2, "kv_heads": 1}, "ffn": 3}, {"attention": null, "ffn": 6}]}"#;
    let yarn =
        r#"{"type": "yarn", "factor": 2, "original_max_position_embeddings": 8, "beta_fast": 32, "beta_slow": 1}"#;
    let llama3 = r#"{"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
        "original_max_position_embeddings": 8}"#;
    [
        ("llama", config("llama", &[("rope_scaling", llama3), ("pare", uneven), ("mlp_bias", "true")])),
        ("mistral", config("mistral", &[("sliding_window", "4"), ("tie_word_embeddings", "false")])),
        ("qwen2", config("qwen2", &[("rope_scaling", yarn), ("use_sliding_window", "false")])),
        (
            "qwen3",
            config("qwen3", &[("attention_bias", "true"), ("rope_scaling", r#"{"type": "linear", "factor": 2}"#)]),
        ),
    ]
    .map(|(name, text)| (name, text.into_bytes()))
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pare-format/fuzz/corpus").join(target)
}

/// Seeds are those in the corpus of `target`, `run` accepts them, and goes through all that is there.
fn replay(target: &str, seeds: [(&str, Vec<u8>); 4], run: impl Fn(&[u8]) -> bool) {
    for (name, bytes) in seeds {
        let path = corpus(target).join(name);
        if std::env::var_os("PARE_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{}", path.display());
        assert!(run(&bytes), "{name}");
    }
    for entry in std::fs::read_dir(corpus(target)).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

#[test]
fn seeds_are_those_in_the_corpus_and_all_of_it_runs() {
    replay("forward_gguf", seeds(), fuzz_gguf);
    replay("forward_config", config_seeds(), fuzz_config);
}

#[test]
fn a_file_whose_header_was_changed_is_refused_or_runs() {
    let mut accepted = 0;
    for (name, bytes) in seeds() {
        let header = Gguf::parse(Path::new(name), &bytes).unwrap().data_start();
        for at in 0..header {
            let old = bytes[at];
            for new in [0, 1, old ^ 1, old.wrapping_add(16), 0xff] {
                let mut changed = bytes.clone();
                changed[at] = new;
                accepted += usize::from(new != old && fuzz_gguf(&changed));
            }
        }
    }
    assert!(accepted > 100, "{accepted} were accepted");
}
