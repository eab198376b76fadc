//! Files of mixed types: within their bytes, the same at any number of threads, and what is read back is what was chosen.

use crate::tiny::{bits, bundle, logits, sequences, work};
use pare_engine::bundle::Bundle;
use pare_engine::export::mixed::{Losses, Manner, Types, quantise, range, types_of};
use pare_engine::export::{Export, Target};
use pare_engine::text::Text;
use pare_format::write::NewFile;
use pare_kernels::pool::Pool;
use pare_model::model::Model;
use pare_model::plan::{Edit, Plan};
use std::path::Path;

fn text(seed: u64) -> Text {
    Text { sequences: sequences(4, 64, 90, seed), origin: "tokens".to_owned() }
}

fn read(path: &Path) -> Bundle {
    Bundle::open(&path.display().to_string(), work(&Pool::new(1))).unwrap()
}

/// A tiny model whose rows are whole blocks of 32: 64 of its 80 channels.
fn small(folder: &Path) -> Bundle {
    let mut small = bundle("llama-tied", folder);
    let edit = |block| Edit::KeepChannels { block, channels: (0..64).collect() };
    let edits = (0..small.model.blocks.len()).map(edit).collect();
    small.model = small.model.apply(&Plan { edits }).unwrap();
    small.rewritten = true;
    small
}

#[test]
fn rows_that_are_no_whole_blocks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = range(&bundle("llama-tied", folder.path())).unwrap_err().to_string();
    assert!(message.contains("rows of 80") && message.contains("blocks of 32"), "{message}");
}

/// Types for `bytes`, and the file with them.
fn mixed(bytes: u64, name: &str, folder: &Path, pool: &Pool) -> (Types, Vec<u8>, Model) {
    let own = folder.join(name);
    std::fs::create_dir(&own).unwrap();
    let bundle = small(&own);
    let range = range(&bundle).unwrap();
    let losses = Losses::measure(&bundle.model, &text(1), work(pool)).unwrap();
    let choice = losses.choose(&bundle.model, range, bytes).unwrap();
    let made = quantise(bundle, &choice.types, &Manner::default(), &text(1), work(pool)).unwrap();
    let path = own.join("mixed.gguf");
    let written = Export::as_stored(&made).unwrap().write(NewFile::create(&path, false).unwrap(), work(pool)).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(written.bytes, file.len() as u64);
    (choice.types, file, made.model)
}

#[test]
fn a_file_fits_and_comes_back_as_it_was_chosen() {
    let (folder, pool) = (tempfile::tempdir().unwrap(), Pool::new(2));
    let probe = tempfile::tempdir().unwrap();
    let range = range(&small(probe.path())).unwrap();
    assert!(range.least < range.most);
    let between = (range.least + range.most) / 2;
    for (name, bytes) in [("least", range.least), ("between", between), ("most", range.most + 1000)] {
        let (_, file, model) = mixed(bytes, name, folder.path(), &pool);
        assert!(file.len() as u64 <= bytes, "{name}: {} bytes of {bytes}", file.len());
        let back = read(&folder.path().join(name).join("mixed.gguf"));
        let tokens = sequences(1, 30, 90, 9).remove(0);
        assert_eq!(bits(&logits(&back.model, &tokens, &pool)), bits(&logits(&model, &tokens, &pool)), "{name}");
    }
    let (types, _, _) = mixed(between, "again", folder.path(), &pool);
    let different: std::collections::BTreeSet<&str> = types.blocks.iter().flatten().map(|ty| ty.name()).collect();
    assert!(different.len() > 1, "one type everywhere: {different:?}");
}

#[test]
fn too_few_bytes_have_no_choice() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = small(folder.path());
    let range = range(&bundle).unwrap();
    let losses = Losses::measure(&bundle.model, &text(1), work(&Pool::new(1))).unwrap();
    assert!(losses.choose(&bundle.model, range, range.least - 100).is_none());
    assert!(losses.choose(&bundle.model, range, 0).is_none());
}

#[test]
fn the_same_bytes_at_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = range(&small(folder.path())).unwrap().least + 4000;
    let (types, file, _) = mixed(bytes, "one", folder.path(), &Pool::new(1));
    let (others, other, _) = mixed(bytes, "three", folder.path(), &Pool::new(3));
    assert_eq!(types, others);
    assert!(file == other);
}

#[test]
fn chosen_codes_are_nearer_to_the_model_than_rounded_ones() {
    let (folder, pool) = (tempfile::tempdir().unwrap(), Pool::new(2));
    let dense = small(folder.path());
    let model = dense.model.clone();
    let types = types_of(&dense, Target::Plain(pare_kernels::BlockType::Q4_0)).unwrap();
    assert!(types_of(&dense, Target::F16).is_err());
    let plain_path = folder.path().join("plain.gguf");
    Export::plan(&dense, Target::Plain(pare_kernels::BlockType::Q4_0))
        .unwrap()
        .write(NewFile::create(&plain_path, false).unwrap(), work(&pool))
        .unwrap();
    let chosen = quantise(dense, &types, &Manner::default(), &text(1), work(&pool)).unwrap().model;
    let plain = read(&plain_path).model;
    let off = |other: &Model| -> f64 {
        let squares = text(2).sequences.into_iter().flat_map(|tokens| {
            let (a, b) = (logits(&model, &tokens, &pool), logits(other, &tokens, &pool));
            a.into_iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).collect::<Vec<_>>()
        });
        squares.sum()
    };
    let (plain, chosen) = (off(&plain), off(&chosen));
    assert!(chosen < 0.8 * plain, "{chosen} against {plain}");
}
