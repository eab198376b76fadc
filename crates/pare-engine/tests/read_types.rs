//! Block types that are read but not made: they run by the exact law, are copied where nothing changed, and encoded anew where asked for.

use crate::forms::wide;
use crate::tiny::{bits, golden, json_of, logits, sequences, tokenizer_json, work};
use pare_engine::bundle::Bundle;
use pare_engine::export::{Export, Target};
use pare_engine::write::{WriteAs, write_directory};
use pare_format::gguf::GgufModel;
use pare_format::map::Bytes;
use pare_format::write::{NewFile, OutputDir};
use pare_kernels::blocks::{BlockType, ReadType};
use pare_kernels::pool::Pool;
use pare_model::model::{Model, PackAs};
use pare_model::rng::SplitMix64;
use pare_model::site::Projection;
use pare_model::storage::{Dense, Element, Stored};
use std::path::Path;
use std::sync::Arc;

/// Random blocks whose values stay small.
fn random(ty: ReadType, shape: [usize; 2], seed: u64) -> Stored {
    let mut rng = SplitMix64::new(seed);
    let element = Element::Read(ty);
    let length = shape[0] * element.bytes_of(shape[1]).unwrap();
    let mut bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
    for block in bytes.chunks_exact_mut(ty.bytes_per_block()) {
        let scales: &[usize] = match ty {
            ReadType::Q2K => &[80, 82],
            ReadType::Q3K => &[108],
            ReadType::Tq1_0 => &[52],
            ReadType::Tq2_0 => &[64],
            ReadType::Iq1M | ReadType::Mxfp4 => &[],
            _ => &[0],
        };
        // 2^-12, within what a layer of this width bears.
        scales.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&[0x00, 0x0c]));
        match ty {
            ReadType::Mxfp4 => block[0] = 120,
            ReadType::Iq1M => {
                [0x00, 0x00, 0xc0, 0x00].into_iter().zip([49, 51, 53, 55]).for_each(|(high, at)| {
                    block[at] = block[at] & 0x0f | high;
                });
            }
            _ => {}
        }
    }
    Stored::new(element, shape, Bytes::from(bytes)).unwrap()
}

/// A model of two blocks whose 14 projections have a type each, and the same with its values in f32.
fn models(before: &Bundle) -> (Model, Model) {
    let (mut model, mut dense) = (before.model.clone(), before.model.clone());
    let mut types = ReadType::ALL.into_iter();
    for (index, block) in model.blocks.iter_mut().enumerate() {
        for projection in Projection::ALL {
            let linear = block.linear_mut(projection).unwrap();
            let stored = random(types.next().unwrap(), linear.weight.shape(), linear.outputs() as u64);
            linear.weight = Arc::new(stored);
            let values = Dense(linear.to_matrix());
            dense.blocks[index].linear_mut(projection).unwrap().weight = Arc::new(values);
        }
    }
    assert!(types.next().is_none(), "every type is in the model");
    (model, dense)
}

fn names(model: &Model) -> Vec<&str> {
    model.blocks.iter().flat_map(|block| block.linears()).map(|(_, linear)| linear.weight.name()).collect()
}

#[test]
fn every_type_runs_by_the_exact_law_and_is_copied_where_nothing_changed() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let mut before = wide(folder.path());
    let (model, dense) = models(&before);
    before.model = model;
    before.rewritten = true;
    let all: Vec<&str> = ReadType::ALL.iter().map(|ty| ty.name()).collect();
    let tokens = sequences(1, 40, 128, 8).remove(0);
    let expected = bits(&logits(&dense, &tokens, &pool));
    assert!(logits(&dense, &tokens, &pool).iter().all(|value| value.is_finite()));
    assert_eq!(bits(&logits(&before.model, &tokens, &pool)), expected);
    let packed = before.model.packed(PackAs::Stored, &pool);
    assert_eq!((names(&packed), packed.bytes_per_token() < dense.bytes_per_token()), (all.clone(), true));
    assert_eq!(bits(&logits(&packed.clone(), &tokens, &pool)), expected);
    assert_eq!(bits(&logits(&before.model.packed(PackAs::Exact, &pool), &tokens, &pool)), expected);

    let open = |path: &Path| Bundle::open(&path.display().to_string(), work(&pool)).unwrap();
    let file = folder.path().join("stored.gguf");
    let plan = Export::as_stored(&before).unwrap();
    plan.write(NewFile::create(&file, false).unwrap(), work(&pool)).unwrap();
    let after = open(&file);
    assert_eq!(names(&after.model), all);
    // The type of the file is that of most of its bytes: the widest of these.
    let most = before.model.blocks.iter().flat_map(|block| block.linears()).map(|(_, linear)| &linear.weight);
    let most = most.max_by_key(|weight| weight.bytes()).unwrap().name();
    let number = GgufModel::open(&file).unwrap().header().u32("general.file_type").unwrap();
    assert_eq!((most, number), ("MXFP4", 38));
    assert_eq!(bits(&logits(&after.model, &tokens, &pool)), expected);

    // A directory made from that file, and a file made from that directory.
    let directory = folder.path().join("kept");
    let output = OutputDir::create(&directory, false).unwrap();
    write_directory(&output, &after, &after.model, WriteAs::Kept, work(&pool)).unwrap();
    output.commit().unwrap();
    let kept = open(&directory);
    assert_eq!(names(&kept.model), all);
    assert_eq!(bits(&logits(&kept.model, &tokens, &pool)), expected);
    let again = folder.path().join("again.gguf");
    Export::as_stored(&kept).unwrap().write(NewFile::create(&again, false).unwrap(), work(&pool)).unwrap();
    assert_eq!(bits(&logits(&open(&again).model, &tokens, &pool)), expected);

    // Another type is made when it is asked for, with a word about it.
    let other = folder.path().join("other.gguf");
    let plan = Export::plan(&after, Target::Plain(BlockType::Q8_0)).unwrap();
    assert!(plan.notes().iter().any(|note| note.contains("quantised already")), "{:?}", plan.notes());
    plan.write(NewFile::create(&other, false).unwrap(), work(&pool)).unwrap();
    assert!(names(&open(&other).model).iter().all(|name| *name == "Q8_0"));
}

#[test]
fn what_another_tool_quantised_is_written_without_its_description() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let source = folder.path().join("gptq");
    std::fs::create_dir(&source).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("quantised/gptq").join(file), source.join(file)).unwrap();
    }
    std::fs::write(source.join("tokenizer.json"), tokenizer_json()).unwrap();
    let before = Bundle::open(&source.display().to_string(), work(&pool)).unwrap();
    assert!(names(&before.model).iter().all(|name| *name == "Q4_0"));
    let tokens = sequences(1, 12, 16, 8).remove(0);
    for (write_as, method) in [(WriteAs::Auto, None), (WriteAs::Kept, Some("pare"))] {
        let directory = folder.path().join(write_as.name());
        let output = OutputDir::create(&directory, false).unwrap();
        write_directory(&output, &before, &before.model, write_as, work(&pool)).unwrap();
        output.commit().unwrap();
        let config = json_of(&directory.join("config.json"));
        assert_eq!(config["quantization_config"]["quant_method"].as_str(), method, "{config}");
        assert!(config["quantization_config"]["bits"].is_null(), "{config}");
        let after = Bundle::open(&directory.display().to_string(), work(&pool)).unwrap();
        if method.is_some() {
            assert_eq!(bits(&logits(&after.model, &tokens, &pool)), bits(&logits(&before.model, &tokens, &pool)));
        }
    }
    // Value for value in a GGUF file.
    let file = folder.path().join("gptq.gguf");
    Export::as_stored(&before).unwrap().write(NewFile::create(&file, false).unwrap(), work(&pool)).unwrap();
    let after = Bundle::open(&file.display().to_string(), work(&pool)).unwrap();
    assert_eq!(names(&after.model), names(&before.model));
    assert_eq!(bits(&logits(&after.model, &tokens, &pool)), bits(&logits(&before.model, &tokens, &pool)));
}
