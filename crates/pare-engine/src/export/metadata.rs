//! The metadata of the file.

use super::architecture::Architecture;
use super::{FILE_TYPE, Target};
use crate::Error;
use crate::bundle::Bundle;
use pare_format::config::Scaling;
use pare_format::gguf::{Array, Gguf, Value};
use pare_format::write::GGUF_KEY;

/// What the file says of itself, and therefore not of the file it came from.
const OWN: [&str; 5] =
    ["general.architecture", FILE_TYPE, "general.quantization_version", "general.alignment", "general.size_label"];
/// The version of the quantised types.
const QUANTISATION: u32 = 2;

/// All keys: general ones, the model's sizes, the tokenizer; with a note where the format cannot say all of it. What does not concern the weights is taken from `origin` when there is one.
///
/// # Errors
/// A tokenizer that the format cannot say.
pub(super) fn all(
    bundle: &Bundle,
    architecture: &Architecture<'_>,
    target: Target,
    origin: Option<&Gguf>,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Value)>, Error> {
    let mut all = vec![("general.architecture".to_owned(), Value::text(architecture.name))];
    let from = |gguf: &Gguf, prefix: &str| -> Vec<(String, Value)> {
        let wanted = |key: &str| key.starts_with(prefix) && !OWN.contains(&key);
        gguf.metadata().iter().filter(|entry| wanted(&entry.0)).cloned().collect()
    };
    match origin {
        Some(gguf) => all.extend(from(gguf, "general.")),
        None => {
            let name = bundle.path.file_name().map_or(bundle.name.clone(), |name| name.to_string_lossy().into_owned());
            all.push(("general.type".to_owned(), Value::text("model")));
            all.push(("general.name".to_owned(), Value::text(name)));
        }
    }
    all.push((GGUF_KEY.to_owned(), Value::text(env!("CARGO_PKG_VERSION"))));
    all.push((FILE_TYPE.to_owned(), Value::U32(target.file_type())));
    if !matches!(target, Target::F32 | Target::F16 | Target::Bf16) {
        all.push(("general.quantization_version".to_owned(), Value::U32(QUANTISATION)));
    }
    all.extend(sizes(bundle, architecture));
    match origin {
        Some(gguf) => all.extend(from(gguf, "tokenizer.")),
        None => {
            let described = bundle.tokenizer.gguf_metadata(bundle.model.architecture.vocab, &bundle.ends)?;
            all.extend(described.keys);
            notes.extend(described.notes.into_iter().map(|note| format!("the tokenizer in the file: {note}")));
        }
    }
    Ok(all)
}

fn number(value: usize) -> Value {
    // Sizes were checked against limits far below.
    Value::U32(u32::try_from(value).unwrap_or(u32::MAX))
}

/// The model's sizes and constants, under the name of its architecture.
fn sizes(bundle: &Bundle, architecture: &Architecture<'_>) -> Vec<(String, Value)> {
    let model = &bundle.model.architecture;
    let mut all = Vec::new();
    let mut put = |key: &str, value: Value| all.push((format!("{}.{key}", architecture.name), value));
    let per_block = |of: &dyn Fn(&super::architecture::Layer<'_>) -> usize| match architecture.name {
        "deci" => {
            let list = architecture.layers.iter().map(|layer| i32::try_from(of(layer)).unwrap_or(i32::MAX));
            Value::Array(Array::I32(list.collect()))
        }
        _ => number(architecture.layers.first().map_or(0, of)),
    };
    put("block_count", number(architecture.layers.len()));
    put("context_length", number(model.context));
    put("embedding_length", number(model.hidden));
    put("vocab_size", number(model.vocab));
    put("feed_forward_length", per_block(&|layer| layer.width()));
    put("attention.head_count", per_block(&|layer| layer.heads()));
    put("attention.head_count_kv", per_block(&|layer| layer.groups()));
    put("attention.key_length", number(model.head_dim));
    put("attention.value_length", number(model.head_dim));
    put("attention.layer_norm_rms_epsilon", Value::F32(model.norm_eps));
    put("rope.dimension_count", number(model.head_dim));
    put("rope.freq_base", Value::F32(model.rope.theta as f32));
    let scaling = match model.rope.scaling {
        // Said by a tensor of factors.
        Scaling::None | Scaling::Llama3 { .. } | Scaling::Divisors(_) => None,
        Scaling::Linear { factor } => Some(("linear", factor, None)),
        Scaling::Yarn { factor, original_context, .. } => Some(("yarn", factor, Some(original_context))),
    };
    if let Some((kind, factor, original)) = scaling {
        put("rope.scaling.type", Value::text(kind));
        put("rope.scaling.factor", Value::F32(factor as f32));
        if let Some(context) = original {
            put("rope.scaling.original_context_length", number(context));
        }
    }
    all
}
