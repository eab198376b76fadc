//! What each encoding and repair of a matrix costs, in milliseconds of the calling thread on a processor (Linux):
//! `cargo run --release -p pare-methods --example cost [THREADS [METHOD]]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that prints")]

use pare_kernels::pool::Pool;
use pare_methods::compensate::{self, Build, RefitTask};
use pare_methods::encode::{self, Task};
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::rng::SplitMix64;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use pare_model::weight::Weight;
use std::sync::Arc;

const SITE: Site = Site { block: 0, point: Point::FfnIn };
const TOKENS: usize = 4096;

/// The second moments of inputs of very different sizes, 16 directions of which are far stronger than the others.
fn stats(width: usize, rng: &mut SplitMix64) -> Stats {
    let mut even = || (rng.unit() - 0.5) as f32;
    let size: Vec<f32> = (0..width).map(|_| (4.0 * even()).exp()).collect();
    let mixing: Vec<f32> = (0..16 * width).map(|_| 3.0 * even()).collect();
    let mut x = vec![0.0_f32; TOKENS * width];
    for row in x.chunks_exact_mut(width) {
        let hidden: Vec<f32> = (0..16).map(|_| even()).collect();
        for (j, value) in row.iter_mut().enumerate() {
            *value = size[j] * (even() + (0..16).map(|k| hidden[k] * mixing[k * width + j]).sum::<f32>());
        }
    }
    let mut gram = vec![0.0; width * width];
    pare_kernels::gram::accumulate_gram(&x, width, &mut gram, &Pool::new(2));
    gram.iter_mut().for_each(|value| *value /= TOKENS as f64);
    let mut stats = Stats::new(TOKENS as u64);
    stats.insert(SITE, Stat::MeanSquare, (0..width).map(|i| gram[i * width + i]).collect());
    stats.insert(SITE, Stat::Gram, gram);
    stats
}

/// Milliseconds that this thread has run, which other programs on the machine do not count towards.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e6
}

fn main() {
    let pool = Pool::new(std::env::args().nth(1).map_or(1, |threads| threads.parse().unwrap()));
    let only = std::env::args().nth(2);
    let mut rng = SplitMix64::new(1);
    for [out, width] in [[576, 576], [1536, 576], [576, 1536]] {
        let stats = stats(width, &mut rng);
        let weight = Matrix::from_vec(out, width, (0..out * width).map(|_| (rng.unit() - 0.5) as f32).collect());
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        for entry in encode::ENTRIES.iter().filter(|entry| wanted(entry.card.name)) {
            for compare in [Compare::Matrix, Compare::TwoOfFour] {
                let encoding = (entry.build)(&Settings::default()).unwrap();
                let task = Task { site: SITE, weight: &weight, keep: 0.5, compare };
                let start = busy();
                let prepared = encoding.prepare(SITE, width, &stats).unwrap();
                let ready = busy() - start;
                let start = busy();
                let encoded = match &prepared {
                    Some(prepared) => encoding.encode_with(&task, &stats, prepared, &pool).unwrap(),
                    None => encoding.encode(&task, &stats, &pool).unwrap(),
                };
                let took = busy() - start;
                let error = encoded.info.error.unwrap_or(f64::NAN);
                println!(
                    "{out}x{width} {} {compare:?}: {ready:.1} ms + {took:.1} ms, error {error:.4}",
                    entry.card.name
                );
            }
        }
        let task = Task { site: SITE, weight: &weight, keep: 0.5, compare: Compare::TwoOfFour };
        let sparse = encode::find("sparsegpt").unwrap();
        let after = (sparse.build)(&Settings::default()).unwrap().encode(&task, &stats, &pool).unwrap().weight;
        let mut plain = weight.clone();
        let mut row_after = vec![0.0; width];
        for row in 0..out {
            after.decode_row(row, &mut row_after);
            let values = plain.row_mut(row).iter_mut().zip(&row_after);
            values.filter(|(_, after)| **after == 0.0).for_each(|(value, _)| *value = 0.0);
        }
        let masked: Arc<dyn Weight> = Arc::new(Dense(plain));
        for (what, after) in [("sparsegpt", &after), ("its mask", &masked)] {
            for entry in compensate::ENTRIES.iter().filter(|entry| wanted(entry.card.name)) {
                let Build::Matrix(build) = entry.build else { continue };
                let repair = build(&Settings::default()).unwrap();
                let start = busy();
                let lost = RefitTask { site: SITE, before: &weight, after, mask: None };
                let info = repair.refit(&lost, &stats).unwrap().info;
                let took = busy() - start;
                let [before, after] = [info.error_before, info.error_after].map(|error| error.unwrap_or(f64::NAN));
                println!("{out}x{width} {} after {what}: {took:.1} ms, {before:.4} -> {after:.4}", entry.card.name);
            }
        }
    }
}
