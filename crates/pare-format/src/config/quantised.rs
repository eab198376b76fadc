//! The quantised forms of other tools, as `quantization_config` describes them: FP8, GPTQ, AWQ, compressed-tensors.

use super::fields::Fields;
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::{Json, Object};
use crate::limits;
use crate::quote::{self, quoted};

/// How the matrices of a model are quantised. Which of them are is told by the names of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantised {
    /// How a matrix is kept.
    pub packing: Packing,
    /// Neighbouring inputs that share a scale; none for a scale over all inputs.
    pub group: Option<usize>,
    /// Whether the tool that made the model rounds activations too, which pare does not.
    pub rounds_activations: bool,
}

/// How the codes of a matrix lie in its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// `qweight` `[in * bits / 32, out]`, `qzeros`, `scales`, perhaps `g_idx`.
    Gptq {
        /// Of a code: 2, 3, 4 or 8.
        bits: usize,
        /// What is added to a stored zero point: 1 in the first version of the format, 0 in the second.
        zero_offset: i32,
    },
    /// `qweight` `[in, out / 8]` of 4-bit codes, `qzeros`, `scales`.
    Awq,
    /// `weight_packed` `[out, in * bits / 32]`, `weight_scale`, `weight_shape`, perhaps `weight_zero_point` and `weight_g_idx`.
    Packed {
        /// Of a code: 2, 4 or 8.
        bits: usize,
    },
    /// `weight` `[out, in]` of 8-bit integers, `weight_scale`, perhaps `weight_zero_point`.
    Int8,
    /// `weight` `[out, in]` of E4M3 floats, `weight_scale` or `weight_scale_inv` (both are multiplied with).
    Float8 {
        /// Rows and columns that share a scale; none for a scale for each row or for the whole matrix.
        block: Option<[usize; 2]>,
    },
}

const KEY: &str = "quantization_config";
const SUPPORTED: &str = "awq, compressed-tensors (pack-quantized, int-quantized, float-quantized), fp8, gptq";
const ADVICE: &str = "give the model that was not quantised, or load this one with its own tool and save it dequantised (in transformers: \
                      model.dequantize(), then save_pretrained)";

/// What `quantization_config` says, when it is not the entry of pare's own forms.
pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Quantised>> {
    let Some(value) = fields.present(KEY) else { return Ok(None) };
    let Json::Object(object) = value else { return Err(unsupported(fields, "", value.shown(), SUPPORTED)) };
    let inner = Fields { file: fields.file, object, prefix: "quantization_config." };
    let method = match object.get("quant_method") {
        Some(Json::String(method)) => method.as_str(),
        // Files of the time before the key.
        None if object.get("desc_act").is_some() => "gptq",
        other => {
            let found = other.map_or("no quant_method".to_owned(), Json::shown);
            return Err(unsupported(fields, "", found, SUPPORTED));
        }
    };
    match method {
        "gptq" => gptq(&inner),
        "awq" => awq(&inner),
        "fp8" => fp8(&inner),
        "compressed-tensors" => compressed(&inner),
        other => Err(unsupported(fields, "", quoted(other), SUPPORTED)),
    }
    .map(Some)
}

/// The error for weights quantised in a way that is not read; `key` within the entry, empty for the whole.
fn unsupported(fields: &Fields<'_>, key: &str, found: String, supported: &str) -> FormatError {
    let field = if key.is_empty() { KEY.to_owned() } else { format!("{}{key}", fields.prefix) };
    let kind = FormatErrorKind::Unsupported {
        found: format!("quantised weights ({found})"),
        supported: supported.to_owned().into(),
    };
    FormatError::new(fields.file, kind).item(quote::field(&field)).hint(ADVICE)
}

/// Refuses `key` unless it is absent, null, empty or one of `allowed`.
fn only(fields: &Fields<'_>, key: &str, allowed: &[&str]) -> Result<()> {
    let fits = match fields.present(key) {
        None => true,
        Some(Json::String(found)) => allowed.iter().any(|name| name.eq_ignore_ascii_case(found)),
        Some(Json::Object(found)) => found.is_empty(),
        Some(Json::Array(found)) => found.is_empty(),
        Some(Json::Bool(found)) => !found,
        Some(_) => false,
    };
    let known = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    let found = || fields.object.get(key).map_or_else(String::new, |value| format!("{key} {}", value.shown()));
    if fits { Ok(()) } else { Err(unsupported(fields, key, found(), &known)) }
}

/// The inputs that share a scale: a number, or -1 for all.
fn group(fields: &Fields<'_>, key: &str) -> Result<Option<usize>> {
    match fields.present(key) {
        Some(Json::Number(number)) if number.as_i64() == Some(-1) => Ok(None),
        _ => fields.optional(key, 1, limits::WIDTH),
    }
}

/// The bits of a code, which must be one of `allowed`.
fn bits(fields: &Fields<'_>, key: &str, allowed: &[usize]) -> Result<usize> {
    let found = fields.required(key, 1, 64)?;
    let known = || allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if allowed.contains(&found) { Ok(found) } else { Err(unsupported(fields, key, format!("{found} bits"), &known())) }
}

fn gptq(fields: &Fields<'_>) -> Result<Quantised> {
    for key in ["checkpoint_format", "format"] {
        only(fields, key, &["gptq", "gptq_v2"])?;
    }
    only(fields, "pack_dtype", &["int32"])?;
    // Other bits for some modules; layouts of other kernels.
    for key in ["dynamic", "is_marlin_format"] {
        only(fields, key, &[])?;
    }
    let v2 = ["checkpoint_format", "format"].iter().any(|key| matches!(fields.text(key), Ok(Some("gptq_v2"))));
    Ok(Quantised {
        packing: Packing::Gptq { bits: bits(fields, "bits", &[2, 3, 4, 8])?, zero_offset: i32::from(!v2) },
        group: group(fields, "group_size")?,
        rounds_activations: false,
    })
}

fn awq(fields: &Fields<'_>) -> Result<Quantised> {
    only(fields, "version", &["gemm"])?;
    only(fields, "backend", &["autoawq"])?;
    let either = |one: &'static str, other: &'static str| if fields.present(one).is_some() { one } else { other };
    bits(fields, either("bits", "w_bit"), &[4])?;
    if fields.flag("zero_point")? == Some(false) {
        return Err(unsupported(fields, "zero_point", "awq without zero points".into(), "zero_point true"));
    }
    let group = group(fields, either("group_size", "q_group_size"))?;
    Ok(Quantised { packing: Packing::Awq, group, rounds_activations: false })
}

fn fp8(fields: &Fields<'_>) -> Result<Quantised> {
    only(fields, "fmt", &["e4m3", "float8_e4m3fn"])?;
    let packing = Packing::Float8 { block: block(fields, "weight_block_size")? };
    Ok(Quantised { packing, group: None, rounds_activations: true })
}

/// A pair of rows and columns.
fn block(fields: &Fields<'_>, key: &str) -> Result<Option<[usize; 2]>> {
    let Some(value) = fields.present(key) else { return Ok(None) };
    let side = |value: &Json| match value {
        Json::Number(number) => number.as_u64().filter(|side| (1..=limits::WIDTH).contains(side)),
        _ => None,
    };
    match value {
        Json::Array(sides) => match sides.iter().map(side).collect::<Option<Vec<_>>>().as_deref() {
            Some(&[rows, columns]) => Some([rows as usize, columns as usize]),
            _ => None,
        },
        _ => None,
    }
    .map(Some)
    .ok_or_else(|| fields.wrong(key, "two whole numbers, rows and columns"))
}

fn compressed(fields: &Fields<'_>) -> Result<Quantised> {
    // A cache in fewer bits, rotations and masks would change what is computed.
    for key in ["kv_cache_scheme", "transform_config"] {
        only(fields, key, &[])?;
    }
    if let Some(sparsity) = fields.object("sparsity_config")? {
        let sparsity = Fields { file: fields.file, object: sparsity, prefix: "quantization_config.sparsity_config." };
        only(&sparsity, "format", &["dense"])?;
    }
    let Some(groups) = fields.object("config_groups")?.filter(|groups| !groups.is_empty()) else {
        return Err(fields.wrong("config_groups", "an object of schemes"));
    };
    let mut found: Option<Quantised> = None;
    for (name, scheme) in groups.iter() {
        let prefix = format!("quantization_config.config_groups.{name}.");
        let Json::Object(scheme) = scheme else { return Err(fields.wrong("config_groups", "an object of objects")) };
        let next = scheme_of(fields, &Fields { file: fields.file, object: scheme, prefix: &prefix })?;
        match &mut found {
            None => found = Some(next),
            Some(first) if (first.packing, first.group) == (next.packing, next.group) => {
                first.rounds_activations |= next.rounds_activations;
            }
            Some(_) => {
                let what = "groups of matrices in different ways".to_owned();
                return Err(unsupported(fields, "config_groups", what, "one way for all"));
            }
        }
    }
    found.ok_or_else(|| fields.wrong("config_groups", "an object of schemes"))
}

/// One of the `config_groups`.
fn scheme_of(whole: &Fields<'_>, scheme: &Fields<'_>) -> Result<Quantised> {
    let empty = Object::default();
    let weights = scheme.object("weights")?.unwrap_or(&empty);
    let prefix = format!("{}weights.", scheme.prefix);
    let weights = Fields { file: whole.file, object: weights, prefix: &prefix };
    let key = "format";
    let fields = if scheme.present(key).is_some() { scheme } else { whole };
    let format = fields.text(key)?.unwrap_or("");
    let kind = weights.text("type")?.unwrap_or("int");
    let group = group(&weights, "group_size")?;
    let packing = match (format, kind) {
        ("pack-quantized", "int") => Packing::Packed { bits: bits(&weights, "num_bits", &[2, 4, 8])? },
        ("int-quantized" | "naive-quantized", "int") => {
            bits(&weights, "num_bits", &[8])?;
            Packing::Int8
        }
        ("float-quantized" | "naive-quantized", "float") => {
            bits(&weights, "num_bits", &[8])?;
            Packing::Float8 { block: block(&weights, "block_structure")? }
        }
        _ => {
            let found = format!("compressed-tensors, format {} of {kind}", quoted(format));
            return Err(unsupported(fields, key, found, "pack-quantized, int-quantized, float-quantized"));
        }
    };
    let rounds = ["input_activations", "output_activations"].iter().any(|key| scheme.present(key).is_some());
    Ok(Quantised { packing, group, rounds_activations: rounds })
}

impl Packing {
    /// What follows the name of a module in the names of the tensors of a matrix: those that must be there, those that may.
    pub(crate) fn parts(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Gptq { .. } => (&["qweight", "qzeros", "scales"], &["g_idx"]),
            Self::Awq => (&["qweight", "qzeros", "scales"], &[]),
            Self::Packed { .. } => {
                (&["weight_packed", "weight_scale", "weight_shape"], &["weight_zero_point", "weight_g_idx"])
            }
            Self::Int8 => (&["weight", "weight_scale"], &["weight_zero_point"]),
            Self::Float8 { .. } => (&["weight"], &["weight_scale", "weight_scale_inv"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read_text(config: &str) -> Result<Option<Quantised>, String> {
        let text = format!(r#"{{"quantization_config": {config}}}"#);
        let value = crate::json::parse(Path::new("c.json"), text.as_bytes(), crate::json::Bounds::CONFIG).unwrap();
        let Json::Object(object) = value else { panic!("an object") };
        read(&Fields { file: Path::new("c.json"), object: &object, prefix: "" }).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_tools_write_is_understood() {
        let of = |packing, group, rounds_activations| Ok(Some(Quantised { packing, group, rounds_activations }));
        let v1 = Packing::Gptq { bits: 4, zero_offset: 1 };
        for (text, expected) in [
            (
                r#"{"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true, "sym": true}"#,
                of(v1, Some(128), false),
            ),
            (r#"{"bits": 4, "group_size": -1, "desc_act": false}"#, of(v1, None, false)),
            (
                r#"{"quant_method": "gptq", "bits": 8, "group_size": 32, "checkpoint_format": "gptq_v2", "pack_dtype": "int32", "dynamic": null}"#,
                of(Packing::Gptq { bits: 8, zero_offset: 0 }, Some(32), false),
            ),
            (
                r#"{"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": true}"#,
                of(Packing::Awq, Some(64), false),
            ),
            (r#"{"quant_method": "awq", "w_bit": 4, "q_group_size": 128}"#, of(Packing::Awq, Some(128), false)),
            (
                r#"{"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 64]}"#,
                of(Packing::Float8 { block: Some([128, 64]) }, None, true),
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"input_activations": null,
                   "weights": {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}, "targets": ["Linear"]}}}"#,
                of(Packing::Packed { bits: 4 }, Some(128), false),
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "float-quantized", "sparsity_config": {}, "kv_cache_scheme": null,
                   "config_groups": {"a": {"input_activations": {"num_bits": 8}, "weights": {"num_bits": 8, "type": "float"}}}}"#,
                of(Packing::Float8 { block: None }, None, true),
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"a": {"weights": {"num_bits": 8, "type": "int"}}}}"#,
                of(Packing::Int8, None, false),
            ),
            ("null", Ok(None)),
        ] {
            assert_eq!(read_text(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_read_is_refused_by_name_with_a_way_out() {
        for (text, words) in [
            (r#"{"quant_method": "bitsandbytes", "load_in_4bit": true}"#, "\"bitsandbytes\""),
            (r#"{"quant_method": "hqq"}"#, "\"hqq\""),
            (r#"{"quant_method": "aqlm"}"#, "\"aqlm\""),
            (r#"{"load_in_8bit": true}"#, "no quant_method"),
            ("7", "7"),
            (r#"{"quant_method": "gptq", "bits": 5}"#, "5 bits"),
            (r#"{"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}"#, "checkpoint_format \"marlin\""),
            (r#"{"quant_method": "gptq", "bits": 4, "dynamic": {"-:x": {}}}"#, "dynamic"),
            (r#"{"quant_method": "gptq", "bits": 4, "is_marlin_format": true}"#, "is_marlin_format"),
            (r#"{"quant_method": "awq", "bits": 4, "version": "gemv"}"#, "version \"gemv\""),
            (r#"{"quant_method": "awq", "bits": 4, "zero_point": false}"#, "without zero points"),
            (r#"{"quant_method": "fp8", "fmt": "e5m2"}"#, "e5m2"),
            (
                r#"{"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"a": {"weights": {"num_bits": 4, "type": "float"}}}}"#,
                "nvfp4-pack-quantized",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}, "config_groups": {}}"#,
                "kv_cache_scheme",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {
                   "a": {"weights": {"num_bits": 4, "type": "int"}}, "b": {"weights": {"num_bits": 8, "type": "int"}}}}"#,
                "in different ways",
            ),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(
                error.contains(words) && error.contains("not supported") && error.contains("dequantised"),
                "{error}"
            );
        }
        for text in [
            r#"{"quant_method": "gptq", "bits": "four"}"#,
            r#"{"quant_method": "gptq", "bits": 4, "group_size": -2}"#,
            r#"{"quant_method": "fp8", "weight_block_size": [128]}"#,
            r#"{"quant_method": "compressed-tensors", "format": "pack-quantized"}"#,
        ] {
            assert!(read_text(text).unwrap_err().contains("expected"), "{text}");
        }
    }
}
