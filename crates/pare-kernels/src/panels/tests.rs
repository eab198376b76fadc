use super::*;
use crate::reference::{self, numbers, same_bits, sizes};
use half::{bf16, f16};

fn pack(ty: PanelType, w: &[f32], out: usize, inn: usize, pool: &Pool) -> Panels {
    Panels::pack(ty, out, inn, &|o, row| row.copy_from_slice(&w[o * inn..][..inn]), pool)
}

fn rounded(ty: PanelType, w: &[f32]) -> Vec<f32> {
    let round = |&value: &f32| match ty {
        PanelType::F32 => value,
        PanelType::F16 => f16::from_f32(value).to_f32(),
        PanelType::Bf16 => bf16::from_f32(value).to_f32(),
    };
    w.iter().map(round).collect()
}

#[test]
fn every_type_size_set_and_pool_gives_the_bits_of_the_fold() {
    let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
    for ty in [PanelType::F32, PanelType::F16, PanelType::Bf16] {
        for &out in sizes(&[1, 31, 32, 33, 64, 100, 200], &[1, 33]) {
            for &inn in sizes(&[1, 2, 31, 192, 193, 576], &[1, 19]) {
                let w = numbers(out as u64, out * inn);
                let panels = pack(ty, &w, out, inn, &pools[out % 3]);
                let w = rounded(ty, &w);
                for &rows in sizes(&[1, 2, 3, 7, 12, 13, 40], &[1, 3]) {
                    let x = numbers(rows as u64 + 9, rows * inn);
                    let expected = reference::multiply(&x, &w, rows, out, inn);
                    for isa in Isa::available() {
                        for pool in sizes(&pools, &pools[1..2]) {
                            let mut y = vec![f32::NAN; rows * out];
                            panels.multiply_on(isa, &x, &mut y, pool);
                            let at = format!("{ty:?} {} {rows}x{inn}x{out}", isa.name());
                            assert!(same_bits(&y, &expected), "{at}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_come_back_as_stored() {
    let pool = Pool::new(2);
    for ty in [PanelType::F32, PanelType::F16, PanelType::Bf16] {
        let (out, inn) = (45, 70);
        let w = numbers(5, out * inn);
        let panels = pack(ty, &w, out, inn, &pool);
        assert_eq!(panels.shape(), [out, inn]);
        assert_eq!(panels.bytes(), 64 * inn * ty.bytes_per_value());
        let mut row = vec![0.0; inn];
        for (o, expected) in rounded(ty, &w).chunks(inn).enumerate() {
            panels.decode_row(o, &mut row);
            assert!(same_bits(&row, expected));
        }
    }
}

#[test]
fn empty_sides_give_zeros_or_nothing() {
    let pool = Pool::new(2);
    for rows in [1, 20] {
        let mut y = vec![f32::NAN; rows * 40];
        pack(PanelType::F16, &[], 40, 0, &pool).multiply(&[], &mut y, &pool);
        assert!(y.iter().all(|&y| y == 0.0));
    }
    pack(PanelType::F16, &[], 0, 40, &pool).multiply(&[], &mut [], &pool);
}

#[test]
#[should_panic(expected = "x is not [2, 4]")]
fn lengths_that_disagree_are_refused() {
    let pool = Pool::new(1);
    pack(PanelType::F32, &[0.0; 12], 3, 4, &pool).multiply(&[0.0; 7], &mut [0.0; 6], &pool);
}

#[test]
fn many_long_rows_are_cut_and_keep_their_bits() {
    let (rows, inn, out) = if cfg!(miri) { (5, 193, 33) } else { (130, 4097, 33) };
    let pool = Pool::new(3);
    let (x, w) = (numbers(11, rows * inn), numbers(12, out * inn));
    let panels = pack(PanelType::F32, &w, out, inn, &pool);
    let expected = reference::multiply(&x, &w, rows, out, inn);
    for isa in Isa::available() {
        let mut y = vec![f32::NAN; rows * out];
        panels.multiply_on(isa, &x, &mut y, &pool);
        assert!(same_bits(&y, &expected), "{}", isa.name());
    }
}
