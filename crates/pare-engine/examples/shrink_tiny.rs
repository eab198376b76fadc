//! Removes a fifth of the blocks' weights by a built-in recipe, from code; without a model, from a tiny random one of this checkout.
//! `cargo run --release -p pare-engine --example shrink_tiny -- DIRECTORY`
#![allow(clippy::print_stdout)]

use pare_engine::progress::{Interrupt, Silent, Work};
use pare_engine::recipe::Recipe;
use pare_engine::shrink::{Request, shrink};
use pare_format::directory::ModelDirectory;
use pare_kernels::pool::Pool;
use pare_model::block::Block;
use pare_model::load::from_directory;
use pare_model::rng::SplitMix64;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Another thread may set it: the work then ends with an error.
static INTERRUPT: Interrupt = Interrupt::new();

fn main() -> Result<(), Box<dyn Error>> {
    let tiny = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families/llama-tied");
    let path = std::env::args().nth(1).map_or_else(tiny, PathBuf::from);
    let model = from_directory(&ModelDirectory::open(&path)?)?.model;

    // Random tokens stand for the text that a real model is calibrated on: `pare_engine::bundle` opens a model with its tokenizer.
    let mut rng = SplitMix64::new(0);
    let mut sequence = || (0..32).map(|_| rng.below(model.architecture.vocab) as u32).collect();
    let calibration: Vec<Vec<u32>> = (0..8).map(|_| sequence()).collect();

    let recipe = Recipe::find("slim")?;
    let request = Request {
        recipe: &recipe,
        keep: 0.8,
        calibration: &calibration,
        seed: 0,
        bias_allowed: &|_| false,
        form: None,
        job: None,
    };
    let pool = Pool::new(2);
    let shrunk = shrink(&model, &request, Work { pool: &pool, progress: &Silent, interrupt: &INTERRUPT })?;

    let width = |block: &Block| block.ffn.as_ref().map_or(0, |ffn| ffn.width());
    for (index, (before, after)) in model.blocks.iter().zip(&shrunk.model.blocks).enumerate() {
        println!("block {index}: {} -> {} FFN channels", width(before), width(after));
    }
    for repair in &shrunk.repairs {
        let error = |error: Option<f64>| error.map_or("unknown".to_owned(), |error| format!("{error:.3e}"));
        let (before, after) = (error(repair.info.error_before), error(repair.info.error_after));
        println!("{:?} of block {}: calibration error {before}, repaired {after}", repair.projection, repair.block);
    }
    Ok(())
}
