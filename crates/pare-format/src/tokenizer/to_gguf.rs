//! The metadata of a GGUF file that describe this tokenizer.

use serde_json::Value as Stage;
use tokenizers::AddedToken;

use super::from_json::merges;
use super::json::{self, At};
use super::pre;
use super::table::{Style, byte_token};
use super::{Specials, Tokenizer};
use crate::gguf::{Array, Strings, Value};
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// Numbers of `tokenizer.ggml.token_type`.
mod role {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// A tokenizer as a GGUF file says it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The `tokenizer.*` keys.
    pub keys: Vec<(String, Value)>,
    /// Where ids or ends can differ from those of this tokenizer.
    pub notes: Vec<String>,
}

impl Tokenizer {
    /// The `tokenizer.*` keys for a model whose embedding has `rows` rows and which ends at the tokens `ends`; rows without a token get
    /// an unused one.
    ///
    /// # Errors
    /// Rules for cutting text that no pre-tokenizer of the format has; more tokens than rows.
    pub fn gguf_metadata(&self, rows: usize, ends: &[u32]) -> Result<Described> {
        self.check_rows(rows)?;
        let source = self.to_json()?;
        let json = json::parse(&self.file, &source)?;
        let merges = merges(&At::root(&self.file, &json).get("model")?.get("merges")?)?;
        let (tokens, roles) = self.tokens(rows);
        let mut notes = self.odd_tokens();
        let mut keys = Vec::new();
        let mut put = |key: &str, value: Value| keys.push((format!("tokenizer.{key}"), value));
        match self.table.style {
            Style::ByteLevel => {
                let named = pre::name(&self.normalizer, &self.pre_tokenizer, self.inner.model.ignore_merges);
                let named = named.ok_or_else(|| {
                    self.refused("rules for cutting text", "those of a family that llama.cpp names, such as qwen2")
                })?;
                if named.other_composition {
                    notes.push("text in decomposed characters (not NFC) can get other ids".to_owned());
                } else if kind(&self.normalizer) == "NFC" {
                    notes.push(
                        "llama.cpp does not compose characters: text in decomposed ones (not NFC) can get other ids there".to_owned(),
                    );
                }
                if named.other_words {
                    notes.push(
                        "words that are one token can get other ids: whether merges count for them differs".to_owned(),
                    );
                }
                put("ggml.model", Value::text("gpt2"));
                put("ggml.pre", Value::text(named.name));
                put("ggml.merges", Value::Array(Array::Str(self.joined(&merges)?)));
            }
            Style::Pieces { .. } => {
                let add_space = adds_space(&self.normalizer, &self.pre_tokenizer);
                let add_space = add_space.ok_or_else(|| {
                    self.refused("rules for spaces", "spaces as ▁, with or without one in front of the text")
                })?;
                if add_space && kind(&self.pre_tokenizer) == "Metaspace" {
                    notes.push(
                        "a space is put in front of every text, also of one that begins with a space or stands behind an added token: \
                         such texts can get other ids"
                            .to_owned(),
                    );
                }
                let lacking = (0..=u8::MAX).filter(|byte| self.id(&format!("<0x{byte:02X}>")).is_none()).count();
                if lacking > 0 {
                    notes.push(format!(
                        "{lacking} of the 256 single bytes have no token such as <0x0A>: llama.cpp cannot load such a file, pare can"
                    ));
                }
                put("ggml.model", Value::text("llama"));
                put("ggml.pre", Value::text("default"));
                put("ggml.scores", Value::Array(Array::F32(scores(&tokens, &merges))));
                put("ggml.add_space_prefix", Value::Bool(add_space));
            }
        }
        put("ggml.tokens", Value::Array(Array::Str(tokens.iter().collect())));
        put("ggml.token_type", Value::Array(Array::I32(roles)));
        for (name, id) in self.named_ids(ends, &mut notes) {
            put(&format!("ggml.{name}_token_id"), Value::U32(id));
        }
        put("ggml.add_bos_token", Value::Bool(!self.specials.front.is_empty()));
        put("ggml.add_eos_token", Value::Bool(!self.specials.back.is_empty()));
        if let Some(template) = &self.specials.chat_template {
            put("chat_template", Value::text(template));
        }
        let others = &self.specials.other_templates;
        if !others.is_empty() {
            put("chat_templates", Value::Array(Array::Str(others.iter().map(|other| other.name.as_str()).collect())));
        }
        for other in others {
            put(&format!("chat_template.{}", other.name), Value::text(&other.source));
        }
        Ok(Described { keys, notes })
    }

    /// Single tokens with a meaning, by the names of their keys. What has no key is noted.
    fn named_ids(&self, ends: &[u32], notes: &mut Vec<String>) -> Vec<(&'static str, u32)> {
        let Specials { bos, eos, eot, eom, unk, pad, ref front, ref back, .. } = self.specials;
        let shown = |ids: &[u32]| {
            let texts: Vec<String> =
                ids.iter().filter_map(|&id| self.text(id)).map(|text| format!("{text:?}")).collect();
            texts.join(" ")
        };
        let mut named_bos = bos;
        if let Some(&first) = front.first() {
            // What stands in front of every prompt matters more than what templates call bos.
            named_bos = Some(first);
            if bos.is_some_and(|bos| bos != first) {
                notes.push(format!(
                    "{} stands in front of texts and is written as bos; for chat templates bos is {}",
                    shown(&[first]),
                    shown(&bos.into_iter().collect::<Vec<_>>())
                ));
            }
            if front.len() > 1 {
                notes.push(format!("{} stand in front of texts: the file can say the first alone", shown(front)));
            }
        }
        let mut named_eos = eos.or(ends.first().copied());
        if let Some(&last) = back.last() {
            named_eos = Some(last);
            if back.len() > 1 {
                notes.push(format!("{} stand behind texts: the file can say the last alone", shown(back)));
            }
        }
        // Ends that a reader does not know by their text need a key of their own.
        let unsaid = |id: u32| Some(id) != named_eos && !self.ends.all.contains(&id);
        let mut own = ends.iter().copied().filter(|&id| unsaid(id) && Some(id) != eot && Some(id) != eom);
        let eot = eot.filter(|&id| unsaid(id)).or_else(|| own.next()).or(eot);
        let eom = eom.filter(|&id| unsaid(id)).or_else(|| own.next()).or(eom);
        let left: Vec<u32> = own.collect();
        if !left.is_empty() {
            notes.push(format!("generation also ends at {}: the file has no key left to say so", shown(&left)));
        }
        let ids =
            [("bos", named_bos), ("eos", named_eos), ("eot", eot), ("eom", eom), ("unknown", unk), ("padding", pad)];
        ids.into_iter().filter_map(|(name, id)| Some((name, id?))).collect()
    }

    /// Added tokens that take white space beside them, or are found only in some places: the format has no way to say so.
    fn odd_tokens(&self) -> Vec<String> {
        let added = self.inner.added.get_added_tokens_decoder();
        let note = |what: &str, is: &dyn Fn(&AddedToken) -> bool| {
            let mut odd: Vec<(&u32, &AddedToken)> = added.iter().filter(|token| is(token.1)).collect();
            odd.sort_unstable_by_key(|token| token.0);
            let (_, first) = odd.first()?;
            let more = if odd.len() > 1 { format!(" and {} more", odd.len() - 1) } else { String::new() };
            let text = &first.content;
            Some(format!("added tokens that {what} ({text:?}{more}): texts with them can get other ids"))
        };
        let normalised = |token: &AddedToken| token.normalized && !self.normalizer.is_null();
        [
            note("take the white space beside them", &|token| token.lstrip || token.rstrip),
            note("are found as whole words only", &|token| token.single_word),
            note("are found in normalised text only", &normalised),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Text and role of each of `rows` tokens.
    fn tokens(&self, rows: usize) -> (Vec<String>, Vec<i32>) {
        let pieces = self.table.style != Style::ByteLevel;
        let added = self.inner.added.get_added_tokens_decoder();
        let token = |id: u32| {
            let Some(text) = self.text(id) else { return (format!("[PAD{id}]"), role::UNUSED) };
            let role = match added.get(&id) {
                _ if pieces && self.specials.unk == Some(id) => role::UNKNOWN,
                Some(token) if token.special => role::CONTROL,
                Some(_) => role::USER_DEFINED,
                None if pieces && byte_token(&text).is_some() => role::BYTE,
                None => role::NORMAL,
            };
            (text, role)
        };
        (0..u32::try_from(rows).unwrap_or(u32::MAX)).map(token).unzip()
    }

    /// Merges as the format writes them: two tokens and one space.
    fn joined(&self, merges: &[(String, String)]) -> Result<Strings> {
        if let Some((a, b)) = merges.iter().find(|(a, b)| a.contains(' ') || b.contains(' ')) {
            let kind = Kind::Found { found: format!("{a:?} {b:?}"), expected: "tokens without a space".into() };
            return Err(FormatError::new(&self.file, kind).item("field \"model.merges\""));
        }
        Ok(merges.iter().map(|(a, b)| format!("{a} {b}")).collect())
    }

    fn refused(&self, what: &str, known: &str) -> FormatError {
        let found = format!("{what} that a GGUF file has no name for");
        FormatError::new(&self.file, Kind::NotSupported { found, known: known.to_owned() })
    }
}

/// Whether a space is put in front of the text; none for rules that the format cannot say.
fn adds_space(normalizer: &Stage, pre_tokenizer: &Stage) -> Option<bool> {
    if kind(pre_tokenizer) == "Metaspace" && normalizer.is_null() {
        let whole = pre_tokenizer.get("split").and_then(Stage::as_bool) == Some(false);
        let own = pre_tokenizer.get("replacement").and_then(Stage::as_str) == Some("▁");
        let scheme = pre_tokenizer.get("prepend_scheme").and_then(Stage::as_str).unwrap_or("always");
        return (whole && own).then_some(scheme != "never");
    }
    let steps = match normalizer.get("normalizers").and_then(Stage::as_array) {
        Some(steps) => steps.as_slice(),
        None => std::slice::from_ref(normalizer),
    };
    let is_replace = |stage: &Stage| {
        kind(stage) == "Replace"
            && stage.pointer("/pattern/String").and_then(Stage::as_str) == Some(" ")
            && stage.get("content").and_then(Stage::as_str) == Some("▁")
    };
    let is_prepend =
        |stage: &Stage| kind(stage) == "Prepend" && stage.get("prepend").and_then(Stage::as_str) == Some("▁");
    // A split at spaces finds none: all have become ▁.
    let at_spaces = pre_tokenizer.pointer("/pattern/String").and_then(Stage::as_str) == Some(" ");
    let whole = pre_tokenizer.is_null() || (kind(pre_tokenizer) == "Split" && at_spaces);
    match steps {
        [only] if whole && is_replace(only) => Some(false),
        [first, last] if whole && is_prepend(first) && is_replace(last) => Some(true),
        _ => None,
    }
}

fn kind(stage: &Stage) -> &str {
    stage.get("type").and_then(Stage::as_str).unwrap_or_default()
}

/// A score per token under which joining the best neighbours follows the merges: the earlier the merge, the higher.
fn scores(tokens: &[String], merges: &[(String, String)]) -> Vec<f32> {
    let mut first: Vec<(String, usize)> = merges.iter().enumerate().map(|(i, (a, b))| (format!("{a}{b}"), i)).collect();
    first.sort();
    first.dedup_by(|later, earlier| later.0 == earlier.0);
    let rank = |token: &String| first.binary_search_by(|entry| entry.0.cmp(token)).map(|at| first.get(at));
    let score = |token| match rank(token) {
        Ok(Some((_, rank))) => -(*rank as f32) - 1.0,
        // Nothing joins into it.
        _ => -(merges.len() as f32) - 1.0,
    };
    tokens.iter().map(score).collect()
}
