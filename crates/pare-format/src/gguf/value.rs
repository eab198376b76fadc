//! Metadata values: the thirteen types of GGUF.

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the format's types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    /// Text; kept as bytes since files in the wild hold other than UTF-8.
    Str(Vec<u8>),
    Array(Array),
}

/// An array of one element type. Arrays of arrays are refused by the reader.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the format's types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Str(Strings),
}

/// Many strings in one buffer: a vocabulary is a quarter of a million of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    /// End of each string in `bytes`.
    ends: Vec<usize>,
}

impl Strings {
    /// Appends one string.
    pub fn push(&mut self, s: &[u8]) {
        self.bytes.extend_from_slice(s);
        self.ends.push(self.bytes.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `i`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let start = i.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start..end)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| self.bytes.get(std::mem::replace(&mut start, end)..end).unwrap_or_default())
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(iter: I) -> Self {
        let mut strings = Self::default();
        iter.into_iter().for_each(|s| strings.push(s.as_ref()));
        strings
    }
}

/// Type ids in the file.
pub(super) mod id {
    pub(crate) const U8: u32 = 0;
    pub(crate) const I8: u32 = 1;
    pub(crate) const U16: u32 = 2;
    pub(crate) const I16: u32 = 3;
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STR: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const U64: u32 = 10;
    pub(crate) const I64: u32 = 11;
    pub(crate) const F64: u32 = 12;
}

impl Value {
    /// A text value.
    pub fn text(s: impl AsRef<str>) -> Self {
        Self::Str(s.as_ref().as_bytes().to_vec())
    }

    /// Name of the type, with the value when it is short: `u32 7`, `array of 3 strings`.
    pub fn describe(&self) -> String {
        match self {
            Self::U8(v) => format!("u8 {v}"),
            Self::I8(v) => format!("i8 {v}"),
            Self::U16(v) => format!("u16 {v}"),
            Self::I16(v) => format!("i16 {v}"),
            Self::U32(v) => format!("u32 {v}"),
            Self::I32(v) => format!("i32 {v}"),
            Self::F32(v) => format!("f32 {v}"),
            Self::U64(v) => format!("u64 {v}"),
            Self::I64(v) => format!("i64 {v}"),
            Self::F64(v) => format!("f64 {v}"),
            Self::Bool(v) => format!("bool {v}"),
            Self::Str(s) => match std::str::from_utf8(s) {
                Ok(text) if text.chars().count() <= 40 => format!("string {text:?}"),
                Ok(_) => format!("string of {} bytes", s.len()),
                Err(e) => format!("string with invalid UTF-8 at byte {}", e.valid_up_to()),
            },
            Self::Array(a) => format!("array of {} {}", a.len(), a.type_name()),
        }
    }

    /// The number, for every integer type in range.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The number, for both float types.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }

    /// The number, for every type that is one; 0 and 1 for false and true.
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Self::I8(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::I64(v) => Some(v as f64),
            Self::Bool(v) => Some(f64::from(u8::from(v))),
            _ => self.as_f64().or(self.as_u64().map(|v| v as f64)),
        }
    }

    pub(super) fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => id::U8,
            Self::I8(_) => id::I8,
            Self::U16(_) => id::U16,
            Self::I16(_) => id::I16,
            Self::U32(_) => id::U32,
            Self::I32(_) => id::I32,
            Self::F32(_) => id::F32,
            Self::U64(_) => id::U64,
            Self::I64(_) => id::I64,
            Self::F64(_) => id::F64,
            Self::Bool(_) => id::BOOL,
            Self::Str(_) => id::STR,
            Self::Array(_) => id::ARRAY,
        }
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::Str(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, as [`Value::as_number`]; none for strings.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        fn all<T: Copy>(values: &[T], number: fn(T) -> f64) -> Option<Vec<f64>> {
            Some(values.iter().map(|&value| number(value)).collect())
        }
        match self {
            Self::U8(v) => all(v, f64::from),
            Self::I8(v) => all(v, f64::from),
            Self::U16(v) => all(v, f64::from),
            Self::I16(v) => all(v, f64::from),
            Self::U32(v) => all(v, f64::from),
            Self::I32(v) => all(v, f64::from),
            Self::F32(v) => all(v, f64::from),
            Self::U64(v) => all(v, |v| v as f64),
            Self::I64(v) => all(v, |v| v as f64),
            Self::F64(v) => all(v, |v| v),
            Self::Bool(v) => all(v, |v| f64::from(u8::from(v))),
            Self::Str(_) => None,
        }
    }

    /// Element type in words.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::Str(_) => "strings",
        }
    }

    pub(super) fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => id::U8,
            Self::I8(_) => id::I8,
            Self::U16(_) => id::U16,
            Self::I16(_) => id::I16,
            Self::U32(_) => id::U32,
            Self::I32(_) => id::I32,
            Self::F32(_) => id::F32,
            Self::U64(_) => id::U64,
            Self::I64(_) => id::I64,
            Self::F64(_) => id::F64,
            Self::Bool(_) => id::BOOL,
            Self::Str(_) => id::STR,
        }
    }
}
