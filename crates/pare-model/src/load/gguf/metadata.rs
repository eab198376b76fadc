//! The metadata of a GGUF file in the terms of `config.json`.

use super::{deci, keys, missing};
use pare_format::config::{Family, ModelConfig};
use pare_format::gguf::{Gguf, GgufModel};
use pare_format::json::Object;
use pare_format::{FormatError, FormatErrorKind, Result};

/// The name of the architecture, when it is one that pare reads.
pub(super) fn architecture(gguf: &Gguf) -> Result<(&str, Family)> {
    let refuse = |key: &str, found: String, supported: &str| {
        let kind = FormatErrorKind::Unsupported { found, supported: supported.into() };
        Err(FormatError::new(gguf.file(), kind).item(format!("key {key:?}")))
    };
    if let Some(kind) = gguf.opt_str("general.type")?.filter(|kind| *kind != "model") {
        return refuse("general.type", format!("a file of type {kind:?}"), "model");
    }
    let name = gguf.str("general.architecture")?;
    match name {
        "llama" | "deci" => Ok((name, Family::Llama)),
        "qwen2" => Ok((name, Family::Qwen2)),
        "qwen3" => Ok((name, Family::Qwen3)),
        other => refuse("general.architecture", format!("architecture {other:?}"), "llama, deci, qwen2, qwen3"),
    }
}

/// The metadata as a `config.json`, which then checks every number.
pub(super) fn config(model: &GgufModel) -> Result<ModelConfig> {
    let gguf = model.header();
    let (name, mut family) = architecture(gguf)?;
    let key = |suffix: &str| format!("{name}.{suffix}");
    let shapes = if name == "deci" { Some(deci::Shapes::read(gguf)?) } else { None };
    let [heads, groups, width] = match &shapes {
        Some(shapes) => shapes.first(),
        None => {
            let heads = gguf.u64(&key("attention.head_count"))?;
            let groups = gguf.opt_u64(&key("attention.head_count_kv"))?.unwrap_or(heads);
            [heads, groups, gguf.u64(&key("feed_forward_length"))?]
        }
    };
    let hidden = gguf.u64(&key("embedding_length"))?;
    let (embedding, _) = model.tensor("token_embd.weight").ok_or_else(|| missing(model, "token_embd.weight"))?;
    // Some blocks may lack the part or the bias.
    let bias = |tensors: &[&str]| {
        let suffixes: Vec<String> = tensors.iter().map(|tensor| format!(".{tensor}.bias")).collect();
        model.tensors().any(|found| suffixes.iter().any(|suffix| found.name.ends_with(suffix)))
    };

    let mut raw = Object::default();
    raw.set("hidden_size", hidden);
    raw.set("intermediate_size", width);
    raw.set("num_hidden_layers", gguf.u64(&key("block_count"))?);
    raw.set("num_attention_heads", heads);
    raw.set("num_key_value_heads", groups);
    if let Some(shapes) = &shapes {
        raw.set("pare", shapes.entry());
    }
    let head_dim = match gguf.opt_u64(&key("attention.key_length"))? {
        Some(width) => width,
        // The check of the numbers below refuses a head count of 0 and widths that do not divide.
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    raw.set("head_dim", head_dim);
    raw.set("vocab_size", embedding.out_in()[0]);
    let context = gguf.u64(&key("context_length"))?;
    raw.set("max_position_embeddings", context);
    raw.set("rms_norm_eps", shortest(gguf.f64(&key("attention.layer_norm_rms_epsilon"))?));
    raw.set("tie_word_embeddings", model.tensor("output.weight").is_none());
    raw.set("rope_theta", gguf.opt_f64(&key("rope.freq_base"))?.map_or(10_000.0, shortest));
    if let Some(scaling) = scaling(gguf, &key)? {
        raw.set("rope_scaling", scaling);
    }
    let window = gguf.opt_u64(&key("attention.sliding_window"))?.filter(|window| (1..context).contains(window));
    if let Some(window) = window {
        raw.set("sliding_window", window);
        raw.set("use_sliding_window", true);
        raw.set("max_window_layers", 0_u64);
        if family == Family::Llama {
            family = Family::Mistral;
        }
    }
    raw.set("model_type", family.model_type());
    if family != Family::Qwen2 {
        raw.set("attention_bias", bias(&["attn_q", "attn_k", "attn_v", "attn_output"]));
    }
    if matches!(family, Family::Llama | Family::Mistral) {
        raw.set("mlp_bias", bias(&["ffn_gate", "ffn_up", "ffn_down"]));
    }
    if let Some(bos) = gguf.opt_u64("tokenizer.ggml.bos_token_id")? {
        raw.set("bos_token_id", bos);
    }
    if let Some(eos) = gguf.opt_u64("tokenizer.ggml.eos_token_id")? {
        raw.set("eos_token_id", eos);
    }
    let config = ModelConfig::from_json(gguf.file(), raw)?;
    keys::check(gguf, name, &config)?;
    Ok(config)
}

/// The shortest decimal of a number that was stored as f32, so that 1e-5 does not become 9.999999747378752e-6.
fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

/// The scaling of rotary positions, as llama.cpp reads its keys: a factor without a type is linear, the type "none" overrules a factor.
fn scaling(gguf: &Gguf, key: &dyn Fn(&str) -> String) -> Result<Option<Object>> {
    let refuse = |name: &str, found: String, supported: &str| {
        let kind = FormatErrorKind::Unsupported { found, supported: supported.into() };
        Err(FormatError::new(gguf.file(), kind).item(format!("field {:?}", key(name))))
    };
    // 0 says none, as in llama.cpp.
    let number = |name: &str| Ok(gguf.opt_f64(&key(name))?.filter(|number| *number != 0.0).map(shortest));
    let (new, old) = (number("rope.scaling.factor")?, number("rope.scale_linear")?);
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        return refuse("rope.scale_linear", format!("{old} beside a rope.scaling.factor of {new}"), "one factor");
    }
    let sharpened = number("rope.scaling.attn_factor")?.unwrap_or(1.0);
    let kind = gguf.opt_str(&key("rope.scaling.type"))?;
    let kind = match (kind, new.or(old)) {
        (Some("none"), _) | (None, None) => "none",
        (Some("linear") | None, None | Some(1.0)) => "none",
        (None, _) => "linear",
        (Some(kind), _) => kind,
    };
    if kind != "yarn" {
        if sharpened != 1.0 {
            return refuse("rope.scaling.attn_factor", format!("{sharpened} without YaRN"), "1");
        }
        if kind == "none" {
            return Ok(None);
        }
    }
    let mut object = Object::default();
    object.set("rope_type", kind);
    let Some(factor) = new.or(old) else {
        let (found, expected) = ("is missing".to_owned(), format!("how much longer {kind} made the context"));
        let kind = FormatErrorKind::Found { found, expected };
        return Err(FormatError::new(gguf.file(), kind).item(format!("field {:?}", key("rope.scaling.factor"))));
    };
    object.set("factor", factor);
    match kind {
        "linear" => {}
        "yarn" => {
            if let Some(context) = gguf.opt_u64(&key("rope.scaling.original_context_length"))? {
                object.set("original_max_position_embeddings", context);
            }
            for (from, to) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                if let Some(turns) = number(&format!("rope.scaling.{from}"))? {
                    object.set(to, turns);
                }
            }
            if sharpened != 1.0 {
                object.set("attention_factor", sharpened * (0.1 * factor.ln() + 1.0));
            }
        }
        other => return refuse("rope.scaling.type", format!("{other:?}"), "none, linear, yarn"),
    }
    Ok(Some(object))
}
