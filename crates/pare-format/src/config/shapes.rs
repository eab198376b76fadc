//! Models whose blocks are not all alike, or have shortcuts: pare's own entry `"pare": {"blocks": [...], "shortcuts": true}`.

use super::ModelConfig;
use super::fields::Fields;
use crate::error::Result;
use crate::json::{Json, Object};
use crate::limits;

const KEY: &str = "pare";
const BLOCKS: &str = "blocks";
const SHORTCUTS: &str = "shortcuts";

/// What one block consists of. A part that is `None` passes the residual stream on unchanged, its norm is absent too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// Attention.
    pub attention: Option<AttentionShape>,
    /// F: width of the feed-forward layer.
    pub ffn: Option<usize>,
}

/// The heads of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// H: query heads.
    pub heads: usize,
    /// G: key and value heads; divides `heads`.
    pub kv_heads: usize,
}

impl ModelConfig {
    /// Whether some block differs from what the whole model is said to have.
    pub(super) fn shapes_differ(&self) -> bool {
        let plain = Self { uneven: None, raw: Object::default(), ..self.clone() };
        (0..self.blocks).any(|i| self.block(i) != plain.block(i))
    }
}

/// Reads the blocks of `config`, whose other fields are set.
pub(super) fn read(fields: &Fields<'_>, config: &ModelConfig) -> Result<Option<Vec<BlockShape>>> {
    let Some(object) = fields.object(KEY)? else { return Ok(None) };
    let own = Fields { object, prefix: "pare.", ..*fields };
    let expected = format!("an array of {} blocks, as num_hidden_layers says", config.blocks);
    let items = match own.present(BLOCKS) {
        None => return Ok(None),
        Some(Json::Array(items)) if items.len() == config.blocks => items,
        Some(_) => return Err(own.wrong(BLOCKS, &expected)),
    };
    items.iter().enumerate().map(|(i, item)| block(fields, config, i, item)).collect::<Result<_>>().map(Some)
}

/// Whether the blocks have shortcuts: only where other programs are kept from reading the model without them.
pub(super) fn read_shortcuts(fields: &Fields<'_>, own_forms: bool) -> Result<bool> {
    let Some(object) = fields.object(KEY)? else { return Ok(false) };
    let own = Fields { object, prefix: "pare.", ..*fields };
    let shortcuts = own.flag(SHORTCUTS)?.unwrap_or(false);
    if shortcuts && !own_forms {
        let expected = "false, or a quantization_config with the quant_method \"pare\" beside it";
        return Err(own.wrong(SHORTCUTS, expected));
    }
    Ok(shortcuts)
}

fn block(fields: &Fields<'_>, config: &ModelConfig, index: usize, value: &Json) -> Result<BlockShape> {
    let prefix = format!("pare.blocks[{index}].");
    let Json::Object(object) = value else {
        return Err(fields.found(prefix.trim_end_matches('.'), value.shown(), "an object with attention and ffn"));
    };
    let own = Fields { object, prefix: &prefix, ..*fields };
    for key in ["attention", "ffn"] {
        if object.get(key).is_none() {
            return Err(own.wrong(key, "its shape, or null for a block without it"));
        }
    }
    let attention = match own.object("attention")? {
        None => None,
        Some(object) => {
            let prefix = format!("{prefix}attention.");
            let own = Fields { object, prefix: &prefix, ..*fields };
            let most = (limits::WIDTH / config.head_dim as u64).min(limits::HEADS);
            let heads = own.required("heads", 1, most)?;
            let kv_heads = own.required("kv_heads", 1, heads as u64)?;
            if !heads.is_multiple_of(kv_heads) {
                return Err(own.wrong("kv_heads", &format!("a divisor of heads, {heads}")));
            }
            Some(AttentionShape { heads, kv_heads })
        }
    };
    Ok(BlockShape { attention, ffn: own.optional("ffn", 1, limits::WIDTH)? })
}

/// Writes the blocks of `config` into `raw`, when they differ, and whether they have shortcuts.
pub(super) fn write(config: &ModelConfig, raw: &mut Object) {
    let mut own = match raw.get(KEY) {
        Some(Json::Object(object)) => object.clone(),
        _ => Object::default(),
    };
    own.remove(BLOCKS);
    own.remove(SHORTCUTS);
    if config.shortcuts {
        own.set(SHORTCUTS, true);
    }
    if config.shapes_differ() {
        own.set(BLOCKS, Json::Array((0..config.blocks).map(|i| value(config.block(i)).into()).collect()));
    }
    if own.is_empty() {
        raw.remove(KEY);
    } else {
        raw.set(KEY, own);
    }
}

fn value(block: BlockShape) -> Object {
    let attention = block.attention.map(|shape| {
        let mut object = Object::default();
        object.set("heads", shape.heads);
        object.set("kv_heads", shape.kv_heads);
        object
    });
    let mut object = Object::default();
    object.set("attention", attention);
    object.set("ffn", block.ffn);
    object
}
