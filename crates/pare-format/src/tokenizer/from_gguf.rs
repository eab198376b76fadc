//! Builds the tokenizer that a GGUF file describes in its metadata.

use serde_json::{Value, json};
use tokenizers::AddedToken;

use super::parts::{MOST_MERGES, MOST_TOKENS, Parts};
use super::pre;
use super::table::{Style, byte_token};
use super::{NamedTemplate, Specials, Tokenizer};
use crate::gguf::{Gguf, Strings};
use crate::{FormatErrorKind as Kind, Result};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";

/// Longest piece of a sentencepiece model, and all of them together, in bytes: every way to split each piece is looked up.
const MOST_PIECE: usize = 256;
const MOST_PIECES: usize = 16 << 20;
/// Chat templates for other purposes.
const MOST_TEMPLATES: usize = 64;

/// What a token is for, as numbered in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Tokenizer {
    /// Builds the tokenizer from `tokenizer.*` keys.
    ///
    /// # Errors
    /// The key and entry that is wrong; a tokenizer model or pre-tokenizer that is not known, with the list of those that are.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let model = gguf.str("tokenizer.ggml.model")?;
        let tokens = texts(gguf, TOKENS, gguf.strings(TOKENS)?, MOST_TOKENS)?;
        let roles = roles(gguf, tokens.len())?;
        let found = specials(gguf, tokens.len())?;
        match model {
            "gpt2" => byte_level(gguf, &tokens, &roles, found),
            "llama" => sentencepiece(gguf, &tokens, &roles, found),
            other => {
                let kind = Kind::NotSupported { found: format!("{other:?}"), known: "gpt2 llama".into() };
                Err(gguf.error("tokenizer.ggml.model", kind))
            }
        }
    }
}

/// The strings of a key as UTF-8.
fn texts<'a>(gguf: &Gguf, key: &str, strings: &'a Strings, most: usize) -> Result<Vec<&'a str>> {
    if strings.len() > most {
        return Err(gguf.error(key, Kind::TooMany { what: "entries", found: strings.len() as u64, most: most as u64 }));
    }
    let text = |(i, bytes): (usize, &'a [u8])| {
        std::str::from_utf8(bytes).map_err(|e| {
            let found = format!("invalid UTF-8 at its byte {}", e.valid_up_to());
            gguf.error(&format!("{key}[{i}]"), Kind::Found { found, expected: "UTF-8".into() })
        })
    };
    strings.iter().enumerate().map(text).collect()
}

fn wrong_length(gguf: &Gguf, key: &str, found: usize, tokens: usize) -> crate::FormatError {
    let kind = Kind::Found { found: format!("{found} entries"), expected: format!("{tokens}, one per token") };
    gguf.error(key, kind)
}

fn roles(gguf: &Gguf, tokens: usize) -> Result<Vec<Role>> {
    let Some(types) = gguf.opt_u32s(TYPES)? else { return Ok(vec![Role::Normal; tokens]) };
    if types.len() != tokens {
        return Err(wrong_length(gguf, TYPES, types.len(), tokens));
    }
    let role = |(i, &n): (usize, &u32)| match n {
        0 | 1 => Ok(Role::Normal),
        2 => Ok(Role::Unknown),
        3 => Ok(Role::Control),
        4 => Ok(Role::UserDefined),
        5 => Ok(Role::Unused),
        6 => Ok(Role::Byte),
        n => {
            let kind = Kind::Found { found: format!("token type {n}"), expected: "0 to 6".into() };
            Err(gguf.error(&format!("{TYPES}[{i}]"), kind))
        }
    };
    types.iter().enumerate().map(role).collect()
}

/// What the file says of single tokens, and what is odd about that.
struct Found {
    specials: Specials,
    warnings: Vec<String>,
}

/// The ids that the file names. One beyond the vocabulary is a warning: no model can produce it.
fn specials(gguf: &Gguf, tokens: usize) -> Result<Found> {
    let mut warnings = Vec::new();
    let mut id = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        // Some converters write the largest number for "none".
        let id = gguf.opt_u32(&key)?.filter(|&id| id != u32::MAX);
        if let Some(id) = id.filter(|&id| id as usize >= tokens) {
            warnings.push(format!("{key} is {id}, the vocabulary has {tokens} tokens; it is left out"));
            return Ok(None);
        }
        Ok(id)
    };
    let specials = Specials {
        bos: id("bos")?,
        eos: id("eos")?,
        eot: id("eot")?,
        eom: id("eom")?,
        unk: id("unknown")?,
        pad: id("padding")?,
        front: Vec::new(),
        back: Vec::new(),
        chat_template: gguf.opt_str("tokenizer.chat_template")?.map(str::to_owned),
        other_templates: other_templates(gguf)?,
    };
    Ok(Found { specials, warnings })
}

/// What both kinds share: the vocabulary, the added tokens, the post-processor.
fn parts<'a>(gguf: &'a Gguf, tokens: &[&str], roles: &[Role], found: Found) -> Parts<'a> {
    let Found { specials, warnings } = found;
    let all = || (0_u32..).zip(tokens).zip(roles).map(|((id, &text), &role)| (id, text, role));
    let added = all().filter_map(|(id, text, role)| match role {
        Role::Control | Role::Unknown => Some((id, AddedToken::from(text, true))),
        Role::UserDefined => Some((id, AddedToken::from(text, false).normalized(false))),
        _ => None,
    });
    let post_processor = template_processing(tokens, &specials);
    Parts {
        file: gguf.file(),
        vocab_name: TOKENS,
        merges_name: MERGES,
        // Empty texts are holes: nothing could ever produce them.
        vocab: all().filter(|t| !t.1.is_empty()).map(|(id, text, _)| (text.to_owned(), id)).collect(),
        merges: Vec::new(),
        unk: None,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        added: added.filter(|a| !a.1.content.is_empty()).collect(),
        normalizer: Value::Null,
        pre_tokenizer: Value::Null,
        post_processor,
        decoder: Value::Null,
        style: Style::ByteLevel,
        specials,
        warnings,
    }
}

/// The post-processor that puts the same ids around a text.
fn template_processing(tokens: &[&str], specials: &Specials) -> Value {
    if specials.front.is_empty() && specials.back.is_empty() {
        return Value::Null;
    }
    let text = |id: u32| tokens.get(id as usize).copied().unwrap_or_default();
    let special = |kind: u8| move |&id: &u32| json!({ "SpecialToken": { "id": text(id), "type_id": kind } });
    let around = |name: &str, kind: u8| -> Vec<Value> {
        let sequence = json!({ "Sequence": { "id": name, "type_id": kind } });
        let (front, back) = (specials.front.iter().map(special(kind)), specials.back.iter().map(special(kind)));
        front.chain([sequence]).chain(back).collect()
    };
    let pair = [around("A", 0), around("B", 1)].concat();
    let listed = specials.front.iter().chain(&specials.back);
    let listed = listed.map(|&id| (text(id).to_owned(), json!({ "id": text(id), "ids": [id], "tokens": [text(id)] })));
    json!({
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": pair,
        "special_tokens": listed.collect::<serde_json::Map<_, _>>(),
    })
}

/// What stands around a text: `bos` and `eos`, as the file says or else by default.
fn around(gguf: &Gguf, tokens: &[&str], specials: &mut Specials, add_bos: bool) -> Result<()> {
    // An empty text is a hole: nothing can stand there.
    let exists = |id: &u32| tokens.get(*id as usize).is_some_and(|text| !text.is_empty());
    let add_bos = gguf.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos);
    let add_eos = gguf.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    specials.front = specials.bos.filter(exists).filter(|_| add_bos).into_iter().collect();
    specials.back = specials.eos.filter(exists).filter(|_| add_eos).into_iter().collect();
    Ok(())
}

/// Chat templates for other purposes: a list of names, and a key for each.
fn other_templates(gguf: &Gguf) -> Result<Vec<NamedTemplate>> {
    const NAMES: &str = "tokenizer.chat_templates";
    if gguf.get(NAMES).is_none() {
        return Ok(Vec::new());
    }
    let names = texts(gguf, NAMES, gguf.strings(NAMES)?, MOST_TEMPLATES)?;
    let source = |name: &&str| Ok(gguf.opt_str(&format!("tokenizer.chat_template.{name}"))?.map(str::to_owned));
    let mut templates = Vec::new();
    for name in &names {
        templates.extend(source(name)?.map(|source| NamedTemplate { name: (*name).to_owned(), source }));
    }
    templates.sort();
    Ok(templates)
}

fn byte_level(gguf: &Gguf, tokens: &[&str], roles: &[Role], mut found: Found) -> Result<Tokenizer> {
    let name = gguf.opt_str("tokenizer.ggml.pre")?;
    if name.is_none() {
        found.warnings.push(format!(
            "tokenizer.ggml.pre is missing: text is cut by the rule {:?}, and may get other ids than in training",
            pre::DEFAULT
        ));
    }
    let name = name.unwrap_or(pre::DEFAULT);
    let Some(pre) = pre::find(name) else {
        let short: String = name.chars().take(64).collect();
        let near = pre::names().min_by_key(|known| strsim::levenshtein(known, &short)).unwrap_or(pre::DEFAULT);
        let known = format!("the {} names that llama.cpp knows; the nearest is {near:?}", pre::names().count());
        let kind = Kind::NotSupported { found: format!("pre-tokenizer {name:?}"), known };
        return Err(gguf.error("tokenizer.ggml.pre", kind));
    };
    around(gguf, tokens, &mut found.specials, pre.add_bos)?;
    let lines = texts(gguf, MERGES, gguf.strings(MERGES)?, MOST_MERGES)?;
    let split = |(i, line): (usize, &&str)| match line.split_once(' ') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => Ok((a.to_owned(), b.to_owned())),
        _ => {
            let kind = Kind::Found { found: format!("{line:?}"), expected: "two tokens and one space".into() };
            Err(gguf.error(&format!("{MERGES}[{i}]"), kind))
        }
    };
    let merges = lines.iter().enumerate().map(split).collect::<Result<_>>()?;
    let mut parts = Parts {
        merges,
        ignore_merges: pre.ignore_merges,
        normalizer: pre.normalizer,
        pre_tokenizer: pre.pre_tokenizer,
        decoder: json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
        ..parts(gguf, tokens, roles, found)
    };
    if pre.is_text {
        parts.byte_fallback = tokens.iter().any(|text| byte_token(text).is_some());
        parts.decoder = json!({ "type": "Sequence", "decoders": pieces_decoder() });
        parts.style = Style::Pieces { strip_space: false, byte_tokens: true };
    }
    parts.build(None)
}

fn replace(from: &str, to: &str) -> Value {
    json!({ "type": "Replace", "pattern": { "String": from }, "content": to })
}

/// From pieces to text.
fn pieces_decoder() -> Vec<Value> {
    vec![replace("▁", " "), json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })]
}

fn sentencepiece(gguf: &Gguf, tokens: &[&str], roles: &[Role], mut found: Found) -> Result<Tokenizer> {
    around(gguf, tokens, &mut found.specials, true)?;
    let add_space = gguf.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    for (i, (text, role)) in tokens.iter().zip(roles).enumerate() {
        if *role == Role::Byte && byte_token(text).is_none() {
            let kind = Kind::Found { found: format!("byte token {text:?}"), expected: "<0x00> to <0xFF>".into() };
            return Err(gguf.error(&format!("{TOKENS}[{i}]"), kind));
        }
    }
    let unk = tokens.iter().zip(roles).find(|(_, role)| **role == Role::Unknown).map(|(text, _)| (*text).to_owned());
    let mut normalizers = vec![replace(" ", "▁")];
    let mut decoders = pieces_decoder();
    if add_space {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let parts = Parts {
        merges: merges_of_pieces(gguf, tokens, roles)?,
        unk,
        fuse_unk: true,
        byte_fallback: roles.contains(&Role::Byte),
        normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        style: Style::Pieces { strip_space: add_space, byte_tokens: true },
        ..parts(gguf, tokens, roles, found)
    };
    parts.build(None)
}

/// Sentencepiece keeps no merges: it joins the neighbours whose union has the best score. The same ids come from a list of
/// every way to split a piece in two, best union first, shorter halves last.
fn merges_of_pieces(gguf: &Gguf, tokens: &[&str], roles: &[Role]) -> Result<Vec<(String, String)>> {
    let scores = gguf.opt_f32s(SCORES)?;
    let scores = scores.ok_or_else(|| gguf.error(SCORES, Kind::Absent { expected: "an array of f32" }))?;
    if scores.len() != tokens.len() {
        return Err(wrong_length(gguf, SCORES, scores.len(), tokens.len()));
    }
    if let Some(i) = scores.iter().position(|s| s.is_nan()) {
        let kind = Kind::Found { found: "NaN".into(), expected: "a score".into() };
        return Err(gguf.error(&format!("{SCORES}[{i}]"), kind));
    }
    // Only pieces of text join; control and byte tokens never come from text.
    let mut pieces: Vec<(&str, u32)> = (0_u32..)
        .zip(tokens)
        .zip(roles)
        .filter(|((_, text), role)| !text.is_empty() && matches!(role, Role::Normal | Role::UserDefined))
        .map(|((id, text), _)| (*text, id))
        .collect();
    if let Some((text, id)) = pieces.iter().find(|p| p.0.len() > MOST_PIECE) {
        let kind = Kind::TooMany { what: "bytes", found: text.len() as u64, most: MOST_PIECE as u64 };
        return Err(gguf.error(&format!("{TOKENS}[{id}]"), kind));
    }
    let total: usize = pieces.iter().map(|p| p.0.len()).sum();
    if total > MOST_PIECES {
        let kind = Kind::TooMany { what: "bytes of pieces", found: total as u64, most: MOST_PIECES as u64 };
        return Err(gguf.error(TOKENS, kind));
    }
    pieces.sort_unstable();
    let find = |text: &str| pieces.binary_search_by(|p| p.0.cmp(text)).ok().and_then(|i| pieces.get(i)).map(|p| p.1);
    let mut merges: Vec<(f32, u32, u32)> = Vec::new();
    let mut by_id: Vec<(u32, &str)> = pieces.iter().map(|&(text, id)| (id, text)).collect();
    by_id.sort_unstable();
    for (id, text) in by_id {
        let start = merges.len();
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(left), Some(right)) = (find(left), find(right)) {
                merges.push((scores.get(id as usize).copied().unwrap_or(0.0), left, right));
            }
        }
        if let Some(ways) = merges.get_mut(start..) {
            ways.sort_by_key(|way| (way.1, way.2));
        }
        if merges.len() > MOST_MERGES {
            let kind = Kind::TooMany { what: "ways to join", found: merges.len() as u64, most: MOST_MERGES as u64 };
            return Err(gguf.error(TOKENS, kind));
        }
    }
    let text = |id: u32| tokens.get(id as usize).copied().unwrap_or_default();
    let length = |id: u32| text(id).chars().count();
    merges.sort_by(|a, b| {
        let score = b.0.total_cmp(&a.0);
        score.then_with(|| length(b.1).cmp(&length(a.1))).then_with(|| length(b.2).cmp(&length(a.2)))
    });
    Ok(merges.into_iter().map(|(_, left, right)| (text(left).to_owned(), text(right).to_owned())).collect())
}
