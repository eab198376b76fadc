//! Verifying: every figure of every model on the same text, the same tasks, in one run.

use crate::evaluate::{Window, on_text, strided, windows};
use crate::probe::{self, Series};
use crate::progress::Work;
use crate::report::{Figures, Role};
use crate::text::Text;
use crate::{Error, speed};
use pare_format::tokenizer::Tokenizer;
use pare_model::model::{Model, PackAs};
use std::collections::BTreeMap;

/// A model to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Shown name.
    pub label: &'a str,
    /// What it is.
    pub role: Role,
    /// The model.
    pub model: &'a Model,
    /// Bytes of its files.
    pub bytes: Option<u64>,
    /// Whether all figures, those of the text too, are of the storage of its files ([`PackAs::Stored`]), whatever the others run as.
    pub as_stored: bool,
    /// Whether only its speed is measured: its answers are, by definition, those of the first entry.
    pub speed_only: bool,
}

/// What to measure with.
#[derive(Clone, Copy)]
pub struct Measures<'a> {
    /// Verification text.
    pub text: &'a Text,
    /// Window of the perplexity, in tokens.
    pub context: usize,
    /// Tokens from the begin of one window to the next, where windows overlap; without it they stand side by side.
    pub stride: Option<usize>,
    /// Probes; none are run without.
    pub probes: Option<(&'a Tokenizer, Series)>,
    /// Whether speed is measured.
    pub speed: bool,
    /// Type of the weights where few rows at a time are computed (probes and speed): one type for all, so that speeds compare.
    pub pack: PackAs,
    /// Whether the text is measured with the packed weights too, else with the values as they are.
    pub text_as_packed: bool,
}

impl<'a> Measures<'a> {
    /// What the text alone says, of values as they are: no probes, no speed.
    pub fn of_text(text: &'a Text, context: usize) -> Self {
        Self { text, context, stride: None, probes: None, speed: false, pack: PackAs::Exact, text_as_packed: false }
    }
}

/// Figures of all entries. The first entry is the reference of ratios and divergences.
///
/// # Errors
/// A text without a whole window; the user stops it.
pub fn verify(entries: &[Entry<'_>], measures: &Measures<'_>, work: Work<'_>) -> Result<Vec<Figures>, Error> {
    let answering: Vec<&Entry<'_>> = entries.iter().filter(|entry| !entry.speed_only).collect();
    let models: Vec<&Model> = answering.iter().map(|entry| entry.model).collect();
    let cut = |sequence| match measures.stride {
        Some(stride) => strided(sequence, measures.context, stride),
        None => windows(sequence, measures.context),
    };
    let cut: Vec<Window<'_>> = measures.text.sequences.iter().flat_map(|sequence| cut(sequence)).collect();
    if cut.is_empty() {
        return Err(Error::Text(format!("{}: too short to measure on", measures.text.origin)));
    }
    let own_text = measures.text_as_packed || answering.iter().any(|entry| entry.as_stored);
    let unpacked = if own_text { None } else { Some(on_text(&models, &cut, work)?) };

    // Few rows at a time (probes, decoding) read packed weights; packing is undone before the next step needs the memory.
    let packed: Vec<Model> = if measures.speed || measures.probes.is_some() || own_text {
        let pack = |entry: &Entry<'_>| if entry.as_stored { PackAs::Stored } else { measures.pack };
        entries.iter().map(|entry| entry.model.packed(pack(entry), work.pool)).collect()
    } else {
        Vec::new()
    };
    let on_text = match unpacked {
        Some(figures) => figures,
        None => {
            let own = |entry: &Entry<'_>| measures.text_as_packed || entry.as_stored;
            let models = entries.iter().zip(&packed).filter(|(entry, _)| !entry.speed_only);
            let models: Vec<&Model> =
                models.map(|(entry, packed)| if own(entry) { packed } else { entry.model }).collect();
            on_text(&models, &cut, work)?
        }
    };
    let reference = on_text.first().and_then(|figures| figures.perplexity.value());
    let speeds = if measures.speed { speed::measure(&packed.iter().collect::<Vec<_>>(), work)? } else { Vec::new() };
    let mut figures: Vec<Figures> = Vec::new();
    let mut on_text = on_text.iter();
    for (index, entry) in entries.iter().enumerate() {
        let speed = speeds.get(index);
        let (prefill_tok_s, decode_tok_s) =
            (speed.map(|speed| speed.prefill_tok_s), speed.map(|speed| speed.decode_tok_s));
        let own = if entry.speed_only { None } else { on_text.next() };
        let Some(on_text) = own else {
            if let Some(first) = figures.first().cloned() {
                let (label, role, bytes) = (entry.label.to_owned(), entry.role, entry.bytes);
                figures.push(Figures { label, role, bytes, prefill_tok_s, decode_tok_s, ..first });
            }
            continue;
        };
        let probes = match measures.probes {
            Some((tokenizer, series)) => probe::run(&packed[index], tokenizer, series, work)?,
            None => BTreeMap::new(),
        };
        let perplexity = on_text.perplexity.value();
        figures.push(Figures {
            label: entry.label.to_owned(),
            role: entry.role,
            perplexity,
            perplexity_ratio: perplexity.zip(reference).map(|(own, reference)| own / reference),
            kl_mean: if index == 0 { None } else { on_text.divergence.mean() },
            kl_p99: on_text.divergence.percentile(0.99),
            top1_agreement: on_text.divergence.agreement(),
            parameters: entry.model.parameters().total,
            bytes: entry.bytes,
            prefill_tok_s,
            decode_tok_s,
            peak_memory_bytes: None,
            probes,
        });
    }
    Ok(figures)
}
