//! From the bytes of a row of blocks to its lane of a panel.

use super::layout::{self, PanelLayout};
use crate::blocks::BlockType;
use crate::blocks::codes;
use crate::int8::BLOCK;
use crate::tile::PANEL;

/// Writes the row `row` of blocks of type `ty` as lane `lane` of `panel`, which is zero there.
pub(super) fn lane(ty: BlockType, layout: PanelLayout, row: &[u8], lane: usize, panel: &mut [u8]) {
    let kind = layout as u8;
    let blocks_per_row_block = ty.values_per_block() / BLOCK;
    let row_blocks = row.chunks_exact(ty.bytes_per_block());
    for (index, bytes) in row_blocks.enumerate() {
        let mut values = [0u8; 256];
        let values = &mut values[..ty.values_per_block()];
        let scales = codes::unpack(ty, bytes, values);
        for (b, values) in values.chunks_exact(BLOCK).enumerate() {
            let (start, head) = layout::block_start(kind, index * blocks_per_row_block + b);
            let mut half = |at: usize, bits: [u8; 2]| panel[at + 2 * lane..][..2].copy_from_slice(&bits);
            match layout {
                PanelLayout::Four | PanelLayout::Signed | PanelLayout::Byte => half(start, scales.d),
                PanelLayout::FourMin | PanelLayout::ByteMin => {
                    half(start, scales.d);
                    half(start + 2 * PANEL, scales.m);
                }
                PanelLayout::FourSuper | PanelLayout::ByteSuper | PanelLayout::Halves => {
                    half(head, scales.d);
                    if layout != PanelLayout::Halves {
                        half(head + 2 * PANEL, scales.m);
                    }
                    panel[start + lane] = scales.small[2 * b];
                    panel[start + PANEL + lane] = scales.small[2 * b + 1];
                }
            }
            let codes = &mut panel[start + layout::scale_bytes(kind)..][..layout::code_bytes(kind)];
            for (i, &value) in values.iter().enumerate() {
                let (at, upper) = layout::code_place(kind, i, lane);
                codes[at] |= if upper { value << 4 } else { value };
            }
        }
    }
}
