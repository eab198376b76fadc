//! Typed access to the entries of a configuration: the value, or an error with field, value and expectation.

use std::path::Path;

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::{Json, Object};
use crate::limits;

/// The entries of an object inside `file`; `prefix` is the path of the object, as in `rope_scaling.`.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) file: &'a Path,
    pub(super) object: &'a Object,
    pub(super) prefix: &'a str,
}

impl<'a> Fields<'a> {
    /// The value of `key`, when it is there and not null.
    pub(super) fn present(&self, key: &str) -> Option<&'a Json> {
        self.object.get(key).filter(|value| **value != Json::Null)
    }

    /// The error for `key`, whose value is `found`.
    pub(super) fn found(&self, key: &str, found: String, expected: &str) -> FormatError {
        let kind = FormatErrorKind::Found { found, expected: expected.to_owned() };
        FormatError::new(self.file, kind).item(crate::quote::field(&format!("{}{key}", self.prefix)))
    }

    /// The error for the value of `key`.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> FormatError {
        let found = self.object.get(key).map_or("is missing".to_owned(), Json::shown);
        self.found(key, found, expected)
    }

    /// A whole number from `min` to `max` that must be there.
    pub(super) fn required(&self, key: &str, min: u64, max: u64) -> Result<usize> {
        let expected = || format!("a whole number from {min} to {max}");
        self.optional(key, min, max)?.ok_or_else(|| self.wrong(key, &expected()))
    }

    /// A whole number from `min` to `max`.
    pub(super) fn optional(&self, key: &str, min: u64, max: u64) -> Result<Option<usize>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        match value {
            Json::Number(number) if number.as_u64().is_some_and(|n| (min..=max).contains(&n)) => {
                Ok(number.as_u64().and_then(|n| usize::try_from(n).ok()))
            }
            _ => Err(self.wrong(key, &format!("a whole number from {min} to {max}"))),
        }
    }

    /// A finite number above 0.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.present(key) else { return Ok(None) };
        match value {
            Json::Number(number) if number.as_f64().is_some_and(|n| n > 0.0 && n.is_finite()) => Ok(number.as_f64()),
            _ => Err(self.wrong(key, "a number above 0")),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.present(key) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A string.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.present(key) {
            None => Ok(None),
            Some(Json::String(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// An object.
    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Object>> {
        match self.present(key) {
            None => Ok(None),
            Some(Json::Object(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    /// A token number; `default` when the key is absent.
    pub(super) fn token(&self, key: &str, default: Option<u32>) -> Result<Option<u32>> {
        match self.object.get(key) {
            None => Ok(default),
            Some(Json::Null) => Ok(None),
            Some(value) => Ok(Some(id(value).ok_or_else(|| self.wrong(key, TOKEN))?)),
        }
    }

    /// A token number or a list of them; `default` when the key is absent.
    pub(super) fn tokens(&self, key: &str, default: &[u32]) -> Result<Vec<u32>> {
        match self.object.get(key) {
            None => Ok(default.to_vec()),
            Some(Json::Null) => Ok(Vec::new()),
            Some(Json::Array(items)) if items.len() <= limits::END_TOKENS => {
                items.iter().map(|item| id(item).ok_or_else(|| self.wrong(key, TOKEN))).collect()
            }
            Some(value) => Ok(vec![id(value).ok_or_else(|| self.wrong(key, TOKEN))?]),
        }
    }
}

const TOKEN: &str = "token numbers of 32 bits, not negative";

fn id(value: &Json) -> Option<u32> {
    match value {
        Json::Number(number) => number.as_u64().and_then(|id| u32::try_from(id).ok()),
        _ => None,
    }
}
