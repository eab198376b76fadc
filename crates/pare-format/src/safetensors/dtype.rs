//! Element types.

use std::fmt;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(non_camel_case_types, reason = "the names of the format")]
#[expect(missing_docs, reason = "the names say it; bits() and supported() say the rest")]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    F8_E4M3,
    F8_E5M2,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    F8_E8M0,
    F6_E2M3,
    F6_E3M2,
    F4,
    C64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    BOOL,
}

const TABLE: [(Dtype, &str, u64, bool); 22] = [
    (Dtype::F64, "F64", 64, true),
    (Dtype::F32, "F32", 32, true),
    (Dtype::F16, "F16", 16, true),
    (Dtype::BF16, "BF16", 16, true),
    (Dtype::F8_E4M3, "F8_E4M3", 8, true),
    (Dtype::F8_E5M2, "F8_E5M2", 8, true),
    (Dtype::F8_E4M3FNUZ, "F8_E4M3FNUZ", 8, true),
    (Dtype::F8_E5M2FNUZ, "F8_E5M2FNUZ", 8, true),
    (Dtype::F8_E8M0, "F8_E8M0", 8, false),
    (Dtype::F6_E2M3, "F6_E2M3", 6, false),
    (Dtype::F6_E3M2, "F6_E3M2", 6, false),
    (Dtype::F4, "F4", 4, false),
    (Dtype::C64, "C64", 64, false),
    (Dtype::I64, "I64", 64, true),
    (Dtype::I32, "I32", 32, true),
    (Dtype::I16, "I16", 16, true),
    (Dtype::I8, "I8", 8, true),
    (Dtype::U64, "U64", 64, true),
    (Dtype::U32, "U32", 32, true),
    (Dtype::U16, "U16", 16, true),
    (Dtype::U8, "U8", 8, true),
    (Dtype::BOOL, "BOOL", 8, true),
];

impl Dtype {
    /// Every type of the format.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type called `name` in a header; case matters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its name in a header.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// Bits of one element; below 8 for packed types.
    #[must_use]
    pub fn bits(self) -> u64 {
        TABLE.iter().find(|row| row.0 == self).map_or(0, |row| row.2)
    }

    /// Whether pare computes with it; the others are listed and copied, not read.
    #[must_use]
    pub fn supported(self) -> bool {
        TABLE.iter().any(|row| row.0 == self && row.3)
    }

    /// Whether it is a floating-point type.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self.name().as_bytes().first(), Some(b'F' | b'B')) && self != Self::BOOL
    }

    /// Bytes of a tensor of `shape`; `None` when they overflow 64 bits or are not whole.
    #[must_use]
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        let bits = elements(shape.iter().map(|&d| d as u64))?.checked_mul(self.bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The product of `shape`, 1 for none; `None` when it overflows. A zero makes it zero whatever the others are.
pub(crate) fn elements(shape: impl Iterator<Item = u64> + Clone) -> Option<u64> {
    if shape.clone().any(|dimension| dimension == 0) {
        return Some(0);
    }
    let mut shape = shape;
    shape.try_fold(1_u64, u64::checked_mul)
}

/// The names of the types that pass `filter`, for messages.
pub(crate) fn names(filter: impl Fn(Dtype) -> bool) -> String {
    Dtype::all().filter(|dtype| filter(*dtype)).map(Dtype::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_agrees_with_the_reference_crate() {
        for dtype in Dtype::all() {
            let theirs: safetensors::Dtype = serde_json::from_str(&format!("\"{dtype}\"")).unwrap();
            assert_eq!(dtype.bits(), theirs.bitsize() as u64, "{dtype}");
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::from_name("f32"), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(Dtype::F32.bytes(&[]), Some(4));
        assert_eq!(Dtype::F32.bytes(&[0, usize::MAX]), Some(0));
        assert_eq!(Dtype::F32.bytes(&[2, usize::MAX]), None);
        assert_eq!(Dtype::F64.bytes(&[usize::MAX]), None);
        assert_eq!(Dtype::F4.bytes(&[3]), None);
        assert_eq!(Dtype::F4.bytes(&[2, 3]), Some(3));
        assert_eq!(Dtype::F6_E2M3.bytes(&[4]), Some(3));
        assert!(Dtype::BF16.is_float() && !Dtype::BOOL.is_float() && !Dtype::I8.is_float() && !Dtype::C64.is_float());
    }
}
