//! The bytes of every token, by id.

use tokenizers::AddedToken;

use crate::gguf::Strings;

/// How the text of a token stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Each character stands for one byte, as in GPT-2.
    ByteLevel,
    /// Sentencepiece: `▁` is a space, `<0x0A>` one byte.
    Pieces {
        /// The encoder puts a space in front, so the decoder takes one away.
        strip_space: bool,
        /// `<0x0A>` is a byte and not text.
        byte_tokens: bool,
    },
}

/// The bytes of every token, by id; ids may be absent.
#[derive(Clone, Debug)]
pub(super) struct Table {
    bytes: Strings,
    present: Vec<bool>,
    pub(super) style: Style,
}

impl Table {
    /// `vocab` in the encoded form, `added` as plain text. Ids must have been checked against the limit.
    pub(super) fn new(vocab: &[(String, u32)], added: &[(u32, AddedToken)], style: Style) -> Self {
        let highest = vocab.iter().map(|v| v.1).chain(added.iter().map(|a| a.0)).max();
        let size = highest.map_or(0, |id| id as usize + 1);
        let mut texts: Vec<Option<(&str, bool)>> = vec![None; size];
        for (text, id) in vocab {
            if let Some(slot) = texts.get_mut(*id as usize) {
                *slot = Some((text, false));
            }
        }
        for (id, token) in added {
            if let Some(slot) = texts.get_mut(*id as usize) {
                *slot = Some((&token.content, true));
            }
        }
        let mut bytes = Strings::default();
        let mut buffer = Vec::new();
        for text in &texts {
            buffer.clear();
            match text {
                Some((text, true)) if style == Style::ByteLevel => buffer.extend_from_slice(text.as_bytes()),
                Some((text, true)) => buffer.extend_from_slice(text.replace('▁', " ").as_bytes()),
                Some((text, false)) => style.decode(text, &mut buffer),
                None => {}
            }
            bytes.push(&buffer);
        }
        Self { bytes, present: texts.iter().map(Option::is_some).collect(), style }
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        if *self.present.get(id)? { self.bytes.get(id) } else { None }
    }

    /// One more than the highest id.
    pub(super) fn len(&self) -> usize {
        self.present.len()
    }
}

impl Style {
    fn decode(self, text: &str, out: &mut Vec<u8>) {
        match self {
            Self::ByteLevel => {
                let start = out.len();
                for c in text.chars() {
                    match byte_of(c) {
                        Some(byte) => out.push(byte),
                        None => {
                            // Not of the alphabet: then all of it is plain text.
                            out.truncate(start);
                            out.extend_from_slice(text.as_bytes());
                            return;
                        }
                    }
                }
            }
            Self::Pieces { byte_tokens, .. } => match byte_token(text) {
                Some(byte) if byte_tokens => out.push(byte),
                _ => out.extend_from_slice(text.replace('▁', " ").as_bytes()),
            },
        }
    }
}

/// The byte of a token such as `<0x0A>`: exactly two upper-case digits.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if hex.len() == 2 && hex.bytes().all(upper) { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// The byte that a character of the byte-level alphabet stands for: printable Latin-1 stands for itself, the other 68 bytes
/// are numbered upwards from U+0100.
pub(super) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        n @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(n).ok(),
        n @ 0x100..=0x120 => u8::try_from(n - 0x100).ok(),
        n @ 0x121..=0x142 => u8::try_from(n - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_a_bijection() {
        let mut seen: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        assert_eq!(seen.len(), 256);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 256);
        assert_eq!(
            (byte_of('Ġ'), byte_of('Ċ'), byte_of('é'), byte_of('Ń')),
            (Some(b' '), Some(b'\n'), Some(0xe9), Some(0xad))
        );
    }

    #[test]
    fn byte_tokens_are_strict() {
        assert_eq!((byte_token("<0x0A>"), byte_token("<0xFF>")), (Some(10), Some(255)));
        for bad in ["<0x-1>", "<0xZZ>", "<0x100>", "<0x0a>", "<0xA>", "0x0A", "<0x+A>"] {
            assert_eq!(byte_token(bad), None, "{bad}");
        }
    }
}
