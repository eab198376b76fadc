//! What cannot be is refused at once: for the sizes of every block, and nothing else is refused for sizes later.

use crate::tiny::{family, five_blocks, model_for, sequences, work};
use pare_engine::Error;
use pare_engine::recipe::{BUILT_IN, Recipe};
use pare_engine::shrink::{Request, check, shrink};
use pare_kernels::pool::Pool;
use pare_methods::error::MethodError;
use pare_model::model::Model;

fn recipe(keep: f64, stages: &str) -> Recipe {
    let head = format!("name = \"test\"\nabout = \"test\"\nsource = \"own\"\nkeep = {keep}\n");
    Recipe::parse("test.toml", &(head + stages)).unwrap()
}

/// Five blocks of 64 channels, the last one with `last`.
fn with_last(last: usize) -> Model {
    let mut model = model_for("gptq");
    let ffn = five_blocks().blocks[4].ffn.as_ref().unwrap().keep_channels(&(0..last).collect::<Vec<_>>());
    model.blocks[4].ffn = Some(ffn);
    model
}

#[test]
fn one_block_that_does_not_fit_is_enough_and_is_named() {
    let rows: &[(usize, &str, &[&str])] = &[
        (70, "wanda-2of4", &["block 4 down", "rows of 70", "groups of 4", "pattern 2:4"]),
        (70, "sparsegpt-2of4", &["block 4 down", "rows of 70", "pattern 2:4"]),
        (68, "wanda-4of8", &["block 4 down", "rows of 68", "groups of 8", "pattern 4:8"]),
        (68, "sparsegpt-4of8", &["block 4 down", "rows of 68", "pattern 4:8"]),
        (70, "eora", &["block 4 down", "rows of 70", "pattern 2:4"]),
        (24, "eora", &["block 4 gate", "rank: 32 of a [24, 64] matrix", "1..=24"]),
        (48, "armor", &["block 4 gate", "[48, 64]", "blocks of 32"]),
        (72, "gptq", &["block 4 down", "rows of 72 in Q4_0"]),
        (72, "gptq-eora", &["block 4 down", "rows of 72 in Q4_0"]),
    ];
    for (last, name, parts) in rows {
        let recipe = Recipe::find(name).unwrap();
        check(&with_last(64), &recipe, recipe.keep, None).unwrap();
        let error = check(&with_last(*last), &recipe, recipe.keep, None).unwrap_err();
        let said = error.to_string();
        assert!(error.is_bad_input() && parts.iter().all(|part| said.contains(part)), "{name} {last}: {said}");
    }
}

#[test]
fn what_a_cut_leaves_is_what_an_encoding_must_fit() {
    let encode = "[[encode]]\nmethod = \"gptq\"";
    let cut =
        |multiple: usize| format!("[[cut]]\ngrain = \"channel\"\nscore = \"wanda\"\nmultiple = {multiple}\n{encode}");
    // 72 channels are no whole blocks of 32, the 64 that are left of them are.
    let model = five_blocks();
    assert!(check(&model, &recipe(1.0, encode), 1.0, None).unwrap_err().to_string().contains("rows of 72 in Q4_0"));
    check(&model, &recipe(0.93, &cut(32)), 0.93, None).unwrap();
    let said = check(&model, &recipe(0.93, &cut(8)), 0.8, None).unwrap_err().to_string();
    assert!(said.contains("block 0 down: gptq does not work on rows of 48 in Q4_0"), "{said}");
    // Where scores decide how much stays, nobody knows yet.
    let free = cut(32).replace("multiple", "allocate = \"global\"\nmultiple");
    check(&model, &recipe(0.8, &free), 0.8, None).unwrap();
}

#[test]
fn what_is_let_through_is_not_refused_for_sizes_later() {
    let pool = Pool::new(2);
    let models = [five_blocks(), with_last(64), with_last(70), family("llama-tied"), family("qwen3")];
    let (mut refused, mut done) = (0, 0);
    for (name, _) in BUILT_IN {
        let recipe = Recipe::find(name).unwrap();
        for (index, model) in models.iter().enumerate() {
            let calibration = sequences(6, 24, model.architecture.vocab, 5);
            for keep in [recipe.keep, 0.97, 0.3, 0.1, 0.02] {
                if let Err(error) = check(model, &recipe, keep, None) {
                    assert!(error.is_bad_input(), "{name} {keep} {index}: {error}");
                    refused += 1;
                    continue;
                }
                let calibration = &calibration;
                let request = Request {
                    recipe: &recipe,
                    keep,
                    calibration,
                    seed: 3,
                    bias_allowed: &|_| true,
                    form: None,
                    job: None,
                };
                let late = shrink(model, &request, work(&pool)).err();
                let of_sizes = |error: &Error| {
                    let method = matches!(
                        error,
                        Error::Method(
                            MethodError::Params { .. } | MethodError::Shape { .. } | MethodError::Unsupported { .. }
                        )
                    );
                    method || matches!(error, Error::Keep { .. } | Error::Refused(_))
                };
                assert!(!late.as_ref().is_some_and(of_sizes), "{name} {keep} {index}: {late:?}");
                done += 1;
            }
        }
    }
    assert!(refused > 200 && done > 200, "{refused} refused, {done} done");
}
