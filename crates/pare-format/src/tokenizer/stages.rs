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
const PROCESSORS: Place = Place {
    known: &["ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence"],
    list: "processors",
};

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

/// Ids that the post-processor puts around those of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    pub(super) front: Vec<u32>,
    pub(super) back: Vec<u32>,
}

impl Around {
    /// All of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.front.iter().chain(&self.back).copied()
    }
}

/// Checks the post-processor and reads what it puts around a text.
pub(super) fn post_processor(at: &At<'_>) -> Result<Around> {
    let mut stages = Vec::new();
    walk(at, &PROCESSORS, &mut stages)?;
    let mut all = Around::default();
    for (kind, stage) in stages {
        let one = match kind {
            "TemplateProcessing" => template(at, &stage)?,
            "BertProcessing" | "RobertaProcessing" => {
                Around { front: vec![pair_id(&stage.get("cls")?)?], back: vec![pair_id(&stage.get("sep")?)?] }
            }
            _ => continue,
        };
        // A later stage stands around what the earlier ones made.
        all = Around { front: [one.front, all.front].concat(), back: [all.back, one.back].concat() };
    }
    Ok(all)
}

/// What a `TemplateProcessing` below `at` puts around a single text.
fn template(at: &At<'_>, stage: &At<'_>) -> Result<Around> {
    let mut around = Around::default();
    let mut texts = 0_u32;
    for item in stage.get("single")?.items()? {
        let Some(token) = item.opt("SpecialToken")? else {
            texts = texts.saturating_add(1);
            continue;
        };
        let text = token.get("id")?.text()?;
        let Some(listed) = stage.get("special_tokens")?.opt(text)? else {
            let found = format!("puts {text:?} around a text, which its special_tokens do not list");
            return Err(at.found(found, "a token of the vocabulary"));
        };
        let ids = if texts == 0 { &mut around.front } else { &mut around.back };
        for id in listed.get("ids")?.items()? {
            ids.push(id.u32()?);
        }
    }
    if texts != 1 {
        return Err(stage.get("single")?.found(format!("the text {texts} times"), "the text once"));
    }
    Ok(around)
}

/// The id of a pair such as `["</s>", 2]`.
fn pair_id(at: &At<'_>) -> Result<u32> {
    at.items()?.nth(1).ok_or_else(|| at.of_type("a token and its id"))?.u32()
}
