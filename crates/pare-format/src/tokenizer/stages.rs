//! Rules for the stages of a tokenizer.json: known types only, patterns that run in linear time, bounded growth.

use super::cut;
use super::json::{At, Json};
use super::pattern;
use super::table::Style;
use crate::{FormatErrorKind as Kind, Result};

/// Types that are accepted at one place, and the key under which a sequence keeps its list.
struct Place {
    known: &'static [&'static str],
    list: &'static str,
}

const NORMALIZERS: Place = Place {
    known: &["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Replace", "Sequence"],
    list: "normalizers",
};
const PRE_TOKENIZERS: Place =
    Place { known: &["ByteLevel", "Digits", "Metaspace", "Punctuation", "Split", "Sequence"], list: "pretokenizers" };
const DECODERS: Place = Place {
    known: &["ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip", "Sequence"],
    list: "decoders",
};
const PROCESSORS: Place = Place { known: &["ByteLevel", "TemplateProcessing", "Sequence"], list: "processors" };

/// Longest text that a stage may put in.
const MOST_TEXT: usize = 64;
/// Factor by which normalisation may lengthen a text.
const MOST_GROWTH: usize = 64;

/// All stages below `at` that are no sequences, each checked for its type and patterns.
fn walk<'a>(at: &At<'a>, place: &Place, out: &mut Vec<(&'a str, At<'a>)>) -> Result<()> {
    if *at.json == Json::Null {
        return Ok(());
    }
    let kind = at.get("type")?.text()?;
    if !place.known.contains(&kind) {
        let known = place.known.join(" ");
        return Err(at.get("type")?.error(Kind::NotSupported { found: format!("{kind:?}"), known }));
    }
    if kind == "Sequence" {
        return at.get(place.list)?.items()?.try_for_each(|inner| walk(&inner, place, out));
    }
    if let Some(pattern) = at.opt("pattern")? {
        if let Some(regex) = pattern.opt("Regex")? {
            pattern::check(regex.text()?).map_err(|found| regex.found(found, "a pattern that runs in linear time"))?;
        } else if pattern.get("String")?.text()?.is_empty() {
            return Err(pattern.found("an empty pattern", "at least one character"));
        }
    }
    for key in ["content", "prepend"] {
        if let Some(text) = at.opt(key)?
            && text.text()?.len() > MOST_TEXT
        {
            let kind = Kind::TooMany { what: "bytes", found: text.text()?.len() as u64, most: MOST_TEXT as u64 };
            return Err(text.error(kind));
        }
    }
    out.push((kind, at.clone()));
    Ok(())
}

/// Checks the normaliser.
pub(super) fn normalizer(at: &At<'_>) -> Result<()> {
    walk(at, &NORMALIZERS, &mut Vec::new())?;
    match cut::growth(&at.json.value()) {
        growth if growth > MOST_GROWTH => {
            Err(at.found(format!("can make a text {growth} times longer"), format!("at most {MOST_GROWTH} times")))
        }
        _ => Ok(()),
    }
}

/// Checks the pre-tokenizer.
pub(super) fn pre_tokenizer(at: &At<'_>) -> Result<()> {
    walk(at, &PRE_TOKENIZERS, &mut Vec::new())
}

/// Checks the decoder and reads from it how tokens stand for bytes.
pub(super) fn decoder(at: &At<'_>) -> Result<Style> {
    let mut stages = Vec::new();
    walk(at, &DECODERS, &mut stages)?;
    let kinds: Vec<&str> = stages.iter().map(|s| s.0).collect();
    match kinds.as_slice() {
        ["ByteLevel"] => Ok(Style::ByteLevel),
        ["Metaspace"] => {
            let stage = &stages.first().map_or(at, |s| &s.1);
            let scheme = stage.opt("prepend_scheme")?.map(|s| s.text()).transpose()?;
            let strip_space = scheme != Some("never") && stage.get("add_prefix_space")?.bool_or(true)?;
            Ok(Style::Pieces { strip_space, byte_tokens: false })
        }
        ["Replace", rest @ ..] if rest.iter().all(|k| ["ByteFallback", "Fuse", "Strip"].contains(k)) => {
            for (kind, stage) in &stages {
                let sound = match *kind {
                    "Replace" => {
                        stage.get("content")?.text()? == " " && stage.get("pattern")?.get("String")?.text()? == "▁"
                    }
                    "Strip" => {
                        let start = stage.get("start")?.u32()?;
                        stage.get("content")?.text()? == " " && start <= 1 && stage.get("stop")?.u32()? == 0
                    }
                    _ => true,
                };
                if !sound {
                    let expected = "▁ replaced by a space, one space stripped at the start";
                    return Err(stage.found(format!("another {kind}"), expected));
                }
            }
            let has = |kind| rest.contains(&kind);
            Ok(Style::Pieces { strip_space: has("Strip"), byte_tokens: has("ByteFallback") })
        }
        [] => Err(at.found("no decoder", "ByteLevel, Metaspace, or the sequence of sentencepiece")),
        other => {
            let found = format!("the decoders {}", other.join(", "));
            Err(at.found(found, "ByteLevel, Metaspace, or Replace with ByteFallback, Fuse, Strip"))
        }
    }
}

/// Texts that the post-processor puts in front of and behind the ids, when it does.
pub(super) fn post_processor(at: &At<'_>) -> Result<(Option<String>, Option<String>)> {
    let mut stages = Vec::new();
    walk(at, &PROCESSORS, &mut stages)?;
    let (mut front, mut back) = (None, None);
    for (kind, stage) in stages {
        if kind != "TemplateProcessing" {
            continue;
        }
        let mut seen_text = false;
        for item in stage.get("single")?.items()? {
            match item.opt("SpecialToken")? {
                None => seen_text = true,
                Some(token) => {
                    let text = token.get("id")?.text()?.to_owned();
                    *(if seen_text { &mut back } else { &mut front }) = Some(text);
                }
            }
        }
    }
    Ok((front, back))
}
