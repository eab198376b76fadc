//! What stands beside the weights: templates and licences; and what to do where something is missing.

use std::path::{Path, PathBuf};

use super::absent::instead;
use super::resolve::{Roots, files};
use super::{ModelDirectory, listed};
use crate::config::CONFIG;
use crate::error::{FormatError, FormatErrorKind};

/// The file of the template that is used when no other is asked for, and the folder of the others.
const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATES: &str = "additional_chat_templates";
/// Chat templates of one model, beside its own.
pub const MOST_TEMPLATES: usize = 64;
/// How names of licences begin.
const LICENCES: [&str; 4] = ["LICENSE", "LICENCE", "NOTICE", "COPYING"];
const MOST_LICENCES: usize = 16;

/// A chat template in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFile {
    /// What it is for; `default` for the model's own.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// The templates in files. What leads out of the model is a warning.
pub(super) fn templates(roots: &Roots, warnings: &mut Vec<String>) -> Vec<TemplateFile> {
    let mut templates = Vec::new();
    let others = files(&roots.given.join(TEMPLATES));
    let others = others.iter().filter_map(|file| Some((file.strip_suffix(".jinja")?, format!("{TEMPLATES}/{file}"))));
    for (name, file) in others.take(MOST_TEMPLATES).chain([("default", TEMPLATE.to_owned())]) {
        match roots.find(&file) {
            Ok(found) => templates.extend(found.map(|path| TemplateFile { name: name.to_owned(), path })),
            Err(error) => warnings.push(format!("{error}; the file is not used")),
        }
    }
    templates
}

/// Whether the file of a repository is a template beside the model's own, under a name that is safe in a path and in an address.
#[must_use]
pub fn is_other_template(file: &str) -> bool {
    let name = file.strip_prefix(TEMPLATES).and_then(|rest| rest.strip_prefix('/')?.strip_suffix(".jinja"));
    let plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    name.is_some_and(|name| !name.is_empty() && !name.starts_with('.') && plain(name))
}

/// Files that say under which terms the model may be used. One that leads out of the model is no part of it.
pub(super) fn licences(roots: &Roots) -> Vec<PathBuf> {
    let is = |name: &String| LICENCES.iter().any(|start| name.to_ascii_uppercase().starts_with(start));
    let names = files(&roots.given).into_iter().filter(is).take(MOST_LICENCES);
    names.filter_map(|name| roots.find(&name).ok().flatten()).filter(|path| path.is_file()).collect()
}

/// A folder that is no model directory, with what it holds instead.
pub(super) fn no_config(root: &Path) -> FormatError {
    let instead = instead(root)
        .unwrap_or_else(|| "a model directory has config.json, *.safetensors and tokenizer.json".to_owned());
    let kind =
        FormatErrorKind::Found { found: "is missing".into(), expected: format!("the model's description; {instead}") };
    FormatError::new(root.join(CONFIG), kind)
}

/// A model directory without `tokenizer.json`.
pub(super) fn no_tokenizer(model: &ModelDirectory) -> FormatError {
    let others = ["tokenizer.model", "vocab.json", "merges.txt"];
    let there = others.into_iter().filter(|name| model.companion(name).is_some()).map(str::to_owned).collect();
    let kind = FormatErrorKind::Found { found: "is missing".into(), expected: "the model's tokenizer".into() };
    let error = FormatError::new(model.root.join("tokenizer.json"), kind);
    let set: std::collections::BTreeSet<String> = there;
    if set.is_empty() {
        return error.hint("download tokenizer.json of the same model");
    }
    let found = format!("is missing; there is only {}", listed(&set));
    let error =
        FormatError { kind: FormatErrorKind::Found { found, expected: "the tokenizer in one file".into() }, ..error };
    error.hint("transformers makes it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")
}
