//! The whole path: shrink, write, read back what was written, measure it beside the dense model and the simple baselines, report.

use crate::bundle::Bundle;
use crate::generate::continue_text;
use crate::job::{self, JobDirectory};
use crate::probe::Series;
use crate::progress::Work;
use crate::recipe::Recipe;
use crate::report::{BlockShare, Figures, ModelFacts, RecipeFacts, Report, Role, Sample};
use crate::shrink::{self, Repair, Request, Shrunk, kept_shares, shrink};
use crate::text::{Named, Text, named};
use crate::verify::{Entry, Measures, verify};
use crate::write::{WriteAs, Written, allows_bias, check_biases, describe, family_note, write_directory};
use crate::{Error, report};
use pare_format::config::{Family, ModelConfig};
use pare_format::safetensors::Dtype;
use pare_format::write::OutputDir;
use pare_kernels::panels::PanelType;
use pare_methods::card::Grain;
use pare_model::model::{Model, PackAs};
use pare_model::plan::{Edit, Plan};
use pare_model::sample::{Sampler, Sampling};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// What to make of a model.
pub struct Job<'a> {
    /// The model before.
    pub bundle: &'a Bundle,
    /// What to do to it.
    pub recipe: &'a Recipe,
    /// Share of the blocks' projection weights that stays.
    pub keep: f64,
    /// Text that methods see.
    pub calibration: &'a Text,
    /// Seed of what draws.
    pub seed: u64,
    /// Type of the written weights.
    pub write_as: WriteAs,
    /// Whether finished blocks are kept beside the output until it is in place, for a run that goes on after it was killed.
    pub resumable: bool,
}

/// How to measure.
pub struct Proof<'a> {
    /// Texts that only figures see, one at least.
    pub verification: &'a [Named],
    /// Window of the perplexity, in tokens.
    pub context: usize,
    /// Probes per kind; none for 0.
    pub probes: usize,
    /// Prompts to be continued by the dense and the pared model, in the chat template when there is one.
    pub prompts: &'a [&'a str],
    /// Tokens of each continuation.
    pub continuation: usize,
}

impl Job<'_> {
    fn shrink(&self, recipe: &Recipe, job: Option<&Path>, work: Work<'_>) -> Result<Shrunk, Error> {
        let (config, model) = (&self.bundle.config, &self.bundle.model);
        let bias_allowed = |projection| allows_bias(config, recipe, projection);
        let calibration = &self.calibration.sequences;
        let request =
            Request { recipe, keep: self.keep, calibration, seed: self.seed, bias_allowed: &bias_allowed, job: None };
        let Some(path) = job else { return shrink(model, &request, work) };
        // What an earlier run finished leaves no trace in the result: its files are those of a run that was not stopped.
        let (job, _) = JobDirectory::open(path.to_owned(), model, &request)?;
        shrink(model, &Request { job: Some(&job), ..request }, work)
    }

    /// Shrinks the model and writes it to `output`, which the caller commits.
    ///
    /// # Errors
    /// As [`shrink()`] and [`write_directory`].
    pub fn run(&self, output: &OutputDir, work: Work<'_>) -> Result<Made, Error> {
        let start = Instant::now();
        let job = self.resumable.then(|| job::beside(output.target()));
        let shrunk = self.shrink(self.recipe, job.as_deref(), work)?;
        let seconds = start.elapsed().as_secs_f64();
        let written = write_directory(output, self.bundle, &shrunk.model, self.write_as, work)?;
        Ok(Made { shrunk, seconds, dtype: self.write_as.dtype(&self.bundle.model), written })
    }
}

/// Refuses what a job would refuse before it looks at the calibration text.
///
/// # Errors
/// A `keep` that the recipe cannot reach; a repair that needs a bias where the result cannot have one.
pub fn check(bundle: &Bundle, recipe: &Recipe, keep: f64) -> Result<(), Error> {
    check_biases(&bundle.config, recipe)?;
    shrink::check(&bundle.model, recipe, keep)
}

/// About how many bytes shrinking `model` writes: the result, and, with a proof, the dense model of the same type beside it.
///
/// Masks leave zeros, which take their place as any other number.
pub fn bytes_to_write(model: &Model, recipe: &Recipe, keep: f64, write_as: WriteAs, with_proof: bool) -> u64 {
    let count = model.parameters();
    let masks = recipe.cut.iter().any(|cut| cut.grain == Grain::Weight);
    let removed = if masks { 0 } else { ((1.0 - keep) * count.blocks as f64) as u64 };
    let dense = if with_proof { count.total } else { 0 };
    let numbers = count.total.saturating_sub(removed).saturating_add(dense);
    // Blocks and what leaves its zeros out take less than 2 bytes: how much less is known when they are written.
    let each = if write_as.dtype(model) == Dtype::F32 { 4 } else { 2 };
    numbers.saturating_mul(each)
}

/// Why other programs will not run what `recipe` makes of a model of this family, to be said before the work: none when they will.
pub fn only_pare(recipe: &Recipe, family: Family, write_as: WriteAs) -> Option<String> {
    if write_as.is_own() {
        return Some(format!(
            "--dtype {} keeps weights in forms that other programs refuse (docs/FORMAT.md): only pare will be able to run the result",
            write_as.name()
        ));
    }
    if recipe.is_uniform() {
        return None;
    }
    if !recipe.has_uniform_cuts() {
        return Some(uneven(recipe, family));
    }
    Some(format!(
        "recipe {} keeps matrices as products, sums or shortcuts of several (docs/FORMAT.md): only pare will be able to run the result",
        recipe.name
    ))
}

fn uneven(recipe: &Recipe, family: Family) -> String {
    format!(
        "recipe {} gives blocks different widths, which no configuration of transformers can say for {} (checked with 5.23): only pare will be able to run the result; a recipe with allocate = \"uniform\" loads everywhere",
        recipe.name,
        family.model_type()
    )
}

/// A shrunk model that was written.
pub struct Made {
    /// The model and its plan.
    pub shrunk: Shrunk,
    /// Time of the shrinking, without writing.
    pub seconds: f64,
    /// Type of the weights that were written plain.
    pub dtype: Dtype,
    /// What was written.
    pub written: Written,
}

impl Made {
    fn config(&self, before: &Bundle) -> ModelConfig {
        describe(&before.config, &self.shrunk.model, self.dtype, !self.written.storages.is_empty())
    }
}

/// Sizes of a model, for the report.
pub fn facts(bundle: &Bundle) -> ModelFacts {
    let model = &bundle.model;
    let parameters = model.parameters();
    let attention = model.blocks.iter().find_map(|block| block.attention());
    let ffn = model.blocks.iter().find_map(|block| block.ffn.as_ref());
    let storage = model.blocks.iter().flat_map(|block| block.linears()).next();
    ModelFacts {
        name: bundle.name.clone(),
        family: model.architecture.family.model_type().to_owned(),
        blocks: model.blocks.len(),
        hidden: model.architecture.hidden,
        heads: attention.map_or(0, |part| part.heads),
        groups: attention.map_or(0, |part| part.groups),
        ffn: ffn.map_or(0, |part| part.width()),
        vocab: model.architecture.vocab,
        parameters: parameters.total,
        block_parameters: parameters.blocks,
        storage: storage.map_or(model.embedding.name(), |(_, linear)| linear.weight.name()).to_owned(),
    }
}

/// Measures what was written at `written` beside the dense model and the baselines, and continues the prompts.
///
/// # Errors
/// What was written does not read back; the texts are too short; the user stops it.
pub fn prove(job: &Job<'_>, made: &Made, written: &Path, proof: &Proof<'_>, work: Work<'_>) -> Result<Report, Error> {
    let bundle = job.bundle;
    let result = Bundle::open(&written.display().to_string(), work)?;
    // Inside the unfinished output: what a killed process leaves is found and removed with it.
    let scratch = OutputDir::create(written.join("dense"), true)?;
    let dense_bytes = write_directory(&scratch, bundle, &bundle.model, WriteAs::Type(made.dtype), work)?.bytes;
    drop(scratch);

    let mut baselines = Vec::new();
    for score in ["random", "magnitude"] {
        if job.recipe.cut.iter().all(|cut| cut.score == score && cut.compensate.is_none()) {
            continue;
        }
        let recipe = job.recipe.baseline(score);
        let shrunk = job.shrink(&recipe, None, work)?;
        baselines.push((recipe.name, shrunk.model));
    }
    let mut entries = vec![
        Entry { label: "dense", role: Role::Dense, model: &bundle.model, bytes: Some(dense_bytes), as_stored: false },
        Entry {
            label: &job.recipe.name,
            role: Role::Result,
            model: &result.model,
            bytes: Some(made.written.bytes),
            as_stored: job.write_as.is_own(),
        },
    ];
    for (label, model) in &baselines {
        entries.push(Entry { label, role: Role::Baseline, model, bytes: None, as_stored: false });
    }
    let series = Series { tasks: proof.probes, seed: job.seed };
    let measures = Measures {
        texts: proof.verification,
        context: proof.context,
        probes: (proof.probes > 0).then_some((&bundle.tokenizer, series)),
        speed: true,
        pack: packed_as(made.dtype),
        text_as_packed: false,
    };
    let figures = verify(&entries, &measures, work)?;
    let own = if job.write_as.is_own() { PackAs::Stored } else { PackAs::Exact };
    let result = result.model.packed(own, work.pool);
    let samples = samples(bundle, &result, &job.recipe.name, proof, work)?;
    Ok(report(job, made, proof, figures, samples))
}

/// The panel type of a written type.
pub(crate) fn packed_as(dtype: Dtype) -> PackAs {
    PackAs::Type(match dtype {
        Dtype::F16 => PanelType::F16,
        Dtype::BF16 => PanelType::Bf16,
        _ => PanelType::F32,
    })
}

fn samples(
    bundle: &Bundle,
    result: &Model,
    label: &str,
    proof: &Proof<'_>,
    work: Work<'_>,
) -> Result<Vec<Sample>, Error> {
    let chat = bundle.tokenizer.chat_template().is_some();
    let dense = bundle.model.packed(PackAs::Exact, work.pool);
    let mut samples = Vec::new();
    for prompt in proof.prompts {
        let tokens = bundle.prompt(prompt, chat)?;
        let mut texts = Vec::new();
        for (label, model) in [("dense", &dense), (label, result)] {
            let mut sampler = Sampler::new(Sampling::GREEDY, 0);
            let limit = proof.continuation.min(model.architecture.context.saturating_sub(tokens.len()));
            let written = continue_text(model, &tokens, limit, &mut sampler, work, |token| !bundle.is_end(token))?;
            texts.push((label.to_owned(), bundle.tokenizer.decode(&written, true)?));
        }
        samples.push(Sample { prompt: (*prompt).to_owned(), texts });
    }
    Ok(samples)
}

fn report(job: &Job<'_>, made: &Made, proof: &Proof<'_>, figures: Vec<Figures>, samples: Vec<Sample>) -> Report {
    let bundle = job.bundle;
    let picture = kept_shares(&bundle.model, &made.shrunk.base, &made.shrunk.plan)
        .into_iter()
        .map(|(attention, ffn)| BlockShare { attention, ffn })
        .collect();
    let dtype = made.dtype.name().to_lowercase();
    let stored = if job.write_as.is_own() { job.write_as.name() } else { &dtype };
    let mut notes = bundle.warnings.clone();
    if job.write_as.is_own() {
        notes.push(format!(
            "Every figure of the result is of its files, read back and run in its own storage, {}; the dense model and the baselines \
             are plain {dtype}.",
            job.write_as.name()
        ));
    }
    notes.push(format!(
        "Bytes and speed are of weights stored as {stored}. The model that was read is {} ({} bytes).",
        bundle
            .model
            .blocks
            .first()
            .and_then(|block| block.linears().next())
            .map_or("f32", |(_, linear)| linear.weight.name()),
        bundle.bytes
    ));
    notes.extend(made.shrunk.notes.iter().cloned());
    notes.extend(repair_note(&made.shrunk.repairs));
    let config = made.config(bundle);
    notes.extend(family_note(&bundle.config, &config));
    notes.extend(config.obstacle().map(|why| format!("Other programs cannot load the result: {why}.")));
    Report {
        title: format!("{} shrunk by {}", bundle.name, job.recipe.name),
        model: facts(bundle),
        recipe: Some(RecipeFacts {
            name: job.recipe.name.clone(),
            about: job.recipe.about.clone(),
            source: job.recipe.source.clone(),
            keep: job.keep,
            seconds: made.seconds,
        }),
        picture,
        redundancy: Vec::new(),
        curves: Vec::new(),
        figures,
        samples,
        conditions: conditions(proof, &job.calibration.origin, job.seed),
        notes,
    }
}

/// How figures on `proof` were made.
pub fn conditions(proof: &Proof<'_>, calibration: &str, seed: u64) -> Vec<(String, String)> {
    let line = |name: &str, value: String| (name.to_owned(), value);
    vec![
        line("pare", env!("CARGO_PKG_VERSION").to_owned()),
        line("calibration text", calibration.to_owned()),
        line("verification text", named(proof.verification)),
        line(
            "perplexity",
            format!(
                "windows of {} tokens without overlap; exp of the mean natural-log loss over every token but a window's first",
                proof.context
            ),
        ),
        line("probes", format!("{} tasks of each kind, 3 solved examples before each", proof.probes)),
        line(
            "speed",
            format!(
                "prefill of {} tokens and {} decoded ones, medians of {} rounds in turn",
                crate::speed::PROMPT,
                crate::speed::DECODED,
                crate::speed::ROUNDS
            ),
        ),
        line("seed", seed.to_string()),
    ]
}

fn repair_note(repairs: &[Repair]) -> Option<String> {
    let before: f64 = repairs.iter().filter_map(|repair| repair.info.error_before).sum();
    let after: f64 = repairs.iter().filter_map(|repair| repair.info.error_after).sum();
    let damping = repairs.iter().map(|repair| repair.info.damping).fold(0.0, f64::max);
    (before > 0.0).then(|| {
        format!("Repair left {:.1} % of the squared error that the cut makes on calibration text (largest damping {damping:.0e} of the mean diagonal).", 100.0 * after / before)
    })
}

/// The record that stands beside the weights, `pare.json`: recipe, plan, seeds, texts, versions, and the figures when they are there.
pub fn record(job: &Job<'_>, made: &Made, report: Option<&Report>) -> Value {
    let config = made.config(job.bundle);
    let mut record = json!({
        "model": job.bundle.name,
        "fingerprint": crate::text::fingerprint(&job.bundle.model),
        "recipe": job.recipe,
        "keep": job.keep,
        "seed": job.seed,
        "calibration": job.calibration.origin,
        "dtype": if job.write_as.is_own() { job.write_as.name() } else { made.dtype.name() },
        "weight_bytes": made.written.bytes,
        "parameters": made.shrunk.model.parameters(),
        "plan": summary(&made.shrunk.plan),
        "repairs": made.shrunk.repairs.iter().map(|repair| json!({
            "block": repair.block,
            "projection": repair.projection,
            "damping": repair.info.damping,
            "error_before": repair.info.error_before,
            "error_after": repair.info.error_after,
        })).collect::<Vec<_>>(),
        "encodings": made.shrunk.encoded.iter().map(|encoded| json!({
            "block": encoded.block,
            "projection": encoded.projection,
            "damping": encoded.info.damping,
            "error": encoded.info.error,
        })).collect::<Vec<_>>(),
        "notes": made.shrunk.notes.iter().cloned().chain(family_note(&job.bundle.config, &config)).collect::<Vec<_>>(),
        "report": report,
    });
    if !made.written.storages.is_empty() {
        record["storages"] = json!(made.written.storages);
    }
    record
}

/// The plan without the bits of its masks: those are the zeros of the weights.
fn summary(plan: &Plan) -> Vec<Value> {
    plan.edits
        .iter()
        .map(|edit| match edit {
            Edit::Mask { block, projection, mask } => {
                json!({ "edit": "mask", "block": block, "projection": projection, "kept": mask.count(), "shape": mask.shape() })
            }
            other => json!(other),
        })
        .collect()
}

/// The report as a file.
///
/// # Errors
/// The template fails, which is a mistake in pare.
pub fn html(report: &Report) -> Result<String, Error> {
    report::render(report)
        .map_err(|error| Error::Refused(format!("the report could not be rendered ({error}); please report this")))
}
