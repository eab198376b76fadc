//! A matrix of which 8 neighbouring outputs keep the same columns.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod parts;
mod portable;

pub use parts::EightRowsParts;

use super::{Cut, RUN, SparseError, SparseType, SparseValues};
use crate::isa::{Isa, Level};
use crate::memory::{Aligned, Plain};
use crate::pool::Pool;
use crate::product::{Input, Product, check_part, check_row};
use crate::shared::Shared;
use crate::tile::{PANEL, tiles};
use half::f16;

/// Outputs that share their columns.
const GROUP: usize = 8;
/// Groups of a panel.
const TOGETHER: usize = PANEL / GROUP;
/// The most rows that a kernel takes.
const MOST_ROWS: usize = 8;
/// The most panels that a kernel takes.
const MOST_PANELS: usize = 4;
/// Kept columns between two fetches, whose numbers fill a line.
const STEP: usize = 8;
/// Steps that a panel is fetched ahead of its use: 1.5 KB of f16.
const AHEAD: usize = 3;

/// 32 kept columns of the 4 groups of a panel, side by side: `columns[k][g]` and `values[k][g]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct HalfBlock {
    columns: [[u16; TOGETHER]; RUN],
    values: [[[u16; GROUP]; TOGETHER]; RUN],
}

/// As [`HalfBlock`]; the scales stand before the values.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Int8Block {
    columns: [[u16; TOGETHER]; RUN],
    scales: [[u16; GROUP]; TOGETHER],
    values: [[[i8; GROUP]; TOGETHER]; RUN],
}

// SAFETY: arrays of numbers, aligned to a cache line.
unsafe impl Plain for HalfBlock {}
// SAFETY: as above.
unsafe impl Plain for Int8Block {}

/// A matrix `[out, in]` stored as, for each group of 8 outputs, the columns that any of them keeps and the 8 values of each:
/// 18 bits for each kept weight as f16, 10.5 bits as 8-bit integers. `in` is at most 65536.
///
/// In memory 4 neighbouring groups stand side by side, and those that keep fewer columns are filled up with zeros.
///
/// Its product obeys the one law. Integers times their scale are exact in f32, and are multiplied with `x` in f32.
#[derive(Debug)]
pub struct EightRows {
    out: usize,
    inn: usize,
    /// Columns that each group keeps.
    counts: Vec<usize>,
    /// The first block of each panel, and the end of the last.
    starts: Vec<usize>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Half(Aligned<HalfBlock>),
    Int8(Aligned<Int8Block>),
}

/// One panel as a kernel reads it.
#[derive(Debug, Clone, Copy)]
struct Panel {
    /// `[ceil(count / 32)]` blocks.
    blocks: *const u8,
    /// Columns of the group that keeps the most.
    count: usize,
    /// The panel that is read next.
    next: *const u8,
}

/// One call of a kernel: `rows` rows times neighbouring panels, of which the first `width` outputs are wanted.
#[derive(Clone, Copy)]
struct Tile<'a> {
    x: *const f32,
    x_stride: usize,
    rows: usize,
    panels: &'a [Panel],
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
        let counts: Vec<usize> = parts.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect();
        let mut starts = vec![0];
        for counts in counts.chunks(TOGETHER) {
            let blocks = counts.iter().max().map_or(0, |count| count.div_ceil(RUN));
            starts.push(starts[starts.len() - 1] + blocks);
        }
        let blocks = starts[starts.len() - 1];
        let data = match &parts.values {
            SparseValues::F16(values) => {
                let mut data = Aligned::<HalfBlock>::zeroed(blocks);
                let (values, _) = values.as_chunks::<GROUP>();
                for ((Place { block, k, g, .. }, &column), &values) in
                    places(&counts, &starts).zip(&parts.columns).zip(values)
                {
                    data[block].columns[k][g] = column;
                    data[block].values[k][g] = values;
                }
                Data::Half(data)
            }
            SparseValues::Int8 { values, scales } => {
                let mut data = Aligned::<Int8Block>::zeroed(blocks);
                let ((values, _), (scales, _)) = (values.as_chunks::<GROUP>(), scales.as_chunks::<GROUP>());
                for ((Place { block, k, g, run }, &column), &values) in
                    places(&counts, &starts).zip(&parts.columns).zip(values)
                {
                    data[block].columns[k][g] = column;
                    data[block].scales[g] = scales[run];
                    data[block].values[k][g] = values;
                }
                Data::Int8(data)
            }
        };
        Ok(EightRows { out, inn, counts, starts, data })
    }

    /// Itself as plain lists, for a file.
    pub fn parts(&self) -> EightRowsParts {
        let mut parts = EightRowsParts::empty(self.sparse_type());
        let mut end = 0;
        parts.offsets.extend(self.counts.iter().map(|&count| {
            end += count as u64;
            end
        }));
        for Place { block, k, g, .. } in places(&self.counts, &self.starts) {
            match (&self.data, &mut parts.values) {
                (Data::Half(data), SparseValues::F16(values)) => {
                    parts.columns.push(data[block].columns[k][g]);
                    values.extend(data[block].values[k][g]);
                }
                (Data::Int8(data), SparseValues::Int8 { values, scales }) => {
                    parts.columns.push(data[block].columns[k][g]);
                    values.extend(data[block].values[k][g]);
                    if k == 0 {
                        scales.extend(data[block].scales[g]);
                    }
                }
                _ => unreachable!("the parts were made for this type"),
            }
        }
        parts
    }

    /// How the values are stored.
    pub fn sparse_type(&self) -> SparseType {
        match self.data {
            Data::Half(_) => SparseType::F16,
            Data::Int8(_) => SparseType::Int8,
        }
    }

    /// Panel `panel` as a kernel reads it beside `together - 1` others.
    fn panel(&self, panel: usize, together: usize) -> Panel {
        let last = self.starts.len() - 1;
        let at = |panel: usize| match &self.data {
            Data::Half(data) => data[self.starts[panel.min(last)]..].as_ptr().cast(),
            Data::Int8(data) => data[self.starts[panel.min(last)]..].as_ptr().cast(),
        };
        let groups = self.counts.chunks(TOGETHER).nth(panel).unwrap_or(&[]);
        let count = groups.iter().max().copied().unwrap_or(0);
        Panel { blocks: at(panel), count, next: at(panel + together) }
    }

    fn cut(&self, isa: Isa, rows: usize, threads: usize) -> Cut {
        Cut::new(self.bytes(), [self.out, self.inn], rows, threads, (MOST_ROWS, most_panels(isa, rows)))
    }
}

/// How many neighbouring panels a kernel takes at best for `rows` rows: memory that is read at several places at once comes
/// faster.
fn most_panels(isa: Isa, rows: usize) -> usize {
    match (isa.level(), rows) {
        (Level::Avx512Vnni | Level::Avx512, 1) => MOST_PANELS,
        (Level::Avx2, 1) => 2,
        _ => 1,
    }
}

/// The block, and the step of it, that is fetched while block `b` of a panel is read: `step` may be past its end. Panels are
/// read side by side, so what comes after one is not what follows it in memory.
#[inline(always)]
fn fetch_target(panel: &Panel, b: usize, step: usize, size: usize) -> (*const u8, usize) {
    if step < RUN / STEP {
        (panel.blocks.wrapping_add(b * size), step)
    } else if (b + 1) * RUN < panel.count {
        (panel.blocks.wrapping_add((b + 1) * size), step - RUN / STEP)
    } else {
        (panel.next, step - RUN / STEP)
    }
}

/// Fetches what is read some steps after place `place` of block `b` of a panel: column numbers and values.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch_ahead<const INT8: bool>(panel: &Panel, b: usize, place: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let (size, offset, bytes) = value_layout::<INT8>();
    let (ahead, step) = fetch_target(panel, b, place / STEP + AHEAD, size);
    // SAFETY: a fetch reads nothing, whatever the address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(step * STEP * 2 * TOGETHER).cast());
        for line in (0..STEP * bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(offset + step * STEP * bytes + line).cast());
        }
    }
}

/// Bytes of a block, where in it the values begin, and bytes of those of a kept column.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
const fn value_layout<const INT8: bool>() -> (usize, usize, usize) {
    if INT8 {
        (size_of::<Int8Block>(), std::mem::offset_of!(Int8Block, values), PANEL)
    } else {
        (size_of::<HalfBlock>(), std::mem::offset_of!(HalfBlock, values), 2 * PANEL)
    }
}

/// Where a kept column of a group stands: in which block, at which place, which of the panel's groups, and in which run of
/// all runs of all groups.
struct Place {
    block: usize,
    k: usize,
    g: usize,
    run: usize,
}

/// The places of all kept columns in the order of a file.
fn places<'a>(counts: &'a [usize], starts: &'a [usize]) -> impl Iterator<Item = Place> + 'a {
    let mut runs = 0;
    counts.iter().enumerate().flat_map(move |(group, &count)| {
        let first = runs;
        runs += count.div_ceil(RUN);
        let (start, g) = (starts[group / TOGETHER], group % TOGETHER);
        (0..count).map(move |k| Place { block: start + k / RUN, k: k % RUN, g, run: first + k / RUN })
    })
}

impl Product for EightRows {
    fn shape(&self) -> [usize; 2] {
        [self.out, self.inn]
    }

    fn bytes(&self) -> usize {
        match &self.data {
            Data::Half(data) => size_of_val::<[_]>(data),
            Data::Int8(data) => size_of_val::<[_]>(data),
        }
    }

    fn decode_row(&self, o: usize, row: &mut [f32]) {
        check_row(self.shape(), o, row);
        let (start, g, lane) = (self.starts[o / PANEL], o % PANEL / GROUP, o % GROUP);
        row.fill(0.0);
        for at in 0..self.counts[o / GROUP] {
            let (block, k) = (start + at / RUN, at % RUN);
            let (column, value) = match &self.data {
                Data::Half(data) => {
                    (data[block].columns[k][g], f16::from_bits(data[block].values[k][g][lane]).to_f32())
                }
                Data::Int8(data) => {
                    let scale = f16::from_bits(data[block].scales[g][lane]).to_f32();
                    (data[block].columns[k][g], scale * f32::from(data[block].values[k][g][lane]))
                }
            };
            row[usize::from(column)] = value;
        }
    }

    fn parts(&self, isa: Isa, rows: usize, threads: usize) -> usize {
        self.cut(isa, rows, threads).count()
    }

    unsafe fn multiply_part(&self, isa: Isa, input: &Input<'_>, part: usize, threads: usize, y: Shared<'_, f32>) {
        let cut = self.cut(isa, input.rows(), threads);
        check_part(self.shape(), input, part, cut.count(), &y);
        let (groups, rows) = cut.part(part);
        for (panel, together) in groups {
            let panels: [Panel; MOST_PANELS] = std::array::from_fn(|p| self.panel(panel + p, together));
            // The first tile brings the panels to the cache, the others find them there.
            for (first, count) in tiles(rows.len(), MOST_ROWS) {
                let first = rows.start + first;
                let width = (together * PANEL).min(self.out - panel * PANEL);
                let tile = Tile {
                    x: input.values()[first * self.inn..(first + count) * self.inn].as_ptr(),
                    x_stride: self.inn,
                    rows: count,
                    panels: &panels[..together],
                    y: y.window(first * self.out + panel * PANEL, count, self.out, width),
                    y_stride: self.out,
                    width,
                };
                // SAFETY: the set is there, the lengths were compared, and each part writes its own outputs.
                unsafe {
                    match self.data {
                        Data::Half(_) => multiply_tile::<false>(isa, tile),
                        Data::Int8(_) => multiply_tile::<true>(isa, tile),
                    }
                }
            }
        }
    }
}

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
unsafe fn multiply_tile<const INT8: bool>(isa: Isa, tile: Tile<'_>) {
    // SAFETY: the caller's promise is that of each kernel.
    unsafe {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni | Level::Avx512 if tile.rows == 1 => avx512::multiply::<INT8>(tile),
            // For more rows the 8 outputs of a group are one register of 256 bits, whatever else the machine has.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni | Level::Avx512 | Level::Avx2 => avx2::multiply::<INT8>(tile),
            _ => portable::multiply::<INT8>(tile),
        }
    }
}

#[cfg(test)]
mod tests;
