//! Reads `tokenizer.json` and `tokenizer_config.json`.

use std::path::Path;

use tokenizers::AddedToken;

use super::json::{self, At, Json};
use super::parts::{MOST_MERGES, Parts};
use super::{Specials, Tokenizer, stages};
use crate::{FormatErrorKind as Kind, Result};

/// Longest text of an added token in bytes.
const MOST_ADDED_BYTES: usize = 1_024;
/// Texts of tokens that end a turn, in the order in which they are looked for.
pub(super) const TURN_ENDS: &[&str] = &["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_text|>"];

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` names it in messages.
    ///
    /// # Errors
    /// The path inside the JSON of whatever is wrong (`model.merges[17]`), with what was found and expected.
    pub fn from_json(file: &Path, bytes: &[u8]) -> Result<Self> {
        let json = json::parse(file, bytes)?;
        let root = At::root(file, &json);
        if let Some(version) = root.opt("version")?
            && version.text()? != "1.0"
        {
            return Err(version.found(format!("version {:?}", version.text()?), "\"1.0\""));
        }
        let model = root.get("model")?;
        if let Some(kind) = model.opt("type")?
            && kind.text()? != "BPE"
        {
            return Err(kind.error(Kind::NotSupported { found: format!("{:?}", kind.text()?), known: "BPE".into() }));
        }
        let vocab = vocab(&model.get("vocab")?)?;
        let merges = merges(&model.get("merges")?)?;
        if let Some(dropout) = model.opt("dropout")?
            && *dropout.json != Json::Number(0.into())
            && !matches!(dropout.json, Json::Number(n) if n.as_f64() == Some(0.0))
        {
            return Err(dropout.of_type("null: with dropout the ids are random"));
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if let Some(affix) = model.opt(key)?
                && !affix.text()?.is_empty()
            {
                return Err(affix.of_type("null or empty"));
            }
        }
        let unk = model.opt("unk_token")?.map(|u| u.text().map(str::to_owned)).transpose()?;
        let added = match root.opt("added_tokens")? {
            Some(list) => list.items()?.map(|item| added_token(&item)).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let normalizer = root.get("normalizer")?;
        stages::normalizer(&normalizer)?;
        let pre_tokenizer = root.get("pre_tokenizer")?;
        stages::pre_tokenizer(&pre_tokenizer)?;
        let decoder = root.get("decoder")?;
        let style = stages::decoder(&decoder)?;
        let post_processor = root.get("post_processor")?;
        let (front, back) = stages::post_processor(&post_processor)?;

        let parts = Parts {
            file,
            vocab_name: "model.vocab",
            merges_name: "model.merges",
            vocab,
            merges,
            fuse_unk: model.get("fuse_unk")?.bool_or(false)?,
            byte_fallback: model.get("byte_fallback")?.bool_or(false)?,
            ignore_merges: model.get("ignore_merges")?.bool_or(false)?,
            unk,
            added,
            normalizer: normalizer.json.value(),
            pre_tokenizer: pre_tokenizer.json.value(),
            post_processor: post_processor.json.value(),
            decoder: decoder.json.value(),
            style,
            specials: Specials::default(),
        };
        let mut tokenizer = parts.build(Some(bytes.to_vec()))?;
        let known = |text: Option<String>, what: &str| match text {
            None => Ok(None),
            Some(text) => tokenizer
                .id(&text)
                .map(Some)
                .ok_or_else(|| post_processor.found(format!("puts {text:?} {what}"), "a token of the vocabulary")),
        };
        let (bos, eos) = (known(front, "in front")?, known(back, "behind")?);
        let eot = TURN_ENDS.iter().find_map(|t| tokenizer.id(t).filter(|&id| tokenizer.is_special(id)));
        let (add_bos, add_eos) = (bos.is_some(), eos.is_some());
        let unk = tokenizer.unk;
        tokenizer.specials = Specials { bos, eos, eot, unk, add_bos, add_eos, ..Specials::default() };
        Ok(tokenizer)
    }

    /// Adds what `tokenizer_config.json` says: special tokens by name, whether `bos` is added, the chat template.
    ///
    /// # Errors
    /// A field of a wrong type, or a token that is not in the vocabulary.
    pub fn with_config(mut self, file: &Path, bytes: &[u8]) -> Result<Self> {
        let json = json::parse(file, bytes)?;
        let root = At::root(file, &json);
        let token = |key: &str| -> Result<Option<u32>> {
            let Some(at) = root.opt(key)? else { return Ok(None) };
            let text = if let Json::Object(_) = at.json { at.get("content")?.text()? } else { at.text()? };
            let missing = || at.found(format!("{text:?}"), "a token of the vocabulary");
            self.id(text).map(Some).ok_or_else(missing)
        };
        let mut specials = self.specials.clone();
        specials.bos = token("bos_token")?.or(specials.bos);
        specials.eos = token("eos_token")?.or(specials.eos);
        specials.unk = token("unk_token")?.or(specials.unk);
        specials.pad = token("pad_token")?.or(specials.pad);
        specials.add_bos = root.get("add_bos_token")?.bool_or(specials.add_bos)?;
        specials.add_eos = root.get("add_eos_token")?.bool_or(specials.add_eos)?;
        if let Some(template) = root.opt("chat_template")? {
            specials.chat_template = Some(default_template(&template)?);
        }
        self.specials = specials;
        Ok(self)
    }

    /// Sets the chat template, for directories that keep it in a file of its own.
    #[must_use]
    pub fn with_chat_template(mut self, source: String) -> Self {
        self.specials.chat_template = Some(source);
        self
    }
}

/// The template itself, or the one named `default` of a list.
fn default_template(at: &At<'_>) -> Result<String> {
    if let Json::Text(source) = at.json {
        return Ok(source.clone());
    }
    let mut names = Vec::new();
    for item in at.items()? {
        let name = item.get("name")?.text()?;
        if name == "default" {
            return Ok(item.get("template")?.text()?.to_owned());
        }
        names.push(name);
    }
    Err(at.found(format!("templates named {names:?}"), "one named \"default\""))
}

fn vocab(at: &At<'_>) -> Result<Vec<(String, u32)>> {
    at.entries()?.iter().map(|(token, id)| Ok((token.clone(), at.named(token, id).u32()?))).collect()
}

pub(super) fn merges(at: &At<'_>) -> Result<Vec<(String, String)>> {
    if let Json::List(list) = at.json
        && list.len() > MOST_MERGES
    {
        return Err(at.error(Kind::TooMany { what: "merges", found: list.len() as u64, most: MOST_MERGES as u64 }));
    }
    at.items()?
        .map(|item| {
            let pair = match item.json {
                Json::Text(line) => match line.split_once(' ') {
                    Some((a, b)) if !b.contains(' ') => Some((a, b)),
                    _ => None,
                },
                Json::List(pair) => match pair.as_slice() {
                    [Json::Text(a), Json::Text(b)] => Some((a.as_str(), b.as_str())),
                    _ => None,
                },
                _ => None,
            };
            let wrong = || item.of_type("two tokens: \"a b\" or [\"a\", \"b\"]");
            let (a, b) = pair.filter(|(a, b)| !a.is_empty() && !b.is_empty()).ok_or_else(wrong)?;
            Ok((a.to_owned(), b.to_owned()))
        })
        .collect()
}

fn added_token(at: &At<'_>) -> Result<(u32, AddedToken)> {
    let content = at.get("content")?;
    let text = content.text()?;
    if text.is_empty() || text.len() > MOST_ADDED_BYTES {
        return Err(content.found(format!("text of {} bytes", text.len()), format!("1 to {MOST_ADDED_BYTES}")));
    }
    let special = at.get("special")?.bool_or(false)?;
    let token = AddedToken::from(text, special)
        .single_word(at.get("single_word")?.bool_or(false)?)
        .lstrip(at.get("lstrip")?.bool_or(false)?)
        .rstrip(at.get("rstrip")?.bool_or(false)?)
        .normalized(at.get("normalized")?.bool_or(!special)?);
    Ok((at.get("id")?.u32()?, token))
}
