//! Collects JSON values under bounds while serde_json reads the text.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::python::NotFinite;
use super::{Bounds, Json, Object};
use crate::error::{FormatError, FormatErrorKind};
use crate::quote::quoted;

/// Beyond this many entries the keys of an object are kept in a set to find duplicates.
const FEW: usize = 16;

/// What is left of the bounds, and the first rule that was broken.
pub(crate) struct State {
    bounds: Bounds,
    stand_ins: bool,
    values: u64,
    fault: Option<(Option<String>, FormatErrorKind)>,
}

impl State {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, stand_ins: false, values: 0, fault: None }
    }

    /// For a text in which strings stand for numbers that JSON cannot say.
    pub(crate) fn with_stand_ins(bounds: Bounds) -> Self {
        Self { stand_ins: true, ..Self::new(bounds) }
    }

    /// Starts counting values anew.
    pub(crate) fn refill(&mut self) {
        self.values = 0;
    }

    /// Remembers the broken rule; the returned error only stops serde_json.
    pub(crate) fn fail<E: Error>(&mut self, item: Option<String>, kind: FormatErrorKind) -> E {
        self.fault = Some((item, kind));
        E::custom("")
    }

    /// The error to report when serde_json stopped with `error` in `text`.
    pub(crate) fn error(self, file: &Path, text: &str, error: &serde_json::Error) -> FormatError {
        let (item, kind) = self.fault.unwrap_or_else(|| {
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            (None, FormatErrorKind::Json(message.to_owned()))
        });
        let mut result = FormatError::new(file, kind).at(offset(text, error.line(), error.column()));
        result.item = item;
        result
    }

    fn count<E: Error>(&mut self) -> Result<(), E> {
        self.values += 1;
        let (found, limit) = (self.values, self.bounds.values);
        if found > limit {
            return Err(self.fail(None, FormatErrorKind::TooLarge { what: "number of JSON values", found, limit }));
        }
        Ok(())
    }

    fn descend<E: Error>(&mut self, depth: usize) -> Result<usize, E> {
        let limit = self.bounds.depth;
        if depth >= limit {
            let kind = FormatErrorKind::TooLarge { what: "JSON depth", found: depth as u64 + 1, limit: limit as u64 };
            return Err(self.fail(None, kind));
        }
        Ok(depth + 1)
    }
}

/// Byte of a position that serde_json gives as line and column, both counted from 1.
fn offset(text: &str, line: usize, column: usize) -> u64 {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len()) as u64
}

/// Reads one value.
pub(crate) struct Value<'a> {
    state: &'a mut State,
    depth: usize,
}

impl<'a> Value<'a> {
    pub(crate) fn new(state: &'a mut State) -> Self {
        Self { state, depth: 0 }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.state.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        let number = if self.state.stand_ins { NotFinite::of(value) } else { None };
        Ok(number.map_or_else(|| value.into(), Json::NotFinite))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let depth = self.state.descend(self.depth)?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Value { state: &mut *self.state, depth })? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let depth = self.state.descend(self.depth)?;
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.len() == FEW {
                seen = entries.iter().map(|(key, _)| key.clone()).collect();
            }
            let twice = if entries.len() < FEW {
                entries.iter().any(|(other, _)| *other == key)
            } else {
                !seen.insert(key.clone())
            };
            if twice {
                return Err(self.state.fail(Some(format!("key {}", quoted(&key))), FormatErrorKind::Duplicate));
            }
            let value = map.next_value_seed(Value { state: &mut *self.state, depth })?;
            entries.push((key, value));
        }
        Ok(Json::Object(Object { entries }))
    }
}
