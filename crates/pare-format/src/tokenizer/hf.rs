//! The files that a Hugging Face directory keeps a tokenizer in.

use serde_json::{Map, Value, json};
use tokenizers::Model;

use super::Tokenizer;
use crate::{FormatError, FormatErrorKind as Kind, Result};

impl Tokenizer {
    /// The text of `tokenizer.json`: the file's own bytes when it was read from one, else one that gives the same ids.
    ///
    /// # Errors
    /// The library cannot write its model.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        if let Some(source) = &self.source {
            return Ok(source.clone());
        }
        let bad = |e: serde_json::Error| {
            let kind = Kind::Found { found: e.to_string(), expected: "a tokenizer that can be written".into() };
            FormatError::new(&self.file, kind)
        };
        // Put together by hand: through a `Value` the vocabulary would be sorted by text and no longer by id.
        let mut out = format!(
            "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":{},",
            serde_json::to_string(&self.inner.added).map_err(bad)?
        );
        let stages = [
            ("normalizer", &self.normalizer),
            ("pre_tokenizer", &self.pre_tokenizer),
            ("post_processor", &self.post_processor),
            ("decoder", &self.decoder),
        ];
        for (name, stage) in stages {
            out.push_str(&format!("\"{name}\":{stage},"));
        }
        out.push_str(&format!("\"model\":{}}}", serde_json::to_string(&self.inner.model).map_err(bad)?));
        Ok(out.into_bytes())
    }

    /// Names and contents of the tokenizer files of a Hugging Face directory: `tokenizer.json`, `tokenizer_config.json` with the
    /// chat template, and `special_tokens_map.json`.
    ///
    /// # Errors
    /// As [`Self::to_json`].
    pub fn hf_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let specials = &self.specials;
        let mut map = Map::new();
        let names = [
            ("bos_token", specials.bos),
            ("eos_token", specials.eos),
            ("unk_token", specials.unk),
            ("pad_token", specials.pad),
        ];
        for (name, id) in names {
            if let Some(text) = id.and_then(|id| self.text(id)) {
                map.insert(name.into(), text.into());
            }
        }
        let mut config = map.clone();
        let class = self.class.as_deref().unwrap_or("PreTrainedTokenizerFast");
        config.insert("tokenizer_class".into(), class.into());
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        let is_said = |ids: &[u32], id: Option<u32>| ids.is_empty() || id.is_some_and(|id| ids == [id]);
        // Newer transformers puts bos and eos in place of what the post-processor says where these are there.
        if is_said(&specials.front, specials.bos) && is_said(&specials.back, specials.eos) {
            config.insert("add_bos_token".into(), (!specials.front.is_empty()).into());
            config.insert("add_eos_token".into(), (!specials.back.is_empty()).into());
        }
        let named = |(name, source): (&str, &String)| json!({ "name": name, "template": source });
        let default = specials.chat_template.iter().map(|source| ("default", source));
        let others = specials.other_templates.iter().map(|other| (other.name.as_str(), &other.source));
        match &specials.chat_template {
            Some(template) if specials.other_templates.is_empty() => {
                config.insert("chat_template".into(), json!(template));
            }
            None if specials.other_templates.is_empty() => {}
            _ => {
                config.insert("chat_template".into(), default.chain(others).map(named).collect());
            }
        }
        let lines = |map: Map<String, Value>| format!("{:#}\n", Value::Object(map)).into_bytes();
        Ok(vec![
            ("tokenizer.json".into(), self.to_json()?),
            ("tokenizer_config.json".into(), lines(config)),
            ("special_tokens_map.json".into(), lines(map)),
        ])
    }

    /// The text of a token as the file has it.
    pub(super) fn text(&self, id: u32) -> Option<String> {
        self.inner.added.simple_id_to_token(id).or_else(|| self.inner.model.id_to_token(id))
    }
}
