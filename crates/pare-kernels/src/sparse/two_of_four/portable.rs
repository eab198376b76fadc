//! The 2:4 kernels in plain Rust.

use super::{HalfBlock, Int8Block, KEPT, Tile};
use crate::tile::PANEL;
use half::f16;

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn half(tile: Tile<HalfBlock, f32>) {
    debug_assert!(tile.panels == 1);
    for r in 0..tile.rows {
        // SAFETY: row `r` of `x` has `blocks` blocks, of `y` `width` values, and the panel `blocks` blocks.
        unsafe {
            let (x, y) = (tile.x.add(r * tile.x_stride), tile.y.add(r * tile.y_stride));
            let mut sums = [0.0f32; PANEL];
            if tile.accumulate {
                std::ptr::copy_nonoverlapping(y, sums.as_mut_ptr(), tile.width);
            }
            for b in 0..tile.blocks {
                let block = &*tile.panel.add(b);
                let x = &*x.add(b * 2 * KEPT).cast::<[f32; 2 * KEPT]>();
                for (k, values) in block.values.iter().enumerate() {
                    for ((sum, &value), word) in sums.iter_mut().zip(values).zip(block.words) {
                        let x = x[k / 2 * 4 + (word >> (2 * k) & 3) as usize];
                        *sum = x.mul_add(f16::from_bits(value).to_f32(), *sum);
                    }
                }
            }
            std::ptr::copy_nonoverlapping(sums.as_ptr(), y, tile.width);
        }
    }
}

/// # Safety
/// As [`half`].
pub(super) unsafe fn int8(tile: Tile<Int8Block, i8>) {
    debug_assert!(tile.panels == 1);
    for r in 0..tile.rows {
        // SAFETY: as in `half`; scales stand one for each block of `x`.
        unsafe {
            let (x, y) = (tile.x.add(r * tile.x_stride), tile.y.add(r * tile.y_stride));
            let x_scales = tile.scales.add(r * tile.x_stride / (2 * KEPT));
            let mut sums = [0.0f32; PANEL];
            for b in 0..tile.blocks {
                let block = &*tile.panel.add(b);
                let x = &*x.add(b * 2 * KEPT).cast::<[i8; 2 * KEPT]>();
                let mut dots = [0i32; PANEL];
                for (j, values) in block.values.iter().enumerate() {
                    for ((dot, values), word) in dots.iter_mut().zip(values).zip(block.words) {
                        for (m, &value) in values.iter().enumerate() {
                            let position = (word >> (8 * m + 2 * j) & 3) as usize;
                            *dot += i32::from(x[8 * j + m / 2 * 4 + position]) * i32::from(value);
                        }
                    }
                }
                for ((sum, dot), scale) in sums.iter_mut().zip(dots).zip(block.scales) {
                    *sum = (dot as f32).mul_add(f16::from_bits(scale).to_f32() * *x_scales.add(b), *sum);
                }
            }
            std::ptr::copy_nonoverlapping(sums.as_ptr(), y, tile.width);
        }
    }
}
