//! From files to a [`Model`]. Weights stay in the memory map and are decoded where they are used; only what is sparse is copied.

mod directory;
mod fuzz;
mod gguf;

use crate::block::{Attention, Block, Ffn, Mixer};
use crate::model::{Architecture, Model};
use crate::weight::{Linear, Weight};
use pare_format::Result;
use pare_format::config::ModelConfig;
use std::sync::Arc;

pub use directory::from_directory;
pub use fuzz::{fuzz_config, fuzz_gguf};
pub use gguf::from_gguf;

/// A model and what its files say of it.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Its description, in the terms of `config.json` (for a GGUF file: translated).
    pub config: ModelConfig,
    /// What is odd but allowed.
    pub warnings: Vec<String>,
    /// Bytes of the weight files.
    pub bytes: u64,
}

/// Where the tensors of a model come from. Names are those of `model.safetensors`.
trait Tensors {
    /// The matrix `name`, which must be `[out, in]`.
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Arc<dyn Weight>>;
    /// The vector `name`, which must hold `len` values.
    fn vector(&self, name: &str, len: usize) -> Result<Arc<[f32]>>;
    /// The bias `name` of `len` values where the configuration has one; none where the format lets single ones away.
    fn bias(&self, name: &str, len: usize) -> Result<Option<Arc<[f32]>>> {
        self.vector(name, len).map(Some)
    }
}

/// Puts a model together as `config` describes it.
fn assemble(config: &ModelConfig, tensors: &dyn Tensors) -> Result<Model> {
    let (hidden, head_dim) = (config.hidden, config.head_dim);
    let mut blocks = Vec::with_capacity(config.blocks);
    for index in 0..config.blocks {
        let shape = config.block(index);
        let named = |name: &str| format!("model.layers.{index}.{name}");
        let vector = |name: &str, len| tensors.vector(&named(name), len);
        let linear = |name: &str, out, inn, bias: bool| -> Result<Linear> {
            Ok(Linear {
                weight: tensors.matrix(&named(&format!("{name}.weight")), [out, inn])?,
                bias: if bias { tensors.bias(&named(&format!("{name}.bias")), out)? } else { None },
            })
        };
        let shortcut = |part: &str| {
            let name = format!("{part}.shortcut");
            config.shortcuts.then(|| linear(&name, hidden, hidden, false)).transpose()
        };
        let mixer = match shape.attention {
            None => None,
            Some(shape) => {
                let (queries, keys) = (shape.heads * head_dim, shape.kv_heads * head_dim);
                let bias = config.attention_bias;
                let norm = |name| config.family.has_qk_norm().then(|| vector(name, head_dim)).transpose();
                Some(Mixer::Attention(Attention {
                    norm: vector("input_layernorm.weight", hidden)?,
                    q: linear("self_attn.q_proj", queries, hidden, bias)?,
                    k: linear("self_attn.k_proj", keys, hidden, bias)?,
                    v: linear("self_attn.v_proj", keys, hidden, bias)?,
                    o: linear("self_attn.o_proj", hidden, queries, config.output_bias())?,
                    q_norm: norm("self_attn.q_norm.weight")?,
                    k_norm: norm("self_attn.k_norm.weight")?,
                    shortcut: shortcut("self_attn")?,
                    heads: shape.heads,
                    groups: shape.kv_heads,
                }))
            }
        };
        let ffn = match shape.ffn {
            None => None,
            Some(width) => Some(Ffn {
                norm: vector("post_attention_layernorm.weight", hidden)?,
                gate: linear("mlp.gate_proj", width, hidden, config.mlp_bias)?,
                up: linear("mlp.up_proj", width, hidden, config.mlp_bias)?,
                down: linear("mlp.down_proj", hidden, width, config.mlp_bias)?,
                shortcut: shortcut("mlp")?,
            }),
        };
        blocks.push(Block { mixer, ffn });
    }
    let vocabulary = [config.vocab, hidden];
    Ok(Model {
        architecture: Architecture {
            family: config.family,
            hidden,
            vocab: config.vocab,
            context: context(config),
            head_dim,
            norm_eps: config.norm_eps,
            rope: config.rope.clone(),
        },
        embedding: tensors.matrix("model.embed_tokens.weight", vocabulary)?,
        blocks,
        final_norm: tensors.vector("model.norm.weight", hidden)?,
        head: match config.tied {
            true => None,
            false => Some(Linear::new(tensors.matrix("lm_head.weight", vocabulary)?)),
        },
    })
}

/// The longest context that full attention computes right: a sliding window changes nothing within its length.
fn context(config: &ModelConfig) -> usize {
    let window = (0..config.blocks).filter_map(|block| config.window(block)).min();
    window.map_or(config.context, |window| window.min(config.context))
}

/// Says that the context was cut to the sliding window, when it was.
fn window_warning(config: &ModelConfig) -> Option<String> {
    let context = context(config);
    (context < config.context).then(|| {
        format!("the model slides a window of {context} tokens; pare runs it up to that length, of {}", config.context)
    })
}
