//! The header: parsed and checked against every rule of the format before any tensor is touched.

use std::ops::Range;
use std::path::Path;

use super::Dtype;
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::quote::quoted;
use crate::{json, limits, quote};

mod entries;

pub(crate) use entries::check_name;

/// Bytes of the header's length in front of the header.
pub const PREFIX: usize = 8;
/// The key of the header that is not a tensor.
pub(crate) const METADATA: &str = "__metadata__";

/// Where a tensor is and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first; none for a single number.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub range: Range<usize>,
}

/// A checked header.
#[derive(Debug, Clone)]
pub struct Header {
    tensors: Vec<TensorInfo>,
    by_name: Vec<u32>,
    metadata: Vec<(String, String)>,
    warnings: Vec<String>,
}

/// The length of the JSON header of `file`, from the first bytes `head` of a file of `file_len` bytes.
pub(crate) fn json_len(file: &Path, head: &[u8], file_len: u64) -> Result<usize> {
    let error = |kind: FormatErrorKind| FormatError::new(file, kind).item("header length").at(0);
    let Some(prefix) = head.first_chunk::<PREFIX>() else {
        return Err(FormatError::new(
            file,
            FormatErrorKind::Found {
                found: format!("{file_len} bytes, need at least 8 for the header length"),
                expected: "a safetensors file".into(),
            },
        ));
    };
    let found = u64::from_le_bytes(*prefix);
    if found > limits::HEADER_BYTES {
        return Err(error(FormatErrorKind::TooLarge { what: "it", found, limit: limits::HEADER_BYTES }));
    }
    let rest = file_len - PREFIX as u64;
    if found > rest {
        let found = format!("{found} runs {} bytes past the end", found - rest);
        return Err(error(FormatErrorKind::Found { found, expected: format!("at most {rest}, what follows it") }));
    }
    if found == 0 {
        return Err(error(FormatErrorKind::Found { found: "0".into(), expected: "at least 2, for {}".into() }));
    }
    usize::try_from(found).map_err(|_| error(FormatErrorKind::TooLarge { what: "it", found, limit: usize::MAX as u64 }))
}

impl Header {
    /// Reads and checks the header of a whole file in memory.
    ///
    /// # Errors
    /// As [`Header::parse`], and for a wrong header length.
    pub fn read(file: &Path, bytes: &[u8]) -> Result<Self> {
        let len = json_len(file, bytes, bytes.len() as u64)?;
        let json = bytes.get(PREFIX..).and_then(|rest| rest.get(..len)).unwrap_or_default();
        Self::parse(file, json, bytes.len() as u64)
    }

    /// Checks `json`, the text of the header of a file of `file_len` bytes.
    ///
    /// # Errors
    /// The first rule that is broken, with the tensor, both numbers and the byte in the file.
    pub fn parse(file: &Path, json: &[u8], file_len: u64) -> Result<Self> {
        let shifted = |mut error: FormatError| {
            error.at_byte = error.at_byte.map(|at| at + PREFIX as u64);
            error
        };
        let text = json::utf8(file, json, limits::HEADER_BYTES).map_err(shifted)?;
        let mut warnings = start(file, text)?;
        let data = Data { start: PREFIX as u64 + json.len() as u64, end: file_len };
        let (mut tensors, metadata) = entries::collect(file, text, data.start).map_err(shifted)?;
        // The end counts too: tensors without elements stand before the tensor that starts at the same byte.
        tensors.sort_by_key(|t| (t.range.start, t.range.end));
        let by_name = names(file, text, &tensors)?;
        contiguous(file, text, &tensors, data)?;
        if tensors.is_empty() {
            warnings.push("holds no tensors".to_owned());
        }
        if !data.start.is_multiple_of(8) {
            warnings.push(format!("tensor data start at byte {}, not a multiple of 8", data.start));
        }
        Ok(Self { tensors, by_name, metadata, warnings })
    }

    /// All tensors in the order of their bytes.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        let tensor = |i: u32| self.tensors.get(i as usize);
        let at = self.by_name.binary_search_by(|&i| tensor(i).map(|t| t.name.as_str()).cmp(&Some(name))).ok()?;
        tensor(*self.by_name.get(at)?)
    }

    /// The entries of `__metadata__`, in the order of the file.
    #[must_use]
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// What is odd but allowed.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The part of the file after the header.
#[derive(Clone, Copy)]
struct Data {
    start: u64,
    end: u64,
}

/// Checks the first character of the header.
fn start(file: &Path, text: &str) -> Result<Vec<String>> {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\r']);
    if !trimmed.starts_with('{') {
        let found =
            trimmed.chars().next().map_or("only white space".to_owned(), |c| quoted(c.encode_utf8(&mut [0; 4])));
        let kind = FormatErrorKind::Found { found, expected: "the header to be a JSON object, starting with {".into() };
        return Err(FormatError::new(file, kind).item("header").at((PREFIX + text.len() - trimmed.len()) as u64));
    }
    let spaces = text.len() - trimmed.len();
    if spaces == 0 { Ok(Vec::new()) } else { Ok(vec![format!("the header starts with white space ({spaces} bytes)")]) }
}

/// The indices of `tensors` in the order of names; fails on equal ones.
fn names(file: &Path, text: &str, tensors: &[TensorInfo]) -> Result<Vec<u32>> {
    let name = |i: u32| tensors.get(i as usize).map_or("", |t| t.name.as_str());
    let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
    order.sort_by_key(|&i| name(i));
    for pair in order.windows(2) {
        if let &[a, b] = pair
            && name(a) == name(b)
        {
            let mut error = FormatError::new(file, FormatErrorKind::Duplicate).item(quote::tensor(name(a)));
            error.at_byte = entries::key_position(text, name(a), 1).map(|at| at + PREFIX as u64);
            return Err(error);
        }
    }
    Ok(order)
}

/// Checks that `tensors`, in order of offset, fill the data without gap or overlap.
fn contiguous(file: &Path, text: &str, tensors: &[TensorInfo], data: Data) -> Result<()> {
    let mut end = data.start;
    let mut before: Option<&TensorInfo> = None;
    for tensor in tensors {
        let begin = tensor.range.start as u64;
        if begin != end {
            let [begin, end] = [begin - data.start, end - data.start];
            let previous =
                before.map_or("the start of the data".to_owned(), |t| format!("the end of {}", quote::tensor(&t.name)));
            let found = if begin < end {
                format!("data_offsets begin at {begin}, an overlap of {} bytes with {previous} at {end}", end - begin)
            } else {
                format!("data_offsets begin at {begin}, a gap of {} bytes after {previous} at {end}", begin - end)
            };
            let kind = FormatErrorKind::Found { found, expected: format!("{end}") };
            let mut error = FormatError::new(file, kind).item(quote::tensor(&tensor.name));
            error.at_byte = entries::key_position(text, &tensor.name, 0).map(|at| at + PREFIX as u64);
            return Err(error);
        }
        end = tensor.range.end as u64;
        before = Some(tensor);
    }
    if end == data.end {
        return Ok(());
    }
    let kind =
        FormatErrorKind::Length { what: "the tensor data", found: data.end - data.start, expected: end - data.start };
    let mut error = FormatError::new(file, kind).at(end.min(data.end));
    error.item = before.map(|t| format!("after the last {}", quote::tensor(&t.name)));
    error.hint = Some(if end > data.end {
        "the file is cut short: download or copy it again"
    } else {
        "something was appended to the file"
    });
    Err(error)
}
