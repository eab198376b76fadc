//! What stands beside the vocabulary: post-processors, `tokenizer_config.json`, ends, and what a GGUF file can say of them.

mod sound;

use std::path::Path;

use pare_format::gguf::{Gguf, GgufWriter, Value as GgufValue};
use pare_format::tokenizer::{Tokenizer, generation_ends};
use serde_json::{Value, json};
use sound::{sound, with};

const A: u32 = b'a' as u32;

/// The sound tokenizer with the control tokens `<s>` 259 and `</s>` 260 beside `<|im_end|>` 258, and this post-processor.
fn post(post_processor: Value) -> Value {
    let mut json = sound();
    for (id, text) in [(259, "<s>"), (260, "</s>")] {
        let token = json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
        json["added_tokens"].as_array_mut().expect("a list").push(token);
    }
    json["post_processor"] = post_processor;
    json
}

fn read(json: &Value) -> Result<Tokenizer, String> {
    sound::read(json.to_string().as_bytes())
}

fn configured(json: &Value, config: &Value) -> Tokenizer {
    let file = Path::new("tokenizer_config.json");
    read(json).expect("sound").with_config(file, config.to_string().as_bytes()).expect("a configuration")
}

fn template(front: &[&str], back: &[&str]) -> Value {
    let ids = json!({ "<s>": 259, "</s>": 260, "<|im_end|>": 258 });
    let special = |text: &&str| json!({ "SpecialToken": { "id": text, "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let single: Vec<Value> = front.iter().map(special).chain([text]).chain(back.iter().map(special)).collect();
    let listed = front
        .iter()
        .chain(back)
        .map(|text| (text.to_string(), json!({ "id": text, "ids": [ids[text]], "tokens": [text] })));
    json!({ "type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": listed.collect::<serde_json::Map<_, _>>() })
}

/// The tokenizer as a GGUF file says it, and what that file says differently.
fn through_gguf(t: &Tokenizer, ends: &[u32]) -> (Tokenizer, Vec<String>) {
    let described = t.gguf_metadata(t.vocab_size(), ends).expect("rules with a name");
    let path = Path::new("written.gguf");
    let file = GgufWriter::new(path, Vec::new(), &described.keys, &[]).and_then(GgufWriter::finish).expect("a file");
    let again = Gguf::parse(path, &file).and_then(|gguf| Tokenizer::from_gguf(&gguf)).expect("read back");
    (again, described.notes)
}

#[test]
fn pythons_numbers_do_not_keep_side_files_from_being_read() {
    let config = br#"{"model_max_length": Infinity, "odd": [NaN, -Infinity], "eos_token": "<|im_end|>"}"#;
    let tokenizer = read(&post(json!(null))).unwrap().with_config(Path::new("tokenizer_config.json"), config).unwrap();
    assert_eq!(tokenizer.specials().eos, Some(258));
    let ends = |text: &[u8]| generation_ends(Path::new("generation_config.json"), text, 261);
    assert_eq!(ends(br#"{"eos_token_id": [258], "temperature": NaN, "penalty": -Infinity}"#), (vec![258], Vec::new()));
    let (none, warnings) = ends(br#"{"eos_token_id": Infinity}"#);
    assert!(
        none.is_empty() && warnings[0].contains("eos_token_id") && warnings[0].contains("Infinity"),
        "{warnings:?}"
    );
}

#[test]
fn a_prompt_has_the_ids_of_the_post_processor() {
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true });
    let pair = |kind: &str| json!({ "type": kind, "sep": ["</s>", 260], "cls": ["<s>", 259], "trim_offsets": true, "add_prefix_space": false });
    let sequence = |list: &[Value]| json!({ "type": "Sequence", "processors": list });
    let none = json!({});
    let bos = json!({ "bos_token": "<|im_end|>" });
    let flags = |class: &str, front: bool, back: bool| json!({ "tokenizer_class": class, "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": front, "add_eos_token": back });
    let fast = |front, back| flags("PreTrainedTokenizerFast", front, back);
    let s = || template(&["<s>"], &[]);
    for (name, processor, config, ids) in [
        ("none", json!(null), &none, vec![A]),
        ("front", s(), &none, vec![259, A]),
        ("two in front", template(&["<s>", "<|im_end|>"], &[]), &none, vec![259, 258, A]),
        ("behind", template(&[], &["</s>"]), &none, vec![A, 260]),
        ("both", template(&["<s>"], &["</s>"]), &none, vec![259, A, 260]),
        ("Llama 3", sequence(&[bytes, s()]), &none, vec![259, A]),
        ("one around the other", sequence(&[s(), template(&["</s>"], &["</s>"])]), &none, vec![260, 259, A, 260]),
        ("Roberta", pair("RobertaProcessing"), &none, vec![259, A, 260]),
        ("Bert", pair("BertProcessing"), &none, vec![259, A, 260]),
        ("another bos", s(), &bos, vec![259, A]),
        ("flags against it", s(), &fast(false, true), vec![259, A]),
        ("flags without it", json!(null), &fast(true, false), vec![A]),
        ("a class that follows flags", s(), &flags("LlamaTokenizerFast", false, true), vec![A, 260]),
        ("the same from nothing", json!(null), &flags("LlamaTokenizer", true, false), vec![259, A]),
    ] {
        let t = configured(&post(processor), config);
        assert_eq!(t.encode_prompt("a", false).expect("ids"), ids, "{name}");
        assert_eq!(t.encode("a", false).expect("ids"), [A], "{name}");
        // A directory that is written says the same.
        let files = t.hf_files().expect("files");
        let again = Tokenizer::from_json(Path::new("tokenizer.json"), &files[0].1).expect("read back");
        let again = again.with_config(Path::new("tokenizer_config.json"), &files[1].1).expect("read back");
        assert_eq!(again.encode_prompt("a", false).expect("ids"), ids, "{name}, written");
        let flags = String::from_utf8_lossy(&files[1].1).contains("add_bos_token");
        assert_eq!(flags, !["two in front", "one around the other", "another bos"].contains(&name), "{name}");
        // So does a GGUF file, or it says that it cannot.
        let (again, notes) = through_gguf(&t, &[]);
        assert!(
            again.encode_prompt("a", false).expect("ids") == ids || notes.iter().any(|n| n.contains("can say")),
            "{name}: {notes:?}"
        );
    }
    let warned = configured(&post(s()), &fast(false, false));
    assert!(warned.warnings()[0].contains("add_bos_token is false"), "{:?}", warned.warnings());
    let beyond = json!({ "type": "BertProcessing", "sep": ["x", 999], "cls": ["x", 259] });
    assert!(read(&post(beyond)).is_err_and(|e| e.contains("the id 999")));
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let twice = json!({ "type": "TemplateProcessing", "single": [text, text], "pair": [], "special_tokens": {} });
    assert!(read(&post(twice)).is_err_and(|e| e.contains("the text once")));
}

#[test]
fn tokens_that_the_vocabulary_lacks_are_warnings() {
    for key in ["bos_token", "eos_token", "unk_token", "pad_token"] {
        let t = configured(&sound(), &json!({ key: "[LACKS]" }));
        assert!(t.warnings()[0].contains(key) && t.warnings()[0].contains("[LACKS]"), "{:?}", t.warnings());
    }
    let t =
        Tokenizer::from_json(Path::new("tokenizer.json"), &with("/model/unk_token", json!("<unk>"))).expect("sound");
    assert!(t.warnings()[0].contains("\"<unk>\""), "{:?}", t.warnings());
}

#[test]
fn templates_have_names() {
    let list = |names: &[&str]| json!({ "chat_template": names.iter().map(|name| json!({ "name": name, "template": name })).collect::<Vec<_>>() });
    let t = configured(&sound(), &list(&["tool_use", "rag"]));
    let names = |t: &Tokenizer| t.specials().other_templates.iter().map(|other| other.name.clone()).collect::<Vec<_>>();
    assert_eq!((t.chat_template(), names(&t)), (None, vec!["rag".to_owned(), "tool_use".to_owned()]));
    let t = configured(&sound(), &list(&["rag", "default"]));
    assert_eq!((t.chat_template(), names(&t)), (Some("default"), vec!["rag".to_owned()]));
    // What is wrong with a template is said of the file that holds it.
    assert_eq!(t.template_file(), configured(&sound(), &json!({ "chat_template": "x" })).template_file());
    assert_ne!(t.template_file(), t.file());
    assert_eq!(read(&sound()).expect("sound").template_file(), t.file());
    let own = read(&sound()).expect("sound").with_chat_template(Path::new("chat_template.jinja"), "x".to_owned());
    assert_eq!(own.template_file(), Path::new("chat_template.jinja"));
    let files = t.hf_files().expect("files");
    let again = read(&sound()).expect("sound").with_config(Path::new("c"), &files[1].1).expect("read back");
    assert_eq!(again.specials(), t.specials());
    let t = t.with_named_template(Path::new("chat_template.jinja"), "rag", "new".to_owned());
    assert_eq!(t.specials().other_templates[0].source, "new");
    let (again, _) = through_gguf(&t, &[]);
    assert_eq!(again.specials(), t.specials());
}

#[test]
fn ends_survive_a_gguf_file() {
    // `<|im_end|>` and `</s>` are known by their texts; `a` and `b` are not, and `c` finds no key any more.
    let t = configured(&post(json!(null)), &json!({ "eos_token": "<s>" }));
    assert_eq!(t.ends(), [258, 259, 260]);
    let ends = [A, A + 1, 258, 259, 260];
    let (again, notes) = through_gguf(&t, &ends);
    assert_eq!((again.ends(), notes), (ends.to_vec(), Vec::new()));
    let (again, notes) = through_gguf(&t, &[A, A + 1, A + 2, 258, 259, 260]);
    assert_eq!(again.ends(), ends);
    assert!(notes[0].contains("\"c\""), "{notes:?}");
}

#[test]
fn generation_config_names_ends() {
    let file = Path::new("generation_config.json");
    let read = |text: &str| generation_ends(file, text.as_bytes(), 300);
    assert_eq!(read(r#"{"eos_token_id": [2, 7]}"#), (vec![2, 7], Vec::new()));
    assert_eq!(read("\u{feff}{\"eos_token_id\": 2}"), (vec![2], Vec::new()));
    assert_eq!(read(r#"{"eos_token_id": null}"#), (Vec::new(), Vec::new()));
    for (text, ends, says) in [
        (r#"{"eos_token_id": [2, 300]}"#, &[2][..], "ids below 300"),
        (r#"{"eos_token_id": "x"}"#, &[][..], "not used"),
        (r#"{"eos_token_id": [-1]}"#, &[][..], "not used"),
        ("{", &[][..], "not used"),
    ] {
        let (found, warnings) = read(text);
        assert_eq!(found, ends, "{text}");
        assert!(warnings[0].contains(says), "{text}: {warnings:?}");
    }
}

#[test]
fn where_ids_can_change_is_noted() {
    let added = |key: &str| {
        let mut json = sound();
        json["added_tokens"][0][key] = json!(true);
        json
    };
    for (json, says) in [
        (added("lstrip"), Some("white space")),
        (added("rstrip"), Some("white space")),
        (added("single_word"), Some("whole words")),
        (added("normalized"), None),
        (sound(), None),
    ] {
        let notes = through_gguf(&read(&json).expect("sound"), &[]).1;
        match says {
            Some(says) => assert!(notes.len() == 1 && notes[0].contains(says), "{notes:?}"),
            None => assert_eq!(notes, [""; 0]),
        }
    }
    // Rules that compose, and that the format has a name for.
    let mut described = read(&sound()).expect("sound").gguf_metadata(259, &[]).expect("a name");
    let pre = described.keys.iter_mut().find(|(key, _)| key == "tokenizer.ggml.pre").expect("the rules");
    pre.1 = GgufValue::text("qwen2");
    let path = Path::new("qwen2.gguf");
    let file = GgufWriter::new(path, Vec::new(), &described.keys, &[]).and_then(GgufWriter::finish).expect("a file");
    let qwen = Gguf::parse(path, &file).and_then(|gguf| Tokenizer::from_gguf(&gguf)).expect("read back");
    let notes = through_gguf(&qwen, &[]).1;
    assert!(notes.len() == 1 && notes[0].contains("llama.cpp does not compose"), "{notes:?}");
    let mut composed = sound();
    composed["normalizer"] = json!({ "type": "NFC" });
    let notes = through_gguf(&read(&composed).expect("sound"), &[]).1;
    assert!(notes.len() == 1 && notes[0].contains("NFC"), "{notes:?}");
}

#[test]
fn spaces_in_front_survive_or_are_noted() {
    let replace = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    let prepend = json!({ "type": "Prepend", "prepend": "▁" });
    let both = json!({ "type": "Sequence", "normalizers": [prepend, replace(" ", "▁")] });
    let metaspace =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
    let at_spaces =
        json!({ "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false });
    for (normalizer, pre_tokenizer, noted) in [
        (both, json!(null), false),
        (replace(" ", "▁"), json!(null), false),
        (replace(" ", "▁"), at_spaces, false),
        (json!(null), metaspace("never"), false),
        (json!(null), metaspace("first"), true),
        (json!(null), metaspace("always"), true),
    ] {
        let tool = json!({ "id": 4, "content": "<t>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false });
        let t = read(&json!({
            "version": "1.0",
            "added_tokens": [tool],
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": [replace("▁", " "), { "type": "ByteFallback" }, { "type": "Fuse" }] },
            "model": { "type": "BPE", "unk_token": "<unk>", "vocab": { "<unk>": 0, "▁": 1, "a": 2, "▁a": 3 }, "merges": ["▁ a"] },
        }));
        let t = t.expect("sound");
        let (again, notes) = through_gguf(&t, &[]);
        let same = ["a", "a a", " a", "<t>a", "<t> a"]
            .iter()
            .all(|text| t.encode(text, false).ok() == again.encode(text, false).ok());
        // No token stands for a single byte here.
        let (bytes, others): (Vec<_>, Vec<_>) =
            notes.iter().partition(|note| note.contains("256 of the 256 single bytes"));
        assert_eq!((same, others.len(), bytes.len()), (!noted, usize::from(noted), 1), "{notes:?}");
    }
}

#[test]
fn an_id_without_a_token_is_no_text() {
    let t = read(&sound()).expect("sound");
    assert_eq!(t.decode(&[A, 5000, u32::MAX, A + 1], false), "ab");
}

#[test]
fn what_is_no_tokenizer_is_named() {
    let read =
        |bytes: &[u8]| Tokenizer::from_json(Path::new("tokenizer.json"), bytes).map(drop).map_err(|e| e.to_string());
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n";
    assert!(read(pointer).is_err_and(|e| e.contains("Git LFS pointer") && e.contains("git lfs pull")));
    assert!(read(b"<!DOCTYPE html>").is_err_and(|e| e.contains("HTML page")));
    let marked = [b"\xef\xbb\xbf", sound().to_string().as_bytes()].concat();
    let t = Tokenizer::from_json(Path::new("tokenizer.json"), &marked).expect("a byte order mark is no part of it");
    assert_eq!(t.to_json().expect("JSON"), sound().to_string().as_bytes());
}
