//! Ids to text, at once or one by one.

use super::Tokenizer;
use super::table::Style;

/// Turns ids into text as they come. Bytes that do not yet make a whole character are held back.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// Bytes of a character that is not complete.
    held: Vec<u8>,
    /// The next bytes are the first of the text.
    first: bool,
}

impl Tokenizer {
    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD; an id without a token, which a model with more rows than tokens can
    /// produce, becomes nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.stream(skip_special);
        let mut text = String::new();
        for &id in ids {
            text.push_str(&stream.push(id));
        }
        text.push_str(&stream.finish());
        text
    }

    /// A decoder that takes ids one by one.
    pub fn stream(&self, skip_special: bool) -> Stream<'_> {
        Stream { tokenizer: self, skip_special, held: Vec::new(), first: true }
    }
}

impl Stream<'_> {
    /// Adds one id and returns the text that is now certain; often empty, and always for an id without a token.
    pub fn push(&mut self, id: u32) -> String {
        let tokenizer = self.tokenizer;
        let Some(mut bytes) = tokenizer.token(id) else { return String::new() };
        if self.skip_special && tokenizer.is_special(id) {
            return String::new();
        }
        if std::mem::take(&mut self.first) && matches!(tokenizer.table.style, Style::Pieces { strip_space: true, .. }) {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.held.extend_from_slice(bytes);
        self.take(false)
    }

    /// Ends the text: what was held back comes out as U+FFFD.
    pub fn finish(mut self) -> String {
        self.take(true)
    }

    /// Takes the text from `held`, without an incomplete character at its end unless this `is_end`.
    fn take(&mut self, is_end: bool) -> String {
        let mut text = String::new();
        let (mut seen, mut keep) = (0_usize, 0);
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            let bad = chunk.invalid();
            seen = seen.saturating_add(chunk.valid().len()).saturating_add(bad.len());
            if bad.is_empty() {
                continue;
            }
            // Only at the very end can bytes be lacking that are still to come.
            let incomplete = std::str::from_utf8(bad).is_err_and(|e| e.error_len().is_none());
            if incomplete && seen == self.held.len() && !is_end {
                keep = bad.len();
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        let done = self.held.len().saturating_sub(keep);
        self.held.drain(..done);
        text
    }
}
