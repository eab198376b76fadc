//! Bad tokenizers inside GGUF files: rows of the groups T and G of the battery.

mod gguf_bytes;
mod rows;

use std::path::Path;

use gguf_bytes::{Bytes, array, key, number, strings, text};
use pare_format::gguf::Gguf;
use pare_format::tokenizer::Tokenizer;
use rows::Expect::{Fine, Says};
use rows::{Expect, Row, row};

fn sentencepiece() -> Bytes {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255).map(|b| format!("<0x{b:02X}>")));
    let pieces = ["▁", "a", "b", "ab", "▁ab", "▁a", "<", "s", ">", "<s", "s>"];
    tokens.extend(pieces.map(String::from));
    let mut types = vec![2_i32, 3, 3];
    types.extend([6; 256]);
    types.extend([1; 11]);
    let mut scores = vec![0_f32; 259];
    scores.extend([-8.0, -9.0, -10.0, -1.0, -2.0, -3.0, -11.0, -12.0, -13.0, -0.5, -0.6]);
    let raw = |v: Vec<[u8; 4]>| v.concat();
    Bytes::new()
        .key(text("tokenizer.ggml.model", "llama"))
        .key(strings("tokenizer.ggml.tokens", &tokens))
        .key(array(
            "tokenizer.ggml.token_type",
            5,
            types.len() as u64,
            &raw(types.iter().map(|t| t.to_le_bytes()).collect()),
        ))
        .key(array(
            "tokenizer.ggml.scores",
            6,
            scores.len() as u64,
            &raw(scores.iter().map(|s| s.to_le_bytes()).collect()),
        ))
        .key(number("tokenizer.ggml.bos_token_id", 1))
        .key(number("tokenizer.ggml.eos_token_id", 2))
}

fn gguf(file: &Bytes) -> Result<Tokenizer, String> {
    let gguf = Gguf::parse(Path::new("model.gguf"), &file.build()).map_err(|e| e.to_string())?;
    Tokenizer::from_gguf(&gguf).map_err(|e| e.to_string())
}

/// The sound file with one key replaced, or left out.
fn changed_key(id: &'static str, expect: Expect, index: usize, new: Option<Vec<u8>>) -> Row {
    row(id, expect, move || {
        let mut file = sentencepiece();
        match new {
            Some(new) => file.keys[index] = new,
            None => drop(file.keys.remove(index)),
        }
        gguf(&file).map(drop)
    })
}

#[test]
fn gguf_vocabularies() {
    let t = gguf(&sentencepiece()).expect("sound");
    let ids = |s: &str| t.encode(s, false).expect("ids");
    let id = |s: &str| t.id(s).expect("a token");
    assert_eq!(ids("ab ab"), [id("▁ab"), id("▁ab")]);
    assert_eq!(ids("b\n"), [id("▁"), id("b"), id("<0x0A>")]);
    assert_eq!(ids("é"), [id("▁"), id("<0xC3>"), id("<0xA9>")]);
    // The pieces of `<s>` are tokens, but text never joins to the control token.
    assert_eq!(ids("<s>"), [id("▁"), id("<s"), id(">")]);
    assert_eq!(t.encode("<s>ab", true).expect("ids"), [1, id("▁ab")]);
    assert_eq!(t.decode(&ids("ab é\n中"), true), "ab é\n中");
    assert_eq!((t.specials().front.as_slice(), t.bos()), (&[1][..], Some(1)));
    // Pieces of a long text against one that is short enough to stay whole.
    let (long, short) = (ids(&"ab a b ".repeat(40_000)), ids(&"ab a b ".repeat(4)));
    assert_eq!((long.len(), &long[..12]), (4 * 40_000 + 1, &short[..12]));
    assert!(long[..160_000].chunks(4).all(|c| c == &long[..4]));

    let tokens = |change: fn(&mut Vec<String>)| {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        tokens.extend((0..=255).map(|b| format!("<0x{b:02X}>")));
        tokens.extend((0..11).map(|i| format!("t{i}")));
        change(&mut tokens);
        Some(strings("tokenizer.ggml.tokens", &tokens))
    };
    rows::run(vec![
        changed_key(
            "T05 <0x-1>",
            Says(&["tokenizer.ggml.tokens[5]", "\"<0x-1>\"", "<0x00> to <0xFF>"]),
            1,
            tokens(|t| t[5] = "<0x-1>".into()),
        ),
        changed_key("T05 <0xZZ>", Says(&["tokenizer.ggml.tokens[5]", "<0xZZ>"]), 1, tokens(|t| t[5] = "<0xZZ>".into())),
        changed_key(
            "T05 <0x100>",
            Says(&["tokenizer.ggml.tokens[5]", "<0x100>"]),
            1,
            tokens(|t| t[5] = "<0x100>".into()),
        ),
        changed_key(
            "same token",
            Says(&["tokenizer.ggml.tokens[260]", "has the id 259 already"]),
            1,
            tokens(|t| t[260] = "t0".into()),
        ),
        changed_key(
            "long piece",
            Says(&["tokenizer.ggml.tokens[260]", "257 bytes"]),
            1,
            tokens(|t| t[260] = "x".repeat(257)),
        ),
        changed_key("hole", Fine, 1, tokens(|t| t[260].clear())),
        changed_key("no tokens", Says(&["\"tokenizer.ggml.tokens\"", "is missing"]), 1, None),
        changed_key(
            "types short",
            Says(&["\"tokenizer.ggml.token_type\"", "1 entries", "270, one per token"]),
            2,
            Some(array("tokenizer.ggml.token_type", 5, 1, &[1, 0, 0, 0])),
        ),
        changed_key(
            "type 99",
            Says(&["\"tokenizer.ggml.token_type[3]\"", "token type 99"]),
            2,
            Some(array(
                "tokenizer.ggml.token_type",
                4,
                270,
                &[[1, 0, 0, 0].repeat(3), [99, 0, 0, 0].to_vec(), [1, 0, 0, 0].repeat(266)].concat(),
            )),
        ),
        changed_key(
            "negative type",
            Says(&["\"tokenizer.ggml.token_type\"", "array of 1 i32"]),
            2,
            Some(array("tokenizer.ggml.token_type", 5, 1, &[255; 4])),
        ),
        changed_key("no scores", Says(&["\"tokenizer.ggml.scores\"", "is missing"]), 3, None),
        changed_key(
            "NaN score",
            Says(&["\"tokenizer.ggml.scores[0]\"", "NaN"]),
            3,
            Some(array("tokenizer.ggml.scores", 6, 270, &[0, 0, 192, 127].repeat(270))),
        ),
        changed_key("bos beyond", Fine, 4, Some(number("tokenizer.ggml.bos_token_id", 270))),
        changed_key(
            "bos text",
            Says(&["\"tokenizer.ggml.bos_token_id\"", "string \"1\""]),
            4,
            Some(text("tokenizer.ggml.bos_token_id", "1")),
        ),
        changed_key("bos none", Fine, 4, Some(number("tokenizer.ggml.bos_token_id", u32::MAX))),
        changed_key(
            "G07 token not UTF-8",
            Says(&["\"tokenizer.ggml.tokens[0]\"", "invalid UTF-8"]),
            1,
            Some(strings("tokenizer.ggml.tokens", &[b"\xff"])),
        ),
        changed_key(
            "T09 model",
            Says(&["\"tokenizer.ggml.model\"", "\"rwkv\"", "gpt2 llama"]),
            0,
            Some(text("tokenizer.ggml.model", "rwkv")),
        ),
        changed_key(
            "T09 no pre, no merges",
            Says(&["\"tokenizer.ggml.merges\"", "is missing"]),
            0,
            Some(text("tokenizer.ggml.model", "gpt2")),
        ),
        row("T09 pre", Says(&["\"tokenizer.ggml.pre\"", "\"lama-bpe\"", "nearest is \"llama-bpe\""]), || {
            let mut file = sentencepiece().key(text("tokenizer.ggml.pre", "lama-bpe"));
            file.keys[0] = text("tokenizer.ggml.model", "gpt2");
            gguf(&file).map(drop)
        }),
        row("merge of one", Says(&["\"tokenizer.ggml.merges[1]\"", "\"ab\"", "two tokens and one space"]), || {
            let mut file = sentencepiece().key(text("tokenizer.ggml.pre", "smollm"));
            file.keys[0] = text("tokenizer.ggml.model", "gpt2");
            gguf(&file.key(strings("tokenizer.ggml.merges", &["a b", "ab"]))).map(drop)
        }),
        row("merge unknown", Says(&["\"tokenizer.ggml.merges[0]\"", "\"q\""]), || {
            let mut file = sentencepiece().key(text("tokenizer.ggml.pre", "smollm"));
            file.keys[0] = text("tokenizer.ggml.model", "gpt2");
            gguf(&file.key(strings("tokenizer.ggml.merges", &["q b"]))).map(drop)
        }),
        row("G16 template", Says(&["chat template", "line 1", "syntax error"]), || {
            let file = sentencepiece().key(text("tokenizer.chat_template", "{% if %}"));
            let t = gguf(&file)?;
            let source = t.chat_template().expect("a template");
            pare_format::chat::ChatTemplate::parse(t.file(), source).map(drop).map_err(|e| e.to_string())
        }),
        row("bool as text", Says(&["\"tokenizer.ggml.add_bos_token\"", "u8 1", "a bool"]), || {
            gguf(&sentencepiece().key(key(b"tokenizer.ggml.add_bos_token", 0, &[1]))).map(drop)
        }),
    ]);
}

#[test]
fn what_no_model_can_produce_is_a_warning() {
    let beyond = gguf(&sentencepiece().key(number("tokenizer.ggml.padding_token_id", 270))).expect("sound");
    assert_eq!(beyond.specials().pad, None);
    assert!(beyond.warnings()[0].contains("padding_token_id is 270"), "{:?}", beyond.warnings());
}

#[test]
fn a_file_without_a_rule_is_cut_by_the_default() {
    let mut file = sentencepiece();
    file.keys[0] = text("tokenizer.ggml.model", "gpt2");
    let t = gguf(&file.key(strings("tokenizer.ggml.merges", &["a b"]))).expect("sound");
    assert!(t.warnings()[0].contains("tokenizer.ggml.pre is missing"), "{:?}", t.warnings());
    assert_eq!(t.encode("ab", false).expect("ids"), [t.id("ab").expect("a token")]);
}

#[test]
fn templates_for_other_purposes_are_read() {
    let file = sentencepiece()
        .key(text("tokenizer.chat_template", "a"))
        .key(strings("tokenizer.chat_templates", &["rag", "gone"]));
    let t = gguf(&file.key(text("tokenizer.chat_template.rag", "b"))).expect("sound");
    let others: Vec<(&str, &str)> = t.specials().other_templates.iter().map(|o| (&*o.name, &*o.source)).collect();
    assert_eq!((t.chat_template(), others), (Some("a"), vec![("rag", "b")]));
}
