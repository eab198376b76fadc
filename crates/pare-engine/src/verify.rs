//! Verifying: every figure of every model on the same text, the same tasks, in one run.

use crate::evaluate::{TextFigures, Window, on_text, strided, windows};
use crate::figures::{Figures, OnText, Role};
use crate::probe::{self, Series};
use crate::progress::Work;
use crate::text::Named;
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
pub struct MeasureOptions<'a> {
    /// Verification texts, one at least. Figures that name none are of the first.
    pub texts: &'a [Named],
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

impl<'a> MeasureOptions<'a> {
    /// What texts alone say, of values as they are: no probes, no speed.
    pub fn of_text(texts: &'a [Named], context: usize) -> Self {
        Self { texts, context, stride: None, probes: None, speed: false, pack: PackAs::Exact, text_as_packed: false }
    }
}

/// Figures of all entries. The first entry is the reference of ratios and divergences.
///
/// # Errors
/// A text without a whole window; the user stops it.
pub fn verify(entries: &[Entry<'_>], measures: &MeasureOptions<'_>, work: Work<'_>) -> Result<Vec<Figures>, Error> {
    let answering: Vec<&Entry<'_>> = entries.iter().filter(|entry| !entry.speed_only).collect();
    let models: Vec<&Model> = answering.iter().map(|entry| entry.model).collect();
    let texts = cut(measures.texts, measures.context, measures.stride)?;
    let own_text = measures.text_as_packed || answering.iter().any(|entry| entry.as_stored);
    let unpacked = if own_text { None } else { Some(on_texts(&models, &texts, work)?) };

    // Few rows at a time (probes, decoding) read packed weights; packing is undone before the next step needs the memory.
    let packed: Vec<Model> = if measures.speed || measures.probes.is_some() || own_text {
        let pack = |entry: &Entry<'_>| if entry.as_stored { PackAs::Stored } else { measures.pack };
        entries.iter().map(|entry| entry.model.packed(pack(entry), work.pool)).collect()
    } else {
        Vec::new()
    };
    let on_texts = match unpacked {
        Some(figures) => figures,
        None => {
            let own = |entry: &Entry<'_>| measures.text_as_packed || entry.as_stored;
            let models = entries.iter().zip(&packed).filter(|(entry, _)| !entry.speed_only);
            let models: Vec<&Model> =
                models.map(|(entry, packed)| if own(entry) { packed } else { entry.model }).collect();
            on_texts(&models, &texts, work)?
        }
    };
    let mut said = of_models(measures.texts, &on_texts);
    let speeds = if measures.speed { speed::measure(&packed.iter().collect::<Vec<_>>(), work)? } else { Vec::new() };
    let mut figures: Vec<Figures> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let speed = speeds.get(index);
        let (prefill_tok_s, decode_tok_s) =
            (speed.map(|speed| speed.prefill_tok_s), speed.map(|speed| speed.decode_tok_s));
        let own = if entry.speed_only { None } else { said.next() };
        let Some(texts) = own else {
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
        let first = texts.first();
        figures.push(Figures {
            label: entry.label.to_owned(),
            role: entry.role,
            perplexity: first.and_then(|text| text.perplexity),
            perplexity_ratio: first.and_then(|text| text.perplexity_ratio),
            kl_mean: first.and_then(|text| text.kl_mean),
            kl_p99: first.and_then(|text| text.kl_p99),
            top1_agreement: first.and_then(|text| text.top1_agreement),
            texts,
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

/// The windows of each text.
///
/// # Errors
/// No text, or one without a window of two tokens.
pub(crate) fn cut(texts: &[Named], context: usize, stride: Option<usize>) -> Result<Vec<Vec<Window<'_>>>, Error> {
    let mut all = Vec::with_capacity(texts.len());
    for Named { text, .. } in texts {
        let windows = |sequence| match stride {
            Some(stride) => strided(sequence, context, stride),
            None => windows(sequence, context),
        };
        let cut: Vec<Window<'_>> = text.sequences.iter().flat_map(|sequence| windows(sequence)).collect();
        if cut.is_empty() {
            return Err(Error::Text(format!("{}: too short to measure on", text.origin)));
        }
        all.push(cut);
    }
    Ok(all)
}

/// Figures of each model on each text: text by text, then model by model.
pub(crate) fn on_texts(
    models: &[&Model],
    texts: &[Vec<Window<'_>>],
    work: Work<'_>,
) -> Result<Vec<Vec<TextFigures>>, Error> {
    texts.iter().map(|text| Ok(on_text(models, text, work)?)).collect()
}

/// The same for reports: model by model, then text by text. The first model is the reference.
pub(crate) fn of_models<'a>(
    texts: &'a [Named],
    figures: &'a [Vec<TextFigures>],
) -> impl Iterator<Item = Vec<OnText>> + 'a {
    let models = figures.first().map_or(0, Vec::len);
    let of_model = move |index: usize| {
        let of_text = |(named, figures): (&Named, &Vec<TextFigures>)| {
            let own = figures.get(index)?;
            let reference = figures.first().and_then(|reference| reference.perplexity.value());
            let perplexity = own.perplexity.value();
            Some(OnText {
                name: named.name.clone(),
                perplexity,
                perplexity_ratio: perplexity.zip(reference).map(|(own, reference)| own / reference),
                kl_mean: if index == 0 { None } else { own.divergence.mean() },
                kl_p99: own.divergence.percentile(0.99),
                top1_agreement: own.divergence.agreement(),
            })
        };
        texts.iter().zip(figures).filter_map(of_text).collect()
    };
    (0..models).map(of_model)
}
