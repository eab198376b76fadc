//! What a tokenizer is made of, from whichever file, and the checks that all of them share.

use std::path::Path;

use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, AddedVocabulary, NormalizerWrapper, PreTokenizerWrapper};

use super::cut::Cuts;
use super::ends::Ends;
use super::pattern;
use super::table::{Style, Table};
use super::words::Words;
use super::{Inner, Specials, Stages, Tokenizer};
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// Ids are dense in practice; the table by id is allocated to the largest.
pub(super) const MOST_TOKENS: usize = 4 << 20;
pub(super) const MOST_MERGES: usize = 8 << 20;
/// Longest token in bytes.
const MOST_TOKEN_BYTES: usize = 64 << 10;

/// A tokenizer before it is checked.
pub(super) struct Parts<'a> {
    pub(super) file: &'a Path,
    /// Names of the two lists in the file, for messages.
    pub(super) vocab_name: &'static str,
    pub(super) merges_name: &'static str,
    pub(super) vocab: Vec<(String, u32)>,
    pub(super) merges: Vec<(String, String)>,
    pub(super) unk: Option<String>,
    pub(super) fuse_unk: bool,
    pub(super) byte_fallback: bool,
    pub(super) ignore_merges: bool,
    pub(super) added: Vec<(u32, AddedToken)>,
    /// The stages in the form of tokenizer.json, already checked.
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
    pub(super) style: Style,
    pub(super) specials: Specials,
    pub(super) warnings: Vec<String>,
}

impl Parts<'_> {
    fn error(&self, list: &str, entry: impl std::fmt::Display, kind: impl Into<Kind>) -> FormatError {
        FormatError::new(self.file, kind).item(format!("field \"{list}[{entry}]\""))
    }

    fn found(&self, list: &str, entry: impl std::fmt::Display, found: String, expected: &str) -> FormatError {
        self.error(list, entry, Kind::Found { found, expected: expected.into() })
    }

    /// No id twice, none beyond the limit.
    fn check_vocab(&self) -> Result<()> {
        if self.vocab.len() > MOST_TOKENS {
            let kind = Kind::TooMany { what: "tokens", found: self.vocab.len() as u64, most: MOST_TOKENS as u64 };
            return Err(FormatError::new(self.file, kind).item(format!("field {:?}", self.vocab_name)));
        }
        let mut by_id: Vec<(u32, &str)> = self.vocab.iter().map(|(token, id)| (*id, token.as_str())).collect();
        by_id.sort_unstable();
        if let Some([a, b]) = by_id.array_windows().find(|[a, b]| a.0 == b.0) {
            let found = format!("id {} belongs to {:?} already", b.0, a.1);
            return Err(self.found(self.vocab_name, format_args!("{:?}", b.1), found, "every id once"));
        }
        if let Some(&(id, token)) = by_id.last()
            && id as usize >= MOST_TOKENS
        {
            let kind = Kind::TooMany { what: "as its id", found: id.into(), most: MOST_TOKENS as u64 - 1 };
            return Err(self.error(self.vocab_name, format_args!("{token:?}"), kind));
        }
        if let Some((i, (id, _))) = self.added.iter().enumerate().find(|(_, a)| a.0 as usize >= MOST_TOKENS) {
            let kind = Kind::TooMany { what: "as its id", found: u64::from(*id), most: MOST_TOKENS as u64 - 1 };
            return Err(self.error("added_tokens", i, kind));
        }
        if let Some((token, _)) = self.vocab.iter().find(|(token, _)| token.len() > MOST_TOKEN_BYTES) {
            let head: String = token.chars().take(20).collect();
            let found = format!("token of {} bytes", token.len());
            return Err(self.found(self.vocab_name, format_args!("{head:?}..."), found, "at most 65536"));
        }
        Ok(())
    }

    /// Both halves of every merge and their union are tokens.
    fn check_merges(&self, vocab: &Vocab) -> Result<()> {
        if self.merges.len() > MOST_MERGES {
            let kind = Kind::TooMany { what: "merges", found: self.merges.len() as u64, most: MOST_MERGES as u64 };
            return Err(FormatError::new(self.file, kind).item(format!("field {:?}", self.merges_name)));
        }
        let mut joined = String::new();
        for (i, (left, right)) in self.merges.iter().enumerate() {
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            for token in [left, right, &joined] {
                if !vocab.contains_key(token) {
                    let found = format!("{left:?} {right:?} needs the token {token:?}");
                    return Err(self.found(self.merges_name, i, found, "tokens of the vocabulary"));
                }
            }
        }
        Ok(())
    }

    fn stage<T: serde::de::DeserializeOwned>(&self, name: &str, value: &Value) -> Result<Option<T>> {
        if value.is_null() {
            return Ok(None);
        }
        let bad = |e: serde_json::Error| {
            let kind = Kind::Found { found: e.to_string(), expected: "a stage that can be built".into() };
            FormatError::new(self.file, kind).item(format!("field {name:?}"))
        };
        serde_json::from_value(value.clone()).map(Some).map_err(bad)
    }

    /// The stages as they run, and as they run on text that continues a piece: without anything that is put in front.
    fn stages(&self) -> Result<(Stages, Option<Stages>)> {
        let build = |normalizer: &Value, pre: &Value| {
            Ok::<_, FormatError>(Stages {
                normalizer: self.stage::<NormalizerWrapper>("normalizer", normalizer)?,
                pre_tokenizer: self.stage::<PreTokenizerWrapper>("pre_tokenizer", pre)?,
                words: Words::new(pre),
            })
        };
        let first = build(&self.normalizer, &self.pre_tokenizer)?;
        let stages = self.pre_tokenizer.to_string();
        let from_right = [pattern::DIGITS_FROM_RIGHT, pattern::DIGITS_TO_BOUNDARY];
        if first.words.is_none() && from_right.iter().any(|pattern| stages.contains(&json_text(pattern))) {
            let found = "digits counted from the right beside stages that do not allow it".into();
            let kind = Kind::Found { found, expected: "isolated splits in front of ByteLevel".into() };
            return Err(FormatError::new(self.file, kind).item("field \"pre_tokenizer\""));
        }
        let (normalizer, pre) = (without_prefix(&self.normalizer), without_prefix(&self.pre_tokenizer));
        let same = normalizer == self.normalizer && pre == self.pre_tokenizer;
        Ok((first, if same { None } else { Some(build(&normalizer, &pre)?) }))
    }

    /// Checks everything and builds the tokenizer. `source` is the file's text when it is a tokenizer.json.
    pub(super) fn build(mut self, source: Option<Vec<u8>>) -> Result<Tokenizer> {
        self.check_vocab()?;
        let vocab: Vocab = self.vocab.iter().cloned().collect();
        if vocab.len() != self.vocab.len() {
            let mut tokens: Vec<&(String, u32)> = self.vocab.iter().collect();
            tokens.sort_unstable();
            if let Some([a, b]) = tokens.array_windows().find(|[a, b]| a.0 == b.0) {
                let found = format!("token {:?} has the id {} already", b.0, a.1);
                return Err(self.found(self.vocab_name, b.1, found, "every token once"));
            }
        }
        self.check_merges(&vocab)?;
        if let Some(unk) = self.unk.take_if(|unk| !vocab.contains_key(unk.as_str())) {
            let file = self.file.display();
            self.warnings.push(format!("{file}: unk_token {unk:?} is no token of the vocabulary and is left out"));
        }
        let unk = self.unk.as_ref().and_then(|unk| vocab.get(unk).copied());
        let table = Table::new(&self.vocab, &self.added, self.style);
        let (stages, rest) = self.stages()?;
        let cuts = Cuts::choose(&self.normalizer, &self.pre_tokenizer, &self.vocab, &self.added);

        let library = |e: tokenizers::Error| {
            let kind = Kind::Found { found: e.to_string(), expected: "a model that can be built".into() };
            FormatError::new(self.file, kind).item("field \"model\"")
        };
        let mut builder = BPE::builder()
            .vocab_and_merges(vocab, self.merges.clone())
            .fuse_unk(self.fuse_unk)
            .byte_fallback(self.byte_fallback)
            .ignore_merges(self.ignore_merges);
        if let Some(unk) = &self.unk {
            builder = builder.unk_token(unk.clone());
        }
        let model = builder.build().map_err(library)?;

        let mut added = AddedVocabulary::new();
        let tokens = self.added.iter().map(|(_, token)| token.clone());
        added.add_tokens(tokens, &model, stages.normalizer.as_ref()).map_err(library)?;
        for (i, (id, token)) in self.added.iter().enumerate() {
            let given = added.token_to_id(&token.content, &model);
            if given != Some(*id) {
                let found = format!("{:?} has the id {id}", token.content);
                let expected = match given {
                    Some(given) => format!("{given}, the id of this text or the next free one"),
                    None => "text that is not empty".to_owned(),
                };
                return Err(self.found("added_tokens", i, found, &expected));
            }
        }
        let mut plain = added.clone();
        plain.set_encode_special_tokens(true);
        let mut special: Vec<u32> = self.added.iter().filter(|a| a.1.special).map(|a| a.0).collect();
        special.sort_unstable();
        let controls = self.added.iter().filter(|a| a.1.special).map(|(id, token)| (*id, token.content.as_str()));
        let ends = Ends::of(controls);
        let mut specials = self.specials;
        specials.eot = specials.eot.or(ends.turn);
        specials.eom = specials.eom.or(ends.message);
        specials.unk = specials.unk.or(unk);
        Ok(Tokenizer {
            file: self.file.to_owned(),
            inner: Inner { model, stages, rest, added, plain, cuts },
            table,
            special,
            ends,
            unk,
            specials,
            class: None,
            template_file: None,
            date: crate::chat::DAY,
            warnings: self.warnings,
            source,
            normalizer: self.normalizer,
            pre_tokenizer: self.pre_tokenizer,
            post_processor: self.post_processor,
            decoder: self.decoder,
        })
    }
}

/// `text` as it stands in JSON.
fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

/// The stage without anything that is put in front of the text.
fn without_prefix(stage: &Value) -> Value {
    let mut stage = stage.clone();
    if stage.get("type").is_some_and(|t| t == "Prepend") {
        return serde_json::json!({ "type": "Sequence", "normalizers": [] });
    }
    if let Some(object) = stage.as_object_mut() {
        for (key, value) in object {
            match key.as_str() {
                "add_prefix_space" => *value = Value::Bool(false),
                "prepend_scheme" => *value = Value::from("never"),
                "normalizers" | "pretokenizers" => {
                    value.as_array_mut().into_iter().flatten().for_each(|inner| *inner = without_prefix(inner));
                }
                _ => {}
            }
        }
    }
    stage
}
