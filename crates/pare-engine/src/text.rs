//! Text to calibrate on and text to verify on: from a package, written by the model itself, or from a file; never the same.

mod conversation;
mod packaged;
mod sources;
mod written;

pub use packaged::{ENCYCLOPEDIA, PACKAGED, Packaged, SPEECHES};
pub use sources::{Found, Sources};
pub use written::{Openings, SELF_WRITTEN, WritingOptions};

use crate::Error;
use crate::bundle::Bundle;
use crate::progress::Work;
use pare_format::tokenizer::Tokenizer;
use pare_model::model::Model;
use std::collections::BTreeSet;
use std::path::Path;

/// How much text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Amount {
    /// Number of sequences (windows).
    pub sequences: usize,
    /// Tokens of each.
    pub length: usize,
}

/// What a text is for. Each purpose draws from its own seeds, so self-written texts never coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Methods see it.
    Calibration,
    /// Only figures see it.
    Verification,
}

impl Purpose {
    /// As it stands in origins and names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calibration => "calibration",
            Self::Verification => "verification",
        }
    }
}

/// A text as sequences of tokens, with where it is from.
#[derive(Clone, Debug)]
pub struct Text {
    /// The sequences, all of one length unless the source was short.
    pub sequences: Vec<Vec<u32>>,
    /// For people and for `pare.json`.
    pub origin: String,
}

/// A text that figures are measured on, by the name under which they are shown.
#[derive(Clone, Debug)]
pub struct Named {
    /// As in `speeches`.
    pub name: String,
    /// The text.
    pub text: Text,
}

/// What texts are, in one line.
pub fn named(texts: &[Named]) -> String {
    match texts {
        [one] => one.text.origin.clone(),
        several => {
            let each: Vec<String> = several.iter().map(|one| format!("{}: {}", one.name, one.text.origin)).collect();
            each.join("; ")
        }
    }
}

impl Text {
    /// Text that `model` writes itself, cached under the model's fingerprint. No window shares a run of [`OVERLAP`] tokens with one of
    /// `apart`: a window that does is replaced by another one. There are fewer windows than asked when the model writes the same again and
    /// again.
    ///
    /// # Errors
    /// A model that has nothing else to say, the user stops it.
    pub fn self_written(
        model: &Model,
        options: WritingOptions<'_>,
        amount: Amount,
        apart: &[&Self],
        work: Work<'_>,
    ) -> Result<Self, Error> {
        let Amount { sequences: wanted, length } = amount;
        let (purpose, seed) = (options.purpose.name(), options.seed);
        let mut sequences: Vec<Vec<u32>> = Vec::new();
        let mut next = 0;
        for _ in 0..=REWRITINGS {
            let missing = wanted - sequences.len();
            if missing == 0 {
                break;
            }
            sequences.extend(written::windows(model, options, next..next + missing, length, work)?);
            next += missing;
            sequences.retain(|sequence| !apart.iter().any(|other| other.shares_run(sequence)));
        }
        if sequences.is_empty() {
            return Err(Error::Text(format!(
                "the model writes the same {purpose} text again and again; give a text (--text, --held-out)"
            )));
        }
        let count = sequences.len();
        let origin = format!("{count} x {length} tokens written by the model itself ({purpose} seed {seed})");
        Ok(Self { sequences, origin })
    }

    /// Whether `sequence` shares a run of [`OVERLAP`] tokens with this text, or is shorter and stands in it.
    fn shares_run(&self, sequence: &[u32]) -> bool {
        let run = sequence.len().clamp(1, OVERLAP);
        let seen: BTreeSet<&[u32]> = sequence.windows(run).collect();
        self.sequences.iter().flat_map(|own| own.windows(run)).any(|own| seen.contains(own))
    }

    /// Windows of a text file, evenly spread over it: `.txt` or anything else as plain text, `.jsonl` with a `text` field in each line, or
    /// with conversations (`messages`, or `conversations` as ShareGPT has them), which the model's chat template renders.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, a line is no JSON object with a text or a conversation, a conversation for a model without a
    /// template, or it is shorter than one window.
    pub fn from_file(path: &Path, tokenizer: &Tokenizer, amount: Amount) -> Result<Self, Error> {
        let Amount { sequences, length } = amount;
        let tokens = conversation::tokens(path, tokenizer)?;
        let windows: Vec<&[u32]> = tokens.chunks_exact(length).collect();
        if windows.is_empty() {
            let (found, file) = (tokens.len(), path.display());
            return Err(Error::Text(format!(
                "{file}: {found} tokens, one window needs {length}; give more text or a smaller --context"
            )));
        }
        let count = sequences.min(windows.len());
        let picked = (0..count).map(|index| windows[index * windows.len() / count].to_vec()).collect();
        Ok(Self { sequences: picked, origin: format!("{count} x {length} tokens of {}", path.display()) })
    }

    /// All tokens of a text file as one sequence, beginning as a prompt of `bundle` does: what papers measure perplexity on.
    ///
    /// # Errors
    /// As [`Text::from_file`]; fewer than two tokens.
    pub fn whole_file(path: &Path, bundle: &Bundle) -> Result<Self, Error> {
        let tokens = bundle.prompt(&read_plain(path)?, false)?;
        let (found, file) = (tokens.len(), path.display());
        if found < 2 {
            return Err(Error::Text(format!("{file}: {found} token: nothing to predict; give more text")));
        }
        Ok(Self { sequences: vec![tokens], origin: format!("all {found} tokens of {file}") })
    }

    /// Refuses a verification text that shares a run of [`OVERLAP`] tokens with this calibration text, or a whole window when windows are
    /// shorter than that.
    ///
    /// # Errors
    /// Names where the runs stand, and the text.
    pub fn refuse_overlap(&self, verification: &Self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let shortest = self.sequences.iter().chain(&verification.sequences).map(Vec::len).min().unwrap_or(0);
        let run = shortest.clamp(1, OVERLAP);
        let seen: BTreeSet<&[u32]> = self.sequences.iter().flat_map(|sequence| sequence.windows(run)).collect();
        for (index, sequence) in verification.sequences.iter().enumerate() {
            let Some(at) = sequence.windows(run).position(|run| seen.contains(run)) else { continue };
            let excerpt = tokenizer.decode(&sequence[at..at + run], false);
            let (a, b) = (&self.origin, &verification.origin);
            return Err(Error::Text(format!(
                "calibration text ({a}) and held-out text ({b}) overlap: {run} tokens at window {index}, token {at} of the held-out text stand in both: {excerpt:?}; give texts that do not overlap"
            )));
        }
        Ok(())
    }
}

/// Folder of the cache that holds texts.
const CACHED: &str = "text";

/// How often windows that overlap are written again.
const REWRITINGS: usize = 4;

/// Shared tokens in a row that make two texts overlap: longer than quotations and boilerplate phrases.
pub const OVERLAP: usize = 48;

/// Largest text file that is read.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// The text of a file, as it is.
///
/// # Errors
/// The file cannot be read, or is not UTF-8.
pub fn read_plain(path: &Path) -> Result<String, Error> {
    let bytes = pare_format::map::read(path, MAX_TEXT_BYTES)?;
    String::from_utf8(bytes).map_err(|error| {
        let (file, at) = (path.display(), error.utf8_error().valid_up_to());
        Error::Text(format!("{file}: byte {at} is not UTF-8; convert the file to UTF-8"))
    })
}
