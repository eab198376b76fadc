//! JSON of a tokenizer file: no key twice, depth limited, and every value knows its path.

use std::fmt;
use std::path::Path;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::json::NotFinite;
use crate::json::python::with_stand_ins;
use crate::{FormatError, FormatErrorKind as Kind, Result, sniff};

const MOST_DEPTH: usize = 64;
const MOST_BYTES: u64 = 256 << 20;

/// A JSON value with the keys in file order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    NotFinite(NotFinite),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// A value and where it stands, for messages such as `field "model.merges[17]"`.
#[derive(Clone)]
pub(super) struct At<'a> {
    file: &'a Path,
    pub(super) path: String,
    pub(super) json: &'a Json,
}

/// Parses a whole file.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Json> {
    if bytes.len() as u64 > MOST_BYTES {
        let kind = Kind::TooMany { what: "bytes of JSON", found: bytes.len() as u64, most: MOST_BYTES };
        return Err(FormatError::new(file, kind));
    }
    let bad = |e: serde_json::Error| {
        FormatError::new(file, Kind::Found { found: format!("not valid JSON: {e}"), expected: "a JSON object".into() })
    };
    let bytes = without_mark(bytes);
    let read = |bytes: &[u8], stand_ins: bool| {
        let mut de = serde_json::Deserializer::from_slice(bytes);
        let json = Seed { depth: 0, key: None, stand_ins }.deserialize(&mut de)?;
        de.end().map(|()| json)
    };
    let other = || std::str::from_utf8(bytes).ok().and_then(with_stand_ins);
    let json = read(bytes, false).or_else(|error| match other() {
        Some(text) => read(text.as_bytes(), true),
        None => Err(error),
    });
    json.map_err(|e| sniff::explain(bad(e), bytes))
}

/// The text behind the byte order mark that some editors put in front.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

impl<'a> At<'a> {
    pub(super) fn root(file: &'a Path, json: &'a Json) -> Self {
        Self { file, path: String::new(), json }
    }

    pub(super) fn error(&self, kind: impl Into<Kind>) -> FormatError {
        FormatError::new(self.file, kind).item(format!("field \"{}\"", self.path))
    }

    pub(super) fn found(&self, found: impl Into<String>, expected: impl Into<String>) -> FormatError {
        self.error(Kind::Found { found: found.into(), expected: expected.into() })
    }

    pub(super) fn of_type(&self, expected: &'static str) -> FormatError {
        self.error(Kind::OfType { found: self.describe(), expected })
    }

    fn describe(&self) -> String {
        match self.json {
            Json::Null => "null".into(),
            Json::Bool(b) => b.to_string(),
            Json::Number(n) => format!("the number {n}"),
            Json::NotFinite(n) => format!("the number {}", n.name()),
            Json::Text(s) if s.len() <= 40 => format!("the string {s:?}"),
            Json::Text(s) => format!("a string of {} bytes", s.len()),
            Json::List(l) => format!("a list of {}", l.len()),
            Json::Object(o) => format!("an object of {}", o.len()),
        }
    }

    fn child(&self, path: String, json: &'a Json) -> Self {
        Self { file: self.file, path, json }
    }

    /// The entry `key`; an absent one counts as null.
    pub(super) fn get(&self, key: &str) -> Result<Self> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let found = self.entries()?.iter().find(|e| e.0 == key);
        Ok(self.child(path, found.map_or(&Json::Null, |e| &e.1)))
    }

    /// The entry `key`, or `None` when it is absent or null.
    pub(super) fn opt(&self, key: &str) -> Result<Option<Self>> {
        let entry = self.get(key)?;
        Ok(if *entry.json == Json::Null { None } else { Some(entry) })
    }

    pub(super) fn entries(&self) -> Result<&'a [(String, Json)]> {
        if let Json::Object(entries) = self.json { Ok(entries) } else { Err(self.of_type("an object")) }
    }

    /// The entry for `key` of an object that maps names to values, as in `model.vocab["a"]`.
    pub(super) fn named(&self, key: &str, json: &'a Json) -> Self {
        self.child(format!("{}[{key:?}]", self.path), json)
    }

    pub(super) fn items(&self) -> Result<impl Iterator<Item = Self>> {
        let Json::List(items) = self.json else { return Err(self.of_type("a list")) };
        let this = self.clone();
        Ok(items.iter().enumerate().map(move |(i, json)| this.child(format!("{}[{i}]", this.path), json)))
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        if let Json::Text(s) = self.json { Ok(s) } else { Err(self.of_type("a string")) }
    }

    /// A bool; null counts as `default`.
    pub(super) fn bool_or(&self, default: bool) -> Result<bool> {
        match self.json {
            Json::Null => Ok(default),
            Json::Bool(b) => Ok(*b),
            _ => Err(self.of_type("true or false")),
        }
    }

    pub(super) fn u32(&self) -> Result<u32> {
        let Json::Number(n) = self.json else { return Err(self.of_type("an integer from 0 to 4294967295")) };
        let id = n.as_u64().and_then(|n| u32::try_from(n).ok());
        id.ok_or_else(|| self.of_type("an integer from 0 to 4294967295"))
    }
}

impl Json {
    /// The same value for `serde_json`.
    pub(super) fn value(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Number(n) => Value::Number(n.clone()),
            Self::NotFinite(n) => Value::String(n.name().to_owned()),
            Self::Text(s) => Value::String(s.clone()),
            Self::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Self::Object(entries) => Value::Object(entries.iter().map(|(k, v)| (k.clone(), v.value())).collect()),
        }
    }
}

/// Reads one value and remembers how deep it stands.
struct Seed<'a> {
    depth: usize,
    key: Option<&'a str>,
    /// Whether strings may stand for numbers that JSON cannot say.
    stand_ins: bool,
}

impl Seed<'_> {
    fn string(&self, text: impl Into<String> + AsRef<str>) -> Json {
        let number = if self.stand_ins { NotFinite::of(text.as_ref()) } else { None };
        number.map_or_else(|| Json::Text(text.into()), Json::NotFinite)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: de::Deserializer<'de>>(self, de: D) -> Result<Json, D::Error> {
        if self.depth > MOST_DEPTH {
            let key = self.key.unwrap_or_default();
            return Err(de::Error::custom(format!("nested deeper than {MOST_DEPTH} at {key:?}")));
        }
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Json, E> {
        Ok(Json::Bool(b))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Json, E> {
        Ok(Json::Number(n.into()))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Json, E> {
        Ok(Json::Number(n.into()))
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Json, E> {
        serde_json::Number::from_f64(n).map(Json::Number).ok_or_else(|| E::custom(format!("number {n}")))
    }

    fn visit_str<E>(self, s: &str) -> Result<Json, E> {
        Ok(self.string(s))
    }

    fn visit_string<E>(self, s: String) -> Result<Json, E> {
        Ok(self.string(s))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Seed {
            depth: self.depth.saturating_add(1),
            key: self.key,
            stand_ins: self.stand_ins,
        })? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Seed {
                depth: self.depth.saturating_add(1),
                key: Some(&key),
                stand_ins: self.stand_ins,
            })?;
            entries.push((key, value));
        }
        let mut keys: Vec<&str> = entries.iter().map(|e| e.0.as_str()).collect();
        keys.sort_unstable();
        if let Some([key, _]) = keys.array_windows().find(|[a, b]| a == b) {
            let inside = self.key.map(|k| format!(" inside {k:?}")).unwrap_or_default();
            return Err(de::Error::custom(format!("key {key:?} occurs twice{inside}")));
        }
        Ok(Json::Object(entries))
    }
}
