//! A matrix of which 8 neighbouring outputs keep the same columns.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod parts;
mod portable;

pub use parts::EightRowsParts;

use super::{Cut, RUN, SparseError, SparseType, SparseValues};
use crate::isa::Isa;
use crate::memory::{Aligned, Plain};
use crate::pool::Pool;
use crate::product::{Input, Product};
use crate::shared::Shared;
use crate::tile::{PANEL, tiles};
use half::f16;

/// Outputs that share their columns.
const GROUP: usize = 8;
/// Groups of a panel, which are multiplied side by side.
const TOGETHER: usize = PANEL / GROUP;
/// The most rows that a kernel takes.
const MOST_ROWS: usize = 8;

impl Plain for [u16; GROUP] {}
impl Plain for [i8; GROUP] {}

/// A matrix `[out, in]` stored as, for each group of 8 outputs, the columns that any of them keeps and the 8 values of each:
/// 18 bits for each kept weight as f16, 10.5 bits as 8-bit integers. `in` is at most 65536.
///
/// Its product obeys the one law. Integers times their scale are exact in f32, and are multiplied with `x` in f32.
#[derive(Debug)]
pub struct EightRows {
    out: usize,
    inn: usize,
    /// Where each group begins, and where the last ends.
    starts: Vec<Start>,
    columns: Aligned<u16>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Half(Aligned<[u16; GROUP]>),
    Int8 { values: Aligned<[i8; GROUP]>, scales: Aligned<[u16; GROUP]> },
}

/// Where a group begins among the kept columns, and among their runs of [`RUN`].
#[derive(Debug, Clone, Copy)]
struct Start {
    column: usize,
    run: usize,
}

/// One group as a kernel reads it.
#[derive(Clone, Copy)]
struct Group {
    /// `[count]`, each below the number of inputs, ascending.
    columns: *const u16,
    /// `[count][8]` of f16 or of 8-bit integers.
    values: *const u8,
    /// Of integers, `[ceil(count / 32)][8]` of f16.
    scales: *const u8,
    count: usize,
    /// What is read after the last column: the same of the group that comes next.
    next: (*const u16, *const u8),
}

/// One call of a kernel: `rows` rows times some groups, of which the first `width` outputs are wanted.
#[derive(Clone, Copy)]
struct Tile<'a> {
    x: *const f32,
    x_stride: usize,
    rows: usize,
    groups: &'a [Group],
    y: *mut f32,
    y_stride: usize,
    width: usize,
}

impl EightRows {
    /// Packs the matrix whose row `o` is what `decode_row(o, buffer of inn values)` writes; a column that is exactly zero
    /// in all 8 outputs of a group is left out. Rows are decoded once each, in parallel, in no fixed order.
    ///
    /// f16 values are rounded to the nearest, ties to even. The scale of integers is the smallest f16 that is not below
    /// `max |w| / 127` of 32 kept columns of an output, and each value is `w / scale` rounded to the nearest, ties to even.
    ///
    /// # Errors
    /// More than 65536 inputs, or which run of 32 has a value that no integer can stand for.
    pub fn pack(
        ty: SparseType,
        out: usize,
        inn: usize,
        decode_row: &(dyn Fn(usize, &mut [f32]) + Sync),
        pool: &Pool,
    ) -> Result<EightRows, SparseError> {
        EightRows::from_parts(out, inn, &EightRowsParts::find(ty, out, inn, decode_row, pool)?)
    }

    /// The matrix `[out, inn]` that parts from a file describe.
    ///
    /// # Errors
    /// The rule that they break: see [`EightRowsParts`].
    pub fn from_parts(out: usize, inn: usize, parts: &EightRowsParts) -> Result<EightRows, SparseError> {
        parts.check(out, inn)?;
        let mut run = 0;
        let mut starts = Vec::with_capacity(parts.offsets.len());
        for (at, &offset) in parts.offsets.iter().enumerate() {
            let column = offset as usize;
            run += starts.last().map_or(0, |before: &Start| (column - before.column).div_ceil(RUN));
            debug_assert!(at > 0 || run == 0);
            starts.push(Start { column, run });
        }
        let mut columns = Aligned::zeroed(parts.columns.len());
        columns.copy_from_slice(&parts.columns);
        let data = match &parts.values {
            SparseValues::F16(values) => Data::Half(eights(values)),
            SparseValues::Int8 { values, scales } => Data::Int8 { values: eights(values), scales: eights(scales) },
        };
        Ok(EightRows { out, inn, starts, columns, data })
    }

    /// Itself as plain lists, for a file.
    pub fn parts(&self) -> EightRowsParts {
        let values = match &self.data {
            Data::Half(values) => SparseValues::F16(values.as_flattened().to_vec()),
            Data::Int8 { values, scales } => {
                SparseValues::Int8 { values: values.as_flattened().to_vec(), scales: scales.as_flattened().to_vec() }
            }
        };
        let offsets = self.starts.iter().map(|start| start.column as u64).collect();
        EightRowsParts { offsets, columns: self.columns.to_vec(), values }
    }

    /// How the values are stored.
    pub fn sparse_type(&self) -> SparseType {
        match self.data {
            Data::Half(_) => SparseType::F16,
            Data::Int8 { .. } => SparseType::Int8,
        }
    }

    /// Group `group` as a kernel reads it; past the last, a group without columns.
    fn group(&self, group: usize) -> Group {
        let last = self.starts.len() - 1;
        let start_of = |group: usize| self.starts[group.min(last)];
        let (start, end, next) = (start_of(group), start_of(group + 1), start_of(group + TOGETHER));
        let (values, scales, each) = match &self.data {
            Data::Half(values) => (values.as_ptr().cast::<u8>(), std::ptr::null(), size_of::<[u16; GROUP]>()),
            Data::Int8 { values, scales } => {
                (values.as_ptr().cast(), scales[start.run..].as_ptr().cast(), size_of::<[i8; GROUP]>())
            }
        };
        let at = |column: usize| (self.columns[column..].as_ptr(), values.wrapping_add(column * each));
        let (columns, values) = at(start.column);
        Group { columns, values, scales, count: end.column - start.column, next: at(next.column) }
    }

    fn cut(&self, rows: usize, threads: usize) -> Cut {
        Cut::new(self.bytes(), [self.out, self.inn], rows, threads, (MOST_ROWS, 1))
    }
}

/// A copy in eights; the length was checked.
fn eights<T: Copy>(from: &[T]) -> Aligned<[T; GROUP]>
where
    [T; GROUP]: Plain,
{
    let (from, _) = from.as_chunks::<GROUP>();
    let mut to = Aligned::zeroed(from.len());
    to.copy_from_slice(from);
    to
}

impl Product for EightRows {
    fn shape(&self) -> [usize; 2] {
        [self.out, self.inn]
    }

    fn bytes(&self) -> usize {
        let data = match &self.data {
            Data::Half(values) => size_of_val::<[_]>(values),
            Data::Int8 { values, scales } => size_of_val::<[_]>(values) + size_of_val::<[_]>(scales),
        };
        data + size_of_val::<[_]>(&self.columns) + size_of_val::<[_]>(&self.starts)
    }

    fn decode_row(&self, o: usize, row: &mut [f32]) {
        assert!(o < self.out, "row {o} of {}", self.out);
        assert_eq!(row.len(), self.inn, "the row buffer");
        let (start, end, lane) = (self.starts[o / GROUP], self.starts[o / GROUP + 1], o % GROUP);
        row.fill(0.0);
        for (k, &column) in self.columns[start.column..end.column].iter().enumerate() {
            row[usize::from(column)] = match &self.data {
                Data::Half(values) => f16::from_bits(values[start.column + k][lane]).to_f32(),
                Data::Int8 { values, scales } => {
                    f16::from_bits(scales[start.run + k / RUN][lane]).to_f32()
                        * f32::from(values[start.column + k][lane])
                }
            };
        }
    }

    fn parts(&self, _isa: Isa, rows: usize, threads: usize) -> usize {
        self.cut(rows, threads).count()
    }

    unsafe fn multiply_part(&self, isa: Isa, input: &Input<'_>, part: usize, threads: usize, y: Shared<'_, f32>) {
        let (panels, rows) = self.cut(input.rows(), threads).part(part);
        for (panel, _) in panels {
            let groups: [Group; TOGETHER] = std::array::from_fn(|g| self.group(panel * TOGETHER + g));
            // The first tile brings the panel to the cache, the others find it there.
            for (first, count) in tiles(rows.len(), MOST_ROWS) {
                let first = rows.start + first;
                let tile = Tile {
                    x: input.values()[first * self.inn..(first + count) * self.inn].as_ptr(),
                    x_stride: self.inn,
                    rows: count,
                    groups: &groups,
                    y: y.at(first * self.out + panel * PANEL),
                    y_stride: self.out,
                    width: PANEL.min(self.out - panel * PANEL),
                };
                // SAFETY: the set is there, the lengths were compared, and each part writes its own outputs.
                unsafe {
                    match self.data {
                        Data::Half(_) => multiply_tile::<false>(isa, tile),
                        Data::Int8 { .. } => multiply_tile::<true>(isa, tile),
                    }
                }
            }
        }
    }
}

/// # Safety
/// The machine has `isa`, and every element that the tile names is valid and, in `y`, not used by anyone else.
unsafe fn multiply_tile<const INT8: bool>(isa: Isa, tile: Tile<'_>) {
    // SAFETY: the caller's promise is that of each kernel.
    unsafe {
        match isa {
            // 8 outputs are one register of 256 bits, whatever else the machine has.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512 | Isa::Avx2 => avx2::multiply::<INT8>(tile),
            _ => portable::multiply::<INT8>(tile),
        }
    }
}

#[cfg(test)]
mod tests;
