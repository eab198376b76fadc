//! Bad tokenizer files and awkward texts, group T of the battery.

mod battery;
mod gguf_bytes;

use std::path::Path;

use battery::Expect::{Fine, Says};
use battery::{Expect, Row, row};
use gguf_bytes::{Bytes, array, key, number, strings, text};
use pare_format::gguf::Gguf;
use pare_format::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// The character for a byte in the byte-level alphabet.
fn spelled(byte: u8) -> char {
    let own = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let rank = || (0..byte).filter(|&b| !own(b)).count() as u32;
    if own(byte) { char::from(byte) } else { char::from_u32(256 + rank()).expect("a character") }
}

/// A sound byte-level tokenizer: all bytes, two merges, one special token.
fn sound() -> Value {
    let mut vocab: serde_json::Map<String, Value> = (0..=255_u8).map(|b| (spelled(b).to_string(), b.into())).collect();
    vocab.insert("he".into(), 256.into());
    vocab.insert("hel".into(), 257.into());
    vocab.insert("<|im_end|>".into(), 258.into());
    json!({
        "version": "1.0",
        "added_tokens": [{ "id": 258, "content": "<|im_end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "unk_token": null, "vocab": vocab, "merges": ["h e", "he l"] },
    })
}

fn read(json: &[u8]) -> Result<Tokenizer, String> {
    Tokenizer::from_json(Path::new("tokenizer.json"), json).map_err(|e| e.to_string())
}

/// The sound tokenizer with the value at a JSON pointer replaced.
fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut json = sound();
    match json.pointer_mut(pointer) {
        Some(slot) => *slot = value,
        None => {
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            json.pointer_mut(parent).expect("a parent")[name] = value;
        }
    }
    json.to_string().into_bytes()
}

fn changed(id: &'static str, expect: Expect, pointer: &'static str, value: Value) -> Row {
    row(id, expect, move || read(&with(pointer, value)).map(drop))
}

fn raw(id: &'static str, expect: Expect, bytes: impl FnOnce() -> Vec<u8> + Send + 'static) -> Row {
    row(id, expect, move || read(&bytes()).map(drop))
}

#[test]
fn sections() {
    battery::run(vec![
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
    battery::run(vec![
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
        changed("T02 unk unknown", Says(&["unk_token", "\"<unk>\""]), "/model/unk_token", json!("<unk>")),
        row("T03 rows", Says(&["a token with the id 258", "ids below 258"]), || {
            read(sound().to_string().as_bytes())?.check_rows(258).map_err(|e| e.to_string())
        }),
        row("T03 padded rows", Fine, || {
            read(sound().to_string().as_bytes())?.check_rows(512).map_err(|e| e.to_string())
        }),
        row("decode unknown id", Says(&["id 5000", "below 259"]), || {
            read(sound().to_string().as_bytes())?.decode(&[5000], false).map(drop).map_err(|e| e.to_string())
        }),
        row("config token", Says(&["tokenizer_config.json", "\"eos_token\"", "\"</s>\""]), || {
            let t = read(sound().to_string().as_bytes())?;
            t.with_config(Path::new("tokenizer_config.json"), br#"{"eos_token":"</s>"}"#)
                .map(drop)
                .map_err(|e| e.to_string())
        }),
        row("C06 list without default", Says(&["\"chat_template\"", "[\\\"a\\\"]", "default"]), || {
            let t = read(sound().to_string().as_bytes())?;
            let config = br#"{"chat_template":[{"name":"a","template":"x"}]}"#;
            let e = t.with_config(Path::new("c"), config).map(drop).map_err(|e| e.to_string());
            e.map_err(|e| e.replace("[\"a\"]", "[\\\"a\\\"]"))
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
    battery::run(vec![
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
        if t.decode(&ids, false).map_err(|e| e.to_string())? == text {
            Ok(())
        } else {
            Err("another text came back".into())
        }
    })
}

#[test]
fn long_texts() {
    battery::run(vec![
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
        assert_eq!(t.decode(&ids, true).expect("text"), text);
        let ids = t.encode(&text, true).expect("ids");
        assert!(ids.contains(&258));
        assert_eq!(t.decode(&ids, true).expect("text"), format!("{role}:  he"));
    }
    battery::run(vec![
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
        let parts: Vec<String> = ids.iter().map(|&id| stream.push(id).expect("text")).collect();
        assert!(!parts.concat().contains('\u{fffd}'), "{parts:?}");
        assert_eq!(parts.concat(), text);
        assert_eq!(stream.finish(), "");
        // Cut inside the last character.
        let mut stream = t.stream(false);
        let cut: String = ids[..ids.len() - 1].iter().map(|&id| stream.push(id).expect("text")).collect();
        assert!(text.starts_with(&cut) && !cut.contains('\u{fffd}'));
    }
    // A byte that can never become a character comes out at once, one that still could at the end.
    let mut stream = t.stream(false);
    assert_eq!(stream.push(0xff).expect("text"), "\u{fffd}");
    assert_eq!(stream.push(0xe4).expect("text"), "");
    assert_eq!(stream.push(b'a'.into()).expect("text"), "\u{fffd}a");
    assert_eq!(stream.push(0xe4).expect("text"), "");
    assert_eq!(stream.finish(), "\u{fffd}");
}

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
    assert_eq!(t.decode(&ids("ab é\n中"), true).expect("text"), "ab é\n中");
    assert!(t.add_bos() && t.bos() == Some(1));
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
    battery::run(vec![
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
        changed_key(
            "bos beyond",
            Says(&["\"tokenizer.ggml.bos_token_id\"", "id 270", "below 270"]),
            4,
            Some(number("tokenizer.ggml.bos_token_id", 270)),
        ),
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
            "T09 no pre",
            Says(&["\"tokenizer.ggml.pre\"", "is missing"]),
            0,
            Some(text("tokenizer.ggml.model", "gpt2")),
        ),
        row("T09 pre", Says(&["\"tokenizer.ggml.pre\"", "\"magic\"", "smollm", "llama-bpe"]), || {
            let mut file = sentencepiece().key(text("tokenizer.ggml.pre", "magic"));
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

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn text_comes_back(text in "\\PC*|[\\x00-\\u{10ffff}]{0,40}|( |h|e|l|\\n){0,60}") {
        thread_local!(static TOKENIZER: Tokenizer = read(sound().to_string().as_bytes()).expect("sound"));
        TOKENIZER.with(|t| {
            let ids = t.encode(&text, false).expect("ids");
            proptest::prop_assert_eq!(t.decode(&ids, false).expect("text"), text);
            Ok(())
        })?;
    }
}
