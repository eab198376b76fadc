//! Which blocks look back over a part of the context only.

use super::fields::Fields;
use super::{Family, ModelConfig};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::{Json, Object};
use crate::limits;
use crate::quote;

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// The window and, per block, whether it applies; no window when it covers the context.
pub(super) fn read(
    fields: &Fields<'_>,
    family: Family,
    blocks: usize,
    context: usize,
) -> Result<(Option<usize>, Vec<bool>)> {
    let types = types(fields, blocks)?;
    let key = "sliding_window";
    let found = fields.optional(key, 1, limits::CONTEXT)?;
    let absent = fields.object.get(key).is_none();
    let (window, windowed) = match family {
        Family::Llama => {
            if types.as_ref().is_some_and(|types| types.contains(&true)) {
                return Err(fields.wrong("layer_types", "full_attention only, llama has no window"));
            }
            (None, None)
        }
        Family::Mistral => (if absent { Some(4_096) } else { found }, types),
        Family::Qwen2 | Family::Qwen3 => {
            let used = fields.flag("use_sliding_window")?.unwrap_or(false);
            let from = fields.optional("max_window_layers", 0, u64::from(u32::MAX))?.unwrap_or(28);
            let window = if absent { Some(4_096) } else { found };
            let by_position = || (0..blocks).map(|i| i >= from).collect();
            (window.filter(|_| used), Some(types.unwrap_or_else(by_position)))
        }
    };
    let windowed = windowed.unwrap_or_else(|| vec![true; blocks]);
    match window {
        Some(window) if window < context && windowed.contains(&true) => Ok((Some(window), windowed)),
        _ => Ok((None, Vec::new())),
    }
}

fn types(fields: &Fields<'_>, blocks: usize) -> Result<Option<Vec<bool>>> {
    let key = "layer_types";
    let items = match fields.present(key) {
        None => return Ok(None),
        Some(Json::Array(items)) if items.len() == blocks => items,
        Some(_) => {
            return Err(fields.wrong(key, &format!("an array of {blocks} strings, as num_hidden_layers says")));
        }
    };
    let windowed = |(i, item): (usize, &Json)| match item {
        Json::String(name) if name == FULL => Ok(false),
        Json::String(name) if name == SLIDING => Ok(true),
        other => {
            let kind =
                FormatErrorKind::Unsupported { found: other.shown(), supported: format!("{FULL}, {SLIDING}").into() };
            Err(FormatError::new(fields.file, kind).item(quote::field(&format!("{key}[{i}]"))))
        }
    };
    items.iter().enumerate().map(windowed).collect::<Result<_>>().map(Some)
}

/// Writes the windows of `config` into `raw`.
pub(super) fn write(config: &ModelConfig, raw: &mut Object) {
    let window = config.sliding_window.filter(|_| config.windowed.contains(&true));
    let has_types = raw.remove("layer_types").is_some();
    match config.family {
        Family::Llama => return,
        Family::Mistral => raw.set("sliding_window", window),
        Family::Qwen2 | Family::Qwen3 => {
            raw.set("use_sliding_window", window.is_some());
            if window.is_some() || !raw.get("sliding_window").is_some_and(|w| matches!(w, Json::Number(_))) {
                raw.set("sliding_window", window);
            }
        }
    }
    let some_full = (0..config.blocks).any(|i| config.window(i).is_none());
    if window.is_some() && (has_types || some_full || config.family != Family::Mistral) {
        let name = |i| if config.window(i).is_some() { SLIDING } else { FULL };
        raw.set("layer_types", (0..config.blocks).map(name).collect::<Vec<_>>());
    }
}
