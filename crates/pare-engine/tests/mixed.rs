//! Files of mixed types: within their bytes, the same at any number of threads, and what is read back is what was chosen.

use crate::tiny::{bits, bundle, logits, sequences, work};
use pare_engine::bundle::Bundle;
use pare_engine::export::mixed::{Losses, QuantiseOptions, Types, Way, notes, quantise, range, types_of};
use pare_engine::export::{Export, Target};
use pare_engine::text::Text;
use pare_format::write::NewFile;
use pare_kernels::BlockType;
use pare_kernels::pool::Pool;
use pare_methods::metric::Divergence;
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
fn rows_that_no_block_type_fits_become_f16_with_a_note() {
    let (folder, pool) = (tempfile::tempdir().unwrap(), Pool::new(2));
    // 80 channels: rows of the down projections.
    let source = bundle("llama-tied", folder.path());
    let (dense, range) = (source.model.clone(), range(&source).unwrap());
    let said = notes(&source);
    assert!(said.len() == 1 && said[0].contains("rows of 80") && said[0].contains("blocks of 32"), "{said:?}");
    assert!(notes(&small(tempfile::tempdir().unwrap().path())).is_empty());
    let losses = Losses::measure(&dense, &text(1), &text(3), work(&pool)).unwrap();
    let least = losses.choose(&dense, range, range.least).unwrap();
    let chosen = quantise(source, &least.types, &QuantiseOptions::default(), &text(1), work(&pool)).unwrap();
    let path = folder.path().join("least.gguf");
    let file = NewFile::create(&path, false).unwrap();
    Export::as_stored(&chosen).unwrap().write(file, work(&pool)).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() <= range.least);
    let back = read(&path);
    for block in &back.model.blocks {
        let names: Vec<&str> = block.linears().map(|(_, linear)| linear.weight.name()).collect();
        assert_eq!(names[6], "f16", "{names:?}");
        assert!(names[..6].iter().all(|name| name.starts_with('Q')), "{names:?}");
    }
    let tokens = sequences(1, 30, 90, 9).remove(0);
    assert_eq!(bits(&logits(&back.model, &tokens, &pool)), bits(&logits(&chosen.model, &tokens, &pool)));
    let other = tempfile::tempdir().unwrap();
    let plain = bundle("llama-tied", other.path());
    let types = types_of(&plain, Target::Plain(BlockType::Q4_0)).unwrap();
    assert!(types.blocks.iter().all(|own| own[6] == Way::Half && own[0] == Way::Encoded(BlockType::Q4_0)), "{types:?}");
    let said = Export::plan(&plain, Target::Q4KM).unwrap().notes().join(" ");
    assert!(said.contains("rows of 80"), "{said}");
}

/// Types for `bytes`, and the file with them.
fn mixed(bytes: u64, name: &str, folder: &Path, pool: &Pool) -> (Types, Vec<u8>, Model) {
    let own = folder.join(name);
    std::fs::create_dir(&own).unwrap();
    let bundle = small(&own);
    let range = range(&bundle).unwrap();
    let losses = Losses::measure(&bundle.model, &text(1), &text(3), work(pool)).unwrap();
    let choice = losses.choose(&bundle.model, range, bytes).unwrap();
    let made = quantise(bundle, &choice.types, &QuantiseOptions::default(), &text(1), work(pool)).unwrap();
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
    let different: std::collections::BTreeSet<&str> = types.blocks.iter().flatten().map(|way| way.name()).collect();
    assert!(different.len() > 1, "one type everywhere: {different:?}");
}

#[test]
fn too_few_bytes_have_no_choice() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = small(folder.path());
    let range = range(&bundle).unwrap();
    let losses = Losses::measure(&bundle.model, &text(1), &text(3), work(&Pool::new(1))).unwrap();
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
    let chosen = quantise(dense, &types, &QuantiseOptions::default(), &text(1), work(&pool)).unwrap().model;
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

/// The tiny model in a file of `ty`, read back.
fn in_type(ty: BlockType, folder: &Path, pool: &Pool) -> Bundle {
    let (dense, path) = (small(folder), folder.join("source.gguf"));
    let file = NewFile::create(&path, false).unwrap();
    Export::plan(&dense, Target::Plain(ty)).unwrap().write(file, work(pool)).unwrap();
    read(&path)
}

/// Mean divergence of `other` from `model` on text that nothing was calibrated on.
fn divergence(model: &Model, other: &Model, pool: &Pool) -> f64 {
    let mut divergence = Divergence::default();
    for tokens in text(2).sequences {
        let (a, b) = (logits(model, &tokens, pool), logits(other, &tokens, pool));
        let vocab = model.architecture.vocab;
        a.chunks(vocab).zip(b.chunks(vocab)).for_each(|(a, b)| divergence.add(a, b));
    }
    divergence.mean().unwrap()
}

#[test]
fn a_quantised_source_is_copied_where_it_fits_and_nothing_seems_free() {
    let pool = Pool::new(2);
    for ty in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_1, BlockType::Q8_0] {
        let folder = tempfile::tempdir().unwrap();
        let source = in_type(ty, folder.path(), &pool);
        let (model, range) = (source.model.clone(), range(&source).unwrap());
        let size = std::fs::metadata(folder.path().join("source.gguf")).unwrap().len();
        assert!(range.most.abs_diff(size) < 200, "{}: {} for a file of {size}", ty.name(), range.most);
        let losses = Losses::measure(&model, &text(1), &text(3), work(&pool)).unwrap();
        let all = losses.choose(&model, range, range.most).unwrap();
        assert_eq!((all.types, all.nats), (Types::as_read(&model), 0.0), "{}", ty.name());
        let less: Vec<f64> = (0..=4)
            .map(|step| losses.choose(&model, range, range.least + (range.most - range.least) * step / 4).unwrap().nats)
            .collect();
        assert!(less.windows(2).all(|pair| pair[1] <= pair[0]) && less[4] == 0.0, "{}: {less:?}", ty.name());

        let least = losses.choose(&model, range, range.least).unwrap();
        let as_read = Types::as_read(&model);
        let pairs = least.types.blocks.iter().flatten().zip(as_read.blocks.iter().flatten());
        for (way, own) in pairs.chain([(&least.types.embedding, &as_read.embedding)]) {
            let bits = |way: &Way| way.row_type().bytes_per_block() * 256 / way.row_type().values_per_block();
            assert!(way == own || bits(way) < bits(own), "{} in the place of {}", way.name(), own.name());
        }
        let made = quantise(source, &least.types, &QuantiseOptions::default(), &text(1), work(&pool)).unwrap();
        let path = folder.path().join("least.gguf");
        Export::as_stored(&made).unwrap().write(NewFile::create(&path, false).unwrap(), work(&pool)).unwrap();
        let measured = divergence(&model, &read(&path).model, &pool);
        let ratio = measured / least.nats;
        assert!((0.3..3.0).contains(&ratio), "{}: {} predicted, {measured} measured", ty.name(), least.nats);
    }
}

#[test]
fn everything_as_read_is_the_same_model() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let source = in_type(BlockType::Q4_1, folder.path(), &pool);
    let path = folder.path().join("copy.gguf");
    Export::as_stored(&source).unwrap().write(NewFile::create(&path, false).unwrap(), work(&pool)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), range(&source).unwrap().most);
    let tokens = sequences(1, 30, 90, 9).remove(0);
    assert_eq!(bits(&logits(&read(&path).model, &tokens, &pool)), bits(&logits(&source.model, &tokens, &pool)));
}

#[test]
fn codes_are_not_chosen_again_for_a_matrix_that_is_in_its_type() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let source = in_type(BlockType::Q4_0, folder.path(), &pool);
    let types = types_of(&source, Target::Plain(BlockType::Q4_0)).unwrap();
    assert_eq!(types, Types::as_read(&source.model));
    let other = types_of(&source, Target::Plain(BlockType::Q5_0)).unwrap();
    assert!(other.blocks.iter().flatten().all(|way| *way == Way::Encoded(BlockType::Q5_0)));
    let before = source.model.clone();
    let after = quantise(source, &types, &QuantiseOptions::default(), &text(1), work(&pool)).unwrap().model;
    let tokens = sequences(1, 30, 90, 9).remove(0);
    assert_eq!(bits(&logits(&after, &tokens, &pool)), bits(&logits(&before, &tokens, &pool)));
}
