//! A GGUF file: its metadata translated to the terms of `config.json`, its tensors to the names of `model.safetensors`.

mod deci;

use super::{Loaded, Tensors, assemble, window_warning};
use crate::rope::{Rope, Scaling, frequencies};
use crate::storage::{Element, Stored};
use crate::weight::Weight;
use pare_format::config::{Family, ModelConfig};
use pare_format::gguf::{GgmlType, Gguf, GgufTensor};
use pare_format::json::Object;
use pare_format::map::MappedFile;
use pare_format::{FormatError, FormatErrorKind, Result};
use pare_kernels::blocks::{BlockType, ReadType};
use std::sync::Arc;

/// The model in a GGUF file.
///
/// # Errors
/// An architecture that is not llama, deci, qwen2 or qwen3, metadata that is missing or contradicts itself, a tensor that is missing, of another
/// shape than the metadata says, or of a type that pare does not compute with.
pub fn from_gguf(file: &MappedFile, gguf: &Gguf) -> Result<Loaded> {
    gguf.require_whole()?;
    let config = config(gguf)?;
    let source = Source { file, gguf, config: &config };
    source.refuse_rope_factors()?;
    let model = assemble(&config, &source)?;
    let mut warnings = gguf.warnings().to_vec();
    warnings.extend(window_warning(&config));
    Ok(Loaded { model, config, warnings, bytes: file.bytes().len() as u64 })
}

fn family(gguf: &Gguf) -> Result<Family> {
    match gguf.str("general.architecture")? {
        "llama" | "deci" => Ok(Family::Llama),
        "qwen2" => Ok(Family::Qwen2),
        "qwen3" => Ok(Family::Qwen3),
        other => {
            let kind = FormatErrorKind::Unsupported {
                found: format!("architecture {other:?}"),
                supported: "llama, deci, qwen2, qwen3".into(),
            };
            Err(FormatError::new(gguf.file(), kind).item("key \"general.architecture\""))
        }
    }
}

/// The metadata as a `config.json`, which then checks every number.
fn config(gguf: &Gguf) -> Result<ModelConfig> {
    let family = family(gguf)?;
    let name = gguf.str("general.architecture")?;
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
    let embedding = gguf.tensor("token_embd.weight").ok_or_else(|| missing(gguf, "token_embd.weight"))?;
    // The first blocks may lack the part that has them.
    let bias = |tensor: &str| {
        let suffix = format!(".{tensor}.bias");
        gguf.tensors().iter().any(|found| found.name.ends_with(&suffix))
    };

    let mut raw = Object::default();
    raw.set("model_type", family.model_type());
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
    raw.set("max_position_embeddings", gguf.u64(&key("context_length"))?);
    raw.set("rms_norm_eps", shortest(gguf.f64(&key("attention.layer_norm_rms_epsilon"))?));
    raw.set("tie_word_embeddings", gguf.tensor("output.weight").is_none());
    raw.set("rope_theta", gguf.opt_f64(&key("rope.freq_base"))?.unwrap_or(10_000.0));
    if let Some(scaling) = scaling(gguf, &key)? {
        raw.set("rope_scaling", scaling);
    }
    if family != Family::Qwen2 {
        raw.set("attention_bias", bias("attn_q") || bias("attn_output"));
    }
    if family == Family::Llama {
        raw.set("mlp_bias", bias("ffn_gate") || bias("ffn_down"));
    }
    if let Some(bos) = gguf.opt_u64("tokenizer.ggml.bos_token_id")? {
        raw.set("bos_token_id", bos);
    }
    if let Some(eos) = gguf.opt_u64("tokenizer.ggml.eos_token_id")? {
        raw.set("eos_token_id", eos);
    }
    ModelConfig::from_json(gguf.file(), raw)
}

/// The shortest decimal of a number that was stored as f32, so that 1e-5 does not become 9.999999747378752e-6.
fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

fn scaling(gguf: &Gguf, key: &dyn Fn(&str) -> String) -> Result<Option<Object>> {
    let kind = gguf.opt_str(&key("rope.scaling.type"))?.unwrap_or("none");
    let mut object = Object::default();
    object.set("rope_type", kind);
    match kind {
        "none" => return Ok(None),
        "linear" => object.set("factor", gguf.f64(&key("rope.scaling.factor"))?),
        "yarn" => {
            object.set("factor", gguf.f64(&key("rope.scaling.factor"))?);
            if let Some(context) = gguf.opt_u64(&key("rope.scaling.original_context_length"))? {
                object.set("original_max_position_embeddings", context);
            }
        }
        // The check of the configuration refuses it by name.
        _ => {}
    }
    Ok(Some(object))
}

fn missing(gguf: &Gguf, name: &str) -> FormatError {
    let (found, expected) = ("is missing".to_owned(), "a tensor of every such model".to_owned());
    FormatError::new(gguf.file(), FormatErrorKind::Found { found, expected }).item(format!("tensor {name:?}"))
}

pub(super) fn element(ggml_type: GgmlType) -> Option<Element> {
    Some(match ggml_type {
        GgmlType::F32 => Element::F32,
        GgmlType::F16 => Element::F16,
        GgmlType::BF16 => Element::Bf16,
        GgmlType::Q4_0 => Element::Block(BlockType::Q4_0),
        GgmlType::Q4_1 => Element::Block(BlockType::Q4_1),
        GgmlType::Q5_0 => Element::Block(BlockType::Q5_0),
        GgmlType::Q5_1 => Element::Block(BlockType::Q5_1),
        GgmlType::Q8_0 => Element::Block(BlockType::Q8_0),
        GgmlType::Q4_K => Element::Block(BlockType::Q4K),
        GgmlType::Q5_K => Element::Block(BlockType::Q5K),
        GgmlType::Q6_K => Element::Block(BlockType::Q6K),
        other => Element::Read(ReadType::ALL.into_iter().find(|ty| ty.name() == other.name())?),
    })
}

/// The GGUF name of a tensor of `model.safetensors`.
fn gguf_name(name: &str) -> String {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return whole.to_owned();
    }
    let mut name = name.replacen("model.layers.", "blk.", 1);
    for (from, to) in [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ] {
        name = name.replacen(&format!(".{from}."), &format!(".{to}."), 1);
    }
    name
}

struct Source<'a> {
    file: &'a MappedFile,
    gguf: &'a Gguf,
    config: &'a ModelConfig,
}

impl Source<'_> {
    fn stored(&self, name: &str, shape: [usize; 2]) -> Result<Stored> {
        let name = gguf_name(name);
        let tensor = self.gguf.tensor(&name).ok_or_else(|| missing(self.gguf, &name))?;
        let item = |error: FormatError| error.item(format!("tensor {name:?}"));
        let vector = shape[0] == 1 && tensor.shape.len() == 1;
        if tensor.out_in() != shape || !(vector || tensor.shape.len() == 2) {
            let (found, expected) =
                (format!("has shape {:?}", tensor.shape), format!("[in, out] = [{}, {}]", shape[1], shape[0]));
            return Err(item(FormatError::new(self.gguf.file(), FormatErrorKind::Found { found, expected })));
        }
        let unsupported = || {
            let (found, supported) = (tensor.ggml_type.name().to_owned(), GgmlType::supported_names().into());
            item(FormatError::new(self.gguf.file(), FormatErrorKind::Unsupported { found, supported }))
        };
        let element = element(tensor.ggml_type).ok_or_else(unsupported)?;
        let bytes = self.bytes(tensor)?;
        Stored::new(element, shape, bytes).ok_or_else(unsupported)
    }

    fn bytes(&self, tensor: &GgufTensor) -> Result<pare_format::map::Bytes> {
        self.file.bytes().slice(tensor.range.clone()).ok_or_else(|| missing(self.gguf, &tensor.name))
    }

    /// The order of the rows of `name`, when the file keeps another one: llama files interleave the two halves of each query and key head
    /// (row `2i` of a head is its row `i`, row `2i + 1` its row `i + D/2`).
    fn row_order(&self, name: &str, rows: usize) -> Option<Arc<[u32]>> {
        let turned = name.contains(".q_proj.") || name.contains(".k_proj.");
        if self.config.family != Family::Llama || !turned {
            return None;
        }
        let (width, half) = (self.config.head_dim, self.config.head_dim / 2);
        let from = |row: usize| {
            let (head, within) = (row / width, row % width);
            (head * width + 2 * (within % half) + within / half) as u32
        };
        Some((0..rows).map(from).collect())
    }

    /// Llama 3 files carry one divisor per frequency instead of the numbers that it was made from. They are only accepted when they are
    /// the ones that the configuration implies: otherwise every position would be wrong without a sign.
    fn refuse_rope_factors(&self) -> Result<()> {
        let half = self.config.head_dim / 2;
        if self.gguf.tensor("rope_freqs.weight").is_none() {
            return Ok(());
        }
        let mut factors = vec![0.0; half];
        self.stored("rope_freqs.weight", [1, half])?.decode_row(0, &mut factors);
        let plain = Rope { theta: self.config.rope.theta, scaling: Scaling::None };
        let own = frequencies(&self.config.rope, self.config.head_dim).0;
        let plain = frequencies(&plain, self.config.head_dim).0;
        let same = factors
            .iter()
            .zip(plain.iter().zip(&own))
            .all(|(&factor, (plain, own))| (plain / f64::from(factor) - own).abs() <= 1e-4 * own);
        if same {
            return Ok(());
        }
        let kind = FormatErrorKind::Unsupported {
            found: "frequencies divided one by one (Llama 3.1 and later)".to_owned(),
            supported: "no, linear or yarn scaling in a GGUF file".into(),
        };
        let hint = "give the Hugging Face directory of the model, whose config.json says how they were made";
        Err(FormatError::new(self.gguf.file(), kind).item("tensor \"rope_freqs.weight\"").hint(hint))
    }
}

impl Tensors for Source<'_> {
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Arc<dyn Weight>> {
        let stored = self.stored(name, shape)?;
        Ok(match self.row_order(name, shape[0]) {
            Some(order) => Arc::new(stored.with_row_order(order)),
            None => Arc::new(stored),
        })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Arc<[f32]>> {
        let mut values = vec![0.0; len];
        self.stored(name, [1, len])?.decode_row(0, &mut values);
        Ok(match self.row_order(name, len) {
            Some(order) => order.iter().map(|&row| values[row as usize]).collect(),
            None => values.into(),
        })
    }
}
