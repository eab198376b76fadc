//! The entries of the header, one by one.

use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::{METADATA, TensorInfo};
use crate::error::{FormatErrorKind, Result};
use crate::json::visit::{State, Value};
use crate::json::{Bounds, Json, Object, text::push_string};
use crate::limits;
use crate::quote::{self, quoted};
use crate::safetensors::dtype::{self, Dtype};

type Fault = (Option<String>, FormatErrorKind);
type Found = (Vec<TensorInfo>, Vec<(String, String)>);

/// The tensors and the metadata of the header `text`; the data start at byte `data_start` of the file. Positions in errors count from
/// the start of `text`.
pub(super) fn collect(file: &Path, text: &str, data_start: u64) -> Result<Found> {
    let bounds = Bounds { bytes: limits::HEADER_BYTES, depth: limits::JSON_DEPTH, values: limits::ENTRY_VALUES };
    let mut state = State::new(bounds);
    let mut metadata_state = State::new(Bounds { values: limits::METADATA_ENTRIES, ..bounds });
    let mut out = Collected { data_start, tensors: Vec::new(), metadata: None, last: None };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Entries { state: &mut state, metadata_state: &mut metadata_state, out: &mut out };
    match seed.deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
        Ok(()) => Ok((out.tensors, out.metadata.unwrap_or_default())),
        Err(error) => {
            let state = if out.last.as_deref() == Some(METADATA) { metadata_state } else { state };
            let mut result = state.error(file, text, &error);
            if let Some(name) = &out.last
                && !matches!(result.kind, FormatErrorKind::Json(_))
            {
                let nth = usize::from(
                    matches!(result.kind, FormatErrorKind::Duplicate) && result.item.as_deref() == Some(METADATA),
                );
                result.at_byte = key_position(text, name, nth).or(result.at_byte);
                let owner = if name == METADATA { METADATA.to_owned() } else { quote::tensor(name) };
                result.item = match result.item {
                    Some(item) if item.starts_with(&owner) => Some(item),
                    Some(item) => Some(format!("{owner}: {item}")),
                    None => Some(owner),
                };
            }
            let rest = text.get(result.at_byte.unwrap_or_default() as usize..).unwrap_or_default();
            if rest.starts_with('\0') {
                result.hint =
                    Some("the header is padded with NUL bytes, the format pads with spaces: save the file again");
            }
            Err(result)
        }
    }
}

/// Byte of the `nth` place, counted from 0, where `name` stands as a key in `text`.
pub(super) fn key_position(text: &str, name: &str, nth: usize) -> Option<u64> {
    let mut key = String::new();
    push_string(&mut key, name);
    let is_key = |end: usize| text.get(end..).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let mut places = text.match_indices(&key).filter(|(at, _)| is_key(at + key.len()));
    places.nth(nth).map(|(at, _)| at as u64)
}

struct Collected {
    data_start: u64,
    tensors: Vec<TensorInfo>,
    metadata: Option<Vec<(String, String)>>,
    last: Option<String>,
}

struct Entries<'a> {
    state: &'a mut State,
    metadata_state: &'a mut State,
    out: &'a mut Collected,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { state, metadata_state, out } = self;
        while let Some(name) = map.next_key::<String>()? {
            out.last = Some(name.clone());
            if name == METADATA {
                if out.metadata.is_some() {
                    return Err(metadata_state.fail(Some(METADATA.to_owned()), FormatErrorKind::Duplicate));
                }
                let value = map.next_value_seed(Value::new(metadata_state))?;
                out.metadata = Some(strings(value).map_err(|(item, kind)| metadata_state.fail(item, kind))?);
                continue;
            }
            check_name(&name).map_err(|kind| state.fail(None, kind))?;
            if out.tensors.len() as u64 >= limits::TENSORS {
                let kind = FormatErrorKind::TooLarge {
                    what: "number of tensors",
                    found: limits::TENSORS + 1,
                    limit: limits::TENSORS,
                };
                return Err(state.fail(None, kind));
            }
            state.refill();
            let value = map.next_value_seed(Value::new(state))?;
            let tensor = tensor(name, value, out.data_start).map_err(|(item, kind)| state.fail(item, kind))?;
            out.tensors.push(tensor);
        }
        out.last = None;
        Ok(())
    }
}

fn wrong(found: impl Into<String>, expected: impl Into<String>) -> FormatErrorKind {
    FormatErrorKind::Found { found: found.into(), expected: expected.into() }
}

/// Names go into messages, reports and other formats: they must be text.
pub(crate) fn check_name(name: &str) -> Result<(), FormatErrorKind> {
    let found = name.len() as u64;
    if found > limits::NAME_BYTES {
        return Err(FormatErrorKind::TooLarge { what: "length of the name", found, limit: limits::NAME_BYTES });
    }
    if name.is_empty() {
        return Err(wrong("an empty name", "a name"));
    }
    if let Some(c) = name.chars().find(|c| c.is_control()) {
        return Err(wrong(format!("the name has a control character ({})", c.escape_default()), "printable text"));
    }
    Ok(())
}

fn strings(value: Json) -> Result<Vec<(String, String)>, Fault> {
    let Json::Object(object) = value else {
        return Err((Some(METADATA.to_owned()), wrong(value.shown(), "an object of strings")));
    };
    let entry = |(key, value): (String, Json)| match value {
        Json::String(value) => Ok((key, value)),
        other => Err((Some(format!("{METADATA}: key {}", quoted(&key))), wrong(other.shown(), "a string"))),
    };
    object.into_iter().map(entry).collect()
}

fn tensor(name: String, value: Json, data_start: u64) -> Result<TensorInfo, Fault> {
    let Json::Object(object) = value else {
        return Err((None, wrong(value.shown(), "an object with dtype, shape and data_offsets")));
    };
    let field = |key: &'static str| {
        object.get(key).ok_or_else(|| (Some(quote::field(key)), wrong("is missing", "dtype, shape and data_offsets")))
    };
    let dtype = dtype(field("dtype")?)?;
    let shape = numbers("shape", field("shape")?)?;
    let offsets = numbers("data_offsets", field("data_offsets")?)?;
    unknown_field(&object)?;

    let at = |kind: FormatErrorKind, key: &str| (Some(quote::field(key)), kind);
    if shape.len() as u64 > limits::RANK {
        let kind =
            FormatErrorKind::TooLarge { what: "number of dimensions", found: shape.len() as u64, limit: limits::RANK };
        return Err(at(kind, "shape"));
    }
    let &[begin, end] = offsets.as_slice() else {
        return Err(at(wrong(format!("{} numbers", offsets.len()), "2, begin and end"), "data_offsets"));
    };
    if begin > end {
        return Err(at(wrong(format!("{offsets:?} begins after its end"), "begin <= end"), "data_offsets"));
    }
    let bits = dtype::elements(shape.iter().copied()).and_then(|count| count.checked_mul(dtype.bits()));
    let Some(bits) = bits else {
        return Err(at(wrong(format!("{dtype} {shape:?} overflows 64 bits"), "a size below 2^64 bits"), "shape"));
    };
    if let Some(&found) = shape.iter().find(|&&d| d > limits::DIMENSION) {
        return Err(at(FormatErrorKind::TooLarge { what: "dimension", found, limit: limits::DIMENSION }, "shape"));
    }
    if !bits.is_multiple_of(8) {
        return Err(at(
            wrong(format!("{dtype} {shape:?} is {bits} bits, not a whole number of bytes"), "a multiple of 8 bits"),
            "shape",
        ));
    }
    if end - begin != bits / 8 {
        let found = format!("data_offsets {offsets:?} are {} bytes", end - begin);
        return Err((None, wrong(found, format!("{} bytes, the size of {dtype} {shape:?}", bits / 8))));
    }
    let absolute = |offset: u64| {
        offset
            .checked_add(data_start)
            .and_then(|byte| usize::try_from(byte).ok())
            .ok_or_else(|| at(wrong(format!("{offset} is too large"), "an offset inside the file"), "data_offsets"))
    };
    let range = absolute(begin)?..absolute(end)?;
    let shape = shape.into_iter().map(|d| d as usize).collect();
    Ok(TensorInfo { name, dtype, shape, range })
}

fn dtype(value: &Json) -> Result<Dtype, Fault> {
    let Json::String(name) = value else {
        return Err((Some(quote::field("dtype")), wrong(value.shown(), "a string")));
    };
    Dtype::from_name(name).ok_or_else(|| {
        let known = format!("one of {}", dtype::names(|_| true));
        (Some(quote::field("dtype")), wrong(format!("unknown dtype {}", quoted(name)), known))
    })
}

fn numbers(key: &'static str, value: &Json) -> Result<Vec<u64>, Fault> {
    let Json::Array(items) = value else {
        return Err((Some(quote::field(key)), wrong(value.shown(), "an array of whole numbers")));
    };
    let number = |(i, item): (usize, &Json)| match item {
        Json::Number(number) if number.is_u64() => Ok(number.as_u64().unwrap_or_default()),
        other => {
            Err((Some(quote::field(&format!("{key}[{i}]"))), wrong(other.shown(), "a whole number, not negative")))
        }
    };
    items.iter().enumerate().map(number).collect()
}

/// A field that is not known may change what the others mean.
fn unknown_field(object: &Object) -> Result<(), Fault> {
    match object.iter().find(|(key, _)| !matches!(*key, "dtype" | "shape" | "data_offsets")) {
        None => Ok(()),
        Some((key, value)) => {
            Err((Some(quote::field(key)), wrong(value.shown(), "only dtype, shape and data_offsets")))
        }
    }
}
