//! `config.json` of the model families that pare reads: llama, mistral, qwen2, qwen3.

use std::path::Path;

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::{self, Bounds, Json, Object};
use crate::limits;
use crate::quote::{self, quoted};
use crate::safetensors::Dtype;

mod fields;
mod llama;
pub(crate) mod names;
mod neutral;
mod quantised;
mod rope;
mod shapes;
mod text;
mod window;

pub use quantised::{Packing, Quantised};
pub use rope::{Rope, Scaling};
pub use shapes::{AttentionShape, BlockShape};

use fields::Fields;

/// The file of a model that describes it.
pub const CONFIG: &str = "config.json";
/// The `quant_method` of directories that keep matrices in the forms of docs/FORMAT.md.
pub(crate) const OWN_METHOD: &str = "pare";

/// A family of decoder models that differ in details only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Llama 1 to 3 and the models of their form.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: queries and keys are normalised per head.
    Qwen3,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The value of `model_type`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The entry of `architectures`.
    #[must_use]
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// Whether queries and keys are normalised per head before the rotation.
    #[must_use]
    pub fn has_qk_norm(self) -> bool {
        self == Self::Qwen3
    }

    /// Whether the family writes biases of attention in its configuration, rather than having them always or never.
    fn chooses_attention_bias(self) -> bool {
        matches!(self, Self::Llama | Self::Qwen3)
    }
}

/// A model's shape and constants. Every number is checked against [`limits`]; none is checked against weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Which family's forward pass.
    pub family: Family,
    /// C: width of the residual stream.
    pub hidden: usize,
    /// Number of transformer blocks.
    pub blocks: usize,
    /// H: query heads per block.
    pub heads: usize,
    /// G: key and value heads per block; divides `heads`.
    pub kv_heads: usize,
    /// D: width of a head.
    pub head_dim: usize,
    /// F: width of the feed-forward layers.
    pub ffn: usize,
    /// V: rows of the embedding.
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Added to the mean square before the root in every norm.
    pub norm_eps: f32,
    /// Rotary positions.
    pub rope: Rope,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Whether query, key and value projections have biases; see [`ModelConfig::output_bias`] for the fourth.
    pub attention_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
    /// The token that starts a text.
    pub bos: Option<u32>,
    /// The tokens that end a text.
    pub eos: Vec<u32>,
    /// The type that the weights are said to have.
    pub dtype: Option<Dtype>,
    /// Positions that windowed blocks look back; `None` when every block sees the whole context.
    pub sliding_window: Option<usize>,
    /// Per block whether it looks back `sliding_window` positions only; empty without a window.
    pub windowed: Vec<bool>,
    /// Per block what it consists of, when the blocks are not all alike.
    pub uneven: Option<Vec<BlockShape>>,
    /// Whether every part of every block passes the residual stream through a shortcut `[C, C]` beside it (docs/FORMAT.md).
    pub shortcuts: bool,
    /// Whether matrices may be kept in the forms of docs/FORMAT.md: a `quantization_config` with the `quant_method` "pare".
    pub own_forms: bool,
    /// How another tool quantised the matrices, when one did.
    pub quantised: Option<Quantised>,
    /// Everything that the file says, kept for writing back.
    pub raw: Object,
}

impl ModelConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// As [`json::read_object`] and [`ModelConfig::from_json`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_json(path, json::read_object(path, Bounds::CONFIG)?)
    }

    /// Checks the entries `raw` of `file`.
    ///
    /// # Errors
    /// `Found` or `TooLarge` with the field, its value and what was expected; `Unsupported` for another family, remote code, weights
    /// quantised in a way that is not read, another activation or position scheme.
    pub fn from_json(file: &Path, raw: Object) -> Result<Self> {
        let fields = Fields { file, object: &raw, prefix: "" };
        let family = family(&fields)?;
        let own_forms = own_forms(&fields);
        let quantised = if own_forms { None } else { quantised::read(&fields)? };
        refuse_unsupported(&fields, family)?;
        let hidden = fields.required("hidden_size", 1, limits::WIDTH)?;
        let blocks = fields.required("num_hidden_layers", 1, limits::BLOCKS)?;
        let heads = fields.required("num_attention_heads", 1, limits::HEADS)?;
        let kv_heads = kv_heads(&fields, family, heads)?;
        let head_dim = head_dim(&fields, family, hidden, heads)?;
        let ffn = fields.required("intermediate_size", 1, limits::WIDTH)?;
        let context = match family {
            Family::Llama => 2_048,
            Family::Mistral => 131_072,
            Family::Qwen2 | Family::Qwen3 => 32_768,
        };
        let context = fields.optional("max_position_embeddings", 1, limits::CONTEXT)?.unwrap_or(context);
        let norm_eps = fields.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32;
        if norm_eps <= 0.0 || norm_eps >= 1.0 {
            return Err(fields.wrong("rms_norm_eps", "a number above 0 and below 1 that f32 can hold"));
        }
        let attention_bias = match family {
            Family::Qwen2 => true,
            _ => fields.flag("attention_bias")?.unwrap_or(false),
        };
        let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
        if attention_bias && family == Family::Mistral || mlp_bias && family != Family::Llama {
            let key = if mlp_bias { "mlp_bias" } else { "attention_bias" };
            return Err(fields.wrong(key, &format!("false, {} has no such biases", family.model_type())));
        }
        let (sliding_window, windowed) = window::read(&fields, family, blocks, context)?;
        let mut config = Self {
            family,
            hidden,
            blocks,
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocab: fields.required("vocab_size", 1, limits::VOCABULARY)?,
            context,
            norm_eps,
            rope: rope::read(&fields, context, head_dim, own_forms)?,
            tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            attention_bias,
            mlp_bias,
            bos: fields.token(
                "bos_token_id",
                if matches!(family, Family::Llama | Family::Mistral) { Some(1) } else { None },
            )?,
            eos: fields
                .tokens("eos_token_id", if matches!(family, Family::Llama | Family::Mistral) { &[2] } else { &[] })?,
            dtype: dtype(&fields)?,
            sliding_window,
            windowed,
            uneven: None,
            shortcuts: shapes::read_shortcuts(&fields, own_forms)?,
            own_forms,
            quantised,
            raw: Object::default(),
        };
        config.uneven = shapes::read(&fields, &config)?;
        config.raw = raw;
        Ok(config)
    }

    /// What block `index` consists of.
    #[must_use]
    pub fn block(&self, index: usize) -> BlockShape {
        let all = BlockShape {
            attention: Some(AttentionShape { heads: self.heads, kv_heads: self.kv_heads }),
            ffn: Some(self.ffn),
        };
        self.uneven.as_ref().and_then(|blocks| blocks.get(index)).copied().unwrap_or(all)
    }

    /// Whether the output projection of attention has a bias.
    #[must_use]
    pub fn output_bias(&self) -> bool {
        self.attention_bias && self.family != Family::Qwen2
    }

    /// How far block `index` looks back, when that is less than the context.
    #[must_use]
    pub fn window(&self, index: usize) -> Option<usize> {
        if self.windowed.get(index) == Some(&true) { self.sliding_window } else { None }
    }

    /// Why other tools cannot load a model of this shape, when they cannot.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        if self.shortcuts {
            return Some("its blocks have shortcuts, which only pare reads".to_owned());
        }
        if matches!(self.rope.scaling, Scaling::Divisors(_)) {
            return Some("its rotary positions are divided one by one, as only GGUF files and pare say".to_owned());
        }
        if self.own_forms {
            return Some("its weights are kept in forms that only pare reads".to_owned());
        }
        if self.shapes_differ() {
            return Some("its blocks differ in heads, feed-forward width or parts".to_owned());
        }
        let even = self.hidden.checked_rem(self.heads) == Some(0);
        (self.family == Family::Llama && !even).then(|| {
            format!(
                "its width {} is not a multiple of its {} heads, which transformers asks of llama",
                self.hidden, self.heads
            )
        })
    }
}

fn family(fields: &Fields<'_>) -> Result<Family> {
    let supported = || Family::ALL.map(Family::model_type).join(", ");
    let Some(found) = fields.text("model_type")? else {
        let kind = FormatErrorKind::Found { found: "is missing".into(), expected: format!("one of {}", supported()) };
        return Err(FormatError::new(fields.file, kind).item(quote::field("model_type")));
    };
    if let Some(family) = Family::ALL.into_iter().find(|family| family.model_type() == found) {
        return Ok(family);
    }
    let remote = fields.object.get("auto_map").is_some_and(|value| *value != Json::Null);
    let kind =
        FormatErrorKind::Unsupported { found: format!("model type {}", quoted(found)), supported: supported().into() };
    let mut error = FormatError::new(fields.file, kind).item(quote::field("model_type"));
    if remote {
        error.hint = Some("the model brings its own code (auto_map); pare never runs code from a model");
    }
    Err(error)
}

/// Whether the weights may be kept in pare's own forms.
fn own_forms(fields: &Fields<'_>) -> bool {
    let method = match fields.present("quantization_config") {
        Some(Json::Object(object)) => object.get("quant_method"),
        _ => None,
    };
    matches!(method, Some(Json::String(method)) if method == OWN_METHOD)
}

fn refuse_unsupported(fields: &Fields<'_>, family: Family) -> Result<()> {
    let refuse = |key: &str, found: String, supported: &str, hint: Option<&'static str>| {
        let kind = FormatErrorKind::Unsupported { found, supported: supported.into() };
        let mut error = FormatError::new(fields.file, kind).item(quote::field(key));
        error.hint = hint;
        Err(error)
    };
    for key in ["hidden_act", "hidden_activation"] {
        if let Some(found) = fields.text(key)?
            && !matches!(found, "silu" | "swish")
        {
            return refuse(key, format!("activation {}", quoted(found)), "silu", None);
        }
    }
    neutral::check(fields, family)
}

fn kv_heads(fields: &Fields<'_>, family: Family, heads: usize) -> Result<usize> {
    let key = "num_key_value_heads";
    let default = match (fields.object.get(key), family) {
        (None, Family::Mistral) => 8,
        (None, Family::Qwen2 | Family::Qwen3) => 32,
        _ => heads,
    };
    let found = fields.optional(key, 1, limits::HEADS)?.unwrap_or(default);
    if found <= heads && heads.is_multiple_of(found) {
        return Ok(found);
    }
    Err(fields.found(key, found.to_string(), &format!("a divisor of num_attention_heads, {heads}")))
}

fn head_dim(fields: &Fields<'_>, family: Family, hidden: usize, heads: usize) -> Result<usize> {
    let key = "head_dim";
    let found = match fields.optional(key, 1, limits::WIDTH)? {
        Some(found) => found,
        None if family == Family::Qwen3 && fields.object.get(key).is_none() => 128,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a multiple of num_attention_heads, {heads}, or an explicit head_dim");
            return Err(fields.found("hidden_size", hidden.to_string(), &expected));
        }
    };
    if !found.is_multiple_of(2) {
        return Err(fields.found(key, found.to_string(), "an even number, for rotary positions"));
    }
    if found as u64 * heads as u64 > limits::WIDTH {
        let kind = FormatErrorKind::TooLarge {
            what: "width of all heads",
            found: found as u64 * heads as u64,
            limit: limits::WIDTH,
        };
        return Err(FormatError::new(fields.file, kind).item(quote::field(key)));
    }
    Ok(found)
}

fn dtype(fields: &Fields<'_>) -> Result<Option<Dtype>> {
    let key = if fields.present("dtype").is_some() { "dtype" } else { "torch_dtype" };
    Ok(fields.text(key)?.and_then(|name| match name.strip_prefix("torch.").unwrap_or(name) {
        "float64" => Some(Dtype::F64),
        "float32" => Some(Dtype::F32),
        "float16" => Some(Dtype::F16),
        "bfloat16" => Some(Dtype::BF16),
        _ => None,
    }))
}

#[cfg(test)]
mod tests;
