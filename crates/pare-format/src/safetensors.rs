//! Safetensors files: a JSON header that names tensors, then their bytes without gaps.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::{FormatError, FormatErrorKind, Result};
use crate::map::{Bytes, MappedFile, open_regular};
use crate::{quote, sniff};

pub mod dtype;
pub mod header;
pub mod shard;
pub mod write;

pub use dtype::Dtype;
pub use header::{Header, TensorInfo};

/// A tensor with its bytes, little endian, rows first.
#[derive(Debug, Clone)]
pub struct TensorView {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Bytes,
    /// The file that holds them.
    pub file: PathBuf,
}

/// An open safetensors file: its header checked, its data mapped.
#[derive(Debug)]
pub struct SafetensorsFile {
    file: MappedFile,
    header: Header,
}

impl SafetensorsFile {
    /// Opens the file at `path` and checks its header; no tensor is read.
    ///
    /// # Errors
    /// Every rule of the format that the file breaks, with the tensor, both numbers and the byte; `LfsPointer` and `HtmlPage` for what is
    /// often found in its place; `NotAFile`, `Io`, and `Changed` when another process writes to it meanwhile.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, stamp) = open_regular(path)?;
        // Read, not mapped: a file that is truncated at this moment gives an error, not a signal.
        let read = |buffer: &mut [u8]| match (&file).read_exact(buffer) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(FormatError::new(path, FormatErrorKind::Changed("it became shorter".to_owned())))
            }
            Err(error) => Err(FormatError::new(path, error)),
        };
        let mut head = [0; sniff::SNIFF_BYTES];
        let head = head.get_mut(..stamp.len.min(sniff::SNIFF_BYTES as u64) as usize).unwrap_or_default();
        read(head)?;
        let header = header::json_len(path, head, stamp.len).and_then(|len| {
            let (_, start) = head.split_at(header::PREFIX);
            let mut json = vec![0; len];
            let known = len.min(start.len());
            let (first, rest) = json.split_at_mut(known);
            first.copy_from_slice(start.get(..known).unwrap_or_default());
            read(rest)?;
            Header::parse(path, &json, stamp.len)
        });
        let header = header.map_err(|error| sniff::explain(error, head))?;
        Ok(Self { file: MappedFile::map(path, &file, stamp)?, header })
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The mapped file.
    #[must_use]
    pub fn file(&self) -> &MappedFile {
        &self.file
    }

    /// All tensors in the order of their bytes.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        self.header.tensors()
    }

    /// The tensor `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.header.get(name)
    }

    /// The entries of `__metadata__`, in the order of the file.
    #[must_use]
    pub fn metadata(&self) -> &[(String, String)] {
        self.header.metadata()
    }

    /// What is odd but allowed.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.header.warnings()
    }

    /// The tensor `info` of this file with its bytes.
    #[must_use]
    pub fn view(&self, info: &TensorInfo) -> Option<TensorView> {
        let bytes = self.file.bytes().slice(info.range.clone())?;
        Some(TensorView { dtype: info.dtype, shape: info.shape.clone(), bytes, file: self.path().to_owned() })
    }

    /// The tensor `name` with its bytes, when it is there and of a type that pare computes with.
    ///
    /// # Errors
    /// `Found` when there is no such tensor, `Unsupported` for its type.
    pub fn require(&self, name: &str) -> Result<TensorView> {
        let view = self.get(name).and_then(|info| self.view(info));
        supported(self.path(), name, view)
    }

    /// Fails when the file was truncated, written to, replaced or removed since it was opened.
    ///
    /// # Errors
    /// `Changed`, saying what changed.
    pub fn unchanged(&self) -> Result<()> {
        self.file.unchanged()
    }
}

/// `view`, when it is there and of a supported type.
pub(crate) fn supported(file: &Path, name: &str, view: Option<TensorView>) -> Result<TensorView> {
    let Some(view) = view else {
        let kind = FormatErrorKind::Found { found: "is missing".into(), expected: "a tensor of this name".into() };
        return Err(FormatError::new(file, kind).item(quote::tensor(name)));
    };
    if view.dtype.supported() {
        return Ok(view);
    }
    let kind = FormatErrorKind::Unsupported {
        found: format!("dtype {}", view.dtype),
        supported: dtype::names(|dtype| dtype.supported()).into(),
    };
    Err(FormatError::new(&view.file, kind).item(quote::tensor(name)))
}
