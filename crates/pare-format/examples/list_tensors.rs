//! Lists what the header of a GGUF file says; without a file, of one that it writes in memory.
//! `cargo run -p pare-format --example list_tensors -- FILE.gguf`
#![allow(clippy::print_stdout)]

use pare_format::FormatError;
use pare_format::gguf::{GgmlType, GgufModel, GgufWriter, TensorSpec, Value};
use std::path::Path;

fn main() -> Result<(), FormatError> {
    let model = match std::env::args().nth(1) {
        // All parts of a split model; the tensors stay in the memory map.
        Some(path) => GgufModel::open(Path::new(&path))?,
        None => GgufModel::from_bytes(Path::new("made.gguf"), made()?)?,
    };
    println!("GGUF version {}", model.header().version());
    for (key, value) in model.header().metadata() {
        match value {
            Value::Array(_) => println!("{key}: an array"),
            Value::Str(text) => println!("{key}: {:?}", String::from_utf8_lossy(text)),
            value => println!("{key}: {value:?}"),
        }
    }
    for tensor in model.tensors() {
        // GGUF names the row length first.
        println!("{:<24} {:<5} {:?}, {} bytes", tensor.name, tensor.ggml_type.name(), tensor.shape, tensor.range.len());
    }
    for warning in model.warnings() {
        println!("warning: {warning}");
    }
    Ok(())
}

/// A file of one key and two tensors. A real one has the keys of its architecture and its tokenizer.
fn made() -> Result<Vec<u8>, FormatError> {
    let tensor =
        |name: &str, ggml_type, shape: &[usize]| TensorSpec { name: name.into(), ggml_type, shape: shape.into() };
    let metadata = [("general.architecture".to_owned(), Value::Str(b"llama".to_vec()))];
    let tensors =
        [tensor("output_norm.weight", GgmlType::F32, &[4]), tensor("output.weight", GgmlType::Q8_0, &[32, 2])];
    let mut writer = GgufWriter::new(Path::new("made.gguf"), Vec::new(), &metadata, &tensors)?;
    writer.tensor("output_norm.weight", &[1.0_f32; 4].map(f32::to_le_bytes).concat())?;
    writer.tensor("output.weight", &[0; 2 * 34])?;
    writer.finish()
}
