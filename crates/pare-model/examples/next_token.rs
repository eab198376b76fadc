//! The five most likely tokens after a prompt of token ids; without a model, of a tiny random one of this checkout.
//! `cargo run --release -p pare-model --example next_token -- MODEL.gguf-OR-DIRECTORY 1 2 3`
#![allow(clippy::print_stdout)]

use pare_format::directory::ModelDirectory;
use pare_format::gguf::GgufModel;
use pare_kernels::pool::Pool;
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::load::{from_directory, from_gguf};
use pare_model::model::PackAs;
use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let tiny = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families/llama-tied");
    let path = arguments.next().map_or_else(tiny, PathBuf::from);
    let mut tokens = arguments.map(|id| id.parse()).collect::<Result<Vec<u32>, _>>()?;
    if tokens.is_empty() {
        tokens = vec![1, 2, 3];
    }
    // Weights stay in the memory map until they are packed for the kernels.
    let model = match path.is_dir() {
        true => from_directory(&ModelDirectory::open(&path)?)?.model,
        false => from_gguf(&GgufModel::open(&path)?)?.model,
    };
    let vocab = model.architecture.vocab;
    if tokens.iter().any(|&id| id as usize >= vocab) {
        return Err(format!("the ids of {} are below {vocab}", path.display()).into());
    }
    let pool = Pool::new(2);
    let model = model.packed(PackAs::Exact, &pool);

    // One sequence in one pass; the cache holds its keys and values for the tokens that would follow.
    let mut runner = Runner::new(&model, &pool);
    let mut caches = [KvCache::new(&model, tokens.len())];
    runner.hidden(&tokens, &[Segment { sequence: 0, start: 0, len: tokens.len() }], &mut caches, None);
    let logits = runner.logits(&[tokens.len() - 1]);
    let mut order: Vec<usize> = (0..vocab).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    for id in order.into_iter().take(5) {
        println!("token {id:>6}  logit {:.4}", logits[id]);
    }
    Ok(())
}
