//! The microkernel in plain Rust.

use super::{BF16, F16, PANEL, Tile};

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply<const TY: u8>(panels: usize, tile: Tile) {
    for p in 0..panels {
        let width = PANEL.min(tile.width - p * PANEL);
        for r in 0..tile.rows {
            // SAFETY: row `r` of `y` has `width` values, of `x` `depth`, and the panel `depth * 32` of its storage.
            unsafe {
                let y = tile.y.add(r * tile.y_stride + p * PANEL);
                let x = tile.x.add(r * tile.x_stride);
                let mut sums = [0.0f32; PANEL];
                if tile.accumulate {
                    std::ptr::copy_nonoverlapping(y, sums.as_mut_ptr(), width);
                }
                let mut values = tile.panel.add(p * tile.panel_stride);
                for k in 0..tile.depth {
                    let x = *x.add(k * tile.x_step);
                    let weights = load::<TY>(values);
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = x.mul_add(weight, *sum);
                    }
                    values = values.add(PANEL * if TY == super::F32 { 4 } else { 2 });
                }
                std::ptr::copy_nonoverlapping(sums.as_ptr(), y, width);
            }
        }
    }
}

/// 32 stored values as f32.
///
/// # Safety
/// They are readable at `at`, aligned as their type.
#[inline(always)]
unsafe fn load<const TY: u8>(at: *const u8) -> [f32; PANEL] {
    // SAFETY: the caller's promise.
    unsafe {
        match TY {
            F16 => (*at.cast::<[half::f16; PANEL]>()).map(half::f16::to_f32),
            BF16 => (*at.cast::<[half::bf16; PANEL]>()).map(half::bf16::to_f32),
            _ => *at.cast::<[f32; PANEL]>(),
        }
    }
}
