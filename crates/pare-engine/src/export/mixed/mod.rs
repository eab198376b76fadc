//! A GGUF file with a type for each matrix: chosen by what it costs in bytes and in divergence, its values chosen together.

mod choose;
mod measure;
mod quantise;
mod stream;

pub use quantise::{Manner, Types};

use super::{Export, Target};
use crate::Error;
use crate::bundle::Bundle;
use crate::progress::Work;
use crate::text::Text;
use measure::Curve;
use pare_kernels::blocks::{BlockType, RowType};
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::site::Projection;

/// What a model can be made of, before any work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Bytes of the file with the smallest type everywhere.
    pub least: u64,
    /// Bytes of the file with the largest.
    pub most: u64,
    /// Bytes of everything that is no matrix: header, tokenizer, norms.
    fixed: u64,
}

/// The smallest and the largest file with a type for each matrix.
///
/// # Errors
/// A model that cannot be exported, or whose rows are no whole blocks.
pub fn range(bundle: &Bundle) -> Result<Range, Error> {
    let model = &bundle.model;
    let shapes: Vec<[usize; 2]> = shapes(model).collect();
    let whole = model.blocks.iter().all(|block| block.mixer.is_some() && block.ffn.is_some());
    if !whole {
        let name = &bundle.name;
        return Err(Error::Refused(format!(
            "{name}: some blocks have no attention or no feed-forward layer; a file of mixed types is written for whole blocks only"
        )));
    }
    if let Some([_, columns]) = shapes.iter().find(|shape| measure::fitting(shape[1]).is_empty()) {
        let name = &bundle.name;
        return Err(Error::Refused(format!(
            "{name}: a matrix has rows of {columns}, which are no whole blocks of 32; f16 can hold it"
        )));
    }
    let plain = Export::plan(bundle, Target::F32)?;
    let matrices: u64 = shapes.iter().map(|[rows, columns]| (rows * columns * 4).next_multiple_of(32) as u64).sum();
    // Beside what an f32 file has, the key of the version of the quantised types.
    let fixed = plain.bytes()? - matrices + VERSION_KEY;
    let sum = |of: fn(&[BlockType]) -> Option<&BlockType>| {
        let bytes = |shape: &[usize; 2]| of(&measure::fitting(shape[1])).map_or(0, |&ty| measure::bytes(*shape, ty));
        fixed + shapes.iter().map(bytes).sum::<u64>()
    };
    Ok(Range { least: sum(<[BlockType]>::first), most: sum(<[BlockType]>::last), fixed })
}

/// `general.quantization_version` as a u32 takes this in the header, and the padding after it at most 31 more.
const VERSION_KEY: u64 = 8 + 28 + 4 + 4 + 31;

fn shapes(model: &Model) -> impl Iterator<Item = [usize; 2]> {
    let head = model.head.iter().map(|head| head.weight.shape());
    let blocks = model.blocks.iter().flat_map(Block::linears).map(|(_, linear)| linear.weight.shape());
    std::iter::once(model.embedding.shape()).chain(head).chain(blocks)
}

/// The types that fit `bytes`, chosen by measuring.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Type of each matrix.
    pub types: Types,
    /// Sum of the measured losses, in nats: for comparison only, since losses do not simply add up.
    pub nats: f64,
}

/// What every matrix would lose in every type. Expensive; serves any budget.
#[derive(Clone, Debug)]
pub struct Losses(Vec<Curve>);

impl Losses {
    /// Measures on calibration text.
    ///
    /// # Errors
    /// The user stops it; numbers that are not finite.
    pub fn measure(model: &Model, text: &Text, work: Work<'_>) -> Result<Self, Error> {
        Ok(Self(measure::curves(model, &text.sequences, work)?))
    }

    /// The types whose sum of losses is least among those that fit into a file of `bytes`; none when nothing fits.
    pub fn choose(&self, model: &Model, range: Range, bytes: u64) -> Option<Choice> {
        let curves: Vec<Vec<(u64, f64)>> = self.0.iter().map(|curve| curve.options.clone()).collect();
        let picked = choose::choose(&curves, bytes.checked_sub(range.fixed)?)?;
        let nats = picked.iter().zip(&curves).filter_map(|(&at, curve)| curve.get(at)).map(|option| option.1).sum();
        let mut types = picked.iter().zip(&self.0).filter_map(|(&at, curve)| curve.types.get(at).copied());
        let embedding = types.next()?;
        let head = if model.head.is_some() { types.next()? } else { embedding };
        let mut blocks = Vec::with_capacity(model.blocks.len());
        for block in &model.blocks {
            let mut own = [embedding; 7];
            for (projection, _) in block.linears() {
                own[quantise::projection_index(projection)] = types.next()?;
            }
            blocks.push(own);
        }
        Some(Choice { types: Types { embedding, head, blocks }, nats })
    }
}

/// The types that a plain target gives each matrix.
///
/// # Errors
/// A target without blocks, or rows that its blocks do not fit.
pub fn types_of(bundle: &Bundle, target: Target) -> Result<Types, Error> {
    range(bundle)?;
    let plan = Export::plan(bundle, target)?;
    let of = |name: &str| match plan.type_of(name) {
        Some(RowType::Blocks(ty)) => Ok(ty),
        _ => Err(Error::Refused(format!(
            "--gptq: {} has no codes to choose in tensor {name:?}; it works for q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_m, q5_k_m, q6_k",
            target.name()
        ))),
    };
    let embedding = of("token_embd.weight")?;
    let head = if bundle.model.head.is_some() { of("output.weight")? } else { embedding };
    let mut blocks = Vec::with_capacity(bundle.model.blocks.len());
    for index in 0..bundle.model.blocks.len() {
        let mut own = [embedding; 7];
        for (own, name) in own.iter_mut().zip(NAMES) {
            *own = of(&format!("blk.{index}.{name}.weight"))?;
        }
        blocks.push(own);
    }
    Ok(Types { embedding, head, blocks })
}

/// The names of [`Projection::ALL`] in the file.
const NAMES: [&str; Projection::ALL.len()] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// The model with its matrices in these types; what is written of it are the very codes that were chosen.
///
/// # Errors
/// The user stops it; moments that are not finite or have no Cholesky factor.
pub fn quantise(bundle: Bundle, types: &Types, manner: &Manner, text: &Text, work: Work<'_>) -> Result<Bundle, Error> {
    let model = quantise::quantise(&bundle.model, &text.sequences, types, manner, work)?;
    Ok(Bundle { model, rewritten: true, ..bundle })
}
