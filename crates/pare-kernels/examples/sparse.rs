//! Prints how much faster each sparse storage is than dense f16 panels, in one run, rounds taking turns:
//! `cargo run --release -p pare-kernels --example sparse -- [numbers of rows, 1 unless given]`.
#![allow(clippy::print_stdout)]

use pare_kernels::int8::Int8Rows;
use pare_kernels::product::multiply_together_on;
use pare_kernels::{EightRows, Isa, PanelType, Panels, Pool, Product, SparseType, TwoOfFour};
use std::time::Instant;

/// Dense bytes of the matrices that a round goes through.
const WORKING_SET: usize = 256 << 20;
const ROUNDS: usize = 25;

fn main() -> Result<(), pare_kernels::SparseError> {
    let rows: Vec<usize> = std::env::args().skip(1).filter_map(|rows| rows.parse().ok()).collect();
    for [inn, out] in [[576, 1536], [1536, 576], [4096, 4096]] {
        let copies =
            (std::env::var("WS").ok().and_then(|v| v.parse().ok()).unwrap_or(WORKING_SET) / (2 * inn * out)).max(1);
        let pool = Pool::new(2);
        let kinds: [(&str, Vec<Box<dyn Product>>); 5] = [
            ("dense f16", (0..copies).map(|_| dense(out, inn, &pool)).collect()),
            ("2:4 f16", (0..copies).map(|_| two_of_four(SparseType::F16, out, inn, &pool)).collect::<Result<_, _>>()?),
            (
                "2:4 int8",
                (0..copies).map(|_| two_of_four(SparseType::Int8, out, inn, &pool)).collect::<Result<_, _>>()?,
            ),
            (
                "8 rows f16",
                (0..copies).map(|_| eight_rows(SparseType::F16, out, inn, &pool)).collect::<Result<_, _>>()?,
            ),
            (
                "8 rows int8",
                (0..copies).map(|_| eight_rows(SparseType::Int8, out, inn, &pool)).collect::<Result<_, _>>()?,
            ),
        ];
        for threads in [1, 2] {
            let pool = Pool::new(threads);
            for isa in Isa::available().filter(|&isa| isa != Isa::PORTABLE) {
                for &rows in if rows.is_empty() { &[1][..] } else { &rows } {
                    measure(&kinds, isa, [inn, out], rows, &pool);
                }
            }
        }
    }
    Ok(())
}

fn measure(kinds: &[(&str, Vec<Box<dyn Product>>)], isa: Isa, [inn, out]: [usize; 2], rows: usize, pool: &Pool) {
    let x: Vec<f32> = (0..rows * inn).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
    let (mut y, mut int8) = (vec![0.0; rows * out], Int8Rows::new());
    let mut times = vec![Vec::new(); kinds.len()];
    for _ in 0..ROUNDS.div_ceil(rows) {
        for ((_, matrices), times) in kinds.iter().zip(&mut times) {
            for matrix in matrices {
                let start = Instant::now();
                multiply_together_on(isa, [(&**matrix, &mut y)], &x, &mut int8, pool);
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    println!("[{rows},{inn}] x [{out},{inn}], {} threads, {}: tenth percentile, median", pool.threads(), isa.name());
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let at = |kind: usize, share: usize| times[kind][times[kind].len() * share / 100];
    for (kind, (name, matrices)) in kinds.iter().enumerate() {
        let [(fast, fast_ratio), (usual, ratio)] =
            [10, 50].map(|share| (at(kind, share), at(0, share) / at(kind, share)));
        let speed = matrices[0].bytes() as f64 / usual / 1e9;
        let (fast, usual) = (fast * 1e6, usual * 1e6);
        println!("  {name:12} {fast:8.1} {usual:8.1} us  {speed:5.1} GB/s  {fast_ratio:.2} {ratio:.2} x dense f16");
    }
}

fn weight(o: usize, i: usize) -> f32 {
    ((o * 7 + i) % 13) as f32 * 0.1 - 0.65
}

/// A number that looks random.
fn mixed(a: usize, b: usize) -> usize {
    let mut z = (a as u64 ^ (b as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z >> 33) as usize
}

fn dense(out: usize, inn: usize, pool: &Pool) -> Box<dyn Product> {
    let row = |o: usize, row: &mut [f32]| row.iter_mut().enumerate().for_each(|(i, w)| *w = weight(o, i));
    Box::new(Panels::pack(PanelType::F16, out, inn, &row, pool))
}

/// Fills 2 of every 4 values of row `o`; which ones looks random and depends on `pattern`.
fn half_of(o: usize, pattern: usize, row: &mut [f32]) {
    for (g, group) in row.chunks_mut(4).enumerate() {
        let (a, b) = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)][mixed(pattern, g) % 6];
        group.fill(0.0);
        (group[a], group[b]) = (weight(o, a), weight(o, b));
    }
}

fn two_of_four(
    ty: SparseType,
    out: usize,
    inn: usize,
    pool: &Pool,
) -> Result<Box<dyn Product>, pare_kernels::SparseError> {
    let row = |o: usize, row: &mut [f32]| half_of(o, o, row);
    Ok(Box::new(TwoOfFour::pack(ty, out, inn, &row, pool)?))
}

/// Keeps 2 of every 4 columns of each group of 8 outputs, which ones looks random.
fn eight_rows(
    ty: SparseType,
    out: usize,
    inn: usize,
    pool: &Pool,
) -> Result<Box<dyn Product>, pare_kernels::SparseError> {
    let row = |o: usize, row: &mut [f32]| half_of(o, o / 8, row);
    Ok(Box::new(EightRows::pack(ty, out, inn, &row, pool)?))
}
