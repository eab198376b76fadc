//! How the blocks of each type lie in a panel.

use crate::blocks::BlockType;
use crate::tile::PANEL;
use half::f16;

/// Blocks of 32 that share the super scales of a block of 256.
const SUPER: usize = 8;

/// What distinguishes the panels of one type from those of another, as far as kernels see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
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

/// [`Form`] as a const parameter of the kernels.
pub(super) const FOUR: u8 = 0;
pub(super) const FOUR_MIN: u8 = 1;
pub(super) const FOUR_SUPER: u8 = 2;
pub(super) const SIGNED: u8 = 3;
pub(super) const BYTE: u8 = 4;
pub(super) const BYTE_MIN: u8 = 5;
pub(super) const BYTE_SUPER: u8 = 6;
pub(super) const HALVES: u8 = 7;

/// Runs `$kernel::<FORM, ...>(arguments)` for the constant of a form.
macro_rules! for_form {
    ($form:expr, $kernel:ident::<$($more:literal),*>($($argument:expr),*)) => {
        match $form {
            Form::Four => $kernel::<{ form::FOUR }, $($more),*>($($argument),*),
            Form::FourMin => $kernel::<{ form::FOUR_MIN }, $($more),*>($($argument),*),
            Form::FourSuper => $kernel::<{ form::FOUR_SUPER }, $($more),*>($($argument),*),
            Form::Signed => $kernel::<{ form::SIGNED }, $($more),*>($($argument),*),
            Form::Byte => $kernel::<{ form::BYTE }, $($more),*>($($argument),*),
            Form::ByteMin => $kernel::<{ form::BYTE_MIN }, $($more),*>($($argument),*),
            Form::ByteSuper => $kernel::<{ form::BYTE_SUPER }, $($more),*>($($argument),*),
            Form::Halves => $kernel::<{ form::HALVES }, $($more),*>($($argument),*),
        }
    };
}
pub(super) use for_form;

/// Whether codes take 4 bits, else 8.
pub(super) const fn four_bits(form: u8) -> bool {
    form <= FOUR_SUPER
}

/// Whether blocks have a minimum.
pub(super) const fn has_minimum(form: u8) -> bool {
    matches!(form, FOUR_MIN | FOUR_SUPER | BYTE_MIN | BYTE_SUPER)
}

/// Whether a scale and a minimum are 6-bit multiples of super scales.
pub(super) const fn is_super(form: u8) -> bool {
    matches!(form, FOUR_SUPER | BYTE_SUPER)
}

/// Bytes before each 8 blocks: super scales.
pub(super) const fn head_bytes(form: u8) -> usize {
    match form {
        FOUR_SUPER | BYTE_SUPER => 4 * PANEL,
        HALVES => 2 * PANEL,
        _ => 0,
    }
}

/// Bytes of the scales of a block.
pub(super) const fn scale_bytes(form: u8) -> usize {
    match form {
        FOUR_MIN | BYTE_MIN => 4 * PANEL,
        _ => 2 * PANEL,
    }
}

/// Bytes of the codes of a block.
pub(super) const fn code_bytes(form: u8) -> usize {
    if four_bits(form) { 16 * PANEL } else { 32 * PANEL }
}

/// Where block `b` begins in its panel; its super scales are at the second place.
pub(super) const fn block_start(form: u8, b: usize) -> (usize, usize) {
    let each = scale_bytes(form) + code_bytes(form);
    let head = b / SUPER * (head_bytes(form) + SUPER * each);
    (head + head_bytes(form) + b % SUPER * each, head)
}

impl Form {
    pub(super) fn of(ty: BlockType) -> Form {
        match ty {
            BlockType::Q4_0 => Form::Four,
            BlockType::Q4_1 => Form::FourMin,
            BlockType::Q5_0 => Form::Byte,
            BlockType::Q5_1 => Form::ByteMin,
            BlockType::Q8_0 => Form::Signed,
            BlockType::Q4K => Form::FourSuper,
            BlockType::Q5K => Form::ByteSuper,
            BlockType::Q6K => Form::Halves,
        }
    }

    /// What is taken from every code.
    pub(super) fn offset(self) -> i32 {
        match self {
            Form::Four => 8,
            Form::Signed => 128,
            Form::Byte => 16,
            Form::Halves => 32,
            _ => 0,
        }
    }

    /// Bytes of a panel of `blocks` blocks of 32 inputs.
    pub(super) fn panel_bytes(self, blocks: usize) -> usize {
        let form = self as u8;
        blocks.div_ceil(SUPER) * head_bytes(form) + blocks * (scale_bytes(form) + code_bytes(form))
    }

    /// Into how many blocks at a time to cut `blocks`, in nearly equal pieces of at most so many bytes: whole blocks of 256 where
    /// these share super scales.
    pub(super) fn piece(self, blocks: usize, bytes: usize) -> usize {
        let form = self as u8;
        let unit = if head_bytes(form) > 0 { SUPER } else { 1 };
        let units = blocks.div_ceil(unit);
        let most = (bytes / self.panel_bytes(unit)).max(1);
        units.div_ceil(units.div_ceil(most).max(1)) * unit
    }
}

/// Where in the codes of a block the code of `input` and `lane` is, and whether it is the upper half of its byte.
pub(super) fn code_place(form: u8, input: usize, lane: usize) -> (usize, bool) {
    let upper = four_bits(form) && input >= 16;
    let input = if upper { input - 16 } else { input };
    (input / 4 * 4 * PANEL + lane * 4 + input % 4, upper)
}

/// The 32 values of lane `lane` in block `b`, in the arithmetic of [`BlockType::decode`].
pub(super) fn decode(form: Form, panel: &[u8], b: usize, lane: usize, values: &mut [f32]) {
    let (kind, offset) = (form as u8, form.offset());
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
        } else if form == Form::Halves {
            half(head) * f32::from(byte(i / 16 * PANEL) as i8) * code
        } else if has_minimum(kind) {
            half(start) * code + half(start + 2 * PANEL)
        } else {
            half(start) * code
        };
    }
}
