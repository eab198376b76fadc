//! The microkernel: a few rows times one panel of 32 outputs.

use crate::isa::Isa;

/// Outputs in one panel.
pub const PANEL: usize = 32;

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

#[allow(clippy::too_many_arguments)]
pub(crate) fn multiply_panel_on(
    _isa: Isa,
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
    for r in 0..rows {
        for o in 0..width {
            let start = if accumulate { y[r * y_stride + o] } else { 0.0 };
            y[r * y_stride + o] =
                (0..depth).fold(start, |acc, k| x[r * x_stride + k].mul_add(panel[k * PANEL + o], acc));
        }
    }
}
