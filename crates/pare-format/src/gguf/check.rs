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
        GgmlType::F16 | GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => &[0],
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
        GgmlType::Q6_K => &[208],
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
        assert_eq!(nonfinite(GgmlType::IQ1_S, &floats), None);
    }
}
