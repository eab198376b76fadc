//! The fingerprint of a model: any number that changes what it computes changes it, and nothing else does.

use crate::tiny::family;
use pare_engine::fingerprint::{fingerprint, fingerprint_on};
use pare_format::config::Scaling;
use pare_kernels::pool::Pool;
use pare_model::model::Model;
use pare_model::site::Projection;
use pare_model::storage::{Dense, Stored};
use pare_model::weight::{Linear, Weight};
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn models_that_differ_have_other_fingerprints() {
    let names = ["llama-tied", "llama-linear", "llama-yarn", "llama-llama3-biases", "mistral", "qwen2", "qwen3"];
    let mut prints: Vec<String> = names.iter().map(|name| fingerprint(&family(name))).collect();
    let mut shifted = family("llama-tied");
    shifted.blocks.swap(0, 1);
    prints.push(fingerprint(&shifted));
    assert_eq!(fingerprint(&family("llama-tied")), prints[0]);
    let distinct: std::collections::BTreeSet<&String> = prints.iter().collect();
    assert_eq!(distinct.len(), prints.len());
}

fn dense(weight: &Arc<dyn Weight>) -> Arc<dyn Weight> {
    Arc::new(Dense(Linear::new(Arc::clone(weight)).to_matrix()))
}

/// The model with every weight in memory, so that a changed value is all that differs; and with what some families have not.
fn complete(name: &str) -> Model {
    let mut model = family(name);
    model.embedding = dense(&model.embedding);
    if let Some(head) = &mut model.head {
        head.weight = dense(&head.weight);
    }
    let square = Linear::new(dense(&model.blocks[0].linear(Projection::Q).unwrap().weight));
    for block in &mut model.blocks {
        for projection in Projection::ALL {
            let linear = block.linear_mut(projection).unwrap();
            linear.weight = dense(&linear.weight);
        }
        block.attention_mut().unwrap().shortcut = Some(square.clone());
        block.ffn.as_mut().unwrap().shortcut = Some(square.clone());
    }
    model
}

/// The lowest bit of one value.
fn nudge(values: &mut [f32], at: usize) {
    values[at] = f32::from_bits(values[at].to_bits() ^ 1);
}

fn nudge_shared(values: &mut Arc<[f32]>) {
    let mut changed = values.to_vec();
    nudge(&mut changed, values.len() / 3);
    *values = changed.into();
}

fn nudge_weight(weight: &mut Arc<dyn Weight>, at: usize) {
    let mut matrix = Linear::new(Arc::clone(weight)).to_matrix();
    nudge(matrix.data_mut(), at);
    *weight = Arc::new(Dense(matrix));
}

/// The model once for every kind of number in it, that number changed.
fn changed(model: &Model) -> Vec<(String, Model)> {
    let mut all = Vec::new();
    let mut add = |what: String, change: &dyn Fn(&mut Model)| {
        let mut other = model.clone();
        change(&mut other);
        all.push((what, other));
    };
    let size = |weight: &Arc<dyn Weight>| weight.shape()[0] * weight.shape()[1];
    // Values of the first row, of one that is neither first, middle nor last, and the very last.
    let places = |weight: &Arc<dyn Weight>| [0, weight.shape()[1] + 1, size(weight) - 1];
    for at in places(&model.embedding) {
        add(format!("embedding {at}"), &|model| nudge_weight(&mut model.embedding, at));
    }
    for at in model.head.iter().flat_map(|head| places(&head.weight)) {
        add(format!("head {at}"), &|model| nudge_weight(&mut model.head.as_mut().unwrap().weight, at));
    }
    add("final norm".into(), &|model| nudge_shared(&mut model.final_norm));
    for block in 0..model.blocks.len() {
        for projection in Projection::ALL {
            let linear = model.blocks[block].linear(projection).unwrap();
            for at in places(&linear.weight) {
                add(format!("{block} {projection} {at}"), &|model| {
                    nudge_weight(&mut model.blocks[block].linear_mut(projection).unwrap().weight, at);
                });
            }
            if linear.bias.is_some() {
                add(format!("{block} {projection} bias"), &|model| {
                    nudge_shared(model.blocks[block].linear_mut(projection).unwrap().bias.as_mut().unwrap());
                });
            }
        }
        for side in 0..2 {
            add(format!("{block} shortcut {side}"), &|model| {
                nudge_weight(&mut model.blocks[block].shortcuts_mut().nth(side).unwrap().weight, 7);
            });
        }
        add(format!("{block} ffn norm"), &|model| nudge_shared(&mut model.blocks[block].ffn.as_mut().unwrap().norm));
        add(format!("{block} no ffn"), &|model| model.blocks[block].ffn = None);
        add(format!("{block} no attention"), &|model| model.blocks[block].mixer = None);
        let part = model.blocks[block].attention().unwrap();
        add(format!("{block} attention norm"), &|model| {
            nudge_shared(&mut model.blocks[block].attention_mut().unwrap().norm);
        });
        add(format!("{block} groups"), &|model| model.blocks[block].attention_mut().unwrap().groups += 1);
        if part.q_norm.is_some() {
            add(format!("{block} q norm"), &|model| {
                nudge_shared(model.blocks[block].attention_mut().unwrap().q_norm.as_mut().unwrap());
            });
            add(format!("{block} k norm"), &|model| {
                nudge_shared(model.blocks[block].attention_mut().unwrap().k_norm.as_mut().unwrap());
            });
        }
    }
    add("blocks".into(), &|model| model.blocks.swap(0, 1));
    add("eps".into(), &|model| nudge(std::slice::from_mut(&mut model.architecture.norm_eps), 0));
    add("theta".into(), &|model| model.architecture.rope.theta = model.architecture.rope.theta.next_up());
    add("scaling".into(), &|model| match &mut model.architecture.rope.scaling {
        Scaling::None => model.architecture.rope.scaling = Scaling::Linear { factor: 2.0 },
        Scaling::Linear { factor } | Scaling::Llama3 { factor, .. } => *factor = factor.next_up(),
        Scaling::Yarn { beta_slow, .. } => *beta_slow = beta_slow.next_up(),
        Scaling::Divisors(divisors) => nudge_shared(divisors),
    });
    all
}

#[test]
fn any_number_that_changes_the_model_changes_its_fingerprint() {
    for name in ["llama-tied", "llama-linear", "llama-yarn", "llama-llama3-biases", "mistral", "qwen2", "qwen3"] {
        let model = complete(name);
        let mut seen = BTreeMap::from([(fingerprint(&model), "nothing".to_owned())]);
        assert!(seen.contains_key(&fingerprint(&complete(name))), "{name}: the same model again");
        let mut divided = model.clone();
        let divisors = vec![1.5f32; model.architecture.head_dim / 2];
        divided.architecture.rope.scaling = Scaling::Divisors(divisors.into());
        let scaling = changed(&divided).pop().unwrap().1;
        for (what, other) in
            changed(&model).into_iter().chain([("divided".into(), divided), ("divisor".into(), scaling)])
        {
            if let Some(before) = seen.insert(fingerprint(&other), what.clone()) {
                panic!("{name}: {what} changed and {before} changed have one fingerprint");
            }
        }
    }
}

#[test]
fn every_byte_of_a_file_counts_and_threads_do_not() {
    let model = family("qwen3");
    let print = fingerprint(&model);
    let with = |change: usize| {
        let mut other = model.clone();
        let linear = other.blocks[1].linear_mut(Projection::Up).unwrap();
        let stored = linear.weight.as_stored().unwrap();
        let mut bytes: Vec<u8> = (0..stored.shape()[0]).flat_map(|row| stored.row_bytes(row).to_vec()).collect();
        let length = bytes.len();
        if let Some(byte) = bytes.get_mut(change) {
            *byte ^= 1;
        }
        let stored = Stored::new(stored.element(), Weight::shape(stored), bytes.into()).unwrap();
        linear.weight = Arc::new(stored);
        (fingerprint(&other), length)
    };
    let (same, length) = with(usize::MAX);
    assert_eq!(same, print, "the same bytes from elsewhere");
    for change in (0..length).step_by(97) {
        assert_ne!(with(change).0, print, "byte {change} of {length}");
    }
    let model = complete("qwen3");
    let one = fingerprint_on(&model, &Pool::new(1));
    assert!([2, 3, 7].into_iter().all(|threads| fingerprint_on(&model, &Pool::new(threads)) == one));
}
