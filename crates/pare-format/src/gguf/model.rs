//! A model in GGUF: one file, or all the parts of a split one, found by the names that `llama-gguf-split` gives them.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use super::{Gguf, GgufTensor, Split, check_split};
use crate::map::{Bytes, MappedFile};
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// One file: its header and all its bytes.
#[derive(Debug)]
struct Part {
    gguf: Gguf,
    bytes: Bytes,
}

impl Borrow<Gguf> for Part {
    fn borrow(&self) -> &Gguf {
        &self.gguf
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let file = MappedFile::open(path)?;
        let gguf = Gguf::parse(path, file.bytes())?;
        Ok(Self { gguf, bytes: file.bytes().clone() })
    }
}

/// An open model. Opening reads headers only.
#[derive(Debug)]
pub struct GgufModel {
    /// In the order of the parts; never empty.
    parts: Vec<Part>,
}

impl GgufModel {
    /// Opens the model in the file at `path`; a part of a split model stands for all its parts, which lie beside it.
    ///
    /// # Errors
    /// As [`Gguf::parse`] for every file; a part that is missing or repeated, of another model, or that says of the model what the first
    /// part does not.
    pub fn open(path: &Path) -> Result<Self> {
        let given = Part::open(path)?;
        let Some(split) = given.gguf.split()? else { return Ok(Self { parts: vec![given] }) };
        let mut parts = Vec::new();
        let mut given = Some(given);
        for no in 0..split.count {
            let part = match given.take_if(|_| no == split.no) {
                Some(given) => given,
                None => Part::open(&beside(path, split, no)?)?,
            };
            parts.push(part);
        }
        // A file may have another part's name.
        let order = check_split(&parts)?;
        let mut parts: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
        let parts = order.into_iter().filter_map(|at| parts.get_mut(at)?.take()).collect();
        let model = Self { parts };
        model.check_keys()?;
        Ok(model)
    }

    /// The model in `bytes`, a whole file that messages call `file`.
    ///
    /// # Errors
    /// As [`Gguf::parse`]; a part of a split model.
    pub fn from_bytes(file: &Path, bytes: Vec<u8>) -> Result<Self> {
        let gguf = Gguf::parse(file, &bytes)?;
        if let Some(split) = gguf.split()? {
            return Err(nameless(&gguf, split));
        }
        Ok(Self { parts: vec![Part { gguf, bytes: bytes.into() }] })
    }

    /// The header that holds the metadata: that of the first part.
    #[must_use]
    pub fn header(&self) -> &Gguf {
        // A model has a part: `open` and `from_bytes` make no other.
        #[expect(clippy::indexing_slicing, reason = "never empty")]
        &self.parts[0].gguf
    }

    /// All tensors, part by part.
    pub fn tensors(&self) -> impl Iterator<Item = &GgufTensor> {
        self.parts.iter().flat_map(|part| part.gguf.tensors())
    }

    /// The tensor called `name`, and its bytes.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<(&GgufTensor, Bytes)> {
        let (part, tensor) = self.parts.iter().find_map(|part| Some((part, part.gguf.tensor(name)?)))?;
        Some((tensor, part.bytes.slice(tensor.range.clone())?))
    }

    /// The file that holds the tensor `name`; the first when none does.
    #[must_use]
    pub fn file_of(&self, name: &str) -> &Path {
        let part = self.parts.iter().find(|part| part.gguf.tensor(name).is_some());
        part.map_or(self.header(), |part| &part.gguf).file()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    /// The files, in the order of the parts.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.gguf.file())
    }

    /// What is odd but readable, one line each.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let several = self.parts.len() > 1;
        self.parts.iter().flat_map(move |part| {
            let name = part.gguf.file().file_name().unwrap_or_default().display().to_string();
            let shown = move |warning: &String| if several { format!("{name}: {warning}") } else { warning.clone() };
            part.gguf.warnings().iter().map(shown)
        })
    }

    /// What a later part says of the model must be what the first says: only that one is listened to.
    fn check_keys(&self) -> Result<()> {
        let first = self.header();
        for part in self.parts.iter().skip(1).map(|part| &part.gguf) {
            let of_part = |key: &str| key.starts_with("split.") || key == "general.alignment";
            let differs = |(key, value): &&(String, super::Value)| !of_part(key) && first.get(key) != Some(value);
            if let Some((key, value)) = part.metadata().iter().find(differs) {
                let said = first.get(key).map_or("nothing".to_owned(), super::Value::describe);
                let expected = format!("{said}, as in {}", first.file().display());
                return Err(part.error(key, Kind::Found { found: value.describe(), expected }));
            }
        }
        Ok(())
    }
}

/// The end of the name of part `no`, counted from 0.
fn ending(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no.saturating_add(1))
}

/// The path of part `no` beside the part at `path`.
fn beside(path: &Path, split: Split, no: u64) -> Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(stem) = name.and_then(|name| name.strip_suffix(&ending(split.no, split.count))) else {
        let kind = Kind::Found {
            found: format!("is part {} of {} and called otherwise", split.no.saturating_add(1), split.count),
            expected: format!(
                "a name that ends in {}, by which the other parts are found",
                ending(split.no, split.count)
            ),
        };
        return Err(FormatError::new(path, kind).hint("give the parts their names back"));
    };
    let part = path.with_file_name(format!("{stem}{}", ending(no, split.count)));
    if std::fs::symlink_metadata(&part).is_err() {
        let found = format!("is missing, part {} of {}", no.saturating_add(1), split.count);
        let kind = Kind::Found { found, expected: format!("all parts beside {}", path.display()) };
        return Err(FormatError::new(part, kind).hint("download it into the same directory"));
    }
    Ok(part)
}

fn nameless(gguf: &Gguf, split: Split) -> FormatError {
    let found = format!("part {} of {} of a split model", split.no.saturating_add(1), split.count);
    gguf.error("split.count", Kind::Found { found, expected: "a whole model".into() })
}
