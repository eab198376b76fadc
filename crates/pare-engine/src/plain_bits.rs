//! What the bytes of a pared model hold without cuts: the dense model in fewer bits, every matrix rounded to the nearest.

use crate::as_read::{in_blocks, nearest};
use crate::export::choose;
use crate::progress::Work;
use crate::{Error, parallel};
use pare_kernels::blocks::BlockType;
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::site::Projection;
use pare_model::storage::Element;
use pare_model::weight::{Linear, Weight};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a matrix that its rounding error is measured on, evenly spaced.
const ROWS: usize = 64;
/// Bytes of the header of a file for each tensor.
const HEADER: u64 = 128;
/// How much an error of the embedding, which is mostly the head too, counts beside an equal one of a projection.
const SHARED: f64 = 8.0;

/// The dense model in fewer bits.
#[derive(Debug)]
pub struct PlainBits {
    /// The model.
    pub model: Model,
    /// How many matrices are of each type.
    pub counts: BTreeMap<&'static str, usize>,
}

impl PlainBits {
    /// As in `120 Q4_0, 91 Q4_1`.
    pub fn types(&self) -> String {
        let shown: Vec<String> = self.counts.iter().map(|(ty, count)| format!("{count} {ty}")).collect();
        shown.join(", ")
    }
}

/// One way to keep a matrix.
struct Kept {
    /// None: as it is, or, when it is wider, in 16 bits.
    ty: Option<BlockType>,
    bytes: u64,
    /// Squared error over the squared weights.
    loss: f64,
}

/// Rounds every matrix of `model` to the nearest, in the types whose summed relative errors are least among those that fit into a file of
/// `bytes`; in the smallest types there are when nothing fits. What costs no more as it is stays as it is.
///
/// # Errors
/// A number that a type cannot hold; the user stops it.
pub fn plain_bits(model: &Model, bytes: u64, work: Work<'_>) -> Result<PlainBits, Error> {
    let vectors = vector_values(model);
    let shared = 1 + usize::from(model.head.is_some());
    let weights: Vec<&Arc<dyn Weight>> = std::iter::once(&model.embedding)
        .chain(model.head.iter().map(|head| &head.weight))
        .chain(model.blocks.iter().flat_map(|block| block.linears()).map(|(_, linear)| &linear.weight))
        .collect();
    let ways = parallel::each(weights.len(), work.pool, &|at: usize| {
        work.interrupt.check()?;
        Ok::<_, Error>(ways(weights[at].as_ref(), if at < shared { SHARED } else { 1.0 }))
    })?;
    // Norms and biases are tensors too.
    let tensors = 2 * weights.len() as u64;
    let budget = bytes.saturating_sub(2 * vectors + HEADER * tensors);
    let curves: Vec<Vec<(u64, f64)>> =
        ways.iter().map(|ways| ways.iter().map(|way| (way.bytes, way.loss)).collect()).collect();
    let smallest = |ways: &Vec<Kept>| (0..ways.len()).min_by_key(|&at| ways[at].bytes).unwrap_or(0);
    let chosen = choose(&curves, budget).unwrap_or_else(|| ways.iter().map(smallest).collect());
    let mut counts = BTreeMap::new();
    let mut rounded = Vec::with_capacity(weights.len());
    for ((weight, ways), at) in weights.into_iter().zip(&ways).zip(chosen) {
        let (name, weight) = match ways[at].ty {
            None => (in_blocks(weight.as_ref()).map_or("16 bit", Element::name), Arc::clone(weight)),
            Some(ty) => (ty.name(), nearest("a matrix", weight, ty, work)?),
        };
        rounded.push(weight);
        *counts.entry(name).or_default() += 1;
    }
    Ok(PlainBits { model: with_weights(model, rounded), counts })
}

/// The numbers that lie in no matrix: norms and biases.
fn vector_values(model: &Model) -> u64 {
    let bias = |linear: &Linear| linear.bias.as_ref().map_or(0, |bias| bias.len());
    let of_block = |block: &Block| -> usize {
        let biases: usize = block.linears().map(|(_, linear)| bias(linear)).sum();
        let heads = block
            .attention()
            .map_or(0, |part| [&part.q_norm, &part.k_norm].into_iter().flatten().map(|gain| gain.len()).sum());
        2 * model.architecture.hidden + biases + heads
    };
    (model.final_norm.len() + model.blocks.iter().map(of_block).sum::<usize>()) as u64
}

/// `model` with other weights: of the embedding, the head where there is one, and every projection in order.
fn with_weights(model: &Model, weights: Vec<Arc<dyn Weight>>) -> Model {
    let mut model = model.clone();
    let mut weights = weights.into_iter();
    let mut put = |place: &mut Arc<dyn Weight>| weights.next().into_iter().for_each(|weight| *place = weight);
    put(&mut model.embedding);
    model.head.iter_mut().for_each(|head| put(&mut head.weight));
    for block in &mut model.blocks {
        for projection in Projection::ALL {
            block.linear_mut(projection).into_iter().for_each(|linear| put(&mut linear.weight));
        }
    }
    model
}

/// Every type that is smaller than the matrix as it is, and the matrix as it is; `counts` multiplies its losses.
fn ways(weight: &dyn Weight, counts: f64) -> Vec<Kept> {
    let [rows, columns] = weight.shape();
    let values = (rows * columns) as u64;
    let bytes_in = |ty: BlockType| values / ty.values_per_block() as u64 * ty.bytes_per_block() as u64;
    let row = in_blocks(weight).and_then(|element| element.bytes_of(columns));
    let own = row.map_or(2 * values, |row| (rows * row) as u64);
    let mut ways = vec![Kept { ty: None, bytes: own, loss: 0.0 }];
    for ty in BlockType::ALL {
        let bytes = bytes_in(ty);
        if columns.is_multiple_of(ty.values_per_block()) && bytes < own {
            ways.push(Kept { ty: Some(ty), bytes, loss: counts * relative_error(weight, ty) });
        }
    }
    ways
}

/// The squared error of rounding over the squared weights, on some rows.
fn relative_error(weight: &dyn Weight, ty: BlockType) -> f64 {
    let [rows, columns] = weight.shape();
    let mut bytes = vec![0; columns / ty.values_per_block() * ty.bytes_per_block()];
    let (mut values, mut rounded) = (vec![0.0; columns], vec![0.0; columns]);
    let (mut error, mut whole) = (0.0, 0.0);
    let count = rows.min(ROWS);
    for row in (0..count).map(|at| at * rows / count.max(1)) {
        weight.decode_row(row, &mut values);
        ty.encode(&values, &mut bytes);
        ty.decode(&bytes, &mut rounded);
        for (value, rounded) in values.iter().zip(&rounded) {
            error += f64::from(value - rounded).powi(2);
            whole += f64::from(*value).powi(2);
        }
    }
    if whole > 0.0 { error / whole } else { 0.0 }
}
