//! Rewritten models: written, read back and exported they compute the same.

use crate::tiny::{bits, bundle, logits, sequences, work};
use crate::written::{expected, read_by_numpy};
use pare_engine::bundle::Bundle;
use pare_engine::export::{Export, Target};
use pare_engine::rewriting::rewrite;
use pare_engine::write::{WriteAs, write_directory};
use pare_format::config::Family;
use pare_format::safetensors::Dtype;
use pare_format::write::{NewFile, OutputDir};
use pare_kernels::BlockType;
use pare_kernels::pool::Pool;
use pare_methods::rewrite::{ENTRIES, Entry};
use pare_methods::settings::Settings;
use pare_model::model::Model;
use std::path::Path;

/// Rewritten to half, or to a whole of other numbers.
fn rewritten(before: &Model, entry: &Entry, pool: &Pool) -> Model {
    // Channels alone cannot give half of a tiny model.
    let keep = if entry.card.name == "merge-features" {
        0.6
    } else if entry.removes {
        0.5
    } else {
        1.0
    };
    let texts = sequences(6, 40, 128, 4);
    rewrite(before, entry.card.name, &Settings::default(), keep, &texts, 0, work(pool)).unwrap().model
}

fn write(before: &Bundle, model: &Model, write_as: WriteAs, to: &Path, pool: &Pool) -> Bundle {
    let output = OutputDir::create(to, false).unwrap();
    write_directory(&output, before, model, write_as, work(pool)).unwrap();
    output.commit().unwrap();
    Bundle::open(&to.display().to_string(), work(pool)).unwrap()
}

#[test]
fn every_rewrite_is_read_back_to_the_bit_and_by_numpy() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    for family in ["llama-tied", "llama-llama3-biases", "qwen2", "qwen3", "mistral"] {
        let before = bundle(family, folder.path());
        for entry in ENTRIES {
            // Two blocks of this family cannot share the gains of their heads' norms.
            if (family, entry.card.name) == ("qwen3", "flatten") {
                continue;
            }
            let name = format!("{family} {}", entry.card.name);
            let model = rewritten(&before.model, entry, &pool);
            assert_eq!(model.parameters() != before.model.parameters(), entry.removes, "{name}");
            let to = folder.path().join(&name);
            let again = write(&before, &model, WriteAs::Type(Dtype::F32), &to, &pool);
            let tokens = sequences(1, 40, 128, 8).remove(0);
            assert_eq!(bits(&logits(&again.model, &tokens, &pool)), bits(&logits(&model, &tokens, &pool)), "{name}");
            assert_eq!(again.model.architecture.hidden, model.architecture.hidden, "{name}");
            assert_eq!(again.model.architecture.norm_eps, model.architecture.norm_eps, "{name}");
            assert_eq!(again.model.architecture.head_dim, before.model.architecture.head_dim, "{name}");
            assert_eq!(again.model.head.is_some(), model.head.is_some(), "{name}");
            assert_eq!(again.model.blocks.len(), model.blocks.len(), "{name}");
            assert_eq!(again.config.obstacle().is_none(), entry.uniform, "{name}: {:?}", again.config.obstacle());
            read_by_numpy(&to, &expected(&model, &pool));
        }
    }
}

#[test]
fn the_narrower_model_is_exported_and_the_one_with_shortcuts_refused() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let entry = |name| pare_methods::rewrite::find(name).unwrap();
    for family in ["llama-tied", "mistral", "qwen3"] {
        let mut before = bundle(family, folder.path());
        let whole = before.model.clone();
        before.model = rewritten(&whole, entry("slice-global"), &pool);
        before.rewritten = true;
        let path = folder.path().join(format!("{family}.gguf"));
        let written = Export::plan(&before, Target::F32).unwrap();
        written.write(NewFile::create(&path, false).unwrap(), work(&pool)).unwrap();
        let after = Bundle::open(&path.display().to_string(), work(&pool)).unwrap();
        let tokens = sequences(1, 40, 128, 8).remove(0);
        assert_eq!(
            bits(&logits(&after.model, &tokens, &pool)),
            bits(&logits(&before.model, &tokens, &pool)),
            "{family}"
        );
        assert_eq!(after.model.architecture.hidden, 32);
        before.model = rewritten(&whole, entry("slice"), &pool);
        let error = Export::plan(&before, Target::F32).unwrap_err().to_string();
        assert!(error.contains("shortcuts") && error.contains("slice-global"), "{error}");
    }
}

#[test]
fn a_llama_whose_heads_do_not_divide_its_width_is_written_as_a_mistral() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = bundle("llama-tied", folder.path());
    let settings = Settings { block: Some(1), ..Settings::default() };
    let texts = sequences(6, 40, 128, 4);
    let model = rewrite(&before.model, "slice-global", &settings, 0.7, &texts, 0, work(&pool)).unwrap().model;
    assert_eq!((model.architecture.hidden, model.blocks[0].attention().unwrap().heads), (45, 4));
    let to = folder.path().join("mistral");
    let again = write(&before, &model, WriteAs::Type(Dtype::F32), &to, &pool);
    assert_eq!((again.config.family, again.config.obstacle()), (Family::Mistral, None));
    assert_eq!((again.config.sliding_window, again.config.head_dim), (None, 16));
    let tokens = sequences(1, 40, 128, 8).remove(0);
    assert_eq!(bits(&logits(&again.model, &tokens, &pool)), bits(&logits(&model, &tokens, &pool)));
    read_by_numpy(&to, &expected(&model, &pool));
}

#[test]
fn shortcuts_are_kept_in_blocks_and_a_model_that_lacks_one_is_refused() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = bundle("llama-tied", folder.path());
    let mut model = rewritten(&before.model, pare_methods::rewrite::find("slice").unwrap(), &pool);
    let to = folder.path().join("blocks");
    let again = write(&before, &model, WriteAs::Blocks(BlockType::Q8_0), &to, &pool);
    let config = std::fs::read_to_string(to.join("config.json")).unwrap();
    assert!(config.contains("\"shortcuts\": true") && config.contains("\"quant_method\": \"pare\""), "{config}");
    read_by_numpy(&to, &expected(&again.model, &pool));
    for (index, block) in again.model.blocks.iter().enumerate() {
        let names: Vec<&str> = block.shortcuts().map(|shortcut| shortcut.weight.name()).collect();
        assert_eq!(names, [BlockType::Q8_0.name(); 2], "block {index}");
    }
    // Without the entry by which others refuse it nobody must read it as a plain model.
    let method = config.find("\"quantization_config\"").unwrap();
    let end = method + config[method..].find('}').unwrap();
    let rest = format!("{}\"unused\": {{{}", &config[..method], &config[end..]);
    std::fs::write(to.join("config.json"), rest).unwrap();
    let error = Bundle::open(&to.display().to_string(), work(&pool)).unwrap_err().to_string();
    assert!(error.contains("pare.shortcuts") && error.contains("quant_method"), "{error}");

    model.blocks[1].ffn.as_mut().unwrap().shortcut = None;
    let output = OutputDir::create(folder.path().join("some"), false).unwrap();
    let error = write_directory(&output, &before, &model, WriteAs::Auto, work(&pool)).unwrap_err().to_string();
    assert!(error.contains("all or none"), "{error}");
}
