//! Writing a model as a Hugging Face directory.

mod biases;
mod forms;

pub(crate) use biases::family_note;
pub use biases::{allows_bias, check_biases, other_family};
pub use forms::Kept;

use crate::as_read::AsRead;
use crate::bundle::{Bundle, GENERATION};
use crate::recipe::Recipe;
use crate::{Error, progress::Work};
use forms::Encoder;
use pare_format::config::{AttentionShape, BlockShape, Family, ModelConfig};
use pare_format::safetensors::Dtype;
use pare_format::safetensors::shard::{INDEX, MAX_SHARD_BYTES, plan_shards};
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};
use pare_format::write::OutputDir;
use pare_kernels::blocks::BlockType;
use pare_kernels::sparse::SparseType;
use pare_methods::select::Compare;
use pare_model::model::Model;
use pare_model::site::Projection;
use pare_model::weight::{Exact, Linear, Weight};
use std::collections::BTreeMap;
use std::path::Path;

/// The type of written weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAs {
    /// The model's own 16-bit type; f16 for a model that is stored in another. Where a recipe ends, see [`WriteAs::of`].
    Auto,
    /// Each matrix in the blocks that it was read in, what was changed rounded again; what was plain as [`WriteAs::Auto`].
    AsRead,
    /// Each matrix as the recipe left it: in blocks, as factors, sums and wrapped cores; what is plain as [`WriteAs::Auto`].
    Kept,
    /// This one: F32, F16 or BF16.
    Type(Dtype),
    /// Matrices in blocks of this type, where rows are whole blocks; what stays plain as [`WriteAs::Auto`].
    Blocks(BlockType),
    /// Projections without their zeros; what stays plain as [`WriteAs::Auto`].
    Sparse(Pattern, SparseType),
}

/// Which zeros a projection leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// 2 of every 4 inputs.
    TwoOfFour,
    /// Columns that are zero in all of 8 neighbouring outputs.
    EightRows,
}

/// Every type: its name on the command line.
const NAMES: [(&str, WriteAs); 18] = [
    ("auto", WriteAs::Auto),
    ("as-read", WriteAs::AsRead),
    ("kept", WriteAs::Kept),
    ("f32", WriteAs::Type(Dtype::F32)),
    ("f16", WriteAs::Type(Dtype::F16)),
    ("bf16", WriteAs::Type(Dtype::BF16)),
    ("q8_0", WriteAs::Blocks(BlockType::Q8_0)),
    ("q4_0", WriteAs::Blocks(BlockType::Q4_0)),
    ("q4_1", WriteAs::Blocks(BlockType::Q4_1)),
    ("q5_0", WriteAs::Blocks(BlockType::Q5_0)),
    ("q5_1", WriteAs::Blocks(BlockType::Q5_1)),
    ("q4_k", WriteAs::Blocks(BlockType::Q4K)),
    ("q5_k", WriteAs::Blocks(BlockType::Q5K)),
    ("q6_k", WriteAs::Blocks(BlockType::Q6K)),
    ("2of4-f16", WriteAs::Sparse(Pattern::TwoOfFour, SparseType::F16)),
    ("2of4-int8", WriteAs::Sparse(Pattern::TwoOfFour, SparseType::Int8)),
    ("rows8-f16", WriteAs::Sparse(Pattern::EightRows, SparseType::F16)),
    ("rows8-int8", WriteAs::Sparse(Pattern::EightRows, SparseType::Int8)),
];

impl WriteAs {
    /// The names of all types.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|row| row.0)
    }

    /// The type called `name`.
    pub fn find(name: &str) -> Option<Self> {
        NAMES.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Its name, as in `q4_k`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|row| row.1 == self).map_or("?", |row| row.0)
    }

    /// The type of what is written plain of `model`.
    pub fn dtype(self, model: &Model) -> Dtype {
        match (self, model.embedding.exact_in()) {
            (Self::Type(dtype), _) => dtype,
            (_, Exact::Bf16) => Dtype::BF16,
            _ => Dtype::F16,
        }
    }

    /// What [`WriteAs::Auto`] means for the result of `recipe` on `model`: where matrices end in forms that only pare reads anyway, these
    /// forms, for to write them plain would give away all that was gained; the core of a 2:4 pattern without its zeros. What ends plain is
    /// written in the blocks that the model was read in, so that it does not become larger than it was.
    #[must_use]
    pub fn of(self, recipe: &Recipe, model: &Model) -> Self {
        self.of_kind(recipe, AsRead::of(model).is_some())
    }

    /// [`WriteAs::of`] for a model of which it is only known whether it was read in blocks.
    pub(crate) fn of_kind(self, recipe: &Recipe, in_blocks: bool) -> Self {
        match (self, recipe.leaves_plain()) {
            (Self::Auto, false) => Self::of_pattern(recipe).unwrap_or(Self::Kept),
            (Self::Auto, true) if in_blocks && !recipe.has_own_grid() => Self::AsRead,
            _ => self,
        }
    }

    /// The blocks that matrices of a result are rounded to again, for [`WriteAs::AsRead`] alone.
    pub fn form(self, model: &Model) -> Option<AsRead> {
        (self == Self::AsRead).then(|| AsRead::of(model)).flatten()
    }

    /// The form without zeros that the pattern of `recipe` allows.
    pub fn of_pattern(recipe: &Recipe) -> Option<Self> {
        let mut patterns = recipe.patterns();
        let first = patterns.next()?;
        let pattern = form_of(first)?;
        patterns.all(|pattern| pattern == first).then_some(Self::Sparse(pattern, SparseType::F16))
    }

    /// Whether it is one of the forms of docs/FORMAT.md, which only pare reads.
    pub fn is_own(self) -> bool {
        matches!(self, Self::AsRead | Self::Kept | Self::Blocks(_) | Self::Sparse(..))
    }
}

impl WriteAs {
    /// Refuses zeros to be left out that neither `recipe` makes nor `model` has, before the work.
    ///
    /// # Errors
    /// The first projection of the model, with what is in the way.
    pub fn check(self, model: &Model, recipe: &Recipe, work: Work<'_>) -> Result<(), Error> {
        let Self::Sparse(pattern, ty) = self else { return Ok(()) };
        let made = recipe.patterns().any(|compare| form_of(compare) == Some(pattern));
        let first = model.blocks.iter().flat_map(|block| block.linears()).next();
        match first {
            Some((projection, linear)) if !made => forms::has_pattern(
                &format!("--dtype {} with recipe {}: {projection} of the first block", self.name(), recipe.name),
                linear.weight.as_ref(),
                (pattern, ty),
                work,
            ),
            _ => Ok(()),
        }
    }
}

/// The form without zeros for weights compared in this way.
fn form_of(compare: Compare) -> Option<Pattern> {
    match compare {
        Compare::TwoOfFour => Some(Pattern::TwoOfFour),
        Compare::EightRows => Some(Pattern::EightRows),
        _ => None,
    }
}

/// The description of a pared `model` that came from `before`: of its family, or of another that the model also is when its own cannot hold it.
pub fn describe(before: &ModelConfig, model: &Model, dtype: Dtype, own_forms: bool) -> ModelConfig {
    let shapes: Vec<BlockShape> = model
        .blocks
        .iter()
        .map(|block| BlockShape {
            attention: block.attention().map(|part| AttentionShape { heads: part.heads, kv_heads: part.groups }),
            ffn: block.ffn.as_ref().map(|part| part.width()),
        })
        .collect();
    let has_bias = |projections: &[Projection]| {
        let of_block = |block: &pare_model::block::Block| {
            projections.iter().any(|&projection| block.linear(projection).is_some_and(|linear| linear.bias.is_some()))
        };
        model.blocks.iter().any(of_block)
    };
    let mut config = before.clone();
    let architecture = &model.architecture;
    config.family = architecture.family;
    (config.hidden, config.head_dim) = (architecture.hidden, architecture.head_dim);
    config.norm_eps = architecture.norm_eps;
    config.shortcuts = model.has_shortcuts();
    config.blocks = model.blocks.len();
    config.tied = model.head.is_none();
    config.dtype = Some(dtype);
    config.own_forms = own_forms;
    config.quantised = None;
    config.attention_bias |= has_bias(&[Projection::Q, Projection::K, Projection::V, Projection::O]);
    config.mlp_bias |= has_bias(&[Projection::Gate, Projection::Up, Projection::Down]);
    let attention = shapes.iter().find_map(|shape| shape.attention);
    let ffn = shapes.iter().find_map(|shape| shape.ffn);
    if let Some(shape) = attention {
        (config.heads, config.kv_heads) = (shape.heads, shape.kv_heads);
    }
    config.ffn = ffn.unwrap_or(config.ffn);
    config.windowed.truncate(config.blocks);
    config.uneven = None;
    if (0..config.blocks).any(|index| config.block(index) != shapes[index]) {
        config.uneven = Some(shapes);
    }
    let other = match biases::bias_without_slot(&config, model) {
        Some(_) => config.to_llama(),
        None => as_mistral(&config),
    };
    other.unwrap_or(config)
}

/// A llama that other programs refuse for its width as the mistral that it also is: without biases and window the two are one model, and
/// only of a llama does transformers ask that the heads divide the width.
fn as_mistral(config: &ModelConfig) -> Option<ModelConfig> {
    let plain = config.family == Family::Llama && !config.attention_bias && !config.mlp_bias;
    (plain && config.obstacle().is_some())
        .then(|| ModelConfig { family: Family::Mistral, ..config.clone() })
        .filter(|mistral| mistral.obstacle().is_none())
}

/// The numbers of one tensor of a plain directory.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The embedding, the head or a shortcut: everything passes through it, so that it gets more bits.
    Shared(&'a dyn Weight),
    Projection(&'a dyn Weight),
    Vector(&'a [f32]),
    /// Zeros: a bias that the format asks for beside one that there is.
    Zeros(usize),
}

/// Every tensor that `config` asks for, in order.
fn tensors<'a>(model: &'a Model, config: &ModelConfig) -> Vec<(String, Source<'a>)> {
    let mut list = vec![("model.embed_tokens.weight".to_owned(), Source::Shared(model.embedding.as_ref()))];
    for (index, block) in model.blocks.iter().enumerate() {
        let named = |name: &str| format!("model.layers.{index}.{name}");
        let mut shortcuts = Vec::new();
        let mut linear = |name: &str, linear: &'a Linear, bias: bool| {
            list.push((named(&format!("{name}.weight")), Source::Projection(linear.weight.as_ref())));
            if bias {
                let source = linear.bias.as_deref().map_or(Source::Zeros(linear.outputs()), Source::Vector);
                list.push((named(&format!("{name}.bias")), source));
            }
        };
        if let Some(part) = block.attention() {
            linear("self_attn.q_proj", &part.q, config.attention_bias);
            linear("self_attn.k_proj", &part.k, config.attention_bias);
            linear("self_attn.v_proj", &part.v, config.attention_bias);
            linear("self_attn.o_proj", &part.o, config.output_bias());
            shortcuts.extend(part.shortcut.iter().map(|shortcut| (named("self_attn.shortcut.weight"), shortcut)));
        }
        if let Some(part) = &block.ffn {
            linear("mlp.gate_proj", &part.gate, config.mlp_bias);
            linear("mlp.up_proj", &part.up, config.mlp_bias);
            linear("mlp.down_proj", &part.down, config.mlp_bias);
            shortcuts.extend(part.shortcut.iter().map(|shortcut| (named("mlp.shortcut.weight"), shortcut)));
        }
        list.extend(shortcuts.into_iter().map(|(name, linear)| (name, Source::Shared(linear.weight.as_ref()))));
        if let Some(part) = block.attention() {
            list.push((named("input_layernorm.weight"), Source::Vector(&part.norm)));
            let norms = [("self_attn.q_norm.weight", &part.q_norm), ("self_attn.k_norm.weight", &part.k_norm)];
            for (name, gain) in norms {
                list.extend(gain.iter().map(|gain| (named(name), Source::Vector(gain))));
            }
        }
        if let Some(part) = &block.ffn {
            list.push((named("post_attention_layernorm.weight"), Source::Vector(&part.norm)));
        }
    }
    list.push(("model.norm.weight".to_owned(), Source::Vector(&model.final_norm)));
    list.extend(model.head.iter().map(|head| ("lm_head.weight".to_owned(), Source::Shared(head.weight.as_ref()))));
    list
}

/// How many parts a block has.
fn parts(block: &pare_model::block::Block) -> usize {
    usize::from(block.mixer.is_some()) + usize::from(block.ffn.is_some())
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the weight files.
    pub bytes: u64,
    /// How each weight that is not one plain tensor is kept.
    pub storages: BTreeMap<String, Kept>,
}

/// Writes `model`, pared from `before`, into `output`: weights, config.json and tokenizer files.
///
/// The caller adds what else belongs there and commits: until then nothing is visible.
///
/// # Errors
/// The disk refuses; a weight that the type cannot hold, or that has not its pattern; the user stops it.
pub fn write_directory(
    output: &OutputDir,
    before: &Bundle,
    model: &Model,
    write_as: WriteAs,
    work: Work<'_>,
) -> Result<Written, Error> {
    let dtype = write_as.dtype(&before.model);
    let mut config = describe(&before.config, model, dtype, write_as.is_own());
    if config.shortcuts && model.blocks.iter().any(|block| block.shortcuts().count() != parts(block)) {
        return Err(Error::Refused(
            "some parts of the model have a shortcut and some have none; expected all or none".into(),
        ));
    }
    if let Some((block, projection)) = biases::bias_without_slot(&config, model) {
        return Err(Error::Refused(format!(
            "block {block}: {projection} has a bias, for which a config.json of {} has no place",
            config.family.model_type()
        )));
    }
    let tensors = forms::split(&tensors(model, &config), write_as, dtype, work)?;
    let storages = forms::summary(&tensors);
    // Where every matrix stays plain after all, everybody can read the result.
    config.own_forms = !storages.is_empty();
    let specs: Vec<TensorSpec> = tensors.iter().map(|tensor| tensor.spec.clone()).collect();
    let plan = plan_shards(&specs, MAX_SHARD_BYTES)?;
    work.progress.begin("writing", tensors.len() as u64);
    let mut encoder = Encoder::default();
    for shard in &plan.shards {
        let file = output.create_file(&shard.file)?;
        let path = file.path().to_owned();
        let mut writer = SafetensorsWriter::new(&path, file, specs[shard.tensors.clone()].to_vec(), &[])?;
        for tensor in &tensors[shard.tensors.clone()] {
            work.interrupt.check()?;
            encoder.write(tensor, &mut writer, work)?;
            work.progress.advance(1, "");
        }
        writer.finish()?.finish()?;
    }
    if let Some(index) = plan.index(&specs) {
        output.write(INDEX, index.as_bytes())?;
    }
    output.write("config.json", config.to_json().as_bytes())?;
    for (name, bytes) in before.tokenizer.hf_files()? {
        output.write(&name, &bytes)?;
    }
    for file in &before.kept {
        output.write(&file.name, &file.bytes)?;
    }
    if let Some(text) = generation_config(before, &config) {
        output.write(GENERATION, text.as_bytes())?;
    }
    work.progress.end();
    Ok(Written { bytes: weight_bytes(output.temporary())?, storages })
}

/// A `generation_config.json` with the tokens at which generation ends, where the model had none and config.json does not say them all.
fn generation_config(before: &Bundle, config: &ModelConfig) -> Option<String> {
    let had = before.kept.iter().any(|file| file.name == GENERATION);
    if had || before.ends.iter().all(|end| config.eos.contains(end)) {
        return None;
    }
    let mut all = serde_json::Map::new();
    let ids = [("bos_token_id", before.tokenizer.bos()), ("pad_token_id", before.tokenizer.specials().pad)];
    all.extend(ids.into_iter().filter_map(|(name, id)| Some((name.to_owned(), id?.into()))));
    all.insert("eos_token_id".to_owned(), before.ends.clone().into());
    Some(format!("{:#}\n", serde_json::Value::Object(all)))
}

/// Bytes of the safetensors files of a directory, as the file system says.
///
/// # Errors
/// The directory cannot be read.
pub fn weight_bytes(directory: &Path) -> Result<u64, Error> {
    let io = |source| Error::Io { path: directory.display().to_string(), source };
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().extension().is_some_and(|extension| extension == "safetensors") {
            bytes += entry.metadata().map_err(io)?.len();
        }
    }
    Ok(bytes)
}
