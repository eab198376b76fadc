//! Rotary positions, in the old form (`rope_theta`, `rope_scaling`) and the new one (`rope_parameters`).

use std::sync::Arc;

use super::fields::Fields;
use super::text::widened;
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::{Json, Object};
use crate::limits;
use crate::quote::{self, quoted};

const NEW: &str = "rope_parameters";
const OLD: &str = "rope_scaling";
const ORIGINAL: &str = "original_max_position_embeddings";
/// The entry of pare's own, and the divisors in it.
const OWN: &str = "pare";
const DIVISORS: &str = "rope_divisors";

/// Rotary positions of all heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies: pair i of D/2 turns by theta^(-2i/D) per position.
    pub theta: f64,
    /// What was done to the frequencies for longer contexts.
    pub scaling: Scaling,
}

/// A change of the frequencies for longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// None.
    None,
    /// All positions divided by `factor`.
    Linear {
        /// How much longer the context became.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, the middle blended.
    Llama3 {
        /// How much longer the context became.
        factor: f64,
        /// Below this many turns in the original context a frequency is low.
        low_freq_factor: f64,
        /// Above this many turns in the original context a frequency is high.
        high_freq_factor: f64,
        /// Context before the change.
        original_context: usize,
    },
    /// YaRN: a ramp between kept and divided frequencies, and a factor on attention.
    Yarn {
        /// How much longer the context became.
        factor: f64,
        /// Context before the change.
        original_context: usize,
        /// Turns above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which a frequency is divided.
        beta_slow: f64,
        /// Factor on the rotated vectors; `None` for 0.1 ln(factor) + 1.
        attention_factor: Option<f64>,
    },
    /// Pair i is divided by number i of D/2, each above 0: what a GGUF file says by its tensor `rope_freqs.weight`.
    Divisors(Arc<[f32]>),
}

/// Reads both forms; the new one wins where both are given. Divisors are pare's own entry, for heads of width `head_dim`.
pub(super) fn read(fields: &Fields<'_>, context: usize, head_dim: usize, own_forms: bool) -> Result<Rope> {
    let rope = usual(fields, context)?;
    match divisors(fields, head_dim, own_forms)? {
        None => Ok(rope),
        Some(divisors) if rope.scaling == Scaling::None => Ok(Rope { scaling: Scaling::Divisors(divisors), ..rope }),
        Some(_) => Err(fields.wrong(OWN, "no divisors beside another scaling of rotary positions")),
    }
}

fn divisors(fields: &Fields<'_>, head_dim: usize, own_forms: bool) -> Result<Option<Arc<[f32]>>> {
    let Some(object) = fields.object(OWN)? else { return Ok(None) };
    let own = Fields { object, prefix: "pare.", ..*fields };
    let expected =
        format!("{} numbers above 0, beside a quantization_config with the quant_method \"pare\"", head_dim / 2);
    let number = |value: &Json| match value {
        Json::Number(number) => number.as_f64().map(|n| n as f32).filter(|n| *n > 0.0 && n.is_finite()),
        _ => None,
    };
    match own.present(DIVISORS) {
        None => Ok(None),
        Some(Json::Array(items)) if own_forms && items.len() == head_dim / 2 => {
            let numbers = items.iter().map(number).collect::<Option<_>>();
            Ok(Some(numbers.ok_or_else(|| own.wrong(DIVISORS, &expected))?))
        }
        Some(_) => Err(own.wrong(DIVISORS, &expected)),
    }
}

fn usual(fields: &Fields<'_>, context: usize) -> Result<Rope> {
    whole_head(fields)?;
    let theta = fields.positive("rope_theta")?;
    let (key, object) = match (fields.object(NEW)?, fields.object(OLD)?) {
        (Some(object), _) => (NEW, object),
        (None, Some(object)) => (OLD, object),
        (None, None) => return Ok(Rope { theta: theta.unwrap_or(10_000.0), scaling: Scaling::None }),
    };
    let prefix = format!("{key}.");
    let inner = Fields { object, prefix: &prefix, ..*fields };
    let theta = inner.positive("rope_theta")?.or(theta).unwrap_or(10_000.0);
    whole_head(&inner)?;
    Ok(Rope { theta, scaling: scaling(&inner, context)? })
}

fn unsupported(fields: &Fields<'_>, key: &str, found: String, supported: &str) -> FormatError {
    let kind = FormatErrorKind::Unsupported { found, supported: supported.into() };
    FormatError::new(fields.file, kind).item(quote::field(&format!("{}{key}", fields.prefix)))
}

fn whole_head(fields: &Fields<'_>) -> Result<()> {
    match fields.positive("partial_rotary_factor")? {
        Some(part) if part != 1.0 => {
            Err(unsupported(fields, "partial_rotary_factor", part.to_string(), "1, the whole head rotated"))
        }
        _ => Ok(()),
    }
}

fn scaling(fields: &Fields<'_>, context: usize) -> Result<Scaling> {
    // A parameter that is not known would change the result in a way that nobody sees.
    let known = |key: &str| {
        matches!(
            key,
            "rope_type"
                | "type"
                | "rope_theta"
                | "partial_rotary_factor"
                | "factor"
                | ORIGINAL
                | "low_freq_factor"
                | "high_freq_factor"
                | "beta_fast"
                | "beta_slow"
                | "attention_factor"
        )
    };
    for (key, value) in fields.object.iter() {
        let harmless = *value == Json::Null || (key == "truncate" && *value == Json::Bool(true));
        if !known(key) && !harmless {
            return Err(unsupported(fields, key, value.shown(), "no such parameter"));
        }
    }
    let key = if fields.present("rope_type").is_some() { "rope_type" } else { "type" };
    let name = fields.text(key)?.unwrap_or("default");
    if name == "default" {
        return Ok(Scaling::None);
    }
    if !matches!(name, "linear" | "llama3" | "yarn") {
        return Err(unsupported(fields, key, quoted(name), "default, linear, llama3, yarn"));
    }
    let need = |key: &str| fields.positive(key)?.ok_or_else(|| fields.wrong(key, "a number above 0"));
    let factor = need("factor")?;
    if factor < 1.0 {
        return Err(fields.wrong("factor", "a number of at least 1"));
    }
    if name == "linear" {
        return Ok(Scaling::Linear { factor });
    }
    let original_context = fields.optional(ORIGINAL, 1, limits::CONTEXT)?.unwrap_or(context);
    if name == "llama3" {
        let (low_freq_factor, high_freq_factor) = (need("low_freq_factor")?, need("high_freq_factor")?);
        if low_freq_factor >= high_freq_factor {
            return Err(fields.wrong("low_freq_factor", &format!("less than high_freq_factor, {high_freq_factor}")));
        }
        return Ok(Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context });
    }
    let beta_fast = fields.positive("beta_fast")?.unwrap_or(32.0);
    let beta_slow = fields.positive("beta_slow")?.unwrap_or(1.0);
    if beta_fast < beta_slow {
        return Err(fields.wrong("beta_fast", &format!("at least beta_slow, {beta_slow}")));
    }
    let attention_factor = fields.positive("attention_factor")?;
    Ok(Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor })
}

/// Writes `rope` into `raw`, in the form that is there already, else in the old one, which every tool reads.
pub(super) fn write(rope: &Rope, raw: &mut Object) {
    let mut parameters = Object::default();
    match rope.scaling {
        Scaling::None | Scaling::Divisors(_) => {}
        Scaling::Linear { factor } => {
            parameters.set("rope_type", "linear");
            parameters.set("factor", factor);
        }
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            parameters.set("rope_type", "llama3");
            parameters.set("factor", factor);
            parameters.set("low_freq_factor", low_freq_factor);
            parameters.set("high_freq_factor", high_freq_factor);
            parameters.set(ORIGINAL, original_context);
        }
        Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor } => {
            parameters.set("rope_type", "yarn");
            parameters.set("factor", factor);
            parameters.set(ORIGINAL, original_context);
            parameters.set("beta_fast", beta_fast);
            parameters.set("beta_slow", beta_slow);
            if let Some(attention_factor) = attention_factor {
                parameters.set("attention_factor", attention_factor);
            }
        }
    }
    if matches!(raw.get(NEW), Some(Json::Object(_))) {
        if parameters.is_empty() {
            parameters.set("rope_type", "default");
        }
        parameters.set("rope_theta", rope.theta);
        raw.set(NEW, parameters);
        raw.remove(OLD);
        raw.remove("rope_theta");
    } else {
        raw.set("rope_theta", rope.theta);
        raw.set(OLD, if parameters.is_empty() { Json::Null } else { parameters.into() });
        raw.remove(NEW);
    }
    write_divisors(rope, raw);
}

/// Writes the divisors into pare's own entry, or takes them out of it.
fn write_divisors(rope: &Rope, raw: &mut Object) {
    let mut own = match raw.get(OWN) {
        Some(Json::Object(object)) => object.clone(),
        _ => Object::default(),
    };
    own.remove(DIVISORS);
    if let Scaling::Divisors(divisors) = &rope.scaling {
        own.set(DIVISORS, divisors.iter().map(|divisor| widened(*divisor)).collect::<Vec<f64>>());
    }
    if own.is_empty() {
        raw.remove(OWN);
    } else {
        raw.set(OWN, own);
    }
}
