//! Text to ids.

use tokenizers::models::bpe::BPE;
use tokenizers::{
    AddedVocabulary, Model, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizer, PreTokenizerWrapper, Token,
};

use super::Tokenizer;
use super::cut::Cuts;
use super::words::Words;
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// What runs before the model.
pub(super) struct Stages {
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: Option<PreTokenizerWrapper>,
    /// The same as `pre_tokenizer`, for byte-level models.
    pub(super) words: Option<Words>,
}

/// The library's parts, called one by one: its own `encode` takes the whole text at once.
pub(super) struct Inner {
    pub(super) model: BPE,
    pub(super) stages: Stages,
    /// The stages for text that goes on after a cut inside a word, when they differ.
    pub(super) rest: Option<Stages>,
    /// Finds special tokens in text.
    pub(super) added: AddedVocabulary,
    /// Leaves the text of special tokens alone.
    pub(super) plain: AddedVocabulary,
    pub(super) cuts: Cuts,
}

/// Ids per byte of text beyond which a normaliser is blowing the text up.
const MOST_IDS_PER_BYTE: usize = 4;

impl Tokenizer {
    /// The ids of `text`, without any that mark its beginning or end.
    ///
    /// Text that spells a special token, such as `<|im_end|>`, becomes that token only with `allow_special`; otherwise it is
    /// text like any other. Long texts are encoded in pieces with the ids of the whole; only a run of more than 256 KiB
    /// without white space or punctuation is cut where it stands, and its ids can differ around that place.
    ///
    /// # Errors
    /// The text is longer than this tokenizer can take, its normaliser blows it up, or plain text would become a special id.
    pub fn encode(&self, text: &str, allow_special: bool) -> Result<Vec<u32>> {
        let most = text.len().saturating_mul(MOST_IDS_PER_BYTE).saturating_add(1024);
        let mut ids = Vec::with_capacity(text.len() / 4);
        let (mut rest, mut clean) = (text, true);
        while !rest.is_empty() {
            let piece = self.inner.cuts.next(rest).map_err(|most| {
                self.text_error(format!("text of {} bytes", rest.len()), format!("at most {most} for this tokenizer"))
            })?;
            let (head, tail) = rest.split_at(piece.len);
            let stages =
                if clean { &self.inner.stages } else { self.inner.rest.as_ref().unwrap_or(&self.inner.stages) };
            self.encode_piece(head, stages, allow_special, &mut ids)?;
            if ids.len() > most {
                let found = format!("normalised text with more than {most} tokens");
                return Err(self.text_error(found, format!("at most {MOST_IDS_PER_BYTE} per byte")));
            }
            rest = tail.get(piece.skip..).unwrap_or_default();
            clean = piece.clean;
        }
        Ok(ids)
    }

    fn encode_piece(&self, text: &str, stages: &Stages, allow_special: bool, ids: &mut Vec<u32>) -> Result<()> {
        let library = |e: tokenizers::Error| self.text_error(e.to_string(), "text that can be split".into());
        let added = if allow_special { &self.inner.added } else { &self.inner.plain };
        let mut pieces = added.extract_and_normalize(stages.normalizer.as_ref(), text);
        let model = &self.inner.model;
        let Some(words) = &stages.words else {
            if let Some(pre_tokenizer) = &stages.pre_tokenizer {
                pre_tokenizer.pre_tokenize(&mut pieces).map_err(library)?;
            }
            pieces.tokenize(|word| model.tokenize(word.get())).map_err(library)?;
            for (_, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
                self.take_ids(tokens.iter().flatten(), allow_special, ids)?;
            }
            return Ok(());
        };
        for (text, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            match tokens {
                Some(tokens) => self.take_ids(tokens, allow_special, ids)?,
                None => words
                    .each(text, |word| self.take_ids(&model.tokenize(word).map_err(library)?, allow_special, ids))?,
            }
        }
        Ok(())
    }

    fn take_ids<'a>(
        &self,
        tokens: impl IntoIterator<Item = &'a Token>,
        allow_special: bool,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        for token in tokens {
            if !allow_special && Some(token.id) != self.unk && self.special.binary_search(&token.id).is_ok() {
                let found = format!("plain text that the vocabulary turns into the special token {:?}", token.value);
                return Err(self.text_error(found, "text without special tokens".into()));
            }
            ids.push(token.id);
        }
        Ok(())
    }

    fn text_error(&self, found: String, expected: String) -> FormatError {
        FormatError::new(&self.file, Kind::Found { found, expected }).item("text to encode")
    }
}
