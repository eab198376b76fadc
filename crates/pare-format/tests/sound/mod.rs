//! A small tokenizer that is sound, to be changed by tests.

use std::path::Path;

use pare_format::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// The character for a byte in the byte-level alphabet.
fn spelled(byte: u8) -> char {
    let own = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let rank = || (0..byte).filter(|&b| !own(b)).count() as u32;
    if own(byte) { char::from(byte) } else { char::from_u32(256 + rank()).expect("a character") }
}

/// A sound byte-level tokenizer: all bytes, two merges, one special token.
pub(crate) fn sound() -> Value {
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

pub(crate) fn read(json: &[u8]) -> Result<Tokenizer, String> {
    Tokenizer::from_json(Path::new("tokenizer.json"), json).map_err(|e| e.to_string())
}

/// The sound tokenizer with the value at a JSON pointer replaced.
pub(crate) fn with(pointer: &str, value: Value) -> Vec<u8> {
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
