//! The metadata of a GGUF file that describe this tokenizer.

use serde_json::Value as Stage;

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

impl Tokenizer {
    /// The `tokenizer.*` keys for a model whose embedding has `rows` rows; rows without a token get an unused one.
    ///
    /// # Errors
    /// Rules for cutting text that no pre-tokenizer of the format has, with the list of those there are; more tokens than rows.
    pub fn gguf_metadata(&self, rows: usize) -> Result<Vec<(String, Value)>> {
        self.check_rows(rows)?;
        let source = self.to_json()?;
        let json = json::parse(&self.file, &source)?;
        let merges = merges(&At::root(&self.file, &json).get("model")?.get("merges")?)?;
        let (tokens, roles) = self.tokens(rows);
        let mut all = Vec::new();
        let mut put = |key: &str, value: Value| all.push((format!("tokenizer.ggml.{key}"), value));
        match self.table.style {
            Style::ByteLevel => {
                let name = pre::name(&self.normalizer, &self.pre_tokenizer, self.inner.model.ignore_merges);
                let name = name.ok_or_else(|| self.refused("rules for cutting text", &pre::known()))?;
                put("model", Value::text("gpt2"));
                put("pre", Value::text(name));
                put("merges", Value::Array(Array::Str(self.joined(&merges)?)));
            }
            Style::Pieces { .. } => {
                let add_space = adds_space(&self.normalizer, &self.pre_tokenizer);
                let add_space = add_space.ok_or_else(|| {
                    self.refused("rules for spaces", "spaces as ▁, with or without one in front of the text")
                })?;
                put("model", Value::text("llama"));
                put("pre", Value::text("default"));
                put("scores", Value::Array(Array::F32(scores(&tokens, &merges))));
                put("add_space_prefix", Value::Bool(add_space));
            }
        }
        put("tokens", Value::Array(Array::Str(tokens.iter().collect())));
        put("token_type", Value::Array(Array::I32(roles)));
        let Specials { bos, eos, eot, unk, pad, add_eos, ref chat_template, .. } = self.specials;
        let ids = [("bos", bos), ("eos", eos), ("eot", eot), ("unknown", unk), ("padding", pad)];
        for (name, id) in ids {
            if let Some(id) = id {
                put(&format!("{name}_token_id"), Value::U32(id));
            }
        }
        put("add_bos_token", Value::Bool(self.add_bos()));
        put("add_eos_token", Value::Bool(add_eos));
        if let Some(template) = chat_template {
            all.push(("tokenizer.chat_template".to_owned(), Value::text(template)));
        }
        Ok(all)
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
    let kind = |stage: &Stage| stage.get("type").and_then(Stage::as_str).unwrap_or_default().to_owned();
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
    match steps {
        [only] if pre_tokenizer.is_null() && is_replace(only) => Some(false),
        [first, last] if pre_tokenizer.is_null() && is_prepend(first) && is_replace(last) => Some(true),
        _ => None,
    }
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
