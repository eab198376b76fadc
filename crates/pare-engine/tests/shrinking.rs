//! Shrinking: keep = 1 changes nothing, quotas are met, repairs repair, threads do not matter, and what cannot be done is refused.

use crate::tiny::{family, five_blocks, logits, model_for, sequences, weights, work};
use pare_engine::Error;
use pare_engine::candidates::Candidates;
use pare_engine::observe::{Needs, observe};
use pare_engine::recipe::{BUILT_IN, Recipe};
use pare_engine::shrink::{Request, Shrunk, shrink};
use pare_engine::split::Split;
use pare_kernels::pool::Pool;
use pare_methods::allocate;
use pare_methods::card::Grain;
use pare_methods::error::MethodError;
use pare_methods::score;
use pare_methods::select::Compare;
use pare_model::forward::{KvCache, Observer, Runner, Segment};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::plan::{Edit, Mask};
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::Stat;
use pare_model::storage::Dense;
use std::sync::Arc;

fn recipe(cuts: &str) -> Recipe {
    let head = "name = \"test\"\nabout = \"test\"\nsource = \"own\"\nkeep = 0.5\n";
    Recipe::parse("test.toml", &format!("{head}{cuts}")).unwrap()
}

fn calibration(model: &Model) -> Vec<Vec<u32>> {
    sequences(6, 40, model.architecture.vocab, 5)
}

fn run(model: &Model, recipe: &Recipe, keep: f64, bias: bool, threads: usize) -> Result<Shrunk, Error> {
    let pool = Pool::new(threads);
    let calibration = calibration(model);
    let request =
        Request { recipe, keep, calibration: &calibration, seed: 3, bias_allowed: &|_| bias, form: None, job: None };
    shrink(model, &request, work(&pool))
}

fn is_pattern(recipe: &Recipe) -> bool {
    recipe.patterns().any(|compare| matches!(compare, Compare::TwoOfFour | Compare::FourOfEight))
}

fn masks(shrunk: &Shrunk) -> impl Iterator<Item = (usize, Projection, &Mask)> {
    shrunk.plan.edits.iter().map(|edit| match edit {
        Edit::Mask { block, projection, mask } => (*block, *projection, mask),
        other => panic!("{other:?}"),
    })
}

#[test]
fn keeping_everything_changes_no_bit() {
    let model = five_blocks();
    let before = weights(&model);
    for (name, _) in BUILT_IN {
        let recipe = Recipe::find(name).unwrap();
        // A pattern leaves half: another keep is refused, see below.
        // So is a number format, which changes every number.
        if is_pattern(&recipe) || !recipe.removes() || recipe.encode.len() > 1 {
            continue;
        }
        let shrunk = run(&model, &recipe, 1.0, true, 2).unwrap();
        assert!(shrunk.plan.edits.is_empty() && shrunk.repairs.is_empty(), "{name}: {:?}", shrunk.plan);
        assert_eq!(shrunk.model.blocks.len(), 5, "{name}");
        assert!(weights(&shrunk.model) == before, "{name} changed a bit");
    }
}

#[test]
fn every_recipe_at_its_own_keep_has_the_shape_it_promises_and_finite_logits() {
    let pool = Pool::new(2);
    let tokens = sequences(1, 30, 128, 9).remove(0);
    for (name, _) in BUILT_IN {
        let model = model_for(name);
        let recipe = Recipe::find(name).unwrap();
        let shrunk = run(&model, &recipe, recipe.keep, true, 2).unwrap();
        let widths: Vec<usize> =
            shrunk.model.blocks.iter().map(|block| block.ffn.as_ref().map_or(0, |ffn| ffn.width())).collect();
        let attentions = shrunk.model.blocks.iter().filter(|block| block.mixer.is_some()).count();
        // Of a block's 26112 weights 13824 are of channels: a fifth is 27.2 of 72 channels, and 44.8 are nearest to 32.
        let want: Option<(&[usize], usize)> = match *name {
            "slim" | "wanda-sp" => Some((&[32; 5], 5)),
            "shortgpt" | "sleb" => Some((&[72; 4], 4)),
            // A twentieth of all is half of one attention part.
            "llm-drop" | "delta-drop" => Some((&[72; 5], 4)),
            _ if recipe.cut.iter().all(|cut| cut.grain == Grain::Weight)
                && recipe.rewrite.is_empty()
                && recipe.encode.is_empty() =>
            {
                Some((&[72; 5], 5))
            }
            _ => None,
        };
        if let Some(want) = want {
            assert_eq!((widths.as_slice(), attentions), want, "{name}");
        }
        if *name == "slim-free" {
            assert!(widths.iter().all(|width| [32, 64, 72].contains(width)), "{widths:?}");
            assert!(widths.iter().sum::<usize>().abs_diff(224) <= 16, "{widths:?}: 5 times 44.8 channels");
        }
        // Four fifths of a width of 64 are nearest to 64, in steps of 32.
        let whole = *name == "slice-global" || !recipe.removes();
        if !whole && recipe.cut.iter().all(|cut| cut.grain != Grain::Weight) && recipe.encode.is_empty() {
            let (before, after) = (model.parameters().blocks, shrunk.model.parameters().blocks);
            assert!(after < before, "{name} removed nothing: {after} of {before}");
        }
        assert!(logits(&shrunk.model, &tokens, &pool).iter().all(|logit| logit.is_finite()), "{name}");
    }
}

#[test]
fn masks_keep_exactly_what_was_asked() {
    let model = five_blocks();
    for (name, keep) in
        [("wanda", 0.5), ("wanda", 0.3), ("random", 0.5), ("magnitude", 0.7), ("wanda-2of4", 0.5), ("wanda-8rows", 0.3)]
    {
        let shrunk = run(&model, &Recipe::find(name).unwrap(), keep, false, 2).unwrap();
        assert_eq!(masks(&shrunk).count(), 5 * 7, "{name}: every projection of every block");
        for (block, projection, mask) in masks(&shrunk) {
            let [rows, cols] = mask.shape();
            let at = format!("{name} block {block} {projection}");
            match name {
                "magnitude" => assert_eq!(mask.count(), (keep * (rows * cols) as f64).round() as u64, "{at}"),
                _ => {
                    let each = (keep * cols as f64).round() as usize;
                    for row in 0..rows {
                        let kept = (0..cols).filter(|col| mask.kept(row * cols + col)).count();
                        assert_eq!(kept, each, "{at} row {row}");
                    }
                }
            }
            if name == "wanda-2of4" {
                let fours = (0..rows * cols).collect::<Vec<_>>();
                assert!(
                    fours.chunks(4).all(|four| four.iter().filter(|&&index| mask.kept(index)).count() == 2),
                    "{at}"
                );
            }
            if name == "wanda-8rows" {
                let kept = |row: usize| (0..cols).map(move |col| row * cols + col).map(|index| mask.kept(index));
                assert!((0..rows).all(|row| kept(row).eq(kept(row / 8 * 8))), "{at}");
            }
            let matrix = shrunk.model.blocks[block].linear(projection).unwrap().to_matrix();
            let original = model.blocks[block].linear(projection).unwrap().to_matrix();
            for (index, (got, was)) in matrix.data().iter().zip(original.data()).enumerate() {
                assert_eq!(*got, if mask.kept(index) { *was } else { 0.0 }, "{at} weight {index}");
            }
        }
    }
}

#[test]
fn channels_and_groups_keep_exactly_their_share() {
    let model = five_blocks();
    // 0.2 of 26112 weights a block: half from 72 channels of 192, half from 2 groups of 6144. 72 - 13.6 and 2 - 0.425.
    let both = recipe(
        "[[cut]]\ngrain = \"channel\"\nscore = \"wanda\"\nshare = 0.5\n[[cut]]\ngrain = \"group\"\nscore = \"magnitude\"\nshare = 0.5\n",
    );
    let shrunk = run(&model, &both, 0.8, false, 2).unwrap();
    for block in &shrunk.model.blocks {
        assert_eq!((block.ffn.as_ref().unwrap().width(), block.attention().unwrap().groups), (58, 2));
    }
    let shrunk = run(&model, &both, 0.6, false, 2).unwrap();
    for block in &shrunk.model.blocks {
        let attention = block.attention().unwrap();
        assert_eq!((block.ffn.as_ref().unwrap().width(), attention.groups, attention.heads), (45, 1, 2));
    }
}

#[test]
fn global_quotas_add_up_to_the_share_of_all_channels() {
    let model = five_blocks();
    for (multiple, within) in [(1, 0), (8, 4), (32, 16)] {
        let cut = format!(
            "[[cut]]\ngrain = \"channel\"\nscore = \"magnitude\"\nallocate = \"global\"\nmultiple = {multiple}\n"
        );
        for keep in [0.95, 0.9, 0.8] {
            let shrunk = run(&model, &recipe(&cut), keep, false, 2).unwrap();
            let widths: Vec<usize> =
                shrunk.model.blocks.iter().map(|block| block.ffn.as_ref().unwrap().width()).collect();
            let share = 1.0 - (1.0 - keep) * 26_112.0 / 13_824.0;
            let want = (share * 360.0).round() as usize;
            assert!(
                widths.iter().all(|width| width.is_multiple_of(multiple) || *width == 72),
                "{multiple} {keep}: {widths:?}"
            );
            // A full block of 72 channels is no multiple of 32: its 8 odd channels may be missing or left over.
            let odd = if multiple == 32 { 8 * 5 } else { 0 };
            assert!(
                widths.iter().sum::<usize>().abs_diff(want) <= within + odd,
                "{multiple} {keep}: {widths:?}, {want}"
            );
        }
    }
}

#[test]
fn a_sequential_recipe_scores_each_block_behind_the_cut_ones() {
    let (model, pool) = (five_blocks(), Pool::new(2));
    let sequential = Recipe::find("wanda").unwrap();
    let at_once = Recipe { sequential: false, ..sequential.clone() };
    let (one, other) =
        (run(&model, &sequential, 0.5, false, 2).unwrap(), run(&model, &at_once, 0.5, false, 2).unwrap());
    let of_block = |shrunk: &Shrunk, wanted| {
        masks(shrunk).filter(|(block, ..)| *block == wanted).map(|(_, at, mask)| (at, mask.clone())).collect::<Vec<_>>()
    };
    assert_eq!(of_block(&one, 0), of_block(&other, 0), "nothing is cut before the first block");
    assert_ne!(of_block(&one, 4), of_block(&other, 4));
    // The last block again, by hand: observed behind the four cut blocks.
    let mut prefix = one.model.clone();
    prefix.blocks[4] = model.blocks[4].clone();
    let needs: Needs = Projection::ALL.iter().map(|at| (Site::new(4, at.input()), Stat::MeanSquare)).collect();
    let stats = observe(&prefix, &calibration(&model), &needs, work(&pool)).unwrap();
    let cut = &sequential.cut[0];
    let score = (score::find(&cut.score).unwrap().build)(3);
    for group in Candidates::of_block(cut.grain, 4, &model.blocks[4]) {
        let scores = group.score(score.as_ref(), &model.blocks[4], &stats).unwrap();
        let edit = group.edit(cut, &scores, group.units / 2, &model.blocks[4]).unwrap().unwrap();
        assert!(one.plan.edits.contains(&edit), "{:?}", group.projection);
    }
}

/// Inputs of one projection of the first block, over all calibration tokens.
struct Inputs(Point, Vec<f32>);

impl Observer for Inputs {
    fn input(&mut self, block: usize, point: Point, x: &[f32], _: usize) {
        if block == 0 && point == self.0 {
            self.1.extend_from_slice(x);
        }
    }

    fn part(&mut self, _: usize, _: Point, _: &[f32], _: &[f32], _: usize) {}
}

/// Mean square per output of what the first block's reader of `point` gives too much or too little, in f64.
fn error(model: &Model, shrunk: &Model, (point, projection): (Point, Projection), kept: &[usize]) -> f64 {
    let pool = Pool::new(2);
    let mut inputs = Inputs(point, Vec::new());
    for text in calibration(model) {
        let mut caches = [KvCache::new(model, text.len())];
        let segment = [Segment { sequence: 0, start: 0, len: text.len() }];
        Runner::new(model, &pool).hidden(&text, &segment, &mut caches, Some(&mut inputs));
    }
    let reader = model.blocks[0].linear(projection).unwrap().to_matrix();
    let repaired = shrunk.blocks[0].linear(projection).unwrap();
    let (weight, bias) = (repaired.to_matrix(), repaired.bias.clone());
    let dot = |w: &[f32], x: &mut dyn Iterator<Item = f32>| {
        w.iter().zip(x).map(|(&w, x)| f64::from(w) * f64::from(x)).sum::<f64>()
    };
    let mut sum = 0.0;
    for x in inputs.1.chunks_exact(reader.cols()) {
        for out in 0..reader.rows() {
            let want = dot(reader.row(out), &mut x.iter().copied());
            let got = dot(weight.row(out), &mut kept.iter().map(|&col| x[col]));
            sum += (want - got - bias.as_ref().map_or(0.0, |bias| f64::from(bias[out]))).powi(2);
        }
    }
    sum / (inputs.1.len() / reader.cols()) as f64 / reader.rows() as f64
}

#[test]
fn repairs_lower_the_calibration_error_least_squares_more_than_a_bias() {
    let model = five_blocks();
    for (grain, keep, at) in
        [("channel", 0.8, (Point::FfnOut, Projection::Down)), ("group", 0.8, (Point::AttentionOut, Projection::O))]
    {
        let cut = |repair: &str| recipe(&format!("[[cut]]\ngrain = \"{grain}\"\nscore = \"wanda\"\n{repair}"));
        let plain = run(&model, &cut(""), keep, true, 2).unwrap();
        let kept: Vec<usize> = match &plain.plan.edits[0] {
            Edit::KeepChannels { block: 0, channels } => channels.clone(),
            Edit::KeepGroups { block: 0, groups } => pare_model::plan::spread(groups, 32),
            other => panic!("{other:?}"),
        };
        let before = error(&model, &plain.model, at, &kept);
        let with = |name: &str, bias| {
            let shrunk = run(&model, &cut(&format!("compensate = \"{name}\"\n")), keep, bias, 2).unwrap();
            assert_eq!(
                shrunk.plan.edits[0], plain.plan.edits[0],
                "{grain} {name}: the first block loses the same units"
            );
            assert_eq!(shrunk.repairs.len(), shrunk.plan.edits.len());
            assert_eq!(shrunk.model.blocks[0].linear(at.1).unwrap().bias.is_some(), bias, "{grain} {name}");
            for repair in &shrunk.repairs {
                if let (Some(before), Some(after)) = (repair.info.error_before, repair.info.error_after) {
                    assert!(after <= before, "{grain} {name} block {}: {before} became {after}", repair.block);
                }
            }
            let after = error(&model, &shrunk.model, at, &kept);
            if name == "least-squares" {
                let close = |said: Option<f64>, found: f64| (said.unwrap() / found - 1.0).abs() < 1e-3;
                let info = shrunk.repairs[0].info;
                assert!(
                    close(info.error_before, before) && close(info.error_after, after),
                    "{info:?} {before} {after}"
                );
            }
            after
        };
        let (bias, solved, without) = (with("bias", true), with("least-squares", true), with("least-squares", false));
        assert!(solved < bias && bias < before, "{grain}: {solved} with both, {bias} with a bias, {before} without");
        assert!(without < before, "{grain}: {without} without a bias, {before} without a repair");
    }
}

#[test]
fn one_and_three_threads_give_the_same_weights() {
    for (name, _) in BUILT_IN {
        let model = model_for(name);
        let recipe = Recipe::find(name).unwrap();
        let (one, three) =
            (run(&model, &recipe, recipe.keep, true, 1).unwrap(), run(&model, &recipe, recipe.keep, true, 3).unwrap());
        assert_eq!(one.plan, three.plan, "{name}");
        assert_eq!(one.repairs, three.repairs, "{name}");
        assert!(weights(&one.model) == weights(&three.model), "{name}: other bits with other threads");
    }
}

#[test]
fn another_seed_draws_another_mask() {
    let model = family("llama-tied");
    let (pool, recipe) = (Pool::new(1), Recipe::find("random").unwrap());
    let plan = |seed| {
        let request = Request {
            recipe: &recipe,
            keep: 0.5,
            calibration: &[],
            seed,
            bias_allowed: &|_| false,
            form: None,
            job: None,
        };
        shrink(&model, &request, work(&pool)).unwrap().plan
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
}

#[test]
fn a_keep_that_cannot_be_reached_is_refused_by_its_option() {
    let model = five_blocks();
    let cases = [
        ("wanda", 0.0),
        ("wanda", -0.5),
        ("wanda", 1.5),
        ("wanda", f64::NAN),
        ("wanda", f64::INFINITY),
        // Channels hold 0.53 of the weights: the first is more than they hold, the second leaves less than 32 of them.
        ("wanda-sp", 0.4),
        ("wanda-sp", 0.55),
        ("slim-free", 0.55),
        // The last block stays, and so does the last attention part.
        ("shortgpt", 0.05),
        ("llm-drop", 0.5),
        // A pattern leaves half, whatever is asked.
        ("wanda-2of4", 0.8),
        ("wanda-2of4", 1.0),
        ("wanda-2of4", 0.4),
    ];
    for (name, keep) in cases {
        let error = run(&model, &Recipe::find(name).unwrap(), keep, false, 1).err();
        let said = error.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(said.contains(&format!("--keep {keep}")), "{name} {keep}: {said:?}");
        assert!(error.unwrap().is_bad_input(), "{name} {keep}");
    }
}

#[test]
fn a_weight_that_is_not_a_number_is_named_with_its_place() {
    let spoil = |block: usize, projection, value: f32| {
        let mut model = five_blocks();
        let linear = model.blocks[block].linear_mut(projection).unwrap();
        let mut matrix: Matrix = linear.to_matrix();
        matrix.row_mut(3)[5] = value;
        linear.weight = Arc::new(Dense(matrix));
        model
    };
    for value in [f32::NAN, f32::INFINITY] {
        let model = spoil(2, Projection::Gate, value);
        for name in ["wanda", "wanda-sp", "slim", "magnitude", "wanda-2of4", "slim-free"] {
            let recipe = Recipe::find(name).unwrap();
            let error = run(&model, &recipe, recipe.keep, true, 1).unwrap_err();
            let known = matches!(error, Error::NotFinite { .. } | Error::Method(MethodError::Numeric { .. }));
            assert!(known && error.to_string().starts_with("block 2 ffn "), "{name} {value}: {error}");
        }
    }
    let model = spoil(1, Projection::V, f32::NAN);
    for name in ["shortgpt", "llm-drop", "wanda-sp"] {
        let recipe = Recipe::find(name).unwrap();
        let error = run(&model, &recipe, recipe.keep, true, 1).unwrap_err();
        assert!(
            matches!(error, Error::NotFinite { .. }) && error.to_string().starts_with("block 1 "),
            "{name}: {error}"
        );
    }
}

/// Numbers of the blocks' matrices that are not zero.
fn numbers(model: &Model) -> usize {
    let matrices = model.blocks.iter().flat_map(|block| block.linears()).map(|(_, linear)| linear.to_matrix());
    matrices.map(|matrix| matrix.data().iter().filter(|value| **value != 0.0).count()).sum()
}

#[test]
fn what_removes_nothing_says_so() {
    let (pool, text) = (Pool::new(2), sequences(8, 24, 128, 1));
    let mut said = Vec::new();
    for (name, keep) in BUILT_IN.iter().flat_map(|(name, _)| [(*name, 0.9999), (*name, 0.5)]) {
        let (recipe, model) = (Recipe::find(name).unwrap(), model_for(name));
        if !recipe.removes() || !recipe.encode.is_empty() {
            continue;
        }
        let bias_allowed = &|_| true;
        let request =
            Request { recipe: &recipe, keep, calibration: &text, seed: 3, bias_allowed, form: None, job: None };
        let shrunk = match shrink(&model, &request, work(&pool)) {
            Ok(shrunk) => shrunk,
            // Patterns and shares that one keep alone has.
            Err(error) => {
                assert!(error.is_bad_input(), "{name}: {error}");
                continue;
            }
        };
        // A repair of low rank beside a mask leaves no zeros to count.
        let mut linears = shrunk.model.blocks.iter().flat_map(|block| block.linears());
        if linears.any(|(_, linear)| linear.weight.composed().is_some()) {
            assert!(shrunk.nothing_left.is_none() || keep > 0.99, "{name}");
            continue;
        }
        let whole = numbers(&shrunk.model) >= numbers(&model);
        assert_eq!(shrunk.nothing_left.is_some(), whole, "{name} at {keep}");
        if let Some(why) = shrunk.nothing_left {
            assert!(why.contains(name) && shrunk.notes.contains(&why), "{why}");
            said.push((name, keep));
        }
    }
    assert!(said.contains(&("slice-global", 0.9999)) && said.contains(&("slim", 0.9999)), "{said:?}");
}

/// Shrinks on `fit` and `select`, six and two windows of one length: the share that is held out for choices.
fn shrunk_on(model: &Model, recipe: &Recipe, fit: u64, select: u64) -> Shrunk {
    let pool = Pool::new(2);
    let text = [sequences(6, 24, 128, fit), sequences(2, 24, 128, select)].concat();
    let split = Split::of(&text).unwrap();
    assert_eq!((split.fit.len(), split.select.len()), (6, 2));
    let request = Request {
        recipe,
        keep: recipe.keep,
        calibration: &text,
        seed: 3,
        bias_allowed: &|_| true,
        form: None,
        job: None,
    };
    shrink(model, &request, work(&pool)).unwrap()
}

#[test]
fn what_choices_are_measured_on_is_not_what_scores_and_repairs_see() {
    let mut checked = Vec::new();
    for (name, _) in BUILT_IN {
        let recipe = Recipe::find(name).unwrap();
        if !recipe.cut.iter().any(|cut| allocate::find(&cut.allocate).unwrap().measures) {
            continue;
        }
        checked.push(*name);
        if recipe.cut.iter().all(|cut| cut.compensate.is_none()) {
            // Choices alone: what is measured on decides.
            let model = five_blocks();
            let [one, other] = [100, 200].map(|fit| shrunk_on(&model, &recipe, fit, 1));
            assert!(one.plan == other.plan && weights(&one.model) == weights(&other.model), "{name}");
            continue;
        }
        // With one block nearly every choice is the same: then every number is, and another text for scores and repairs changes some.
        let mut model = five_blocks();
        model.blocks.truncate(1);
        let base = shrunk_on(&model, &recipe, 100, 1);
        let same = (2..8).map(|select| shrunk_on(&model, &recipe, 100, select)).find(|other| other.plan == base.plan);
        let same = same.unwrap_or_else(|| panic!("{name}: no two texts choose the same"));
        assert!(same.repairs == base.repairs && weights(&same.model) == weights(&base.model), "{name}");
        assert!(shrunk_on(&model, &recipe, 200, 1).repairs != base.repairs, "{name}");
    }
    assert_eq!(checked, ["layer-adaptive", "sleb", "slim-measured", "tyr"]);
}
