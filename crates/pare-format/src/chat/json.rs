//! The `tojson` filter as transformers has it: Python's `json.dumps`, without the escaping for HTML of Jinja's own.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, State};

use super::{python, work};
use crate::json::Json;

const MOST_INDENT: usize = 16;
const MOST_SEPARATOR: usize = 16;

/// How JSON is laid out.
struct Layout {
    ascii: bool,
    indent: Option<usize>,
    between: String,
    colon: String,
    sorted: bool,
}

/// `value|tojson`, with `ensure_ascii`, `indent`, `separators` and `sort_keys`, in this order or by name.
pub(super) fn tojson(state: &mut State<'_, '_>, value: Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    type Arguments = (Option<Value>, Option<Value>, Option<Value>, Option<Value>, Kwargs);
    let (ensure_ascii, indent, separators, sort_keys, kwargs): Arguments = from_args(&args.into_values())?;
    let refused = |what: String| Error::new(ErrorKind::InvalidOperation, what);
    let argument = |name: &str, given: Option<Value>| -> Result<Option<Value>, Error> {
        let given = if given.is_some() { given } else { kwargs.get::<Option<Value>>(name)? };
        Ok(given.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ascii = is_true(argument("ensure_ascii", ensure_ascii)?);
    let indent = match argument("indent", indent)? {
        None => None,
        Some(indent) => match indent.as_usize() {
            Some(n) if n <= MOST_INDENT => Some(n),
            _ => return Err(refused(format!("tojson(indent={indent}); at most {MOST_INDENT} is allowed"))),
        },
    };
    let (mut between, mut colon) = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(separators) = argument("separators", separators)? {
        let texts: Vec<Value> = separators.try_iter()?.collect();
        match texts.as_slice() {
            [a, b] if [a, b].iter().all(|text| text.as_str().is_some_and(|text| text.len() <= MOST_SEPARATOR)) => {
                (between, colon) = (python::text(a), python::text(b));
            }
            _ => return Err(refused("tojson(separators=...): expected two short texts".to_owned())),
        }
    }
    let sorted = is_true(argument("sort_keys", sort_keys)?);
    kwargs.assert_all_used()?;
    work::charge(state, "tojson", std::slice::from_ref(&value))?;
    let mut out = String::new();
    write(&value, &Layout { ascii, indent, between, colon, sorted }, 0, &mut out)?;
    Ok(Value::from(out))
}

/// Appends `value`; its depth is bounded by what was charged before.
fn write(value: &Value, layout: &Layout, depth: usize, out: &mut String) -> Result<(), Error> {
    let inside = depth.saturating_add(1);
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = layout.indent {
            out.push('\n');
            out.push_str(&" ".repeat(indent.saturating_mul(depth)));
        }
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), layout.ascii, out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut empty = true;
            for item in value.try_iter()? {
                out.push_str(if empty { "" } else { &layout.between });
                empty = false;
                line(out, inside);
                write(&item, layout, inside, out)?;
            }
            if !empty {
                line(out, depth);
            }
            out.push(']');
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if layout.sorted {
                keys.sort();
            }
            out.push('{');
            for (i, key) in keys.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { &layout.between });
                line(out, inside);
                let name = match key.kind() {
                    ValueKind::String => python::text(key),
                    ValueKind::Number => number(key),
                    ValueKind::Bool | ValueKind::None => python::text(key).to_lowercase().replace("none", "null"),
                    kind => return Err(cannot(&format!("a key of the type {kind}"))),
                };
                quoted(&name, layout.ascii, out);
                out.push_str(&layout.colon);
                write(&value.get_item(key)?, layout, inside, out)?;
            }
            if !keys.is_empty() {
                line(out, depth);
            }
            out.push('}');
        }
        kind => return Err(cannot(&format!("a value of the type {kind}"))),
    }
    Ok(())
}

fn cannot(what: &str) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("{what} cannot be written as JSON"))
}

fn number(value: &Value) -> String {
    match python::number(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        number => number.to_owned(),
    }
}

fn quoted(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || (ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The same value for a template, with keys in the order of the file.
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::NotFinite(number) => Value::from(number.number()),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(entries) => Value::from_pairs(entries.iter().map(|(key, inner)| (key, value(inner)))),
    }
}

/// Bytes of the texts in a value.
pub(super) fn text_bytes(json: &Json) -> usize {
    match json {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(text_bytes).fold(0, usize::saturating_add),
        Json::Object(entries) => {
            let each = entries.iter().map(|(key, inner)| key.len().saturating_add(text_bytes(inner)));
            each.fold(0, usize::saturating_add)
        }
        _ => 0,
    }
}
