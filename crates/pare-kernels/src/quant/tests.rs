use super::*;
use crate::int8::Int8Rows;
use crate::product::{multiply_together, multiply_together_on};
use crate::reference::{numbers, same_bits, sizes};

/// Random blocks with scales near 1 / 100; every code and every small scale occurs.
fn random_rows(ty: BlockType, out: usize, inn: usize) -> Vec<u8> {
    let blocks = out * inn / ty.values_per_block();
    let mut bytes: Vec<u8> =
        numbers(3, blocks * ty.bytes_per_block()).iter().map(|x| ((x + 1.0) * 127.99) as u8).collect();
    let halves: &[usize] = match ty {
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => &[0],
        BlockType::Q6K => &[208],
        _ => &[0, 2],
    };
    let scales = numbers(4, 2 * blocks);
    for (index, block) in bytes.chunks_exact_mut(ty.bytes_per_block()).enumerate() {
        for (which, &at) in halves.iter().enumerate() {
            let scale = half::f16::from_f32(scales[2 * index + which] * 0.01);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

fn packed(ty: BlockType, bytes: &[u8], out: usize, inn: usize, pool: &Pool) -> QuantPanels {
    let row_bytes = inn / ty.values_per_block() * ty.bytes_per_block();
    QuantPanels::pack(ty, [out, inn], &|o| &bytes[o * row_bytes..(o + 1) * row_bytes], pool)
}

#[test]
fn panels_decode_to_the_bits_of_the_blocks() {
    for ty in BlockType::ALL {
        for &(out, inn) in sizes(&[(1, 256), (33, 512), (70, 768)], &[(33, 256)]) {
            let bytes = random_rows(ty, out, inn);
            let mut expected = vec![0.0; out * inn];
            ty.decode(&bytes, &mut expected);
            let panels = packed(ty, &bytes, out, inn, &Pool::new(2));
            for (o, expected) in expected.chunks_exact(inn).enumerate() {
                let mut row = vec![0.0; inn];
                panels.decode_row(o, &mut row);
                assert!(same_bits(&row, expected), "{} row {o}", ty.name());
            }
        }
    }
}

/// The law from the file's bytes, with no layout in between: decoded values are only used for the bound.
#[test]
fn every_set_gives_the_bits_of_the_law_for_any_rows_and_threads() {
    let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
    for ty in BlockType::ALL {
        let narrow = if ty.values_per_block() == 32 { 96 } else { 256 };
        for &(out, inn) in sizes(&[(1, narrow), (31, 256), (33, 1536), (96, 512), (300, narrow)], &[(33, narrow)]) {
            let bytes = random_rows(ty, out, inn);
            let panels = packed(ty, &bytes, out, inn, &pools[1]);
            let mut dense = vec![0.0; out * inn];
            ty.decode(&bytes, &mut dense);
            let x = numbers(9, 40 * inn);
            let mut expected = vec![0.0; 40 * out];
            multiply_together_on(
                Isa::PORTABLE,
                [(&panels as &dyn Product, &mut expected[..])],
                &x,
                &mut Int8Rows::new(),
                &pools[0],
            );
            // The rounded inputs times the decoded weights, in f64.
            let mut rounded = Int8Rows::new();
            rounded.round(Isa::PORTABLE, &x, 40, &pools[0]);
            for (at, &y) in expected.iter().enumerate() {
                let (t, o) = (at / out, at % out);
                let terms = (0..inn).map(|i| {
                    let scale = rounded.scales()[t * (inn / BLOCK) + i / BLOCK];
                    f64::from(scale) * f64::from(rounded.quants()[t * inn + i]) * f64::from(dense[o * inn + i])
                });
                let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + f64::abs(term)));
                assert!((f64::from(y) - exact).abs() <= 1e-6 * size, "{} {y} is not {exact}", ty.name());
            }
            for &rows in sizes(&[1, 2, 3, 5, 6, 7, 13, 16, 40], &[1, 3]) {
                for isa in Isa::available() {
                    for pool in &pools {
                        let mut y = vec![f32::NAN; rows * out];
                        let terms = [(&panels as &dyn Product, &mut y[..])];
                        multiply_together_on(isa, terms, &x[..rows * inn], &mut Int8Rows::new(), pool);
                        assert!(same_bits(&y, &expected[..rows * out]), "{} {} {rows}", ty.name(), isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn products_that_share_their_input_give_what_they_give_alone() {
    let pool = Pool::new(2);
    let (a, b) = (random_rows(BlockType::Q4_0, 40, 64), random_rows(BlockType::Q8_0, 70, 64));
    let (a, b) = (packed(BlockType::Q4_0, &a, 40, 64, &pool), packed(BlockType::Q8_0, &b, 70, 64, &pool));
    let c = crate::Panels::pack(crate::PanelType::F32, 5, 64, &|o, row| row.fill(o as f32), &pool);
    for &rows in sizes(&[1, 9, 64], &[1]) {
        let x = numbers(2, rows * 64);
        let mut int8 = Int8Rows::new();
        let mut together = (vec![0.0; rows * 40], vec![0.0; rows * 70], vec![0.0; rows * 5]);
        let (first, second, third) = (&mut together.0[..], &mut together.1[..], &mut together.2[..]);
        let terms = [(&a as &dyn Product, first), (&c as &dyn Product, third), (&b as &dyn Product, second)];
        multiply_together(terms, &x, &mut int8, &pool);
        for (product, expected) in
            [(&a as &dyn Product, &together.0), (&b as &dyn Product, &together.1), (&c as &dyn Product, &together.2)]
        {
            let mut y = vec![0.0; expected.len()];
            multiply_together([(product, &mut y[..])], &x, &mut int8, &pool);
            assert!(same_bits(&y, expected));
        }
    }
}

#[test]
fn an_extreme_code_and_an_infinite_input_show() {
    // The code -128, which no writer makes but a file can hold, at both signs of the input.
    let mut bytes = vec![0x80u8; 34 * 32];
    for block in bytes.chunks_exact_mut(34) {
        block[..2].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
    }
    let pool = Pool::new(1);
    let panels = packed(BlockType::Q8_0, &bytes, 32, 32, &pool);
    for isa in Isa::available() {
        for (value, expected) in [(127.0, -128.0 * 127.0 * 32.0), (-127.0, 128.0 * 127.0 * 32.0)] {
            let mut y = [0.0; 32];
            multiply_together_on(
                isa,
                [(&panels as &dyn Product, &mut y[..])],
                &[value; 32],
                &mut Int8Rows::new(),
                &pool,
            );
            assert_eq!(y, [expected; 32], "{}", isa.name());
        }
        let mut x = [1.0; 32];
        x[3] = f32::INFINITY;
        let mut y = [0.0; 32];
        multiply_together_on(isa, [(&panels as &dyn Product, &mut y[..])], &x, &mut Int8Rows::new(), &pool);
        assert!(y.iter().all(|y| !y.is_finite()), "{}", isa.name());
    }
}
