//! How the blocks of each type lie in a panel.

use crate::blocks::BlockType;
use crate::tile::PANEL;
use half::f16;

/// Blocks of 32 that share the super scales of a block of 256.
const SUPER: usize = 8;

/// What distinguishes the panels of one type from those of another, as far as kernels see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PanelLayout {
    /// 4-bit codes less 8, a scale: Q4_0.
    Four = FOUR,
    /// 4-bit codes, a scale and a minimum: Q4_1.
    FourMin = FOUR_MIN,
    /// 4-bit codes, 6-bit scale and minimum, super scales: Q4_K.
    FourSuper = FOUR_SUPER,
    /// 8-bit codes less 128, a scale: Q8_0.
    Signed = SIGNED,
    /// Codes below 64 less 16, a scale: Q5_0.
    Byte = BYTE,
    /// Codes below 64, a scale and a minimum: Q5_1.
    ByteMin = BYTE_MIN,
    /// Codes below 64, 6-bit scale and minimum, super scales: Q5_K.
    ByteSuper = BYTE_SUPER,
    /// Codes below 64 less 32, a signed scale for each 16 inputs, a super scale: Q6_K.
    Halves = HALVES,
}

/// [`PanelLayout`] as a const parameter of the kernels.
pub(super) const FOUR: u8 = 0;
pub(super) const FOUR_MIN: u8 = 1;
pub(super) const FOUR_SUPER: u8 = 2;
pub(super) const SIGNED: u8 = 3;
pub(super) const BYTE: u8 = 4;
pub(super) const BYTE_MIN: u8 = 5;
pub(super) const BYTE_SUPER: u8 = 6;
pub(super) const HALVES: u8 = 7;

/// Runs `$kernel::<LAYOUT, ...>(arguments)` for the constant of a layout.
macro_rules! for_layout {
    ($layout:expr, $kernel:ident::<$($more:literal),*>($($argument:expr),*)) => {
        match $layout {
            PanelLayout::Four => $kernel::<{ layout::FOUR }, $($more),*>($($argument),*),
            PanelLayout::FourMin => $kernel::<{ layout::FOUR_MIN }, $($more),*>($($argument),*),
            PanelLayout::FourSuper => $kernel::<{ layout::FOUR_SUPER }, $($more),*>($($argument),*),
            PanelLayout::Signed => $kernel::<{ layout::SIGNED }, $($more),*>($($argument),*),
            PanelLayout::Byte => $kernel::<{ layout::BYTE }, $($more),*>($($argument),*),
            PanelLayout::ByteMin => $kernel::<{ layout::BYTE_MIN }, $($more),*>($($argument),*),
            PanelLayout::ByteSuper => $kernel::<{ layout::BYTE_SUPER }, $($more),*>($($argument),*),
            PanelLayout::Halves => $kernel::<{ layout::HALVES }, $($more),*>($($argument),*),
        }
    };
}
pub(super) use for_layout;

/// Whether codes take 4 bits, else 8.
pub(super) const fn four_bits(layout: u8) -> bool {
    layout <= FOUR_SUPER
}

/// Whether blocks have a minimum.
pub(super) const fn has_minimum(layout: u8) -> bool {
    matches!(layout, FOUR_MIN | FOUR_SUPER | BYTE_MIN | BYTE_SUPER)
}

/// Whether a scale and a minimum are 6-bit multiples of super scales.
pub(super) const fn is_super(layout: u8) -> bool {
    matches!(layout, FOUR_SUPER | BYTE_SUPER)
}

/// Bytes before each 8 blocks: super scales.
pub(super) const fn head_bytes(layout: u8) -> usize {
    match layout {
        FOUR_SUPER | BYTE_SUPER => 4 * PANEL,
        HALVES => 2 * PANEL,
        _ => 0,
    }
}

/// Bytes of the scales of a block.
pub(super) const fn scale_bytes(layout: u8) -> usize {
    match layout {
        FOUR_MIN | BYTE_MIN => 4 * PANEL,
        _ => 2 * PANEL,
    }
}

/// Bytes of the codes of a block.
pub(super) const fn code_bytes(layout: u8) -> usize {
    if four_bits(layout) { 16 * PANEL } else { 32 * PANEL }
}

/// Where block `b` begins in its panel; its super scales are at the second place.
pub(super) const fn block_start(layout: u8, b: usize) -> (usize, usize) {
    let each = scale_bytes(layout) + code_bytes(layout);
    let head = b / SUPER * (head_bytes(layout) + SUPER * each);
    (head + head_bytes(layout) + b % SUPER * each, head)
}

impl PanelLayout {
    pub(super) fn of(ty: BlockType) -> PanelLayout {
        match ty {
            BlockType::Q4_0 => PanelLayout::Four,
            BlockType::Q4_1 => PanelLayout::FourMin,
            BlockType::Q5_0 => PanelLayout::Byte,
            BlockType::Q5_1 => PanelLayout::ByteMin,
            BlockType::Q8_0 => PanelLayout::Signed,
            BlockType::Q4K => PanelLayout::FourSuper,
            BlockType::Q5K => PanelLayout::ByteSuper,
            BlockType::Q6K => PanelLayout::Halves,
        }
    }

    /// What is taken from every code.
    pub(super) fn offset(self) -> i32 {
        match self {
            PanelLayout::Four => 8,
            PanelLayout::Signed => 128,
            PanelLayout::Byte => 16,
            PanelLayout::Halves => 32,
            _ => 0,
        }
    }

    /// Bytes of a panel of `blocks` blocks of 32 inputs.
    pub(super) fn panel_bytes(self, blocks: usize) -> usize {
        let layout = self as u8;
        blocks.div_ceil(SUPER) * head_bytes(layout) + blocks * (scale_bytes(layout) + code_bytes(layout))
    }

    /// Into how many blocks at a time to cut `blocks`, in nearly equal pieces of at most so many bytes: whole blocks of 256 where
    /// these share super scales.
    pub(super) fn piece(self, blocks: usize, bytes: usize) -> usize {
        let layout = self as u8;
        let unit = if head_bytes(layout) > 0 { SUPER } else { 1 };
        let units = blocks.div_ceil(unit);
        let most = (bytes / self.panel_bytes(unit)).max(1);
        units.div_ceil(units.div_ceil(most).max(1)) * unit
    }
}

/// Where in the codes of a block the code of `input` and `lane` is, and whether it is the upper half of its byte.
pub(super) fn code_place(layout: u8, input: usize, lane: usize) -> (usize, bool) {
    let upper = four_bits(layout) && input >= 16;
    let input = if upper { input - 16 } else { input };
    (input / 4 * 4 * PANEL + lane * 4 + input % 4, upper)
}

/// The 32 values of lane `lane` in block `b`, in the arithmetic of [`BlockType::decode`].
pub(super) fn decode(layout: PanelLayout, panel: &[u8], b: usize, lane: usize, values: &mut [f32]) {
    let (kind, offset) = (layout as u8, layout.offset());
    let (start, head) = block_start(kind, b);
    let half = |at: usize| f16::from_le_bytes([panel[at + 2 * lane], panel[at + 2 * lane + 1]]).to_f32();
    let byte = |at: usize| panel[start + at + lane];
    let codes = &panel[start + scale_bytes(kind)..][..code_bytes(kind)];
    for (i, value) in values.iter_mut().enumerate() {
        let (at, upper) = code_place(kind, i, lane);
        let code = match (four_bits(kind), upper) {
            (true, false) => codes[at] & 0x0f,
            (true, true) => codes[at] >> 4,
            (false, _) => codes[at],
        };
        let code = (i32::from(code) - offset) as f32;
        *value = if is_super(kind) {
            let scale = half(head) * f32::from(byte(0));
            scale * code - half(head + 2 * PANEL) * f32::from(byte(PANEL))
        } else if layout == PanelLayout::Halves {
            half(head) * f32::from(byte(i / 16 * PANEL) as i8) * code
        } else if has_minimum(kind) {
            half(start) * code + half(start + 2 * PANEL)
        } else {
            half(start) * code
        };
    }
}
