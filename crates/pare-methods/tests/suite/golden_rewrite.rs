//! Agreement of the rewrites with the references in `goldens/rewrite/`, as close as each card says.

use crate::rewrite::toy::{OnText, logits, off};
use pare_methods::rewrite::slice::{Shapes, parameter_count};
use pare_methods::rewrite::{Rewritten, find};
use pare_methods::settings::Settings;
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::matrix::Matrix;
use pare_model::model::{Architecture, Family, Model};
use pare_model::rope::{Rope, Scaling};
use pare_model::site::Projection;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn golden(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/rewrite").join(name).with_extension("json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

/// Whole numbers divided by 64, as the script of the model draws them.
fn sixty_fourths(value: &Value) -> Vec<f32> {
    floats(value).into_iter().map(|number| number / 64.0).collect()
}

fn matrix(value: &Value) -> Dense {
    let (rows, values) = (value.as_array().unwrap().len(), sixty_fourths(value));
    Dense(Matrix::from_vec(rows, values.len() / rows, values))
}

/// The model of `tiny.py` and its texts.
fn tiny() -> (Model, OnText) {
    let all = golden("tiny");
    let size = |name: &str| all["sizes"][name].as_u64().unwrap() as usize;
    let block = |block: &Value| {
        let linear = |name: &str| Linear::new(Arc::new(matrix(&block[name])));
        let gain = |name: &str| -> Arc<[f32]> { sixty_fourths(&block[name]).into() };
        Block {
            mixer: Some(Mixer::Attention(Attention {
                norm: gain("attention_norm"),
                q: linear("q"),
                k: linear("k"),
                v: linear("v"),
                o: linear("o"),
                q_norm: None,
                k_norm: None,
                shortcut: None,
                heads: size("heads"),
                groups: size("groups"),
            })),
            ffn: Some(Ffn {
                norm: gain("ffn_norm"),
                gate: linear("gate"),
                up: linear("up"),
                down: linear("down"),
                shortcut: None,
            }),
        }
    };
    let model = Model {
        architecture: Architecture {
            family: Family::Llama,
            hidden: size("width"),
            vocab: size("vocab"),
            context: 64,
            head_dim: size("head_dim"),
            norm_eps: all["sizes"]["eps"].as_f64().unwrap() as f32,
            rope: Rope { theta: all["sizes"]["theta"].as_f64().unwrap(), scaling: Scaling::None },
        },
        embedding: Arc::new(matrix(&all["embedding"])),
        blocks: all["blocks"].as_array().unwrap().iter().map(block).collect(),
        final_norm: sixty_fourths(&all["final_norm"]).into(),
        head: None,
    };
    let mut text = OnText::new(&model);
    let tokens = |row: &Value| floats(row).into_iter().map(|token| token as u32).collect();
    text.sequences = all["tokens"].as_array().unwrap().iter().map(tokens).collect();
    agree(&model, &text, &all, 1e-5);
    (model, text)
}

/// The logits of the last position of every text are those of the golden.
#[track_caller]
fn agree(model: &Model, text: &OnText, golden: &Value, exactness: f64) {
    let vocab = model.architecture.vocab;
    for (tokens, want) in text.sequences.iter().zip(golden["logits"].as_array().unwrap()) {
        let found = logits(model, tokens);
        let off = off(&found[found.len() - vocab..], &floats(want));
        assert!(off <= exactness, "off by {off:e}");
    }
}

/// The model rewritten as a golden says, and compared with it.
#[track_caller]
fn rewritten(name: &str, settings: &Settings) -> (Value, Rewritten) {
    let golden = golden(&name.replace('-', "_"));
    let (model, mut text) = tiny();
    let entry = find(name).unwrap();
    let keep = golden.get("keep").map_or(1.0, |keep| keep.as_f64().unwrap());
    let result = (entry.build)(settings, 0).unwrap().rewrite(&model, keep, &mut text).unwrap();
    agree(&result.model, &text, &golden, entry.card.exactness);
    (golden, result)
}

#[test]
fn fold_norm_agrees() {
    let (golden, result) = rewritten("fold-norm", &Settings::default());
    for (block, want) in result.model.blocks.iter().zip(golden["blocks"].as_array().unwrap()) {
        for (projection, name) in [
            (Projection::Q, "q"),
            (Projection::K, "k"),
            (Projection::V, "v"),
            (Projection::Gate, "gate"),
            (Projection::Up, "up"),
        ] {
            let found = block.linear(projection).unwrap().to_matrix();
            assert!(off(found.data(), &floats(&want[name])) < 1e-7, "{name}");
        }
    }
}

#[test]
fn slices_agree() {
    for (name, shortcuts) in [("slice", true), ("slice-global", false)] {
        let settings = Settings { block: Some(4), ..Settings::default() };
        let (golden, result) = rewritten(name, &settings);
        assert_eq!(result.model.architecture.hidden as u64, golden["width"].as_u64().unwrap());
        assert_eq!(result.model.has_shortcuts(), shortcuts, "{name}");
    }
}

#[test]
fn flatten_agrees_in_every_step() {
    let settings = Settings { damping: Some(0.01), ..Settings::default() };
    let (golden, result) = rewritten("flatten", &settings);
    let steps = golden["steps"].as_array().unwrap();
    assert_eq!(result.notes.len(), steps.len());
    for (note, step) in result.notes.iter().zip(steps) {
        let tried = floats(&step["divergences"]);
        let said = format!("(divergence {:.4}; without ", tried[0]);
        assert!(note.contains(&format!("(cosine {:.4})", step["cosine"].as_f64().unwrap())), "{note}");
        assert!(note.contains(&said) && note.contains(&format!("{:.4}, without", tried[1])), "{note} {said}");
    }
    assert!(result.notes[0].starts_with("block 3 and block 4 "), "{}", result.notes[0]);
    assert!(result.notes[1].starts_with("block 2 and blocks 3 to 4 "), "{}", result.notes[1]);
}

#[test]
fn neighbour_average_agrees_in_every_step() {
    let (golden, result) = rewritten("neighbour-average", &Settings::default());
    for (note, step) in result.notes.iter().zip(golden["steps"].as_array().unwrap()) {
        let pair = step["pair"].as_u64().unwrap() as usize;
        let least = f64::from(floats(&step["divergences"])[pair]);
        let want = format!(" blocks {pair} and {} became their mean (divergence {least:.4})", pair + 1);
        assert!(note.ends_with(&want), "{note} for {want}");
    }
}

#[test]
fn parameters_agree_from_shapes_alone() {
    let golden = golden("slice_parameters");
    let opt = Shapes {
        vocab: 50_272,
        positions: 2050,
        blocks: 12,
        width: 768,
        last_width: 768,
        queries: 768,
        keys: 768,
        ffn: 3072,
        gated: false,
        per_norm: 2,
        biases: true,
        shortcuts: false,
        tied: true,
        head_bias: false,
    };
    // SliceGPT's own form: norms without numbers, the head and what the last block writes left whole, the last norm's bias in the head.
    let sliced = Shapes { width: 608, per_norm: 0, shortcuts: true, tied: false, head_bias: true, ..opt };
    let smollm = Shapes {
        vocab: 49_152,
        positions: 0,
        blocks: 30,
        width: 576,
        last_width: 576,
        queries: 576,
        keys: 192,
        ffn: 1536,
        gated: true,
        per_norm: 1,
        biases: false,
        shortcuts: false,
        tied: true,
        head_bias: false,
    };
    let narrow = Shapes { width: 456, last_width: 456, ..smollm };
    for (shapes, name) in [
        (opt, "opt_125m"),
        (sliced, "opt_125m_sliced"),
        (smollm, "smollm2_135m"),
        (Shapes { tied: false, ..narrow }, "smollm2_135m_456_untied"),
        (narrow, "smollm2_135m_456_tied"),
        (Shapes { tied: false, shortcuts: true, ..narrow }, "smollm2_135m_456_shortcuts"),
    ] {
        assert_eq!(parameter_count(&shapes), golden[name].as_u64().unwrap(), "{name}");
    }
    assert_eq!(parameter_count(&sliced), 147_250_880, "what SliceGPT's own test says");
}
