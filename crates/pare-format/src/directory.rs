//! A model as a directory: `config.json`, one or more safetensors files, tokenizer files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::{CONFIG, ModelConfig};
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::map::Stamp;
use crate::quote;
use crate::safetensors::{SafetensorsFile, TensorInfo, TensorView, supported};

mod absent;
mod beside;
mod checks;
mod forms;
mod index;
mod quantised;
mod resolve;

pub use beside::{MOST_TEMPLATES, TemplateFile, is_other_template};
pub use checks::check_names;
pub use forms::{DEPTH, StorageForm, suffix_of};

use resolve::Roots;

/// Files beside the weights that belong to a model, copied when it is written anew.
pub const COMPANIONS: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
];

/// An open model directory. Opening reads headers only.
#[derive(Debug)]
pub struct ModelDirectory {
    root: PathBuf,
    config_path: PathBuf,
    config_stamp: Stamp,
    config: ModelConfig,
    shards: Vec<SafetensorsFile>,
    /// Shard and position of each tensor, in the order of names.
    by_name: Vec<(u32, u32)>,
    companions: Vec<PathBuf>,
    templates: Vec<TemplateFile>,
    licences: Vec<PathBuf>,
    warnings: Vec<String>,
}

impl ModelDirectory {
    /// Opens the model in the directory `path`.
    ///
    /// # Errors
    /// What is wrong with `config.json`, the index or a shard, with file, field or tensor, and both numbers. Files that lead out of the
    /// directory are refused, but for the layout of the Hugging Face cache (`snapshots/REV/x` to `blobs/HASH`).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_following(path, &[])
    }

    /// Opens the model in the directory `path`, whose symbolic links may lead into the directories `allowed`.
    ///
    /// # Errors
    /// As [`ModelDirectory::open`].
    pub fn open_following(path: impl AsRef<Path>, allowed: &[PathBuf]) -> Result<Self> {
        let root = path.as_ref().to_owned();
        let roots = Roots::new(&root, allowed)?;
        let Some(config_path) = roots.find(CONFIG)? else {
            return Err(beside::no_config(&root));
        };
        let config_stamp = crate::map::open_regular(&config_path)?.1;
        let config = ModelConfig::open(&config_path)?;
        let weights = index::open(&roots)?;
        let mut warnings = weights.warnings;
        for shard in &weights.shards {
            let name = shard.path().file_name().unwrap_or_default().display().to_string();
            warnings.extend(shard.warnings().iter().map(|warning| format!("{name}: {warning}")));
        }
        let mut companions = Vec::new();
        for name in COMPANIONS {
            match roots.find(name) {
                Ok(found) => companions.extend(found),
                // Without a tokenizer there is no text; everything else is by the way.
                Err(error) if name == "tokenizer.json" => return Err(error),
                Err(error) => warnings.push(format!("{error}; the file is not used")),
            }
        }
        let templates = beside::templates(&roots, &mut warnings);
        let licences = beside::licences(&roots);
        let mut model = Self {
            root,
            config_path,
            config_stamp,
            config,
            by_name: weights.by_name,
            shards: weights.shards,
            companions,
            templates,
            licences,
            warnings,
        };
        checks::embedding(&model)?;
        let (tied, warning) = checks::tied(&model);
        model.config.tied = tied;
        model.warnings.extend(warning);
        if model.config.quantised.as_ref().is_some_and(|quantised| quantised.rounds_activations) {
            model.warnings.push(format!(
                "{CONFIG} asks for rounded activations; pare rounds the weights alone, and is nearer to the model"
            ));
        }
        Ok(model)
    }

    /// The directory as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The model's description; whether the head is the embedding is as the weights say.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weight files, in the order of their names.
    #[must_use]
    pub fn shards(&self) -> &[SafetensorsFile] {
        &self.shards
    }

    /// The files of [`COMPANIONS`] that are there.
    #[must_use]
    pub fn companions(&self) -> &[PathBuf] {
        &self.companions
    }

    /// The file called `name` of [`COMPANIONS`], when it is there.
    #[must_use]
    pub fn companion(&self, name: &str) -> Option<&Path> {
        self.companions.iter().map(PathBuf::as_path).find(|path| path.file_name().is_some_and(|file| file == name))
    }

    /// Chat templates in files of their own, the model's own among them as `default`.
    #[must_use]
    pub fn templates(&self) -> &[TemplateFile] {
        &self.templates
    }

    /// Licences and notices beside the weights.
    #[must_use]
    pub fn licences(&self) -> &[PathBuf] {
        &self.licences
    }

    /// Why there is no tokenizer, and what makes one of the files that are there.
    #[must_use]
    pub fn no_tokenizer(&self) -> FormatError {
        beside::no_tokenizer(self)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.by_name.iter().map(|&place| self.at(place).map_or("", |(_, info)| info.name.as_str()))
    }

    /// What is known of the tensor `name`, and the file that holds it.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<(&SafetensorsFile, &TensorInfo)> {
        let key = |place: (u32, u32)| self.at(place).map(|(_, info)| info.name.as_str());
        let at = self.by_name.binary_search_by(|&place| key(place).cmp(&Some(name))).ok()?;
        self.at(*self.by_name.get(at)?)
    }

    /// The tensor `name`, of whatever type.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<TensorView> {
        let (shard, info) = self.info(name)?;
        shard.view(info)
    }

    /// The tensor `name`, when it is there and of a type that pare computes with.
    ///
    /// # Errors
    /// `Found` when there is no such tensor, `Unsupported` for its type.
    pub fn require(&self, name: &str) -> Result<TensorView> {
        supported(&self.root, name, self.tensor(name))
    }

    /// What is odd but allowed.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Fails unless the tensors are exactly those that `config.json` asks for; rotary tables and the copy of a tied head may be there.
    /// A matrix may be there in the parts of one [`StorageForm`] instead, when `config.json` says so.
    ///
    /// # Errors
    /// `Names` with the first five missing or extra names and their number; as [`ModelDirectory::form`].
    pub fn check_tensor_names(&self) -> Result<()> {
        let present = self.names().filter(|name| !self.config.may_ignore(name));
        if let Some(quantised) = &self.config.quantised {
            let expected: BTreeSet<String> = self.config.tensor_names().collect();
            let owners = present.map(|name| match self.owner_of_part(quantised.packing, name) {
                owner if expected.contains(&owner) => owner,
                _ => name.to_owned(),
            });
            let owners: BTreeSet<String> =
                owners.filter(|name| expected.contains(name) || !self.is_idle_bias(name)).collect();
            check_names(&self.root, expected.iter().cloned(), owners.iter().map(String::as_str))?;
            return expected
                .iter()
                .filter(|name| forms::is_matrix(name))
                .try_for_each(|name| self.form(name).map(drop));
        }
        if !self.config.own_forms {
            return check_names(&self.root, self.config.tensor_names(), present);
        }
        let expected: BTreeSet<String> = self.config.tensor_names().collect();
        let owned = |name| forms::owner(name).filter(|owner| expected.contains(*owner)).unwrap_or(name);
        check_names(&self.root, expected.iter().cloned(), present.map(owned))?;
        expected.iter().filter(|name| forms::is_matrix(name)).try_for_each(|name| self.form(name).map(drop))
    }

    /// Fails when a file of the model was truncated, written to, replaced or removed since it was opened.
    ///
    /// # Errors
    /// `Changed`, naming the file and saying what changed.
    pub fn unchanged(&self) -> Result<()> {
        self.config_stamp.check(&self.config_path)?;
        self.shards.iter().try_for_each(SafetensorsFile::unchanged)
    }

    fn at(&self, (shard, tensor): (u32, u32)) -> Option<(&SafetensorsFile, &TensorInfo)> {
        let shard = self.shards.get(shard as usize)?;
        Some((shard, shard.tensors().get(tensor as usize)?))
    }
}

/// The places of all tensors of `shards` in the order of names; fails on a name that two shards hold.
fn places(index: &Path, shards: &[SafetensorsFile]) -> Result<Vec<(u32, u32)>> {
    let mut all = Vec::new();
    for (s, shard) in shards.iter().enumerate() {
        all.extend(shard.tensors().iter().enumerate().map(|(t, info)| (info.name.as_str(), (s as u32, t as u32))));
    }
    all.sort_unstable();
    for pair in all.windows(2) {
        if let &[(a, (first, _)), (b, (second, _))] = pair
            && a == b
        {
            let name = |shard: u32| shards.get(shard as usize).and_then(|s| s.path().file_name()).unwrap_or_default();
            let found = format!("is in {} and in {}", name(first).display(), name(second).display());
            let kind = FormatErrorKind::Found { found, expected: "every tensor in one shard".into() };
            return Err(FormatError::new(index, kind).item(quote::tensor(a)));
        }
    }
    Ok(all.into_iter().map(|(_, place)| place).collect())
}

/// The first five of `names` in order, and how many there are.
fn listed(names: &BTreeSet<String>) -> String {
    let first: Vec<_> = names.iter().take(5).map(|name| quote::quoted(name)).collect();
    let more = if names.len() > 5 { ", ..." } else { "" };
    format!("{} ({}{more})", names.len(), first.join(", "))
}
