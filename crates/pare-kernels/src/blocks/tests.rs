use super::*;
use crate::reference::{numbers, same_bits};

/// For each type: blocks of bytes, then their values, as `goldens/blocks/blocks.py` writes them.
const GOLDEN: &[u8] = include_bytes!("../../../../goldens/blocks/blocks.bin");

#[test]
fn every_type_decodes_the_golden_blocks_bit_for_bit() {
    let per_block: usize = BlockType::ALL.iter().map(|ty| ty.bytes_per_block() + 4 * ty.values_per_block()).sum();
    let blocks = GOLDEN.len() / per_block;
    assert!(blocks > 0 && GOLDEN.len() == blocks * per_block);
    let mut rest = GOLDEN;
    for ty in BlockType::ALL {
        let (bytes, after) = rest.split_at(blocks * ty.bytes_per_block());
        let (values, after) = after.split_at(blocks * ty.values_per_block() * 4);
        rest = after;
        let values: Vec<f32> = values.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
        for isa in Isa::available() {
            let mut found = vec![f32::NAN; values.len()];
            decode_on(isa, ty, bytes, &mut found);
            assert!(same_bits(&found, &values), "{} on {}", ty.name(), isa.name());
        }
    }
}

#[test]
fn plain_rows_decode_exactly() {
    let values = numbers(1, 33);
    let f16: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let bf16: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    let f32: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut out = vec![0.0; 33];
    RowType::F32.decode(&f32, &mut out);
    assert!(same_bits(&out, &values));
    RowType::F16.decode(&f16, &mut out);
    assert!(out.iter().zip(&values).all(|(out, v)| *out == half::f16::from_f32(*v).to_f32()));
    RowType::Bf16.decode(&bf16, &mut out);
    assert!(out.iter().zip(&values).all(|(out, v)| *out == half::bf16::from_f32(*v).to_f32()));
}

#[test]
fn a_piece_of_a_row_is_that_piece() {
    let ty = BlockType::Q8_0;
    let bytes: Vec<u8> = (0..3 * 4 * 34).map(|i| if i % 34 == 1 { 0x3c } else { (i * 7) as u8 }).collect();
    let rows = Rows::new(RowType::Blocks(ty), &bytes, [3, 128]).expect("the bytes fit");
    let mut all = vec![0.0; 3 * 128];
    ty.decode(&bytes, &mut all);
    let mut piece = vec![0.0; 64];
    rows.decode(2, 32, &mut piece);
    assert!(same_bits(&piece, &all[2 * 128 + 32..][..64]));
}

#[test]
fn bytes_that_do_not_fit_are_no_rows() {
    let ty = RowType::Blocks(BlockType::Q4_1);
    assert!(Rows::new(ty, &[0; 40], [1, 64]).is_some());
    assert!(Rows::new(ty, &[0; 41], [1, 64]).is_none());
    assert!(Rows::new(ty, &[0; 40], [1, 65]).is_none());
    assert!(Rows::new(RowType::F32, &[], [usize::MAX, usize::MAX]).is_none());
}
