//! Reads `tokenizer.json`.

use std::path::Path;

use tokenizers::AddedToken;

use super::json::{self, At, Json};
use super::parts::{MOST_MERGES, Parts};
use super::{Specials, Tokenizer, stages};
use crate::{FormatErrorKind as Kind, Result};

/// Longest text of an added token in bytes.
const MOST_ADDED_BYTES: usize = 1_024;

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` names it in messages.
    ///
    /// # Errors
    /// The path inside the JSON of whatever is wrong (`model.merges[17]`), with what was found and expected.
    pub fn from_json(file: &Path, bytes: &[u8]) -> Result<Self> {
        let bytes = json::without_mark(bytes);
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
        let around = stages::post_processor(&post_processor)?;

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
            warnings: Vec::new(),
        };
        let mut tokenizer = parts.build(Some(bytes.to_vec()))?;
        if let Some(id) = around.ids().find(|&id| tokenizer.token(id).is_none()) {
            return Err(post_processor.found(format!("puts the id {id} around a text"), "an id of the vocabulary"));
        }
        let specials = &mut tokenizer.specials;
        (specials.bos, specials.eos) = (around.front.first().copied(), around.back.last().copied());
        (specials.front, specials.back) = (around.front, around.back);
        Ok(tokenizer)
    }
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
