//! The tensors in which a weight is written: itself, or the parts of one of the forms of docs/FORMAT.md.

use super::{Pattern, Source, WriteAs};
use crate::Error;
use crate::export::encode::{self, Chunks, Matrix};
use crate::export::fitting;
use crate::progress::Work;
use pare_format::safetensors::Dtype;
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::blocks::{BlockType, RowType};
use pare_kernels::pool::Pool;
use pare_kernels::product::Product;
use pare_kernels::sparse::{EightRowsParts, SparseError, SparseType, SparseValues, TwoOfFourParts};
use pare_model::storage::{Element, Sparse, SparseMatrix, Stored};
use pare_model::weight::{Composed, Weight};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// How a weight is kept that is not one plain tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The first part of its suffix, as in `q4_k` or `2of4`.
    pub kind: String,
    /// The type of its values, where the kind has several: `f16` or `int8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<&'static str>,
    /// Bytes of all its tensors.
    pub bytes: u64,
}

/// One tensor to be written.
pub(super) struct Tensor<'a> {
    pub(super) spec: TensorSpec,
    /// The weight that it belongs to, when that is not this tensor alone.
    owner: Option<String>,
    data: Data<'a>,
}

/// Where the bytes of a tensor come from.
enum Data<'a> {
    Weight(&'a dyn Weight),
    Vector(&'a [f32]),
    Zeros(usize),
    Diagonal(&'a BlockDiagonal),
    Blocks(&'a dyn Weight, BlockType),
    /// The bytes of a file as they are.
    Stored(&'a Stored),
    /// The part called so of a weight without its zeros.
    Sparse(&'a dyn Weight, Pattern, SparseType, &'static str),
}

/// Every tensor of `list` in the forms that `write_as` asks for.
///
/// # Errors
/// A projection that has not the pattern, or that would not become smaller by it.
pub(super) fn split<'a>(
    list: &[(String, Source<'a>)],
    write_as: WriteAs,
    dtype: Dtype,
    work: Work<'_>,
) -> Result<Vec<Tensor<'a>>, Error> {
    let mut split = Split { write_as, dtype, work, tensors: Vec::new() };
    for (name, source) in list {
        let first = split.tensors.len();
        match *source {
            Source::Vector(values) => split.add(name.clone(), vec![values.len()], Data::Vector(values)),
            Source::Zeros(len) => split.add(name.clone(), vec![len], Data::Zeros(len)),
            Source::Shared(weight) => match write_as {
                WriteAs::Blocks(BlockType::Q6K) => split.blocks(name, weight, BlockType::Q6K),
                WriteAs::Blocks(_) => split.blocks(name, weight, BlockType::Q8_0),
                WriteAs::Kept | WriteAs::AsRead => split.kept(name, weight),
                _ => split.plain(name.clone(), weight),
            },
            Source::Projection(weight) => split.projection(name, weight)?,
        }
        for tensor in &mut split.tensors[first..] {
            tensor.owner = (tensor.spec.name != *name).then(|| name.clone());
        }
    }
    Ok(split.tensors)
}

/// What pare.json says of the weights that are not one plain tensor each.
pub(super) fn summary(tensors: &[Tensor<'_>]) -> BTreeMap<String, Kept> {
    let mut all: BTreeMap<String, Kept> = BTreeMap::new();
    for tensor in tensors {
        let Some(owner) = &tensor.owner else { continue };
        let suffix = tensor.spec.name.strip_prefix(owner.as_str()).unwrap_or_default();
        let kind = suffix.split('.').nth(1).unwrap_or_default().to_owned();
        let values = match tensor.data {
            Data::Sparse(_, _, SparseType::F16, _) if kind == "2of4" || kind == "rows8" => Some("f16"),
            Data::Sparse(_, _, SparseType::Int8, _) if kind == "2of4" || kind == "rows8" => Some("int8"),
            _ => None,
        };
        let kept = all.entry(owner.clone()).or_insert(Kept { kind, values, bytes: 0 });
        kept.bytes += tensor.spec.dtype.bytes(&tensor.spec.shape).unwrap_or(0);
    }
    all
}

struct Split<'a, 'w> {
    write_as: WriteAs,
    /// Of what is plain.
    dtype: Dtype,
    work: Work<'w>,
    tensors: Vec<Tensor<'a>>,
}

impl<'a> Split<'a, '_> {
    fn add(&mut self, name: String, shape: Vec<usize>, data: Data<'a>) {
        self.push(name, self.dtype, shape, data);
    }

    fn push(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, data: Data<'a>) {
        self.tensors.push(Tensor { spec: TensorSpec { name, dtype, shape }, owner: None, data });
    }

    fn plain(&mut self, name: String, weight: &'a dyn Weight) {
        self.add(name, weight.shape().to_vec(), Data::Weight(weight));
    }

    fn blocks(&mut self, name: &str, weight: &'a dyn Weight, ty: BlockType) {
        let [out, inn] = weight.shape();
        match fitting(ty, inn) {
            RowType::Blocks(ty) => {
                let row = inn / ty.values_per_block() * ty.bytes_per_block();
                let name = format!("{name}.{}", ty.name().to_lowercase());
                self.push(name, Dtype::U8, vec![out, row], Data::Blocks(weight, ty));
            }
            _ => self.plain(name.to_owned(), weight),
        }
    }

    /// Blocks that can only be copied.
    fn stored(&mut self, name: &str, weight: &'a dyn Weight, element: Element) {
        let [out, inn] = weight.shape();
        match (weight.as_stored(), element.bytes_of(inn)) {
            (Some(stored), Some(row)) => {
                let name = format!("{name}.{}", element.name().to_lowercase());
                self.push(name, Dtype::U8, vec![out, row], Data::Stored(stored));
            }
            _ => self.plain(name.to_owned(), weight),
        }
    }

    fn kept(&mut self, name: &str, weight: &'a dyn Weight) {
        match weight.as_stored().map(Stored::element) {
            Some(Element::Block(ty)) => self.blocks(name, weight, ty),
            Some(element @ Element::Read(_)) => self.stored(name, weight, element),
            _ => self.plain(name.to_owned(), weight),
        }
    }

    fn projection(&mut self, name: &str, weight: &'a dyn Weight) -> Result<(), Error> {
        match (self.write_as, weight.composed()) {
            (WriteAs::Auto | WriteAs::Type(_), _) => self.plain(name.to_owned(), weight),
            (_, Some(Composed::LowRank(low_rank))) => {
                let (a, b) = low_rank.factors();
                self.plain(format!("{name}.low_rank.a"), a.as_ref());
                self.plain(format!("{name}.low_rank.b"), b.as_ref());
            }
            (_, Some(Composed::Sum(sum))) => {
                for (index, term) in sum.terms().iter().enumerate() {
                    self.projection(&format!("{name}.sum.{index}"), term.as_ref())?;
                }
            }
            (_, Some(Composed::Wrapped(wrapped))) => {
                for (part, diagonal) in ["left", "right"].into_iter().zip(wrapped.diagonals()) {
                    let shape = vec![diagonal.count(), diagonal.size(), diagonal.size()];
                    self.add(format!("{name}.wrapped.{part}"), shape, Data::Diagonal(diagonal));
                }
                self.projection(&format!("{name}.wrapped.core"), wrapped.core().as_ref())?;
            }
            (WriteAs::Kept | WriteAs::AsRead, None) => self.kept(name, weight),
            (WriteAs::Blocks(ty), None) => self.blocks(name, weight, ty),
            (WriteAs::Sparse(pattern, ty), None) => self.sparse(name, weight, pattern, ty)?,
        }
        Ok(())
    }

    /// The parts of a weight without its zeros. They are found here for their lengths and errors, and once more when they are written:
    /// to hold those of a whole model would take as much memory as its file.
    fn sparse(&mut self, name: &str, weight: &'a dyn Weight, pattern: Pattern, ty: SparseType) -> Result<(), Error> {
        self.work.interrupt.check()?;
        let [out, inn] = weight.shape();
        let found = Found::of(name, weight, pattern, ty, self.work.pool)?;
        let shapes = match &found {
            Found::TwoOfFour(_) => {
                let groups = inn.div_ceil(4);
                let scales = vec![out, inn.div_ceil(32)];
                vec![
                    ("positions", Dtype::U8, vec![out, groups.div_ceil(2)]),
                    ("values", value_dtype(ty), vec![out, 2 * groups]),
                    ("scales", Dtype::F16, scales),
                ]
            }
            Found::EightRows(parts) => {
                let scales = match &parts.values {
                    SparseValues::F16(_) => 0,
                    SparseValues::Int8 { scales, .. } => scales.len() / 8,
                };
                vec![
                    ("offsets", Dtype::I64, vec![parts.offsets.len()]),
                    ("columns", Dtype::U16, vec![parts.columns.len()]),
                    ("values", value_dtype(ty), vec![parts.columns.len(), 8]),
                    ("scales", Dtype::F16, vec![scales, 8]),
                ]
            }
        };
        for (part, dtype, shape) in shapes {
            if part != "scales" || ty == SparseType::Int8 {
                let form = form_name(pattern);
                self.push(format!("{name}.{form}.{part}"), dtype, shape, Data::Sparse(weight, pattern, ty, part));
            }
        }
        Ok(())
    }
}

/// Refuses a weight that has not the pattern, or that would not become smaller by it; `name` is for the message.
///
/// # Errors
/// Where it breaks the pattern.
pub(super) fn has_pattern(
    name: &str,
    weight: &dyn Weight,
    (pattern, ty): (Pattern, SparseType),
    work: Work<'_>,
) -> Result<(), Error> {
    Found::of(name, weight, pattern, ty, work.pool).map(|_| ())
}

fn form_name(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::TwoOfFour => "2of4",
        Pattern::EightRows => "rows8",
    }
}

fn value_dtype(ty: SparseType) -> Dtype {
    match ty {
        SparseType::F16 => Dtype::F16,
        SparseType::Int8 => Dtype::I8,
    }
}

/// The parts of a weight without its zeros.
enum Found {
    TwoOfFour(TwoOfFourParts),
    EightRows(EightRowsParts),
}

impl Found {
    fn of(name: &str, weight: &dyn Weight, pattern: Pattern, ty: SparseType, pool: &Pool) -> Result<Self, Error> {
        // What is in this form already is copied: small integers may stand for the zeros that would be left out now.
        match (pattern, weight.as_sparse().map(Sparse::matrix)) {
            (Pattern::TwoOfFour, Some(SparseMatrix::TwoOfFour(matrix))) if matrix.sparse_type() == ty => {
                return Ok(Self::TwoOfFour(matrix.parts()));
            }
            (Pattern::EightRows, Some(SparseMatrix::EightRows(matrix))) if matrix.sparse_type() == ty => {
                return Ok(Self::EightRows(matrix.parts()));
            }
            _ => {}
        }
        let [out, inn] = weight.shape();
        let row = |row: usize, to: &mut [f32]| weight.decode_row(row, to);
        let refused = |why: &SparseError| Error::Refused(format!("{name}: {why}; {}", advice(pattern)));
        let too_large = |row: usize, values: &[u16]| {
            Error::Refused(format!(
                "{name}: row {row}: a value is not finite in f16, of {} kept ones; write --dtype f32",
                values.len()
            ))
        };
        let infinite = |value: &u16| value & 0x7c00 == 0x7c00;
        match pattern {
            Pattern::TwoOfFour => {
                let parts = TwoOfFourParts::find(ty, out, inn, &row, pool).map_err(|why| refused(&why))?;
                match &parts.values {
                    SparseValues::F16(values) => match values.iter().position(infinite) {
                        Some(at) => Err(too_large(at / (2 * inn.div_ceil(4)), values)),
                        None => Ok(Self::TwoOfFour(parts)),
                    },
                    SparseValues::Int8 { .. } => Ok(Self::TwoOfFour(parts)),
                }
            }
            Pattern::EightRows => {
                let parts = EightRowsParts::find(ty, out, inn, &row, pool).map_err(|why| refused(&why))?;
                if let SparseValues::F16(values) = &parts.values
                    && let Some(at) = values.iter().position(infinite)
                {
                    let group = parts.offsets.partition_point(|offset| *offset <= (at / 8) as u64) - 1;
                    return Err(too_large(8 * group + at % 8, values));
                }
                let (stored, plain) = (eight_rows_bytes(&parts), plain_bytes(ty, out, inn));
                if stored < plain {
                    return Ok(Self::EightRows(parts));
                }
                let kept = |pair: &[u64]| pair[1] - pair[0];
                let most =
                    parts.offsets.windows(2).map(kept).enumerate().max_by_key(|(at, kept)| (*kept, usize::MAX - at));
                let (group, kept) = most.unwrap_or((0, 0));
                let rows = (8 * group, (8 * group + 7).min(out.saturating_sub(1)));
                Err(Error::Refused(format!(
                    "{name}: rows {} to {} keep {kept} of {inn} columns, and {stored} bytes would store what takes {plain} with its \
                     zeros; {}",
                    rows.0,
                    rows.1,
                    advice(pattern)
                )))
            }
        }
    }

    /// The bytes of the tensor `part`.
    fn bytes(&self, part: &str) -> Vec<u8> {
        let halves = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let values = match self {
            Self::TwoOfFour(parts) => &parts.values,
            Self::EightRows(parts) => &parts.values,
        };
        match (part, self, values) {
            ("positions", Self::TwoOfFour(parts), _) => parts.positions.clone(),
            ("offsets", Self::EightRows(parts), _) => {
                parts.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect()
            }
            ("columns", Self::EightRows(parts), _) => halves(&parts.columns),
            ("values", _, SparseValues::F16(values)) => halves(values),
            ("values", _, SparseValues::Int8 { values, .. }) => values.iter().map(|value| *value as u8).collect(),
            (_, _, SparseValues::Int8 { scales, .. }) => halves(scales),
            (_, _, SparseValues::F16(_)) => Vec::new(),
        }
    }
}

/// What to do about a projection that has not the pattern.
fn advice(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::TwoOfFour => {
            "the recipe wanda-2of4 makes this pattern; every model can be written with another --dtype"
        }
        Pattern::EightRows => {
            "the recipe wanda-8rows makes this pattern; every model can be written with another --dtype"
        }
    }
}

fn eight_rows_bytes(parts: &EightRowsParts) -> usize {
    let values = match &parts.values {
        SparseValues::F16(values) => 2 * values.len(),
        SparseValues::Int8 { values, scales } => values.len() + 2 * scales.len(),
    };
    8 * parts.offsets.len() + 2 * parts.columns.len() + values
}

/// What the same values take when zeros are stored too.
fn plain_bytes(ty: SparseType, out: usize, inn: usize) -> usize {
    match ty {
        SparseType::F16 => 2 * out * inn,
        SparseType::Int8 => out * (inn + 2 * inn.div_ceil(32)),
    }
}

/// Writes tensors in turn; keeps the parts of a weight until all of them are written.
#[derive(Default)]
pub(super) struct Encoder {
    found: Option<(String, Found)>,
    row: Vec<f32>,
    buffer: Vec<u8>,
}

impl Encoder {
    /// Appends the bytes of `tensor` to `writer`.
    pub(super) fn write<W: Write>(
        &mut self,
        tensor: &Tensor<'_>,
        writer: &mut SafetensorsWriter<W>,
        work: Work<'_>,
    ) -> Result<(), Error> {
        let name = tensor.spec.name.as_str();
        match tensor.data {
            Data::Vector(values) => writer.write_f32(values)?,
            Data::Zeros(len) => writer.write_f32(&vec![0.0; len])?,
            Data::Weight(weight) => {
                let [rows, cols] = weight.shape();
                self.row.resize(cols, 0.0);
                for index in 0..rows {
                    weight.decode_row(index, &mut self.row);
                    writer.write_f32(&self.row)?;
                }
            }
            Data::Diagonal(diagonal) => {
                let [width, _] = diagonal.shape();
                self.row.resize(width, 0.0);
                for index in 0..width {
                    diagonal.decode_row(index, &mut self.row);
                    let first = index / diagonal.size() * diagonal.size();
                    writer.write_f32(&self.row[first..first + diagonal.size()])?;
                }
            }
            Data::Stored(stored) => {
                (0..Weight::shape(stored)[0]).try_for_each(|row| writer.write(stored.row_bytes(row)))?;
            }
            Data::Blocks(weight, ty) => self.blocks(name, weight, ty, writer, work)?,
            Data::Sparse(weight, pattern, ty, part) => {
                let base = name.strip_suffix(part).unwrap_or(name);
                if self.found.as_ref().is_none_or(|(of, _)| of != base) {
                    self.found = Some((base.to_owned(), Found::of(base, weight, pattern, ty, work.pool)?));
                }
                if let Some((_, found)) = &self.found {
                    writer.write(&found.bytes(part))?;
                }
            }
        }
        Ok(())
    }

    fn blocks<W: Write>(
        &mut self,
        name: &str,
        weight: &dyn Weight,
        ty: BlockType,
        writer: &mut SafetensorsWriter<W>,
        work: Work<'_>,
    ) -> Result<(), Error> {
        // What is in these blocks already is copied: to encode it again could only lose.
        if let Some(stored) = weight.as_stored().filter(|stored| stored.element() == Element::Block(ty)) {
            return Ok((0..weight.shape()[0]).try_for_each(|row| writer.write(stored.row_bytes(row)))?);
        }
        let row = |row: usize, to: &mut [f32]| weight.decode_row(row, to);
        let matrix = Matrix {
            name,
            columns: weight.shape()[1],
            ty: RowType::Blocks(ty),
            row: &row,
            stored: &|_| None,
            weights: None,
        };
        for rows in Chunks::of(weight.shape()) {
            work.interrupt.check()?;
            encode::rows(&matrix, rows, &mut self.buffer, work.pool).map_err(Error::Refused)?;
            writer.write(&self.buffer)?;
        }
        Ok(())
    }
}
