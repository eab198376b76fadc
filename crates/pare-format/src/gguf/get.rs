//! Typed look-ups in the metadata: errors name the key, what it holds and what was asked for.

use super::{Array, Gguf, Strings, Value};
use crate::{FormatError, FormatErrorKind as Kind, Result};

impl Gguf {
    /// The value of `key`, when it is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.by_key.binary_search_by(|&i| self.metadata.get(i).map_or("", |kv| kv.0.as_str()).cmp(key));
        found.ok().and_then(|at| self.by_key.get(at)).and_then(|&i| self.metadata.get(i)).map(|kv| &kv.1)
    }

    /// An error about `key` in this file.
    pub(crate) fn error(&self, key: &str, kind: impl Into<Kind>) -> FormatError {
        FormatError::new(&self.file, kind).item(format!("field {key:?}"))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.error(key, Kind::OfType { found: value.describe(), expected });
        read(value).map(Some).ok_or_else(wrong)
    }

    fn required<T>(&self, key: &str, expected: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(key, Kind::Absent { expected }))
    }

    /// An integer of any width, when the key is there.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a non-negative integer", Value::as_u64)
    }

    /// An integer of any width.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.required(key, "a non-negative integer", self.opt_u64(key)?)
    }

    /// An integer below 2^32, when the key is there.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an integer from 0 to 4294967295", |v| v.as_u64()?.try_into().ok())
    }

    /// An integer below 2^32.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.required(key, "an integer from 0 to 4294967295", self.opt_u32(key)?)
    }

    /// A float of either width, when the key is there.
    pub fn opt_f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", Value::as_f64)
    }

    /// A float of either width.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.required(key, "a float", self.opt_f64(key)?)
    }

    /// A bool, when the key is there.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |v| if let Value::Bool(b) = v { Some(*b) } else { None })
    }

    /// UTF-8 text, when the key is there.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a UTF-8 string", |v| if let Value::Str(s) = v { std::str::from_utf8(s).ok() } else { None })
    }

    /// UTF-8 text.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, "a UTF-8 string", self.opt_str(key)?)
    }

    /// An array of strings, when the key is there.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&Strings>> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(Array::Str(s)) => Some(s),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<&Strings> {
        self.required(key, "an array of strings", self.opt_strings(key)?)
    }

    /// An array of f32, when the key is there.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "an array of f32", |v| match v {
            Value::Array(Array::F32(a)) => Some(a.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of one width, each below 2^32, when the key is there.
    pub fn opt_u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        fn all<T: Copy + TryInto<u32>>(a: &[T]) -> Option<Vec<u32>> {
            a.iter().map(|&x| x.try_into().ok()).collect()
        }
        self.typed(key, "an array of integers from 0 to 4294967295", |v| match v {
            Value::Array(Array::U8(a)) => all(a),
            Value::Array(Array::I8(a)) => all(a),
            Value::Array(Array::U16(a)) => all(a),
            Value::Array(Array::I16(a)) => all(a),
            Value::Array(Array::U32(a)) => all(a),
            Value::Array(Array::I32(a)) => all(a),
            Value::Array(Array::U64(a)) => all(a),
            Value::Array(Array::I64(a)) => all(a),
            _ => None,
        })
    }
}
