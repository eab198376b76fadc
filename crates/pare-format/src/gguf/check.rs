//! Values that no model should hold: NaN and infinite numbers, and block scales that are.

use half::{bf16, f16};

use super::GgmlType;

/// Counts values (of plain floats) or block scales (of quantised types) that are NaN or infinite in `data`, the bytes of one
/// tensor. `None` when the type is not supported.
pub fn nonfinite(ggml_type: GgmlType, data: &[u8]) -> Option<u64> {
    // Where the 16-bit scales stand in a block.
    let scales: &[usize] = match ggml_type {
        GgmlType::F32 => {
            let bad = data.as_chunks::<4>().0.iter().filter(|b| !f32::from_le_bytes(**b).is_finite());
            return Some(bad.count() as u64);
        }
        GgmlType::BF16 => {
            let bad = data.as_chunks::<2>().0.iter().filter(|b| !bf16::from_le_bytes(**b).is_finite());
            return Some(bad.count() as u64);
        }
        // An exponent alone, with which the largest code overflows from 253 on.
        GgmlType::MXFP4 => {
            let bad = data.chunks_exact(ggml_type.block_bytes()).filter(|block| block.first() > Some(&252));
            return Some(bad.count() as u64);
        }
        // A scale in quarters, of which the exponent is in the last two.
        GgmlType::IQ1_M => {
            let bad = data.chunks_exact(ggml_type.block_bytes()).filter(|block| match block.get(52..56) {
                Some(&[_, third, _, fourth]) => fourth & 0x70 == 0x70 && third & 0xc0 == 0xc0,
                _ => false,
            });
            return Some(bad.count() as u64);
        }
        GgmlType::F16 | GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => &[0],
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
        GgmlType::Q6_K => &[208],
        GgmlType::Q2_K => &[80, 82],
        GgmlType::Q3_K => &[108],
        GgmlType::IQ1_S | GgmlType::IQ2_XXS | GgmlType::IQ2_XS | GgmlType::IQ2_S => &[0],
        GgmlType::IQ3_XXS | GgmlType::IQ3_S | GgmlType::IQ4_NL | GgmlType::IQ4_XS => &[0],
        GgmlType::TQ1_0 => &[52],
        GgmlType::TQ2_0 => &[64],
        _ => return None,
    };
    let is_bad = |block: &[u8], at: usize| {
        let bytes = at.checked_add(2).and_then(|end| block.get(at..end)).and_then(|b| b.try_into().ok());
        bytes.is_some_and(|b| !f16::from_le_bytes(b).is_finite())
    };
    let blocks = data.chunks_exact(ggml_type.block_bytes());
    Some(blocks.map(|block| scales.iter().filter(|&&at| is_bad(block, at)).count() as u64).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_scales_and_values() {
        let nan = f16::NAN.to_le_bytes();
        let mut q6 = vec![0_u8; 420];
        q6.splice(418..420, nan);
        assert_eq!(nonfinite(GgmlType::Q6_K, &q6), Some(1));
        let mut q41 = vec![0_u8; 40];
        q41.splice(0..2, nan);
        q41.splice(22..24, f16::INFINITY.to_le_bytes());
        // The packed values of a block are no floats, whatever their bits.
        q41.splice(4..6, nan);
        assert_eq!(nonfinite(GgmlType::Q4_1, &q41), Some(2));
        let floats: Vec<u8> = [1.0, f32::NEG_INFINITY, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(nonfinite(GgmlType::F32, &floats), Some(2));
        assert_eq!(nonfinite(GgmlType::Q8_K, &floats), None);
    }

    #[test]
    fn every_type_that_is_computed_with_is_looked_through() {
        for ty in GgmlType::all().filter(|ty| ty.supported()) {
            assert_eq!(nonfinite(ty, &vec![0; 3 * ty.block_bytes()]), Some(0), "{ty}");
            let found = nonfinite(ty, &vec![0xff; 3 * ty.block_bytes()]);
            assert!(found.is_some_and(|count| count >= 3), "{ty}: {found:?} of 3 blocks");
        }
    }

    #[test]
    fn a_scale_in_quarters_is_one_number() {
        // The quarters of 0x7c00, infinity, from the lowest: 0, 0, c, 7.
        let block =
            |quarters: [u8; 4]| [vec![0; 48], quarters.into_iter().flat_map(|high| [0, high]).collect()].concat();
        assert_eq!(nonfinite(GgmlType::IQ1_M, &block([0, 0, 0xc0, 0x70])), Some(1));
        // 0x7bff is the largest number.
        assert_eq!(nonfinite(GgmlType::IQ1_M, &block([0xf0, 0xf0, 0xb0, 0x70])), Some(0));
    }
}
