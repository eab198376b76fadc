//! Entry point for fuzzing: read a tokenizer, use it, and hold it to what it promises.

use std::path::Path;

use super::Tokenizer;
use crate::gguf::Gguf;

const TEXTS: &[&str] = &[
    "",
    "a",
    " the  cat\tsat\r\n",
    "<|im_end|><s></s>",
    "é\u{301}😀\0\u{202e}中文12345",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Reads arbitrary bytes as a GGUF file or a `tokenizer.json`. A tokenizer that is accepted must give ids that it can decode,
/// the same text one by one as at once, no special id for plain text, and the same ids after it was written and read again.
///
/// # Panics
/// When one of these does not hold: that is a bug.
pub fn fuzz(bytes: &[u8]) {
    let file = Path::new("fuzz");
    let tokenizer = if bytes.starts_with(b"GGUF") {
        Gguf::parse(file, bytes).and_then(|gguf| Tokenizer::from_gguf(&gguf))
    } else {
        Tokenizer::from_json(file, bytes)
    };
    let Ok(tokenizer) = tokenizer else { return };
    let again = tokenizer.to_json().and_then(|json| Tokenizer::from_json(file, &json));
    assert!(again.is_ok(), "{again:?}");
    for text in TEXTS {
        let Ok(ids) = tokenizer.encode(text, false) else { continue };
        assert!(ids.iter().all(|&id| tokenizer.token(id).is_some()));
        assert!(ids.iter().all(|&id| !tokenizer.is_special(id) || Some(id) == tokenizer.unk));
        let whole = tokenizer.decode(&ids, false);
        let mut stream = tokenizer.stream(false);
        let mut parts: String = ids.iter().map(|&id| stream.push(id)).collect();
        parts.push_str(&stream.finish());
        assert_eq!(whole, parts);
        for allow in [false, true] {
            let (a, b) =
                (tokenizer.encode(text, allow).ok(), again.as_ref().ok().and_then(|t| t.encode(text, allow).ok()));
            assert_eq!(a, b, "{text:?}");
        }
    }
    assert!(tokenizer.check_rows(tokenizer.vocab_size()).is_ok());
}
