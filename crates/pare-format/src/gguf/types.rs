//! The tensor encodings of GGUF: ids, block lengths, bytes per block.

/// Encoding of one tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, missing_docs, reason = "the format's own names say what they are")]
#[rustfmt::skip]
pub enum GgmlType {
    F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K,
    IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S, IQ4_NL, IQ3_S, IQ2_S, IQ4_XS, I8, I16, I32, I64, F64, IQ1_M, BF16, TQ1_0, TQ2_0, MXFP4,
    NVFP4, Q1_0,
}

/// One row per encoding: type, id in the file, name, values per block, bytes per block.
#[rustfmt::skip]
const TABLE: &[(GgmlType, u32, &str, usize, usize)] = {
    use GgmlType::*;
    &[
        (F32, 0, "F32", 1, 4), (F16, 1, "F16", 1, 2), (Q4_0, 2, "Q4_0", 32, 18), (Q4_1, 3, "Q4_1", 32, 20),
        (Q5_0, 6, "Q5_0", 32, 22), (Q5_1, 7, "Q5_1", 32, 24), (Q8_0, 8, "Q8_0", 32, 34), (Q8_1, 9, "Q8_1", 32, 36),
        (Q2_K, 10, "Q2_K", 256, 84), (Q3_K, 11, "Q3_K", 256, 110), (Q4_K, 12, "Q4_K", 256, 144),
        (Q5_K, 13, "Q5_K", 256, 176), (Q6_K, 14, "Q6_K", 256, 210), (Q8_K, 15, "Q8_K", 256, 292),
        (IQ2_XXS, 16, "IQ2_XXS", 256, 66), (IQ2_XS, 17, "IQ2_XS", 256, 74), (IQ3_XXS, 18, "IQ3_XXS", 256, 98),
        (IQ1_S, 19, "IQ1_S", 256, 50), (IQ4_NL, 20, "IQ4_NL", 32, 18), (IQ3_S, 21, "IQ3_S", 256, 110),
        (IQ2_S, 22, "IQ2_S", 256, 82), (IQ4_XS, 23, "IQ4_XS", 256, 136), (I8, 24, "I8", 1, 1), (I16, 25, "I16", 1, 2),
        (I32, 26, "I32", 1, 4), (I64, 27, "I64", 1, 8), (F64, 28, "F64", 1, 8), (IQ1_M, 29, "IQ1_M", 256, 56),
        (BF16, 30, "BF16", 1, 2), (TQ1_0, 34, "TQ1_0", 256, 54), (TQ2_0, 35, "TQ2_0", 256, 66), (MXFP4, 39, "MXFP4", 32, 17),
        (NVFP4, 40, "NVFP4", 64, 36), (Q1_0, 41, "Q1_0", 128, 18),
    ]
};

/// Ids that older files used and that no reader supports any more.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

impl GgmlType {
    /// The type with this id in the file.
    pub fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    /// The type with this name, as in `Q4_K`.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Every known type, by id.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// Name of a type that the format has dropped.
    pub(super) fn removed(id: u32) -> Option<&'static str> {
        REMOVED.iter().find(|row| row.0 == id).map(|row| row.1)
    }

    fn row(self) -> (u32, &'static str, usize, usize) {
        // Every variant has a row: a test walks them.
        TABLE.iter().find(|row| row.0 == self).map_or((u32::MAX, "?", 1, 1), |row| (row.1, row.2, row.3, row.4))
    }

    /// Id in the file.
    pub fn id(self) -> u32 {
        self.row().0
    }

    /// Name, as in `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Values per block (1 for plain numbers).
    pub fn block_len(self) -> usize {
        self.row().2
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.row().3
    }

    /// Whether its values can be computed with; the others can be listed and copied.
    pub fn supported(self) -> bool {
        use GgmlType::*;
        // Intermediate results (Q8_1, Q8_K), integers, and types whose tensors need another beside them.
        !matches!(self, Q8_1 | Q8_K | I8 | I16 | I32 | I64 | F64 | NVFP4 | Q1_0)
    }

    /// Names of the supported types, for messages.
    pub fn supported_names() -> String {
        Self::all().filter(|t| t.supported()).map(Self::name).collect::<Vec<_>>().join(" ")
    }

    /// Bytes of a tensor with row length `shape[0]`; `Err` says what is wrong with the shape.
    pub(super) fn tensor_bytes(self, shape: &[usize]) -> Result<usize, (String, String)> {
        let Some(&row) = shape.first() else {
            return Err(("no dimensions".into(), "1 to 4".into()));
        };
        let overflow = || (format!("shape {shape:?} overflows"), "fewer than 2^63 elements and bytes".to_owned());
        let mut elements = 1_i64;
        for &dim in shape {
            let dim = i64::try_from(dim).map_err(|_| overflow())?;
            elements = elements.checked_mul(dim).ok_or_else(overflow)?;
        }
        let block = self.block_len();
        if row.checked_rem(block) != Some(0) {
            return Err((format!("rows of {row} values"), format!("a multiple of the {} block, {block}", self.name())));
        }
        let elements = usize::try_from(elements).map_err(|_| overflow())?;
        let blocks = elements.checked_div(block).ok_or_else(overflow)?;
        let bytes = blocks.checked_mul(self.block_bytes()).ok_or_else(overflow)?;
        i64::try_from(bytes).map(|_| bytes).map_err(|_| overflow())
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_one_to_one_and_every_variant_is_in_it() {
        for t in GgmlType::all() {
            assert_eq!(GgmlType::from_id(t.id()), Some(t));
            assert_eq!(GgmlType::from_name(t.name()), Some(t));
            assert!(GgmlType::removed(t.id()).is_none());
        }
        // Q1_0 is the last variant.
        assert_eq!(GgmlType::all().count(), GgmlType::Q1_0 as usize + 1);
    }

    #[test]
    fn bytes_by_hand() {
        // 2 rows of 64 values = 4 blocks of 32, 20 bytes each.
        assert_eq!(GgmlType::Q4_1.tensor_bytes(&[64, 2]), Ok(80));
        assert_eq!(GgmlType::F16.tensor_bytes(&[3, 5]), Ok(30));
        assert!(GgmlType::Q4_K.tensor_bytes(&[128, 2]).is_err());
        assert!(GgmlType::F32.tensor_bytes(&[usize::MAX / 2, 2]).is_err());
        // 2^60 + ... elements fit 63 bits, their bytes do not.
        assert!(GgmlType::F64.tensor_bytes(&[1 << 61]).is_err());
    }
}
