//! Writing a model as a Hugging Face directory.

use crate::bundle::Bundle;
use crate::{Error, progress::Work};
use pare_format::config::{AttentionShape, BlockShape, Family, ModelConfig};
use pare_format::safetensors::Dtype;
use pare_format::safetensors::shard::{INDEX, MAX_SHARD_BYTES, plan_shards};
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};
use pare_format::write::OutputDir;
use pare_model::model::Model;
use pare_model::site::Projection;
use pare_model::weight::{Exact, Linear, Weight};
use std::path::Path;

/// The type of written weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAs {
    /// The model's own 16-bit type; f16 for a model that is stored in another.
    Auto,
    /// This one: F32, F16 or BF16.
    Type(Dtype),
}

impl WriteAs {
    /// The type for `model`.
    pub fn dtype(self, model: &Model) -> Dtype {
        match (self, model.embedding.exact_in()) {
            (Self::Type(dtype), _) => dtype,
            (Self::Auto, Exact::Bf16) => Dtype::BF16,
            (Self::Auto, _) => Dtype::F16,
        }
    }
}

/// Whether the family's `config.json` has a place for a bias on the output and down projections.
pub fn allows_bias(family: Family, projection: Projection) -> bool {
    match projection {
        Projection::O => matches!(family, Family::Llama | Family::Qwen3),
        Projection::Down => family == Family::Llama,
        _ => false,
    }
}

/// The description of a pared `model` that came from `before`.
pub fn describe(before: &ModelConfig, model: &Model, dtype: Dtype) -> ModelConfig {
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
    config.blocks = model.blocks.len();
    config.tied = model.head.is_none();
    config.dtype = Some(dtype);
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
    config
}

/// One tensor to be written.
enum Source<'a> {
    Weight(&'a dyn Weight),
    Vector(&'a [f32]),
    /// Zeros: a bias that the format asks for beside one that there is.
    Zeros(usize),
}

impl Source<'_> {
    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Weight(weight) => weight.shape().to_vec(),
            Self::Vector(values) => vec![values.len()],
            Self::Zeros(len) => vec![*len],
        }
    }
}

/// Every tensor that `config` asks for, in order.
fn tensors<'a>(model: &'a Model, config: &ModelConfig) -> Vec<(String, Source<'a>)> {
    let mut list = vec![("model.embed_tokens.weight".to_owned(), Source::Weight(model.embedding.as_ref()))];
    for (index, block) in model.blocks.iter().enumerate() {
        let named = |name: &str| format!("model.layers.{index}.{name}");
        let mut linear = |name: &str, linear: &'a Linear, bias: bool| {
            list.push((named(&format!("{name}.weight")), Source::Weight(linear.weight.as_ref())));
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
        }
        if let Some(part) = &block.ffn {
            linear("mlp.gate_proj", &part.gate, config.mlp_bias);
            linear("mlp.up_proj", &part.up, config.mlp_bias);
            linear("mlp.down_proj", &part.down, config.mlp_bias);
        }
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
    list.extend(model.head.iter().map(|head| ("lm_head.weight".to_owned(), Source::Weight(head.weight.as_ref()))));
    list
}

/// Writes `model`, pared from `before`, into `output`: weights, config.json and tokenizer files. Returns the bytes of the weight files.
///
/// The caller adds what else belongs there and commits: until then nothing is visible.
///
/// # Errors
/// The disk refuses; a weight that the type cannot hold; the user stops it.
pub fn write_directory(
    output: &OutputDir,
    before: &Bundle,
    model: &Model,
    dtype: Dtype,
    work: Work<'_>,
) -> Result<u64, Error> {
    let config = describe(&before.config, model, dtype);
    let list = tensors(model, &config);
    let specs: Vec<TensorSpec> =
        list.iter().map(|(name, source)| TensorSpec { name: name.clone(), dtype, shape: source.shape() }).collect();
    let plan = plan_shards(&specs, MAX_SHARD_BYTES)?;
    work.progress.begin("writing", list.len() as u64);
    let mut row = Vec::new();
    for shard in &plan.shards {
        let file = output.create_file(&shard.file)?;
        let path = file.path().to_owned();
        let mut writer = SafetensorsWriter::new(&path, file, specs[shard.tensors.clone()].to_vec(), &[])?;
        for (_, source) in &list[shard.tensors.clone()] {
            work.interrupt.check()?;
            match *source {
                Source::Vector(values) => writer.write_f32(values)?,
                Source::Zeros(len) => writer.write_f32(&vec![0.0; len])?,
                Source::Weight(weight) => {
                    let [rows, cols] = weight.shape();
                    row.resize(cols, 0.0);
                    for index in 0..rows {
                        weight.decode_row(index, &mut row);
                        writer.write_f32(&row)?;
                    }
                }
            }
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
    work.progress.end();
    weight_bytes(output.temporary())
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
