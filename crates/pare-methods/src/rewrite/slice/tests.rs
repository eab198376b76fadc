use super::*;
use crate::rewrite::slice_global;

#[path = "toy.rs"]
mod toy;

use toy::{Kind, OnText, logits, model, off, sequences};

const KINDS: [Kind; 4] = [
    Kind { blocks: 3, tied: true, biases: false, head_norms: false },
    Kind { blocks: 2, tied: false, biases: true, head_norms: false },
    Kind { blocks: 2, tied: true, biases: false, head_norms: true },
    Kind { blocks: 1, tied: false, biases: true, head_norms: true },
];

/// `model` without the attention of its first block and the feed-forward layer of its last.
fn partless(mut model: Model) -> Model {
    model.blocks[0].mixer = None;
    if let [_, .., last] = model.blocks.as_mut_slice() {
        last.ffn = None;
    }
    model
}

#[test]
fn turned_and_not_sliced_gives_the_same_logits() {
    for (seed, kind) in KINDS.into_iter().enumerate() {
        for model in [model(seed as u64, kind), partless(model(seed as u64, kind))] {
            let text = &mut OnText::new(&model);
            let tokens = &sequences(1, 30, 5)[0];
            let want = logits(&model, tokens);
            for turned in [per_part(&model, 24, text).unwrap(), slice_global::turned(&model, 24, text).unwrap()] {
                assert!(turned.embedding.decode_first() != model.embedding.decode_first(), "it is turned");
                assert!(off(&logits(&turned, tokens), &want) < 2e-5, "{}", off(&logits(&turned, tokens), &want));
                assert!(turned.head.is_some());
            }
        }
    }
}

trait First {
    fn decode_first(&self) -> Vec<f32>;
}

impl First for Arc<dyn pare_model::weight::Weight> {
    fn decode_first(&self) -> Vec<f32> {
        let mut row = vec![0.0; self.shape()[1]];
        self.decode_row(0, &mut row);
        row
    }
}

#[test]
fn sliced_away_is_masked_in_full_width() {
    // What lies off the axes is zeroed in full width, with the norms as they were: the same logits.
    for (seed, kind) in KINDS.into_iter().enumerate() {
        let model = model(10 + seed as u64, kind);
        let tokens = &sequences(1, 30, 6)[0];
        let text = &mut OnText::new(&model);
        let sliced = per_part(&model, 16, text).unwrap();
        let folded = fold_norm::of_all(&model).unwrap();
        let (mut masked, mut writer) = (folded.clone(), None);
        for site in sites(&folded) {
            let gram = moments(&masked, &[site], text).unwrap().remove(0);
            let basis = Basis::principal("test", &gram, 24).unwrap().first(16);
            narrow(&mut masked, writer, &basis).unwrap();
            writer = Some(site);
        }
        assert_eq!(masked.architecture.hidden, 24);
        let apart = off(&logits(&sliced, tokens), &logits(&masked, tokens));
        assert!(apart < 2e-5, "{apart}");
        assert!(off(&logits(&masked, tokens), &logits(&model, tokens)) > 1e-2, "something was lost");
        assert_eq!(sliced.architecture.hidden, 16);
        assert!((sliced.architecture.norm_eps - 1.5e-3).abs() < 1e-9, "1e-3 * 24 / 16");
    }
}

#[test]
fn a_stream_that_lies_along_few_axes_loses_nothing() {
    // All that is written lies in 16 of 24 dimensions: those are found, and slicing to 16 keeps the function.
    let kind = Kind { blocks: 2, tied: true, biases: false, head_norms: false };
    let (mut model, turn) = (model(3, kind), model(4, kind));
    let gram: Vec<f64> = {
        let text = &mut OnText::new(&turn);
        moments(&fold_norm::of_all(&turn).unwrap(), &[Site::new(0, Point::FfnIn)], text).unwrap().remove(0)
    };
    let basis = Basis::principal("test", &gram, 24).unwrap().first(16);
    let mut writer = None;
    for site in sites(&model) {
        narrow(&mut model, writer, &basis).unwrap();
        writer = Some(site);
    }
    model.blocks.iter_mut().for_each(|block| {
        block.attention_mut().unwrap().shortcut = None;
        block.ffn.as_mut().unwrap().shortcut = None;
    });
    let tokens = &sequences(1, 30, 7)[0];
    let text = &mut OnText::new(&model);
    for sliced in [per_part(&model, 16, text).unwrap(), slice_global::turned(&model, 16, text).unwrap()] {
        let apart = off(&logits(&sliced, tokens), &logits(&model, tokens));
        assert!(apart < 1e-4, "{apart}");
    }
}

#[test]
fn widths_by_hand() {
    let model = model(1, KINDS[0]);
    let width = |keep, multiple| kept_width(&model, keep, multiple).map_err(|error| error.to_string());
    assert_eq!(width(0.5, 8), Ok(Some(16)), "12 is half way between 8 and 16");
    assert_eq!((width(0.4, 8), width(0.7, 1), width(0.98, 8)), (Ok(Some(8)), Ok(Some(17)), Ok(None)));
    assert_eq!((width(1.0, 32), width(0.9, 32)), (Ok(None), Ok(None)), "24 is less than 32");
    assert!(width(0.1, 8).unwrap_err().contains("multiple"));
    for keep in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(width(keep, 8).unwrap_err().contains("keep"), "{keep}");
    }
}

#[test]
fn the_counts_of_the_formula_are_those_of_the_models() {
    let kind = Kind { blocks: 2, tied: true, biases: false, head_norms: false };
    let model = model(2, kind);
    let shapes = Shapes {
        vocab: 41,
        positions: 0,
        blocks: 2,
        width: 24,
        last_width: 24,
        queries: 24,
        keys: 12,
        ffn: 20,
        gated: true,
        per_norm: 1,
        biases: false,
        shortcuts: false,
        tied: true,
        head_bias: false,
    };
    assert_eq!(parameter_count(&shapes), model.parameters().total);
    let text = &mut OnText::new(&model);
    let narrow = Shapes { width: 16, last_width: 16, tied: false, ..shapes };
    let global = slice_global::turned(&model, 16, text).unwrap();
    assert_eq!(parameter_count(&narrow), global.parameters().total);
    let per_part = per_part(&model, 16, text).unwrap();
    assert_eq!(parameter_count(&Shapes { shortcuts: true, ..narrow }), per_part.parameters().total);
}
