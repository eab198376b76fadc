//! Strict JSON, but for the numbers that Python adds: bounded in size, depth and number of values, no key twice, keys kept in the order of
//! the file.

use std::path::Path;

use serde::de::DeserializeSeed;
use serde_json::Number;

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::quote::quoted;
use crate::{limits, map, sniff};

pub use python::NotFinite;

pub(crate) mod python;
pub(crate) mod text;
pub(crate) mod visit;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number; whole numbers outside of 64 bits are kept as the nearest `f64`.
    Number(Number),
    /// `NaN` or an infinity, as Python writes them.
    NotFinite(NotFinite),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Object),
}

/// The entries of a JSON object, in the order of the file; no key occurs twice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object {
    entries: Vec<(String, Json)>,
}

/// How much JSON is read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of text.
    pub bytes: u64,
    /// Nested arrays and objects.
    pub depth: usize,
    /// Values, keys not counted.
    pub values: u64,
}

impl Bounds {
    /// The bounds of a configuration file.
    pub const CONFIG: Self =
        Self { bytes: limits::CONFIG_BYTES, depth: limits::JSON_DEPTH, values: limits::JSON_VALUES };
}

impl Object {
    /// An object of `entries`, whose keys the caller knows to be different.
    pub(crate) fn of(entries: Vec<(String, Json)>) -> Self {
        Self { entries }
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Sets the value of `key`: in its place when it is there, at the end when it is new.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Json>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.remove(at).1)
    }

    /// All entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Json)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// All entries in order, by value.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (String, Json)> {
        self.entries.into_iter()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Json {
    /// The value in a few words, safe to show: scalars as they are, others by kind and size.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::NotFinite(value) => value.name().to_owned(),
            Self::String(value) => quoted(value),
            Self::Array(items) if items.len() <= 8 && items.iter().all(|i| matches!(i, Self::Number(_))) => {
                format!("[{}]", items.iter().map(Self::shown).collect::<Vec<_>>().join(", "))
            }
            Self::Array(items) => format!("an array of {}", items.len()),
            Self::Object(entries) => format!("an object of {}", entries.len()),
        }
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Number(value.into())
    }
}

impl From<usize> for Json {
    fn from(value: usize) -> Self {
        Self::Number((value as u64).into())
    }
}

impl From<f64> for Json {
    /// `null` for what JSON cannot say: infinities and not-a-number.
    fn from(value: f64) -> Self {
        Number::from_f64(value).map_or(Self::Null, Self::Number)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<Object> for Json {
    fn from(value: Object) -> Self {
        Self::Object(value)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(value: Vec<T>) -> Self {
        Self::Array(value.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Reads one JSON value that fills `bytes`; `file` is named in errors.
///
/// # Errors
/// `TooLarge` beyond a bound, `Duplicate` for a key that occurs twice, `Found` for a byte order mark or bytes that are not UTF-8, and
/// `Json` for everything else, all with the byte.
pub fn parse(file: &Path, bytes: &[u8], bounds: Bounds) -> Result<Json> {
    let text = utf8(file, bytes, bounds.bytes)?;
    let value = value(file, text, visit::State::new(bounds)).or_else(|error| match python::with_stand_ins(text) {
        Some(text) => value(file, &text, visit::State::with_stand_ins(bounds)),
        None => Err(error),
    });
    value.map_err(|error| sniff::explain(error, bytes))
}

fn value(file: &Path, text: &str, mut state: visit::State) -> Result<Json> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = visit::Value::new(&mut state).deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| state.error(file, text, &error))
}

/// Reads the JSON object in the file at `path`.
///
/// # Errors
/// As [`parse`] and [`map::read`], and `Found` when the file holds another value than an object.
pub fn read_object(path: &Path, bounds: Bounds) -> Result<Object> {
    let bytes = map::read(path, bounds.bytes)?;
    if bytes.is_empty() {
        return Err(FormatError::new(
            path,
            FormatErrorKind::Found { found: "an empty file".into(), expected: "a JSON object".into() },
        ));
    }
    // Some editors put a byte order mark in front.
    match parse(path, bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes), bounds)? {
        Json::Object(object) => Ok(object),
        other => Err(FormatError::new(
            path,
            FormatErrorKind::Found { found: other.shown(), expected: "a JSON object".into() },
        )),
    }
}

/// The value of one line of a file of JSON lines. Numbers that Python writes and JSON has not are null.
///
/// # Errors
/// What is wrong with it, and at which column.
pub fn line(text: &str) -> std::result::Result<serde_json::Value, String> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&python::without_numbers(text))).map_err(|error| {
        let message = error.to_string();
        let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
        format!("not valid JSON: {what} (column {})", error.column())
    })
}

/// `bytes` as text, when they are at most `limit` of UTF-8 without a byte order mark.
pub(crate) fn utf8<'a>(file: &Path, bytes: &'a [u8], limit: u64) -> Result<&'a str> {
    let found = |found: String, at: usize| {
        FormatError::new(file, FormatErrorKind::Found { found, expected: "JSON in UTF-8".into() }).at(at as u64)
    };
    if bytes.len() as u64 > limit {
        let found = bytes.len() as u64;
        return Err(FormatError::new(file, FormatErrorKind::TooLarge { what: "JSON text", found, limit }));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(found("a byte order mark".into(), 0));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or_default();
        sniff::explain(found(format!("byte 0x{byte:02x} is not UTF-8"), at), bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Json> {
        parse(Path::new("x.json"), text, Bounds { bytes: 1000, depth: 4, values: 10 })
    }

    #[test]
    fn keeps_order_and_numbers() {
        let value = parsed(br#" {"b": 18446744073709551615, "a": [-1, 1.5, null, true, "\u00e9"]} "#).unwrap();
        let Json::Object(object) = &value else { panic!("{value:?}") };
        assert_eq!(object.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(
            value.to_text(),
            "{\n  \"b\": 18446744073709551615,\n  \"a\": [\n    -1,\n    1.5,\n    null,\n    true,\n    \"é\"\n  ]\n}\n"
        );
    }

    #[test]
    fn lines_are_read_as_python_writes_them() {
        let value = line(r#"{"text": "NaN", "score": NaN, "all": [Infinity, -Infinity, 1]}"#).unwrap();
        assert_eq!(value, serde_json::json!({ "text": "NaN", "score": null, "all": [null, null, 1] }));
        let error = line(r#"{"text": "a""#).unwrap_err();
        assert_eq!(error, "not valid JSON: EOF while parsing an object (column 12)");
    }

    #[test]
    fn refuses_with_the_byte() {
        for (text, fragments) in [
            (&br#"{"a": 1, "b": 2, "a": 1}"#[..], &["key \"a\"", "occurs twice", "at byte 19"][..]),
            (b"\xef\xbb\xbf{}", &["byte order mark", "at byte 0"]),
            (b"{\"a\": \"\xff\"}", &["0xff is not UTF-8", "at byte 7"]),
            (b"[[[[[]]]]]", &["JSON depth is 5, the limit is 4"]),
            (b"[0,0,0,0,0,0,0,0,0,0]", &["JSON values is 11, the limit is 10"]),
            (b"{\"a\":\n tru}", &["not valid JSON", "at byte 10"]),
            (b"{} x", &["trailing characters", "at byte 3"]),
            (b"", &["EOF"]),
            (b"{\"a\": 1e999}", &["number out of range"]),
            (&[b' '; 1001], &["JSON text is 1001, the limit is 1000"]),
        ] {
            let message = parsed(text).unwrap_err().to_string();
            for fragment in fragments {
                assert!(message.contains(fragment), "{message} / {fragment}");
            }
        }
    }
}
