//! Where a long text may be cut so that the pieces have the ids of the whole.
//!
//! The library keeps about forty bytes per byte of text and its heap grows with the longest word. Pieces keep both bounded. A
//! cut between a letter and white space changes nothing for tokenizers that split there anyway. A run without such a place
//! is cut after [`HARD`] bytes; there, and only there, the ids can differ from those of the uncut run.

use serde_json::Value;
use tokenizers::AddedToken;

use super::pattern;

/// Bytes of text after which a safe place is looked for.
const TARGET: usize = 32 << 10;
/// Bytes of text without a safe place after which any place will do.
pub(super) const HARD: usize = 256 << 10;
/// Longest text for tokenizers whose pieces could differ from the whole.
const WHOLE: usize = 1 << 20;
/// Longest text for patterns that were not proven to run in linear time over the whole text.
const UNPROVEN: usize = 64 << 10;

/// How a tokenizer's text may be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cuts {
    /// Between a letter and the white space or mark behind it.
    Words {
        /// Only before a plain space: the tokenizer puts one in front of anything else.
        only_space: bool,
        /// Texts that must not be cut.
        whole: Vec<String>,
        /// Factor by which normalisation can lengthen the text.
        growth: usize,
    },
    /// Between a letter and a single space with a letter behind it.
    Spaces {
        /// The next piece gets its space back from the normaliser.
        drop_space: bool,
        whole: Vec<String>,
    },
    /// Nowhere: the text is limited instead.
    Never { most: usize },
}

/// The next piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes of the piece.
    pub(super) len: usize,
    /// Bytes behind it that the next piece does not get.
    pub(super) skip: usize,
    /// Whether the next piece starts where the tokenizer would have started a word.
    pub(super) clean: bool,
}

impl Cuts {
    /// Reads from the checked stages what is safe.
    pub(super) fn choose(
        normalizer: &Value,
        pre_tokenizer: &Value,
        vocab: &[(String, u32)],
        added: &[(u32, AddedToken)],
    ) -> Self {
        let normalizers = flat(normalizer, "normalizers");
        let pres = flat(pre_tokenizer, "pretokenizers");
        let types: Vec<&str> = pres.iter().map(|s| kind(s)).collect();
        let growth = growth(normalizer);
        let unproven =
            |s: &&Value| s.pointer("/pattern/Regex").and_then(Value::as_str).is_some_and(|p| !pattern::is_known(p));
        if pres.iter().chain(&normalizers).any(unproven) {
            return Self::Never { most: UNPROVEN / growth.max(1) };
        }
        let never = Self::Never { most: WHOLE / growth.max(1) };
        // White space that such a token takes from its right would be in the next piece; a normalised text is not the text.
        let ends_in_letter = |t: &AddedToken| t.content.chars().last().is_some_and(char::is_alphabetic);
        if added.iter().any(|(_, t)| (t.rstrip && ends_in_letter(t)) || (t.normalized && holds_cut(&t.content))) {
            return never;
        }
        let whole = added.iter().filter(|a| holds_cut(&a.1.content)).map(|a| a.1.content.clone()).collect();
        let prefixed = pres.iter().any(|s| s.get("add_prefix_space") == Some(&Value::Bool(true)));

        let splits = |s: &Value| match kind(s) {
            "ByteLevel" => s.get("use_regex") != Some(&Value::Bool(false)),
            "Split" => {
                s.get("behavior").is_some_and(|b| b == "Isolated")
                    && s.pointer("/pattern/Regex").and_then(Value::as_str).is_some_and(pattern::cuts_words)
            }
            _ => false,
        };
        let word_types = ["ByteLevel", "Split", "Digits", "Punctuation"];
        let isolates = |s: &Value| kind(s) != "Split" || s.get("behavior").is_some_and(|b| b == "Isolated");
        let unicode = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"];
        if types.iter().all(|t| word_types.contains(t))
            && pres.iter().all(|s| isolates(s))
            && pres.iter().any(|s| splits(s))
            && normalizers.iter().all(|s| unicode.contains(&kind(s)))
        {
            return Self::Words { only_space: prefixed, whole, growth };
        }

        let replaces = |s: &Value| {
            kind(s) == "Replace"
                && s.pointer("/pattern/String").is_some_and(|p| p == " ")
                && s.get("content").is_some_and(|c| c == "▁")
        };
        let prepends = |s: &Value| kind(s) == "Prepend" && s.get("prepend").is_some_and(|p| p == "▁");
        let drop_space = normalizers.iter().any(|s| prepends(s));
        let plain_space_split =
            |s: &Value| kind(s) == "Split" && s.pointer("/pattern/String").is_some_and(|p| p == " ");
        let metaspace = types == ["Metaspace"];
        if normalizers.iter().all(|s| replaces(s) || prepends(s))
            && (!drop_space || normalizers.last().is_some_and(|s| replaces(s)))
            && (metaspace != normalizers.iter().any(|s| replaces(s)))
            && (types.is_empty() || metaspace || (pres.len() == 1 && pres.iter().all(|s| plain_space_split(s))))
            && !vocab.iter().any(|(token, _)| letter_then_space(token))
        {
            return Self::Spaces { drop_space, whole };
        }
        never
    }

    /// The next piece of `text`, or the most bytes that a text may have.
    pub(super) fn next(&self, text: &str) -> Result<Piece, usize> {
        let all = Piece { len: text.len(), skip: 0, clean: true };
        let (target, hard) = match self {
            Self::Never { most } if text.len() > *most => return Err(*most),
            Self::Never { .. } => return Ok(all),
            Self::Words { growth, .. } => (TARGET / growth, HARD / growth),
            Self::Spaces { .. } => (TARGET, HARD),
        };
        if text.len() <= target {
            return Ok(all);
        }
        // Backwards from the target first, then forwards to the hard limit.
        let back = (target / 2..=target).rev();
        let forward = target.saturating_add(1)..=hard.min(text.len());
        if let Some((len, skip)) = back.chain(forward).find_map(|at| self.safe(text, at).map(|skip| (at, skip))) {
            return Ok(Piece { len, skip, clean: true });
        }
        if text.len() <= hard {
            return Ok(all);
        }
        Ok(Piece { len: text.floor_char_boundary(hard), skip: 0, clean: false })
    }

    /// Whether a cut at `at` is safe, and how many bytes behind it are dropped.
    fn safe(&self, text: &str, at: usize) -> Option<usize> {
        let (before, after) = text.split_at_checked(at)?;
        let next = after.chars().next()?;
        let (skip, whole) = match self {
            Self::Never { .. } => return None,
            Self::Words { only_space, whole, .. } => {
                let cut = if *only_space { next == ' ' } else { next.is_whitespace() || is_mark(next) };
                let cut = cut && before.chars().next_back().is_some_and(is_letter);
                (cut.then_some(0)?, whole)
            }
            Self::Spaces { drop_space, whole } => {
                let ascii = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphabetic);
                let cut = next == ' ' && ascii(before.as_bytes().last()) && ascii(after.as_bytes().get(1));
                (cut.then_some(usize::from(*drop_space))?, whole)
            }
        };
        let spans = |token: &String| {
            let from = text.floor_char_boundary(at.saturating_sub(token.len()));
            let to = text.ceil_char_boundary(at.saturating_add(token.len()).min(text.len()));
            text.get(from..to).is_some_and(|near| near.contains(token.as_str()))
        };
        (!whole.iter().any(spans)).then_some(skip)
    }
}

/// Letters that every known pattern counts as such.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '\u{4e00}'..='\u{9fa5}' | 'ぁ'..='ゖ' | 'ァ'..='ヺ' | 'а'..='я' | 'А'..='Я')
}

/// Marks that end a word in every known pattern. The apostrophe is not one: it can be inside.
fn is_mark(c: char) -> bool {
    matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '。' | '、' | '，' | '！' | '？' | '；' | '：')
}

/// Whether a cut could fall inside.
fn holds_cut(token: &str) -> bool {
    let mut chars = token.chars();
    let mut last = chars.next();
    chars.any(|c| {
        let cut = last.is_some_and(is_letter) && (c.is_whitespace() || is_mark(c));
        last = Some(c);
        cut
    })
}

/// Whether a sentencepiece token goes on behind a space.
fn letter_then_space(token: &str) -> bool {
    token.match_indices('▁').any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|i| token.as_bytes().get(i));
        before.is_some_and(u8::is_ascii_alphabetic)
    })
}

fn kind(stage: &Value) -> &str {
    stage.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The stages of a sequence, or the one stage, or none.
fn flat<'a>(stage: &'a Value, list: &str) -> Vec<&'a Value> {
    match stage.get(list).and_then(Value::as_array) {
        Some(inner) => inner.iter().flat_map(|s| flat(s, list)).collect(),
        None if stage.is_null() => Vec::new(),
        None => vec![stage],
    }
}

/// The factor by which a normaliser can lengthen a text in bytes.
pub(super) fn growth(normalizer: &Value) -> usize {
    let one = |s: &&Value| match kind(s) {
        // U+FDFA: 3 bytes become 33.
        "NFKC" | "NFKD" => 11,
        "NFC" | "NFD" => 3,
        "Lowercase" => 2,
        "Replace" => {
            let text = |pointer| s.pointer(pointer).and_then(Value::as_str).map_or(1, str::len).max(1);
            text("/content").div_ceil(text("/pattern/String"))
        }
        // Once per text, at most as long as allowed by the check.
        _ => 1,
    };
    flat(normalizer, "normalizers").iter().map(one).fold(1, usize::saturating_mul)
}
