//! What stands beside `tokenizer.json`: `tokenizer_config.json` and chat templates in files of their own.

use std::path::Path;

use super::json::{self, At, Json};
use super::{NamedTemplate, Tokenizer};
use crate::{FormatErrorKind as Kind, Result};

/// The template that is used when no other is asked for.
const DEFAULT: &str = "default";
/// Classes of transformers that put `bos` and `eos` around a text as `add_bos_token` and `add_eos_token` say, whatever the
/// post-processor says. All others follow the post-processor.
const FOLLOW_FLAGS: &[&str] = &["LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer"];

impl Tokenizer {
    /// Adds what `tokenizer_config.json` says: special tokens by name, what stands around a text, chat templates. A token that the
    /// vocabulary lacks is a warning: no model can produce it.
    ///
    /// # Errors
    /// Not JSON, or a field of a wrong type.
    pub fn with_config(mut self, file: &Path, bytes: &[u8]) -> Result<Self> {
        let json = json::parse(file, bytes)?;
        let root = At::root(file, &json);
        let mut lacking = Vec::new();
        let mut token = |key: &str| -> Result<Option<u32>> {
            let Some(at) = root.opt(key)? else { return Ok(None) };
            let text = if let Json::Object(_) = at.json { at.get("content")?.text()? } else { at.text()? };
            let id = self.id(text);
            if id.is_none() {
                lacking
                    .push(format!("{}: {key} {text:?} is no token of the vocabulary and is left out", file.display()));
            }
            Ok(id)
        };
        let mut specials = self.specials.clone();
        specials.bos = token("bos_token")?.or(specials.bos);
        specials.eos = token("eos_token")?.or(specials.eos);
        specials.unk = token("unk_token")?.or(specials.unk);
        specials.pad = token("pad_token")?.or(specials.pad);
        self.warnings.extend(lacking);

        let class = root.opt("tokenizer_class")?.map(|class| class.text()).transpose()?.unwrap_or_default();
        let follows = FOLLOW_FLAGS.contains(&class.trim_end_matches("Fast"));
        let flags = [("add_bos_token", specials.bos), ("add_eos_token", specials.eos)];
        for ((key, id), around) in flags.into_iter().zip([&mut specials.front, &mut specials.back]) {
            let Some(at) = root.opt(key)? else { continue };
            let wanted: Vec<u32> = if at.bool_or(false)? { id.into_iter().collect() } else { Vec::new() };
            if follows {
                *around = wanted;
                self.class = Some(class.to_owned());
            } else if wanted.is_empty() != around.is_empty() {
                let said = if around.is_empty() { "puts nothing there" } else { "puts a token there" };
                self.warnings.push(format!(
                    "{}: {key} is {}, the post-processor of tokenizer.json {said} and is followed",
                    file.display(),
                    !wanted.is_empty()
                ));
            }
        }
        self.specials = specials;
        let Some(templates) = root.opt("chat_template")? else { return Ok(self) };
        if let Json::Text(source) = templates.json {
            return Ok(self.with_chat_template(file, source.clone()));
        }
        for item in templates.items()? {
            let (name, source) = (item.get("name")?.text()?, item.get("template")?.text()?);
            self = self.with_named_template(file, name, source.to_owned());
        }
        Ok(self)
    }

    /// Sets the chat template, for directories that keep it in a `file` of its own.
    #[must_use]
    pub fn with_chat_template(mut self, file: &Path, source: String) -> Self {
        self.template_file = Some(file.to_owned());
        self.specials.chat_template = Some(source);
        self
    }

    /// Adds a chat template for one purpose, in place of an earlier one of this name; `default` is the chat template itself.
    #[must_use]
    pub fn with_named_template(mut self, file: &Path, name: &str, source: String) -> Self {
        if name == DEFAULT {
            return self.with_chat_template(file, source);
        }
        let others = &mut self.specials.other_templates;
        others.retain(|other| other.name != name);
        others.push(NamedTemplate { name: name.to_owned(), source });
        others.sort();
        self
    }

    /// Adds something odd that was found beside the tokenizer.
    #[must_use]
    pub fn with_warning(mut self, warning: String) -> Self {
        self.warnings.push(warning);
        self
    }
}

/// The end tokens that a `generation_config.json` names, and what is odd about it. It is a side file: nothing in it is an error.
pub fn generation_ends(file: &Path, bytes: &[u8], rows: usize) -> (Vec<u32>, Vec<String>) {
    let read = || -> Result<Vec<u32>> {
        let json = json::parse(file, bytes)?;
        let Some(ends) = At::root(file, &json).opt("eos_token_id")? else { return Ok(Vec::new()) };
        match ends.json {
            Json::List(_) => ends.items()?.map(|id| id.u32()).collect(),
            _ => Ok(vec![ends.u32()?]),
        }
    };
    let (mut ends, mut warnings) = match read() {
        Ok(ends) => (ends, Vec::new()),
        Err(error) => (Vec::new(), vec![format!("{error}; the file is not used")]),
    };
    if let Some(id) = ends.iter().find(|&&id| id as usize >= rows) {
        let what = Kind::Found { found: format!("eos_token_id {id}"), expected: format!("ids below {rows}") };
        warnings.push(format!("{}: {what}; it is left out", file.display()));
    }
    ends.retain(|&id| (id as usize) < rows);
    (ends, warnings)
}
