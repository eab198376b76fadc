//! Plans as data: written and read, empty ones, and those that do not fit.

use crate::tiny::{all, bits, family, logits, tokens, uneven};
use pare_kernels::pool::Pool;
use pare_model::plan::{Edit, Mask, Plan, PlanError};
use pare_model::site::Projection;

fn one(edit: Edit) -> Plan {
    Plan { edits: vec![edit] }
}

fn full(rows: usize, cols: usize) -> Mask {
    let mut mask = Mask::none(rows, cols);
    (0..rows * cols).for_each(|index| mask.keep(index));
    mask
}

#[test]
fn a_plan_that_keeps_everything_changes_no_bit() {
    let pool = Pool::new(2);
    for (name, model) in all() {
        let mut plan = Plan::default();
        for (block, parts) in model.blocks.iter().enumerate() {
            for (projection, linear) in parts.linears() {
                plan.edits.push(Edit::Mask { block, projection, mask: full(linear.outputs(), linear.inputs()) });
            }
            plan.edits
                .extend(parts.attention().map(|part| Edit::KeepGroups { block, groups: (0..part.groups).collect() }));
            plan.edits.extend(
                parts.ffn.iter().map(|part| Edit::KeepChannels { block, channels: (0..part.width()).collect() }),
            );
        }
        let tokens = tokens(&model, 16, 3);
        let kept = model.apply(&plan).unwrap();
        assert_eq!(kept.parameters(), model.parameters(), "{name}");
        let whole = bits(&logits(&model, &tokens, &pool));
        assert_eq!(bits(&logits(&kept, &tokens, &pool)), whole, "{name}");
        assert_eq!(bits(&logits(&model.apply(&Plan::default()).unwrap(), &tokens, &pool)), whole, "{name}, no edit");
    }
}

#[test]
fn a_plan_is_read_back_from_json() {
    let mut mask = Mask::none(3, 50);
    [0, 63, 64, 149].into_iter().for_each(|index| mask.keep(index));
    let plan = Plan {
        edits: vec![
            Edit::Mask { block: 0, projection: Projection::Down, mask },
            Edit::KeepChannels { block: 1, channels: vec![0, 7] },
            Edit::KeepGroups { block: 2, groups: vec![1] },
            Edit::DropAttention { block: 3 },
            Edit::DropFfn { block: 4 },
            Edit::DropBlock { block: 5 },
        ],
    };
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    assert!(text.contains(r#"{"edit":"keep-channels","block":1,"channels":[0,7]}"#), "{text}");
    assert_eq!(plan.edits.iter().map(Edit::block).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn later_blocks_keep_their_numbers_while_a_plan_is_carried_out() {
    let (pool, model) = (Pool::new(1), uneven());
    let both =
        Plan { edits: vec![Edit::DropBlock { block: 0 }, Edit::KeepChannels { block: 3, channels: vec![2, 5] }] };
    let cut = model.apply(&both).unwrap();
    assert_eq!(cut.blocks.len(), 3);
    assert_eq!(cut.blocks[2].ffn.as_ref().unwrap().width(), 2);
    let turned = Plan { edits: both.edits.iter().rev().cloned().collect() };
    let tokens = tokens(&model, 8, 1);
    assert_eq!(bits(&logits(&model.apply(&turned).unwrap(), &tokens, &pool)), bits(&logits(&cut, &tokens, &pool)));
}

#[test]
fn a_mask_and_a_removal_in_one_block_fit_in_either_order() {
    let (pool, model) = (Pool::new(1), family("llama-tied"));
    let mut mask = Mask::none(64, 80);
    (0..64 * 80).step_by(3).for_each(|index| mask.keep(index));
    let edits = vec![
        Edit::Mask { block: 0, projection: Projection::Down, mask },
        Edit::KeepChannels { block: 0, channels: (10..70).collect() },
    ];
    let turned = Plan { edits: edits.iter().rev().cloned().collect() };
    let tokens = tokens(&model, 8, 2);
    let cut = model.apply(&Plan { edits }).unwrap();
    assert_eq!(bits(&logits(&model.apply(&turned).unwrap(), &tokens, &pool)), bits(&logits(&cut, &tokens, &pool)));
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_what_is_there() {
    let model = uneven();
    let units = |block, units, count| PlanError::Units { block, units, count };
    let no_part = |block, part| PlanError::NoPart { block, part };
    let mask_shape = PlanError::MaskShape { block: 0, projection: Projection::Gate, got: [24, 20], want: [20, 24] };
    let channels = |block, channels: &[usize]| one(Edit::KeepChannels { block, channels: channels.to_vec() });
    let groups = |block, groups: &[usize]| one(Edit::KeepGroups { block, groups: groups.to_vec() });
    let mask = |block, projection| one(Edit::Mask { block, projection, mask: full(24, 20) });
    let cases = [
        (channels(4, &[0]), PlanError::NoBlock { block: 4, blocks: 4 }),
        (one(Edit::DropBlock { block: usize::MAX }), PlanError::NoBlock { block: usize::MAX, blocks: 4 }),
        (channels(0, &[]), units(0, "channels", 20)),
        (channels(0, &[3, 2]), units(0, "channels", 20)),
        (channels(0, &[2, 2]), units(0, "channels", 20)),
        (channels(0, &[1, 20]), units(0, "channels", 20)),
        (channels(2, &[37]), units(2, "channels", 37)),
        (groups(0, &[]), units(0, "groups", 3)),
        (groups(0, &[1, 0]), units(0, "groups", 3)),
        (groups(0, &[3]), units(0, "groups", 3)),
        (mask(0, Projection::Gate), mask_shape),
        (mask(1, Projection::Gate), no_part(1, "projection")),
        (channels(1, &[0]), no_part(1, "ffn")),
        (groups(2, &[0]), no_part(2, "attention")),
        (one(Edit::DropFfn { block: 1 }), no_part(1, "ffn")),
        (one(Edit::DropAttention { block: 2 }), no_part(2, "attention")),
        (Plan { edits: vec![Edit::DropFfn { block: 0 }, Edit::DropFfn { block: 0 }] }, no_part(0, "ffn")),
        (
            Plan { edits: vec![Edit::DropAttention { block: 0 }, Edit::KeepGroups { block: 0, groups: vec![0] }] },
            no_part(0, "attention"),
        ),
    ];
    for (plan, want) in cases {
        assert_eq!(model.apply(&plan).unwrap_err(), want, "{plan:?}");
    }
    assert_eq!(
        model.apply(&channels(0, &[3, 2])).unwrap_err().to_string(),
        "block 0: kept channels must be ascending, at least one, below 20"
    );
    let gone = model.apply(&one(Edit::DropFfn { block: 0 })).unwrap();
    assert_eq!(gone.apply(&channels(0, &[0])).unwrap_err(), no_part(0, "ffn"), "dropped by an earlier plan");
}
