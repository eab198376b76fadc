//! Whether weights and configuration agree.

use std::collections::BTreeSet;
use std::path::Path;

use super::{ModelDirectory, listed};
use crate::config::CONFIG;
use crate::config::names::{EMBEDDING, HEAD};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::quote;

/// Fails unless `present` are exactly the names `expected` in the model `file`.
///
/// # Errors
/// `Names` with the first five missing and the first five extra names, and their numbers.
pub fn check_names<'a>(
    file: &Path,
    expected: impl Iterator<Item = String>,
    present: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut extra: BTreeSet<String> = present.map(str::to_owned).collect();
    let missing: BTreeSet<String> = expected.filter(|name| !extra.remove(name)).collect();
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing {}", listed(&missing)));
    }
    if !extra.is_empty() {
        parts.push(format!("not expected {}", listed(&extra)));
    }
    if parts.is_empty() {
        return Ok(());
    }
    Err(FormatError::new(file, FormatErrorKind::Names(parts.join("; "))))
}

/// The embedding has as many rows and columns as the configuration says.
pub(super) fn embedding(model: &ModelDirectory) -> Result<()> {
    let Some((_, info)) = model.info(EMBEDDING) else { return Ok(()) };
    let config = &model.config;
    let wrong = |field: &str, said: usize, expected: String| {
        let kind = FormatErrorKind::Found { found: said.to_string(), expected };
        Err(FormatError::new(model.root.join(CONFIG), kind).item(quote::field(field)))
    };
    match info.shape.as_slice() {
        &[rows, _] if rows != config.vocab => {
            wrong("vocab_size", config.vocab, format!("{rows}, the rows of {}", quote::tensor(EMBEDDING)))
        }
        &[_, columns] if columns != config.hidden => {
            wrong("hidden_size", config.hidden, format!("{columns}, the columns of {}", quote::tensor(EMBEDDING)))
        }
        &[_, _] => Ok(()),
        other => {
            let kind =
                FormatErrorKind::Found { found: format!("shape {other:?}"), expected: "rows and columns".into() };
            Err(FormatError::new(&model.root, kind).item(quote::tensor(EMBEDDING)))
        }
    }
}

/// A tied head that is stored all the same must be the embedding.
pub(super) fn head(model: &ModelDirectory) -> Option<String> {
    if !model.config.tied {
        return None;
    }
    let (head, embedding) = (model.tensor(HEAD)?, model.tensor(EMBEDDING)?);
    let same = head.dtype == embedding.dtype && head.shape == embedding.shape && *head.bytes == *embedding.bytes;
    (!same).then(|| {
        format!("{CONFIG} says that the head is the embedding (tie_word_embeddings), but {HEAD} differs from it and is not used")
    })
}
