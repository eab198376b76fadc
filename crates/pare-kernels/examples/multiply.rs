//! Two rows times a matrix: rounded to 8-bit blocks and multiplied as it lies, packed in f32 panels, and packed as blocks.
//! `cargo run -p pare-kernels --example multiply`
#![allow(clippy::print_stdout)]

use pare_kernels::blocks::{RowType, Rows};
use pare_kernels::{BlockType, Int8Rows, PanelType, Panels, Pool, QuantPanels, multiply_rows, multiply_together};

fn main() -> Result<(), &'static str> {
    let [tokens, out, inn] = [2, 48, 64];
    let weights: Vec<f32> = (0..out * inn).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let x: Vec<f32> = (0..tokens * inn).map(|i| ((i * 17 % 23) as f32 - 11.0) / 11.0).collect();
    let pool = Pool::new(2);

    // The blocks of a GGUF file: 32 values each, a row after the other.
    let ty = BlockType::Q8_0;
    let row_bytes = inn / ty.values_per_block() * ty.bytes_per_block();
    let mut blocks = vec![0; out * row_bytes];
    ty.encode(&weights, &mut blocks);
    let rows = Rows::new(RowType::Blocks(ty), &blocks, [out, inn]).ok_or("rows are whole blocks")?;
    let mut as_stored = vec![0.0; tokens * out];
    multiply_rows(&rows, &x, &mut as_stored, &pool);

    // The law of this crate, as a reference: y[t, o] is a sum over i in order, one rounding a step.
    let mut decoded = vec![0.0; out * inn];
    ty.decode(&blocks, &mut decoded);
    let sum = |t: usize, o: usize| (0..inn).fold(0.0, |acc, i| x[t * inn + i].mul_add(decoded[o * inn + i], acc));
    let reference: Vec<f32> = (0..tokens * out).map(|at| sum(at / out, at % out)).collect();
    assert_eq!(as_stored, reference, "every bit");

    // Panels hold the same values in the order in which the processor reads them.
    let decode_row = |o: usize, row: &mut [f32]| row.copy_from_slice(&decoded[o * inn..(o + 1) * inn]);
    let panels = Panels::pack(PanelType::F32, out, inn, &decode_row, &pool);
    let mut packed = vec![0.0; tokens * out];
    panels.multiply(&x, &mut packed, &pool);
    assert_eq!(packed, reference, "every bit");

    // Packed as blocks, x is rounded to 8 bits too: a quarter of the bytes, and near.
    let quantised = QuantPanels::pack(ty, [out, inn], &|o| &blocks[o * row_bytes..(o + 1) * row_bytes], &pool);
    let mut near = vec![0.0; tokens * out];
    multiply_together([(&quantised, &mut near[..])], &x, &mut Int8Rows::new(), &pool);
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |most: f32, value| most.max(value.abs()));
    let apart = largest(&mut near.iter().zip(&reference).map(|(a, b)| a - b)) / largest(&mut reference.iter().copied());
    assert!(apart < 0.02, "{apart}");
    println!("as stored and in panels equal the reference; with x in 8 bits at most {:.2} % apart", 100.0 * apart);
    Ok(())
}
