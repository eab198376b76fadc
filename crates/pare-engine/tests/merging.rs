//! Merging: a permuted copy merges back into the model, whatever the family; features merge by name of the rewrite; other models are refused.

use crate::tiny::{bundle, family, logits, sequences, weights, work};
use pare_engine::Error;
use pare_engine::bundle::Bundle;
use pare_engine::merging::{Joined, Request, check, merge};
use pare_kernels::pool::Pool;
use pare_methods::error::MethodError;
use pare_methods::merge;
use pare_methods::rewrite::{self, Calibration};
use pare_methods::settings::Settings;
use pare_model::block::Mixer;
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::rng::SplitMix64;
use pare_model::site::{Projection, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use std::collections::BTreeSet;
use std::sync::Arc;

const FAMILIES: [&str; 4] = ["llama-tied", "llama-llama3-biases", "qwen2", "qwen3"];

fn shuffled(count: usize, rng: &mut SplitMix64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    (1..count).rev().for_each(|at| order.swap(at, rng.below(at + 1)));
    order
}

/// The same function with its channels and KV groups in another order.
fn permuted(model: &Model, seed: u64) -> Model {
    let mut rng = SplitMix64::new(seed);
    let mut model = model.clone();
    for block in &mut model.blocks {
        let attention = block.attention().unwrap();
        let groups = shuffled(attention.groups, &mut rng);
        let ffn = block.ffn.as_ref().unwrap();
        let channels = shuffled(ffn.width(), &mut rng);
        (block.mixer, block.ffn) =
            (Some(Mixer::Attention(attention.keep_groups(&groups))), Some(ffn.keep_channels(&channels)));
    }
    model
}

/// Every weight a little off.
fn noisy(model: &Model, noise: f64) -> Model {
    let mut rng = SplitMix64::new(3);
    let mut model = model.clone();
    for block in &mut model.blocks {
        for projection in Projection::ALL {
            let linear = block.linear_mut(projection).unwrap();
            let mut matrix: Matrix = linear.to_matrix();
            matrix.data_mut().iter_mut().for_each(|value| *value *= (1.0 + noise * (2.0 * rng.unit() - 1.0)) as f32);
            linear.weight = Arc::new(Dense(matrix));
        }
    }
    model
}

fn merged(name: &str, pair: [&Model; 2], size: f64, threads: usize) -> Result<Joined, Error> {
    let (pool, settings) = (Pool::new(threads), Settings::default());
    let calibration = sequences(12, 40, pair[0].architecture.vocab, 5);
    let method = merge::find(name).unwrap();
    let request = Request { method, settings: &settings, size, calibration: &calibration };
    merge(pair[0], pair[1], &request, work(&pool))
}

/// Largest difference of logits on a text of its own, relative to the largest logit.
fn off(model: &Model, other: &Model) -> f64 {
    let (pool, tokens) = (Pool::new(1), sequences(1, 48, model.architecture.vocab, 9).remove(0));
    let [a, b] = [model, other].map(|model| logits(model, &tokens, &pool));
    let largest = a.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    f64::from(a.iter().zip(&b).fold(0.0_f32, |off, (a, b)| off.max((a - b).abs())) / largest)
}

#[test]
fn a_permuted_copy_merges_back_into_the_model() {
    for family_name in FAMILIES {
        let model = family(family_name);
        let copy = permuted(&model, 1);
        // The order of the sums is another, nothing else.
        assert!(off(&model, &copy) < 1e-5, "{family_name}");
        let pleas = merged("pleas", [&model, &copy], 1.0, 2).unwrap();
        assert_eq!(weights(&pleas.model), weights(&model), "{family_name}");
        assert_eq!(off(&model, &pleas.model), 0.0, "{family_name}");
        assert!(pleas.blocks.iter().all(|info| info.moved_channels > 20 && info.similarity.unwrap() > 0.999));
        let average = merged("average", [&model, &copy], 1.0, 2).unwrap();
        assert!(off(&model, &average.model) > 0.05, "{family_name}: {}", off(&model, &average.model));
        // All channels of both: each counts half.
        let wide = merged("pleas", [&model, &copy], 2.0, 2).unwrap().model;
        assert_eq!(wide.blocks[0].ffn.as_ref().unwrap().width(), 2 * model.blocks[0].ffn.as_ref().unwrap().width());
        assert!(off(&model, &wide) < 1e-4, "{family_name}: {}", off(&model, &wide));
    }
}

#[test]
fn least_squares_lower_the_error_and_threads_change_no_bit() {
    let model = family("llama-tied");
    let other = noisy(&permuted(&model, 2), 0.1);
    let [one, two] = [1, 2].map(|threads| merged("pleas", [&model, &other], 1.2, threads).unwrap());
    assert_eq!(weights(&one.model), weights(&two.model));
    assert_eq!(one.blocks, two.blocks);
    for info in &one.blocks {
        assert!(info.error_after.unwrap() < 0.99 * info.error_before.unwrap(), "{info:?}");
    }
    assert_eq!(one.model.blocks[1].ffn.as_ref().unwrap().width(), 96, "1.2 of 80");
    let average = merged("average", [&model, &other], 1.0, 1).unwrap();
    let pleas = merged("pleas", [&model, &other], 1.0, 1).unwrap();
    assert!(3.0 * off(&model, &pleas.model) < off(&model, &average.model));
}

#[test]
fn only_models_of_one_architecture_and_origin_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let [first, qwen] = ["llama-tied", "qwen2"].map(|name| bundle(name, folder.path()));
    let refused = |second: &Bundle, size: f64| check(&first, second, size).unwrap_err().to_string();
    assert_eq!(check(&first, &first, 1.0).unwrap(), None);
    assert!(refused(&qwen, 1.0).contains("one architecture"));
    assert!(refused(&first, 0.9).starts_with("--size 0.9") && refused(&first, f64::NAN).starts_with("--size NaN"));

    let changed = |change: &dyn Fn(&mut Model)| {
        let other = tempfile::tempdir().unwrap();
        let mut second = bundle("llama-tied", other.path());
        change(&mut second.model);
        second
    };
    let narrow = changed(&|model| {
        let ffn = model.blocks[1].ffn.take().unwrap();
        model.blocks[1].ffn = Some(ffn.keep_channels(&[0, 1, 2]));
    });
    let message = refused(&narrow, 1.0);
    assert!(
        message.contains("block 1") && message.contains("3 channels") && message.contains("80 channels"),
        "{message}"
    );
    let stranger = |share: f32| {
        changed(&|model| {
            let [vocab, hidden] = model.embedding.shape();
            let mut rng = SplitMix64::new(1);
            let mut matrix = Matrix::zeros(vocab, hidden);
            for row in 0..vocab {
                model.embedding.decode_row(row, matrix.row_mut(row));
                let size = matrix.row(row).iter().map(|value| value * value).sum::<f32>().sqrt();
                let noise = (2.0 * rng.unit() - 1.0) as f32 * size;
                matrix.row_mut(row).iter_mut().for_each(|value| *value = (1.0 - share) * *value + share * noise);
            }
            model.embedding = Arc::new(Dense(matrix));
        })
    };
    assert!(refused(&stranger(1.0), 1.0).contains("do not come from one model"));
    let remark = check(&first, &stranger(0.15), 1.0).unwrap().unwrap();
    assert!(remark.contains("cosine"), "{remark}");
}

/// Calibration that nothing may ask for.
struct DataFree;

impl Calibration for DataFree {
    fn observe(&mut self, _: &Model, _: &BTreeSet<(Site, Stat)>) -> Result<Stats, MethodError> {
        panic!("it is data-free")
    }

    fn divergence(&mut self, _: &Model) -> Result<f64, MethodError> {
        panic!("it is data-free")
    }
}

#[test]
fn features_merge_down_to_the_share_that_is_asked() {
    let model = family("llama-tied");
    let rewrite = (rewrite::find("merge-features").unwrap().build)(&Settings::default(), 0).unwrap();
    let run = |model: &Model, keep: f64| rewrite.rewrite(model, keep, &mut DataFree);
    let same = run(&model, 1.0).unwrap();
    assert_eq!((weights(&same.model), same.notes.len()), (weights(&model), 0));
    let of_blocks = |model: &Model| {
        let linears = model.blocks.iter().flat_map(|block| block.linears().map(|(_, linear)| linear.weight.shape()));
        linears.map(|[out, inn]| out * inn).sum::<usize>() as f64
    };
    for keep in [0.9, 0.7, 0.55] {
        let small = run(&model, keep).unwrap();
        assert!(small.model.is_uniform() && small.notes.len() == 2);
        let got = of_blocks(&small.model) / of_blocks(&model);
        // Half a channel of each block.
        assert!((got - keep).abs() <= 0.5 / 80.0, "{keep}: {got}");
    }

    // Every channel twice, its down column halved: half the channels do it all.
    let mut twice = model.clone();
    for block in &mut twice.blocks {
        let ffn = block.ffn.as_mut().unwrap();
        let channels: Vec<usize> = (0..2 * ffn.width()).map(|channel| channel / 2).collect();
        *ffn = ffn.keep_channels(&channels);
        let mut down = ffn.down.to_matrix();
        down.data_mut().iter_mut().for_each(|value| *value /= 2.0);
        ffn.down.weight = Arc::new(Dense(down));
    }
    let keep = of_blocks(&model) / of_blocks(&twice);
    assert_eq!(weights(&run(&twice, keep).unwrap().model), weights(&model));
    assert_eq!(off(&model, &run(&twice, keep).unwrap().model), 0.0);

    for keep in [0.0, -1.0, 1.1, f64::NAN, 0.3] {
        assert!(matches!(run(&model, keep), Err(MethodError::Params { key: "keep", .. })), "{keep}");
    }
    let mut without = model;
    without.blocks.iter_mut().for_each(|block| block.ffn = None);
    assert!(matches!(run(&without, 0.9), Err(MethodError::Unsupported { .. })));
}
