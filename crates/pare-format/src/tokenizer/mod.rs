//! Tokenizers: byte-pair models from `tokenizer.json` or from the metadata of a GGUF file.
//!
//! The merging itself is done by the `tokenizers` library. What is ours: every file is checked before the library sees it,
//! only patterns that run in linear time are accepted, long texts are encoded in pieces, text that spells a special token
//! stays text, and decoding works on bytes.
#![deny(clippy::indexing_slicing)]

mod config;
mod cut;
mod encode;
mod ends;
mod from_gguf;
mod from_json;
mod fuzz;
mod hf;
mod json;
mod parts;
mod pattern;
mod pre;
mod stages;
mod stream;
mod table;
mod to_gguf;
mod words;

pub use config::generation_ends;
pub use fuzz::fuzz;
pub use stream::Stream;
pub use to_gguf::Described;

use std::path::{Path, PathBuf};

use encode::{Inner, Stages};
use ends::Ends;
use serde_json::Value;
use table::Table;

use crate::chat::Date;
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// Ids with a meaning, and what the model expects around its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    /// Beginning of the sequence.
    pub bos: Option<u32>,
    /// End of the sequence.
    pub eos: Option<u32>,
    /// End of a turn in a chat, when it differs from `eos` or is known by its text.
    pub eot: Option<u32>,
    /// End of a message to a tool.
    pub eom: Option<u32>,
    /// Unknown text.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// What the model expects in front of a text, most often `bos`.
    pub front: Vec<u32>,
    /// What the model expects behind a text, most often nothing.
    pub back: Vec<u32>,
    /// Jinja source that turns messages into a prompt.
    pub chat_template: Option<String>,
    /// Templates for other purposes, such as `tool_use`, sorted by name.
    pub other_templates: Vec<NamedTemplate>,
}

/// A chat template for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedTemplate {
    /// What it is for.
    pub name: String,
    /// Jinja source.
    pub source: String,
}

/// A byte-pair tokenizer.
pub struct Tokenizer {
    file: PathBuf,
    inner: Inner,
    table: Table,
    /// Ids of special tokens, sorted.
    special: Vec<u32>,
    /// What their texts say about the end.
    ends: Ends,
    /// The id for unknown text, when the model has one.
    unk: Option<u32>,
    specials: Specials,
    /// The class of transformers that follows `add_bos_token`, when the tokenizer is of one.
    class: Option<String>,
    /// Where the chat template was read from, when that is another file.
    template_file: Option<PathBuf>,
    /// The day that the chat template sees.
    date: Date,
    /// What is odd but allowed.
    warnings: Vec<String>,
    /// The file's own text, when it was a tokenizer.json.
    source: Option<Vec<u8>>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.vocab_size();
        f.debug_struct("Tokenizer").field("file", &self.file).field("vocab_size", &size).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The file that it was read from, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The file that the chat template was read from, for messages.
    pub fn template_file(&self) -> &Path {
        self.template_file.as_deref().unwrap_or(&self.file)
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// The bytes that `id` stands for, or `None` when there is no such token.
    pub fn token(&self, id: u32) -> Option<&[u8]> {
        self.table.get(id)
    }

    /// The id of a token by its text in the file (`Ġthe`, `<|im_end|>`).
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.added.token_to_id(token, &self.inner.model)
    }

    /// Whether `id` is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// Ids with a meaning.
    pub fn specials(&self) -> &Specials {
        &self.specials
    }

    /// Beginning of the sequence.
    pub fn bos(&self) -> Option<u32> {
        self.specials.bos
    }

    /// End of the sequence.
    pub fn eos(&self) -> Option<u32> {
        self.specials.eos
    }

    /// End of a turn in a chat.
    pub fn eot(&self) -> Option<u32> {
        self.specials.eot
    }

    /// The ids of `text` with those that the model expects in front and behind. With `allow_special`, text that spells a special token
    /// becomes that token.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str, allow_special: bool) -> Result<Vec<u32>> {
        let ids = self.encode(text, allow_special)?;
        Ok([self.specials.front.as_slice(), &ids, &self.specials.back].concat())
    }

    /// Every token of the vocabulary that ends a text or a turn, sorted: those that the files name, and control tokens that are known to.
    pub fn ends(&self) -> Vec<u32> {
        let Specials { eos, eot, eom, .. } = self.specials;
        let mut all: Vec<u32> = self.ends.all.iter().copied().chain([eos, eot, eom].into_iter().flatten()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What is odd but allowed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The day that chat templates see, [`crate::chat::DAY`] unless it is set.
    pub fn date(&self) -> Date {
        self.date
    }

    /// Sets the day that chat templates see.
    #[must_use]
    pub fn with_date(mut self, date: Date) -> Self {
        self.date = date;
        self
    }

    /// Jinja source that turns messages into a prompt.
    pub fn chat_template(&self) -> Option<&str> {
        self.specials.chat_template.as_deref()
    }

    /// Compares with a model whose embedding has `rows` rows. Fewer tokens than rows is common padding and fine.
    ///
    /// # Errors
    /// Both numbers, when a token has no row.
    pub fn check_rows(&self, rows: usize) -> Result<()> {
        if self.vocab_size() <= rows {
            return Ok(());
        }
        let found = format!("a token with the id {}", self.vocab_size().saturating_sub(1));
        let kind = Kind::Found { found, expected: format!("ids below {rows}, the rows of the model's embedding") };
        Err(FormatError::new(&self.file, kind).hint("tokenizer and weights are from different models"))
    }
}
