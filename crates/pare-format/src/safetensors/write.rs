//! Writes a safetensors file as a stream: the header from the list of tensors, then their data in the same order.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use super::Dtype;
use super::header::{METADATA, PREFIX, check_name};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::text::push_string;
use crate::{limits, quote};

/// Values converted at a time.
const CHUNK: usize = 16_384;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Bytes of the tensor in `file`.
    ///
    /// # Errors
    /// `Found` when the size overflows or is not a whole number of bytes.
    pub fn bytes(&self, file: &Path) -> Result<u64> {
        self.dtype.bytes(&self.shape).ok_or_else(|| self.overflow(file))
    }

    pub(crate) fn overflow(&self, file: &Path) -> FormatError {
        let kind = FormatErrorKind::Found {
            found: format!("{} {:?} has no size in bytes", self.dtype, self.shape),
            expected: "a whole number of bytes below 2^64".into(),
        };
        FormatError::new(file, kind).item(quote::tensor(&self.name))
    }
}

/// Writes one safetensors file to `W`.
///
/// The data of the tensors follow in the order in which they were declared, each in as many pieces as the caller likes.
#[derive(Debug)]
pub struct SafetensorsWriter<W> {
    file: PathBuf,
    out: W,
    tensors: Vec<TensorSpec>,
    current: usize,
    missing: u64,
}

impl<W: Write> SafetensorsWriter<W> {
    /// Writes the header for `tensors` to `out`; `file` is named in errors. The entry `format: pt`, which other tools ask for, is added to
    /// `metadata` when it is not there.
    ///
    /// # Errors
    /// `Duplicate`, `TooLarge` or `Found` for a name, shape or number of tensors that the format does not allow; `Write`.
    pub fn new(
        file: impl AsRef<Path>,
        out: W,
        tensors: Vec<TensorSpec>,
        metadata: &[(String, String)],
    ) -> Result<Self> {
        let file = file.as_ref().to_owned();
        let header = header(&file, &tensors, metadata)?;
        let mut writer = Self { file, out, tensors, current: 0, missing: 0 };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(header.as_bytes())?;
        writer.missing = writer.size_of_current()?;
        writer.skip_full()?;
        Ok(writer)
    }

    /// Appends `bytes` to the data; they may go on into the next tensors.
    ///
    /// # Errors
    /// `Length` when they are more than the declared tensors hold, `Write` when the system refuses.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.current >= self.tensors.len() {
                return Err(self.excess(bytes.len() as u64));
            }
            let now = usize::try_from(self.missing).unwrap_or(usize::MAX).min(bytes.len());
            let (piece, rest) = bytes.split_at(now);
            self.put(piece)?;
            self.missing -= now as u64;
            bytes = rest;
            self.skip_full()?;
        }
        Ok(())
    }

    /// Appends `values` to the current tensor as its type: F32, F16 or BF16, rounded to nearest, ties to even.
    ///
    /// # Errors
    /// `Found` for a finite value that the type can only hold as an infinity, or for another type, naming the tensor; else as
    /// [`SafetensorsWriter::write`].
    pub fn write_f32(&mut self, values: &[f32]) -> Result<()> {
        let mut bytes = Vec::with_capacity(values.len().min(CHUNK) * 4);
        for chunk in values.chunks(CHUNK) {
            let Some(tensor) = self.tensors.get(self.current) else { return Err(self.excess(chunk.len() as u64 * 4)) };
            if chunk.len() as u64 > self.missing / (tensor.dtype.bits() / 8).max(1) {
                let what = "data for the current tensor";
                let found = chunk.len() as u64 * (tensor.dtype.bits() / 8);
                let kind = FormatErrorKind::Length { what, found, expected: self.missing };
                return Err(FormatError::new(&self.file, kind).item(quote::tensor(&tensor.name)));
            }
            bytes.clear();
            let fault = |kind| FormatError::new(&self.file, kind).item(quote::tensor(&tensor.name));
            match encode(tensor.dtype, chunk, &mut bytes) {
                Ok(()) => {}
                Err(Refused::Type) => {
                    return Err(fault(FormatErrorKind::Unsupported {
                        found: format!("writing f32 values as {}", tensor.dtype),
                        supported: "F32, F16, BF16".into(),
                    }));
                }
                Err(Refused::Overflow(value)) => {
                    return Err(fault(FormatErrorKind::Found {
                        found: format!("the value {value:e} becomes infinite in {}", tensor.dtype),
                        expected: "values that the type can hold (write the tensor as F32 or BF16)".into(),
                    }));
                }
            }
            self.write(&bytes)?;
        }
        Ok(())
    }

    /// Position in the declared list of the tensor that the next bytes belong to.
    #[must_use]
    pub fn current(&self) -> usize {
        self.current
    }

    /// Flushes and returns the output.
    ///
    /// # Errors
    /// `Length` when data are missing, naming the tensor; `Write`.
    pub fn finish(mut self) -> Result<W> {
        if let Some(tensor) = self.tensors.get(self.current) {
            let expected = tensor.bytes(&self.file)?;
            let kind = FormatErrorKind::Length { what: "its data", found: expected - self.missing, expected };
            return Err(FormatError::new(&self.file, kind).item(quote::tensor(&tensor.name)));
        }
        self.out.flush().map_err(|error| FormatError::new(&self.file, FormatErrorKind::Write(error)))?;
        Ok(self.out)
    }

    fn excess(&self, found: u64) -> FormatError {
        let kind = FormatErrorKind::Length { what: "data after the last tensor", found, expected: 0 };
        FormatError::new(&self.file, kind)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| FormatError::new(&self.file, FormatErrorKind::Write(error)))
    }

    fn size_of_current(&self) -> Result<u64> {
        self.tensors.get(self.current).map_or(Ok(0), |tensor| tensor.bytes(&self.file))
    }

    fn skip_full(&mut self) -> Result<()> {
        while self.missing == 0 && self.current < self.tensors.len() {
            self.current += 1;
            self.missing = self.size_of_current()?;
        }
        Ok(())
    }
}

enum Refused {
    Type,
    Overflow(f32),
}

fn encode(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) -> Result<(), Refused> {
    let overflow =
        |value: f32, infinite: bool| if infinite && value.is_finite() { Err(Refused::Overflow(value)) } else { Ok(()) };
    match dtype {
        Dtype::F32 => values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Dtype::F16 => {
            for &value in values {
                let narrow = f16::from_f32(value);
                overflow(value, narrow.is_infinite())?;
                out.extend_from_slice(&narrow.to_le_bytes());
            }
        }
        Dtype::BF16 => {
            for &value in values {
                let narrow = bf16::from_f32(value);
                overflow(value, narrow.is_infinite())?;
                out.extend_from_slice(&narrow.to_le_bytes());
            }
        }
        _ => return Err(Refused::Type),
    }
    Ok(())
}

/// The header's JSON, padded with spaces so that the data start at a multiple of 8.
fn header(file: &Path, tensors: &[TensorSpec], metadata: &[(String, String)]) -> Result<String> {
    let error = |tensor: &TensorSpec, kind| Err(FormatError::new(file, kind).item(quote::tensor(&tensor.name)));
    let found = tensors.len() as u64;
    if found > limits::TENSORS {
        let kind = FormatErrorKind::TooLarge { what: "number of tensors", found, limit: limits::TENSORS };
        return Err(FormatError::new(file, kind));
    }
    let mut keys = BTreeSet::new();
    let mut json = format!("{{\"{METADATA}\":{{");
    let format = ("format".to_owned(), "pt".to_owned());
    let missing = (!metadata.iter().any(|(key, _)| *key == format.0)).then_some(&format);
    for (i, (key, value)) in missing.into_iter().chain(metadata).enumerate() {
        if !keys.insert(key.as_str()) {
            let item = format!("{METADATA}: key {}", quote::quoted(key));
            return Err(FormatError::new(file, FormatErrorKind::Duplicate).item(item));
        }
        json.push_str(if i > 0 { "," } else { "" });
        push_string(&mut json, key);
        json.push(':');
        push_string(&mut json, value);
    }
    json.push('}');
    let mut names = BTreeSet::from([METADATA]);
    let mut end = 0_u64;
    for tensor in tensors {
        if !names.insert(tensor.name.as_str()) {
            return error(tensor, FormatErrorKind::Duplicate);
        }
        if let Err(kind) = check_name(&tensor.name) {
            return error(tensor, kind);
        }
        let (found, limit) = (tensor.shape.len() as u64, limits::RANK);
        if found > limit {
            return error(tensor, FormatErrorKind::TooLarge { what: "number of dimensions", found, limit });
        }
        if let Some(found) = tensor.shape.iter().map(|&d| d as u64).find(|&d| d > limits::DIMENSION) {
            return error(tensor, FormatErrorKind::TooLarge { what: "dimension", found, limit: limits::DIMENSION });
        }
        let begin = end;
        end = end.checked_add(tensor.bytes(file)?).ok_or_else(|| tensor.overflow(file))?;
        json.push(',');
        push_string(&mut json, &tensor.name);
        let shape = tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        json.push_str(&format!(
            ":{{\"dtype\":\"{}\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]}}",
            tensor.dtype
        ));
    }
    json.push('}');
    let padding = (PREFIX + json.len()).next_multiple_of(8) - PREFIX - json.len();
    json.push_str(&" ".repeat(padding));
    let found = json.len() as u64;
    if found > limits::HEADER_BYTES {
        let kind = FormatErrorKind::TooLarge { what: "header length", found, limit: limits::HEADER_BYTES };
        return Err(FormatError::new(file, kind));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::super::Header;
    use super::*;

    fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
    }

    fn writer(tensors: &[TensorSpec]) -> SafetensorsWriter<Vec<u8>> {
        SafetensorsWriter::new("out.safetensors", Vec::new(), tensors.to_vec(), &[]).unwrap()
    }

    #[test]
    fn converts_to_nearest_even_and_names_an_overflow() {
        let tensors = [
            spec("h", Dtype::F16, &[3]),
            spec("b", Dtype::BF16, &[2]),
            spec("e", Dtype::F32, &[0]),
            spec("f", Dtype::F32, &[1]),
        ];
        let mut out = writer(&tensors);
        // 1 + 2^-11 lies half-way between two halves: the even one is 1; 1 + 3 * 2^-11 goes up to 1 + 2^-9.
        out.write_f32(&[1.0 + 2.0_f32.powi(-11), 1.0 + 3.0 * 2.0_f32.powi(-11), f32::INFINITY]).unwrap();
        out.write_f32(&[1.0 + 2.0_f32.powi(-8), f32::NAN]).unwrap();
        assert_eq!(out.current(), 3);
        out.write_f32(&[-2.5]).unwrap();
        let bytes = out.finish().unwrap();
        let header = Header::read(Path::new("x"), &bytes).unwrap();
        assert!(header.warnings().is_empty() && header.metadata() == [("format".to_owned(), "pt".to_owned())]);
        let data = |name: &str| &bytes[header.get(name).unwrap().range.clone()];
        assert_eq!(data("h"), [0x00, 0x3c, 0x02, 0x3c, 0x00, 0x7c]);
        assert_eq!(&data("b")[..2], [0x80, 0x3f]);
        assert!(bf16::from_le_bytes([data("b")[2], data("b")[3]]).is_nan());
        assert_eq!(data("f"), (-2.5_f32).to_le_bytes());
        assert_eq!(header.get("h").unwrap().range.start % 8, 0);

        for (dtype, value) in [(Dtype::F16, 65_520.0), (Dtype::F16, -1e6), (Dtype::BF16, f32::MAX)] {
            let error = writer(&[spec("w", dtype, &[1])]).write_f32(&[value]).unwrap_err().to_string();
            assert!(error.contains("tensor \"w\"") && error.contains("becomes infinite"), "{error}");
        }
        writer(&[spec("w", Dtype::F16, &[1])]).write_f32(&[65_519.0]).unwrap();
        let error = writer(&[spec("w", Dtype::I8, &[1])]).write_f32(&[1.0]).unwrap_err().to_string();
        assert!(error.contains("f32 values as I8"), "{error}");
    }

    #[test]
    fn too_much_and_too_little_data_are_errors() {
        let tensors = [spec("a", Dtype::F32, &[2]), spec("z", Dtype::U8, &[0])];
        let mut out = writer(&tensors);
        assert!(out.write_f32(&[1.0, 2.0, 3.0]).unwrap_err().to_string().contains("tensor \"a\""));
        out.write(&[0; 7]).unwrap();
        let error = out.finish().unwrap_err().to_string();
        assert!(error.contains("tensor \"a\": its data is 7 bytes, 8 expected: 1 bytes missing"), "{error}");
        let mut out = writer(&tensors);
        assert!(out.write(&[0; 9]).unwrap_err().to_string().contains("after the last tensor"));
        let mut out = writer(&tensors);
        out.write(&[0; 8]).unwrap();
        assert!(out.write_f32(&[0.0]).is_err());
    }

    #[test]
    fn refuses_what_the_format_does_not_allow() {
        let many = vec![1; 9];
        for (tensors, fragment) in [
            (vec![spec("a", Dtype::U8, &[1]), spec("a", Dtype::U8, &[1])], "occurs twice"),
            (vec![spec(METADATA, Dtype::U8, &[1])], "occurs twice"),
            (vec![spec("", Dtype::U8, &[1])], "empty name"),
            (vec![spec("a\n", Dtype::U8, &[1])], "control character"),
            (vec![spec("a", Dtype::U8, &many)], "number of dimensions is 9"),
            (vec![spec("a", Dtype::U8, &[usize::MAX])], "dimension is"),
            (vec![spec("a", Dtype::F4, &[1])], "no size in bytes"),
            (vec![spec("a", Dtype::U8, &[1 << 40, 1 << 30])], "no size in bytes"),
        ] {
            let error = SafetensorsWriter::new("x", Vec::new(), tensors, &[]).unwrap_err().to_string();
            assert!(error.contains(fragment), "{error}");
        }
    }

    /// Fails after a number of bytes, as a full disk does.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.len() > self.0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_reported_with_the_path() {
        let mut out =
            SafetensorsWriter::new("out.safetensors", Full(200), vec![spec("a", Dtype::U8, &[1000])], &[]).unwrap();
        let error = out.write(&[0; 1000]).unwrap_err().to_string();
        assert!(error.contains("out.safetensors") && error.contains("cannot write"), "{error}");
    }
}
