//! Ids of the real model against an independent reference (`goldens/tokenizer/tokenizer.py`).

mod model_file;

use std::path::Path;

use pare_format::gguf::{Array, Gguf, GgufWriter, Value};
use pare_format::tokenizer::Tokenizer;
use serde_json::Value as Json;

fn tokenizer() -> Tokenizer {
    let (path, bytes) = model_file::smollm2();
    Tokenizer::from_gguf(&Gguf::parse(&path, &bytes).expect("a sound file")).expect("a known tokenizer")
}

fn rows() -> Vec<(String, Vec<u32>, Vec<u32>)> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/tokenizer/smollm2.json");
    let json: Json = serde_json::from_str(&std::fs::read_to_string(golden).expect("the golden")).expect("JSON");
    let ids = |v: &Json| v.as_array().expect("ids").iter().map(|id| id.as_u64().expect("id") as u32).collect();
    let row = |r: &Json| (r["text"].as_str().expect("text").to_owned(), ids(&r["plain"]), ids(&r["special"]));
    json.as_array().expect("rows").iter().map(row).collect()
}

/// The tokenizer written as the metadata of a GGUF file, for a model with three rows more, and read back.
fn through_gguf(tokenizer: &Tokenizer) -> Tokenizer {
    let described =
        tokenizer.gguf_metadata(tokenizer.vocab_size() + 3, &[]).expect("a tokenizer that the format can say");
    assert_eq!(described.notes, [""; 0]);
    let path = Path::new("written.gguf");
    let file = GgufWriter::new(path, Vec::new(), &described.keys, &[]).and_then(GgufWriter::finish).expect("a file");
    let gguf = Gguf::parse(path, &file).expect("sound");
    assert_eq!(gguf.strings("tokenizer.ggml.tokens").expect("tokens").len(), tokenizer.vocab_size() + 3);
    Tokenizer::from_gguf(&gguf).expect("a tokenizer")
}

#[test]
fn rules_without_a_name_are_refused() {
    let json = tokenizer().to_json().expect("JSON");
    let mut json: Json = serde_json::from_slice(&json).expect("JSON");
    json["normalizer"] = serde_json::json!({ "type": "NFKC" });
    let odd = Tokenizer::from_json("tokenizer.json".as_ref(), json.to_string().as_bytes()).expect("a tokenizer");
    let error = odd.gguf_metadata(odd.vocab_size(), &[]).expect_err("no such name").to_string();
    assert!(error.contains("tokenizer.json") && error.contains("qwen2"), "{error}");
    let few = tokenizer().gguf_metadata(100, &[]).expect_err("more tokens than rows").to_string();
    assert!(few.contains("ids below 100"), "{few}");
}

#[test]
fn ids_are_those_of_the_reference() {
    let direct = tokenizer();
    let through_json =
        Tokenizer::from_json("tokenizer.json".as_ref(), &direct.to_json().expect("JSON")).expect("read back");
    let through_gguf = through_gguf(&through_json);
    let rows = rows();
    assert!(rows.len() >= 60);
    assert_eq!(through_gguf.specials(), through_json.specials());
    for t in [&direct, &through_json, &through_gguf] {
        for (text, plain, special) in &rows {
            assert_eq!(&t.encode(text, false).expect("ids"), plain, "{text:?}");
            assert_eq!(&t.encode(text, true).expect("ids"), special, "{text:?} with special tokens");
        }
    }
}

#[test]
fn pieces_are_those_of_sentencepiece() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/tokenizer/pieces.json");
    let json: Json = serde_json::from_str(&std::fs::read_to_string(golden).expect("the golden")).expect("JSON");
    let list = |key: &str| json[key].as_array().expect("a list");
    let metadata = [
        ("tokenizer.ggml.model", Value::text("llama")),
        (
            "tokenizer.ggml.tokens",
            Value::Array(Array::Str(list("tokens").iter().map(|t| t.as_str().expect("text")).collect())),
        ),
        (
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(list("scores").iter().map(|s| s.as_f64().expect("score") as f32).collect())),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(list("types").iter().map(|t| t.as_i64().expect("type") as i32).collect())),
        ),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    let path = Path::new("pieces.gguf");
    let file = GgufWriter::new(path, Vec::new(), &metadata, &[]).and_then(GgufWriter::finish).expect("a file");
    let direct = Tokenizer::from_gguf(&Gguf::parse(path, &file).expect("sound")).expect("a tokenizer");
    let through_json = Tokenizer::from_json(path, &direct.to_json().expect("JSON")).expect("read back");
    let through_gguf = through_gguf(&through_json);
    assert!(list("rows").len() >= 60);
    for row in list("rows") {
        let text = row["text"].as_str().expect("text");
        let ids: Vec<u32> =
            row["ids"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("id") as u32).collect();
        for t in [&direct, &through_json, &through_gguf] {
            assert_eq!(t.encode(text, false).expect("ids"), ids, "{text:?}");
            assert_eq!(t.decode(&ids, false), text);
        }
    }
}

#[test]
fn text_comes_back() {
    let t = tokenizer();
    for (text, plain, special) in rows() {
        // The vocabulary lacks the tokens of 21 bytes; texts with one of them lose it.
        let missing =
            |c: char| !c.encode_utf8(&mut [0; 4]).bytes().all(|b| (0..49_152).any(|id| t.token(id) == Some(&[b])));
        if text.chars().any(missing) {
            continue;
        }
        assert_eq!(t.decode(&plain, true), text);
        assert_eq!(t.decode(&special, false), text);
        let mut stream = t.stream(false);
        let mut parts: Vec<String> = plain.iter().map(|&id| stream.push(id)).collect();
        parts.push(stream.finish());
        assert!(!parts.iter().any(|p| p.contains('\u{fffd}')), "{parts:?}");
        assert_eq!(parts.concat(), text);
    }
}

#[test]
fn ids_with_a_meaning() {
    let t = tokenizer();
    assert_eq!((t.vocab_size(), t.bos(), t.eos(), t.eot()), (49_152, Some(1), Some(2), Some(2)));
    assert_eq!((t.specials().front.as_slice(), t.specials().back.as_slice()), (&[][..], &[][..]));
    // `<|endoftext|>`, `<|im_end|>` and the token between the files of a repository.
    assert_eq!(t.ends(), [0, 2, 4]);
    assert_eq!((t.specials().unk, t.specials().pad), (Some(0), Some(2)));
    assert_eq!((t.token(1), t.token(49_152)), (Some(&b"<|im_start|>"[..]), None));
    assert!(t.is_special(16) && !t.is_special(17));
    t.check_rows(49_152).expect("a row for each");
    let e = t.check_rows(49_151).expect_err("one row short").to_string();
    assert!(e.contains("49151") && e.contains("different models"), "{e}");
}

#[test]
fn files_of_a_hugging_face_directory() {
    let t = tokenizer();
    let files = t.hf_files().expect("files");
    let names: Vec<&str> = files.iter().map(|f| f.0.as_str()).collect();
    assert_eq!(names, ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]);
    let map: Json = serde_json::from_slice(&files[2].1).expect("JSON");
    let expected = serde_json::json!({ "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>" });
    assert_eq!(map, expected);
    // Read back, the pair of files says what the GGUF file said.
    let again = Tokenizer::from_json("tokenizer.json".as_ref(), &files[0].1)
        .and_then(|again| again.with_config("tokenizer_config.json".as_ref(), &files[1].1))
        .expect("read back");
    assert_eq!(again.specials(), t.specials());
    assert_eq!(again.hf_files().expect("files"), files);
}

/// The model's own metadata with another pre-tokenizer.
fn with_pre(pre: &str) -> Tokenizer {
    let (path, bytes) = model_file::smollm2();
    let gguf = Gguf::parse(&path, &bytes).expect("a sound file");
    let mut metadata = gguf.metadata().to_vec();
    let entry = metadata.iter_mut().find(|kv| kv.0 == "tokenizer.ggml.pre").expect("the key");
    entry.1 = Value::text(pre);
    let file = GgufWriter::new(&path, Vec::new(), &metadata, &[]).and_then(GgufWriter::finish).expect("a file");
    Tokenizer::from_gguf(&Gguf::parse(&path, &file).expect("a sound file")).expect("a known name")
}

#[test]
fn pieces_have_the_ids_of_the_whole() {
    let rows = rows();
    for pre in ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken", "gpt-4o", "deepseek-coder", "deepseek-v3"] {
        let t = with_pre(pre);
        let mut library = tokenizers::Tokenizer::from_bytes(t.to_json().expect("JSON")).expect("read by the library");
        for seed in 1..=4_u64 {
            // The awkward texts in random order, sometimes with nothing between them: 100 KB, several pieces.
            let mut state = seed;
            let mut text = String::new();
            while text.len() < 100_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(&rows[(state >> 33) as usize % rows.len()].0);
                text.push_str(["", " ", "\n", "word. ", "x,y"][(state >> 60) as usize % 5]);
            }
            for allow_special in [false, true] {
                library.set_encode_special_tokens(!allow_special);
                let whole = library.encode_fast(text.as_str(), false).expect("ids");
                let ids = t.encode(&text, allow_special).expect("ids");
                assert!(ids == whole.get_ids(), "{pre}, seed {seed}, special {allow_special}");
            }
        }
    }
}
