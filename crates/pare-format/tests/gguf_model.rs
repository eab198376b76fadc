//! The reader and the writer on the real model.

mod model_file;

use std::path::Path;
use std::time::Instant;

use pare_format::gguf::{GgmlType, Gguf, GgufWriter, TensorSpec};

#[test]
fn reads_the_model_and_writes_it_back() {
    let (path, bytes) = model_file::smollm2();
    let started = Instant::now();
    let gguf = Gguf::parse(&path, &bytes).expect("a sound file");
    let took = started.elapsed();
    // Measured 3 ms; the limit leaves room for a loaded machine.
    assert!(took.as_millis() < 250, "{took:?}");

    assert_eq!((gguf.version(), gguf.tensors().len(), gguf.metadata().len()), (3, 272, 33));
    assert_eq!(gguf.str("general.architecture").expect("text"), "llama");
    assert_eq!(gguf.u32("llama.block_count").expect("number"), 30);
    assert_eq!(gguf.strings("tokenizer.ggml.tokens").expect("tokens").len(), 49_152);
    let embedding = gguf.tensor("token_embd.weight").expect("embedding");
    assert_eq!((embedding.ggml_type, embedding.out_in()), (GgmlType::Q8_0, [49_152, 576]));
    assert_eq!((embedding.range.start, embedding.range.len()), (1_785_664, 30_081_024));
    assert_eq!(gguf.tensors().iter().map(|t| t.elements()).sum::<usize>(), 134_515_008);
    assert!(gguf.warnings().is_empty(), "{:?}", gguf.warnings());

    let specs: Vec<_> = gguf
        .tensors()
        .iter()
        .map(|t| TensorSpec { name: t.name.clone(), ggml_type: t.ggml_type, shape: t.shape.clone() })
        .collect();
    let mut writer = GgufWriter::new(Path::new("again"), Vec::new(), gguf.metadata(), &specs).expect("header");
    for t in gguf.tensors() {
        writer.tensor(&t.name, &bytes[t.range.clone()]).expect("data");
    }
    // The model was written by llama.cpp: the same bytes must come out.
    assert!(writer.finish().expect("complete") == bytes);
}
