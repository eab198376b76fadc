//! Values as a file holds them, row by row, decoded when they are used. Loading costs nothing but the map.

use crate::weight::{Exact, Weight, Workspace};
use pare_format::map::Bytes;
use pare_kernels::blocks::{BlockType, ReadType, RowType};
use pare_kernels::pool::Pool;
use pare_kernels::rows::{RowSource, multiply_rows};
use std::sync::{Arc, OnceLock};

/// How a file encodes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE single precision, little endian.
    F32,
    /// IEEE half precision, little endian.
    F16,
    /// bfloat16, little endian.
    Bf16,
    /// A GGUF block format.
    Block(BlockType),
    /// A GGUF block format without an encoder.
    Read(ReadType),
}

impl Element {
    /// The same as the kernels call it.
    pub fn row_type(self) -> RowType {
        match self {
            Self::F32 => RowType::F32,
            Self::F16 => RowType::F16,
            Self::Bf16 => RowType::Bf16,
            Self::Block(block) => RowType::Blocks(block),
            Self::Read(block) => RowType::Read(block),
        }
    }

    /// Every block format.
    pub fn quantised() -> impl Iterator<Item = Self> {
        BlockType::ALL.into_iter().map(Self::Block).chain(ReadType::ALL.into_iter().map(Self::Read))
    }

    /// Whether its values went through a quantiser.
    pub fn is_quantised(self) -> bool {
        matches!(self, Self::Block(_) | Self::Read(_))
    }

    /// Values and bytes of the smallest piece that can be decoded alone.
    fn piece(self) -> (usize, usize) {
        (self.row_type().values_per_block(), self.row_type().bytes_per_block())
    }

    /// Bytes of `values` numbers; none when they are no whole number of blocks.
    pub fn bytes_of(self, values: usize) -> Option<usize> {
        let (per_piece, bytes) = self.piece();
        if !values.is_multiple_of(per_piece) {
            return None;
        }
        (values / per_piece).checked_mul(bytes)
    }

    /// Short name, as in `f16`, `q4_1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Block(block) => block.name(),
            Self::Read(block) => block.name(),
        }
    }
}

/// A weight `[out, in]` in the bytes of a file.
#[derive(Clone, Debug)]
pub struct Stored {
    element: Element,
    shape: [usize; 2],
    bytes: Bytes,
    /// Row `o` of the weight is row `order[o]` of the file, when the file keeps another order.
    order: Option<Arc<[u32]>>,
    hash: Arc<OnceLock<[u8; 32]>>,
}

impl Stored {
    /// Takes `bytes` as a `[out, in]` matrix; none when they are too few or too many, or a row is no whole number of blocks.
    pub fn new(element: Element, shape: [usize; 2], bytes: Bytes) -> Option<Self> {
        let row_bytes = element.bytes_of(shape[1])?;
        (row_bytes.checked_mul(shape[0])? == bytes.len()).then(|| Self {
            element,
            shape,
            bytes,
            order: None,
            hash: Arc::default(),
        })
    }

    /// The same weight with its rows in another order: row `o` becomes what was row `order[o]`.
    ///
    /// # Panics
    /// When `order` does not name every row: a programmer's mistake.
    #[must_use]
    #[track_caller]
    pub fn with_row_order(mut self, order: Arc<[u32]>) -> Self {
        assert_eq!(order.len(), self.shape[0], "one entry per row");
        self.order = Some(order);
        self.hash = Arc::default();
        self
    }

    /// The weight with only these rows, their bytes as they are.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn keep_rows(&self, rows: &[usize]) -> Self {
        let bytes: Vec<u8> = rows.iter().flat_map(|&row| self.row_bytes(row)).copied().collect();
        Self {
            element: self.element,
            shape: [rows.len(), self.shape[1]],
            bytes: bytes.into(),
            order: None,
            hash: Arc::default(),
        }
    }

    /// The bytes of row `row`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row_bytes(&self, row: usize) -> &[u8] {
        let row = self.order.as_ref().map_or(row, |order| order[row] as usize);
        let (per_piece, bytes) = self.element.piece();
        let length = self.shape[1] / per_piece * bytes;
        &self.bytes[row * length..(row + 1) * length]
    }

    /// Where who hashes the rows keeps what came out: they never change, and reading a file once is enough.
    pub fn hash(&self) -> &OnceLock<[u8; 32]> {
        &self.hash
    }

    /// How the file encodes the numbers.
    pub fn element(&self) -> Element {
        self.element
    }
}

impl RowSource for Stored {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn decode(&self, row: usize, start: usize, out: &mut [f32]) {
        let (per_piece, bytes) = self.element.piece();
        let first = start / per_piece * bytes;
        self.element.row_type().decode(&self.row_bytes(row)[first..first + out.len() / per_piece * bytes], out);
    }
}

impl Weight for Stored {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], _: &mut Workspace, pool: &Pool) {
        multiply_rows(self, x, y, pool);
    }

    fn as_stored(&self) -> Option<&Stored> {
        Some(self)
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.decode(row, 0, out);
    }

    fn stays(&self) -> bool {
        matches!(self.element, Element::Read(_))
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn name(&self) -> &'static str {
        self.element.name()
    }

    fn exact_in(&self) -> Exact {
        match self.element {
            Element::F16 => Exact::F16,
            Element::Bf16 => Exact::Bf16,
            Element::F32 | Element::Block(_) | Element::Read(_) => Exact::F32,
        }
    }
}
