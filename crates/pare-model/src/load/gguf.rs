//! A GGUF model: its metadata translated to the terms of `config.json`, its tensors to the names of `model.safetensors`.

mod deci;
mod keys;
mod metadata;

use super::{Loaded, Tensors, assemble, window_warning};
use crate::rope::{Scaling, of_divisors};
use crate::storage::{Element, Stored};
use crate::weight::Weight;
use pare_format::config::ModelConfig;
use pare_format::gguf::{GgmlType, GgufModel};
use pare_format::{FormatError, FormatErrorKind, Result};
use pare_kernels::blocks::{BlockType, ReadType};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The model of a GGUF file, or of all the parts of a split one.
///
/// # Errors
/// An architecture that is not llama, deci, qwen2 or qwen3; metadata that is missing, contradicts itself or would change the model without
/// having a place in it; a tensor that is missing, of another shape than the metadata says, of a type that pare does not compute with, or
/// without a place in the model.
pub fn from_gguf(file: &GgufModel) -> Result<Loaded> {
    let mut config = metadata::config(file)?;
    let source = Source::new(file, &config)?;
    source.divide_frequencies(&mut config)?;
    let model = assemble(&config, &source)?;
    source.refuse_unused()?;
    let mut warnings: Vec<String> = file.warnings().collect();
    warnings.extend(window_warning(&config));
    Ok(Loaded { model, config, warnings, bytes: file.bytes() })
}

fn missing(model: &GgufModel, name: &str) -> FormatError {
    let (found, expected) = ("is missing".to_owned(), "a tensor of every such model".to_owned());
    FormatError::new(model.file_of(name), FormatErrorKind::Found { found, expected }).item(format!("tensor {name:?}"))
}

pub(super) fn element(ggml_type: GgmlType) -> Option<Element> {
    Some(match ggml_type {
        GgmlType::F32 => Element::F32,
        GgmlType::F16 => Element::F16,
        GgmlType::BF16 => Element::Bf16,
        GgmlType::Q4_0 => Element::Block(BlockType::Q4_0),
        GgmlType::Q4_1 => Element::Block(BlockType::Q4_1),
        GgmlType::Q5_0 => Element::Block(BlockType::Q5_0),
        GgmlType::Q5_1 => Element::Block(BlockType::Q5_1),
        GgmlType::Q8_0 => Element::Block(BlockType::Q8_0),
        GgmlType::Q4_K => Element::Block(BlockType::Q4K),
        GgmlType::Q5_K => Element::Block(BlockType::Q5K),
        GgmlType::Q6_K => Element::Block(BlockType::Q6K),
        other => Element::Read(ReadType::ALL.into_iter().find(|ty| ty.name() == other.name())?),
    })
}

/// The GGUF name of a tensor of `model.safetensors`.
fn gguf_name(name: &str) -> String {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return whole.to_owned();
    }
    let mut name = name.replacen("model.layers.", "blk.", 1);
    for (from, to) in [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ] {
        name = name.replacen(&format!(".{from}."), &format!(".{to}."), 1);
    }
    name
}

/// One divisor for each pair of a head, which llama.cpp's converter makes of Llama 3's scaling.
const DIVISORS: &str = "rope_freqs.weight";

/// The tensors of a file, taken out one by one: what is left at the end is refused, because no other reader would compute the same without
/// it. No tensor may be left; llama.cpp counts them likewise.
struct Source<'a> {
    model: &'a GgufModel,
    /// Width D of a head whose two halves alternate in the file.
    interleaved: Option<usize>,
    unused: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Source<'a> {
    fn new(model: &'a GgufModel, config: &ModelConfig) -> Result<Self> {
        let (architecture, _) = metadata::architecture(model.header())?;
        let unused = RefCell::new(model.tensors().map(|tensor| tensor.name.as_str()).collect());
        let interleaved = matches!(architecture, "llama" | "deci").then_some(config.head_dim);
        Ok(Self { model, interleaved, unused })
    }

    fn stored(&self, name: &str, shape: [usize; 2]) -> Result<Stored> {
        let name = gguf_name(name);
        let (tensor, bytes) = self.model.tensor(&name).ok_or_else(|| missing(self.model, &name))?;
        self.unused.borrow_mut().remove(name.as_str());
        let fail = |kind| FormatError::new(self.model.file_of(&name), kind).item(format!("tensor {name:?}"));
        let vector = shape[0] == 1 && tensor.shape.len() == 1;
        if tensor.out_in() != shape || !(vector || tensor.shape.len() == 2) {
            let (found, expected) =
                (format!("has shape {:?}", tensor.shape), format!("[in, out] = [{}, {}]", shape[1], shape[0]));
            return Err(fail(FormatErrorKind::Found { found, expected }));
        }
        let unsupported = || {
            let (found, supported) = (tensor.ggml_type.name().to_owned(), GgmlType::supported_names().into());
            fail(FormatErrorKind::Unsupported { found, supported })
        };
        let element = element(tensor.ggml_type).ok_or_else(unsupported)?;
        Stored::new(element, shape, bytes).ok_or_else(unsupported)
    }

    /// The order of the rows of `name`, when the file keeps another one: llama files interleave the two halves of each query and key head
    /// (row `2i` of a head is its row `i`, row `2i + 1` its row `i + D/2`).
    fn row_order(&self, name: &str, rows: usize) -> Option<Arc<[u32]>> {
        let turned = name.contains(".q_proj.") || name.contains(".k_proj.");
        let width = self.interleaved.filter(|_| turned)?;
        let half = width / 2;
        let from = |row: usize| {
            let (head, within) = (row / width, row % width);
            (head * width + 2 * (within % half) + within / half) as u32
        };
        Some((0..rows).map(from).collect())
    }

    /// Takes the divisors of the frequencies into `config`, when the file has some: Llama 3 files say their scaling by them alone.
    fn divide_frequencies(&self, config: &mut ModelConfig) -> Result<()> {
        if self.model.tensor(DIVISORS).is_none() {
            return Ok(());
        }
        let mut divisors = vec![0.0; config.head_dim / 2];
        self.stored(DIVISORS, [1, divisors.len()])?.decode_row(0, &mut divisors);
        let fail = |found: String, expected: &str| {
            let kind = FormatErrorKind::Found { found, expected: expected.to_owned() };
            Err(FormatError::new(self.model.file_of(DIVISORS), kind).item(format!("tensor {DIVISORS:?}")))
        };
        if let Some(bad) = divisors.iter().find(|divisor| !(divisor.is_finite() && **divisor > 0.0)) {
            return fail(format!("holds {bad}"), "divisors of frequencies, finite and above 0");
        }
        if divisors.iter().all(|divisor| *divisor == 1.0) {
            return Ok(());
        }
        if config.rope.scaling != Scaling::None {
            return fail("divides frequencies".to_owned(), "no divisors beside the keys rope.scaling.*");
        }
        config.rope.scaling = of_divisors(config.rope.theta, &divisors);
        Ok(())
    }

    fn refuse_unused(&self) -> Result<()> {
        let unused = self.unused.borrow();
        let Some(first) = unused.first() else { return Ok(()) };
        let more = match unused.len() - 1 {
            0 => String::new(),
            more => {
                let names: Vec<String> = unused.iter().skip(1).take(4).map(|name| format!("{name:?}")).collect();
                format!(", and {more} more ({}{})", names.join(", "), if more > 4 { ", ..." } else { "" })
            }
        };
        let architecture = self.model.header().str("general.architecture")?;
        let kind = FormatErrorKind::Found {
            found: format!("has no place in the architecture {architecture:?} as pare computes it{more}"),
            expected: "no tensor that would be left out".to_owned(),
        };
        Err(FormatError::new(self.model.file_of(first), kind).item(format!("tensor {first:?}")))
    }
}

impl Tensors for Source<'_> {
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Arc<dyn Weight>> {
        let stored = self.stored(name, shape)?;
        Ok(match self.row_order(name, shape[0]) {
            Some(order) => Arc::new(stored.with_row_order(order)),
            None => Arc::new(stored),
        })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Arc<[f32]>> {
        let stored = self.stored(name, [1, len])?;
        let mut values = vec![0.0; len];
        stored.decode_row(0, &mut values);
        Ok(match self.row_order(name, len) {
            Some(order) => order.iter().map(|&row| values[row as usize]).collect(),
            None => values.into(),
        })
    }

    /// A file says by its tensors which projections have a bias.
    fn bias(&self, name: &str, len: usize) -> Result<Option<Arc<[f32]>>> {
        self.model.tensor(&gguf_name(name)).map(|_| self.vector(name, len)).transpose()
    }
}
