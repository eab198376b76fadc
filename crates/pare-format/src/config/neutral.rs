//! Fields that would change what is computed, by the values with which they change nothing.

use super::Family;
use super::fields::Fields;
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::Json;
use crate::quote;

/// Fields that forks of the families read under these names, and the numbers by which they do nothing (0 and 1 for false and true); null does
/// nothing anywhere. Fields that no reader of a family knows change nothing there and are kept as they are.
const NEUTRAL: &[(&str, &[f64])] = &[
    ("add_cross_attention", &[0.0]),
    ("alibi", &[0.0]),
    ("attention_chunk_size", &[0.0]),
    ("attention_multiplier", &[]),
    ("attn_logit_softcapping", &[0.0]),
    ("attn_temperature_tuning", &[0.0]),
    ("clip_qkv", &[0.0]),
    ("embedding_multiplier", &[1.0]),
    ("final_logit_softcapping", &[0.0]),
    ("is_causal", &[1.0]),
    ("is_encoder_decoder", &[0.0]),
    ("logit_scale", &[1.0]),
    ("logits_scaling", &[1.0]),
    ("n_routed_experts", &[0.0]),
    ("num_experts", &[0.0]),
    ("num_kv_shared_layers", &[0.0]),
    ("num_local_experts", &[0.0]),
    ("num_nextn_predict_layers", &[0.0]),
    ("parallel_attn", &[0.0]),
    ("pretraining_tp", &[1.0]),
    ("query_pre_attn_scalar", &[]),
    ("residual_multiplier", &[1.0]),
    ("rope_interleaved", &[0.0]),
    ("rope_local_base_freq", &[]),
    ("rotary_pct", &[1.0]),
    ("scale_depth", &[]),
    ("scale_emb", &[1.0]),
    ("use_bidirectional_attention", &[0.0]),
    ("use_parallel_residual", &[0.0]),
];
/// Norms of heads, which qwen3 has whatever these say.
const HEAD_NORMS: [&str; 3] = ["qk_layernorm", "qk_norm", "use_qk_norm"];

/// Refuses the first field that would change what is computed.
pub(super) fn check(fields: &Fields<'_>, family: Family) -> Result<()> {
    let norms = HEAD_NORMS.iter().filter(|_| !family.has_qk_norm()).map(|key| (*key, &[0.0][..]));
    for (key, neutral) in NEUTRAL.iter().copied().chain(norms) {
        let Some(value) = fields.present(key) else { continue };
        let number = match value {
            Json::Bool(value) => Some(f64::from(u8::from(*value))),
            Json::Number(number) => number.as_f64(),
            _ => None,
        };
        if !number.is_some_and(|number| neutral.contains(&number)) {
            let found = format!("{}, which would change what is computed,", value.shown());
            let shown = |number: &f64| match value {
                Json::Bool(_) => (*number == 1.0).to_string(),
                _ => number.to_string(),
            };
            let supported = neutral.iter().map(shown).chain(["null".to_owned()]).collect::<Vec<_>>().join(" or ");
            let kind = FormatErrorKind::Unsupported { found, supported: supported.into() };
            return Err(FormatError::new(fields.file, kind).item(quote::field(key)));
        }
    }
    Ok(())
}
