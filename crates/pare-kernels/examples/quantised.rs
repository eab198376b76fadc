//! Prints the speed of quantised panels beside f16 panels: `cargo run --release -p pare-kernels --example quantised`.
#![allow(clippy::print_stdout)]

use pare_kernels::{BlockType, Int8Rows, PanelType, Panels, Pool, Product, QuantPanels, multiply_together};
use std::time::Instant;

/// Bytes of each set of matrices: far more than the caches hold.
const SET: usize = 256 << 20;
const ROUNDS: usize = 7;

fn main() {
    for threads in [1, 2] {
        let pool = Pool::new(threads);
        for [out, inn] in [[1536, 576], [576, 1536], [4096, 4096]] {
            println!("{threads} threads, [{out}, {inn}]");
            let dense = |ty| -> Box<dyn Product> {
                let value = |o: usize, row: &mut [f32]| {
                    row.iter_mut().enumerate().for_each(|(i, w)| *w = ((o + i) % 13) as f32)
                };
                Box::new(Panels::pack(ty, out, inn, &value, &pool))
            };
            let mut sets: Vec<(String, Vec<Box<dyn Product>>)> = Vec::new();
            let count = |one: &dyn Product| (SET / one.bytes()).max(2);
            let one = dense(PanelType::F16);
            let f16s = (0..count(one.as_ref())).map(|_| dense(PanelType::F16)).collect();
            sets.push(("f16".into(), f16s));
            for ty in BlockType::ALL.into_iter().filter(|ty| inn % ty.values_per_block() == 0) {
                let bytes = vec![0x11u8; inn / ty.values_per_block() * ty.bytes_per_block()];
                let one = || -> Box<dyn Product> { Box::new(QuantPanels::pack(ty, [out, inn], &|_| &bytes, &pool)) };
                sets.push((ty.name().into(), (0..count(one().as_ref())).map(|_| one()).collect()));
            }
            for rows in [1, 4, 16, 512] {
                let (x, mut y) = (vec![0.5; inn * rows], vec![0.0; out * rows]);
                let mut int8 = Int8Rows::new();
                let mut seconds = vec![Vec::new(); sets.len()];
                for _ in 0..ROUNDS {
                    for ((_, matrices), seconds) in sets.iter().zip(&mut seconds) {
                        // Many rows are bound by arithmetic, so a few matrices tell as much.
                        let matrices = &matrices[..if rows > 16 { matrices.len().min(4) } else { matrices.len() }];
                        let start = Instant::now();
                        for matrix in matrices {
                            multiply_together([(matrix.as_ref(), &mut y[..])], &x, &mut int8, &pool);
                        }
                        seconds.push(start.elapsed().as_secs_f64() / matrices.len() as f64);
                    }
                }
                let median = |seconds: &[f64]| {
                    let mut sorted = seconds.to_vec();
                    sorted.sort_unstable_by(f64::total_cmp);
                    sorted[sorted.len() / 2]
                };
                for ((name, matrices), own) in sets.iter().zip(&seconds) {
                    let ratios: Vec<f64> = seconds[0].iter().zip(own).map(|(first, own)| first / own).collect();
                    println!(
                        "  {rows:>3} rows {name:>5}: {:8.1} us, {:5.1} GB/s, {:6.1} G multiply-adds/s, {:.2} x f16",
                        median(own) * 1e6,
                        matrices[0].bytes() as f64 / median(own) / 1e9,
                        (rows * out * inn) as f64 / median(own) / 1e9,
                        median(&ratios),
                    );
                }
            }
        }
    }
}
