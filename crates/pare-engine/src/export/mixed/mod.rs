//! A GGUF file with a type for each matrix: chosen by what it costs in bytes and in divergence, its values chosen together.

mod choose;
mod measure;
mod quantise;
mod types;

pub(crate) use choose::choose;
pub use quantise::QuantiseOptions;
pub(super) use types::NAMES;
pub use types::{Types, Way};

use super::{Export, Target};
use crate::Error;
use crate::bundle::Bundle;
use crate::progress::Work;
use crate::text::Text;
use measure::Curve;
use pare_kernels::blocks::RowType;
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::weight::Weight;
use std::path::Path;

/// What a model can be made of, before any work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Bytes of the file with the smallest type everywhere.
    pub least: u64,
    /// Bytes of the file with everything as it was read: no larger one is better.
    pub most: u64,
    /// Bytes of everything that is no matrix: header, tokenizer, norms.
    fixed: u64,
}

/// The smallest and the largest file that a choice for each matrix can come to.
///
/// # Errors
/// A model that cannot be exported, or some blocks of which lack a part.
pub fn range(bundle: &Bundle) -> Result<Range, Error> {
    let model = &bundle.model;
    let shapes: Vec<[usize; 2]> = weights(model).map(Weight::shape).collect();
    let whole = model.blocks.iter().all(|block| block.mixer.is_some() && block.ffn.is_some());
    if !whole {
        let name = &bundle.name;
        return Err(Error::Refused(format!(
            "{name}: some blocks have no attention or no feed-forward layer; a file of mixed types is written for whole blocks only"
        )));
    }
    let plain = Export::plan(bundle, Target::F32)?;
    let matrices: u64 = shapes.iter().map(|[rows, columns]| (rows * columns * 4).next_multiple_of(32) as u64).sum();
    // Beside what an f32 file has, the key of the version of the quantised types.
    let fixed = plain.bytes()? - matrices + VERSION_KEY;
    let smallest = |weight: &dyn Weight| {
        let shape = weight.shape();
        let as_read = measure::bytes(shape, Way::as_read(weight).row_type());
        let fitting = measure::fitting(shape[1]);
        let least = fitting.first().map_or_else(|| Way::without_blocks(weight).row_type(), |&ty| RowType::Blocks(ty));
        measure::bytes(shape, least).min(as_read)
    };
    let least = fixed + weights(model).map(smallest).sum::<u64>();
    Ok(Range { least, most: Export::as_stored(bundle)?.bytes()?, fixed })
}

/// What the user should know before the work: matrices that no block type fits.
pub fn notes(bundle: &Bundle) -> Vec<String> {
    super::without_blocks(weights(&bundle.model).map(|weight| weight.shape()[1])).into_iter().collect()
}

/// `general.quantization_version` as a u32 takes this in the header, and the padding after it at most 31 more.
const VERSION_KEY: u64 = 8 + 28 + 4 + 4 + 31;

fn weights(model: &Model) -> impl Iterator<Item = &dyn Weight> {
    let head = model.head.iter().map(|head| head.weight.as_ref());
    let blocks = model.blocks.iter().flat_map(Block::linears).map(|(_, linear)| linear.weight.as_ref());
    std::iter::once(model.embedding.as_ref()).chain(head).chain(blocks)
}

/// The types that fit `bytes`, chosen by measuring.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What becomes of each matrix.
    pub types: Types,
    /// Sum of the measured losses, in nats: what the file is predicted to lose, as far as losses add up.
    pub nats: f64,
}

/// What every matrix would lose in every type. Expensive; serves any budget.
#[derive(Clone, Debug)]
pub struct Losses(Vec<Curve>);

impl Losses {
    /// Measures on `select` what codes that are chosen on `fit` lose.
    ///
    /// # Errors
    /// The user stops it; numbers that are not finite.
    pub fn measure(model: &Model, fit: &Text, select: &Text, work: Work<'_>) -> Result<Self, Error> {
        Ok(Self(measure::curves(model, &fit.sequences, &select.sequences, work)?))
    }

    /// The types whose sum of losses is least among those that fit into a file of `bytes`; none when nothing fits.
    pub fn choose(&self, model: &Model, range: Range, bytes: u64) -> Option<Choice> {
        if bytes >= range.most {
            return Some(Choice { types: Types::as_read(model), nats: 0.0 });
        }
        let curves: Vec<Vec<(u64, f64)>> = self.0.iter().map(|curve| curve.options.clone()).collect();
        let picked = choose::choose(&curves, bytes.checked_sub(range.fixed)?)?;
        let nats = picked.iter().zip(&curves).filter_map(|(&at, curve)| curve.get(at)).map(|option| option.1).sum();
        let mut types = picked.iter().zip(&self.0).filter_map(|(&at, curve)| curve.ways.get(at).copied());
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

/// The types that a plain target gives each matrix; what is in its type already stays as it was read.
///
/// # Errors
/// A target without blocks.
pub fn types_of(bundle: &Bundle, target: Target) -> Result<Types, Error> {
    range(bundle)?;
    let plan = Export::plan(bundle, target)?;
    let of = |name: &str, weight: &dyn Weight| match plan.type_of(name) {
        Some(RowType::Blocks(ty)) => Ok(Way::of(weight, ty)),
        Some(RowType::F16) if measure::fitting(weight.shape()[1]).is_empty() => Ok(Way::without_blocks(weight)),
        _ => Err(Error::Refused(format!(
            "--gptq: {} has no codes to choose in tensor {name:?}; it works for q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_m, q5_k_m, q6_k",
            target.name()
        ))),
    };
    let model = &bundle.model;
    let embedding = of("token_embd.weight", model.embedding.as_ref())?;
    let head = match &model.head {
        Some(head) => of("output.weight", head.weight.as_ref())?,
        None => embedding,
    };
    let mut blocks = Vec::with_capacity(model.blocks.len());
    for (index, block) in model.blocks.iter().enumerate() {
        let mut own = [embedding; 7];
        for (projection, linear) in block.linears() {
            let at = quantise::projection_index(projection);
            own[at] = of(&format!("blk.{index}.{}.weight", NAMES[at]), linear.weight.as_ref())?;
        }
        blocks.push(own);
    }
    Ok(Types { embedding, head, blocks })
}

/// The model with its matrices in these types; what is written of it are the very codes that were chosen.
///
/// # Errors
/// The user stops it; moments that are not finite or have no Cholesky factor.
pub fn quantise(
    bundle: Bundle,
    types: &Types,
    options: &QuantiseOptions,
    text: &Text,
    work: Work<'_>,
) -> Result<Bundle, Error> {
    let model = quantise::quantise(&bundle.model, &text.sequences, types, options, work)?;
    Ok(Bundle { model, rewritten: true, ..bundle })
}

/// How many times the predicted loss the measured one may be, or the other way round.
const GAP: f64 = 1.5;
/// So many nats are added to both: a ratio of less says nothing.
const NEGLIGIBLE: f64 = 1e-3;

/// Whether the prediction held on the file at `path`, both as mean divergence in nats.
///
/// # Errors
/// [`Error::Prediction`] when they are further apart than 1.5 times. The file stays as it was written.
pub fn compare(path: &Path, predicted: f64, measured: f64, text: &str) -> Result<(), Error> {
    let ratio = (measured + NEGLIGIBLE) / (predicted + NEGLIGIBLE);
    match (1.0 / GAP..=GAP).contains(&ratio) {
        true => Ok(()),
        false => {
            Err(Error::Prediction { path: path.display().to_string(), predicted, measured, text: text.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_an_error_either_way() {
        let gap = |predicted, measured| compare(Path::new("m.gguf"), predicted, measured, "held.txt");
        for (predicted, measured) in [(0.02, 0.0299), (0.03, 0.0203), (0.0, 0.0), (0.0001, 0.0004)] {
            assert!(gap(predicted, measured).is_ok(), "{predicted} {measured}");
        }
        for (predicted, measured) in [(0.02, 0.04), (0.04, 0.02), (0.0, 0.01), (0.1, f64::NAN), (0.1, f64::INFINITY)] {
            let error = gap(predicted, measured).unwrap_err();
            assert!(!error.is_bad_input());
            let says = error.to_string();
            assert!(["m.gguf", "held.txt", "--text"].iter().all(|part| says.contains(part)), "{says}");
        }
    }
}
