//! GGUF files, versions 2 and 3, little endian: metadata, tensor list, data ranges; and a writer for version 3.
//!
//! The reader is a pure function on the file's bytes. It allocates nothing from a declared number before that number was
//! compared with the bytes that remain, and every size is checked arithmetic.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod check;
mod fuzz;
mod get;
mod model;
mod read;
mod split;
mod types;
mod value;
mod write;

pub use check::nonfinite;
pub use fuzz::fuzz;
pub use model::GgufModel;
pub(crate) use read::Cursor;
pub use split::{Split, check_split};
pub use types::GgmlType;
pub use value::{Array, Strings, Value};
pub use write::{GgufWriter, TensorSpec};

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Alignment of tensor data when the file names none, and of every file that is written.
pub const ALIGNMENT: usize = 32;

/// What a file may ask for at most.
pub(crate) mod limit {
    pub(crate) const KEYS: u64 = 65_536;
    pub(crate) const TENSORS: u64 = 1 << 20;
    pub(crate) const NAME: u64 = 1_024;
    pub(crate) const STRING: u64 = 64 << 20;
    pub(crate) const ELEMENTS: u64 = 1 << 28;
    pub(crate) const ALIGNMENT: u64 = 65_536;
    /// Names of this length and more are refused by llama.cpp.
    pub(crate) const NAME_ELSEWHERE: usize = 64;
}

/// A parsed GGUF header: everything but the tensor data itself.
#[derive(Clone, Debug)]
pub struct Gguf {
    file: PathBuf,
    version: u32,
    metadata: Vec<(String, Value)>,
    /// Positions in `metadata`, sorted by key.
    by_key: Vec<usize>,
    tensors: Vec<GgufTensor>,
    /// Positions in `tensors`, sorted by name.
    by_name: Vec<usize>,
    alignment: usize,
    data_start: usize,
    warnings: Vec<String>,
}

/// One tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// Name in the file, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Encoding of the values.
    pub ggml_type: GgmlType,
    /// Dimensions in GGUF order: `shape[0]` is the row length, `in`.
    pub shape: Vec<usize>,
    /// Bytes of the data in the file.
    pub range: Range<usize>,
}

impl GgufTensor {
    /// `[out, in]`: `in` is the row length, `out` the number of rows (1 for a vector).
    pub fn out_in(&self) -> [usize; 2] {
        let row = self.shape.first().copied().unwrap_or(0);
        // The reader has checked that the product fits.
        let rows = self.shape.iter().skip(1).fold(1_usize, |n, &dim| n.saturating_mul(dim));
        [rows, row]
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        let [out, row] = self.out_in();
        out.saturating_mul(row)
    }
}

impl Gguf {
    /// The file that was parsed, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata in file order.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }

    /// All tensors in file order.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        let found = self.by_name.binary_search_by(|&i| self.tensors.get(i).map_or("", |t| t.name.as_str()).cmp(name));
        found.ok().and_then(|at| self.by_name.get(at)).and_then(|&i| self.tensors.get(i))
    }

    /// Alignment of tensor data in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Where the data section starts in the file, in bytes.
    pub fn data_start(&self) -> usize {
        self.data_start
    }

    /// What is odd but readable, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
