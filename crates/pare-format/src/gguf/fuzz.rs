//! Entry point for fuzzing: parse, then hold the result to what the types promise.

use std::path::Path;

use super::{Gguf, GgufWriter, TensorSpec, nonfinite};

/// Parses arbitrary bytes. A file that is accepted must have its tensors inside it, in order and apart, answer every look-up,
/// and come back equal from the writer.
///
/// # Panics
/// When one of these does not hold: that is a bug.
pub fn fuzz(bytes: &[u8]) {
    let Ok(gguf) = Gguf::parse(Path::new("fuzz.gguf"), bytes) else { return };
    let mut end = gguf.data_start();
    for t in gguf.tensors() {
        assert!(t.range.start >= end && t.range.end <= bytes.len(), "{t:?} of {} bytes", bytes.len());
        end = t.range.end;
        assert_eq!(gguf.tensor(&t.name), Some(t));
        let data = bytes.get(t.range.clone()).unwrap_or_default();
        assert_eq!(nonfinite(t.ggml_type, data).is_some(), t.ggml_type.supported());
    }
    for (key, value) in gguf.metadata() {
        assert!(gguf.get(key).is_some(), "{key}: {}", value.describe());
        let _ = (gguf.opt_str(key), gguf.opt_u32(key), gguf.opt_u32s(key), gguf.opt_f64(key));
    }
    let _ = gguf.split();
    write_again(&gguf, bytes);
}

fn write_again(gguf: &Gguf, bytes: &[u8]) {
    let file = Path::new("again.gguf");
    // The writer has one alignment.
    let metadata: Vec<_> = gguf.metadata().iter().filter(|kv| kv.0 != "general.alignment").cloned().collect();
    let of =
        |t: &super::GgufTensor| TensorSpec { name: t.name.clone(), ggml_type: t.ggml_type, shape: t.shape.clone() };
    let specs: Vec<_> = gguf.tensors().iter().map(of).collect();
    let Ok(mut writer) = GgufWriter::new(file, Vec::new(), &metadata, &specs) else {
        assert!(specs.iter().any(|t| t.name.len() >= super::limit::NAME_ELSEWHERE), "refused to write what was read");
        return;
    };
    for t in gguf.tensors() {
        let fed = writer.tensor(&t.name, bytes.get(t.range.clone()).unwrap_or_default());
        assert!(fed.is_ok(), "{fed:?}");
    }
    let out = writer.finish().unwrap_or_default();
    let again = Gguf::parse(file, &out);
    let Ok(again) = again else { panic!("{again:?}") };
    assert_eq!(format!("{:?}", again.metadata()), format!("{metadata:?}"));
    for (a, b) in again.tensors().iter().zip(gguf.tensors()) {
        assert_eq!((&a.name, a.ggml_type, &a.shape), (&b.name, b.ggml_type, &b.shape));
        assert_eq!(out.get(a.range.clone()), bytes.get(b.range.clone()));
    }
}
