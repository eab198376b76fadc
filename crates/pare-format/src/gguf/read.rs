//! The reader: one pass over the header with a checked cursor.

use std::path::Path;

use super::value::id;
use super::{ALIGNMENT, Array, GgmlType, Gguf, GgufTensor, Strings, Value, limit};
use crate::{FormatError, FormatErrorKind as Kind, Result, sniff};

/// Fewest bytes that a key with its value can take: length, one byte of key, type, one byte of value.
const LEAST_KEY: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes that an entry of the tensor list can take: length, one byte of name, dimensions, type, offset.
const LEAST_TENSOR: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Reads forward and knows where it is.
pub(crate) struct Cursor<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `bytes`, a whole file that messages call `file`.
    pub(crate) fn new(file: &'a Path, bytes: &'a [u8]) -> Self {
        Self { file, bytes, at: 0 }
    }

    pub(crate) fn file(&self) -> &'a Path {
        self.file
    }

    /// Bytes behind it.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    fn fail(&self, kind: impl Into<Kind>) -> FormatError {
        FormatError::new(self.file, kind).at(self.at as u64)
    }

    /// An error about what is here.
    pub(crate) fn found(&self, found: impl Into<String>, expected: impl Into<String>) -> FormatError {
        self.fail(Kind::Found { found: found.into(), expected: expected.into() })
    }

    /// Bytes before it.
    pub(crate) fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    pub(crate) fn take(&mut self, need: u64) -> Result<&'a [u8]> {
        let have = self.left();
        let ends = || Kind::EndsInside { need, have };
        let end = usize::try_from(need).ok().and_then(|need| self.at.checked_add(need));
        let end = end.ok_or_else(|| self.fail(ends()))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.fail(ends()))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let at = self.at;
        let bytes = self.take(N as u64)?;
        bytes
            .try_into()
            .map_err(|_| FormatError::new(self.file, Kind::EndsInside { need: N as u64, have: 0 }).at(at as u64))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A declared count, compared with what `each` bytes per item leave room for and with the limit.
    fn count(&mut self, what: &'static str, each: u64, most: u64) -> Result<u64> {
        let at = self.at;
        let found = self.u64()?;
        let most = self.left().checked_div(each).unwrap_or(0).min(most);
        if found > most {
            return Err(FormatError::new(self.file, Kind::TooMany { what, found, most }).at(at as u64));
        }
        Ok(found)
    }

    fn string(&mut self, most: u64) -> Result<&'a [u8]> {
        let len = self.count("bytes of text", 1, most)?;
        self.take(len)
    }

    /// A key or tensor name: UTF-8, not empty, no control characters.
    fn name(&mut self, what: &str, index: u64) -> Result<&'a str> {
        let item = |e: FormatError| e.item(format!("{what} {index}"));
        let at = self.at;
        let bytes = self.string(limit::NAME).map_err(item)?;
        let fail = |found: String, expected: &str| {
            item(FormatError::new(self.file, Kind::Found { found, expected: expected.into() }).at(at as u64))
        };
        let name = std::str::from_utf8(bytes)
            .map_err(|e| fail(format!("name is not UTF-8 at its byte {}", e.valid_up_to()), "UTF-8"))?;
        if name.is_empty() {
            return Err(fail("name is empty".into(), "at least one byte"));
        }
        if name.chars().any(char::is_control) {
            return Err(fail(format!("name {name:?} holds a control character"), "printable text"));
        }
        Ok(name)
    }

    fn bool(&self, byte: u8) -> Result<bool> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.found(format!("bool {other}"), "0 or 1")),
        }
    }

    fn value(&mut self) -> Result<Value> {
        Ok(match self.u32()? {
            id::U8 => Value::U8(u8::from_le_bytes(self.array()?)),
            id::I8 => Value::I8(i8::from_le_bytes(self.array()?)),
            id::U16 => Value::U16(u16::from_le_bytes(self.array()?)),
            id::I16 => Value::I16(i16::from_le_bytes(self.array()?)),
            id::U32 => Value::U32(self.u32()?),
            id::I32 => Value::I32(i32::from_le_bytes(self.array()?)),
            id::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            id::U64 => Value::U64(self.u64()?),
            id::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            id::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
            id::BOOL => {
                let [byte] = self.array()?;
                Value::Bool(self.bool(byte)?)
            }
            id::STR => Value::Str(self.string(limit::STRING)?.to_vec()),
            id::ARRAY => Value::Array(self.elements()?),
            other => return Err(self.found(format!("value type {other}"), "0 to 12")),
        })
    }

    /// `count` numbers of `N` bytes.
    fn numbers<T, const N: usize>(&mut self, read: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let count = self.count("array elements", N as u64, limit::ELEMENTS)?;
        let bytes = self.take(count.saturating_mul(N as u64))?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect())
    }

    fn elements(&mut self) -> Result<Array> {
        Ok(match self.u32()? {
            id::U8 => Array::U8(self.numbers(u8::from_le_bytes)?),
            id::I8 => Array::I8(self.numbers(i8::from_le_bytes)?),
            id::U16 => Array::U16(self.numbers(u16::from_le_bytes)?),
            id::I16 => Array::I16(self.numbers(i16::from_le_bytes)?),
            id::U32 => Array::U32(self.numbers(u32::from_le_bytes)?),
            id::I32 => Array::I32(self.numbers(i32::from_le_bytes)?),
            id::F32 => Array::F32(self.numbers(f32::from_le_bytes)?),
            id::U64 => Array::U64(self.numbers(u64::from_le_bytes)?),
            id::I64 => Array::I64(self.numbers(i64::from_le_bytes)?),
            id::F64 => Array::F64(self.numbers(f64::from_le_bytes)?),
            id::BOOL => {
                let bytes: Vec<u8> = self.numbers(u8::from_le_bytes)?;
                Array::Bool(bytes.into_iter().map(|b| self.bool(b)).collect::<Result<_>>()?)
            }
            id::STR => {
                let count = self.count("array elements", 8, limit::ELEMENTS)?;
                let mut strings = Strings::default();
                for i in 0..count {
                    strings.push(self.string(limit::STRING).map_err(|e| e.item(format!("element {i}")))?);
                }
                Array::Str(strings)
            }
            id::ARRAY => return Err(self.found("array of arrays", "elements of type 0 to 8 or 10 to 12")),
            other => return Err(self.found(format!("array element type {other}"), "0 to 8 or 10 to 12")),
        })
    }

    fn header(&mut self) -> Result<u32> {
        let magic: [u8; 4] = self.array().map_err(|e| e.hint("this is not a GGUF file"))?;
        match &magic {
            b"GGUF" => {}
            b"FUGG" => {
                let e = self.found("magic \"FUGG\"", "\"GGUF\"");
                return Err(e.hint("this is a big-endian GGUF; convert it to little endian"));
            }
            b"vers" => {
                let e = self.found("text where the magic should be", "\"GGUF\"");
                return Err(e.hint("this looks like a Git LFS pointer: the weights were not downloaded"));
            }
            other => {
                let e = self.found(format!("magic {:?}", String::from_utf8_lossy(other)), "\"GGUF\"");
                let head = self.bytes.get(..sniff::SNIFF_BYTES).unwrap_or(self.bytes);
                return Err(sniff::explain(e, head));
            }
        }
        let version = self.u32()?;
        match version {
            2 | 3 => Ok(version),
            v if matches!(v.swap_bytes(), 1..=3) => {
                let e = self.found(format!("version {v}"), "2 or 3");
                Err(e.hint("this is a big-endian GGUF; convert it to little endian"))
            }
            v => {
                Err(self.found(format!("version {v}"), "2 or 3").hint("write the file again with a current converter"))
            }
        }
    }

    /// One entry of the tensor list, with its offset in the data section.
    fn tensor(&mut self, index: u64) -> Result<(GgufTensor, u64)> {
        let name = self.name("tensor", index)?.to_owned();
        let item = format!("tensor {name:?}");
        let wrap = |e: FormatError| e.item(item.clone());
        let dims = self.u32().map_err(wrap)?;
        if !(1..=4).contains(&dims) {
            return Err(wrap(self.found(format!("{dims} dimensions"), "1 to 4")));
        }
        let mut shape = Vec::with_capacity(4);
        for d in 0..dims {
            let dim = self.u64().map_err(wrap)?;
            match usize::try_from(dim) {
                Ok(dim) if dim > 0 && i64::try_from(dim).is_ok() => shape.push(dim),
                _ => return Err(wrap(self.found(format!("dimension {d} is {dim}"), "1 to 2^63 - 1"))),
            }
        }
        let type_id = self.u32().map_err(wrap)?;
        let Some(ggml_type) = GgmlType::from_id(type_id) else {
            let known = GgmlType::supported_names();
            let found = match GgmlType::removed(type_id) {
                Some(old) => format!("type {type_id} ({old}, removed from the format)"),
                None => format!("unknown type {type_id}"),
            };
            return Err(wrap(self.fail(Kind::NotSupported { found, known })));
        };
        let bytes = ggml_type.tensor_bytes(&shape).map_err(|(found, expected)| wrap(self.found(found, expected)))?;
        let offset = self.u64().map_err(wrap)?;
        Ok((GgufTensor { name, ggml_type, shape, range: 0..bytes }, offset))
    }
}

impl Gguf {
    /// Parses the header of `bytes`, the whole file; `file` names it in messages.
    ///
    /// # Errors
    /// Every rule of the format that is broken, with key or tensor, the numbers and the byte.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(file, bytes);
        let version = cursor.header()?;
        let tensor_count =
            cursor.count("tensors", LEAST_TENSOR, limit::TENSORS).map_err(|e| e.item("field \"tensor_count\""))?;
        let key_count =
            cursor.count("keys", LEAST_KEY, limit::KEYS).map_err(|e| e.item("field \"metadata_kv_count\""))?;

        let mut metadata = Vec::new();
        for i in 0..key_count {
            let key = cursor.name("key", i)?.to_owned();
            let value = cursor.value().map_err(|e| {
                let inner = e.item.as_deref().map(|i| format!(" {i}")).unwrap_or_default();
                e.item(format!("field {key:?}{inner}"))
            })?;
            metadata.push((key, value));
        }
        let by_key = sorted(&metadata, |kv| &kv.0).map_err(|(first, again)| {
            let key = metadata.get(again).map_or("", |kv| kv.0.as_str());
            FormatError::new(file, Kind::Twice { first, again }).item(format!("field {key:?}"))
        })?;
        let mut gguf = Self {
            file: file.to_owned(),
            version,
            metadata,
            by_key,
            tensors: Vec::new(),
            by_name: Vec::new(),
            alignment: ALIGNMENT,
            data_start: 0,
            warnings: Vec::new(),
        };
        gguf.alignment = gguf.read_alignment()?;

        let mut offsets = Vec::new();
        for i in 0..tensor_count {
            let (tensor, offset) = cursor.tensor(i)?;
            gguf.tensors.push(tensor);
            offsets.push(offset);
        }
        gguf.by_name = sorted(&gguf.tensors, |t| &t.name).map_err(|(first, again)| {
            let name = gguf.tensors.get(again).map_or("", |t| t.name.as_str());
            FormatError::new(file, Kind::Twice { first, again }).item(format!("tensor {name:?}"))
        })?;
        gguf.place(&offsets, cursor.at, bytes.len())?;
        gguf.warn_of_names();
        Ok(gguf)
    }

    fn read_alignment(&self) -> Result<usize> {
        let key = "general.alignment";
        match self.get(key) {
            None => Ok(ALIGNMENT),
            Some(&Value::U32(a)) if a.is_power_of_two() && u64::from(a) <= limit::ALIGNMENT => usize::try_from(a)
                .map_err(|_| self.error(key, Kind::TooMany { what: "bytes", found: a.into(), most: 0 })),
            Some(other) => {
                Err(self
                    .error(key, Kind::OfType { found: other.describe(), expected: "u32, a power of two up to 65536" }))
            }
        }
    }

    /// Turns offsets into ranges of the file: in order, aligned, without gap or overlap, inside the file.
    fn place(&mut self, offsets: &[u64], header_end: usize, file_len: usize) -> Result<()> {
        let fail = |name: &str, found: String, expected: String| {
            FormatError::new(&self.file, Kind::Found { found, expected }).item(format!("tensor {name:?}"))
        };
        let overflow = |name: &str| fail(name, "data offset overflows".into(), "an offset inside the file".into());
        let align = self.alignment;
        let data_start = header_end.checked_next_multiple_of(align).ok_or_else(|| overflow(""))?;
        // Offset in the data section at which the next tensor must start.
        let mut next = 0_usize;
        let mut end = data_start;
        for (tensor, &offset) in self.tensors.iter_mut().zip(offsets) {
            let name = tensor.name.clone();
            if offset != next as u64 {
                let why = match () {
                    () if offset.checked_rem(align as u64) != Some(0) => {
                        format!("not a multiple of the alignment {align}")
                    }
                    () if offset < next as u64 => "overlaps the tensor before it".to_owned(),
                    () => "leaves a gap or lies past the end".to_owned(),
                };
                return Err(fail(&name, format!("data offset {offset} ({why})"), format!("{next}")));
            }
            let len = tensor.range.end;
            let start = data_start.checked_add(next).ok_or_else(|| overflow(&name))?;
            end = start.checked_add(len).ok_or_else(|| overflow(&name))?;
            if end > file_len {
                let missing = end.saturating_sub(file_len);
                let found = format!("data ends at byte {end}, the file at {file_len}: {missing} bytes are missing");
                return Err(fail(&name, found, format!("{len} bytes of {} {:?}", tensor.ggml_type, tensor.shape))
                    .hint("the file is cut short: fetch it again"));
            }
            tensor.range = start..end;
            let padded = len.checked_next_multiple_of(align).ok_or_else(|| overflow(&name))?;
            next = next.checked_add(padded).ok_or_else(|| overflow(&name))?;
        }
        self.data_start = data_start;
        let padded_end = data_start.saturating_add(next);
        if file_len > padded_end.max(end) {
            let extra = file_len.saturating_sub(padded_end.max(end));
            self.warnings.push(format!("{extra} bytes follow the last tensor"));
        }
        Ok(())
    }

    fn warn_of_names(&mut self) {
        for t in &self.tensors {
            if t.name.len() >= limit::NAME_ELSEWHERE {
                let line = format!("tensor name {:?} has {} bytes; llama.cpp reads at most 63", t.name, t.name.len());
                self.warnings.push(line);
            }
        }
    }
}

/// Positions of `items` sorted by name, or the first pair with the same name.
pub(super) fn sorted<T>(items: &[T], name: impl Fn(&T) -> &str) -> Result<Vec<usize>, (usize, usize)> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| items.get(i).map(&name));
    let same = order.windows(2).find_map(|pair| match *pair {
        [a, b] if items.get(a).map(&name) == items.get(b).map(&name) => Some((a, b)),
        _ => None,
    });
    same.map_or(Ok(order), Err)
}
