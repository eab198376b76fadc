//! A weight from the tensors of its form. Every length is compared with the bytes that are there before anything is allocated.

use super::{element, quantised, wrong_shape};
use crate::load::gguf;
use crate::storage::{Element, LowRank, Sparse, Stored, Sum, Wrapped};
use crate::weight::Weight;
use pare_format::directory::{ModelDirectory, StorageForm, suffix_of};
use pare_format::safetensors::{Dtype, TensorView};
use pare_format::{FormatError, FormatErrorKind, Result};
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use pare_kernels::sparse::{EightRows, EightRowsParts, SparseError, SparseValues, TwoOfFour, TwoOfFourParts};
use std::sync::Arc;

/// The weight `name` of `shape`, kept as `form`.
pub(super) fn weight(
    directory: &ModelDirectory,
    name: &str,
    form: &StorageForm,
    shape: [usize; 2],
) -> Result<Arc<dyn Weight>> {
    let tensors = Parts { directory, name, shape };
    Ok(match form {
        StorageForm::Plain => Arc::new(plain(&directory.require(name)?, name, shape)?),
        StorageForm::Quantised(packing) => {
            let group = directory.config().quantised.as_ref().and_then(|quantised| quantised.group);
            quantised::weight(directory, name, *packing, group, shape)?
        }
        StorageForm::Blocks(ty) => Arc::new(tensors.blocks(&suffix_of(*ty), gguf::element(*ty))?),
        StorageForm::TwoOfFour => Arc::new(tensors.two_of_four()?),
        StorageForm::EightRows => Arc::new(tensors.eight_rows()?),
        StorageForm::LowRank => Arc::new(tensors.low_rank()?),
        StorageForm::Sum(forms) => {
            let term = |(index, form)| weight(directory, &format!("{name}.sum.{index}"), form, shape);
            let terms = forms.iter().enumerate().map(term).collect::<Result<_>>()?;
            Arc::new(Sum::new(terms).ok_or_else(|| tensors.wrong("sum", "has no terms", "at least one"))?)
        }
        StorageForm::Wrapped(form) => {
            let core = weight(directory, &format!("{name}.wrapped.core"), form, shape)?;
            let (left, right) = (tensors.diagonal("wrapped.left", 0)?, tensors.diagonal("wrapped.right", 1)?);
            let wrapped = Wrapped::new(Arc::new(left), core, Arc::new(right));
            Arc::new(wrapped.ok_or_else(|| tensors.wrong("wrapped", "does not fit together", "left, core, right"))?)
        }
    })
}

/// The tensor `name` as a matrix in its own type.
fn plain(view: &TensorView, name: &str, shape: [usize; 2]) -> Result<Stored> {
    if view.shape != shape {
        return Err(wrong_shape(view, name, &shape));
    }
    let stored = Stored::new(element(view, name)?, shape, view.bytes.clone());
    stored.ok_or_else(|| wrong_shape(view, name, &shape))
}

/// The tensors of the weight `name` of `shape`.
struct Parts<'a> {
    directory: &'a ModelDirectory,
    name: &'a str,
    shape: [usize; 2],
}

impl Parts<'_> {
    fn blocks(&self, suffix: &str, element: Option<Element>) -> Result<Stored> {
        let [out, inn] = self.shape;
        let name = self.named(suffix);
        let Some((element, row)) = element.and_then(|element| Some((element, element.bytes_of(inn)?))) else {
            let found = format!("has rows of {inn} values, as config.json says");
            return Err(self.wrong(suffix, &found, &format!("a whole number of blocks of {suffix}")));
        };
        let view = self.tensor(suffix, &[Dtype::U8], &[out, row])?;
        Stored::new(element, self.shape, view.bytes.clone()).ok_or_else(|| wrong_shape(&view, &name, &[out, row]))
    }

    fn two_of_four(&self) -> Result<Sparse> {
        let [out, inn] = self.shape;
        let groups = inn.div_ceil(4);
        let positions = self.tensor("2of4.positions", &[Dtype::U8], &[out, groups.div_ceil(2)])?;
        let values = self.values("2of4", &[out, 2 * groups], &[out, inn.div_ceil(32)])?;
        let parts = TwoOfFourParts { positions: positions.bytes.to_vec(), values };
        TwoOfFour::from_parts(out, inn, &parts, &Pool::new(1))
            .map(Sparse::two_of_four)
            .map_err(|why| self.broken("2of4", &why))
    }

    fn eight_rows(&self) -> Result<Sparse> {
        let [out, inn] = self.shape;
        let groups = out.div_ceil(8);
        let offsets = self.tensor("rows8.offsets", &[Dtype::I64, Dtype::U64], &[groups + 1])?;
        // A negative number becomes one that is larger than every tensor.
        let offsets: Vec<u64> = offsets.bytes.as_chunks::<8>().0.iter().map(|raw| u64::from_le_bytes(*raw)).collect();
        let counts = offsets.windows(2).map(|pair| pair[1].checked_sub(pair[0]).filter(|count| *count <= inn as u64));
        let Some(counts) = counts.collect::<Option<Vec<u64>>>().filter(|_| offsets.first() == Some(&0)) else {
            let expected = format!("0, then numbers that ascend by at most {inn}");
            return Err(self.wrong("rows8.offsets", "holds numbers that do not ascend so", &expected));
        };
        let sum =
            |each: &dyn Fn(&u64) -> u64| usize::try_from(counts.iter().map(each).sum::<u64>()).unwrap_or(usize::MAX);
        let (kept, runs) = (sum(&|count| *count), sum(&|count| count.div_ceil(32)));
        let columns = self.tensor("rows8.columns", &[Dtype::U16], &[kept])?;
        let values = self.values("rows8", &[kept, 8], &[runs, 8])?;
        let parts = EightRowsParts { columns: halves(&columns), values, offsets };
        EightRows::from_parts(out, inn, &parts).map(Sparse::eight_rows).map_err(|why| self.broken("rows8", &why))
    }

    /// The values of a sparse form, with their scales when they are integers.
    fn values(&self, form: &str, shape: &[usize], scales: &[usize]) -> Result<SparseValues> {
        let at = format!("{form}.scales");
        let view = self.tensor(&format!("{form}.values"), &[Dtype::F16, Dtype::I8], shape)?;
        if view.dtype == Dtype::I8 {
            let scales = halves(&self.tensor(&at, &[Dtype::F16], scales)?);
            return Ok(SparseValues::Int8 { values: view.bytes.iter().map(|byte| *byte as i8).collect(), scales });
        }
        match self.directory.info(&self.named(&at)) {
            None => Ok(SparseValues::F16(halves(&view))),
            Some(_) => Err(self.wrong(&at, "stands beside values of F16", "scales beside values of I8 only")),
        }
    }

    fn low_rank(&self) -> Result<LowRank> {
        let [out, inn] = self.shape;
        let [a, b] = ["low_rank.a", "low_rank.b"];
        let rank = match self.directory.require(&self.named(a))?.shape.as_slice() {
            &[_, rank] if rank > 0 => rank,
            other => return Err(self.wrong(a, &format!("has shape {other:?}"), &format!("[{out}, R], R at least 1"))),
        };
        let factor = |part: &str, shape| {
            let name = self.named(part);
            plain(&self.directory.require(&name)?, &name, shape).map(|stored| Arc::new(stored) as Arc<dyn Weight>)
        };
        let factors = LowRank::new(factor(a, [out, rank])?, factor(b, [rank, inn])?);
        factors.ok_or_else(|| self.wrong(a, "does not fit b", "one rank"))
    }

    /// Blocks on a diagonal as wide as dimension `of` of the weight.
    fn diagonal(&self, part: &str, of: usize) -> Result<BlockDiagonal> {
        let (name, width) = (self.named(part), self.shape[of]);
        let view = self.directory.require(&name)?;
        let &[count, size, across] = view.shape.as_slice() else {
            return Err(self.wrong(part, &format!("has shape {:?}", view.shape), "[count, size, size]"));
        };
        if size == 0 || size != across || count.checked_mul(size) != Some(width) {
            let expected = format!("[count, size, size] with count * size = {width}");
            return Err(self.wrong(part, &format!("has shape {:?}", view.shape), &expected));
        }
        let element = element(&view, &name)?;
        let ty = match element {
            Element::F16 => PanelType::F16,
            Element::Bf16 => PanelType::Bf16,
            Element::F32 | Element::Block(_) | Element::Read(_) => PanelType::F32,
        };
        let stored = Stored::new(element, [width, size], view.bytes.clone());
        let stored = stored.ok_or_else(|| wrong_shape(&view, &name, &[count, size, size]))?;
        let row = |block: usize, row: usize, values: &mut [f32]| stored.decode_row(block * size + row, values);
        Ok(BlockDiagonal::pack(ty, count, size, &row, &Pool::new(1)))
    }

    /// The tensor of `part`, which must be of one of `dtypes` and of `shape`.
    fn tensor(&self, part: &str, dtypes: &[Dtype], shape: &[usize]) -> Result<TensorView> {
        let view = self.directory.require(&self.named(part))?;
        if !dtypes.contains(&view.dtype) {
            let expected = dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ");
            return Err(self.wrong(part, &format!("is of dtype {}", view.dtype), &expected));
        }
        if view.shape != shape {
            return Err(self.wrong(part, &format!("has shape {:?}", view.shape), &format!("{shape:?}")));
        }
        Ok(view)
    }

    fn named(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    fn wrong(&self, part: &str, found: &str, expected: &str) -> FormatError {
        let name = self.named(part);
        let file = self.directory.info(&name).map_or(self.directory.path(), |(shard, _)| shard.path());
        let kind = FormatErrorKind::Found { found: found.to_owned(), expected: expected.to_owned() };
        FormatError::new(file, kind).item(format!("tensor {name:?}"))
    }

    /// The error for parts of `form` whose numbers contradict each other.
    fn broken(&self, form: &str, why: &SparseError) -> FormatError {
        let (part, expected) = match why {
            SparseError::Positions { .. } => ("positions", "two positions of each group that ascend, then zeros"),
            SparseError::Padding { .. } => ("values", "zeros behind the last input or output"),
            SparseError::Offsets { .. } => ("offsets", "0, then numbers that ascend by at most the inputs"),
            SparseError::Columns { .. } | SparseError::TooManyInputs { .. } => {
                ("columns", "columns of each group that ascend and are below the inputs")
            }
            SparseError::Scale { .. } => ("scales", "finite numbers"),
            _ => ("values", "the lengths that belong to the shape"),
        };
        self.wrong(&format!("{form}.{part}"), &why.to_string(), expected)
    }
}

/// The 16-bit numbers of a tensor.
fn halves(view: &TensorView) -> Vec<u16> {
    view.bytes.as_chunks::<2>().0.iter().map(|raw| u16::from_le_bytes(*raw)).collect()
}
