//! Quantised blocks of GGUF repacked in panels of 32 outputs, multiplied with rows rounded to 8 bits.
//!
//! The law of these products: with the integers `q` and the scales `s` of [`Int8Rows`](crate::int8::Int8Rows), for each block
//! `b` of 32 inputs, in order,
//!
//! ```text
//! dot    = sum over the block of (code[o, i] - offset) * q[t, i]           exact, in integers
//! acc    = fma(dot, d[o, b] * s[t, b], acc)
//! acc    = fma(m[o, b], s[t, b] * (sum over the block of q[t, i]), acc)    where blocks have a minimum
//! ```
//!
//! in f32 from `acc = 0`, each product in it rounded once; blocks of 256 have `d = super scale * 6-bit scale`, and Q6_K takes
//! its two halves of 16 inputs one after the other. So the bits depend neither on instruction set, threads nor other rows.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layout;
mod pack;
mod portable;

use crate::blocks::BlockType;
use crate::int8::BLOCK;
use crate::isa::{Isa, Level};
use crate::memory::Aligned;
use crate::pool::Pool;
use crate::product::{Input, Product, check_part, check_row};
use crate::shared::Shared;
use crate::tile::{PANEL, tiles};
use layout::PanelLayout;

/// Panel bytes that are worth a part of their own.
const PART_BYTES: usize = 1 << 15;
/// Bytes of a panel that the first cache keeps beside the rows of a tile.
const PIECE_BYTES: usize = 24 << 10;
/// Bytes of rows that the second cache keeps beside the rest.
const CACHED: usize = 1 << 18;

/// A matrix `[out, in]` of quantised blocks as `[ceil(out / 32)][in / 32]` blocks of 32 inputs times 32 outputs.
///
/// Every code, scale and minimum is kept as it is. A block holds its scales, 32 outputs side by side, then its codes, for each
/// 4 inputs the 32 outputs side by side; 4-bit codes share a byte with those 16 inputs further on. Codes of 5 and 6 bits
/// take a byte each.
#[derive(Debug)]
pub struct QuantPanels {
    ty: BlockType,
    layout: PanelLayout,
    out: usize,
    inn: usize,
    panel_bytes: usize,
    data: Aligned<u8>,
}

/// One call of a kernel: a few rows times one panel or, for a single row, several, of which the first `width` outputs are wanted.
#[derive(Clone, Copy)]
struct Tile {
    x: *const i8,
    scales: *const f32,
    sums: *const [i32; 2],
    /// Blocks from one row to the next.
    stride: usize,
    /// Blocks to multiply: the first of the panel and of the rows.
    blocks: usize,
    rows: usize,
    panel: *const u8,
    /// Neighbouring panels, and bytes from one to the next.
    panels: usize,
    panel_stride: usize,
    offset: i32,
    y: *mut f32,
    y_stride: usize,
    width: usize,
    /// Whether the sums go on from `y`, else from zero.
    accumulate: bool,
    /// Whether the panels come from memory and are worth fetching ahead.
    far: bool,
}

impl QuantPanels {
    /// Repacks the matrix whose row `o` is the bytes `row(o)`. Rows are asked for once each, in parallel, in no fixed order.
    ///
    /// # Panics
    /// When `in` is not whole blocks or a row not exactly their bytes.
    pub fn pack<'a>(
        ty: BlockType,
        [out, inn]: [usize; 2],
        row: &(dyn Fn(usize) -> &'a [u8] + Sync),
        pool: &Pool,
    ) -> QuantPanels {
        assert!(inn.is_multiple_of(ty.values_per_block()), "{inn} inputs in blocks of {}", ty.values_per_block());
        let layout = PanelLayout::of(ty);
        let panel_bytes = layout.panel_bytes(inn / BLOCK);
        let panels = out.div_ceil(PANEL);
        let length = panel_bytes.checked_mul(panels).expect("the panels fit the address space");
        let mut data = Aligned::<u8>::zeroed(length);
        let shared = Shared::new(&mut data);
        pool.run(panels, &|panel| {
            // SAFETY: each panel belongs to one part.
            let bytes = unsafe { shared.slice_mut(panel * panel_bytes, panel_bytes) };
            for lane in 0..PANEL.min(out - panel * PANEL) {
                let row = row(panel * PANEL + lane);
                assert_eq!(row.len(), inn / ty.values_per_block() * ty.bytes_per_block(), "bytes of a row");
                pack::lane(ty, layout, row, lane, bytes);
            }
        });
        QuantPanels { ty, layout, out, inn, panel_bytes, data }
    }

    /// Bytes of a repacked matrix `[out, in]`, padding included.
    pub fn bytes_of(ty: BlockType, [out, inn]: [usize; 2]) -> u64 {
        out.div_ceil(PANEL) as u64 * PanelLayout::of(ty).panel_bytes(inn / BLOCK) as u64
    }

    /// The blocks that were repacked.
    pub fn block_type(&self) -> BlockType {
        self.ty
    }

    /// How many panels make a part, how many rows are taken at a time, and the parts of both.
    fn cut(&self, isa: Isa, rows: usize, threads: usize) -> (usize, usize, usize) {
        let panels = self.out.div_ceil(PANEL);
        let most = most_rows(isa);
        let cut = rows.div_ceil(rows.div_ceil((CACHED / self.inn.max(1)).max(8 * most))).next_multiple_of(most);
        let parts = (self.data.len() / PART_BYTES).clamp(threads, 16 * threads).min(panels).max(1);
        let together = panels.div_ceil(parts).max(1);
        let several = best_panels(isa);
        // Groups of whole calls, but not fewer groups than threads.
        let together =
            if rows == 1 && panels >= several * threads { together.next_multiple_of(several) } else { together };
        (together, cut, panels.div_ceil(together) * rows.div_ceil(cut))
    }
}

impl Product for QuantPanels {
    fn shape(&self) -> [usize; 2] {
        [self.out, self.inn]
    }

    fn bytes(&self) -> usize {
        self.data.len()
    }

    fn decode_row(&self, o: usize, row: &mut [f32]) {
        check_row(self.shape(), o, row);
        let panel = &self.data[o / PANEL * self.panel_bytes..][..self.panel_bytes];
        for (b, values) in row.chunks_exact_mut(BLOCK).enumerate() {
            layout::decode(self.layout, panel, b, o % PANEL, values);
        }
    }

    fn reads_int8(&self) -> bool {
        true
    }

    fn parts(&self, isa: Isa, rows: usize, threads: usize) -> usize {
        self.cut(isa, rows, threads).2
    }

    unsafe fn multiply_part(&self, isa: Isa, input: &Input<'_>, part: usize, threads: usize, y: Shared<'_, f32>) {
        let (together, cut, parts) = self.cut(isa, input.rows(), threads);
        check_part(self.shape(), input, part, parts, &y);
        let panels = self.out.div_ceil(PANEL);
        let groups = panels.div_ceil(together);
        let (first, group) = (part / groups * cut, part % groups);
        let (x, blocks) = (input.int8(), self.inn / BLOCK);
        let rows = cut.min(input.rows() - first);
        // Several tiles of rows find a piece of the panel in the first cache; a single one reads it through.
        let piece = if rows <= most_rows(isa) { blocks } else { self.layout.piece(blocks, PIECE_BYTES) };
        let last = panels.min((group + 1) * together);
        let mut panel = group * together;
        while panel < last {
            // Memory that is read at several places at once comes faster.
            let several = if rows == 1 && last - panel >= best_panels(isa) { best_panels(isa) } else { 1 };
            let bytes = &self.data[panel * self.panel_bytes..][..several * self.panel_bytes];
            for start in (0..blocks).step_by(piece.max(1)) {
                for (row, rows) in tiles(rows, most_rows(isa)) {
                    let row = first + row;
                    let at = row * blocks + start;
                    let width = (several * PANEL).min(self.out - panel * PANEL);
                    let tile = Tile {
                        x: x.quants()[at * BLOCK..].as_ptr(),
                        scales: x.scales()[at..].as_ptr(),
                        sums: x.sums()[at..].as_ptr(),
                        stride: blocks,
                        blocks: piece.min(blocks - start),
                        rows,
                        panel: bytes[self.layout.panel_bytes(start)..].as_ptr(),
                        panels: several,
                        panel_stride: self.panel_bytes,
                        offset: self.layout.offset(),
                        y: y.window(row * self.out + panel * PANEL, rows, self.out, width),
                        y_stride: self.out,
                        width,
                        accumulate: start > 0,
                        far: row == first,
                    };
                    // SAFETY: the lengths were compared, and each part writes its own outputs.
                    unsafe { multiply(isa, self.layout, tile) };
                }
            }
            panel += several;
        }
    }
}

/// How many neighbouring panels a call takes at best for one row.
fn best_panels(isa: Isa) -> usize {
    match isa.level() {
        Level::Avx512Vnni => 4,
        _ => 1,
    }
}

/// The most rows that one call of a kernel takes.
fn most_rows(isa: Isa) -> usize {
    match isa.level() {
        Level::Avx512Vnni => 6,
        _ => 2,
    }
}

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
unsafe fn multiply(isa: Isa, layout: PanelLayout, tile: Tile) {
    // SAFETY: the caller's promise is that of each kernel.
    unsafe {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => avx512::multiply(layout, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx2 => avx2::multiply(layout, tile),
            _ => portable::multiply(layout, tile),
        }
    }
}

#[cfg(test)]
mod tests;
