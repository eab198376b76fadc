//! A model as one GGUF file, by the conventions of llama.cpp. What the format cannot say is refused before any work.

mod architecture;
pub(crate) mod encode;
pub mod imatrix;
mod metadata;
mod mix;
pub mod mixed;
mod tensors;

pub(crate) use mix::fitting;

pub(crate) use mixed::choose;

use crate::Error;
use crate::bundle::Bundle;
use crate::progress::Work;
use architecture::{Architecture, refuse};
use encode::{Chunks, Matrix};
use pare_format::gguf::{GgmlType, GgufModel, GgufWriter, TensorSpec, Value, nonfinite};
use pare_format::write::NewFile;
use pare_kernels::blocks::{BlockType, ReadType, RowType};
use pare_model::block::Block;
use std::collections::BTreeMap;
use tensors::{Source, Tensor};

/// What the matrices of a file are encoded as. Vectors are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// One type of blocks of 32 for the blocks of the model; the head in more bits.
    Plain(BlockType),
    /// `Q4_K`, with `Q6_K` where it matters most.
    Q4KM,
    /// `Q5_K`, with `Q6_K` where it matters most.
    Q5KM,
    /// `Q6_K`.
    Q6K,
}

/// The key of the type that most of a file is in.
const FILE_TYPE: &str = "general.file_type";

/// Every target: its name on the command line, and its number in [`FILE_TYPE`].
const TARGETS: &[(&str, Target, u32)] = &[
    ("f32", Target::F32, 0),
    ("f16", Target::F16, 1),
    ("bf16", Target::Bf16, 32),
    ("q8_0", Target::Plain(BlockType::Q8_0), 7),
    ("q4_0", Target::Plain(BlockType::Q4_0), 2),
    ("q4_1", Target::Plain(BlockType::Q4_1), 3),
    ("q5_0", Target::Plain(BlockType::Q5_0), 8),
    ("q5_1", Target::Plain(BlockType::Q5_1), 9),
    ("q4_k_m", Target::Q4KM, 15),
    ("q5_k_m", Target::Q5KM, 17),
    ("q6_k", Target::Q6K, 18),
];

/// The numbers in [`FILE_TYPE`] of the types that are copied but not made, by the names of their blocks.
const READ_FILE_TYPES: &[(&str, u32)] = &[
    ("Q2_K", 10),
    ("Q3_K", 12),
    ("IQ2_XXS", 19),
    ("IQ2_XS", 20),
    ("IQ3_XXS", 23),
    ("IQ1_S", 24),
    ("IQ4_NL", 25),
    ("IQ3_S", 26),
    ("IQ2_S", 28),
    ("IQ4_XS", 30),
    ("IQ1_M", 31),
    ("TQ1_0", 36),
    ("TQ2_0", 37),
    ("MXFP4", 38),
];

impl Target {
    /// Names of all targets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TARGETS.iter().map(|row| row.0)
    }

    /// The target called `name`.
    pub fn find(name: &str) -> Option<Self> {
        TARGETS.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Its name, as in `q4_k_m`.
    pub fn name(self) -> &'static str {
        TARGETS.iter().find(|row| row.1 == self).map_or("?", |row| row.0)
    }

    fn file_type(self) -> u32 {
        TARGETS.iter().find(|row| row.1 == self).map_or(0, |row| row.2)
    }

    /// The type of a matrix that no rule makes an exception of.
    fn row_type(self) -> RowType {
        match self {
            Self::F32 => RowType::F32,
            Self::F16 => RowType::F16,
            Self::Bf16 => RowType::Bf16,
            Self::Plain(ty) => RowType::Blocks(ty),
            Self::Q4KM => RowType::Blocks(BlockType::Q4K),
            Self::Q5KM => RowType::Blocks(BlockType::Q5K),
            Self::Q6K => RowType::Blocks(BlockType::Q6K),
        }
    }
}

/// The type as the file numbers it.
fn ggml_type(ty: RowType) -> GgmlType {
    match ty {
        RowType::F32 => GgmlType::F32,
        RowType::F16 => GgmlType::F16,
        RowType::Bf16 => GgmlType::BF16,
        RowType::Blocks(BlockType::Q4_0) => GgmlType::Q4_0,
        RowType::Blocks(BlockType::Q4_1) => GgmlType::Q4_1,
        RowType::Blocks(BlockType::Q5_0) => GgmlType::Q5_0,
        RowType::Blocks(BlockType::Q5_1) => GgmlType::Q5_1,
        RowType::Blocks(BlockType::Q8_0) => GgmlType::Q8_0,
        RowType::Blocks(BlockType::Q4K) => GgmlType::Q4_K,
        RowType::Blocks(BlockType::Q5K) => GgmlType::Q5_K,
        RowType::Blocks(BlockType::Q6K) => GgmlType::Q6_K,
        RowType::Read(ReadType::Q2K) => GgmlType::Q2_K,
        RowType::Read(ReadType::Q3K) => GgmlType::Q3_K,
        RowType::Read(ReadType::Iq1S) => GgmlType::IQ1_S,
        RowType::Read(ReadType::Iq1M) => GgmlType::IQ1_M,
        RowType::Read(ReadType::Iq2Xxs) => GgmlType::IQ2_XXS,
        RowType::Read(ReadType::Iq2Xs) => GgmlType::IQ2_XS,
        RowType::Read(ReadType::Iq2S) => GgmlType::IQ2_S,
        RowType::Read(ReadType::Iq3Xxs) => GgmlType::IQ3_XXS,
        RowType::Read(ReadType::Iq3S) => GgmlType::IQ3_S,
        RowType::Read(ReadType::Iq4Nl) => GgmlType::IQ4_NL,
        RowType::Read(ReadType::Iq4Xs) => GgmlType::IQ4_XS,
        RowType::Read(ReadType::Tq1_0) => GgmlType::TQ1_0,
        RowType::Read(ReadType::Tq2_0) => GgmlType::TQ2_0,
        RowType::Read(ReadType::Mxfp4) => GgmlType::MXFP4,
    }
}

/// A file that can be written: everything was decided and nothing encoded.
#[derive(Debug)]
pub struct Export<'a> {
    model: &'a str,
    architecture: &'static str,
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor<'a>>,
    notes: Vec<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// `general.architecture` of the file.
    pub architecture: &'static str,
    /// Bytes of the file, as the file system says.
    pub bytes: u64,
    /// Tensors per type.
    pub tensors: BTreeMap<&'static str, usize>,
}

impl<'a> Export<'a> {
    /// Decides what the file holds.
    ///
    /// # Errors
    /// What the format, or every program that reads it, cannot express: see the message.
    pub fn plan(bundle: &'a Bundle, target: Target) -> Result<Self, Error> {
        let model = &bundle.model;
        let architecture = Architecture::of(model).map_err(|why| refuse(&bundle.name, &why))?;
        let origin = match bundle.path.is_file() {
            // The file that the model was read from, when it is a GGUF file.
            true => Some(GgufModel::open(&bundle.path)?),
            false => None,
        };
        let mut notes = architecture.notes();
        let header = origin.as_ref().map(GgufModel::header);
        let metadata = metadata::all(bundle, &architecture, target, header, &mut notes)?;
        let mut tensors = tensors::list(model, &architecture);
        mix::choose(&mut tensors, target, &architecture);
        let copied = match &origin {
            Some(origin) if !bundle.rewritten => copy_what_is_there(&mut tensors, &architecture, origin),
            _ => 0,
        };
        let encoded = tensors.iter().filter(|tensor| tensor.is_matrix() && !tensor.is_copied()).count();
        let coarse = tensors.iter().any(Tensor::is_from_blocks);
        if coarse && encoded > 0 && matches!(target.row_type(), RowType::Blocks(_)) {
            notes.push(format!(
                "{encoded} matrices are quantised already and will be again, {copied} tensors are copied: a file made from the original \
                 weights would be better"
            ));
        }
        if matches!(target.row_type(), RowType::Blocks(_)) {
            notes.extend(without_blocks(
                tensors.iter().filter(|tensor| tensor.is_matrix()).map(|tensor| tensor.shape[1]),
            ));
        }
        Ok(Self { model: &bundle.name, architecture: architecture.name, metadata, tensors, notes })
    }

    /// A file with every matrix in the type that it is stored in, f32 for what is in memory only, and no number changed.
    ///
    /// # Errors
    /// As [`Export::plan`].
    pub fn as_stored(bundle: &'a Bundle) -> Result<Self, Error> {
        let mut sizes: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (_, linear) in bundle.model.blocks.iter().flat_map(Block::linears) {
            *sizes.entry(linear.weight.name()).or_default() += linear.weight.bytes() as u64;
        }
        // The file's type is said to be that of most of its bytes, as `llama-quantize` says it of mixtures.
        let most = sizes.iter().max_by_key(|(_, bytes)| **bytes).map_or("", |(name, _)| *name);
        let target = match most {
            "Q4_K" => Target::Q4KM,
            "Q5_K" => Target::Q5KM,
            name => Target::find(&name.to_lowercase()).unwrap_or(Target::F32),
        };
        let mut export = Self::plan(bundle, target)?;
        export.notes.clear();
        let file_type = export.metadata.iter_mut().find(|(key, _)| key == FILE_TYPE);
        let read = READ_FILE_TYPES.iter().find(|(name, _)| *name == most);
        if let Some(((_, value), (_, number))) = file_type.zip(read) {
            *value = Value::U32(*number);
        }
        for tensor in &mut export.tensors {
            if let Source::Weight { weight, .. } = &tensor.source {
                tensor.ty = tensors::as_read(*weight);
            }
        }
        Ok(export)
    }

    /// The type of a tensor.
    pub(crate) fn type_of(&self, name: &str) -> Option<RowType> {
        self.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.ty)
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// A key or tensor that the format cannot hold.
    pub fn bytes(&self) -> Result<u64, Error> {
        let mut header = Vec::new();
        let specs: Vec<TensorSpec> = self.tensors.iter().map(Tensor::spec).collect();
        GgufWriter::new(std::path::Path::new(self.model), &mut header, &self.metadata, &specs)?;
        let data = |tensor: &Tensor<'_>| {
            let [rows, columns] = tensor.shape;
            let values = tensor.ty.values_per_block();
            (rows * (columns / values * tensor.ty.bytes_per_block())).next_multiple_of(32) as u64
        };
        Ok(header.len() as u64 + self.tensors.iter().map(data).sum::<u64>())
    }

    /// What the user should know before the work.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Encodes and writes everything; the file appears whole, at the end. The same bytes at any number of threads.
    ///
    /// # Errors
    /// A number that its type cannot hold, the disk, or the user. The file is then as it was.
    pub fn write(&self, file: NewFile, work: Work<'_>) -> Result<Written, Error> {
        let path = file.path().to_owned();
        let specs: Vec<TensorSpec> = self.tensors.iter().map(Tensor::spec).collect();
        let steps: usize = self.tensors.iter().map(|tensor| chunks(tensor).count()).sum();
        work.progress.begin("encoding", steps as u64);
        let mut writer = GgufWriter::new(&path, file, &self.metadata, &specs)?;
        let mut buffer = Vec::new();
        for (tensor, spec) in self.tensors.iter().zip(&specs) {
            if let Source::Copied(bytes) = &tensor.source {
                if nonfinite(spec.ggml_type, bytes).is_none_or(|count| count > 0) {
                    return Err(refuse(
                        self.model,
                        &format!("tensor {:?} holds numbers that are not finite", tensor.name),
                    ));
                }
                writer.tensor(&tensor.name, bytes)?;
                work.progress.advance(1, &tensor.name);
                continue;
            }
            let row = |row: usize, out: &mut [f32]| tensor.row(row, out);
            let stored = |row: usize| tensor.stored_row(row);
            let (columns, weights) = (tensor.shape[1], tensor.weights.as_deref());
            let matrix = Matrix { name: &tensor.name, columns, ty: tensor.ty, row: &row, stored: &stored, weights };
            for rows in chunks(tensor) {
                work.interrupt.check()?;
                encode::rows(&matrix, rows, &mut buffer, work.pool).map_err(|why| refuse(self.model, &why))?;
                writer.piece(&tensor.name, &buffer)?;
                work.progress.advance(1, &tensor.name);
            }
        }
        work.interrupt.check()?;
        writer.finish()?.commit()?;
        work.progress.end();
        let bytes =
            std::fs::metadata(&path).map_err(|source| Error::Io { path: path.display().to_string(), source })?.len();
        let mut tensors = BTreeMap::new();
        for spec in &specs {
            *tensors.entry(spec.ggml_type.name()).or_default() += 1;
        }
        Ok(Written { architecture: self.architecture, bytes, tensors })
    }
}

/// What to say of matrices that no block type fits, from the lengths of the rows of all; none without such.
fn without_blocks(columns: impl Iterator<Item = usize>) -> Option<String> {
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    let fits = |columns: usize| BlockType::ALL.iter().any(|ty| columns.is_multiple_of(ty.values_per_block()));
    for columns in columns.filter(|&columns| !fits(columns)) {
        *found.entry(columns).or_default() += 1;
    }
    let matrices: usize = found.values().sum();
    let rows = found.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (matrices > 0).then(|| {
        format!("{matrices} matrices have rows of {rows}, which are no whole blocks of 32: they are written in 16 bits")
    })
}

/// The pieces in which a tensor is written: one, when its bytes are there already.
fn chunks(tensor: &Tensor<'_>) -> Chunks {
    Chunks::of(if tensor.is_copied() { [tensor.shape[0], 0] } else { tensor.shape })
}

/// Takes the bytes of every tensor that the file has in the wanted type already: encoding again could only lose.
fn copy_what_is_there(tensors: &mut [Tensor<'_>], architecture: &Architecture<'_>, origin: &GgufModel) -> usize {
    let same = origin.header().str("general.architecture").is_ok_and(|name| name == architecture.name);
    if !same || architecture.renumbers {
        return 0;
    }
    let mut copied = 0;
    for tensor in tensors {
        let spec = tensor.spec();
        let there = origin.tensor(&tensor.name);
        if let Some((_, bytes)) =
            there.filter(|(there, _)| there.ggml_type == spec.ggml_type && there.shape == spec.shape)
        {
            tensor.source = Source::Copied(bytes);
            copied += 1;
        }
    }
    copied
}
