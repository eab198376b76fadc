//! Replays the fuzzing corpora of GGUF and tokenizers, and mutates their seeds in ways that keep the structure.
//!
//! Seeds are generated: `PARE_WRITE_SEEDS=1 cargo test -p pare-format --test fuzz_replay_gguf` writes them again.

mod gguf_bytes;

use std::path::{Path, PathBuf};

use gguf_bytes::{Bytes, array, key, number, string, strings, tensor, text};
use proptest::prelude::*;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

fn read(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(corpus(name)).expect("the corpus");
    let mut files: Vec<_> = files.map(|f| f.expect("an entry").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a seed"))).collect()
}

/// One seed per value type, tensor type and shape of tokenizer: small, and every byte matters.
fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let scalars = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
    let mut values = Bytes::new();
    for (kind, size) in scalars.into_iter().enumerate().filter(|(_, size)| *size > 0) {
        let kind = kind as u32;
        values = values.key(key(format!("v{kind}").as_bytes(), kind, &vec![1; size]));
        values = values.key(array(&format!("a{kind}"), kind, 3, &vec![1; size * 3]));
    }
    values = values.key(text("s", "text")).key(strings("as", &["x", "", "é"])).key(array("e", 8, 0, &[]));
    let mut tensors = Bytes { keys: vec![number("general.alignment", 64)], align: 64, ..Bytes::new() };
    for (kind, row, bytes) in [
        (0, 5, 20),
        (1, 3, 6),
        (30, 2, 4),
        (2, 32, 18),
        (3, 64, 40),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
        (39, 32, 17),
    ] {
        tensors.tensors.push(tensor(&format!("t{kind}"), &[row], kind, tensors.data.len() as u64));
        let end = (tensors.data.len() + bytes as usize).next_multiple_of(64);
        tensors.data.resize(end, 0x3c);
    }
    let mut bytes: Vec<String> = ["<unk>", "<s>"].map(String::from).to_vec();
    bytes.extend((0..=255).map(|b| format!("<0x{b:02X}>")));
    bytes.extend(["▁", "a", "b", "ab", "▁ab"].map(String::from));
    let int = |v: &[i32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let types: Vec<i32> = [2, 3].into_iter().chain([6; 256]).chain([1; 5]).collect();
    let pieces = Bytes::new()
        .key(text("tokenizer.ggml.model", "llama"))
        .key(strings("tokenizer.ggml.tokens", &bytes))
        .key(array("tokenizer.ggml.token_type", 5, 263, &int(&types)))
        .key(array(
            "tokenizer.ggml.scores",
            6,
            263,
            &(0..263).flat_map(|i| (-(i as f32)).to_le_bytes()).collect::<Vec<_>>(),
        ));
    let words = |pre: &str| {
        Bytes::new()
            .key(text("tokenizer.ggml.model", "gpt2"))
            .key(text("tokenizer.ggml.pre", pre))
            .key(strings("tokenizer.ggml.tokens", &["a", "b", "Ġ", "ab", "Ġab", "1", "<|im_end|>"]))
            .key(array("tokenizer.ggml.token_type", 5, 7, &int(&[1, 1, 1, 1, 1, 1, 3])))
            .key(strings("tokenizer.ggml.merges", &["a b", "Ġ ab"]))
            .key(number("tokenizer.ggml.bos_token_id", 6))
            .build()
    };
    let json = |stages: &str, model: &str| {
        format!("{{\"version\":\"1.0\",\"added_tokens\":[{{\"id\":4,\"content\":\"<|im_end|>\",\"special\":true}}],{stages},\"model\":{{\"type\":\"BPE\",\"vocab\":{{\"a\":0,\"b\":1,\"ab\":2,\"▁\":3}},\"merges\":[\"a b\"]{model}}}}}").into_bytes()
    };
    vec![
        ("gguf", "sound", Bytes::sound().build()),
        ("gguf", "values", values.build()),
        ("gguf", "tensors", tensors.build()),
        ("gguf", "split", Bytes::sound().key(number("split.no", 0)).key(number("split.count", 2)).build()),
        ("gguf", "version2", Bytes { version: 2, ..Bytes::sound() }.build()),
        ("gguf", "tail", [Bytes::sound().build(), string(b"tail")].concat()),
        ("tokenizer", "pieces.gguf", pieces.build()),
        ("tokenizer", "smollm.gguf", words("smollm")),
        ("tokenizer", "llama3.gguf", words("llama-bpe")),
        ("tokenizer", "qwen2.gguf", words("qwen2")),
        ("tokenizer", "deepseek.gguf", words("deepseek-v3")),
        (
            "tokenizer",
            "bytes.json",
            json(
                r#""pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}]},"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
                r#","ignore_merges":true"#,
            ),
        ),
        (
            "tokenizer",
            "split.json",
            json(
                r#""normalizer":{"type":"NFKC"},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\p{N}+|[ab]{2,3}"},"behavior":"MergedWithNext","invert":true},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|im_end|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<|im_end|>":{"id":"<|im_end|>","ids":[4],"tokens":["<|im_end|>"]}}},"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
                r#","unk_token":"a","fuse_unk":true"#,
            ),
        ),
        (
            "tokenizer",
            "metaspace.json",
            json(
                r#""pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true},"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}"#,
                "",
            ),
        ),
        (
            "tokenizer",
            "prepend.json",
            json(
                r#""normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
                r#","byte_fallback":true"#,
            ),
        ),
    ]
}

#[test]
fn seeds_are_those_in_the_corpus() {
    for (corpus_name, name, bytes) in seeds() {
        let path = corpus(corpus_name).join(name);
        if std::env::var_os("PARE_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(corpus(corpus_name)).expect("a directory");
            std::fs::write(&path, &bytes).expect("a seed");
        }
        assert!(std::fs::read(&path).expect("a seed") == bytes, "{}", path.display());
        let file = Path::new(name);
        if corpus_name == "gguf" || name.ends_with(".gguf") {
            let gguf = pare_format::gguf::Gguf::parse(file, &bytes).expect(name);
            assert!(corpus_name == "gguf" || pare_format::tokenizer::Tokenizer::from_gguf(&gguf).is_ok(), "{name}");
        } else {
            pare_format::tokenizer::Tokenizer::from_json(file, &bytes).expect(name);
        }
    }
}

#[test]
fn corpora() {
    for (_, bytes) in read("gguf") {
        pare_format::gguf::fuzz(&bytes);
    }
    for (_, bytes) in read("tokenizer") {
        pare_format::tokenizer::fuzz(&bytes);
    }
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Change {
    /// Puts a number that likes to overflow over `width` bytes.
    Number {
        at: prop::sample::Index,
        width: usize,
        value: u64,
    },
    Flip {
        at: prop::sample::Index,
        bit: u8,
    },
    Cut {
        at: prop::sample::Index,
        len: usize,
    },
    /// Copies a stretch to another place.
    Copy {
        from: prop::sample::Index,
        to: prop::sample::Index,
        len: usize,
    },
    Insert {
        at: prop::sample::Index,
        bytes: Vec<u8>,
    },
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    let edge = prop::sample::select(vec![
        0,
        1,
        2,
        3,
        31,
        32,
        33,
        255,
        256,
        1 << 30,
        1 << 31,
        (1 << 32) - 1,
        1 << 40,
        1 << 61,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 31,
        u64::MAX,
    ]);
    let words = prop::sample::select(vec![
        "-1",
        "null",
        "\"a\"",
        "[]",
        "{}",
        "1e400",
        "Sequence",
        "<0x00>",
        "▁",
        "\u{0}",
        "(a+)+",
        "4294967296",
    ]);
    prop_oneof![
        (index(), prop::sample::select(vec![1_usize, 4, 8]), edge).prop_map(|(at, width, value)| Change::Number {
            at,
            width,
            value
        }),
        (index(), 0..8_u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        (index(), 1..40_usize).prop_map(|(at, len)| Change::Cut { at, len }),
        (index(), index(), 1..60_usize).prop_map(|(from, to, len)| Change::Copy { from, to, len }),
        (index(), words).prop_map(|(at, word)| Change::Insert { at, bytes: word.into() }),
        (index(), any::<Vec<u8>>()).prop_map(|(at, mut bytes)| {
            bytes.truncate(20);
            Change::Insert { at, bytes }
        }),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Number { at, width, value } => {
            let at = at.index(bytes.len());
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        Change::Flip { at, bit } => *at.get_mut(bytes) ^= 1 << bit,
        Change::Cut { at, len } => {
            let at = at.index(bytes.len());
            bytes.drain(at..(at + len).min(bytes.len()));
        }
        Change::Copy { from, to, len } => {
            let from = from.index(bytes.len());
            let part = bytes[from..(from + len).min(bytes.len())].to_vec();
            let to = to.index(bytes.len());
            bytes.splice(to..to, part);
        }
        Change::Insert { at, bytes: new } => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, new.iter().copied());
        }
    }
}

fn mutated(name: &str) -> impl Strategy<Value = Vec<u8>> {
    let seeds: Vec<Vec<u8>> = read(name).into_iter().map(|seed| seed.1).collect();
    (prop::sample::select(seeds), prop::collection::vec(change(), 1..6)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| apply(&mut bytes, change));
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_gguf(bytes in mutated("gguf")) {
        pare_format::gguf::fuzz(&bytes);
    }

    #[test]
    fn mutated_tokenizers(bytes in mutated("tokenizer")) {
        pare_format::tokenizer::fuzz(&bytes);
    }
}
