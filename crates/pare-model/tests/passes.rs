//! The bits of a row depend on its own sequence alone: not on threads, chunks, neighbours or the layout of the weights.

use crate::tiny::{all, bits, logits, tokens, uneven};
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use pare_model::forward::{KvCache, Runner, Segment, logits_of};
use pare_model::model::{Model, PackAs};

/// Logits of every position when `tokens` come in runs of `step`.
fn in_steps(model: &Model, tokens: &[u32], step: usize, pool: &Pool) -> Vec<f32> {
    let mut runner = Runner::new(model, pool);
    let mut caches = [KvCache::new(model, tokens.len())];
    let mut all = Vec::new();
    for (index, run) in tokens.chunks(step).enumerate() {
        runner.hidden(run, &[Segment { sequence: 0, start: index * step, len: run.len() }], &mut caches, None);
        all.extend_from_slice(runner.logits(&(0..run.len()).collect::<Vec<_>>()));
    }
    all
}

#[test]
fn a_text_gives_the_same_bits_at_once_in_threes_and_token_by_token() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        let tokens = tokens(&model, 20, 1);
        let whole = logits(&model, &tokens, &pool);
        assert!(whole.iter().all(|logit| logit.is_finite()), "{name}");
        for step in [1, 3, 7] {
            assert_eq!(bits(&in_steps(&model, &tokens, step, &pool)), bits(&whole), "{name} in steps of {step}");
        }
    }
}

#[test]
fn one_two_and_three_threads_give_the_same_bits() {
    for (name, model) in all() {
        let tokens = tokens(&model, 33, 2);
        let one = logits(&model, &tokens, &Pool::new(1));
        for threads in [2, 3] {
            assert_eq!(bits(&logits(&model, &tokens, &Pool::new(threads))), bits(&one), "{name}, {threads} threads");
        }
    }
}

#[test]
fn sequences_side_by_side_give_the_bits_of_each_alone() {
    // Tokens that each sequence has behind it, and those that it brings now.
    const RUNS: [(usize, usize); 4] = [(0, 5), (3, 4), (7, 1), (1, 9)];
    let pool = Pool::new(2);
    for (name, model) in all() {
        let texts: Vec<Vec<u32>> =
            RUNS.iter().zip(3..).map(|((before, now), seed)| tokens(&model, before + now, seed)).collect();
        let mut runner = Runner::new(&model, &pool);
        let mut caches: Vec<KvCache> = texts.iter().map(|text| KvCache::new(&model, text.len())).collect();
        for (sequence, (&(before, _), text)) in
            RUNS.iter().zip(&texts).enumerate().filter(|(_, ((before, _), _))| *before > 0)
        {
            runner.hidden(&text[..before], &[Segment { sequence, start: 0, len: before }], &mut caches, None);
        }
        // Backwards, so that no sequence stands at its own place in the batch.
        let order = [3, 2, 1, 0];
        let batch: Vec<u32> = order.iter().flat_map(|&at| texts[at][RUNS[at].0..].iter().copied()).collect();
        let segments = order.map(|sequence| Segment { sequence, start: RUNS[sequence].0, len: RUNS[sequence].1 });
        runner.hidden(&batch, &segments, &mut caches, None);
        let together = runner.logits(&(0..batch.len()).collect::<Vec<_>>()).to_vec();
        let vocab = model.architecture.vocab;
        let alone: Vec<f32> =
            order.iter().flat_map(|&at| logits(&model, &texts[at], &pool).split_off(RUNS[at].0 * vocab)).collect();
        assert_eq!(bits(&together), bits(&alone), "{name}");
    }
}

#[test]
fn a_cache_that_was_cut_short_goes_on_as_a_fresh_one() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        let (first, mut second) = (tokens(&model, 12, 5), tokens(&model, 12, 6));
        second[..5].copy_from_slice(&first[..5]);
        let mut runner = Runner::new(&model, &pool);
        let mut caches = [KvCache::new(&model, 12)];
        runner.hidden(&first, &[Segment { sequence: 0, start: 0, len: 12 }], &mut caches, None);
        caches[0].truncate(5);
        runner.hidden(&second[5..], &[Segment { sequence: 0, start: 5, len: 7 }], &mut caches, None);
        let resumed = runner.logits(&[6]).to_vec();
        assert_eq!(bits(&resumed), bits(&logits(&model, &second, &pool)[11 * model.architecture.vocab..]), "{name}");
        caches[0].clear();
        runner.hidden(&first, &[Segment { sequence: 0, start: 0, len: 12 }], &mut caches, None);
        let again = runner.logits(&[11]).to_vec();
        assert_eq!(bits(&again), bits(&logits(&model, &first, &pool)[11 * model.architecture.vocab..]), "{name}");
    }
}

#[test]
fn packing_exactly_changes_no_bit() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        let tokens = tokens(&model, 19, 7);
        let stored = bits(&logits(&model, &tokens, &pool));
        let packed = model.packed(PackAs::Exact, &pool);
        assert_eq!(bits(&logits(&packed, &tokens, &pool)), stored, "{name}");
        assert_eq!(bits(&in_steps(&packed, &tokens, 1, &pool)), stored, "{name} token by token");
        assert_eq!(packed.parameters(), model.parameters(), "{name}");
    }
}

#[test]
fn packing_in_half_precision_is_close_and_packs_again_without_loss() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        let tokens = tokens(&model, 19, 8);
        let stored = logits(&model, &tokens, &pool);
        let largest = stored.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
        // Each weight moves by at most 2^-11 (f16) or 2^-8 (bf16) of itself; a few dozen of them meet in a logit.
        for (ty, share) in [(PanelType::F16, 0.005), (PanelType::Bf16, 0.05)] {
            let half = model.packed(PackAs::Type(ty), &pool);
            let got = logits(&half, &tokens, &pool);
            let worst = got.iter().zip(&stored).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst > 0.0 && worst <= share * largest, "{name} {ty:?}: {worst} of {largest}");
            assert_eq!(half.bytes_per_token() * 2, model.packed(PackAs::Type(PanelType::F32), &pool).bytes_per_token());
            let again = half.packed(PackAs::Exact, &pool);
            assert_eq!(again.bytes_per_token(), half.bytes_per_token(), "{name} {ty:?}: the exact type is the same");
            assert_eq!(bits(&logits(&again, &tokens, &pool)), bits(&got), "{name} {ty:?}");
        }
    }
}

#[test]
fn both_ways_from_the_residual_stream_to_logits_agree() {
    let (pool, model) = (Pool::new(2), uneven());
    let tokens = tokens(&model, 9, 9);
    let mut runner = Runner::new(&model, &pool);
    let mut caches = [KvCache::new(&model, 9)];
    let x = runner.hidden(&tokens, &[Segment { sequence: 0, start: 0, len: 9 }], &mut caches, None).to_vec();
    assert_eq!(bits(&logits_of(&model, &x, &pool)), bits(&logits(&model, &tokens, &pool)));
}
