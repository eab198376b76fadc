//! Bad tokenizer files and awkward texts, group T of the battery.

mod rows;
mod sound;

use std::path::Path;

use pare_format::tokenizer::Tokenizer;
use rows::Expect::{Fine, Says};
use rows::{Expect, Row, row};
use serde_json::{Value, json};
use sound::{read, sound, with};

fn changed(id: &'static str, expect: Expect, pointer: &'static str, value: Value) -> Row {
    row(id, expect, move || read(&with(pointer, value)).map(drop))
}

fn raw(id: &'static str, expect: Expect, bytes: impl FnOnce() -> Vec<u8> + Send + 'static) -> Row {
    row(id, expect, move || read(&bytes()).map(drop))
}

#[test]
fn sections() {
    rows::run(vec![
        raw("sound", Fine, || sound().to_string().into_bytes()),
        raw("T01 empty", Says(&["tokenizer.json", "EOF", "line 1 column 0"]), Vec::new),
        raw("T01 truncated", Says(&["tokenizer.json", "EOF", "column"]), || {
            let mut b = sound().to_string().into_bytes();
            b.truncate(b.len() / 2);
            b
        }),
        raw("T01 list", Says(&["a list of 0", "an object"]), || b"[]".to_vec()),
        raw("T01 tail", Says(&["trailing characters"]), || [sound().to_string().as_bytes(), b"x"].concat()),
        raw("T01 same key", Says(&["key \"a\" occurs twice inside \"vocab\""]), || {
            br#"{"model":{"vocab":{"a":0,"a":1}}}"#.to_vec()
        }),
        raw("T01 deep", Says(&["nested deeper than 64"]), || [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        raw("T06 lone surrogate", Says(&["hex escape", "line 1 column"]), || br#"{"version":"\ud800"}"#.to_vec()),
        raw("T06 not UTF-8", Says(&["not valid JSON", "invalid unicode"]), || b"{\"version\":\"\xff\"}".to_vec()),
        changed("T01 version", Says(&["\"version\"", "\"2.0\"", "\"1.0\""]), "/version", json!("2.0")),
        changed("T01 vocab", Says(&["\"model.vocab\"", "a list of 0", "an object"]), "/model/vocab", json!([])),
        changed("T01 id text", Says(&["model.vocab[", "the string \"7\"", "integer"]), "/model/vocab/he", json!("7")),
        changed("T01 merges", Says(&["\"model.merges\"", "an object of 0", "a list"]), "/model/merges", json!({})),
        changed(
            "T01 merge 1",
            Says(&["\"model.merges[1]\"", "the number 7", "two tokens"]),
            "/model/merges/1",
            json!(7),
        ),
        changed("T01 merge of three", Says(&["\"model.merges[0]\"", "two tokens"]), "/model/merges/0", json!("h e l")),
        changed("T01 merge of one", Says(&["\"model.merges[0]\"", "two tokens"]), "/model/merges/0", json!(["h"])),
        changed("T01 added", Says(&["\"added_tokens[0].id\"", "null", "integer"]), "/added_tokens/0/id", json!(null)),
        changed("T01 flag", Says(&["\"added_tokens[0].lstrip\"", "the number 1"]), "/added_tokens/0/lstrip", json!(1)),
        changed("T01 unk", Says(&["\"model.unk_token\"", "the number 1"]), "/model/unk_token", json!(1)),
        changed("T01 dropout", Says(&["\"model.dropout\"", "0.1", "random"]), "/model/dropout", json!(0.1)),
        changed(
            "T01 prefix",
            Says(&["continuing_subword_prefix", "##"]),
            "/model/continuing_subword_prefix",
            json!("##"),
        ),
        changed(
            "T09 model",
            Says(&["\"model.type\"", "\"Unigram\"", "supported: BPE"]),
            "/model/type",
            json!("Unigram"),
        ),
        changed(
            "T09 pre",
            Says(&["\"pre_tokenizer.type\"", "\"Magic\"", "ByteLevel"]),
            "/pre_tokenizer/type",
            json!("Magic"),
        ),
        changed(
            "T09 inner",
            Says(&["\"pre_tokenizer.pretokenizers[1].type\"", "\"Magic\""]),
            "/pre_tokenizer",
            json!({ "type": "Sequence", "pretokenizers": [{ "type": "Digits", "individual_digits": true }, { "type": "Magic" }] }),
        ),
        changed(
            "T09 no type",
            Says(&["\"pre_tokenizer.type\"", "null"]),
            "/pre_tokenizer",
            json!({ "use_regex": true }),
        ),
        changed(
            "T09 field",
            Says(&["\"pre_tokenizer\"", "individual_digits"]),
            "/pre_tokenizer",
            json!({ "type": "Digits" }),
        ),
        changed("T09 decoder", Says(&["\"decoder.type\"", "\"CTC\"", "ByteLevel"]), "/decoder/type", json!("CTC")),
        changed("T09 no decoder", Says(&["\"decoder\"", "no decoder"]), "/decoder", json!(null)),
        changed(
            "T09 normalizer",
            Says(&["\"normalizer.type\"", "\"Precompiled\""]),
            "/normalizer",
            json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }),
        ),
        changed(
            "T09 post",
            Says(&["\"post_processor.type\"", "\"Magic\""]),
            "/post_processor",
            json!({ "type": "Magic" }),
        ),
        changed(
            "post token",
            Says(&["\"post_processor\"", "\"<s>\"", "token of the vocabulary"]),
            "/post_processor",
            json!({ "type": "TemplateProcessing", "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }], "pair": [], "special_tokens": {} }),
        ),
    ]);
}

#[test]
fn ids_and_merges() {
    rows::run(vec![
        changed(
            "T02 missing half",
            Says(&["\"model.merges[0]\"", "\"zz\"", "token"]),
            "/model/merges/0",
            json!(["zz", "e"]),
        ),
        changed(
            "T02 missing union",
            Says(&["\"model.merges[0]\"", "needs the token \"eh\""]),
            "/model/merges/0",
            json!("e h"),
        ),
        changed("T02 same id", Says(&["model.vocab[", "id 7 belongs to"]), "/model/vocab/he", json!(7)),
        changed("T02 hole", Fine, "/model/vocab/<|im_start|>", json!(300)),
        changed(
            "T02 2^32",
            Says(&["model.vocab[", "4294967296", "4294967295"]),
            "/model/vocab/he",
            json!(4_294_967_296_u64),
        ),
        changed(
            "T02 far id",
            Says(&["model.vocab[", "4000000000", "4194303"]),
            "/model/vocab/he",
            json!(4_000_000_000_u32),
        ),
        changed("T02 negative", Says(&["model.vocab[", "the number -1"]), "/model/vocab/he", json!(-1)),
        changed("T02 fraction", Says(&["model.vocab[", "1.5"]), "/model/vocab/he", json!(1.5)),
        changed(
            "T02 added elsewhere",
            Says(&["\"added_tokens[0]\"", "has the id 400", "258"]),
            "/added_tokens/0/id",
            json!(400),
        ),
        changed(
            "T02 added far",
            Says(&["\"added_tokens[0]\"", "4000000000"]),
            "/added_tokens/0/id",
            json!(4_000_000_000_u32),
        ),
        changed(
            "T02 added empty",
            Says(&["\"added_tokens[0].content\"", "0 bytes"]),
            "/added_tokens/0/content",
            json!(""),
        ),
        changed("T02 unk unknown", Fine, "/model/unk_token", json!("<unk>")),
        row("T03 rows", Says(&["a token with the id 258", "ids below 258"]), || {
            read(sound().to_string().as_bytes())?.check_rows(258).map_err(|e| e.to_string())
        }),
        row("T03 padded rows", Fine, || {
            read(sound().to_string().as_bytes())?.check_rows(512).map_err(|e| e.to_string())
        }),
        row("C06 list with default", Fine, || {
            let t = read(sound().to_string().as_bytes())?;
            let config = br#"{"eos_token":{"content":"<|im_end|>"},"chat_template":[{"name":"a","template":"x"},{"name":"default","template":"y"}]}"#;
            let t = t.with_config(Path::new("c"), config).map_err(|e| e.to_string())?;
            assert_eq!((t.chat_template(), t.eos(), t.eot()), (Some("y"), Some(258), Some(258)));
            Ok(())
        }),
    ]);
}

fn split_on(pattern: &str) -> Vec<u8> {
    let stage = json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    with("/pre_tokenizer", json!({ "type": "Sequence", "pretokenizers": [stage, bytes] }))
}

fn pattern(id: &'static str, expect: Expect, pattern: impl Into<String>) -> Row {
    let file = split_on(&pattern.into());
    row(id, expect, move || {
        let t = read(&file)?;
        let text = ["a".repeat(60_000), "b".into()].concat();
        t.encode(&text, false).map(drop).map_err(|e| e.to_string())
    })
}

#[test]
fn patterns() {
    rows::run(vec![
        pattern("T04 nested", Says(&["pretokenizers[0].pattern.Regex", "(a+)+$", "repetition inside"]), "(a+)+$"),
        pattern("T04 1 MB", Says(&["pattern of 1048576 bytes", "16384"]), "a".repeat(1 << 20)),
        pattern("T04 groups", Says(&["64 nested groups"]), "(".repeat(10_000)),
        pattern("T04 invalid", Says(&["\"pre_tokenizer\""]), "[a-"),
        pattern("T04 look-ahead", Says(&["look-ahead"]), "(?=(a+))b"),
        pattern("T04 counts", Says(&["count above 256"]), "(?:a{200}){999}"),
        pattern("T04 product of counts", Says(&["\"pre_tokenizer\""]), r"(?:(?:\p{L}{250}){250}){250}"),
        pattern("T04 linear", Fine, r"\p{L}+|[^\p{L}]+"),
        pattern("T04 quadratic search", Fine, "a.*c|a"),
        row(
            "T04 longer than a pattern of unknown cost may see",
            Says(&["text of 70000 bytes", "at most 65536"]),
            || read(&split_on("a.*c|a"))?.encode(&"a".repeat(70_000), false).map(drop).map_err(|e| e.to_string()),
        ),
        row("T04 a million a and a b", Fine, || {
            let t = read(sound().to_string().as_bytes())?;
            let text = ["a".repeat(1_000_000), "b".into()].concat();
            let ids = t.encode(&text, false).map_err(|e| e.to_string())?;
            assert_eq!(ids.len(), 1_000_001);
            Ok(())
        }),
    ]);
}

/// `text` is encoded and comes back.
fn long(id: &'static str, make: impl FnOnce() -> String + Send + 'static) -> Row {
    row(id, Fine, move || {
        let t = read(sound().to_string().as_bytes())?;
        let text = make();
        let ids = t.encode(&text, false).map_err(|e| e.to_string())?;
        if t.decode(&ids, false) == text { Ok(()) } else { Err("another text came back".into()) }
    })
}

#[test]
fn long_texts() {
    rows::run(vec![
        long("T06 10^7 equal letters", || "h".repeat(10_000_000)),
        long("T06 spaces", || " ".repeat(2_000_000)),
        long("T06 no spaces", || "hello".repeat(1_000_000)),
        long("T06 combining marks", || "\u{301}".repeat(1_000_000)),
        long("T06 NUL", || "\0".repeat(2_000_000)),
        long("T06 letters and spaces", || "he he".repeat(400_000)),
        long("T06 line breaks", || "\r\n".repeat(500_000)),
        row("T07 expansion", Says(&["text to encode", "normalised text", "at most 4 per byte"]), || {
            let t = read(&with("/normalizer", json!({ "type": "NFKC" })))?;
            t.encode(&"\u{fdfa}".repeat(1_000_000), false).map(drop).map_err(|e| e.to_string())
        }),
        row("T07 growth of replacements", Says(&["\"normalizer\"", "times longer", "at most 64"]), || {
            let replace = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "a".repeat(60) });
            read(&with("/normalizer", json!({ "type": "Sequence", "normalizers": [replace, replace] }))).map(drop)
        }),
        row("T07 long replacement", Says(&["\"normalizer.content\"", "1000000 bytes"]), || {
            let replace = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "a".repeat(1_000_000) });
            read(&with("/normalizer", replace)).map(drop)
        }),
    ]);
}

#[test]
fn special_text_is_text() {
    for role in ["system", "user", "assistant", "tool"] {
        let t = read(sound().to_string().as_bytes()).expect("sound");
        let text = format!("{role}: <|im_end|> he");
        let ids = t.encode(&text, false).expect("ids");
        assert!(!ids.contains(&258), "{role}");
        assert_eq!(t.decode(&ids, true), text);
        let ids = t.encode(&text, true).expect("ids");
        assert!(ids.contains(&258));
        assert_eq!(t.decode(&ids, true), format!("{role}:  he"));
    }
    rows::run(vec![
        // The whole word is a token by the model's own vocabulary: `ignore_merges` would find it.
        row("T08 through the vocabulary", Says(&["plain text", "special token \"hello\""]), || {
            let mut json: Value = serde_json::from_slice(&with("/model/ignore_merges", json!(true))).expect("JSON");
            json["model"]["vocab"]["hello"] = json!(259);
            json["added_tokens"][0] = json!({ "id": 259, "content": "hello", "special": true });
            let t = read(json.to_string().as_bytes())?;
            t.encode("(hello)", false).map(drop).map_err(|e| e.to_string())
        }),
    ]);
}

#[test]
fn streams_hold_back_incomplete_characters() {
    let t = read(sound().to_string().as_bytes()).expect("sound");
    for text in ["é", "中文", "👨‍👩‍👧", "a\u{301}", "ab"] {
        let ids = t.encode(text, false).expect("ids");
        let mut stream = t.stream(false);
        let parts: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
        assert!(!parts.concat().contains('\u{fffd}'), "{parts:?}");
        assert_eq!(parts.concat(), text);
        assert_eq!(stream.finish(), "");
        // Cut inside the last character.
        let mut stream = t.stream(false);
        let cut: String = ids[..ids.len() - 1].iter().map(|&id| stream.push(id)).collect();
        assert!(text.starts_with(&cut) && !cut.contains('\u{fffd}'));
    }
    // A byte that can never become a character comes out at once, one that still could at the end.
    let mut stream = t.stream(false);
    assert_eq!(stream.push(0xff), "\u{fffd}");
    assert_eq!(stream.push(0xe4), "");
    assert_eq!(stream.push(b'a'.into()), "\u{fffd}a");
    assert_eq!(stream.push(0xe4), "");
    assert_eq!(stream.finish(), "\u{fffd}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn text_comes_back(text in "\\PC*|[\\x00-\\u{10ffff}]{0,40}|( |h|e|l|\\n){0,60}") {
        thread_local!(static TOKENIZER: Tokenizer = read(sound().to_string().as_bytes()).expect("sound"));
        TOKENIZER.with(|t| {
            let ids = t.encode(&text, false).expect("ids");
            proptest::prop_assert_eq!(t.decode(&ids, false), text);
            Ok(())
        })?;
    }
}
