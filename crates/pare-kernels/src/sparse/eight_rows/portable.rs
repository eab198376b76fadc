//! The kernel for shared columns in plain Rust.

use super::super::RUN;
use super::{GROUP, Group, Tile};
use half::f16;

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply<const INT8: bool>(tile: Tile<'_>) {
    for (g, group) in tile.groups.iter().enumerate() {
        let width = tile.width.saturating_sub(g * GROUP).min(GROUP);
        for r in 0..if width > 0 { tile.rows } else { 0 } {
            // SAFETY: row `r` of `x` has every column, of `y` the group's outputs.
            unsafe {
                let (x, y) = (tile.x.add(r * tile.x_stride), tile.y.add(r * tile.y_stride + g * GROUP));
                let mut sums = [0.0f32; GROUP];
                for k in 0..group.count {
                    let x = *x.add(usize::from(*group.columns.add(k)));
                    for (sum, weight) in sums.iter_mut().zip(weights::<INT8>(group, k)) {
                        *sum = x.mul_add(weight, *sum);
                    }
                }
                std::ptr::copy_nonoverlapping(sums.as_ptr(), y, width);
            }
        }
    }
}

/// The 8 weights of the `k`th kept column.
///
/// # Safety
/// The group has it.
unsafe fn weights<const INT8: bool>(group: &Group, k: usize) -> [f32; GROUP] {
    // SAFETY: the caller's promise.
    unsafe {
        if INT8 {
            let scales = *group.scales.cast::<[u16; GROUP]>().add(k / RUN);
            let values = *group.values.cast::<[i8; GROUP]>().add(k);
            std::array::from_fn(|lane| f16::from_bits(scales[lane]).to_f32() * f32::from(values[lane]))
        } else {
            (*group.values.cast::<[u16; GROUP]>().add(k)).map(|bits| f16::from_bits(bits).to_f32())
        }
    }
}
