//! A weight matrix repacked in panels of 32 outputs, the layout that every product reads front to back.

pub use crate::convert::PanelType;
use crate::convert::{narrow, widen};
use crate::int8::Int8Rows;
use crate::isa::Isa;
use crate::memory::Aligned;
use crate::pool::Pool;
use crate::product::{Input, Product, check_part, check_row, multiply_together_on};
use crate::shared::Shared;
use crate::tile::{PANEL, Tile, best_panels, direct_rows, most_rows, multiply_rows_of, multiply_stored, tiles};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Inputs of one panel widened at a time for many rows: 24 KB of f32, which the first cache keeps.
const CHUNK: usize = 192;
/// Bytes of inputs that the second cache keeps beside the rest.
const CACHED: usize = 1 << 20;
/// Rows for which widening a panel costs little beside multiplying it.
const WORTH_WIDENING: usize = 96;
/// Inputs transposed at a time when packing.
const STRIP: usize = 16;
/// Multiply-adds below which a second thread costs more than it saves.
const SMALL: usize = 1 << 15;
/// Panel bytes that are worth a part of their own.
const PART_BYTES: usize = 1 << 15;

/// A matrix `[out, in]` stored as `[ceil(out / 32)][in][32]`; outputs past the last are zero.
#[derive(Debug)]
pub struct Panels {
    ty: PanelType,
    out: usize,
    inn: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Single(Aligned<f32>),
    Half(Aligned<u16>),
}

impl Panels {
    /// Packs the matrix whose row `o` is what `decode_row(o, buffer of inn values)` writes, rounded to `ty` (to the
    /// nearest, ties to even). Rows are decoded once each, in parallel, in no fixed order.
    ///
    /// # Panics
    /// When the padded matrix would not fit the address space.
    pub fn pack(
        ty: PanelType,
        out: usize,
        inn: usize,
        decode_row: &(dyn Fn(usize, &mut [f32]) + Sync),
        pool: &Pool,
    ) -> Panels {
        let isa = Isa::detect();
        let panels = out.div_ceil(PANEL);
        let each = inn.checked_mul(PANEL).expect("a panel fits the address space");
        let length = each.checked_mul(panels).expect("the panels fit the address space");
        let data = match ty {
            PanelType::F32 => {
                let mut data = Aligned::<f32>::zeroed(length);
                let shared = Shared::new(&mut data);
                pack_strips([out, inn], decode_row, pool, &|at, strip| {
                    // SAFETY: each strip belongs to one part.
                    unsafe { shared.slice_mut(at, strip.len()) }.copy_from_slice(strip);
                });
                Data::Single(data)
            }
            PanelType::F16 | PanelType::Bf16 => {
                let mut data = Aligned::<u16>::zeroed(length);
                let shared = Shared::new(&mut data);
                pack_strips([out, inn], decode_row, pool, &|at, strip| {
                    // SAFETY: each strip belongs to one part.
                    narrow(isa, ty, strip, unsafe { shared.slice_mut(at, strip.len()) });
                });
                Data::Half(data)
            }
        };
        Panels { ty, out, inn, data }
    }

    /// Bytes of a packed matrix `[out, in]`, padding included.
    pub fn bytes_of(ty: PanelType, [out, inn]: [usize; 2]) -> u64 {
        out.next_multiple_of(PANEL) as u64 * inn as u64 * ty.bytes_per_value() as u64
    }

    /// How the values are stored.
    pub fn panel_type(&self) -> PanelType {
        self.ty
    }

    /// `y[t,o] = sum over i in order of x[t,i] * w[o,i]`, with `x` `[T, in]` and `y` `[T, out]`, which is overwritten.
    ///
    /// Cost: `T * out * in` multiply-adds and one read of [`Panels::bytes`], which bounds it for few rows. No allocation.
    ///
    /// # Panics
    /// When the lengths of `x` and `y` do not agree on one `T`.
    pub fn multiply(&self, x: &[f32], y: &mut [f32], pool: &Pool) {
        self.multiply_on(Isa::detect(), x, y, pool);
    }

    /// [`Panels::multiply`] on a given instruction set; the bits are the same.
    ///
    /// # Panics
    /// As [`Panels::multiply`].
    pub fn multiply_on(&self, isa: Isa, x: &[f32], y: &mut [f32], pool: &Pool) {
        multiply_together_on(isa, [(self, y)], x, &mut Int8Rows::new(), pool);
    }

    /// The address of the first panel, and the bytes from one to the next.
    fn start_and_stride(&self) -> (*const u8, usize) {
        let start = match &self.data {
            Data::Single(data) => data.as_ptr().cast(),
            Data::Half(data) => data.as_ptr().cast(),
        };
        (start, self.inn * PANEL * self.ty.bytes_per_value())
    }
}

impl Product for Panels {
    fn shape(&self) -> [usize; 2] {
        [self.out, self.inn]
    }

    fn bytes(&self) -> usize {
        match &self.data {
            Data::Single(data) => data.len() * 4,
            Data::Half(data) => data.len() * 2,
        }
    }

    fn decode_row(&self, o: usize, row: &mut [f32]) {
        check_row(self.shape(), o, row);
        let start = o / PANEL * self.inn * PANEL + o % PANEL;
        for (k, value) in row.iter_mut().enumerate() {
            let at = start + k * PANEL;
            match &self.data {
                Data::Single(data) => *value = data[at],
                Data::Half(data) => widen(Isa::PORTABLE, self.ty, &data[at..=at], std::slice::from_mut(value)),
            }
        }
    }

    fn parts(&self, isa: Isa, rows: usize, threads: usize) -> usize {
        if rows <= direct_rows(isa) {
            self.groups(isa, rows, threads).parts
        } else {
            self.out.div_ceil(PANEL) * rows.div_ceil(self.cut(isa, rows, threads))
        }
    }

    unsafe fn multiply_part(&self, isa: Isa, input: &Input<'_>, part: usize, threads: usize, y: Shared<'_, f32>) {
        let (x, rows) = (input.values(), input.rows());
        check_part(self.shape(), input, part, self.parts(isa, rows, threads), &y);
        // SAFETY: the lengths were compared, and the outputs of the part are the caller's promise.
        unsafe {
            if rows <= direct_rows(isa) {
                self.few_rows(isa, x, rows, y, (part, self.groups(isa, rows, threads)));
            } else {
                self.many_rows(isa, x, rows, y, (part, self.cut(isa, rows, threads)));
            }
        }
    }
}

/// How few rows are shared: `groups` groups of `together` panels in `parts` parts.
#[derive(Clone, Copy)]
struct Groups {
    together: usize,
    groups: usize,
    parts: usize,
}

impl Panels {
    fn groups(&self, isa: Isa, rows: usize, threads: usize) -> Groups {
        let panels = self.out.div_ceil(PANEL);
        let small = rows * self.out * self.inn < SMALL;
        let threads = if small { 1 } else { threads };
        // As many panels together as hide the latency of the sums, but not fewer groups than threads.
        let together = best_panels(isa, rows).min(panels.div_ceil(threads)).max(1);
        let groups = panels.div_ceil(together);
        let parts = if small { 1 } else { (self.bytes() / PART_BYTES).clamp(threads, 16 * threads).min(groups) };
        Groups { together, groups, parts }
    }

    /// Rows are cut so that a piece of x stays in the second cache for all panels, but is worth widening them; and when
    /// there are fewer panels than threads want.
    fn cut(&self, isa: Isa, rows: usize, threads: usize) -> usize {
        let most = most_rows(isa);
        let kept = (CACHED / (4 * self.inn.max(1))).max(WORTH_WIDENING);
        let shared = (2 * threads).div_ceil(self.out.div_ceil(PANEL)).min(rows / (2 * most)).max(1);
        rows.div_ceil(rows.div_ceil(kept).max(shared)).next_multiple_of(most)
    }

    /// A part of one pass over the stored panels, widened in registers by each tile of rows.
    ///
    /// # Safety
    /// `x` is `[rows, in]`, and nobody else uses the outputs of the part.
    unsafe fn few_rows(&self, isa: Isa, x: &[f32], rows: usize, y: Shared<'_, f32>, (part, cut): (usize, Groups)) {
        let Groups { together, groups, parts } = cut;
        let panels = self.out.div_ceil(PANEL);
        for group in part * groups / parts..(part + 1) * groups / parts {
            let panel = group * together;
            let together = together.min(panels - panel);
            let width = (together * PANEL).min(self.out - panel * PANEL);
            let y = y.window(panel * PANEL, rows, self.out, width);
            // SAFETY: these rows of `x` and `y` are there, and each group writes its own outputs.
            unsafe { self.neighbours(isa, (x.as_ptr(), self.inn), rows, (y, self.out), (panel, together)) };
        }
    }

    /// Some columns of longer rows: `x` and `y` each with the distance of its rows.
    ///
    /// # Safety
    /// `in` values from `x` and `out` values from `y` are valid in each row, and nobody else uses the latter.
    pub(crate) unsafe fn multiply_columns(
        &self,
        isa: Isa,
        (x, x_stride): (*const f32, usize),
        rows: usize,
        (y, y_stride): (*mut f32, usize),
    ) {
        for panel in 0..self.out.div_ceil(PANEL) {
            let y = y.wrapping_add(panel * PANEL);
            // SAFETY: the caller's promise.
            unsafe { self.neighbours(isa, (x, x_stride), rows, (y, y_stride), (panel, 1)) };
        }
    }

    /// Rows times the `together` panels from `panel` on, whose outputs begin at `y`.
    ///
    /// # Safety
    /// As [`Panels::multiply_columns`]; there are so many panels, and no more than a kernel takes for these rows.
    unsafe fn neighbours(
        &self,
        isa: Isa,
        (x, x_stride): (*const f32, usize),
        rows: usize,
        (y, y_stride): (*mut f32, usize),
        (panel, together): (usize, usize),
    ) {
        let (start, panel_stride) = self.start_and_stride();
        // The first tile brings the panels to the cache, the others find them there.
        for (first, rows) in tiles(rows, most_rows(isa)) {
            let tile = Tile {
                x: x.wrapping_add(first * x_stride),
                x_stride,
                x_step: 1,
                rows,
                panel: start.wrapping_add(panel * panel_stride),
                panel_stride,
                depth: self.inn,
                y: y.wrapping_add(first * y_stride),
                y_stride,
                width: (self.out - panel * PANEL).min(together * PANEL),
                accumulate: false,
            };
            // SAFETY: the caller's promise.
            unsafe { multiply_stored(isa, self.ty, together, tile) };
        }
    }

    /// A panel, piece by piece widened once each, times a cut of the rows.
    ///
    /// # Safety
    /// `x` is `[rows, in]`, and nobody else uses the outputs of the part.
    unsafe fn many_rows(&self, isa: Isa, x: &[f32], rows: usize, y: Shared<'_, f32>, (part, cut): (usize, usize)) {
        let panels = self.out.div_ceil(PANEL);
        let (panel, first) = (part % panels, part / panels * cut);
        let (count, width) = (cut.min(rows - first), PANEL.min(self.out - panel * PANEL));
        let y = y.window(first * self.out + panel * PANEL, count, self.out, width);
        let mut wide = WideChunk([0.0; CHUNK * PANEL]);
        let mut start = 0;
        loop {
            let depth = CHUNK.min(self.inn - start);
            let from = (panel * self.inn + start) * PANEL;
            let values = match &self.data {
                Data::Single(data) => &data[from..from + depth * PANEL],
                Data::Half(data) => {
                    widen(isa, self.ty, &data[from..from + depth * PANEL], &mut wide.0[..depth * PANEL]);
                    &wide.0[..depth * PANEL]
                }
            };
            let tile = Tile {
                x: x[first * self.inn + start..].as_ptr(),
                x_stride: self.inn,
                x_step: 1,
                rows: count,
                panel: values.as_ptr().cast(),
                panel_stride: 0,
                depth,
                y,
                y_stride: self.out,
                width,
                accumulate: start > 0,
            };
            // SAFETY: these rows of `x` and `y` are there, and each part writes its own outputs.
            unsafe { multiply_rows_of::<false>(isa, tile) };
            start += depth;
            if start == self.inn {
                break;
            }
        }
    }
}

#[repr(align(64))]
struct WideChunk([f32; CHUNK * PANEL]);

/// Decodes 32 rows at a time and hands on their transpose in strips: `store(offset in the panels, [up to 16][32])`.
fn pack_strips(
    [out, inn]: [usize; 2],
    decode_row: &(dyn Fn(usize, &mut [f32]) + Sync),
    pool: &Pool,
    store: &(dyn Fn(usize, &[f32]) + Sync),
) {
    let panels = out.div_ceil(PANEL);
    // One line more than a row, so that rows of a power of two do not fall on the same lines of the cache.
    let stride = inn + STRIP;
    let next = AtomicUsize::new(0);
    pool.run(pool.threads().min(panels), &|_| {
        let mut rows = vec![0.0f32; PANEL * stride];
        let mut strip = [[0.0f32; PANEL]; STRIP];
        loop {
            let panel = next.fetch_add(1, Ordering::Relaxed);
            if panel >= panels {
                return;
            }
            let width = PANEL.min(out - panel * PANEL);
            for (lane, row) in rows.chunks_exact_mut(stride).enumerate() {
                match lane < width {
                    true => decode_row(panel * PANEL + lane, &mut row[..inn]),
                    false => row.fill(0.0),
                }
            }
            for k in (0..inn).step_by(STRIP) {
                for (lane, row) in rows.chunks_exact(stride).enumerate() {
                    for (line, &value) in strip.iter_mut().zip(&row[k..k + STRIP]) {
                        line[lane] = value;
                    }
                }
                store((panel * inn + k) * PANEL, strip[..STRIP.min(inn - k)].as_flattened());
            }
        }
    });
}

#[cfg(test)]
mod tests;
