//! The microkernel in plain Rust: the law as it is written, 32 outputs side by side.

use super::layout::{self, PanelLayout};
use super::{BLOCK, PANEL, Tile};
use half::f16;

/// # Safety
/// Every element that the tile names is valid and, in `y`, not used by anyone else.
pub(super) unsafe fn multiply(layout: PanelLayout, tile: Tile) {
    // SAFETY: the panel has these bytes, and each row these blocks, by the caller's promise.
    let (panel, x, scales, sums) = unsafe {
        (
            std::slice::from_raw_parts(tile.panel, layout.panel_bytes(tile.blocks)),
            std::slice::from_raw_parts(tile.x, ((tile.rows - 1) * tile.stride + tile.blocks) * BLOCK),
            std::slice::from_raw_parts(tile.scales, (tile.rows - 1) * tile.stride + tile.blocks),
            std::slice::from_raw_parts(tile.sums, (tile.rows - 1) * tile.stride + tile.blocks),
        )
    };
    for row in 0..tile.rows {
        // SAFETY: the first `width` values of the row.
        let y = unsafe { std::slice::from_raw_parts_mut(tile.y.add(row * tile.y_stride), tile.width) };
        let mut acc = [0.0f32; PANEL];
        if tile.accumulate {
            acc[..tile.width].copy_from_slice(y);
        }
        for b in 0..tile.blocks {
            let at = row * tile.stride + b;
            block(layout, panel, b, &x[at * BLOCK..][..BLOCK], scales[at], sums[at], &mut acc);
        }
        y.copy_from_slice(&acc[..tile.width]);
    }
}

/// One block of inputs onto the sums of a panel.
#[allow(clippy::needless_range_loop)]
fn block(layout: PanelLayout, panel: &[u8], b: usize, x: &[i8], scale: f32, sums: [i32; 2], acc: &mut [f32; PANEL]) {
    let kind = layout as u8;
    let (start, head) = layout::block_start(kind, b);
    let codes = &panel[start + layout::scale_bytes(kind)..][..layout::code_bytes(kind)];
    let half = |at: usize, lane: usize| {
        let at = at + 2 * lane;
        f16::from_le_bytes([panel[at], panel[at + 1]]).to_f32()
    };
    let mut dots = [[0i32; PANEL]; 2];
    for (i, &x) in x.iter().enumerate() {
        for lane in 0..PANEL {
            let (at, upper) = layout::code_place(kind, i, lane);
            let code = match (layout::four_bits(kind), upper) {
                (true, false) => codes[at] & 0x0f,
                (true, true) => codes[at] >> 4,
                (false, _) => codes[at],
            };
            dots[i / 16][lane] += i32::from(code) * i32::from(x);
        }
    }
    for lane in 0..PANEL {
        let dot = [0, 1].map(|i| dots[i][lane] - layout.offset() * sums[i]);
        let byte = |at: usize| panel[start + at + lane];
        if layout == PanelLayout::Halves {
            for (i, dot) in dot.into_iter().enumerate() {
                let d = half(head, lane) * f32::from(byte(i * PANEL) as i8);
                acc[lane] = (dot as f32).mul_add(d * scale, acc[lane]);
            }
            continue;
        }
        let (d, m) = if layout::is_super(kind) {
            let m = half(head + 2 * PANEL, lane) * f32::from(byte(PANEL));
            (half(head, lane) * f32::from(byte(0)), -m)
        } else if layout::has_minimum(kind) {
            (half(start, lane), half(start + 2 * PANEL, lane))
        } else {
            (half(start, lane), 0.0)
        };
        acc[lane] = ((dot[0] + dot[1]) as f32).mul_add(d * scale, acc[lane]);
        if layout::has_minimum(kind) {
            acc[lane] = m.mul_add(scale * (sums[0] + sums[1]) as f32, acc[lane]);
        }
    }
}
