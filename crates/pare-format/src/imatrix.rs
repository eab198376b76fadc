//! Importance matrices of llama.cpp: how large the inputs of each matrix are, in GGUF and in the binary form before it.
//!
//! Source: tools/imatrix/imatrix.cpp of llama.cpp. In GGUF a matrix `NAME` has the tensors `NAME.in_sum2` `[1, in]`, sums of squared inputs,
//! and `NAME.counts` `[1, 1]`, the inputs that were summed, both in f32, perhaps also `NAME.in_sum`, plain sums. The binary form has, in
//! little endian, the number of entries; of each the length of its name, the name, the number of chunks, of values, and the values, each the
//! mean square times the chunks; behind them the chunks of the whole, and the length and name of the text. Integers have 32 bits with sign.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::gguf::{Array, Cursor, GgmlType, Gguf, GgufTensor, GgufWriter, Strings, TensorSpec, Value};
use crate::map::MappedFile;
use crate::quote::{quoted, tensor};
use crate::write::GGUF_KEY;
use crate::{FormatError, FormatErrorKind as Kind, Result, sniff};

/// Ends of the names of tensors.
const SQUARES: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// Plain sums, which newer files hold too. They say nothing of importance.
const PLAIN: &str = ".in_sum";
/// The keys.
const TYPE: &str = "general.type";
const DATASETS: &str = "imatrix.datasets";
const CHUNKS: &str = "imatrix.chunk_count";
const CHUNK_TOKENS: &str = "imatrix.chunk_size";
/// What [`TYPE`] says.
const IMATRIX: &str = "imatrix";
/// Fewest bytes of an entry of the binary form: three numbers, one byte of name, one value.
const LEAST_ENTRY: u64 = 4 + 1 + 4 + 4 + 4;
/// Longest name of a tensor in the binary form.
const NAME: u64 = 1024;
const HINT: &str = "give an importance matrix that `pare imatrix` or llama-imatrix wrote";

/// An importance matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// The inputs of each matrix, by its name in GGUF, as in `blk.0.attn_q.weight`.
    pub entries: BTreeMap<String, Inputs>,
    /// Names of the texts; the binary form keeps the last.
    pub texts: Vec<String>,
    /// Chunks of text.
    pub chunks: u32,
    /// Tokens of a chunk; 0 where that is not known, as in the binary form.
    pub chunk_tokens: u32,
}

/// What was summed of the inputs of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// Sum of the squares of each input, `[in]`, finite and not negative.
    pub squares: Vec<f32>,
    /// Over how many inputs it is; in the binary form over how many chunks of them. 0: nothing was seen.
    pub count: f32,
}

/// How an importance matrix is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImatrixFormat {
    /// GGUF, as llama.cpp writes it since August 2025.
    Gguf,
    /// The binary form, which every version reads.
    Binary,
}

impl Inputs {
    /// The mean square of each input, `[in]`; none when nothing was seen.
    #[must_use]
    pub fn means(&self) -> Option<Vec<f32>> {
        (self.count > 0.0).then(|| self.squares.iter().map(|&sum| sum / self.count).collect())
    }
}

impl Imatrix {
    /// Reads the file at `path`, in either form.
    ///
    /// # Errors
    /// `Io`; what is wrong with the file; a number that is not finite or negative; a matrix of experts.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = MappedFile::open(path)?;
        Self::parse(file.path(), file.bytes())
    }

    /// Reads `bytes`, a whole file that messages call `file`.
    ///
    /// # Errors
    /// As [`Imatrix::open`].
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"GGUF") {
            return from_gguf(&Gguf::parse(file, bytes)?, bytes);
        }
        let explain = |error: FormatError| {
            let head = bytes.get(..bytes.len().min(sniff::SNIFF_BYTES)).unwrap_or_default();
            sniff::explain(error.hint(HINT), head)
        };
        from_binary(Cursor::new(file, bytes)).map_err(explain)
    }

    /// The bytes of a file that messages call `file`.
    ///
    /// # Errors
    /// A name or a length that the form cannot hold.
    pub fn to_bytes(&self, file: &Path, form: ImatrixFormat) -> Result<Vec<u8>> {
        match form {
            ImatrixFormat::Gguf => self.to_gguf(file),
            ImatrixFormat::Binary => self.to_binary(file),
        }
    }

    fn to_gguf(&self, file: &Path) -> Result<Vec<u8>> {
        let metadata = [
            (TYPE.to_owned(), Value::text(IMATRIX)),
            (GGUF_KEY.to_owned(), Value::text(env!("CARGO_PKG_VERSION"))),
            (DATASETS.to_owned(), Value::Array(Array::Str(self.texts.iter().collect::<Strings>()))),
            (CHUNKS.to_owned(), Value::U32(self.chunks)),
            (CHUNK_TOKENS.to_owned(), Value::U32(self.chunk_tokens)),
        ];
        let spec = |name: &str, end: &str, width: usize| TensorSpec {
            name: format!("{name}{end}"),
            ggml_type: GgmlType::F32,
            shape: vec![width, 1],
        };
        let specs: Vec<TensorSpec> = self
            .entries
            .iter()
            .flat_map(|(name, inputs)| [spec(name, SQUARES, inputs.squares.len()), spec(name, COUNTS, 1)])
            .collect();
        let mut writer = GgufWriter::new(file, Vec::new(), &metadata, &specs)?;
        for (name, inputs) in &self.entries {
            writer.tensor(&format!("{name}{SQUARES}"), &little_endian(&inputs.squares))?;
            writer.tensor(&format!("{name}{COUNTS}"), &inputs.count.to_le_bytes())?;
        }
        writer.finish()
    }

    fn to_binary(&self, file: &Path) -> Result<Vec<u8>> {
        let number = |what: &'static str, value: usize| {
            let limit = i32::MAX as u64;
            let large = || FormatError::new(file, Kind::TooLarge { what, found: value as u64, limit });
            i32::try_from(value).map(i32::to_le_bytes).map_err(|_| large())
        };
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend(number("a name", text.len())?);
            out.extend(text.as_bytes());
            Ok::<_, FormatError>(())
        };
        // An entry without data has no place there: readers divide by its chunks.
        let entries = || self.entries.iter().filter(|(_, inputs)| inputs.count > 0.0);
        let mut out = number("entries", entries().count())?.to_vec();
        for (name, inputs) in entries() {
            text(&mut out, name)?;
            let of_chunk = if self.chunk_tokens == 0 { 1.0 } else { self.chunk_tokens as f32 };
            let chunks = (inputs.count / of_chunk).ceil();
            out.extend(number("chunks", chunks as usize)?);
            out.extend(number("values", inputs.squares.len())?);
            let values: Vec<f32> = inputs.squares.iter().map(|&sum| sum / inputs.count * chunks).collect();
            out.extend(little_endian(&values));
        }
        out.extend(number("chunks", self.chunks as usize)?);
        text(&mut out, self.texts.last().map_or("", String::as_str))?;
        Ok(out)
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The values of `bytes`, all of them finite and not negative.
fn sound(values: &[u8], item: &str, fail: impl Fn(Kind) -> FormatError) -> Result<Vec<f32>> {
    let values: Vec<f32> = values.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    match values.iter().position(|value| !(value.is_finite() && *value >= 0.0)) {
        None => Ok(values),
        Some(at) => {
            let found = format!("value {at} is {}", values.get(at).copied().unwrap_or(f32::NAN));
            Err(fail(Kind::Found { found, expected: "finite numbers from 0 on".into() }).item(item))
        }
    }
}

fn from_gguf(gguf: &Gguf, bytes: &[u8]) -> Result<Imatrix> {
    let fail = |kind: Kind| FormatError::new(gguf.file(), kind);
    let found = |item: String, found: String, expected: &str| {
        Err(fail(Kind::Found { found, expected: expected.into() }).item(item).hint(HINT))
    };
    let kind = gguf.opt_str(TYPE)?;
    if kind != Some(IMATRIX) {
        let said = kind.map_or("nothing".to_owned(), quoted);
        return found(format!("field {TYPE:?}"), said, "\"imatrix\"");
    }
    let numbers =
        |found: &GgufTensor| sound(bytes.get(found.range.clone()).unwrap_or_default(), &tensor(&found.name), fail);
    let mut imatrix = Imatrix {
        chunks: gguf.opt_u32(CHUNKS)?.unwrap_or(0),
        chunk_tokens: gguf.opt_u32(CHUNK_TOKENS)?.unwrap_or(0),
        ..Imatrix::default()
    };
    if let Some(texts) = gguf.opt_strings(DATASETS)? {
        imatrix.texts = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    }
    for own in gguf.tensors() {
        let item = || tensor(&own.name);
        let name = [SQUARES, COUNTS, PLAIN].iter().find_map(|end| own.name.strip_suffix(end));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return found(item(), "another tensor".into(), "names that end in .in_sum2, .counts or .in_sum");
        };
        if own.ggml_type != GgmlType::F32 {
            return found(item(), own.ggml_type.name().into(), "F32");
        }
        let [matrices, width] = own.out_in();
        if matrices != 1 || (own.name.ends_with(COUNTS) && width != 1) {
            return found(item(), format!("the shape {:?}, several matrices", own.shape), "one matrix: no experts");
        }
        let sibling = |end: &str| gguf.tensor(&format!("{name}{end}"));
        let (Some(squares), Some(counts)) = (sibling(SQUARES), sibling(COUNTS)) else {
            return found(item(), "a part of an entry".into(), "both .in_sum2 and .counts");
        };
        let expected = squares.out_in();
        if own.name.ends_with(PLAIN) && own.out_in() != expected {
            return found(item(), format!("{width} values"), &format!("{} as in .in_sum2", expected[1]));
        }
        if own.name.ends_with(SQUARES) {
            let count = numbers(counts)?.first().copied().unwrap_or(0.0);
            imatrix.entries.insert(name.to_owned(), Inputs { squares: numbers(squares)?, count });
        }
    }
    if imatrix.entries.is_empty() {
        return Err(fail(Kind::Absent { expected: "at least one matrix" }).item("tensors").hint(HINT));
    }
    Ok(imatrix)
}

/// A declared length, compared with what `each` bytes per item leave room for and with a limit.
fn length(cursor: &mut Cursor<'_>, what: &'static str, each: u64, most: u64) -> Result<u64> {
    let before = cursor.at() as u64;
    let declared = cursor.i32()?;
    // Chunks take no bytes.
    let most = cursor.left().checked_div(each).unwrap_or(u64::MAX).min(most);
    let file = cursor.file();
    match u64::try_from(declared) {
        Ok(found) if found <= most => Ok(found),
        Ok(found) => Err(FormatError::new(file, Kind::TooMany { what, found, most }).at(before)),
        Err(_) => {
            let kind = Kind::Found { found: format!("{declared} {what}"), expected: "a number from 0 on".into() };
            Err(FormatError::new(file, kind).at(before))
        }
    }
}

fn from_binary(mut cursor: Cursor<'_>) -> Result<Imatrix> {
    let mut imatrix = Imatrix::default();
    let count = length(&mut cursor, "entries", LEAST_ENTRY, u64::MAX)?;
    if count == 0 {
        return Err(cursor.found("no entries", "at least one matrix"));
    }
    for index in 0..count {
        let numbered = |error: FormatError| error.item(format!("entry {index}"));
        let len = length(&mut cursor, "bytes of a name", 1, NAME).map_err(numbered)?;
        let name = cursor.take(len).map_err(numbered)?;
        let name =
            std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.chars().any(char::is_control));
        let Some(name) = name else {
            return Err(numbered(cursor.found("a name that is no text", "the name of a tensor")));
        };
        let own = |error: FormatError| error.item(tensor(name));
        let chunks = length(&mut cursor, "chunks", 0, u64::MAX).map_err(own)?;
        let values = length(&mut cursor, "values", 4, u64::MAX).map_err(own)?;
        if values == 0 {
            return Err(own(cursor.found("no values", "one for each input")));
        }
        let bytes = cursor.take(values.saturating_mul(4)).map_err(own)?;
        let squares = sound(bytes, &tensor(name), |kind| FormatError::new(cursor.file(), kind))?;
        if imatrix.entries.insert(name.to_owned(), Inputs { squares, count: chunks as f32 }).is_some() {
            return Err(own(FormatError::new(cursor.file(), Kind::Duplicate)));
        }
    }
    if cursor.left() > 0 {
        imatrix.chunks = length(&mut cursor, "chunks", 0, u64::MAX).map_err(|error| error.item("all chunks"))? as u32;
    }
    if cursor.left() > 0 {
        let len = length(&mut cursor, "bytes of a name", 1, u64::MAX).map_err(|error| error.item("the text's name"))?;
        let text = String::from_utf8_lossy(cursor.take(len)?).into_owned();
        imatrix.texts.extend(Some(text).filter(|text| !text.is_empty()));
    }
    if cursor.left() > 0 {
        return Err(cursor.found(format!("{} bytes behind the text's name", cursor.left()), "the end of the file"));
    }
    Ok(imatrix)
}
