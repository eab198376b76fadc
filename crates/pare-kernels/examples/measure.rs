//! Prints the speed of the kernels on this machine: `cargo run --release -p pare-kernels --example measure`.
#![allow(clippy::print_stdout)]

use pare_kernels::blocks::{RowType, Rows};
use pare_kernels::gram::accumulate_gram;
use pare_kernels::{
    AttentionScratch, BlockType, Isa, KvBlock, PanelType, Panels, Pool, Product as _, elementwise, multiply_rows,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let isas: Vec<Isa> = Isa::available().filter(|&isa| isa != Isa::PORTABLE).collect();
    for threads in [1, 2] {
        let pool = Pool::new(threads);
        // Every thread waits for every other, so each round is a full fork and join.
        let meet = || {
            let arrived = AtomicUsize::new(0);
            pool.run(threads, &|_| {
                arrived.fetch_add(1, Ordering::Relaxed);
                while arrived.load(Ordering::Relaxed) < threads {
                    std::hint::spin_loop();
                }
            });
        };
        let (shortest, usual) = (best(20_000, meet).as_nanos(), mean(20_000, meet).as_nanos());
        println!("{threads} threads: fork-join {shortest} ns at best, {usual} ns on average");
        for (rows, inn, out) in [(512, 576, 1536), (512, 1536, 576), (512, 576, 49152)] {
            for ty in [PanelType::F16, PanelType::F32] {
                let panels = pack(ty, out, inn, &pool);
                let x: Vec<f32> = (0..rows * inn).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
                let mut y = vec![0.0; rows * out];
                for &isa in &isas {
                    let flops = 2.0 * (rows * inn * out) as f64;
                    let rounds = (2e10 / flops).clamp(2.0, 50.0) as usize;
                    let time = best(rounds, || panels.multiply_on(isa, &x, &mut y, &pool)).as_secs_f64();
                    println!(
                        "  {ty:?} {:8} [{rows},{inn}] x [{out},{inn}]: {:.1} GFLOP/s",
                        isa.name(),
                        flops / time / 1e9
                    );
                }
            }
        }
        for ty in [PanelType::F16, PanelType::F32, PanelType::Bf16] {
            let start = Instant::now();
            let layers: Vec<Panels> =
                (0..if ty == PanelType::F32 { 76 } else { 152 }).map(|_| pack(ty, 1536, 576, &pool)).collect();
            let packed = start.elapsed();
            let (x, mut y) = (vec![0.5; 576], vec![0.0; 1536]);
            let bytes: usize = layers.iter().map(Panels::bytes).sum();
            for &isa in &isas {
                let time = best(5, || layers.iter().for_each(|w| w.multiply_on(isa, &x, &mut y, &pool))).as_secs_f64();
                println!(
                    "  {ty:?} {:8} one row over {} MB: {:.1} GB/s (packed in {packed:.0?})",
                    isa.name(),
                    bytes >> 20,
                    bytes as f64 / time / 1e9
                );
            }
        }
        let data = vec![1u64; 32 << 20];
        let time = best(5, || {
            pool.run(threads, &|part| {
                let half = data.len() / threads;
                std::hint::black_box(data[part * half..][..half].iter().fold(0u64, |a, b| a.wrapping_add(*b)));
            });
        });
        println!("  plain read of 256 MB: {:.1} GB/s", 0.268_435_456 / time.as_secs_f64());
        few_rows(&pool);
        attention(&pool);
        gram(&pool);
    }
    blocks();
    rows();
}

fn few_rows(pool: &Pool) {
    let panels = pack(PanelType::F16, 49152, 576, pool);
    for rows in [1, 2, 4, 8, 12, 13, 16, 32] {
        let (x, mut y) = (vec![0.5; 576 * rows], vec![0.0; 49152 * rows]);
        let time = best(5, || panels.multiply(&x, &mut y, pool)).as_secs_f64();
        let (bytes, flops) = (panels.bytes() as f64, 2.0 * (rows * 576 * 49152) as f64);
        println!("  head, {rows} rows: {:.1} GB/s, {:.1} GFLOP/s", bytes / time / 1e9, flops / time / 1e9);
    }
}

fn attention(pool: &Pool) {
    let (groups, heads, d) = (3, 3, 64);
    for (held, tokens) in [(512, 512), (2048, 2048), (512, 1), (2048, 1)] {
        let mut cache = KvBlock::new(groups, d, held);
        let kv: Vec<f32> = (0..held * groups * d).map(|i| (i % 19) as f32 * 0.05).collect();
        let filling = time(&mut || cache.extend(&kv, &kv));
        let queries = vec![0.1; tokens * groups * heads * d];
        let (mut out, mut scratch) = (queries.clone(), AttentionScratch::new());
        let work = || cache.attend(&queries, held - tokens, heads, 0.125, &mut scratch, &mut out, pool);
        let time = best(5, work);
        let positions = (0..tokens).map(|t| held - t).sum::<usize>();
        let flops = 4.0 * (positions * groups * heads * d) as f64 / time.as_secs_f64() / 1e9;
        println!("  attention, {tokens} tokens over {held}: {time:.1?}, {flops:.1} GFLOP/s (filled in {filling:.1?})");
    }
}

fn gram(pool: &Pool) {
    for (tokens, n) in [(1024, 576), (1024, 1536)] {
        let x: Vec<f32> = (0..tokens * n).map(|i| (i % 23) as f32 * 0.1 - 1.0).collect();
        let mut into = vec![0.0; n * n];
        let time = best(5, || accumulate_gram(&x, n, &mut into, pool)).as_secs_f64();
        println!("  Gram [{tokens},{n}]: {:.1} GFLOP/s", (tokens * n * (n + 1)) as f64 / time / 1e9);
    }
}

fn blocks() {
    for ty in BlockType::ALL {
        let mut out = vec![0.0; 1 << 16];
        let bytes = vec![0x11; out.len() / ty.values_per_block() * ty.bytes_per_block()];
        let time = best(50, || ty.decode(&bytes, &mut out)).as_secs_f64();
        println!("{}: {:.2} G values/s decoded", ty.name(), out.len() as f64 / time / 1e9);
    }
    let (mut row, other) = (vec![0.3f32; 49152], vec![0.1f32; 49152]);
    let giga = |time: Duration| 49152.0 / time.as_secs_f64() / 1e9;
    println!("softmax {:.2} G/s", giga(best(50, || elementwise::softmax(&mut row))));
    println!("silu_product {:.2} G/s", giga(best(50, || elementwise::silu_product(&mut row, &other))));
    let time = best(50, || assert!(elementwise::log_sum_exp(std::hint::black_box(&other)) > 0.0));
    println!("log_sum_exp {:.2} G/s", giga(time));
    println!("rms_norm {:.2} G/s", giga(best(50, || elementwise::rms_norm(&other, &other, 1e-5, &mut row))));
}

fn rows() {
    let pool = Pool::new(2);
    let ty = BlockType::Q4_1;
    let (out, inn) = (1536, 576);
    let bytes = vec![0x11; out * inn / ty.values_per_block() * ty.bytes_per_block()];
    let source = Rows::new(RowType::Blocks(ty), &bytes, [out, inn]).expect("the bytes are those rows");
    for rows in [1, 12, 512] {
        let (x, mut y) = (vec![0.5; inn * rows], vec![0.0; out * rows]);
        let time = best(20, || multiply_rows(&source, &x, &mut y, &pool));
        println!("Q4_1 rows times {rows}: {time:.1?}");
    }
}

fn pack(ty: PanelType, out: usize, inn: usize, pool: &Pool) -> Panels {
    Panels::pack(ty, out, inn, &|o, row| row.iter_mut().enumerate().for_each(|(i, w)| *w = ((o + i) % 13) as f32), pool)
}

fn best(rounds: usize, mut work: impl FnMut()) -> Duration {
    (0..rounds).map(|_| time(&mut work)).min().unwrap_or_default()
}

fn mean(rounds: u32, mut work: impl FnMut()) -> Duration {
    time(&mut || (0..rounds).for_each(|_| work())) / rounds
}

fn time(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
