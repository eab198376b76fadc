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

/// Whether the head is the embedding: the weights decide, and what they contradict is said.
pub(super) fn tied(model: &ModelDirectory) -> (bool, Option<String>) {
    let tied = model.config.tied;
    let of_head = |name: &str| name.strip_prefix(HEAD).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let stored = model.names().any(of_head);
    if tied == stored && !(tied && same_head(model)) {
        let (said, there, used) = match tied {
            true => ("is the embedding", format!("{HEAD} differs from it"), "the stored head"),
            false => ("is not the embedding", format!("there is no {HEAD}"), "the embedding"),
        };
        let warning = format!("{CONFIG} says that the head {said} (tie_word_embeddings), but {there}: {used} is used");
        return (!tied, Some(warning));
    }
    (tied, None)
}

/// Whether the stored head has the bytes of the embedding.
fn same_head(model: &ModelDirectory) -> bool {
    let (Some(head), Some(embedding)) = (model.tensor(HEAD), model.tensor(EMBEDDING)) else { return false };
    head.dtype == embedding.dtype && head.shape == embedding.shape && *head.bytes == *embedding.bytes
}
