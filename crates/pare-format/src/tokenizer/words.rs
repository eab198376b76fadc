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
    FromRight(FromRight),
    /// Matches apart from what is between them.
    Split(SysRegex),
}

/// `\d\b` as the engine of the Python package reads it: of the numbers that are no digits those of Latin-1 belong to a word, and joiners do not.
const LAST_DIGIT: &str = r"\d(?![\p{L}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}])";

/// What is counted from the right.
struct FromRight {
    /// Runs of digits.
    runs: SysRegex,
    /// A last digit that may end a run, with what follows it in sight: where it may not, the run stays whole.
    last: Option<SysRegex>,
}

impl FromRight {
    /// The numbers that a known pattern counts; `None` for other patterns.
    fn of(pattern: &str) -> Option<Self> {
        let (runs, last) = match pattern {
            pattern::DIGITS_FROM_RIGHT => (r"\p{N}+", None),
            pattern::DIGITS_TO_BOUNDARY => (r"\d+", Some(LAST_DIGIT)),
            _ => return None,
        };
        let build = |pattern| SysRegex::new(pattern).ok();
        let last = match last {
            Some(last) => Some(build(last)?),
            None => None,
        };
        Some(Self { runs: build(runs)?, last })
    }

    /// Whether the run at `from..to` of `text` is cut.
    fn cuts(&self, text: &str, from: usize, to: usize) -> bool {
        let Some(last) = &self.last else { return true };
        let digit = text.get(from..to).and_then(|run| run.chars().next_back());
        let next = text.get(to..).and_then(|rest| rest.chars().next());
        let end: String = digit.into_iter().chain(next).collect();
        last.find_iter(&end).next().is_some_and(|(start, _)| start == 0)
    }
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
                    let pattern = stage.pointer("/pattern/Regex")?.as_str()?;
                    match FromRight::of(pattern) {
                        Some(from_right) => Stage::FromRight(from_right),
                        None => Stage::Split(SysRegex::new(pattern).ok()?),
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
        Stage::FromRight(from_right) => {
            for (from, to) in from_right.runs.find_iter(text) {
                let run = text.get(from..to).unwrap_or_default();
                if !from_right.cuts(text, from, to) {
                    continue;
                }
                part(done, from)?;
                let digits: Vec<usize> = run.char_indices().map(|(i, _)| from.saturating_add(i)).collect();
                let mut start = from;
                for (i, &end) in digits.iter().enumerate().skip(1) {
                    if digits.len().saturating_sub(i).is_multiple_of(3) {
                        part(start, end)?;
                        start = end;
                    }
                }
                part(start, to)?;
                done = to;
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The parts of `text`, as `tokenizers` 0.23.3 (Python) cuts it with the pattern alone.
    fn parts(pattern: &str, text: &str) -> Vec<String> {
        let split =
            json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
        let words = Words::new(&json!({ "type": "Sequence", "pretokenizers": [split, bytes] })).expect("known stages");
        let mut parts = Vec::new();
        let mut keep = |part: &str| {
            parts.push(part.to_owned());
            Ok::<(), ()>(())
        };
        super::split(&words.stages, text, &mut keep).expect("nothing stops it");
        parts
    }

    #[test]
    fn digits_from_the_right_stay_together_where_a_word_goes_on() {
        for (text, want) in [
            ("1234567", &["1", "234", "567"][..]),
            ("1234abc", &["1234abc"]),
            ("abc1234", &["abc", "1", "234"]),
            ("12345 678", &["12", "345", " ", "678"]),
            ("1234_", &["1234_"]),
            ("1234\u{bd}", &["1234\u{bd}"]),
            ("x\u{b2}1234", &["x\u{b2}", "1", "234"]),
            ("1234\u{301}", &["1234\u{301}"]),
            ("1234-5", &["1", "234", "-", "5"]),
            ("\u{663}\u{664}\u{665}\u{666}", &["\u{663}", "\u{664}\u{665}\u{666}"]),
            ("1234\u{2460}", &["1", "234", "\u{2460}"]),
            ("1234\u{200d}", &["1", "234", "\u{200d}"]),
            ("0x1F12", &["0x1F", "12"]),
        ] {
            assert_eq!(parts(pattern::DIGITS_TO_BOUNDARY, text), want, "{text}");
        }
        assert_eq!(parts(pattern::DIGITS_FROM_RIGHT, "1234abc\u{bd}"), ["1", "234", "abc", "\u{bd}"]);
    }
}
