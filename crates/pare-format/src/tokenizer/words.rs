//! Splits text into the words of a byte-level model, on plain slices.
//!
//! The library's own splitting carries offsets for every byte and is ten times slower. The stages that byte-level models use are
//! few, so they are run here; a tokenizer with any other stage takes the library's way.

use serde_json::Value;
use tokenizers::utils::SysRegex;

use super::pattern;
use super::table::byte_of;

/// The stages before a byte-level model, in order; the last turns bytes into the alphabet.
pub(super) struct Words {
    stages: Vec<Stage>,
    /// The character for each byte.
    alphabet: Vec<char>,
}

enum Stage {
    /// Numbers apart from the rest; each digit for itself, or runs of them.
    Digits { each: bool },
    /// Numbers in groups of three counted from the right, which the pattern for it finds only by looking ahead again and again.
    DigitsFromRight,
    /// Matches apart from what is between them.
    Split(SysRegex),
}

impl Words {
    /// Reads the stages of a checked pre-tokenizer; `None` when one of them is not known here.
    pub(super) fn new(pre_tokenizer: &Value) -> Option<Self> {
        let all = match pre_tokenizer.get("pretokenizers").and_then(Value::as_array) {
            Some(list) => list.as_slice(),
            None => std::slice::from_ref(pre_tokenizer),
        };
        let (bytes, before) = all.split_last()?;
        let is = |stage: &Value, key: &str, value: Value| stage.get(key) == Some(&value);
        if !is(bytes, "type", "ByteLevel".into()) || !is(bytes, "add_prefix_space", false.into()) {
            return None;
        }
        let mut stages = Vec::new();
        for stage in before {
            stages.push(match stage.get("type")?.as_str()? {
                "Digits" => Stage::Digits { each: stage.get("individual_digits")?.as_bool()? },
                "Split" if is(stage, "behavior", "Isolated".into()) => {
                    // Inverted or not, isolated parts are the same.
                    match stage.pointer("/pattern/Regex")?.as_str()? {
                        pattern::DIGITS_FROM_RIGHT => Stage::DigitsFromRight,
                        other => Stage::Split(SysRegex::new(other).ok()?),
                    }
                }
                _ => return None,
            });
        }
        if !is(bytes, "use_regex", false.into()) {
            stages.push(Stage::Split(SysRegex::new(pattern::GPT2).ok()?));
        }
        let mut alphabet = vec![' '; 256];
        for c in (0..0x200).filter_map(char::from_u32) {
            if let Some(slot) = byte_of(c).and_then(|b| alphabet.get_mut(usize::from(b))) {
                *slot = c;
            }
        }
        Some(Self { stages, alphabet })
    }

    /// Calls `word` with every word of `text`, spelled in the alphabet.
    pub(super) fn each<E>(&self, text: &str, mut word: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let mut spelled = String::new();
        split(&self.stages, text, &mut |part| {
            spelled.clear();
            spelled.extend(part.bytes().filter_map(|b| self.alphabet.get(usize::from(b))));
            word(&spelled)
        })
    }
}

fn split<E>(stages: &[Stage], text: &str, word: &mut dyn FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    let Some((stage, rest)) = stages.split_first() else {
        return if text.is_empty() { Ok(()) } else { word(text) };
    };
    let mut done = 0;
    let mut part = |from: usize, to: usize| match text.get(from..to) {
        Some(part) if !part.is_empty() => split(rest, part, word),
        _ => Ok(()),
    };
    match stage {
        Stage::Split(regex) => {
            for (start, end) in regex.find_iter(text) {
                part(done, start)?;
                part(start, end)?;
                done = end;
            }
        }
        Stage::DigitsFromRight => {
            let mut at = 0;
            while let Some(from) =
                text.get(at..).and_then(|rest| rest.find(char::is_numeric)).map(|n| at.saturating_add(n))
            {
                let run = text.get(from..).unwrap_or_default();
                let run = run.get(..run.find(|c: char| !c.is_numeric()).unwrap_or(run.len())).unwrap_or_default();
                part(done, from)?;
                let digits: Vec<usize> = run.char_indices().map(|(i, _)| from.saturating_add(i)).collect();
                let mut start = from;
                for (i, &end) in digits.iter().enumerate().skip(1) {
                    if digits.len().saturating_sub(i).is_multiple_of(3) {
                        part(start, end)?;
                        start = end;
                    }
                }
                at = from.saturating_add(run.len());
                part(start, at)?;
                done = at;
            }
        }
        Stage::Digits { each } => {
            let mut was_digit = false;
            for (at, c) in text.char_indices() {
                let digit = c.is_numeric();
                if digit != was_digit || (digit && *each) {
                    part(done, at)?;
                    done = at;
                }
                was_digit = digit;
            }
        }
    }
    part(done, text.len())
}
