//! What a plan cuts away counts as zeros, bit for bit, and the numbers that remain are counted right.

use crate::tiny::{all, bits, family, logits, same_numbers, tokens};
use pare_kernels::pool::Pool;
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::plan::{Edit, Mask, Plan, spread};
use pare_model::site::Projection;
use pare_model::storage::Dense;
use std::sync::Arc;

fn change(block: &mut Block, projection: Projection, change: impl FnOnce(&mut Matrix)) {
    let linear = block.linear_mut(projection).unwrap();
    let mut matrix = linear.to_matrix();
    change(&mut matrix);
    linear.weight = Arc::new(Dense(matrix));
}

fn zero_rows(block: &mut Block, projection: Projection, rows: &[usize]) {
    change(block, projection, |matrix| rows.iter().for_each(|&row| matrix.row_mut(row).fill(0.0)));
}

fn zero_columns(block: &mut Block, projection: Projection, columns: &[usize]) {
    change(block, projection, |matrix| {
        for row in 0..matrix.rows() {
            columns.iter().for_each(|&column| matrix.row_mut(row)[column] = 0.0);
        }
    });
}

/// The part gives nothing but zeros.
fn silence(block: &mut Block, projection: Projection) {
    change(block, projection, |matrix| matrix.data_mut().fill(0.0));
    block.linear_mut(projection).unwrap().bias = None;
}

fn one(edit: Edit) -> Plan {
    Plan { edits: vec![edit] }
}

/// Two of three, and the others.
fn part(count: usize) -> (Vec<usize>, Vec<usize>) {
    (0..count).partition(|unit| unit % 3 != 1)
}

/// Compares the logits of `model` after `plan` with those of `zeroed`.
#[track_caller]
fn agree(model: &Model, plan: &Plan, zeroed: &Model, pool: &Pool, what: &str) {
    let tokens = tokens(model, 18, 4);
    let cut = logits(&model.apply(plan).unwrap(), &tokens, pool);
    same_numbers(&cut, &logits(zeroed, &tokens, pool), what);
    assert_ne!(bits(&cut), bits(&logits(model, &tokens, pool)), "{what}: the cut changes something");
}

#[test]
fn removed_channels_count_as_zeros() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        for block in 0..model.blocks.len() {
            let Some(ffn) = &model.blocks[block].ffn else { continue };
            let (channels, gone) = part(ffn.width());
            let mut zeroed = model.clone();
            zero_rows(&mut zeroed.blocks[block], Projection::Gate, &gone);
            zero_rows(&mut zeroed.blocks[block], Projection::Up, &gone);
            zero_columns(&mut zeroed.blocks[block], Projection::Down, &gone);
            agree(
                &model,
                &one(Edit::KeepChannels { block, channels }),
                &zeroed,
                &pool,
                &format!("{name} block {block}"),
            );
        }
    }
}

#[test]
fn removed_groups_count_as_zeros() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        for block in 0..model.blocks.len() {
            let Some(attention) = model.blocks[block].attention().filter(|part| part.groups > 1) else { continue };
            let (groups, gone) = part(attention.groups);
            let mut zeroed = model.clone();
            zero_columns(&mut zeroed.blocks[block], Projection::O, &spread(&gone, attention.group_width()));
            let cut = model.apply(&one(Edit::KeepGroups { block, groups: groups.clone() })).unwrap();
            let left = cut.blocks[block].attention().unwrap();
            assert_eq!(left.groups, groups.len(), "{name}");
            assert_eq!(left.heads, attention.heads / attention.groups * groups.len(), "{name}");
            agree(&model, &one(Edit::KeepGroups { block, groups }), &zeroed, &pool, &format!("{name} block {block}"));
        }
    }
}

#[test]
fn dropped_parts_and_blocks_count_as_silent_ones() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        for block in 0..model.blocks.len() {
            let at = format!("{name} block {block}");
            let mut without = model.clone();
            if model.blocks[block].mixer.is_some() {
                silence(&mut without.blocks[block], Projection::O);
                agree(&model, &one(Edit::DropAttention { block }), &without, &pool, &format!("{at} attention"));
            }
            let attention_silent = without.clone();
            if model.blocks[block].ffn.is_some() {
                silence(&mut without.blocks[block], Projection::Down);
                let mut silent = model.clone();
                silence(&mut silent.blocks[block], Projection::Down);
                agree(&model, &one(Edit::DropFfn { block }), &silent, &pool, &format!("{at} ffn"));
            }
            agree(&model, &one(Edit::DropBlock { block }), &without, &pool, &format!("{at} whole"));
            if model.blocks[block].mixer.is_some() && model.blocks[block].ffn.is_some() {
                let cut = model.apply(&one(Edit::DropAttention { block })).unwrap();
                assert_eq!(cut.blocks.len(), model.blocks.len(), "{at}: a block with one part stays");
                assert!(cut.blocks[block].mixer.is_none() && attention_silent.blocks[block].mixer.is_some());
            }
            assert_eq!(model.apply(&one(Edit::DropBlock { block })).unwrap().blocks.len(), model.blocks.len() - 1);
        }
    }
}

#[test]
fn a_mask_zeroes_what_it_does_not_keep_and_nothing_else() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        for (block, projection) in [(0, Projection::Q), (0, Projection::Down), (model.blocks.len() - 1, Projection::Up)]
        {
            let matrix = model.blocks[block].linear(projection).unwrap().to_matrix();
            let mut mask = Mask::none(matrix.rows(), matrix.cols());
            (0..matrix.data().len()).filter(|index| index % 5 != 2).for_each(|index| mask.keep(index));
            assert_eq!(mask.count(), (0..matrix.data().len()).filter(|index| index % 5 != 2).count() as u64);
            let plan = one(Edit::Mask { block, projection, mask });
            let mut zeroed = model.clone();
            change(&mut zeroed.blocks[block], projection, |matrix| {
                matrix.data_mut().iter_mut().skip(2).step_by(5).for_each(|value| *value = 0.0);
            });
            let got = model.apply(&plan).unwrap().blocks[block].linear(projection).unwrap().to_matrix();
            assert_eq!(bits(got.data()), bits(zeroed.blocks[block].linear(projection).unwrap().to_matrix().data()));
            agree(&model, &plan, &zeroed, &pool, &format!("{name} block {block} {projection}"));
        }
    }
}

#[test]
fn what_a_plan_does_not_touch_is_shared() {
    let model = family("llama-tied");
    let cut = model.apply(&one(Edit::KeepChannels { block: 0, channels: vec![1, 2] })).unwrap();
    let same = |block: usize, projection| {
        let weight = |model: &Model| model.blocks[block].linear(projection).unwrap().weight.clone();
        Arc::ptr_eq(&weight(&model), &weight(&cut))
    };
    assert!(Arc::ptr_eq(&model.embedding, &cut.embedding) && same(0, Projection::Q) && same(1, Projection::Down));
    assert!(!same(0, Projection::Gate) && !same(0, Projection::Down));
}

#[test]
fn parameters_are_counted_by_the_formula() {
    // C 64, F 80, V 128, two blocks; q and o 64 x 64, k and v 32 x 64, D 16; the head tied in one and separate in the other.
    let (attention, channel) = (64 * 64 * 2 + 32 * 64 * 2 + 64, 3 * 64);
    let ffn = 80 * channel + 64;
    let (tied, biased) = (family("llama-tied"), family("llama-llama3-biases"));
    let whole = tied.parameters();
    assert_eq!((whole.embedding, whole.blocks), (128 * 64, 2 * (attention + ffn)));
    assert_eq!(whole.total, 128 * 64 + 2 * (attention + ffn) + 64);
    let biases = 64 + 32 + 32 + 64 + 80 + 80 + 64;
    assert_eq!(biased.parameters().total, 2 * 128 * 64 + 2 * (attention + ffn + biases) + 64);
    // Two norms per head width, in each block.
    let qwen3 = family("qwen3");
    let wide = 2 * 96 * 64 + 2 * 48 * 64 + 64 + 2 * 24;
    assert_eq!(qwen3.parameters().total, 2 * 128 * 64 + 2 * (wide + ffn) + 64);

    let total = |model: &Model, edit: Edit| model.apply(&one(edit)).unwrap().parameters().total;
    let channels = (0..30).collect::<Vec<_>>();
    assert_eq!(whole.total - total(&tied, Edit::KeepChannels { block: 1, channels: channels.clone() }), 50 * channel);
    // A channel of a biased model takes the biases of its gate and up rows along; down keeps its own.
    let left = total(&biased, Edit::KeepChannels { block: 1, channels });
    assert_eq!(biased.parameters().total - left, 50 * (channel + 2));
    // A group: 2 of 4 query heads (32 rows of q, 32 columns of o), 16 rows of k and of v.
    let group = 32 * 64 * 2 + 16 * 64 * 2;
    assert_eq!(whole.total - total(&tied, Edit::KeepGroups { block: 0, groups: vec![1] }), group);
    let left = total(&biased, Edit::KeepGroups { block: 0, groups: vec![1] });
    assert_eq!(biased.parameters().total - left, group + 32 + 16 + 16);
    assert_eq!(whole.total - total(&tied, Edit::DropAttention { block: 0 }), attention);
    assert_eq!(whole.total - total(&tied, Edit::DropFfn { block: 0 }), ffn);
    assert_eq!(whole.total - total(&tied, Edit::DropBlock { block: 0 }), attention + ffn);
    assert!(!tied.apply(&one(Edit::DropFfn { block: 0 })).unwrap().is_uniform() && tied.is_uniform());
}
