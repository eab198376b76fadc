//! `pare imatrix` and `pare export --imatrix` on tiny models.

use crate::model::{Tiny, tensor};
use crate::program::{names, pare};
use crate::words::story;
use pare_format::gguf::{GgufModel, Value as Key};
use pare_format::imatrix::{Imatrix, ImatrixFormat, Inputs};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn imatrix(tiny: &Tiny, text: &str, file: &str, more: &[&str]) -> String {
    let (model, text, file) = (tiny.name(), tiny.path(text), tiny.path(file));
    let fixed = ["imatrix", &model, "--text", &text, "-o", &file, "--context", "48", "--calibration-windows", "8"];
    pare([&fixed[..], more].concat()).succeeds()
}

fn read(tiny: &Tiny, file: &str) -> Imatrix {
    Imatrix::open(tiny.path(file)).unwrap()
}

#[test]
fn it_holds_the_mean_squares_of_what_each_matrix_reads() {
    let tiny = Tiny::five_blocks();
    // As many of the one as of the other in every window.
    tiny.write("ab.txt", "ab".repeat(4000));
    let said = imatrix(&tiny, "ab.txt", "x.gguf", &[]);
    assert!(said.contains("x.gguf, 35 matrices, 8 windows of 48 tokens: "), "{said}");
    let found = read(&tiny, "x.gguf");
    assert_eq!((found.entries.len(), found.chunks, found.chunk_tokens), (35, 8, 48));
    assert!(found.texts[0].contains("ab.txt"), "{:?}", found.texts);
    // The first block reads the embeddings of both letters after its norm.
    let file = fs::read(tiny.model().join("model.safetensors")).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let (at, length) = tensor(&file, name);
        let chunks = file[at..at + length].as_chunks::<4>().0;
        chunks.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect()
    };
    let (rows, gain) = (values("model.embed_tokens.weight"), values("model.layers.0.input_layernorm.weight"));
    let mut means = vec![0.0; 64];
    for letter in [b'a', b'b'] {
        let row = &rows[usize::from(letter) * 64..][..64];
        let scale = (row.iter().map(|x| x * x).sum::<f64>() / 64.0 + 1e-5).sqrt();
        means.iter_mut().zip(row.iter().zip(&gain)).for_each(|(mean, (x, g))| *mean += (x / scale * g).powi(2) / 2.0);
    }
    for name in ["attn_q", "attn_k", "attn_v"] {
        let inputs = &found.entries[&format!("blk.0.{name}.weight")];
        assert_eq!(inputs.count, 8.0 * 48.0);
        for (own, want) in inputs.means().unwrap().iter().zip(&means) {
            assert!((f64::from(*own) / want - 1.0).abs() < 1e-5, "{name}: {own} {want}");
        }
    }
    assert_ne!(found.entries["blk.0.ffn_gate.weight"].squares, found.entries["blk.0.attn_q.weight"].squares);
    assert_eq!(found.entries["blk.4.ffn_up.weight"], found.entries["blk.4.ffn_gate.weight"]);

    // The binary form says the same, and any number of threads writes the same bytes.
    let said: Value = serde_json::from_str(&imatrix(&tiny, "ab.txt", "x.dat", &["--json", "--threads", "1"])).unwrap();
    assert_eq!((&said["matrices"], &said["windows"], &said["window_tokens"]), (&json!(35), &json!(8), &json!(48)));
    let binary = read(&tiny, "x.dat");
    for (name, inputs) in &found.entries {
        let pairs = inputs.means().unwrap().into_iter().zip(binary.entries[name].means().unwrap());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-6 * a), "{name}");
    }
    imatrix(&tiny, "ab.txt", "y.gguf", &["--threads", "2"]);
    assert_eq!(fs::read(tiny.path("x.gguf")).unwrap(), fs::read(tiny.path("y.gguf")).unwrap());
}

#[test]
fn an_export_loses_less_where_inputs_are_large() {
    let tiny = Tiny::five_blocks();
    let (a, b) = (tiny.write("a.txt", story(900, 1)), tiny.write("b.txt", story(900, 2)));
    assert!(fs::exists(a).unwrap());
    for file in ["x.gguf", "x.dat"] {
        imatrix(&tiny, "a.txt", file, &[]);
    }
    let export = |file: &str, more: &[&str]| {
        let (model, output) = (tiny.name(), tiny.path(file));
        pare([&["export", &model, "--gguf", "q4_0", "-o", &output][..], more].concat()).run()
    };
    let of = |name: &str| tiny.path(name);
    assert_eq!(export("plain.gguf", &[]).code, Some(0));
    let ended = export("gguf.gguf", &["--imatrix", &of("x.gguf")]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The embedding, which is the head too, is not in it.
    let note = format!("note: {} says nothing of token_embd.weight: all errors count alike there\n", of("x.gguf"));
    assert!(ended.stderr.ends_with(&note), "{}", ended.stderr);
    assert_eq!(export("dat.gguf", &["--imatrix", &of("x.dat"), "--threads", "1"]).code, Some(0));
    let kl = |name: &str| {
        let (file, model) = (of(name), tiny.name());
        let eval = ["eval", &file, "--against", &model, "--held-out", &b, "--context", "48", "--json", "--no-speed"];
        pare([&eval[..], &["--probes", "0", "--weights", "exact"]].concat()).json()["kl_mean"].as_f64().unwrap()
    };
    let (plain, gguf, dat) = (kl("plain.gguf"), kl("gguf.gguf"), kl("dat.gguf"));
    assert!(gguf < plain && (dat / gguf - 1.0).abs() < 0.05, "{plain} {gguf} {dat}");
    // The file says what it was made with, as llama-quantize does.
    let model = GgufModel::open(Path::new(&of("gguf.gguf"))).unwrap();
    let key = |name: &str| model.header().get(&format!("quantize.imatrix.{name}")).cloned();
    assert_eq!(key("file"), Some(Key::text("x.gguf")));
    assert_eq!((key("entries_count"), key("chunks_count")), (Some(Key::U32(35)), Some(Key::U32(8))));
    let plain = GgufModel::open(Path::new(&of("plain.gguf"))).unwrap();
    assert!(plain.header().metadata().iter().all(|(name, _)| !name.starts_with("quantize.")));
}

#[test]
fn what_does_not_fit_the_model_is_refused_by_name() {
    let tiny = Tiny::five_blocks();
    let write = |file: &str, entries: &[(&str, usize)], form: ImatrixFormat| {
        let inputs = |width: usize| Inputs { squares: vec![1.0; width], count: 1.0 };
        let entries = entries.iter().map(|(name, width)| ((*name).to_owned(), inputs(*width))).collect();
        let imatrix = Imatrix { entries, ..Imatrix::default() };
        tiny.write(file, imatrix.to_bytes(Path::new(file), form).unwrap())
    };
    let model = tiny.name();
    let output = tiny.path("out.gguf");
    let refuses = |more: &[&str], parts: &[&str]| {
        pare([&["export", &model, "-o", &output][..], more].concat()).refuses(parts);
        assert!(!Path::new(&output).exists(), "{more:?}");
    };
    let q4 = |file: &str, parts: &[&str]| refuses(&["--gguf", "q4_0", "--imatrix", file], parts);
    let unknown =
        write("unknown.gguf", &[("blk.0.attn_q.weight", 64), ("blk.9.attn_q.weight", 64)], ImatrixFormat::Gguf);
    q4(&unknown, &["unknown.gguf", "\"blk.9.attn_q.weight\"", "36 matrices", "another model"]);
    let narrow = write("narrow.dat", &[("blk.1.ffn_down.weight", 32)], ImatrixFormat::Binary);
    q4(&narrow, &["narrow.dat", "\"blk.1.ffn_down.weight\"", "found 32 inputs, expected 64"]);
    // A vector is no matrix.
    let vector = write("vector.gguf", &[("blk.0.attn_norm.weight", 64)], ImatrixFormat::Gguf);
    q4(&vector, &["vector.gguf", "\"blk.0.attn_norm.weight\""]);
    q4(&tiny.path("none.gguf"), &["none.gguf"]);
    let text = tiny.write("text.dat", "no importance matrix");
    q4(&text, &["text.dat", "pare imatrix"]);
    pare(["export", &model, "--gguf", "f16", "-o", &tiny.path("model.gguf")]).succeeds();
    q4(&tiny.path("model.gguf"), &["model.gguf", "\"general.type\"", "\"model\"", "\"imatrix\""]);

    let sound = write("sound.gguf", &[("blk.0.attn_q.weight", 64)], ImatrixFormat::Gguf);
    refuses(&["--gguf", "f16", "--imatrix", &sound], &["--imatrix", "f16"]);
    refuses(&["--gguf", "mixed", "--imatrix", &sound], &["--imatrix", "--text"]);
    refuses(&["--gguf", "q4_0", "--gptq", "--imatrix", &sound], &["--imatrix", "--gptq", "cannot be used with"]);
    pare(["export", &model, "--gguf", "q4_0", "--imatrix", &sound, "-o", &sound]).refuses(&["also an input"]);

    let a = tiny.write("a.txt", story(900, 1));
    let observes = |file: &str, more: &[&str]| {
        let file = tiny.path(file);
        pare([&["imatrix", &model, "--text", &a, "--context", "48", "-o", &file][..], more].concat())
    };
    let before = names(tiny.folder());
    observes("x.bin", &[]).refuses(&["x.bin", ".gguf", ".dat"]);
    observes("sound.gguf", &[]).refuses(&["sound.gguf", "exists already"]);
    observes("narrow.dat", &["--force"]).refuses(&["narrow.dat", "did not write"]);
    observes("y.gguf", &["--held-out", &a]).refuses(&["--held-out"]);
    assert_eq!(names(tiny.folder()), before);
    observes("sound.gguf", &["--force"]).succeeds();
    assert_eq!(read(&tiny, "sound.gguf").entries.len(), 35);
}
