//! What can be wrong with a file: one kind per rule that a file can break.

use std::fmt;
use std::path::{Path, PathBuf};

/// A file that cannot be read as what it should be, with the place and the rule.
///
/// Shown as `model.safetensors: tensor "h.0.weight": data_offsets [0, 4] are 4 bytes, I32 [2, 2] needs 16 (at byte 37)`.
#[derive(Debug)]
pub struct FormatError {
    /// The file, as it was given.
    pub file: PathBuf,
    /// The tensor, key or field that breaks the rule, as in `tensor "x"` or `field "num_hidden_layers"`.
    pub item: Option<String>,
    /// Offset in the file where the fault was found.
    pub at_byte: Option<u64>,
    /// The rule that is broken.
    pub kind: FormatErrorKind,
    /// What to do, when there is something to do.
    pub hint: Option<&'static str>,
}

/// The rule that a file breaks. Each variant says what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatErrorKind {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Not a regular file (a directory, a pipe, a device).
    #[error("is {found}, expected a regular file")]
    NotAFile {
        /// What it is instead.
        found: &'static str,
    },
    /// A declared number asks for more than the file holds, or a limit allows.
    #[error("declares {found} {what}, at most {most} possible")]
    TooMany {
        /// What is counted: keys, tensors, elements, bytes.
        what: &'static str,
        /// The declared number.
        found: u64,
        /// The most that the remaining bytes or the limit allow.
        most: u64,
    },
    /// The file ends inside something.
    #[error("needs {need} more bytes, the file has {have}")]
    EndsInside {
        /// Bytes that must follow.
        need: u64,
        /// Bytes that are left.
        have: u64,
    },
    /// A required key or entry is absent.
    #[error("is missing; expected {expected}")]
    Absent {
        /// What it should hold.
        expected: &'static str,
    },
    /// The same name stands twice.
    #[error("occurs twice: first as entry {first}, again as entry {again}")]
    Twice {
        /// Position of the first, counted from 0.
        first: usize,
        /// Position of the second.
        again: usize,
    },
    /// A value of another type than the key asks for.
    #[error("is {found}, expected {expected}")]
    OfType {
        /// The type that was found, with the value when it is short.
        found: String,
        /// The type that the key must have.
        expected: &'static str,
    },
    /// A name or number outside the list of those that can be read.
    #[error("{found} is not supported; supported: {known}")]
    NotSupported {
        /// What the file asks for.
        found: String,
        /// The ones that work.
        known: String,
    },
    /// Something else is wrong with the bytes; only for text that names found and expected.
    #[error("{found}; expected {expected}")]
    Found {
        /// What the file holds.
        found: String,
        /// What the format asks for.
        expected: String,
    },
    /// A declared number is beyond what is read at all.
    #[error("{what} is {found}, the limit is {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The declared number.
        found: u64,
        /// The largest number that is read.
        limit: u64,
    },
    /// The file or a part of it has another length than it should.
    #[error("{what} is {found} bytes, {expected} expected: {} bytes {}", .found.abs_diff(*.expected), if .found < .expected { "missing" } else { "too many" })]
    Length {
        /// Which part was measured.
        what: &'static str,
        /// Bytes that are there.
        found: u64,
        /// Bytes that should be there.
        expected: u64,
    },
    /// A name that must be unique is given more than once.
    #[error("occurs twice")]
    Duplicate,
    /// Valid, but pare does not handle it.
    #[error("{found} is not supported; supported: {supported}")]
    Unsupported {
        /// What the file asks for.
        found: String,
        /// What is handled.
        supported: Box<str>,
    },
    /// Not JSON, or not JSON of the shape that is read.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// Another process changed the file after it was opened.
    #[error("changed while reading: {0}")]
    Changed(String),
    /// A file name inside a model leads out of the model's directory.
    #[error("{found} escapes the model directory")]
    Escapes {
        /// The name, quoted.
        found: String,
    },
    /// The small text file that Git LFS leaves in place of the content.
    #[error("this is a Git LFS pointer, the content was not downloaded")]
    LfsPointer,
    /// An HTML page where a model file should be.
    #[error("this is an HTML page, not a model file: the download failed or needs a login")]
    HtmlPage,
    /// The weights are there only as Python pickles, which run code when they are opened.
    #[error("the weights are only there as Python pickle files ({0}), which run code when opened and are never read")]
    Pickle(String),
    /// The tensors that are present are not those that the configuration asks for.
    #[error("tensor names do not match config.json: {0}")]
    Names(String),
    /// The output is there already.
    #[error("exists already and is not empty; nothing was written")]
    Exists,
    /// The output is there already, and only what pare wrote is replaced.
    #[error("{found}; nothing was written")]
    NotOurs {
        /// What is there, and how it is known to be somebody else's.
        found: String,
    },
    /// Another process is writing the same output.
    #[error("is being written by process {0}")]
    Locked(u32),
    /// The output is one of the inputs.
    #[error("is also an input ({0}); nothing was written")]
    SameFile(String),
    /// The operating system refused to write.
    #[error("cannot write: {0}")]
    Write(#[source] std::io::Error),
}

/// Result of reading a file.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;

impl FormatError {
    /// An error of `kind` in `file`.
    pub fn new(file: impl AsRef<Path>, kind: impl Into<FormatErrorKind>) -> Self {
        Self { file: file.as_ref().to_owned(), item: None, at_byte: None, kind: kind.into(), hint: None }
    }

    /// Names the tensor, key or field.
    #[must_use]
    pub fn item(mut self, item: impl Into<String>) -> Self {
        self.item = Some(item.into());
        self
    }

    /// Says where in the file.
    #[must_use]
    pub fn at(mut self, byte: u64) -> Self {
        self.at_byte = Some(byte);
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(item) = &self.item {
            write!(f, "{item}: ")?;
        }
        write!(f, "{}", self.kind)?;
        if let Some(at) = self.at_byte {
            write!(f, " (at byte {at})")?;
        }
        if let Some(hint) = self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FormatError {}
