//! The writer: version 3, little endian, data aligned to 32 bytes, fed tensor by tensor.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::read::sorted;
use super::{ALIGNMENT, Array, GgmlType, Value, limit};
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the file; below 64 bytes, so that every reader takes it.
    pub name: String,
    /// Encoding of the data.
    pub ggml_type: GgmlType,
    /// Dimensions in GGUF order: the row length first.
    pub shape: Vec<usize>,
}

/// Writes a GGUF file to any [`Write`]: the header at once, then each tensor's bytes in the order of the list.
#[derive(Debug)]
pub struct GgufWriter<W> {
    file: PathBuf,
    out: W,
    /// Name and exact byte count of each tensor.
    expected: Vec<(String, usize)>,
    done: usize,
    /// Bytes of the next tensor that were fed already.
    fed: usize,
}

impl<W: Write> GgufWriter<W> {
    /// Checks the lists and writes the header; `file` names the target in messages.
    ///
    /// # Errors
    /// A key or tensor that the format cannot hold, or the writer's own error.
    pub fn new(file: &Path, mut out: W, metadata: &[(String, Value)], tensors: &[TensorSpec]) -> Result<Self> {
        let bad = |item: String, found: String, expected: &str| {
            FormatError::new(file, Kind::Found { found, expected: expected.into() }).item(item)
        };
        let twice = |item: String, (first, again)| FormatError::new(file, Kind::Twice { first, again }).item(item);
        sorted(metadata, |kv| &kv.0)
            .map_err(|at| twice(format!("field {:?}", metadata.get(at.1).map_or("", |kv| kv.0.as_str())), at))?;
        sorted(tensors, |t| &t.name)
            .map_err(|at| twice(format!("tensor {:?}", tensors.get(at.1).map_or("", |t| t.name.as_str())), at))?;

        let mut head = Vec::new();
        head.extend_from_slice(b"GGUF");
        head.extend_from_slice(&3_u32.to_le_bytes());
        head.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            if key.is_empty() || key.len() as u64 > limit::NAME || key.chars().any(char::is_control) {
                return Err(bad(
                    format!("field {key:?}"),
                    format!("key of {} bytes", key.len()),
                    "1 to 1024, printable",
                ));
            }
            if key == "general.alignment" && *value != Value::U32(32) {
                return Err(bad(format!("field {key:?}"), value.describe(), "u32 32"));
            }
            put_string(&mut head, key.as_bytes());
            put_value(&mut head, value);
        }
        let mut expected = Vec::with_capacity(tensors.len());
        let mut offset = 0_usize;
        for t in tensors {
            let item = || format!("tensor {:?}", t.name);
            if t.name.is_empty() || t.name.len() >= limit::NAME_ELSEWHERE || t.name.chars().any(char::is_control) {
                return Err(bad(item(), format!("name of {} bytes", t.name.len()), "1 to 63, printable"));
            }
            if t.shape.is_empty() || t.shape.len() > 4 || t.shape.contains(&0) {
                return Err(bad(item(), format!("shape {:?}", t.shape), "1 to 4 dimensions, none of them 0"));
            }
            let bytes = t.ggml_type.tensor_bytes(&t.shape).map_err(|(found, e)| bad(item(), found, &e))?;
            put_string(&mut head, t.name.as_bytes());
            // At most 4 dimensions, just checked.
            head.extend_from_slice(&(t.shape.len() as u32).to_le_bytes());
            for &dim in &t.shape {
                head.extend_from_slice(&(dim as u64).to_le_bytes());
            }
            head.extend_from_slice(&t.ggml_type.id().to_le_bytes());
            head.extend_from_slice(&(offset as u64).to_le_bytes());
            let padded = bytes.checked_next_multiple_of(ALIGNMENT).and_then(|b| offset.checked_add(b));
            offset = padded.ok_or_else(|| bad(item(), "data offset overflows".into(), "fewer than 2^63 bytes"))?;
            expected.push((t.name.clone(), bytes));
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&head).map_err(|e| FormatError::new(file, e))?;
        Ok(Self { file: file.to_owned(), out, expected, done: 0, fed: 0 })
    }

    /// Writes the data of the next tensor in the list, which must be `name`, with its padding.
    ///
    /// # Errors
    /// Another tensor is due, the byte count differs from type and shape, or the writer fails.
    pub fn tensor(&mut self, name: &str, data: &[u8]) -> Result<()> {
        let due = self.expected.get(self.done).filter(|(due, _)| due == name).map(|(_, bytes)| *bytes);
        if let Some(bytes) = due.filter(|bytes| *bytes != data.len()) {
            return Err(self.bad(name, format!("{} bytes of data", data.len()), bytes.to_string()));
        }
        self.piece(name, data)
    }

    /// Writes the next bytes of the tensor that is due, which must be `name`: a tensor may come in pieces of any size.
    ///
    /// # Errors
    /// As [`Self::tensor`]; too few bytes are found when the next tensor begins.
    pub fn piece(&mut self, name: &str, data: &[u8]) -> Result<()> {
        let bytes = match self.expected.get(self.done) {
            None => return Err(self.bad(name, "data after the last tensor".into(), "no more data".into())),
            Some((due, _)) if due != name => {
                return Err(self.bad(name, "data out of order".into(), format!("tensor {due:?} next")));
            }
            Some((_, bytes)) => *bytes,
        };
        let fed = self.fed.saturating_add(data.len());
        if fed > bytes {
            return Err(self.bad(name, format!("{fed} bytes of data"), bytes.to_string()));
        }
        let io = |e: io::Error| FormatError::new(&self.file, e);
        self.out.write_all(data).map_err(io)?;
        self.fed = fed;
        if fed == bytes {
            let padding = bytes.next_multiple_of(ALIGNMENT).saturating_sub(bytes);
            self.out.write_all([0; ALIGNMENT].get(..padding).unwrap_or_default()).map_err(io)?;
            self.done = self.done.saturating_add(1);
            self.fed = 0;
        }
        Ok(())
    }

    fn bad(&self, name: &str, found: String, expected: String) -> FormatError {
        FormatError::new(&self.file, Kind::Found { found, expected }).item(format!("tensor {name:?}"))
    }

    /// Flushes and gives the writer back.
    ///
    /// # Errors
    /// A tensor was never fed, or the writer fails.
    pub fn finish(mut self) -> Result<W> {
        if let Some((due, _)) = self.expected.get(self.done) {
            let kind = Kind::Found { found: "no data".into(), expected: "data for every tensor of the list".into() };
            return Err(FormatError::new(&self.file, kind).item(format!("tensor {due:?}")));
        }
        self.out.flush().map_err(|e| FormatError::new(&self.file, e))?;
        Ok(self.out)
    }
}

fn put_string(out: &mut Vec<u8>, s: &[u8]) {
    out.extend_from_slice(&(s.len() as u64).to_le_bytes());
    out.extend_from_slice(s);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(&value.type_id().to_le_bytes());
    match value {
        Value::U8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::Str(s) => put_string(out, s),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn each<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], bytes: fn(T) -> [u8; N]) {
        values.iter().for_each(|&v| out.extend_from_slice(&bytes(v)));
    }
    out.extend_from_slice(&array.type_id().to_le_bytes());
    out.extend_from_slice(&(array.len() as u64).to_le_bytes());
    match array {
        Array::U8(a) => out.extend_from_slice(a),
        Array::I8(a) => each(out, a, i8::to_le_bytes),
        Array::U16(a) => each(out, a, u16::to_le_bytes),
        Array::I16(a) => each(out, a, i16::to_le_bytes),
        Array::U32(a) => each(out, a, u32::to_le_bytes),
        Array::I32(a) => each(out, a, i32::to_le_bytes),
        Array::F32(a) => each(out, a, f32::to_le_bytes),
        Array::U64(a) => each(out, a, u64::to_le_bytes),
        Array::I64(a) => each(out, a, i64::to_le_bytes),
        Array::F64(a) => each(out, a, f64::to_le_bytes),
        Array::Bool(a) => a.iter().for_each(|&b| out.push(u8::from(b))),
        Array::Str(a) => a.iter().for_each(|s| put_string(out, s)),
    }
}
