use super::super::tests::{gives_the_fold, grid, product_on};
use super::*;
use crate::int8::Int8Rows;
use crate::reference::{numbers, same_bits};

/// A matrix that keeps none, one or two of four, at places that depend on the seed.
fn matrix(seed: u64, out: usize, inn: usize) -> Vec<f32> {
    let (mut w, places) = (numbers(seed, out * inn), numbers(seed + 1, out * inn));
    for (row, places) in w.chunks_mut(inn).zip(places.chunks(inn)) {
        for (group, places) in row.chunks_mut(GROUP).zip(places.chunks(GROUP)) {
            let most = ((places[0] * 1000.0) as i32).rem_euclid(4).min(2) as usize;
            let mut order: Vec<usize> = (0..group.len()).collect();
            order.sort_by(|&a, &b| places[a].total_cmp(&places[b]));
            order.iter().skip(most).for_each(|&at| group[at] = 0.0);
        }
    }
    w
}

fn pack(ty: SparseType, w: &[f32], out: usize, inn: usize, pool: &Pool) -> Result<TwoOfFour, SparseError> {
    TwoOfFour::pack(ty, out, inn, &|o, row| row.copy_from_slice(&w[o * inn..][..inn]), pool)
}

/// The law of integers from the parts, one output at a time.
fn int8_reference(parts: &TwoOfFourParts, [out, inn]: [usize; 2], x: &[f32], rows: usize) -> Vec<f32> {
    let SparseValues::Int8 { values, scales } = &parts.values else { panic!("integers") };
    let mut rounded = Int8Rows::new();
    rounded.round(Isa::PORTABLE, x, rows, &Pool::new(1));
    let (groups, blocks) = (groups_of(inn), inn.div_ceil(RUN));
    let mut y = Vec::new();
    for (t, o) in (0..rows).flat_map(|t| (0..out).map(move |o| (t, o))) {
        let mut acc = 0.0f32;
        for b in 0..blocks {
            let mut dot = 0;
            for g in b * 8..groups.min((b + 1) * 8) {
                let bits = parts.positions[o * groups.div_ceil(2) + g / 2] >> (4 * (g % 2));
                for (k, position) in [bits & 3, bits >> 2 & 3].into_iter().enumerate() {
                    let at = t * blocks * RUN + g * GROUP + usize::from(position);
                    dot += i32::from(values[2 * (o * groups + g) + k]) * i32::from(rounded.quants()[at]);
                }
            }
            let scale = f16::from_bits(scales[o * blocks + b]).to_f32() * rounded.scales()[t * blocks + b];
            acc = (dot as f32).mul_add(scale, acc);
        }
        y.push(acc);
    }
    y
}

#[test]
fn halves_give_the_bits_of_the_fold_over_the_dense_matrix() {
    grid(&|out, inn, rows, pools| {
        let w = matrix((out + inn) as u64, out, inn);
        let packed = pack(SparseType::F16, &w, out, inn, &pools[out % 3]).expect("the pattern");
        let dense: Vec<f32> = w.iter().map(|&w| f16::from_f32(w).to_f32()).collect();
        gives_the_fold(&packed, &dense, rows, pools, "F16");
    });
}

#[test]
fn integers_give_the_bits_of_their_law() {
    grid(&|out, inn, rows, pools| {
        let w = matrix((out + inn) as u64, out, inn);
        let packed = pack(SparseType::Int8, &w, out, inn, &pools[out % 3]).expect("the pattern");
        let parts = packed.parts();
        for &rows in rows {
            let x = numbers(rows as u64 + 9, rows * inn);
            let expected = int8_reference(&parts, [out, inn], &x, rows);
            product_on(&packed, &x, rows, pools, |isa, y| {
                assert!(same_bits(y, &expected), "{} {rows}x{inn}x{out}", isa.name());
            });
        }
    });
}

#[test]
fn the_largest_integers_do_not_saturate() {
    let pool = Pool::new(1);
    let (out, inn) = (33, 64);
    for value in [-128i8, -127, 127] {
        let values = SparseValues::Int8 { values: vec![value; out * inn / 2], scales: vec![0x3c00; out * inn / 32] };
        let parts = TwoOfFourParts { positions: vec![0b1110_0100; out * inn / 8], values };
        let packed = TwoOfFour::from_parts(out, inn, &parts, &pool).expect("they follow the rules");
        for x in [-2.0f32, 2.0] {
            let x = vec![x; inn * 5];
            let expected = int8_reference(&parts, [out, inn], &x, 5);
            assert!(expected[0].abs() > 127.0 * 2.0 * 31.0);
            product_on(&packed, &x, 5, &[Pool::new(1), Pool::new(2), Pool::new(3)], |isa, y| {
                assert!(same_bits(y, &expected), "{}", isa.name());
            });
        }
    }
}

#[test]
fn rows_and_parts_come_back() {
    let pool = Pool::new(2);
    for (out, inn) in [(1, 1), (9, 5), (33, 36), (45, 100)] {
        let w = matrix(3, out, inn);
        for ty in [SparseType::F16, SparseType::Int8] {
            let packed = pack(ty, &w, out, inn, &pool).expect("the pattern");
            assert_eq!((packed.shape(), packed.sparse_type()), ([out, inn], ty));
            let bits = if ty == SparseType::F16 { 9 } else { 0 } + if ty == SparseType::Int8 { 11 } else { 9 };
            assert_eq!(packed.bytes(), out.next_multiple_of(32) * inn.next_multiple_of(32) * bits / 16);
            let parts = packed.parts();
            let again = TwoOfFour::from_parts(out, inn, &parts, &pool).expect("they follow the rules");
            assert_eq!(again.parts(), parts);
            let (mut row, mut other) = (vec![f32::NAN; inn], vec![f32::NAN; inn]);
            for (o, w) in w.chunks(inn).enumerate() {
                packed.decode_row(o, &mut row);
                again.decode_row(o, &mut other);
                assert!(same_bits(&row, &other));
                let most = w.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                let near = |(a, b): (&f32, &f32)| match ty {
                    SparseType::F16 => *a == f16::from_f32(*b).to_f32(),
                    SparseType::Int8 => (a - b).abs() <= most / 250.0 && (*b != 0.0 || *a == 0.0),
                };
                assert!(row.iter().zip(w).all(near), "{ty:?} row {o} of {out}x{inn}");
            }
        }
    }
}

#[test]
fn a_matrix_without_the_pattern_is_refused_by_its_first_row() {
    let pool = Pool::new(3);
    let mut w = matrix(1, 40, 64);
    for row in [39, 7, 20] {
        w[row * 64 + 12..row * 64 + 16].copy_from_slice(&[1.0, 1.0, 0.0, 1.0]);
    }
    let error = pack(SparseType::F16, &w, 40, 64, &pool).expect_err("three of four");
    assert_eq!(error, SparseError::NotTwoOfFour { row: 7, group: 3, found: 3 });
    assert_eq!(error.to_string(), "row 7: 3 of the inputs 12 to 15 are not zero, at most 2 may be");
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let mut w = matrix(1, 40, 64);
        w[9 * 64 + 32..9 * 64 + 36].copy_from_slice(&[0.0, bad, 0.0, 0.0]);
        let error = pack(SparseType::Int8, &w, 40, 64, &pool).expect_err("no integer");
        assert_eq!(error, SparseError::Range { row: 9, run: 1 });
    }
}

#[test]
fn hostile_parts_are_refused() {
    let pool = Pool::new(1);
    let (out, inn) = (3, 33);
    let good = |ty| pack(ty, &matrix(5, out, inn), out, inn, &pool).expect("the pattern").parts();
    type Spoil = fn(&mut TwoOfFourParts);
    let (bytes, kept) = (5, 18);
    let table: [(Spoil, SparseError); 9] = [
        (|p| p.positions.truncate(14), SparseError::Length { part: "bytes of positions", found: 14, expected: 15 }),
        (|p| p.positions[5] = 0b0100_0000, SparseError::Positions { row: 1, group: 0 }),
        (|p| p.positions[6] = 0b0001_0100, SparseError::Positions { row: 1, group: 3 }),
        (|p| p.positions[9] = 0b0100_0100, SparseError::Positions { row: 1, group: 9 }),
        (
            |p| p.values = SparseValues::F16(vec![0; 53]),
            SparseError::Length { part: "values", found: 53, expected: 54 },
        ),
        (
            |p| p.values = SparseValues::Int8 { values: vec![0; 55], scales: vec![0; 6] },
            SparseError::Length { part: "values", found: 55, expected: 54 },
        ),
        (
            |p| p.values = SparseValues::Int8 { values: vec![0; 54], scales: vec![0; 5] },
            SparseError::Length { part: "scales", found: 5, expected: 6 },
        ),
        (
            |p| p.values = SparseValues::Int8 { values: vec![0; 54], scales: vec![0, 0, 0, 0x7c00, 0, 0] },
            SparseError::Scale { at: 3 },
        ),
        (|p| p.values = SparseValues::F16(vec![0x3c00; 54]), SparseError::Padding { row: 0, at: 8 }),
    ];
    assert_eq!((good(SparseType::F16).positions.len(), bytes * out, kept * out), (15, 15, 54));
    for (spoil, expected) in table {
        let mut parts = good(SparseType::F16);
        spoil(&mut parts);
        assert_eq!(TwoOfFour::from_parts(out, inn, &parts, &pool).expect_err("a rule is broken"), expected);
    }
    // Shapes that no memory holds, with the parts of another.
    for (out, inn) in [(usize::MAX, usize::MAX), (usize::MAX, 33), (3, usize::MAX), (usize::MAX / 2, 4)] {
        for ty in [SparseType::F16, SparseType::Int8] {
            assert!(TwoOfFour::from_parts(out, inn, &good(ty), &pool).is_err());
        }
    }
    let nothing = TwoOfFourParts { positions: vec![], values: SparseValues::F16(vec![]) };
    for shape in [[usize::MAX, 0], [0, usize::MAX], [0, 0]] {
        let packed = TwoOfFour::from_parts(shape[0], shape[1], &nothing, &pool).expect("no values are needed");
        assert_eq!((packed.shape(), packed.parts()), (shape, nothing.clone()));
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
