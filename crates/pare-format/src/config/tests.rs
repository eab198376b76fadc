use std::path::Path;

use super::*;
use crate::json::{self, Bounds};

const LLAMA: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "hidden_act": "silu",
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "rope_theta": 100000, "rope_scaling": null, "tie_word_embeddings": true,
    "bos_token_id": 1, "eos_token_id": [2, 7], "torch_dtype": "bfloat16", "unknown": {"kept": [1, 2]}, "use_cache": true}"#;

fn read(text: &str) -> Result<ModelConfig> {
    let file = Path::new("config.json");
    match json::parse(file, text.as_bytes(), Bounds::CONFIG)? {
        Json::Object(object) => ModelConfig::from_json(file, object),
        other => panic!("{other:?}"),
    }
}

/// The llama configuration with entries replaced; `entries` is the inside of a JSON object.
fn with(entries: &str) -> Result<ModelConfig> {
    let parse = |text: &str| match json::parse(Path::new("x"), text.as_bytes(), Bounds::CONFIG).unwrap() {
        Json::Object(object) => object,
        other => panic!("{other:?}"),
    };
    let mut object = parse(LLAMA);
    for (key, value) in parse(&format!("{{{entries}}}")).iter() {
        object.set(key, value.clone());
    }
    ModelConfig::from_json(Path::new("config.json"), object)
}

#[test]
fn reads_a_llama() {
    let config = read(LLAMA).unwrap();
    assert_eq!((config.hidden, config.blocks, config.heads, config.kv_heads), (576, 30, 9, 3));
    assert_eq!((config.head_dim, config.ffn, config.vocab, config.context), (64, 1536, 49152, 8192));
    assert_eq!((config.norm_eps, &config.rope), (1e-5, &Rope { theta: 1e5, scaling: Scaling::None }));
    assert_eq!(
        (config.tied, config.bos, config.eos.as_slice(), config.dtype),
        (true, Some(1), &[2, 7][..], Some(Dtype::BF16))
    );
    assert_eq!((config.sliding_window, config.window(0), config.obstacle()), (None, None, None));
    assert_eq!(config.tensor_names().count(), 30 * 9 + 2);
}

#[test]
fn pythons_numbers_are_read_where_they_do_not_matter_and_refused_by_name_where_they_do() {
    let config =
        with(r#""initializer_range": Infinity, "others": {"a": [NaN, -Infinity]}, "bos_token_id": 1"#).unwrap();
    let text = config.to_json();
    for part in ["\"initializer_range\": Infinity", "NaN,", "-Infinity"] {
        assert!(text.contains(part), "{text} / {part}");
    }
    let again = read(&text).unwrap();
    for key in ["initializer_range", "others"] {
        assert_eq!(again.raw.get(key), config.raw.get(key));
    }
    for key in ["rms_norm_eps", "rope_theta", "hidden_size", "max_position_embeddings", "eos_token_id", "logit_scale"] {
        for number in ["NaN", "Infinity", "-Infinity"] {
            let message = with(&format!("\"{key}\": {number}")).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(number), "{message}");
        }
    }
}

#[test]
fn writes_what_it_read() {
    for entries in [
        "",
        r#""rope_scaling": {"type": "linear", "factor": 2}"#,
        r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#,
        r#""rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 4.0, "original_max_position_embeddings": 4096}"#,
        r#""rope_parameters": {"rope_type": "default", "rope_theta": 12345.0}"#,
        r#""model_type": "mistral", "sliding_window": 4096"#,
        r#""model_type": "mistral", "sliding_window": null, "head_dim": 128"#,
        r#""model_type": "qwen2", "use_sliding_window": true, "sliding_window": 100, "max_window_layers": 5"#,
        r#""model_type": "qwen3", "use_sliding_window": false, "max_window_layers": 0, "head_dim": 128, "eos_token_id": null"#,
        r#""attention_bias": true, "mlp_bias": true, "bos_token_id": null, "dtype": "float16", "eos_token_id": 3"#,
        r#""quantization_config": {"quant_method": "pare"}, "pare": {"shortcuts": true, "other": 1}"#,
        r#""head_dim": 4, "quantization_config": {"quant_method": "pare"}, "pare": {"rope_divisors": [1, 2.5]}"#,
        r#""pretraining_tp": 1, "is_causal": true, "logits_scaling": null, "num_experts": 0, "use_qk_norm": false"#,
    ] {
        let config = with(entries).unwrap();
        let again = read(&config.to_json()).unwrap();
        assert_eq!(
            ModelConfig { raw: Object::default(), ..config.clone() },
            ModelConfig { raw: Object::default(), ..again.clone() }
        );
        assert_eq!(again.raw.get("unknown"), config.raw.get("unknown"));
        assert_eq!(again.to_json(), config.to_json());
        let from_nothing = ModelConfig { raw: Object::default(), ..config.clone() };
        let mut again = read(&from_nothing.to_json()).unwrap();
        again.raw = Object::default();
        assert_eq!(again, from_nothing);
    }
    assert!(
        read(LLAMA).unwrap().to_json().contains("\"rms_norm_eps\": 0.00001,")
            || read(LLAMA).unwrap().to_json().contains("\"rms_norm_eps\": 1e-5,")
    );
}

#[test]
fn windows_follow_the_families() {
    let mistral = with(r#""model_type": "mistral", "sliding_window": 4096"#).unwrap();
    assert_eq!((mistral.window(0), mistral.window(29)), (Some(4096), Some(4096)));
    assert_eq!(with(r#""model_type": "mistral", "sliding_window": 8192"#).unwrap().sliding_window, None);
    assert_eq!(with(r#""model_type": "mistral", "sliding_window": null"#).unwrap().sliding_window, None);
    assert_eq!(with(r#""model_type": "mistral""#).unwrap().sliding_window, Some(4096));
    let qwen = r#""model_type": "qwen2", "num_key_value_heads": 9, "sliding_window": 100, "max_window_layers": 5"#;
    assert_eq!(with(qwen).unwrap().sliding_window, None);
    let used = with(&format!(r#"{qwen}, "use_sliding_window": true"#)).unwrap();
    assert_eq!((used.window(4), used.window(5)), (None, Some(100)));
}

#[test]
fn uneven_blocks_are_pares_own() {
    let mut config = read(LLAMA).unwrap();
    let mut blocks: Vec<_> = (0..30).map(|i| config.block(i)).collect();
    blocks[3] = BlockShape { attention: None, ffn: Some(100) };
    blocks[4] = BlockShape { attention: Some(AttentionShape { heads: 6, kv_heads: 2 }), ffn: None };
    config.uneven = Some(blocks.clone());
    assert!(config.obstacle().unwrap().contains("blocks differ"));
    let again = read(&config.to_json()).unwrap();
    assert_eq!(again.uneven, Some(blocks));
    assert_eq!(again.block(4), config.block(4));
    assert_eq!(again.block_tensor_names(3).len(), 4);
    assert_eq!(again.block_tensor_names(4).len(), 5);

    config.uneven = Some(vec![read(LLAMA).unwrap().block(0); 30]);
    assert!(config.obstacle().is_none() && !config.to_json().contains("pare"));
    config.heads = 8;
    config.kv_heads = 2;
    config.hidden = 580;
    config.uneven = None;
    assert!(config.obstacle().unwrap().contains("580 is not a multiple of its 8 heads"));
}

#[test]
fn blocks_with_shortcuts_have_one_more_tensor_per_part_and_keep_others_away() {
    let config = with(r#""quantization_config": {"quant_method": "pare"}, "pare": {"shortcuts": true}"#).unwrap();
    let names = config.block_tensor_names(0);
    for name in ["model.layers.0.self_attn.shortcut.weight", "model.layers.0.mlp.shortcut.weight"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    assert_eq!(config.tensor_names().count(), 30 * 11 + 2);
    // The method is named for the shortcuts alone, and goes with them.
    let plain = ModelConfig { own_forms: false, ..config.clone() };
    assert!(plain.to_json().contains("quant_method") && plain.obstacle().unwrap().contains("shortcuts"));
    let none = ModelConfig { shortcuts: false, ..plain };
    assert!(!none.to_json().contains("quant_method") && !none.to_json().contains("pare") && none.obstacle().is_none());
}

#[test]
fn every_field_is_checked() {
    for (entries, fragments) in [
        (r#""num_hidden_layers": -1"#, &["field \"num_hidden_layers\"", "-1", "from 1 to 4096"][..]),
        (r#""num_hidden_layers": 0"#, &["0; expected a whole number from 1"]),
        (r#""num_hidden_layers": 1000000000"#, &["1000000000; expected"]),
        (r#""num_hidden_layers": "12""#, &["\"12\"; expected"]),
        (r#""num_hidden_layers": 12.5"#, &["12.5; expected"]),
        (r#""num_hidden_layers": null"#, &["null; expected"]),
        (r#""num_hidden_layers": [1]"#, &["[1]; expected"]),
        (r#""hidden_size": 577"#, &["\"hidden_size\": 577", "multiple of num_attention_heads, 9"]),
        (r#""num_key_value_heads": 18"#, &["\"num_key_value_heads\": 18", "divisor of num_attention_heads, 9"]),
        (r#""num_key_value_heads": 2"#, &["2; expected a divisor"]),
        (r#""head_dim": 63"#, &["\"head_dim\": 63", "even"]),
        (r#""head_dim": 4194304"#, &["\"head_dim\"", "width of all heads is 37748736"]),
        (r#""vocab_size": 5000000"#, &["5000000; expected"]),
        (r#""rms_norm_eps": 0"#, &["\"rms_norm_eps\"", "above 0"]),
        (r#""rms_norm_eps": 1e-300"#, &["\"rms_norm_eps\""]),
        (r#""rope_theta": -5"#, &["\"rope_theta\": -5"]),
        (r#""tie_word_embeddings": 1"#, &["1; expected true or false"]),
        (r#""eos_token_id": [1, -1]"#, &["\"eos_token_id\"", "[1, -1]"]),
        (r#""bos_token_id": 4294967296"#, &["4294967296"]),
        (r#""hidden_act": "gelu""#, &["activation \"gelu\" is not supported; supported: silu"]),
        (r#""model_type": "gpt2""#, &["model type \"gpt2\" is not supported; supported: llama, mistral, qwen2, qwen3"]),
        (r#""model_type": "x", "auto_map": {"AutoModel": "x.py"}"#, &["\"x\" is not supported", "never runs code"]),
        (r#""quantization_config": {"quant_method": "hqq"}"#, &["\"hqq\"", "not supported"]),
        (
            r#""rope_scaling": {"rope_type": "dynamic", "factor": 2}"#,
            &["rope_scaling.rope_type", "\"dynamic\" is not supported"],
        ),
        (
            r#""rope_scaling": {"rope_type": "yarn", "factor": 2, "mscale": 1.0}"#,
            &["rope_scaling.mscale", "not supported"],
        ),
        (r#""rope_scaling": {"rope_type": "linear"}"#, &["rope_scaling.factor", "is missing"]),
        (r#""rope_scaling": [1]"#, &["\"rope_scaling\"", "an object"]),
        (
            r#""rope_parameters": {"full_attention": {"rope_theta": 1}}"#,
            &["rope_parameters.full_attention", "not supported"],
        ),
        (r#""partial_rotary_factor": 0.5"#, &["0.5 is not supported"]),
        (r#""pretraining_tp": 2"#, &["\"pretraining_tp\": 2, which would change", "supported: 1 or null"]),
        (r#""is_causal": false"#, &["\"is_causal\": false, which would change", "supported: true or null"]),
        (r#""logits_scaling": 8.0"#, &["\"logits_scaling\": 8", "supported: 1 or null"]),
        (r#""use_qk_norm": true"#, &["\"use_qk_norm\": true", "supported: false or null"]),
        (r#""num_local_experts": 8"#, &["\"num_local_experts\": 8"]),
        (r#""pare": {"rope_divisors": [1.0]}"#, &["pare.rope_divisors", "32 numbers above 0", "quant_method"]),
        (r#""layer_types": ["full_attention"]"#, &["an array of 1", "an array of 30 strings"]),
        (r#""pare": {"blocks": [{"attention": null, "ffn": 1}]}"#, &["pare.blocks", "an array of 30 blocks"]),
        (r#""num_hidden_layers": 1, "pare": {"blocks": [{"attention": null}]}"#, &["pare.blocks[0].ffn", "is missing"]),
        (
            r#""num_hidden_layers": 1, "pare": {"blocks": [{"attention": {"heads": 4, "kv_heads": 3}, "ffn": 1}]}"#,
            &["pare.blocks[0].attention.kv_heads", "3; expected a divisor of heads, 4"],
        ),
        (r#""num_hidden_layers": 1, "pare": {"blocks": [{"attention": null, "ffn": 1e9}]}"#, &["pare.blocks[0].ffn"]),
        (r#""num_hidden_layers": 1, "pare": {"blocks": [7]}"#, &["pare.blocks[0]\": 7"]),
        (r#""pare": {"shortcuts": true}"#, &["pare.shortcuts", "quant_method"]),
        (r#""pare": {"shortcuts": 1}"#, &["pare.shortcuts", "true or false"]),
    ] {
        let message = with(entries).unwrap_err().to_string();
        for fragment in fragments {
            assert!(message.starts_with("config.json: ") && message.contains(fragment), "{message} / {fragment}");
        }
    }
}
