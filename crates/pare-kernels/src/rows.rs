//! Products with matrices that stay row-major where they are, such as quantised rows in a memory map.

use crate::isa::Isa;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::{F32, PANEL, Tile, most_rows, multiply_tile, tiles};
use std::cell::RefCell;
use std::ops::Range;

/// Columns decoded at a time: whole blocks of every quantised type.
pub const CHUNK: usize = 256;
/// Panels that a part decodes before it multiplies: each read of `x` then serves all of them, and they stay in the cache of
/// the core (32 kB each).
const TOGETHER: usize = 4;
/// Values from one decoded row to the next: not a power of two, so that a column does not fall on one line of the cache.
const STRIDE: usize = CHUNK + 16;

/// A matrix `[out, in]` that decodes pieces of its rows.
pub trait RowSource: Sync {
    /// `[out, in]`.
    fn shape(&self) -> [usize; 2];

    /// Writes columns `start..start + out.len()` of row `row` into `out`. [`multiply_rows`] asks only for `start` a
    /// multiple of 256, and a length of 256 or up to the end of the row.
    fn decode(&self, row: usize, start: usize, out: &mut [f32]);
}

/// `y[t,o] = sum over i in order of x[t,i] * w[o,i]`, with `x` `[T, in]` and `y` `[T, out]`, which is overwritten.
///
/// Each value of the matrix is decoded once. The same bits as [`crate::Panels::multiply`] on the same values. Each thread
/// allocates once, 128 kB.
///
/// # Panics
/// When the lengths of `x` and `y` do not agree on one `T`.
pub fn multiply_rows(source: &dyn RowSource, x: &[f32], y: &mut [f32], pool: &Pool) {
    multiply_rows_on(Isa::detect(), source, x, y, pool);
}

fn multiply_rows_on(isa: Isa, source: &dyn RowSource, x: &[f32], y: &mut [f32], pool: &Pool) {
    let [out, inn] = source.shape();
    let rows = y.len().checked_div(out).unwrap_or(0);
    assert_eq!(y.len(), rows * out, "y is not [T, {out}]");
    assert_eq!(x.len(), rows * inn, "x is not [{rows}, {inn}]");
    if inn == 0 || rows == 0 {
        return y.fill(0.0);
    }
    let y = Shared::new(y);
    let panels = out.div_ceil(PANEL);
    // Equal parts, of which each thread has as many.
    let rounds = panels.div_ceil(pool.threads() * TOGETHER);
    let together = panels.div_ceil(pool.threads() * rounds);
    pool.run(panels.div_ceil(together), &|part| {
        let first = part * together;
        let count = together.min(panels - first);
        let outputs = |p: usize| (first + p) * PANEL..out.min((first + p + 1) * PANEL);
        CHUNKS.with_borrow_mut(|chunks| {
            if chunks.len() < count {
                chunks.resize(count, Chunk([0.0; CHUNK * PANEL]));
            }
            // SAFETY: the lengths were compared, and each part has panels of its own.
            unsafe { multiply_part(isa, source, [out, inn], (x, rows), y, &mut chunks[..count], &outputs) };
        });
    });
}

/// The panels of one part, whose outputs `outputs` tells: they are decoded into `chunks`, a piece of their inputs at a time.
///
/// # Safety
/// `x` is `[rows, in]`, and nobody else uses these outputs of `y` `[rows, out]`.
unsafe fn multiply_part(
    isa: Isa,
    source: &dyn RowSource,
    // Asked for once: a source that changed its mind would change it after the lengths were compared.
    [out, inn]: [usize; 2],
    (x, rows): (&[f32], usize),
    y: Shared<'_, f32>,
    chunks: &mut [Chunk],
    outputs: &dyn Fn(usize) -> Range<usize>,
) {
    for start in (0..inn).step_by(CHUNK) {
        let depth = CHUNK.min(inn - start);
        for (p, chunk) in chunks.iter_mut().enumerate() {
            chunk.decode(source, outputs(p), start, depth);
        }
        for (row, rows) in tiles(rows, most_rows(isa)) {
            for (p, chunk) in chunks.iter().enumerate() {
                let outputs = outputs(p);
                let tile = Tile {
                    x: x[row * inn + start..].as_ptr(),
                    x_stride: inn,
                    x_step: 1,
                    rows,
                    panel: chunk.0.as_ptr().cast(),
                    panel_stride: 0,
                    depth,
                    y: y.window(row * out + outputs.start, rows, out, outputs.len()),
                    y_stride: out,
                    width: outputs.len(),
                    accumulate: start > 0,
                };
                // SAFETY: `depth` values of these rows and of the chunk, and outputs that are this part's own.
                unsafe { multiply_tile::<F32, false, false>(isa, 1, tile) };
            }
        }
    }
}

thread_local! {
    /// What each thread decodes into.
    static CHUNKS: RefCell<Vec<Chunk>> = const { RefCell::new(Vec::new()) };
}

/// Some columns of the rows of one panel, `[CHUNK, PANEL]`.
#[derive(Clone)]
#[repr(align(64))]
struct Chunk([f32; CHUNK * PANEL]);

impl Chunk {
    fn decode(&mut self, source: &dyn RowSource, rows: Range<usize>, start: usize, depth: usize) {
        let mut decoded = [0.0f32; STRIDE * PANEL];
        for (line, row) in decoded.chunks_exact_mut(STRIDE).zip(rows) {
            source.decode(row, start, &mut line[..depth]);
        }
        for (k, line) in self.0[..depth * PANEL].chunks_exact_mut(PANEL).enumerate() {
            for (lane, value) in line.iter_mut().enumerate() {
                *value = decoded[lane * STRIDE + k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::{RowType, Rows};
    use crate::reference::{self, numbers, same_bits, sizes};

    #[test]
    fn rows_in_bytes_give_the_bits_of_the_fold() {
        let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
        let shapes = [(1, 1), (31, 2), (32, 31), (33, 192), (64, 256), (100, 257), (33, 576)];
        for &(out, inn) in sizes(&shapes, &[(33, 257)]) {
            let w = numbers(7, out * inn);
            let bytes: Vec<u8> = w.iter().flat_map(|w| w.to_le_bytes()).collect();
            let source = Rows::new(RowType::F32, &bytes, [out, inn]).expect("the bytes fit");
            for &rows in sizes(&[1, 2, 3, 7, 12, 13, 40], &[1, 3]) {
                let x = numbers(8, rows * inn);
                let expected = reference::multiply(&x, &w, rows, out, inn);
                for isa in Isa::available() {
                    for pool in &pools {
                        let mut y = vec![f32::NAN; rows * out];
                        multiply_rows_on(isa, &source, &x, &mut y, pool);
                        assert!(same_bits(&y, &expected), "{} {rows}x{inn}x{out}", isa.name());
                    }
                }
            }
        }
    }

    /// Says another shape each time it is asked.
    struct Restless(std::sync::atomic::AtomicUsize);

    impl RowSource for Restless {
        fn shape(&self) -> [usize; 2] {
            [33 + self.0.fetch_add(1000, std::sync::atomic::Ordering::Relaxed), 5]
        }

        fn decode(&self, _: usize, _: usize, out: &mut [f32]) {
            out.fill(1.0);
        }
    }

    #[test]
    fn a_shape_that_changes_cannot_move_an_address() {
        let mut y = [0.0; 33];
        multiply_rows(&Restless(Default::default()), &[1.0; 5], &mut y, &Pool::new(2));
        assert_eq!(y, [5.0; 33]);
    }
}
