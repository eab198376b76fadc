//! Prints the speed of the kernels on this machine: `cargo run --release -p pare-kernels --example measure`.
#![allow(clippy::print_stdout)]

use pare_kernels::{Isa, PanelType, Panels, Pool};
use std::time::{Duration, Instant};

fn main() {
    let isas: Vec<Isa> = Isa::available().filter(|&isa| isa != Isa::Portable).collect();
    for threads in [1, 2] {
        let pool = Pool::new(threads);
        let ns = best(2000, || pool.run(threads, &|_| ())).as_nanos();
        let mean = mean(20_000, || pool.run(threads, &|_| ())).as_nanos();
        println!("{threads} threads: fork-join {ns} ns best, {mean} ns mean");
        for (rows, inn, out) in [(512, 576, 1536), (512, 1536, 576), (512, 576, 192), (512, 576, 49152), (8, 576, 1536)]
        {
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
        println!(
            "  plain read of {} MB: {:.1} GB/s",
            data.len() >> 17,
            data.len() as f64 * 8.0 / time.as_secs_f64() / 1e9
        );
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
