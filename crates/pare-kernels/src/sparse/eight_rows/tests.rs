use super::super::tests::{gives_the_fold, grid, product_on};
use super::*;
use crate::reference::{numbers, same_bits};

/// A matrix whose groups of 8 keep different numbers of columns, and some none.
fn matrix(seed: u64, out: usize, inn: usize) -> Vec<f32> {
    let mut w = numbers(seed, out * inn);
    for (group, rows) in w.chunks_mut(GROUP * inn).enumerate() {
        let keep = numbers(seed + 7 + group as u64, inn);
        let share = [0.0, 0.7, -2.0, 2.0, -0.4][(group + seed as usize) % 5];
        for row in rows.chunks_mut(inn) {
            row.iter_mut().zip(&keep).filter(|(_, keep)| **keep >= share).for_each(|(w, _)| *w = 0.0);
        }
    }
    w
}

fn pack(ty: SparseType, w: &[f32], out: usize, inn: usize, pool: &Pool) -> Result<EightRows, SparseError> {
    EightRows::pack(ty, out, inn, &|o, row| row.copy_from_slice(&w[o * inn..][..inn]), pool)
}

fn decoded(packed: &EightRows) -> Vec<f32> {
    let [out, inn] = packed.shape();
    let mut dense = vec![f32::NAN; out * inn];
    dense.chunks_mut(inn.max(1)).enumerate().for_each(|(o, row)| packed.decode_row(o, row));
    dense
}

#[test]
fn every_type_gives_the_bits_of_the_fold_over_the_dense_matrix() {
    grid(&|out, inn, rows, pools| {
        for ty in [SparseType::F16, SparseType::Int8] {
            let w = matrix((out + inn) as u64, out, inn);
            let packed = pack(ty, &w, out, inn, &pools[out % 3]).expect("few inputs");
            gives_the_fold(&packed, &decoded(&packed), rows, pools, &format!("{ty:?}"));
        }
    });
}

#[test]
fn rows_and_parts_come_back() {
    let pool = Pool::new(2);
    for (out, inn) in [(1, 1), (9, 5), (33, 36), (45, 100), (24, 65536)] {
        let w = matrix(3, out, inn);
        for ty in [SparseType::F16, SparseType::Int8] {
            let packed = pack(ty, &w, out, inn, &pool).expect("few inputs");
            assert_eq!((packed.shape(), packed.sparse_type()), ([out, inn], ty));
            let parts = packed.parts();
            let each = if ty == SparseType::F16 { 18 } else { 10 };
            assert!(packed.bytes() >= parts.columns.len() * each);
            let again = EightRows::from_parts(out, inn, &parts).expect("they follow the rules");
            assert_eq!(again.parts(), parts);
            let dense = decoded(&packed);
            assert!(same_bits(&dense, &decoded(&again)));
            for (row, w) in dense.chunks(inn).zip(w.chunks(inn)) {
                let most = w.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                let near = |(a, b): (&f32, &f32)| match ty {
                    SparseType::F16 => *a == f16::from_f32(*b).to_f32(),
                    SparseType::Int8 => (a - b).abs() <= most / 250.0 && (*b != 0.0 || *a == 0.0),
                };
                assert!(row.iter().zip(w).all(near), "{ty:?} {out}x{inn}");
            }
        }
    }
}

#[test]
fn only_columns_of_zeros_leave() {
    let w: Vec<f32> = (0..16 * 3).map(|at| if [4, 8, 29].contains(&at) { 1.0 } else { 0.0 }).collect();
    let parts = pack(SparseType::F16, &w, 16, 3, &Pool::new(1)).expect("few inputs").parts();
    assert_eq!((parts.offsets, parts.columns), (vec![0, 2, 3], vec![1, 2, 2]));
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let pool = Pool::new(2);
    let error = EightRows::pack(SparseType::F16, 8, 65537, &|_, _| {}, &pool).expect_err("columns of 16 bits");
    assert_eq!(error, SparseError::TooManyInputs { inputs: 65537 });
    assert_eq!(error.to_string(), "65537 inputs, but columns are stored in 16 bits: at most 65536");
    for bad in [f32::NAN, f32::NEG_INFINITY, 1e30] {
        let mut w = vec![1.0; 40 * 64];
        (w[9 * 64 + 40], w[30 * 64]) = (bad, bad);
        let error = pack(SparseType::Int8, &w, 40, 64, &pool).expect_err("no integer");
        assert_eq!(error, SparseError::Range { row: 9, run: 1 });
    }
}

#[test]
fn hostile_parts_are_refused() {
    let (out, inn) = (20, 50);
    let w = vec![0.5; out * inn];
    type Spoil = fn(&mut EightRowsParts);
    let table: [(Spoil, SparseError); 13] = [
        (|p| p.offsets.push(150), SparseError::Length { part: "offsets", found: 5, expected: 4 }),
        (|p| p.offsets.clear(), SparseError::Length { part: "offsets", found: 0, expected: 4 }),
        (|p| p.offsets[0] = 1, SparseError::Offsets { group: 0 }),
        (|p| p.offsets[1] = 51, SparseError::Offsets { group: 0 }),
        (|p| p.offsets[2] = 40, SparseError::Offsets { group: 1 }),
        (|p| p.offsets[3] = u64::MAX, SparseError::Offsets { group: 2 }),
        (|p| p.columns.truncate(149), SparseError::Length { part: "columns", found: 149, expected: 150 }),
        (|p| p.columns[49] = 50, SparseError::Columns { group: 0, at: 49 }),
        (|p| p.columns[53] = 2, SparseError::Columns { group: 1, at: 3 }),
        (
            |p| p.values = SparseValues::F16(vec![0; 1199]),
            SparseError::Length { part: "values", found: 1199, expected: 1200 },
        ),
        (|p| p.values = SparseValues::F16(vec![1; 1200]), SparseError::Padding { row: 20, at: 100 }),
        (
            |p| p.values = SparseValues::Int8 { values: vec![0; 1200], scales: vec![0; 47] },
            SparseError::Length { part: "scales", found: 47, expected: 48 },
        ),
        (
            |p| p.values = SparseValues::Int8 { values: vec![0; 1200], scales: vec![0x7e00; 48] },
            SparseError::Scale { at: 0 },
        ),
    ];
    let pool = Pool::new(1);
    for (spoil, expected) in table {
        let mut parts = pack(SparseType::F16, &w, out, inn, &pool).expect("few inputs").parts();
        spoil(&mut parts);
        assert_eq!(EightRows::from_parts(out, inn, &parts).expect_err("a rule is broken"), expected);
    }
    let parts = pack(SparseType::F16, &w, out, inn, &pool).expect("few inputs").parts();
    for (out, inn) in [(usize::MAX, 50), (20, usize::MAX), (20, 49), (0, 50), (usize::MAX, usize::MAX)] {
        assert!(EightRows::from_parts(out, inn, &parts).is_err());
    }
}

#[test]
fn without_inputs_there_are_zeros() {
    let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
    for ty in [SparseType::F16, SparseType::Int8] {
        let packed = pack(ty, &[], 40, 0, &pools[0]).expect("no weights");
        product_on(&packed, &[], 20, &pools, |_, y| assert!(y.iter().all(|&y| y == 0.0)));
    }
}
