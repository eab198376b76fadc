//! Text to calibrate on and text to verify on: written by the model itself, or from a file; never the same.

use crate::bundle::Bundle;
use crate::generate::write_sequences;
use crate::progress::Work;
use crate::{Error, cache};
use pare_format::tokenizer::Tokenizer;
use pare_model::model::{Model, PackAs};
use pare_model::sample::Sampling;
use sha2::{Digest, Sha256};
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

/// A text as sequences of tokens, with where it is from.
#[derive(Clone, Debug)]
pub struct Text {
    /// The sequences, all of one length unless the source was short.
    pub sequences: Vec<Vec<u32>>,
    /// For people and for `pare.json`.
    pub origin: String,
}

/// How the model writes: unfiltered but for the far tail, which a small model fills with noise.
pub const SELF_WRITTEN: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.02 };

impl Text {
    /// Text that `model` writes itself, from `first`, cached under the model's fingerprint.
    ///
    /// # Errors
    /// The user stops it.
    pub fn self_written(
        model: &Model,
        first: u32,
        amount: Amount,
        purpose: Purpose,
        seed: u64,
        work: Work<'_>,
    ) -> Result<Self, Error> {
        let Amount { sequences, length } = amount;
        let what = match purpose {
            Purpose::Calibration => "calibration",
            Purpose::Verification => "verification",
        };
        let origin = format!("{sequences} x {length} tokens written by the model itself ({what} seed {seed})");
        // The 2 is for the arithmetic: a text written in another is another text.
        let name = format!("2-{}-{what}-{seed}-{first}-{sequences}x{length}.tokens", fingerprint(model));
        if let Some(sequences) = read_tokens(&name, amount, model.architecture.vocab) {
            return Ok(Self { sequences, origin });
        }
        let stream = seed.wrapping_mul(2).wrapping_add(u64::from(purpose == Purpose::Verification));
        // A step computes one row per sequence: packed weights are read once for all of them.
        let packed = model.packed(PackAs::Stored, work.pool);
        let texts = write_sequences(&packed, first, sequences, length, SELF_WRITTEN, stream, work)?;
        let bytes: Vec<u8> = texts.iter().flatten().flat_map(|token| token.to_le_bytes()).collect();
        cache::keep(CACHED, &name, &bytes, work.progress);
        Ok(Self { sequences: texts, origin })
    }

    /// Windows of a text file (`.txt` or anything else as plain text, `.jsonl` with a `text` field), evenly spread over it.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, a line is no JSON object with a text, or it is shorter than one window.
    pub fn from_file(path: &Path, tokenizer: &Tokenizer, amount: Amount) -> Result<Self, Error> {
        let text = read_text(path)?;
        let Amount { sequences, length } = amount;
        let tokens = tokenizer.encode(&text, false)?;
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
        let tokens = bundle.prompt(&read_text(path)?, false)?;
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

/// Shared tokens in a row that make two texts overlap: longer than quotations and boilerplate phrases.
pub const OVERLAP: usize = 48;

/// Largest text file that is read.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// The text of a `.txt` or `.jsonl` file.
///
/// # Errors
/// As [`Text::from_file`].
pub fn read_text(path: &Path) -> Result<String, Error> {
    let file = path.display();
    let bytes = pare_format::map::read(path, MAX_TEXT_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::Text(format!("{file}: byte {at} is not UTF-8; convert the file to UTF-8"))
    })?;
    if path.extension().is_none_or(|extension| extension != "jsonl") {
        return Ok(text);
    }
    let mut texts = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = number + 1;
        let row: serde_json::Value =
            serde_json::from_str(line).map_err(|error| Error::Text(format!("{file}: line {at}: {error}")))?;
        let text = row.get("text").and_then(|text| text.as_str());
        let text = text.ok_or_else(|| Error::Text(format!("{file}: line {at}: no string field \"text\"")))?;
        texts.push(text.to_owned());
    }
    Ok(texts.join("\n\n"))
}

/// A hash of a model: its sizes, every norm, and three rows of every weight. Two models that differ in training differ in it.
pub fn fingerprint(model: &Model) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", model.architecture));
    let add = |hash: &mut Sha256, values: &[f32]| values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    let rows = |hash: &mut Sha256, weight: &dyn pare_model::weight::Weight| {
        let [out, inn] = weight.shape();
        let mut row = vec![0.0; inn];
        for index in [0, out / 2, out - 1] {
            weight.decode_row(index, &mut row);
            add(hash, &row);
        }
    };
    rows(&mut hash, model.embedding.as_ref());
    add(&mut hash, &model.final_norm);
    for block in &model.blocks {
        for (projection, linear) in block.linears() {
            hash.update(format!("{projection}"));
            rows(&mut hash, linear.weight.as_ref());
            linear.bias.iter().for_each(|bias| add(&mut hash, bias));
        }
        block.attention().iter().for_each(|part| add(&mut hash, &part.norm));
        block.ffn.iter().for_each(|part| add(&mut hash, &part.norm));
    }
    model.head.iter().for_each(|head| rows(&mut hash, head.weight.as_ref()));
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Folder of the cache that holds texts.
const CACHED: &str = "text";

/// A cached text, when it is whole and fits what is asked; anything else is written anew.
fn read_tokens(name: &str, amount: Amount, vocab: usize) -> Option<Vec<Vec<u32>>> {
    let bytes = cache::read(CACHED, name)?;
    if bytes.len() != amount.sequences * amount.length * 4 {
        return None;
    }
    let tokens: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|raw| u32::from_le_bytes(*raw)).collect();
    tokens
        .iter()
        .all(|&token| (token as usize) < vocab)
        .then(|| tokens.chunks(amount.length).map(<[u32]>::to_vec).collect())
}
