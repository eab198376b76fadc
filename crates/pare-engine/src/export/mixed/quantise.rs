//! Block after block into given types: each projection sees what the quantised part of the model feeds it, and aims at what the dense
//! model computes.

use super::types::{Types, Way};
use crate::Error;
use crate::progress::Work;
use crate::residual::{Capture, ResidualStream};
use pare_format::map::Bytes;
use pare_kernels::blocks::{BlockType, RowType};
use pare_kernels::gram::accumulate_gram;
use pare_kernels::pool::Pool;
use pare_methods::rounding::{HessianFactor, Rounder, RoundingOptions, correct_drift};
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::model::{Model, PackAs};
use pare_model::site::{Point, Projection, Site};
use pare_model::storage::{Element, Stored};
use pare_model::weight::{Linear, Weight};
use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that a thread takes at a time.
const ROWS: usize = 16;

/// How a model is quantised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantiseOptions {
    /// Damping of the moments, relative to the mean of their diagonal.
    pub damping: f64,
    /// The same for the embedding that is the head too: what it is as an embedding.
    pub tied_damping: f64,
    /// Damping of the correction towards the dense model's outputs.
    pub correction_damping: f64,
    /// How much of that correction is taken, 0..=1.
    pub correction: f64,
    /// Work for each row.
    pub rounding: RoundingOptions,
}

impl Default for QuantiseOptions {
    fn default() -> Self {
        Self {
            damping: 0.01,
            tied_damping: 0.1,
            correction_damping: 0.1,
            correction: 1.0,
            rounding: RoundingOptions { carry: true, rounds: 1 },
        }
    }
}

/// Encodes every row of `target`; the sum of the rows' errors.
pub(super) fn encode(
    hessian: &HessianFactor,
    ty: BlockType,
    rounding: RoundingOptions,
    target: &Matrix,
    pool: &Pool,
) -> Option<(Arc<dyn Weight>, f64)> {
    let [rows, columns] = target.shape();
    let row_bytes = columns / ty.values_per_block() * ty.bytes_per_block();
    let mut bytes = vec![0u8; rows * row_bytes];
    Rounder::new(hessian, ty, rounding)?;
    let parts: Vec<Mutex<(&mut [u8], f64)>> =
        bytes.chunks_mut(ROWS * row_bytes).map(|bytes| Mutex::new((bytes, 0.0))).collect();
    pool.run(parts.len(), &|part| {
        let mut own = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, error) = &mut *own;
        let Some(mut rounder) = Rounder::new(hessian, ty, rounding) else { return };
        for (row, bytes) in (part * ROWS..).zip(bytes.chunks_mut(row_bytes)) {
            *error += rounder.row(target.row(row), bytes);
        }
    });
    let error = parts.into_iter().map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner).1).sum();
    let stored = Stored::new(Element::Block(ty), target.shape(), Bytes::from(bytes))?;
    Some((Arc::new(stored), error))
}

/// The matrix with every number rounded to f16.
///
/// # Errors
/// A number that f16 cannot hold.
pub(super) fn halved(matrix: &Matrix) -> Result<Arc<dyn Weight>, Error> {
    let ([rows, columns], ty) = (matrix.shape(), RowType::F16);
    if let Some(value) = matrix.data().iter().find(|value| value.abs() > ty.largest()) {
        return Err(Error::Refused(format!(
            "a matrix with rows of {columns}, which no block type fits, holds {value}, too large for f16; bf16 and f32 can hold it"
        )));
    }
    let row_bytes = columns * ty.bytes_per_block();
    let mut bytes = vec![0u8; rows * row_bytes];
    for (row, bytes) in bytes.chunks_mut(row_bytes.max(1)).enumerate() {
        ty.encode(matrix.row(row), bytes);
    }
    let stored = Stored::new(Element::F16, [rows, columns], Bytes::from(bytes)).ok_or_else(does_not_fit)?;
    Ok(Arc::new(stored))
}

/// A target in the type that was chosen for it, codes against a Hessian; none where it stays as it was read. Neither is made without need.
fn made<F: Borrow<HessianFactor>>(
    way: Way,
    target: impl FnOnce() -> Matrix,
    hessian: impl FnOnce() -> Result<F, Error>,
    rounding: RoundingOptions,
    pool: &Pool,
) -> Result<Option<Arc<dyn Weight>>, Error> {
    match way {
        Way::AsRead(_) => Ok(None),
        Way::Half => halved(&target()).map(Some),
        Way::Encoded(ty) => {
            let hessian = hessian()?;
            let (weight, _) = encode(hessian.borrow(), ty, rounding, &target(), pool).ok_or_else(does_not_fit)?;
            Ok(Some(weight))
        }
    }
}

/// `[T, n]` and `[T, m]` side by side.
fn beside(a: &[f32], n: usize, b: &[f32], m: usize) -> Vec<f32> {
    a.chunks_exact(n).zip(b.chunks_exact(m)).flat_map(|(a, b)| a.iter().chain(b)).copied().collect()
}

/// Mean of `x x^T` `[n, n]` and of `x d^T` `[n, m]` over tokens.
fn moments(x: &[f32], n: usize, d: &[f32], m: usize, pool: &Pool) -> (Vec<f64>, Vec<f64>) {
    let width = n + m;
    let mut all = vec![0.0; width * width];
    let tokens = x.len() / n;
    accumulate_gram(&beside(x, n, d, m), width, &mut all, pool);
    all.iter_mut().for_each(|value| *value /= tokens as f64);
    let gram = (0..n).flat_map(|i| all[i * width..i * width + n].iter().copied()).collect();
    let cross = (0..n).flat_map(|i| all[i * width + n..(i + 1) * width].iter().copied()).collect();
    (gram, cross)
}

/// The mean of outer products of rows `[T, n]`.
pub(super) fn gram(x: &[f32], n: usize, pool: &Pool) -> Vec<f64> {
    let mut gram = vec![0.0; n * n];
    accumulate_gram(x, n, &mut gram, pool);
    let tokens = (x.len() / n) as f64;
    gram.iter_mut().for_each(|value| *value /= tokens);
    gram
}

/// The moments of inputs that are as large as each other and independent.
pub(super) fn unit(n: usize) -> Vec<f64> {
    (0..n * n).map(|at| f64::from(at % (n + 1) == 0)).collect()
}

/// The model with every matrix in its type.
///
/// # Errors
/// The user stops it; moments that are not finite or have no Cholesky factor.
pub(super) fn quantise(
    dense: &Model,
    sequences: &[Vec<u32>],
    types: &Types,
    options: &QuantiseOptions,
    work: Work<'_>,
) -> Result<Model, Error> {
    let fails = |site: Site| move |cause| Error::from(pare_methods::error::MethodError::Numeric { site, cause });
    let pool = work.pool;
    let mut model = dense.clone();
    // Products with packed weights are faster than with those of a file.
    let fast = dense.packed(PackAs::Exact, pool);
    work.progress.begin("quantising", dense.blocks.len() as u64 + 1);
    let last = Site::new(dense.blocks.len().saturating_sub(1), Point::FfnPart);
    let width = dense.architecture.hidden;
    if dense.head.is_none() {
        let hessian = || {
            let mut stream = ResidualStream::embed(dense, sequences);
            stream.advance_through(&fast.blocks, 0, work)?;
            stream.release_scratch();
            let moments = gram(&stream.normed(&dense.final_norm, pool), width, pool);
            HessianFactor::new(&moments, width, options.tied_damping).map_err(fails(last))
        };
        if let Some(weight) = made(types.embedding, || unpacked(&dense.embedding), hessian, options.rounding, pool)? {
            model.embedding = weight;
        }
    }
    work.progress.advance(1, "");
    let (mut ahead, mut behind) = (ResidualStream::embed(dense, sequences), ResidualStream::embed(&model, sequences));
    let mut blocks = model.blocks.clone();
    for (index, block) in blocks.iter_mut().enumerate() {
        let types = types.blocks.get(index).ok_or_else(does_not_fit)?;
        quantise_block(&fast.blocks[index], block, (index, types), [&mut ahead, &mut behind], options, work)?;
        work.progress.advance(1, "");
    }
    model.blocks = blocks;
    if let Some(head) = &dense.head {
        let hessian = || {
            let moments = gram(&behind.normed(&model.final_norm, pool), width, pool);
            HessianFactor::new(&moments, width, options.damping).map_err(fails(last))
        };
        let weight = made(types.head, || head.to_matrix(), hessian, options.rounding, pool)?;
        if let (Some(head), Some(weight)) = (&mut model.head, weight) {
            head.weight = weight;
        }
        let hessian = || HessianFactor::new(&unit(width), width, options.damping).map_err(fails(last));
        if let Some(weight) = made(types.embedding, || unpacked(&dense.embedding), hessian, options.rounding, pool)? {
            model.embedding = weight;
        }
    }
    work.progress.end();
    Ok(model)
}

/// Quantises `block`, and takes both streams through it.
fn quantise_block(
    dense: &Block,
    block: &mut Block,
    (index, types): (usize, &[Way; 7]),
    [ahead, behind]: [&mut ResidualStream; 2],
    options: &QuantiseOptions,
    work: Work<'_>,
) -> Result<(), Error> {
    let pool = work.pool;
    let step = |block: &mut Block, point: Point, inputs: &[f32], drift: &[f32], projections: &[Projection]| {
        let site = Site::new(index, point);
        let writes = matches!(point, Point::AttentionOut | Point::FfnOut);
        step(block, (site, writes), inputs, drift, projections, types, options, pool)
    };
    if let (Some(own), Some(now)) = (dense.attention(), block.attention()) {
        let alone = |block: &Block| Block { mixer: block.mixer.clone(), ffn: None };
        let inputs = behind.normed(&now.norm, pool);
        let drift = difference(&ahead.normed(&own.norm, pool), &inputs);
        step(block, Point::AttentionIn, &inputs, &drift, &[Projection::Q, Projection::K, Projection::V])?;
        let (seen, drift) = seen_and_drift(
            index,
            [&alone(dense), &alone(block)],
            Point::AttentionOut,
            [&mut *ahead, &mut *behind],
            work,
        )?;
        step(block, Point::AttentionOut, seen.at(Point::AttentionOut), &drift, &[Projection::O])?;
        if let Some(linear) = block.linear(Projection::O) {
            behind.add_output(&packed_linear(linear, pool), seen.at(Point::AttentionOut), pool);
        }
    }
    if let (Some(own), Some(now)) = (&dense.ffn, &block.ffn) {
        let alone = |block: &Block| Block { mixer: None, ffn: block.ffn.clone() };
        let inputs = behind.normed(&now.norm, pool);
        let drift = difference(&ahead.normed(&own.norm, pool), &inputs);
        step(block, Point::FfnIn, &inputs, &drift, &[Projection::Gate, Projection::Up])?;
        let (seen, drift) =
            seen_and_drift(index, [&alone(dense), &alone(block)], Point::FfnOut, [&mut *ahead, &mut *behind], work)?;
        step(block, Point::FfnOut, seen.at(Point::FfnOut), &drift, &[Projection::Down])?;
        if let Some(linear) = block.linear(Projection::Down) {
            behind.add_output(&packed_linear(linear, pool), seen.at(Point::FfnOut), pool);
        }
    }
    work.interrupt.check()?;
    Ok(())
}

/// Takes the dense stream through a part; what the same part reads at `point` of the other stream, and the drift after it: the projection that
/// reads there is still the dense one.
fn seen_and_drift(
    index: usize,
    [dense, part]: [&Block; 2],
    point: Point,
    [ahead, behind]: [&mut ResidualStream; 2],
    work: Work<'_>,
) -> Result<(Capture, Vec<f32>), Error> {
    ahead.advance(index, dense, work)?;
    ahead.release_scratch();
    let (mut after, mut seen) = (behind.clone(), Capture::only(&[point]));
    after.advance_observed(index, &packed(part, work.pool), &mut seen, work)?;
    let drift = difference(ahead.x(), after.x());
    Ok((seen, drift))
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Quantises the projections that read `inputs` `[T, n]`. The drift `[T, k]` is of their outputs when they write to the stream, of the
/// inputs otherwise.
#[allow(clippy::too_many_arguments)]
fn step(
    block: &mut Block,
    (site, writes): (Site, bool),
    inputs: &[f32],
    drift: &[f32],
    projections: &[Projection],
    types: &[Way; 7],
    options: &QuantiseOptions,
    pool: &Pool,
) -> Result<(), Error> {
    let fails = |cause| Error::from(pare_methods::error::MethodError::Numeric { site, cause });
    let way = |projection: Projection| types[projection_index(projection)];
    if projections.iter().all(|&projection| matches!(way(projection), Way::AsRead(_))) {
        return Ok(());
    }
    let sizes = projections.iter().find_map(|&p| block.linear(p).map(|linear| [linear.inputs(), linear.outputs()]));
    let Some([n, outputs]) = sizes else { return Ok(()) };
    let (moments, cross) = moments(inputs, n, drift, if writes { outputs } else { n }, pool);
    let hessian = HessianFactor::new(&moments, n, options.damping).map_err(fails)?;
    for &projection in projections {
        let Some(linear) = block.linear_mut(projection) else { continue };
        if matches!(way(projection), Way::AsRead(_)) {
            continue;
        }
        let mut target = linear.to_matrix();
        if options.correction > 0.0 {
            correct_drift(&mut target, &moments, &cross, writes, options.correction_damping, options.correction)
                .map_err(fails)?;
        }
        if let Some(weight) = made(way(projection), || target, || Ok(&hessian), options.rounding, pool)? {
            linear.weight = weight;
        }
    }
    Ok(())
}

fn packed_linear(linear: &Linear, pool: &Pool) -> Linear {
    Linear { weight: pare_model::model::repack(&linear.weight, PackAs::Exact, pool), bias: linear.bias.clone() }
}

pub(super) fn projection_index(projection: Projection) -> usize {
    Projection::ALL.iter().position(|&other| other == projection).unwrap_or(0)
}

pub(super) fn does_not_fit() -> Error {
    Error::Refused("a type was chosen whose blocks do not fit its rows; please report this".to_owned())
}

/// A block that runs fast.
fn packed(block: &Block, pool: &Pool) -> Block {
    let mut block = block.clone();
    for projection in Projection::ALL {
        if let Some(linear) = block.linear_mut(projection) {
            linear.weight = pare_model::model::repack(&linear.weight, PackAs::Exact, pool);
        }
    }
    block
}

/// The numbers of a weight.
pub(super) fn unpacked(weight: &Arc<dyn Weight>) -> Matrix {
    Linear::new(Arc::clone(weight)).to_matrix()
}
