//! The kernel for shared columns in plain Rust.

use super::super::RUN;
use super::{GROUP, HalfBlock, Int8Block, Panel, TOGETHER, Tile};
use crate::tile::PANEL;
use half::f16;

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply<const INT8: bool>(tile: Tile<'_>) {
    for (p, panel) in tile.panels.iter().enumerate() {
        for r in 0..tile.rows {
            let width = PANEL.min(tile.width - p * PANEL);
            // SAFETY: row `r` of `x` has every column, of `y` the panel's outputs.
            unsafe {
                let (x, y) = (tile.x.add(r * tile.x_stride), tile.y.add(r * tile.y_stride + p * PANEL));
                let mut sums = [[0.0f32; GROUP]; TOGETHER];
                for k in 0..panel.count {
                    let (columns, weights) = column::<INT8>(panel, k);
                    for ((sums, column), weights) in sums.iter_mut().zip(columns).zip(weights) {
                        let x = *x.add(usize::from(column));
                        sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum = x.mul_add(weight, *sum));
                    }
                }
                std::ptr::copy_nonoverlapping(sums.as_ptr().cast(), y, width);
            }
        }
    }
}

/// The `k`th kept column of each group, and its weights.
///
/// # Safety
/// The panel has it.
unsafe fn column<const INT8: bool>(panel: &Panel, k: usize) -> ([u16; TOGETHER], [[f32; GROUP]; TOGETHER]) {
    let half = |bits: u16| f16::from_bits(bits).to_f32();
    // SAFETY: the caller's promise.
    unsafe {
        if INT8 {
            let block = &*panel.blocks.cast::<Int8Block>().add(k / RUN);
            let value = |g: usize, lane: usize| half(block.scales[g][lane]) * f32::from(block.values[k % RUN][g][lane]);
            (block.columns[k % RUN], std::array::from_fn(|g| std::array::from_fn(|lane| value(g, lane))))
        } else {
            let block = &*panel.blocks.cast::<HalfBlock>().add(k / RUN);
            (block.columns[k % RUN], block.values[k % RUN].map(|values| values.map(half)))
        }
    }
}
