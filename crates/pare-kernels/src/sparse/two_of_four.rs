//! A matrix of whose every 4 consecutive inputs an output keeps at most 2.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod parts;
mod portable;

pub use parts::TwoOfFourParts;

use super::{Cut, RUN, SparseError, SparseType, SparseValues};
use crate::isa::{Isa, Level};
use crate::memory::{Aligned, Plain};
use crate::pool::Pool;
use crate::product::{Input, Product, check_part, check_row};
use crate::shared::Shared;
use crate::tile::{PANEL, tiles};
use half::f16;
use parts::{GROUP, groups_of};

/// Kept values of an output in one block of [`RUN`] inputs.
const KEPT: usize = RUN / 2;
/// The most rows that a kernel takes.
const MOST_ROWS: usize = 8;

/// 32 inputs of 32 outputs. Bits `2 k` of an output's word say where in its group of 4 its `k`th kept value stands.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct HalfBlock {
    words: [u32; PANEL],
    values: [[u16; PANEL]; KEPT],
}

/// 32 inputs of 32 outputs. Kept values `4 j + m`, `m` below 4, are side by side, and bits `8 m + 2 j` of the word say
/// where in its group such a value stands: shifted by `2 j` and masked, a word selects 4 of 8 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Int8Block {
    scales: [u16; PANEL],
    words: [u32; PANEL],
    values: [[[i8; 4]; PANEL]; KEPT / 4],
}

// SAFETY: arrays of numbers, aligned to a cache line.
unsafe impl Plain for HalfBlock {}
// SAFETY: as above.
unsafe impl Plain for Int8Block {}

/// A matrix `[out, in]` of which at most 2 of the inputs `4 g .. 4 g + 4` of an output are not zero, stored as
/// `[ceil(out / 32)][ceil(in / 32)]` blocks: 9 bits for each weight, kept or not, as f16, and 5.5 bits as 8-bit integers.
///
/// As f16 its product obeys the one law. As integers it multiplies rows rounded to 8 bits, and for each block `b` of 32
/// inputs in order `acc = fma(dot as f32, w_scale * x_scale, acc)`, from `acc = 0`, where `dot` is the exact sum over the
/// kept inputs of the block of integer times integer, and `w_scale * x_scale` is rounded once to f32.
#[derive(Debug)]
pub struct TwoOfFour {
    out: usize,
    inn: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Half(Aligned<HalfBlock>),
    Int8(Aligned<Int8Block>),
}

/// One call of a kernel: `rows` rows times the blocks of neighbouring panels, of which the first `width` outputs are wanted.
struct Tile<B, X> {
    /// `[rows][32 * blocks]`, one every `x_stride`.
    x: *const X,
    x_stride: usize,
    /// Of integers, `[rows][blocks]`, one every `x_stride / 32`.
    scales: *const f32,
    rows: usize,
    /// `[panels][blocks]`.
    panel: *const B,
    panels: usize,
    blocks: usize,
    /// Blocks from one panel to the next.
    panel_stride: usize,
    y: *mut f32,
    y_stride: usize,
    width: usize,
    accumulate: bool,
}

impl<B, X> Clone for Tile<B, X> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B, X> Copy for Tile<B, X> {}

impl<B, X> Tile<B, X> {
    /// Its rows `first .. first + rows`.
    fn rows_of(self, first: usize, rows: usize) -> Self {
        Tile {
            x: self.x.wrapping_add(first * self.x_stride),
            scales: self.scales.wrapping_add(first * self.x_stride / RUN),
            y: self.y.wrapping_add(first * self.y_stride),
            rows,
            ..self
        }
    }
}

impl TwoOfFour {
    /// Packs the matrix whose row `o` is what `decode_row(o, buffer of inn values)` writes; what is exactly zero is left
    /// out. Rows are decoded once each, in parallel, in no fixed order.
    ///
    /// f16 values are rounded to the nearest, ties to even. The scale of integers is the smallest f16 that is not below
    /// `max |w| / 127` of the 32 inputs, and each value is `w / scale` rounded to the nearest, ties to even.
    ///
    /// # Errors
    /// Which row and group keeps more than 2 of 4, or which run of 32 has a value that no integer can stand for.
    pub fn pack(
        ty: SparseType,
        out: usize,
        inn: usize,
        decode_row: &(dyn Fn(usize, &mut [f32]) + Sync),
        pool: &Pool,
    ) -> Result<TwoOfFour, SparseError> {
        TwoOfFour::from_parts(out, inn, &TwoOfFourParts::find(ty, out, inn, decode_row, pool)?, pool)
    }

    /// The matrix `[out, inn]` that parts from a file describe.
    ///
    /// # Errors
    /// The rule that they break: see [`TwoOfFourParts`].
    pub fn from_parts(out: usize, inn: usize, parts: &TwoOfFourParts, pool: &Pool) -> Result<TwoOfFour, SparseError> {
        parts.check(out, inn)?;
        let (panels, blocks) = (out.div_ceil(PANEL), inn.div_ceil(RUN));
        let count = panels.checked_mul(blocks).ok_or(SparseError::TooLarge)?;
        let kept = 2 * groups_of(inn);
        let stored = |o: usize, block: usize| o * kept + block * KEPT..o * kept + kept.min((block + 1) * KEPT);
        let data = match &parts.values {
            SparseValues::F16(values) => {
                let mut data = Aligned::<HalfBlock>::zeroed(count);
                each_lane(&mut data, [out, blocks], pool, &|to, o, block, lane| {
                    to.words[lane] = parts.word(inn, o, block);
                    for (to, &value) in to.values.iter_mut().zip(&values[stored(o, block)]) {
                        to[lane] = value;
                    }
                });
                Data::Half(data)
            }
            SparseValues::Int8 { values, scales } => {
                let mut data = Aligned::<Int8Block>::zeroed(count);
                each_lane(&mut data, [out, blocks], pool, &|to, o, block, lane| {
                    to.words[lane] = spread(parts.word(inn, o, block));
                    to.scales[lane] = scales[o * blocks + block];
                    for (k, &value) in values[stored(o, block)].iter().enumerate() {
                        to.values[k / 4][lane][k % 4] = value;
                    }
                });
                Data::Int8(data)
            }
        };
        Ok(TwoOfFour { out, inn, data })
    }

    /// Itself as plain rows, for a file.
    pub fn parts(&self) -> TwoOfFourParts {
        let (groups, blocks) = (groups_of(self.inn), self.inn.div_ceil(RUN));
        let mut parts = TwoOfFourParts::zeroed(self.sparse_type(), self.out, self.inn);
        for o in 0..if self.inn == 0 { 0 } else { self.out } {
            for g in 0..groups {
                let (block, k, lane) = (o / PANEL * blocks + 2 * g / KEPT, 2 * g % KEPT, o % PANEL);
                let at = 2 * (o * groups + g);
                let word = match (&self.data, &mut parts.values) {
                    (Data::Half(data), SparseValues::F16(values)) => {
                        let from = &data[block];
                        (values[at], values[at + 1]) = (from.values[k][lane], from.values[k + 1][lane]);
                        from.words[lane]
                    }
                    (Data::Int8(data), SparseValues::Int8 { values, scales }) => {
                        let from = &data[block];
                        let pair = &from.values[k / 4][lane][k % 4..];
                        (values[at], values[at + 1]) = (pair[0], pair[1]);
                        scales[o * blocks + 2 * g / KEPT] = from.scales[lane];
                        gather(from.words[lane])
                    }
                    _ => unreachable!("the parts were made for this type"),
                };
                parts.set_positions(self.inn, o, g, (word >> (2 * k)) as u8 & 0xf);
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

    /// The set whose kernels serve `isa`: without vnni, 512 bits have no product of signed bytes that is worth its steps.
    fn kernels(&self, isa: Isa) -> Isa {
        match (isa.level(), &self.data) {
            (Level::Avx512, Data::Int8(_)) => isa.at_most(Level::Avx2),
            _ => isa,
        }
    }

    fn cut(&self, isa: Isa, rows: usize, threads: usize) -> Cut {
        Cut::new(self.bytes(), [self.out, self.inn], rows, threads, (MOST_ROWS, most_panels(self.kernels(isa), rows)))
    }
}

/// Bits `2 (4 j + m)` of a word at `8 m + 2 j`, as [`Int8Block`] wants them.
fn spread(word: u32) -> u32 {
    (0..KEPT).fold(0, |to, k| to | (word >> (2 * k) & 3) << (8 * (k % 4) + 2 * (k / 4)))
}

/// The inverse of [`spread`].
fn gather(word: u32) -> u32 {
    (0..KEPT).fold(0, |to, k| to | (word >> (8 * (k % 4) + 2 * (k / 4)) & 3) << (2 * k))
}

/// Calls `fill(block, o, index of the block in its row, lane)` for every block of every output.
fn each_lane<B: Plain + Send>(
    data: &mut Aligned<B>,
    [out, blocks]: [usize; 2],
    pool: &Pool,
    fill: &(dyn Fn(&mut B, usize, usize, usize) + Sync),
) {
    let shared = Shared::new(data);
    let panels = if blocks == 0 { 0 } else { out.div_ceil(PANEL) };
    pool.run(panels, &|panel| {
        // SAFETY: each panel belongs to one part.
        let data = unsafe { shared.slice_mut(panel * blocks, blocks) };
        for (block, to) in data.iter_mut().enumerate() {
            for o in panel * PANEL..out.min((panel + 1) * PANEL) {
                fill(to, o, block, o % PANEL);
            }
        }
    });
}

impl Product for TwoOfFour {
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
        let (first, lane) = (o / PANEL * self.inn.div_ceil(RUN), o % PANEL);
        row.fill(0.0);
        for (b, row) in row.chunks_mut(RUN).enumerate() {
            let (word, values) = match &self.data {
                Data::Half(data) => {
                    let block = &data[first + b];
                    (block.words[lane], block.values.map(|values| f16::from_bits(values[lane]).to_f32()))
                }
                Data::Int8(data) => {
                    let block = &data[first + b];
                    let scale = f16::from_bits(block.scales[lane]).to_f32();
                    let value = |k: usize| scale * f32::from(block.values[k / 4][lane][k % 4]);
                    (gather(block.words[lane]), std::array::from_fn(value))
                }
            };
            for (k, value) in values.into_iter().enumerate() {
                // Padding may point past the row, and to inputs of which another value is kept.
                match row.get_mut(k / 2 * GROUP + (word >> (2 * k) & 3) as usize) {
                    Some(to) if value != 0.0 => *to = value,
                    _ => {}
                }
            }
        }
    }

    fn reads_int8(&self) -> bool {
        self.sparse_type() == SparseType::Int8
    }

    fn parts(&self, isa: Isa, rows: usize, threads: usize) -> usize {
        self.cut(isa, rows, threads).count()
    }

    unsafe fn multiply_part(&self, isa: Isa, input: &Input<'_>, part: usize, threads: usize, y: Shared<'_, f32>) {
        let cut = self.cut(isa, input.rows(), threads);
        check_part(self.shape(), input, part, cut.count(), &y);
        let (groups, rows) = cut.part(part);
        let blocks = self.inn.div_ceil(RUN);
        for (panel, panels) in groups {
            let width = (panels * PANEL).min(self.out - panel * PANEL);
            // The first tile brings the panels to the cache, the others find them there.
            for (first, count) in tiles(rows.len(), MOST_ROWS) {
                let first = rows.start + first;
                let y = y.window(first * self.out + panel * PANEL, count, self.out, width);
                match &self.data {
                    Data::Half(data) => {
                        let x = &input.values()[first * self.inn..(first + count) * self.inn];
                        // SAFETY: the set is there, the lengths were compared, and each part writes its own outputs.
                        unsafe { self.half(isa, x, count, (data[panel * blocks..].as_ptr(), panels), y, width) };
                    }
                    Data::Int8(data) => {
                        let x = input.int8();
                        let tile = Tile {
                            x: x.quants()[first * blocks * RUN..].as_ptr(),
                            x_stride: blocks * RUN,
                            scales: x.scales()[first * blocks..].as_ptr(),
                            rows: count,
                            panel: data[panel * blocks..].as_ptr(),
                            panels,
                            blocks,
                            panel_stride: blocks,
                            y,
                            y_stride: self.out,
                            width,
                            accumulate: false,
                        };
                        // SAFETY: as above.
                        unsafe {
                            match self.kernels(isa).level() {
                                #[cfg(target_arch = "x86_64")]
                                Level::Avx512Vnni => avx512::int8(tile),
                                #[cfg(target_arch = "x86_64")]
                                Level::Avx2 => avx2::int8(tile),
                                _ => portable::int8(tile),
                            }
                        }
                    }
                }
            }
        }
    }
}

impl TwoOfFour {
    /// A few rows `x` times the `panels` panels of f16 that begin at `panel`.
    ///
    /// # Safety
    /// `x` is `rows` rows, there are so many panels from `panel` on, and `y` is `rows` rows of `width` outputs that nobody else uses, one every `out`.
    unsafe fn half(
        &self,
        isa: Isa,
        x: &[f32],
        rows: usize,
        (panel, panels): (*const HalfBlock, usize),
        y: *mut f32,
        width: usize,
    ) {
        let (whole, rest) = (self.inn / RUN, self.inn % RUN);
        let (x_stride, y_stride, scales) = (self.inn, self.out, std::ptr::null());
        let tile = Tile {
            x: x.as_ptr(),
            x_stride,
            scales,
            rows,
            panel,
            panels,
            blocks: whole,
            panel_stride: self.inn.div_ceil(RUN),
            y,
            y_stride,
            width,
            accumulate: false,
        };
        // SAFETY: whole blocks of each row, by the caller's promise.
        unsafe { half_tile(isa, tile) };
        if rest > 0 {
            let mut last = [[0.0f32; RUN]; MOST_ROWS];
            for (to, x) in last.iter_mut().zip(x.chunks_exact(self.inn)) {
                to[..rest].copy_from_slice(&x[whole * RUN..]);
            }
            let (x, panel) = (last.as_ptr().cast(), panel.wrapping_add(whole));
            // SAFETY: one more block, filled with zeros, and sums that were just written.
            unsafe { half_tile(isa, Tile { x, x_stride: RUN, panel, blocks: 1, accumulate: true, ..tile }) };
        }
    }
}

/// Where block `b` of panel `p` of `panels` is fetched ahead to: the block after it, which after the last is the first block
/// of the panel that is read next.
#[inline(always)]
fn next_block<B, X>(tile: &Tile<B, X>, panels: usize, p: usize, b: usize) -> *const u8 {
    let skipped = if b + 1 < tile.blocks { 0 } else { (panels - 1) * tile.panel_stride };
    tile.panel.wrapping_add(p * tile.panel_stride + b + 1 + skipped).cast()
}

/// How many neighbouring panels a kernel takes at best for `rows` rows: memory that is read at several places at once comes
/// faster.
fn most_panels(isa: Isa, rows: usize) -> usize {
    match (isa.level(), rows) {
        (Level::Avx512Vnni | Level::Avx512, 1) => 4,
        (Level::Avx512Vnni | Level::Avx512, 2) | (Level::Avx2, 1) => 2,
        _ => 1,
    }
}

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
unsafe fn half_tile(isa: Isa, tile: Tile<HalfBlock, f32>) {
    // SAFETY: the caller's promise is that of each kernel.
    unsafe {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni | Level::Avx512 => avx512::half(tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::half(tile),
            _ => portable::half(tile),
        }
    }
}

#[cfg(test)]
mod tests;
