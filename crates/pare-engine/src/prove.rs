//! The whole path: shrink, write, read back what was written, measure it beside the dense model and the simple baselines, report.

mod beside;
mod size;

pub use beside::{AS_READ, PLAIN_BITS};
pub use size::{bytes_to_write, job_bytes, result_bytes, size_note};

use crate::Error;
use crate::bundle::Bundle;
use crate::figures::{BlockShare, Figures, ModelFacts, RecipeFacts, Report, Sample};
use crate::generate::continue_text;
use crate::probe::Series;
use crate::progress::Work;
use crate::recipe::Recipe;
use crate::shrink::job::{self, JobDirectory};
use crate::shrink::{self, Repair, Request, Shrunk, kept_shares, shrink};
use crate::text::{Named, Text, named};
use crate::verify::{MeasureOptions, verify};
use crate::write::{WriteAs, Written, allows_bias, check_biases, describe, family_note, write_directory};
use beside::Beside;
use pare_format::config::{Family, ModelConfig};
use pare_format::safetensors::Dtype;
use pare_format::write::OutputDir;
use pare_kernels::panels::PanelType;
use pare_methods::card::WITH_EIGENVECTORS;
use pare_model::model::{Model, PackAs};
use pare_model::plan::{Edit, Plan};
use pare_model::sample::{Sampler, Sampling};
use serde_json::{Value, json};
use size::size_remark;
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

/// The most memory of a process that opens the model at a path and runs it; none where that cannot be measured.
pub type Weigh<'a> = dyn Fn(&Path) -> Option<u64> + 'a;

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
    /// Whether speed is measured.
    pub speed: bool,
    /// The most memory of a process that opens the model at a path alone and runs it at a context of [`crate::bench::MEMORY_CONTEXT`]
    /// tokens, or of its whole window when that is shorter; none where that cannot be measured.
    pub weigh: Option<&'a Weigh<'a>>,
}

impl Job<'_> {
    fn shrink(&self, recipe: &Recipe, job: Option<&Path>, work: Work<'_>) -> Result<Shrunk, Error> {
        let (config, model) = (&self.bundle.config, &self.bundle.model);
        let bias_allowed = |projection| allows_bias(config, recipe, projection);
        let calibration = &self.calibration.sequences;
        let form = self.write_as.form(model);
        let (keep, seed, form) = (self.keep, self.seed, form.as_ref());
        let request = Request { recipe, keep, calibration, seed, bias_allowed: &bias_allowed, form, job: None };
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
pub fn check(bundle: &Bundle, recipe: &Recipe, keep: f64, write_as: WriteAs) -> Result<(), Error> {
    check_biases(&bundle.config, recipe)?;
    shrink::check(&bundle.model, recipe, keep, write_as.form(&bundle.model).as_ref())
}

/// Why other programs will not run what `recipe` makes of a model of this family, to be said before the work: none when they will.
pub fn only_pare(recipe: &Recipe, family: Family, write_as: WriteAs) -> Option<String> {
    if write_as == WriteAs::AsRead {
        return Some(
            "matrices stay in the blocks that they were read in (docs/FORMAT.md): only pare will be able to run the directory; `pare export` \
             makes a file for llama.cpp of it, --dtype f16 a directory for transformers"
                .to_owned(),
        );
    }
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
    let beside = Beside::make(job, made, written, work)?;
    let series = Series { tasks: proof.probes, seed: job.seed };
    let measures = MeasureOptions {
        texts: proof.verification,
        context: proof.context,
        probes: (proof.probes > 0).then_some((&bundle.tokenizer, series)),
        speed: proof.speed,
        pack: packed_as(made.dtype),
        text_as_packed: false,
        stride: None,
    };
    let mut figures = verify(&beside.entries(job, made, &result), &measures, work)?;
    if let Some(weigh) = proof.weigh {
        for (label, path) in beside.files(job, written) {
            work.interrupt.check()?;
            let own = figures.iter_mut().find(|figures| figures.label == label);
            own.into_iter().for_each(|figures| figures.peak_memory_bytes = weigh(path));
        }
    }
    let own = if job.write_as.is_own() { PackAs::Stored } else { PackAs::Exact };
    let result = result.model.packed(own, work.pool);
    let samples = samples(bundle, &result, &job.recipe.name, proof, work)?;
    Ok(report(job, made, proof, (figures, samples), beside.notes))
}

/// The panel type of a written type.
pub(crate) fn packed_as(dtype: Dtype) -> PackAs {
    PackAs::Type(match dtype {
        Dtype::F16 => PanelType::F16,
        Dtype::BF16 => PanelType::Bf16,
        _ => PanelType::F32,
    })
}

/// Prompts that were continued, and why others were not.
struct Samples {
    list: Vec<Sample>,
    notes: Vec<String>,
}

/// Continues the prompts with the dense and the pared model. What stands in the way of a prompt is a note: the figures are there already.
fn samples(bundle: &Bundle, result: &Model, label: &str, proof: &Proof<'_>, work: Work<'_>) -> Result<Samples, Error> {
    let chat = bundle.tokenizer.chat_template().is_some();
    let dense = bundle.model.packed(PackAs::Exact, work.pool);
    let mut samples = Samples { list: Vec::new(), notes: Vec::new() };
    for prompt in proof.prompts {
        let tokens = bundle.prompt(prompt, chat).or_else(|_| bundle.prompt(prompt, false));
        let tokens = match tokens.and_then(|tokens| bundle.check_length(&tokens, 1).map(|()| tokens)) {
            Ok(tokens) => tokens,
            Err(error) => {
                samples.notes.push(format!("No sample for the prompt {prompt:?}: {error}."));
                continue;
            }
        };
        let mut texts = Vec::new();
        for (label, model) in [("dense", &dense), (label, result)] {
            let mut sampler = Sampler::new(Sampling::GREEDY, 0);
            let limit = proof.continuation.min(model.architecture.context.saturating_sub(tokens.len()));
            let written = continue_text(model, &tokens, limit, &mut sampler, work, |token| !bundle.is_end(token))?;
            texts.push((label.to_owned(), bundle.tokenizer.decode(&written, true)));
        }
        samples.list.push(Sample { prompt: (*prompt).to_owned(), texts });
    }
    Ok(samples)
}

fn report(
    job: &Job<'_>,
    made: &Made,
    proof: &Proof<'_>,
    (figures, samples): (Vec<Figures>, Samples),
    beside: Vec<String>,
) -> Report {
    let bundle = job.bundle;
    let picture = kept_shares(&bundle.model, &made.shrunk.base, &made.shrunk.plan)
        .into_iter()
        .map(|(attention, ffn)| BlockShare { attention, ffn })
        .collect();
    let dtype = made.dtype.name().to_lowercase();
    let stored = match job.write_as {
        WriteAs::AsRead => "in the blocks that the model was read in".to_owned(),
        own if own.is_own() => format!("as {}", own.name()),
        _ => format!("as {dtype}"),
    };
    let mut notes = bundle.warnings.clone();
    notes.push(about_as_read(bundle, &dtype));
    notes.push(format!(
        "Every figure of the result is of its files, written {stored}, read back and run as they are stored."
    ));
    notes.extend(size_remark(bundle.bytes, made.written.bytes));
    notes.extend(beside);
    notes.extend(made.shrunk.notes.iter().cloned());
    notes.extend(samples.notes);
    notes.extend(repair_note(&made.shrunk.repairs));
    notes.extend(eigenvector_note(job.recipe));
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
        samples: samples.list,
        conditions: conditions(proof, &job.calibration.origin, job.seed),
        notes,
    }
}

/// What the model as it was read is, beside the dense one in plain `dtype`.
pub(crate) fn about_as_read(bundle: &Bundle, dtype: &str) -> String {
    let (bytes, storage) = (bundle.bytes as f64 / 1e6, facts(bundle).storage.to_lowercase());
    let what = format!("{AS_READ} is what was given, {bytes:.1} MB, run as it is stored");
    match bundle.rewritten {
        true => format!("{what}; dense holds other numbers, as the model was rewritten before anything was measured."),
        false => format!(
            "{what}: projections in {storage}. Its answers are by definition those of dense, the same numbers written as {dtype}; its bytes, \
             speed and memory are its own."
        ),
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
        line(
            "memory",
            format!(
                "most memory of a process with the model alone, at a context of {} tokens",
                crate::bench::MEMORY_CONTEXT
            ),
        ),
        line("seed", seed.to_string()),
    ]
}

/// What is not the same on every machine.
fn eigenvector_note(recipe: &Recipe) -> Option<String> {
    let rewrites = recipe.rewrite.iter().map(|step| &step.method);
    let cuts = recipe.cut.iter().filter_map(|step| step.compensate.as_ref());
    let encodings = recipe.encode.iter().flat_map(|step| step.compensate.iter().chain([&step.method]));
    let method = rewrites.chain(cuts).chain(encodings).find(|name| WITH_EIGENVECTORS.contains(&name.as_str()))?;
    Some(format!(
        "{method} takes eigenvectors: on a machine with other instructions or caches the last bits of the weights differ."
    ))
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
        "fingerprint": crate::fingerprint::fingerprint(&job.bundle.model),
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
        "notes": made.shrunk.notes.iter().cloned().chain(eigenvector_note(job.recipe)).chain(family_note(&job.bundle.config, &config)).collect::<Vec<_>>(),
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
