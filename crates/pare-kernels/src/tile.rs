//! The microkernel: a few rows times a few panels of 32 outputs.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::convert::PanelType;
use crate::isa::{Isa, Level};

/// Outputs in one panel.
pub const PANEL: usize = 32;

/// [`PanelType`] as a const parameter of the kernels.
pub(crate) const F32: u8 = 0;
pub(crate) const F16: u8 = 1;
pub(crate) const BF16: u8 = 2;

/// One call of a kernel: `rows` rows times `panels` neighbouring panels, of which the first `width` outputs are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) x: *const f32,
    pub(crate) x_stride: usize,
    /// Values of `x` from one `k` to the next: 1 unless the kernel is told that it runs `ACROSS`, where `x_stride` is 1.
    pub(crate) x_step: usize,
    pub(crate) rows: usize,
    pub(crate) panel: *const u8,
    /// Bytes from one panel to the next; unused for one panel.
    pub(crate) panel_stride: usize,
    pub(crate) depth: usize,
    pub(crate) y: *mut f32,
    pub(crate) y_stride: usize,
    pub(crate) width: usize,
    pub(crate) accumulate: bool,
}

/// `y[r,o] = fold over k in order of fma(x[r,k], panel[k,o], acc)` for `o < width`, on the best instruction set.
///
/// `x` holds `rows` rows of `depth` values, one every `x_stride`; `panel` is `[depth][32]`; `y` holds `rows` rows of
/// `width <= 32` values, one every `y_stride`; nothing else of `y` is touched. The fold starts from `y` when
/// `accumulate`, else from zero. Cost: `rows * depth * 32` multiply-adds.
///
/// # Panics
/// When a slice is too short or `width > 32`.
#[allow(clippy::too_many_arguments)]
pub fn multiply_panel(
    x: &[f32],
    x_stride: usize,
    rows: usize,
    panel: &[f32],
    depth: usize,
    y: &mut [f32],
    y_stride: usize,
    width: usize,
    accumulate: bool,
) {
    multiply_panel_on(Isa::detect(), x, x_stride, rows, panel, depth, y, y_stride, width, accumulate);
}

/// [`multiply_panel`] on a given instruction set; the bits are the same.
///
/// # Panics
/// As [`multiply_panel`].
#[allow(clippy::too_many_arguments)]
pub fn multiply_panel_on(
    isa: Isa,
    x: &[f32],
    x_stride: usize,
    rows: usize,
    panel: &[f32],
    depth: usize,
    y: &mut [f32],
    y_stride: usize,
    width: usize,
    accumulate: bool,
) {
    assert!(width <= PANEL, "a panel has 32 outputs, asked for {width}");
    if rows == 0 || width == 0 {
        return;
    }
    assert!(x.len() >= span(rows, x_stride, depth), "x is too short: {} values", x.len());
    assert!(panel.len() / PANEL >= depth, "the panel is too short: {} values", panel.len());
    assert!(y.len() >= span(rows, y_stride, width), "y is too short: {} values", y.len());
    let (x, panel, y) = (x.as_ptr(), panel.as_ptr().cast(), y.as_mut_ptr());
    let tile = Tile { x, x_stride, x_step: 1, rows, panel, panel_stride: 0, depth, y, y_stride, width, accumulate };
    // SAFETY: the assertions above cover every element that the tile names.
    unsafe { multiply_rows_of::<false>(isa, tile) };
}

/// Elements from the first of the first row to the last of the last.
fn span(rows: usize, stride: usize, length: usize) -> usize {
    let before = (rows - 1).checked_mul(stride).and_then(|before| before.checked_add(length));
    before.expect("the number of elements fits usize")
}

/// The most rows that one call of a kernel over one panel takes.
pub(crate) fn most_rows(isa: Isa) -> usize {
    match isa.level() {
        Level::Avx512Vnni | Level::Avx512 => 12,
        Level::Avx2 => 3,
        Level::Portable => 2,
    }
}

/// The most rows for which each tile widens the stored values anew: measured to be no slower than widening once to memory.
pub(crate) fn direct_rows(isa: Isa) -> usize {
    match isa.level() {
        Level::Avx512Vnni | Level::Avx512 => 48,
        Level::Avx2 => 6,
        Level::Portable => 2,
    }
}

/// How many neighbouring panels a call takes at best for `rows` rows: enough independent sums to hide their latency.
pub(crate) fn best_panels(isa: Isa, rows: usize) -> usize {
    match (isa.level(), rows) {
        (Level::Avx512Vnni | Level::Avx512, 1) => 4,
        (Level::Avx512Vnni | Level::Avx512, 2..=3) | (Level::Avx2, 1) => 2,
        _ => 1,
    }
}

/// Any number of rows times one f32 panel, in tiles of nearly equal height. `ACROSS` says that `x` is transposed.
///
/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
pub(crate) unsafe fn multiply_rows_of<const ACROSS: bool>(isa: Isa, tile: Tile) {
    for (first, rows) in tiles(tile.rows, most_rows(isa)) {
        // SAFETY: rows within the tile.
        let (x, y) = unsafe { (tile.x.add(first * tile.x_stride), tile.y.add(first * tile.y_stride)) };
        // SAFETY: a part of the tile, by the caller's promise.
        unsafe { multiply_tile::<F32, false, ACROSS>(isa, 1, Tile { x, y, rows, ..tile }) };
    }
}

/// Cuts `rows` into pieces `(first, rows)` of nearly equal height, none higher than `most`.
pub(crate) fn tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most);
    (0..count).map(move |i| (i * rows / count, (i + 1) * rows / count - i * rows / count))
}

/// At most [`most_rows`] rows times `panels` panels of storage `TY`, `panels` being 1 or at most [`best_panels`]. `FAR` says
/// that the panels come from memory and are worth fetching ahead.
///
/// # Safety
/// As [`multiply_rows_of`].
pub(crate) unsafe fn multiply_tile<const TY: u8, const FAR: bool, const ACROSS: bool>(
    isa: Isa,
    panels: usize,
    tile: Tile,
) {
    // SAFETY: the caller's promise is that of each kernel.
    unsafe {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni | Level::Avx512 => avx512::multiply::<TY, FAR, ACROSS>(panels, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::multiply::<TY, FAR, ACROSS>(panels, tile),
            _ => portable::multiply::<TY>(panels, tile),
        }
    }
}

/// [`multiply_tile`] for a storage known at run time, the panels fetched ahead.
///
/// # Safety
/// As [`multiply_rows_of`].
pub(crate) unsafe fn multiply_stored(isa: Isa, ty: PanelType, panels: usize, tile: Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match ty {
            PanelType::F32 => multiply_tile::<F32, true, false>(isa, panels, tile),
            PanelType::F16 => multiply_tile::<F16, true, false>(isa, panels, tile),
            PanelType::Bf16 => multiply_tile::<BF16, true, false>(isa, panels, tile),
        }
    }
}

#[cfg(test)]
mod tests;
