//! Properties of every rewrite.

use pare_methods::card::Grain;
use pare_methods::error::MethodError;
use pare_methods::rewrite::{Calibration, ENTRIES, Entry, Rewrite, find};
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::site::{Projection, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::storage::Dense;
use std::collections::BTreeSet;
use std::sync::Arc;

#[path = "../../src/rewrite/slice/toy.rs"]
pub(crate) mod toy;

use toy::{Kind, OnText, logits, model, off, sequences};

const KINDS: [Kind; 2] = [
    Kind { blocks: 4, tied: true, biases: false, head_norms: false },
    Kind { blocks: 3, tied: false, biases: true, head_norms: false },
];

/// The parameter of the small models: a multiple that leaves their width of 24 something.
fn build(entry: &Entry) -> Box<dyn Rewrite> {
    let block = entry.card.parameters.contains(&"block").then_some(8);
    (entry.build)(&Settings { block, ..Settings::default() }, 7).unwrap()
}

fn removers() -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(|entry| entry.removes)
}

/// Shares that the method can keep of the small models: FFN channels alone cannot give the half of one.
fn keeps(entry: &Entry) -> [f64; 3] {
    if entry.card.grains == [Grain::Channel] { [0.6, 0.67, 0.8] } else { [0.34, 0.5, 0.75] }
}

fn bits(model: &Model, tokens: &[u32]) -> Vec<u32> {
    logits(model, tokens).into_iter().map(f32::to_bits).collect()
}

#[test]
fn keeping_all_keeps_the_function() {
    let tokens = &sequences(1, 30, 3)[0];
    for (seed, kind) in KINDS.into_iter().enumerate() {
        let model = model(seed as u64, kind);
        for entry in ENTRIES {
            let after = build(entry).rewrite(&model, 1.0, &mut OnText::new(&model)).unwrap().model;
            let off = off(&logits(&after, tokens), &logits(&model, tokens));
            assert!(off < 1e-5, "{entry:?}: off by {off:e}");
            if entry.removes {
                assert_eq!(
                    bits(&after, tokens),
                    bits(&model, tokens),
                    "{entry:?}: nothing to remove, nothing to change"
                );
                assert_eq!(after.parameters(), model.parameters(), "{entry:?}");
            }
        }
    }
}

#[test]
fn the_same_input_gives_the_same_model_and_it_says_what_it_did() {
    let tokens = &sequences(1, 30, 3)[0];
    for kind in KINDS {
        let model = model(4, kind);
        for entry in removers() {
            let [first, second] =
                [(); 2].map(|()| build(entry).rewrite(&model, 0.67, &mut OnText::new(&model)).unwrap());
            assert_eq!(bits(&first.model, tokens), bits(&second.model, tokens), "{entry:?}");
            assert_eq!(first.notes, second.notes, "{entry:?}");
            assert!(!first.notes.is_empty() && first.notes.iter().all(|note| !note.contains('\n')), "{entry:?}");
        }
    }
}

/// Numbers of the projections, without biases and norms.
fn projections(model: &Model) -> f64 {
    let linears = model.blocks.iter().flat_map(|block| block.linears());
    linears.map(|(_, linear)| (linear.outputs() * linear.inputs()) as f64).sum()
}

#[test]
fn what_is_removed_is_the_share_that_was_asked_for() {
    for (seed, kind) in KINDS.into_iter().enumerate() {
        let model = model(20 + seed as u64, kind);
        for entry in removers() {
            for keep in keeps(entry) {
                let after = build(entry).rewrite(&model, keep, &mut OnText::new(&model)).unwrap().model;
                let share = projections(&after) / projections(&model);
                // Half a block of three, or 4 of 24 channels.
                assert!((share - keep).abs() <= 0.5 / 3.0 + 1e-9, "{entry:?} {keep}: {share}");
                assert!(after.parameters().blocks < model.parameters().blocks + 2 * 24 * 24 * 4, "{entry:?}");
                assert_eq!(after.is_uniform() && !after.has_shortcuts(), entry.uniform, "{entry:?}");
                assert!(logits(&after, &[1, 2, 3]).iter().all(|logit| logit.is_finite()), "{entry:?}");
            }
        }
    }
}

#[test]
fn more_kept_diverges_less() {
    // On average: single models may disagree by chance.
    for entry in removers() {
        let mut sums = [0.0; 2];
        for seed in 0..4 {
            let model = model(40 + seed, KINDS[0]);
            let [least, _, most] = keeps(entry);
            for (sum, keep) in sums.iter_mut().zip([most, least]) {
                let after = build(entry).rewrite(&model, keep, &mut OnText::new(&model)).unwrap().model;
                *sum += OnText::new(&model).divergence(&after).unwrap();
            }
        }
        assert!(0.0 < sums[0] && sums[0] < sums[1], "{entry:?}: {sums:?}");
    }
}

#[test]
fn one_turn_for_all_is_smaller_than_one_each() {
    let model = model(5, KINDS[1]);
    let [each, all] = ["slice", "slice-global"]
        .map(|name| build(find(name).unwrap()).rewrite(&model, 0.67, &mut OnText::new(&model)).unwrap().model);
    assert_eq!(each.architecture.hidden, all.architecture.hidden);
    // Three blocks of two shortcuts [16, 16].
    assert_eq!(each.parameters().total - all.parameters().total, 3 * 2 * 16 * 16);
}

/// Divergences as they are told, one after the other.
struct Told<'a> {
    text: OnText,
    told: std::slice::Iter<'a, f64>,
}

impl Calibration for Told<'_> {
    fn observe(&mut self, model: &Model, needs: &BTreeSet<(Site, Stat)>) -> Result<Stats, MethodError> {
        self.text.observe(model, needs)
    }

    fn divergence(&mut self, _: &Model) -> Result<f64, MethodError> {
        self.told.next().copied().ok_or(MethodError::Stopped { why: "enough".into() })
    }
}

#[test]
fn a_merge_that_diverges_more_is_undone_and_the_block_that_hurts_least_dropped() {
    let model = model(6, KINDS[0]);
    let flatten = build(find("flatten").unwrap());
    let tell = |told: &[f64]| {
        let told = &mut Told { text: OnText::new(&model), told: told.iter() };
        flatten.rewrite(&model, 0.75, told)
    };
    let tokens = &sequences(1, 30, 3)[0];
    // merged, without the first, without the second of the pair
    let dropped = [[2.0, 1.0, 1.5], [f64::NAN, 3.0, 2.0]].map(|told| tell(&told).unwrap());
    for (result, second) in dropped.iter().zip([0, 1]) {
        assert!(result.notes[0].contains("was dropped: merging diverges more"), "{:?}", result.notes);
        // "block 2 and block 3 (cosine ...): block 3 was dropped ..."
        let pair: usize = result.notes[0].split_whitespace().nth(1).unwrap().parse().unwrap();
        let mut without = model.clone();
        without.blocks.remove(pair + second);
        assert_eq!(bits(&result.model, tokens), bits(&without, tokens));
    }
    let merged = tell(&[1.0, 1.0, 1.0]).unwrap();
    assert!(merged.notes[0].contains("merged") && !merged.notes[0].contains("dropped"), "{:?}", merged.notes);
    assert_eq!(tell(&[1.0]).unwrap_err().to_string(), "stopped: enough");
}

#[test]
fn what_calibration_stops_is_stopped() {
    struct Stopping;
    impl Calibration for Stopping {
        fn observe(&mut self, _: &Model, _: &BTreeSet<(Site, Stat)>) -> Result<Stats, MethodError> {
            Err(MethodError::Stopped { why: "enough".into() })
        }
        fn divergence(&mut self, _: &Model) -> Result<f64, MethodError> {
            Err(MethodError::Stopped { why: "enough".into() })
        }
    }
    let model = model(7, KINDS[0]);
    // What works without data asks nobody.
    for entry in removers().filter(|entry| entry.card.name != "merge-features") {
        let error = build(entry).rewrite(&model, 0.5, &mut Stopping).unwrap_err();
        assert_eq!(error.to_string(), "stopped: enough", "{entry:?}");
    }
}

#[test]
fn broken_input_is_refused() {
    let refused = |entry: &Entry, model: &Model, keep: f64| {
        build(entry).rewrite(model, keep, &mut OnText::new(model)).unwrap_err().to_string()
    };
    let whole = model(8, KINDS[0]);
    for entry in ENTRIES {
        for keep in [0.0, -0.5, 1.5, f64::NAN, 0.05] {
            let message = refused(entry, &whole, keep);
            assert!(message.starts_with("parameter keep: "), "{entry:?} {keep}: {message}");
        }
        let unread = Settings { act_order: Some(true), ..Settings::default() };
        let message = (entry.build)(&unread, 0).err().unwrap().to_string();
        assert!(message.starts_with("parameter act-order: "), "{entry:?}: {message}");
        let mut broken = whole.clone();
        // Both neighbours of every pair, so that the choice of a place does not matter.
        for block in &mut broken.blocks {
            let linear = block.linear_mut(Projection::Up).unwrap();
            let mut matrix = linear.to_matrix();
            matrix.row_mut(1)[2] = f32::INFINITY;
            linear.weight = Arc::new(Dense(matrix));
        }
        let keep = if entry.removes { 0.67 } else { 1.0 };
        let told = &mut Told { text: OnText::new(&whole), told: [].iter() };
        let message = build(entry).rewrite(&broken, keep, told).unwrap_err().to_string();
        // What looks at activations first meets it there.
        let named = ["ffn input: weight: value 26 is inf", "block 0 whole: cosine: value 0 is NaN"];
        assert!(named.iter().any(|named| message.contains(named)), "{entry:?}: {message}");
    }
    // Channels have no part in shortcuts.
    for entry in removers().filter(|entry| entry.card.grains != [Grain::Channel]) {
        let sliced = build(find("slice").unwrap()).rewrite(&whole, 0.67, &mut OnText::new(&whole)).unwrap().model;
        let message = refused(entry, &sliced, 0.67);
        assert!(message.contains("a model with shortcuts"), "{entry:?}: {message}");
    }
    let mut uneven = whole.clone();
    uneven.blocks[1].mixer = None;
    for name in ["flatten", "neighbour-average"] {
        let message = refused(find(name).unwrap(), &uneven, 0.67);
        assert!(message.contains("blocks that differ"), "{message}");
    }
    let normed = model(9, Kind { head_norms: true, ..KINDS[0] });
    assert!(refused(find("flatten").unwrap(), &normed, 0.67).contains("norms of heads"));
    assert!(refused(find("fold-norm").unwrap(), &whole, 0.9).contains("expected 1"));
    for (name, settings, want) in [
        ("slice", Settings { block: Some(0), ..Settings::default() }, "parameter block: 0, expected at least 1"),
        ("flatten", Settings { levels: Some(0), ..Settings::default() }, "parameter levels: 0, expected at least 1"),
        (
            "flatten",
            Settings { damping: Some(-1.0), ..Settings::default() },
            "parameter damping: -1, expected a number more than 0",
        ),
        (
            "flatten",
            Settings { factor: Some(f64::NAN), ..Settings::default() },
            "parameter factor: NaN, expected a number more than 0",
        ),
    ] {
        assert_eq!((find(name).unwrap().build)(&settings, 0).err().unwrap().to_string(), want);
    }
}

#[test]
fn an_embedding_that_is_no_number_is_refused_where_it_is_turned() {
    let mut broken = model(8, KINDS[0]);
    broken.embedding = Arc::new(Dense(Matrix::from_vec(41, 24, vec![f32::NAN; 41 * 24])));
    for name in ["slice", "slice-global"] {
        let message =
            build(find(name).unwrap()).rewrite(&broken, 0.67, &mut OnText::new(&broken)).unwrap_err().to_string();
        assert!(message.starts_with("head: weight: value 0 is NaN"), "{message}");
    }
}
