//! Making one artefact, reading it back, and measuring it beside the dense model; measuring models that are there already.

use super::cache::{Folder, Key};
use super::entry::{Cost, ModelFigures, OnOneText, Speed};
use super::{GivenModel, Recipes, Request, in_blocks, storage};
use crate::Error;
use crate::bench::machine;
use crate::bench::measure::{Sizes, Track, Turn, in_turn};
use crate::bench::spread::Spread;
use crate::bundle::Bundle;
use crate::evaluate::TextFigures;
use crate::figures::OnText;
use crate::plain_bits::plain_bits;
use crate::probe::{self, Series};
use crate::progress::Work;
use crate::prove::{Job, Made, bytes_to_write, facts, packed_as, record};
use crate::recipe::Recipe;
use crate::text::named;
use crate::verify::{cut, of_models, on_texts};
use crate::write::{Kept, WriteAs, Written, write_directory};
use pare_format::safetensors::Dtype;
use pare_format::write::OutputDir;
use pare_model::model::{Model, PackAs};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Tokens of the prompt before each decoding.
pub(super) const PROMPT: usize = 128;
/// Tokens decoded per round.
pub(super) const DECODED: usize = 32;
/// Counted rounds.
pub(super) const ROUNDS: usize = 5;
/// How far from the share that was asked a result may be and still stand beside the others.
const NEAR: f64 = 0.03;

/// The figures of the dense model, whose bytes are those of the model written plain; and of the model as it was read.
pub(super) fn dense(
    request: &Request<'_>,
    folder: &Folder,
    key: &Key,
    work: Work<'_>,
) -> Result<[ModelFigures; 2], Error> {
    let start = Instant::now();
    let model = &request.bundle.model;
    let peak_is_own = machine::forget_peak_memory();
    let output = folder.artefact(key, false)?;
    output.require_room(bytes_of(model))?;
    let written = write_directory(&output, request.bundle, model, WriteAs::Auto, work)?;
    let peak_memory_bytes = machine::peak_memory();
    let windows = cut(request.verification, request.context, None)?;
    let on_texts = on_texts(&[model], &windows, work)?;
    let mut figures = figures(request, &on_texts, 0, model)?;
    // The reference has no divergence from itself.
    (figures.kl_mean, figures.kl_p99, figures.top1_agreement) = (0.0, 0.0, 1.0);
    figures.texts.iter_mut().for_each(|text| text.kl_mean = 0.0);
    (figures.bytes, figures.kept) = (written.bytes, Some(1.0));
    figures.storage = plain(request);
    let packed = model.packed(packed_as(WriteAs::Auto.dtype(model)), work.pool);
    figures.probes = probes(request, &packed, work)?;
    figures.speed = if request.speed { speed(&[&packed], work)? } else { None };
    figures.peak_memory_bytes = weigh(request, output.temporary(), work)?;
    drop(output);
    figures.cost = Cost { shrink_seconds: 0.0, seconds: start.elapsed().as_secs_f64(), peak_memory_bytes, peak_is_own };
    // A model that was rewritten after it was read holds other numbers than its files.
    let files = match request.bundle.rewritten {
        true => Some(Bundle::open(&request.bundle.path.display().to_string(), work)?),
        false => None,
    };
    let mut as_read = figures.clone();
    let read = files.as_ref().map_or(model, |files| &files.model).packed(PackAs::Stored, work.pool);
    if files.is_some() {
        let on_texts = crate::verify::on_texts(&[model, &read], &windows, work)?;
        as_read = ModelFigures { kept: figures.kept, ..self::figures(request, &on_texts, 1, &read)? };
        (as_read.probes, as_read.cost) = (probes(request, &read, work)?, figures.cost);
    }
    (as_read.bytes, as_read.storage) =
        (request.bundle.bytes, facts(files.as_ref().unwrap_or(request.bundle)).storage.to_lowercase());
    as_read.speed = if request.speed { speed(&[&packed, &read], work)? } else { None };
    as_read.peak_memory_bytes = weigh(request, &request.bundle.path, work)?;
    Ok([figures, as_read])
}

/// The figures of a model that is there already, run as it is stored: quality, probes and speed are of one and the same arithmetic.
pub(super) fn given(request: &Request<'_>, given: &GivenModel, work: Work<'_>) -> Result<ModelFigures, Error> {
    let start = Instant::now();
    let (dense, bundle) = (&request.bundle.model, &given.bundle);
    let packed = bundle.model.packed(PackAs::Stored, work.pool);
    let on_texts = on_texts(&[dense, &packed], &cut(request.verification, request.context, None)?, work)?;
    let mut figures = figures(request, &on_texts, 1, &bundle.model)?;
    (figures.bytes, figures.storage) = (bundle.bytes, facts(bundle).storage.to_lowercase());
    figures.probes = probes(request, &packed, work)?;
    if request.speed {
        let dense = dense.packed(packed_as(WriteAs::Auto.dtype(dense)), work.pool);
        figures.speed = speed(&[&dense, &packed], work)?;
    }
    drop(packed);
    figures.peak_memory_bytes = weigh(request, &bundle.path, work)?;
    figures.cost.seconds = start.elapsed().as_secs_f64();
    Ok(figures)
}

/// The most memory of a process that runs the model at `path` alone, when it is asked for.
fn weigh(request: &Request<'_>, path: &Path, work: Work<'_>) -> Result<Option<u64>, Error> {
    let Some(weigh) = request.weigh.filter(|_| request.speed) else { return Ok(None) };
    work.interrupt.check()?;
    Ok(weigh(path))
}

/// Shrinks, writes, reads back and measures. The artefact is removed, unless it is to be kept.
pub(super) fn pared(
    request: &Request<'_>,
    (recipes, recipe, keep): (&Recipes<'_>, &Recipe, f64),
    (folder, key): (&Folder, &Key),
    work: Work<'_>,
) -> Result<ModelFigures, Error> {
    let start = Instant::now();
    let dense = &request.bundle.model;
    let peak_is_own = machine::forget_peak_memory();
    let job = |write_as| Job {
        bundle: request.bundle,
        recipe,
        keep,
        calibration: recipes.calibration,
        seed: request.seed,
        write_as,
        resumable: false,
    };
    let mut write_as = storage(recipe, in_blocks(request));
    let make = |write_as: WriteAs| -> Result<(OutputDir, Made), Error> {
        let output = folder.artefact(key, request.keep_models)?;
        output.require_room(bytes_to_write(dense, recipe, keep, write_as, false))?;
        let made = job(write_as).run(&output, work)?;
        Ok((output, made))
    };
    let (output, made) = match make(write_as) {
        // Where leaving the zeros out is no gain the form refuses; the recipe is none the worse for it.
        Err(Error::Refused(_)) if write_as != WriteAs::Auto => {
            write_as = WriteAs::Auto;
            make(write_as)?
        }
        other => other?,
    };
    let peak_memory_bytes = machine::peak_memory();
    if let Some(why) = made.shrunk.nothing_left {
        return Err(Error::Keep { keep, why });
    }
    let kept = made.shrunk.kept;
    // A correction of low rank comes on top of what was asked for; its bytes are told beside it.
    if !recipe.cut.is_empty() && recipe.leaves_plain() && (kept - keep).abs() > NEAR {
        let why = format!("its units leave as a whole: nearest to {keep} it keeps {kept:.3}");
        return Err(Error::Keep { keep, why });
    }
    if request.keep_models {
        let record = record(&job(write_as), &made, None);
        output.write_record(record)?;
    }
    let seconds = made.seconds;
    let artefact = Artefact::of(&output, &made.written, made.dtype);
    // What is measured is what was written: the model in memory goes before its file is opened.
    drop(made);
    let mut figures = artefact.read_back(request, work)?;
    figures.kept = Some(kept);
    figures.cost =
        Cost { shrink_seconds: seconds, seconds: start.elapsed().as_secs_f64(), peak_memory_bytes, peak_is_own };
    if request.keep_models {
        output.commit()?;
    }
    Ok(figures)
}

/// The dense model in fewer bits, within `bytes` where plain types reach so little; written and measured as an artefact of a recipe is.
pub(super) fn rounded(
    request: &Request<'_>,
    bytes: u64,
    (folder, key): (&Folder, &Key),
    work: Work<'_>,
) -> Result<ModelFigures, Error> {
    let start = Instant::now();
    let dense = &request.bundle.model;
    let peak_is_own = machine::forget_peak_memory();
    let output = folder.artefact(key, request.keep_models)?;
    output.require_room(bytes)?;
    let bits = plain_bits(dense, bytes, work)?;
    let shrink_seconds = start.elapsed().as_secs_f64();
    let written = write_directory(&output, request.bundle, &bits.model, WriteAs::Kept, work)?;
    let peak_memory_bytes = machine::peak_memory();
    if request.keep_models {
        output.write_record(json!({
            "model": request.bundle.name,
            "fingerprint": crate::fingerprint::fingerprint(dense),
            "plain_bits": bits.types(),
            "weight_bytes": written.bytes,
            "storages": written.storages,
        }))?;
    }
    let artefact = Artefact::of(&output, &written, WriteAs::Auto.dtype(dense));
    drop(bits);
    let mut figures = artefact.read_back(request, work)?;
    figures.kept = Some(1.0);
    figures.cost = Cost { shrink_seconds, seconds: start.elapsed().as_secs_f64(), peak_memory_bytes, peak_is_own };
    if request.keep_models {
        output.commit()?;
    }
    Ok(figures)
}

/// What was written.
struct Artefact<'a> {
    path: &'a Path,
    bytes: u64,
    /// See [`forms`].
    forms: String,
    /// Type of plain weights.
    dtype: Dtype,
}

impl<'a> Artefact<'a> {
    fn of(output: &'a OutputDir, written: &Written, dtype: Dtype) -> Self {
        Self { path: output.temporary(), bytes: written.bytes, forms: forms(written), dtype }
    }

    /// Its figures, from its files.
    fn read_back(self, request: &Request<'_>, work: Work<'_>) -> Result<ModelFigures, Error> {
        let dense = &request.bundle.model;
        let result = Bundle::open(&self.path.display().to_string(), work)?;
        // A storage of its own runs as itself, whether the recipe made it or the writing did.
        let own_form = !self.forms.is_empty();
        let pack = if own_form { PackAs::Stored } else { packed_as(self.dtype) };
        let packed = result.model.packed(pack, work.pool);
        let models = [dense, if own_form { &packed } else { &result.model }];
        let on_texts = on_texts(&models, &cut(request.verification, request.context, None)?, work)?;
        let mut figures = figures(request, &on_texts, 1, &result.model)?;
        figures.bytes = self.bytes;
        figures.storage = if own_form { self.forms } else { plain(request) };
        figures.probes = probes(request, &packed, work)?;
        if request.speed {
            let dense = dense.packed(packed_as(self.dtype), work.pool);
            figures.speed = speed(&[&dense, &packed], work)?;
        }
        drop((packed, result));
        figures.peak_memory_bytes = weigh(request, self.path, work)?;
        Ok(figures)
    }
}

/// Bytes of a model whose numbers take two or four bytes each.
fn bytes_of(model: &Model) -> u64 {
    let each = if WriteAs::Auto.dtype(model) == Dtype::F32 { 4 } else { 2 };
    model.parameters().total.saturating_mul(each)
}

/// The forms in which weights were written that are not one plain tensor each, as in `2of4-f16` or `q4_k+q6_k`; empty without any.
fn forms(written: &Written) -> String {
    let name = |kept: &Kept| match kept.values {
        Some(values) => format!("{}-{values}", kept.kind),
        None => kept.kind.clone(),
    };
    let names: BTreeSet<String> = written.storages.values().map(name).collect();
    names.into_iter().collect::<Vec<_>>().join("+")
}

/// Name of the type of plain weights.
fn plain(request: &Request<'_>) -> String {
    WriteAs::Auto.dtype(&request.bundle.model).name().to_lowercase()
}

/// What texts and sizes say of the model at `index` of those that were measured; the rest is filled in by the caller.
fn figures(
    request: &Request<'_>,
    on_texts: &[Vec<TextFigures>],
    index: usize,
    model: &Model,
) -> Result<ModelFigures, Error> {
    let empty = || Error::Text(format!("{}: no token to predict", named(request.verification)));
    let said = of_models(request.verification, on_texts).nth(index).unwrap_or_default();
    let nats = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let text = |text: &OnText| {
        let (perplexity, perplexity_ratio) = text.perplexity.zip(text.perplexity_ratio)?;
        Some(OnOneText { name: text.name.clone(), perplexity, perplexity_ratio, kl_mean: nats(text.kl_mean) })
    };
    let texts: Vec<OnOneText> = said.iter().map(text).collect::<Option<_>>().ok_or_else(empty)?;
    let (first, of_first) = texts.first().zip(said.first()).ok_or_else(empty)?;
    let (perplexity, perplexity_ratio, kl_mean) = (first.perplexity, first.perplexity_ratio, first.kl_mean);
    // Among numbers that are none the first is the most likely of both: that is no agreement.
    let agreement = of_first.top1_agreement.filter(|_| !kl_mean.is_nan());
    Ok(ModelFigures {
        perplexity,
        perplexity_ratio,
        kl_mean,
        kl_p99: nats(of_first.kl_p99),
        top1_agreement: nats(agreement),
        texts,
        probes: Default::default(),
        kept: None,
        parameters: model.parameters().total,
        bytes: 0,
        storage: String::new(),
        speed: None,
        peak_memory_bytes: None,
        cost: Cost { shrink_seconds: 0.0, seconds: 0.0, peak_memory_bytes: None, peak_is_own: false },
    })
}

fn probes(request: &Request<'_>, packed: &Model, work: Work<'_>) -> Result<probe::Accuracies, Error> {
    if request.probes == 0 {
        return Ok(probe::Accuracies::new());
    }
    let series = Series { tasks: request.probes, seed: request.seed };
    probe::run(packed, &request.bundle.tokenizer, series, work)
}

/// Speed of the last model, the first one taking turns with it.
fn speed(models: &[&Model], work: Work<'_>) -> Result<Option<Speed>, Error> {
    let sizes = |model: &Model| {
        let context = model.architecture.context;
        Sizes { prompt: PROMPT.min(context), tokens: DECODED.min(context), contexts: vec![0] }
    };
    let mut tracks: Vec<Track<'_>> = models.iter().map(|model| Track::new(model, sizes(model), work.pool)).collect();
    let turns = in_turn(&mut tracks, ROUNDS, work, |track| track.turn(work.interrupt), || Ok(()));
    let turns = turns?;
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return Ok(None) };
    let [dense, own] = [first, last].map(|turns| turns.iter().map(rate).collect::<Vec<f64>>());
    let median = |rates: &mut dyn Iterator<Item = f64>| Spread::of(rates).map(|spread| spread.median);
    let speed = || {
        Some(Speed {
            decode_tok_s: median(&mut own.iter().copied())?,
            prefill_tok_s: median(&mut last.iter().map(|turn| turn.prefill_tok_s))?,
            dense_decode_tok_s: median(&mut dense.iter().copied())?,
            over_dense: Spread::of_ratios(&own, &dense)?,
        })
    };
    Ok(speed())
}

fn rate(turn: &Turn) -> f64 {
    turn.decode_tok_s.first().copied().unwrap_or(f64::NAN)
}
