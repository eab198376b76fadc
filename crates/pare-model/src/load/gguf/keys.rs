//! The keys of an architecture: what each means for what is computed. A key without a place here is refused.

use pare_format::config::ModelConfig;
use pare_format::gguf::{Gguf, Value};
use pare_format::{FormatError, FormatErrorKind, Result};

/// What a key is to the reader.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Read elsewhere.
    Used,
    /// Changes no logit, whatever its value.
    Idle,
    /// Would change what is computed, unless it is one of these numbers (0 and 1 for false and true).
    Only(&'static [f64]),
    /// Must be the width of a head.
    HeadWidth,
    /// What scores are multiplied by: 0 for the usual, or one over the root of the width of a head.
    ScoreScale,
}

use Rule::{HeadWidth, Idle, Only, ScoreScale, Used};

/// Keys behind the name of the architecture, in the order of names. Those of llama.cpp that other architectures need are here with the
/// value by which they do nothing; meanings as in the GGUF specification and llama.cpp's reader.
const KEYS: &[(&str, Rule)] = &[
    ("attention.causal", Only(&[1.0])),
    ("attention.clamp_kqv", Only(&[0.0])),
    ("attention.head_count", Used),
    ("attention.head_count_kv", Used),
    ("attention.key_length", Used),
    ("attention.layer_norm_epsilon", Idle), // Every norm is one of the root mean square, which has a key of its own.
    ("attention.layer_norm_rms_epsilon", Used),
    ("attention.max_alibi_bias", Only(&[0.0])),
    ("attention.output_scale", Only(&[0.0, 1.0])),
    ("attention.scale", ScoreScale),
    ("attention.shared_kv_layers", Only(&[0.0])),
    ("attention.sliding_window", Used),
    ("attention.temperature_length", Only(&[0.0])),
    ("attention.temperature_scale", Only(&[0.0])),
    ("attention.value_length", HeadWidth),
    ("attn_logit_softcapping", Only(&[0.0])),
    ("block_count", Used),
    ("context_length", Used),
    ("embedding_length", Used),
    ("embedding_scale", Only(&[0.0, 1.0])),
    ("expert_count", Only(&[0.0])),
    ("expert_feed_forward_length", Only(&[0.0])),
    ("expert_group_count", Only(&[0.0])),
    ("expert_group_used_count", Only(&[0.0])),
    ("expert_shared_count", Only(&[0.0])),
    ("expert_used_count", Only(&[0.0])),
    ("feed_forward_length", Used),
    ("final_logit_softcapping", Only(&[0.0])),
    ("leading_dense_block_count", Only(&[0.0])),
    ("logit_scale", Only(&[0.0, 1.0])),
    ("nextn_predict_layers", Only(&[0.0])),
    ("pooling_type", Idle), // How the rows of a text become one vector, which no logit needs.
    ("residual_scale", Only(&[0.0, 1.0])),
    ("rope.dimension_count", HeadWidth),
    ("rope.freq_base", Used),
    ("rope.scale_linear", Used),
    ("rope.scaling.alpha", Only(&[0.0, 1.0])),
    ("rope.scaling.attn_factor", Used),
    ("rope.scaling.factor", Used),
    ("rope.scaling.finetuned", Idle), // Says how the model was trained.
    ("rope.scaling.original_context_length", Used),
    ("rope.scaling.type", Used),
    ("rope.scaling.yarn_attn_factor", Only(&[-1.0, 1.0])),
    ("rope.scaling.yarn_beta_fast", Used),
    ("rope.scaling.yarn_beta_slow", Used),
    ("rope.scaling.yarn_ext_factor", Only(&[-1.0])),
    ("rope.scaling.yarn_log_multiplier", Only(&[0.0])),
    ("swin_norm", Only(&[0.0])),
    ("tensor_data_layout", Idle), // The one layout of queries and keys that llama files have.
    ("use_parallel_residual", Only(&[0.0])),
    ("vocab_size", Idle), // The rows of the embedding are counted.
];

/// Refuses every key of the architecture that would be left out and changes what is computed.
///
/// # Errors
/// The key with its value, and the value by which it would do nothing.
pub(super) fn check(gguf: &Gguf, architecture: &str, config: &ModelConfig) -> Result<()> {
    for (key, value) in gguf.metadata() {
        let Some(name) = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let rule = KEYS.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
        let width = config.head_dim as f64;
        let supported = match rule {
            Some(Used | Idle) => continue,
            Some(Only(neutral)) if all(value, &|number| neutral.contains(&number)) => continue,
            Some(HeadWidth) if all(value, &|number| number == width) => continue,
            Some(ScoreScale) if all(value, &|number| number == 0.0 || (number * width.sqrt() - 1.0).abs() < 1e-6) => {
                continue;
            }
            Some(Only(neutral)) => neutral.iter().map(f64::to_string).collect::<Vec<_>>().join(" or "),
            Some(HeadWidth) => format!("{width}, the whole width of a head"),
            Some(ScoreScale) => format!("0 or {}, as {width} wide heads have", 1.0 / width.sqrt()),
            None => "the keys whose effect is known".to_owned(),
        };
        let found = format!("{}, which would change what is computed,", value.describe());
        let kind = FormatErrorKind::Unsupported { found, supported: supported.into() };
        let error = FormatError::new(gguf.file(), kind).item(format!("field {key:?}"));
        return Err(match rule {
            None => {
                error.hint("if it changes nothing, write the file without it (gguf-new-metadata --remove-metadata)")
            }
            Some(_) => error,
        });
    }
    Ok(())
}

/// Whether `holds` of the number, or of each of a list, in `value`.
fn all(value: &Value, holds: &dyn Fn(f64) -> bool) -> bool {
    match value {
        Value::Array(array) => array.numbers().is_some_and(|numbers| numbers.into_iter().all(holds)),
        other => other.as_number().is_some_and(holds),
    }
}

#[cfg(test)]
mod tests {
    use super::KEYS;

    #[test]
    fn keys_are_in_the_order_of_names() {
        assert!(KEYS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
