//! `NaN`, `Infinity` and `-Infinity`, which Python's json writes and reads though JSON has no such numbers.

use std::borrow::Cow;

/// A number that JSON cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFinite {
    /// `NaN`
    Nan,
    /// `Infinity`
    Infinity,
    /// `-Infinity`
    MinusInfinity,
}

/// What a stand-in consists of: JSON allows it inside of strings as it is, and no file of a model has it.
const FILLER: char = '\u{7f}';

impl NotFinite {
    const ALL: [Self; 3] = [Self::Nan, Self::Infinity, Self::MinusInfinity];

    /// Python's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nan => "NaN",
            Self::Infinity => "Infinity",
            Self::MinusInfinity => "-Infinity",
        }
    }

    /// The number itself.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::Nan => f64::NAN,
            Self::Infinity => f64::INFINITY,
            Self::MinusInfinity => f64::NEG_INFINITY,
        }
    }

    /// The number for which `string` stands in a text of [`with_stand_ins`].
    pub(crate) fn of(string: &str) -> Option<Self> {
        let filled = string.bytes().all(|byte| char::from(byte) == FILLER);
        Self::ALL.into_iter().find(|number| filled && number.name().len() == string.len().saturating_add(2))
    }
}

/// `text` with a string of the same length in the place of every such number, so that a strict reader reads it and every byte keeps its
/// place; none where there is no such number, or where a stand-in could be confused with what the text says.
pub(crate) fn with_stand_ins(text: &str) -> Option<String> {
    let suspected = text.contains(NotFinite::Nan.name()) || text.contains(NotFinite::Infinity.name());
    let confused = || text.contains(FILLER) || text.to_ascii_lowercase().contains("\\u007f");
    if !suspected || confused() {
        return None;
    }
    replaced(text, stand_in)
}

/// A string of the length of the name.
fn stand_in(number: NotFinite) -> String {
    let filler: String = std::iter::repeat_n(FILLER, number.name().len().saturating_sub(2)).collect();
    format!("\"{filler}\"")
}

/// `text` with `null` for every such number, for readers that ask for none.
pub(crate) fn without_numbers(text: &str) -> Cow<'_, str> {
    replaced(text, |_| "null".to_owned()).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// `text` with something else for every such number, when it has any.
fn replaced(text: &str, other: impl Fn(NotFinite) -> String) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut before, mut found) = (text, None, false);
    while let Some(c) = rest.chars().next() {
        let number = NotFinite::ALL.into_iter().find(|number| rest.starts_with(number.name()));
        let length = match number {
            _ if c == '"' => string_length(rest),
            Some(number) if is_value(before, rest.get(number.name().len()..).unwrap_or_default()) => {
                out.push_str(&other(number));
                found = true;
                rest = rest.get(number.name().len()..).unwrap_or_default();
                before = Some('"');
                continue;
            }
            _ => c.len_utf8(),
        };
        let (done, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
        out.push_str(done);
        if !c.is_ascii_whitespace() {
            before = Some(c);
        }
        rest = left;
    }
    found.then_some(out)
}

/// Whether a name between `before`, the last character that is no space, and `behind` is a value, and no key.
fn is_value(before: Option<char>, behind: &str) -> bool {
    let next = behind.trim_ascii_start().chars().next();
    matches!(before, None | Some(':' | '[' | ',')) && matches!(next, None | Some(',' | ']' | '}'))
}

/// Bytes of the string with which `text` begins, both quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at.saturating_add(1),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_are_replaced_and_every_byte_keeps_its_place() {
        let text = r#"{"NaN": NaN, "a": [Infinity , -Infinity], "b": "é Infinity\" NaN", Infinity: 1, "c": -NaN}"#;
        let read = with_stand_ins(text).expect("three of them");
        assert_eq!(read.len(), text.len());
        let filler = |n: usize| format!("\"{}\"", "\u{7f}".repeat(n));
        let expected = text.replacen(": NaN", &format!(": {}", filler(1)), 1).replacen(
            "[Infinity , -Infinity]",
            &format!("[{} , {}]", filler(6), filler(7)),
            1,
        );
        assert_eq!(read, expected);
        assert_eq!([1, 6, 7].map(|n| NotFinite::of(&"\u{7f}".repeat(n))), NotFinite::ALL.map(Some));
        assert_eq!(["x", "", "\u{7f}\u{7f}"].map(NotFinite::of), [None; 3]);
    }

    #[test]
    fn what_could_be_confused_is_left_alone() {
        for text in ["{\"a\": NaN, \"b\": \"\u{7f}\"}", r#"{"a": NaN, "b": "\u007F"}"#, "\"NaN\"", "NaN x", "[1]"] {
            assert_eq!(with_stand_ins(text), None, "{text}");
        }
    }
}
