//! What each matrix would lose in each type, in nats: the part of a block is measured through the rest of the model, the matrices of a
//! part through the part, the types of a matrix on some of its rows.

use super::quantise::{does_not_fit, encode, gram, halved, unit, unpacked};
use super::types::Way;
use crate::Error;
use crate::divergence::DivergenceProbe;
use crate::progress::Work;
use crate::residual::{Capture, Checkpoints, ResidualStream};
use pare_kernels::blocks::{BlockType, RowType};
use pare_kernels::pool::Pool;
use pare_methods::rounding::{HessianFactor, RoundingOptions};
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::model::{Model, PackAs, repack};
use pare_model::site::{Point, Projection, Site};
use pare_model::storage::Dense;
use pare_model::weight::{Weight, Workspace};
use std::sync::Arc;

/// Windows that are measured on, and tokens of each at most.
const WINDOWS: usize = 4;
const TOKENS: usize = 128;
/// Every so-many-th position is compared.
const EVERY: usize = 2;
/// Rows of a matrix that stand for all of them.
const SAMPLE: usize = 48;
/// The types that are tried in the model, in this order; the others are compared with the first that loses something.
const PROBES: [BlockType; 2] = [BlockType::Q4_1, BlockType::Q4_0];
/// When neither does, the matrix lies on a grid of so few levels itself: its blocks of 32 are rounded to fewer.
const LEVELS: [f32; 3] = [8.0, 4.0, 2.0];
/// A type of fewer bits that loses less than so many times what 8 bits lose has met its own grid.
const OWN_GRID: f64 = 2.0;
/// How far the moments of few tokens are trusted.
const DAMPING: f64 = 0.1;
/// What is tried in the model is rounded plainly, with the inputs' weights.
const PLAIN: RoundingOptions = RoundingOptions { carry: false, rounds: 0 };

/// What a matrix can become, and bytes and loss of each.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) ways: Vec<Way>,
    /// `(bytes, nats)`.
    pub(super) options: Vec<(u64, f64)>,
}

/// A matrix that is measured.
struct RoundingProbe<'a> {
    weight: &'a dyn Weight,
    matrix: Matrix,
    /// The rows that stand for all of them.
    sample: Matrix,
    /// Codes are chosen against this.
    hessian: Arc<HessianFactor>,
    /// What it reads on the measured text, `[T, in]`.
    inputs: &'a [f32],
}

/// A coarse version of a matrix that is tried in the model, and its error on the sampled rows.
struct Probe {
    weight: Arc<dyn Weight>,
    error: f64,
}

/// The types that rows of `columns` can have, the smallest first.
pub(super) fn fitting(columns: usize) -> Vec<BlockType> {
    let mut types: Vec<BlockType> =
        BlockType::ALL.into_iter().filter(|ty| columns.is_multiple_of(ty.values_per_block())).collect();
    types.sort_by_key(|ty| ty.bytes_per_block() * 256 / ty.values_per_block());
    types
}

/// Bytes of a matrix in the file.
pub(super) fn bytes([rows, columns]: [usize; 2], ty: RowType) -> u64 {
    (rows * (columns / ty.values_per_block() * ty.bytes_per_block())).next_multiple_of(32) as u64
}

/// The curves of the embedding, the head when it is another matrix, and each block's projections: codes are chosen on `fit`, and what they
/// lose is measured on `select`, where they do not look better than they are.
///
/// # Errors
/// The user stops it; numbers that are not finite.
pub(super) fn curves(
    dense: &Model,
    fit: &[Vec<u32>],
    select: &[Vec<u32>],
    work: Work<'_>,
) -> Result<Vec<Curve>, Error> {
    let pool = work.pool;
    let count = WINDOWS.min(select.len());
    let windows: Vec<Vec<u32>> = (0..count)
        .map(|index| &select[index * select.len() / count])
        .map(|own| own[..own.len().min(TOKENS)].to_vec())
        .collect();
    let fast = dense.packed(PackAs::Exact, pool);
    let width = dense.architecture.hidden;
    work.progress.begin("measuring", dense.blocks.len() as u64 + 1);
    let mut streams = Checkpoints::of(&fast, &windows, work)?;
    let end = streams.before(fast.blocks.len());
    let rows = (1..end.tokens()).step_by(EVERY).collect();
    let predictions = DivergenceProbe::new(&fast, windows, rows, end, pool);
    let mut curves = Vec::new();
    let mut chosen_on = ResidualStream::embed(dense, fit);
    for (index, block) in dense.blocks.iter().enumerate() {
        let fast_block = &fast.blocks[index];
        let own = captured(streams.before(index), (index, fast_block), &POINTS, work)?;
        let mut seen = Capture::only(&Point::INPUTS);
        chosen_on.advance_observed(index, fast_block, &mut seen, work)?;
        chosen_on.release_scratch();
        for (projections, part) in PARTS {
            let mut whole = fast_block.clone();
            let mut found = Vec::new();
            let mut hessian: Option<(Point, Arc<HessianFactor>)> = None;
            for &projection in projections {
                let Some(linear) = block.linear(projection) else { continue };
                let (inputs, point) = (linear.inputs(), projection.input());
                let hessian = match &hessian {
                    Some((of, hessian)) if *of == point => Arc::clone(hessian),
                    _ => {
                        let own = self::hessian(&gram(seen.at(point), inputs, pool), inputs, Site::new(index, point))?;
                        Arc::clone(&hessian.insert((point, Arc::new(own))).1)
                    }
                };
                let measured = RoundingProbe::new(&linear.weight, hessian, own.at(point));
                let probe = measured.probe(pool)?;
                let tried = repack(&probe.weight, PackAs::Exact, pool);
                let mut single = fast_block.clone();
                for block in [&mut single, &mut whole] {
                    if let Some(linear) = block.linear_mut(projection) {
                        linear.weight = Arc::clone(&tried);
                    }
                }
                let after = captured(streams.before(index), (index, &single), &[part], work)?;
                let off: f64 = after.at(part).iter().zip(own.at(part)).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                found.push((measured, probe, off));
            }
            if found.is_empty() {
                continue;
            }
            let mut changed = fast.clone();
            changed.blocks[index] = whole;
            let nats = predictions.divergence(&changed, Some(&mut streams), work)?;
            streams.before(index).release_scratch();
            let all: f64 = found.iter().map(|found| found.2).sum();
            for (measured, probe, off) in found {
                let share = if all > 0.0 { off / all } else { 0.0 };
                curves.push(measured.curve(&probe, nats * share, pool));
            }
        }
        work.progress.advance(1, "");
    }

    let last = Site::new(dense.blocks.len().saturating_sub(1), Point::FfnPart);
    let of_logits = hessian(&gram(&chosen_on.normed(&dense.final_norm, pool), width, pool), width, last)?;
    let of_rows = match &dense.head {
        Some(_) => hessian(&unit(width), width, last)?,
        None => of_logits.clone(),
    };
    // These two are tried in the model type by type: an embedding that is the head too is off twice, and no error of its rows says how much.
    let mut embedded = |weight: &Arc<dyn Weight>| -> Result<f64, Error> {
        let mut other = fast.clone();
        // One that is only looked up is not multiplied with.
        other.embedding = if dense.head.is_none() { repack(weight, PackAs::Exact, pool) } else { Arc::clone(weight) };
        predictions.divergence(&other, Some(&mut streams), work)
    };
    let mut first = vec![tried(&dense.embedding, &of_rows, &mut embedded, pool)?];
    if let Some(head) = &dense.head {
        let mut replaced = |weight: &Arc<dyn Weight>| -> Result<f64, Error> {
            let mut other = fast.clone();
            if let Some(head) = &mut other.head {
                head.weight = repack(weight, PackAs::Exact, pool);
            }
            predictions.divergence(&other, Some(&mut streams), work)
        };
        first.push(tried(&head.weight, &of_logits, &mut replaced, pool)?);
    }
    work.progress.advance(1, "embedding");
    work.progress.end();
    first.append(&mut curves);
    Ok(first)
}

/// What passes in a block at some points; no buffers stay behind, since moments take more memory than anything else here.
fn captured(
    stream: &mut ResidualStream,
    (index, block): (usize, &Block),
    points: &[Point],
    work: Work<'_>,
) -> Result<Capture, Error> {
    let mut capture = Capture::only(points);
    stream.peek(index, block, &mut capture, work)?;
    stream.release_scratch();
    Ok(capture)
}

/// What a block is observed at.
const POINTS: [Point; 6] =
    [Point::AttentionIn, Point::AttentionOut, Point::FfnIn, Point::FfnOut, Point::AttentionPart, Point::FfnPart];

const PARTS: [(&[Projection], Point); 2] = [
    (&[Projection::Q, Projection::K, Projection::V, Projection::O], Point::AttentionPart),
    (&[Projection::Gate, Projection::Up, Projection::Down], Point::FfnPart),
];

fn hessian(gram: &[f64], inputs: usize, site: Site) -> Result<HessianFactor, Error> {
    HessianFactor::new(gram, inputs, DAMPING)
        .map_err(|cause| Error::from(pare_methods::error::MethodError::Numeric { site, cause }))
}

/// What is written where codes are chosen.
const CHOSEN: RoundingOptions = RoundingOptions { carry: true, rounds: 1 };

/// What a model with this weight in the place of its own loses, in nats.
type Nats<'a> = dyn FnMut(&Arc<dyn Weight>) -> Result<f64, Error> + 'a;

/// The loss of every type of fewer bytes than the weight has, each measured in the model.
fn tried(weight: &Arc<dyn Weight>, hessian: &HessianFactor, nats: &mut Nats<'_>, pool: &Pool) -> Result<Curve, Error> {
    let (as_read, matrix) = (Way::as_read(weight.as_ref()), unpacked(weight));
    let most = bytes(matrix.shape(), as_read.row_type());
    let mut curve = Curve { ways: vec![as_read], options: vec![(most, 0.0)] };
    for ty in fitting(matrix.cols()) {
        let bytes = bytes(matrix.shape(), RowType::Blocks(ty));
        if bytes < most {
            let (other, _) = encode(hessian, ty, CHOSEN, &matrix, pool).ok_or_else(does_not_fit)?;
            curve.push(Way::Encoded(ty), bytes, nats(&other)?);
        }
    }
    if fitting(matrix.cols()).is_empty() && Way::without_blocks(weight.as_ref()) == Way::Half {
        curve.push(Way::Half, bytes(matrix.shape(), RowType::F16), nats(&halved(&matrix)?)?);
    }
    Ok(curve)
}

impl Curve {
    fn push(&mut self, way: Way, bytes: u64, nats: f64) {
        self.ways.push(way);
        // Never for nothing: of equal losses the cheaper one would win.
        self.options.push((bytes, nats.max(f64::MIN_POSITIVE)));
    }
}

impl<'a> RoundingProbe<'a> {
    fn new(weight: &'a Arc<dyn Weight>, hessian: Arc<HessianFactor>, inputs: &'a [f32]) -> Self {
        let matrix = unpacked(weight);
        let rows = matrix.rows();
        let sample: Vec<usize> = (0..rows.min(SAMPLE)).map(|at| at * rows / rows.min(SAMPLE)).collect();
        let sample = matrix.select_rows(&sample);
        Self { weight: weight.as_ref(), matrix, sample, hessian, inputs }
    }

    /// The squared error of the outputs of the sampled rows when they are `other`.
    fn off(&self, mut other: Matrix, pool: &Pool) -> f64 {
        let rows = other.rows();
        other.data_mut().iter_mut().zip(self.sample.data()).for_each(|(other, exact)| *other -= exact);
        let mut outputs = vec![0.0; self.inputs.len() / self.matrix.cols() * rows];
        Dense(other).multiply(self.inputs, &mut outputs, &mut Workspace::new(), pool);
        outputs.iter().map(|&off| f64::from(off).powi(2)).sum()
    }

    /// The error of a type on the sampled rows; none when they are no whole number of blocks.
    fn error(&self, ty: BlockType, rounding: RoundingOptions, pool: &Pool) -> Option<f64> {
        let (other, _) = encode(&self.hessian, ty, rounding, &self.sample, pool)?;
        Some(self.off(unpacked(&other), pool))
    }

    /// The first coarse version that loses something. The last one, whatever it loses, when the matrix has next to nothing to lose; f16, or
    /// the matrix itself, where no block type fits.
    fn probe(&self, pool: &Pool) -> Result<Probe, Error> {
        if fitting(self.matrix.cols()).is_empty() {
            return match Way::without_blocks(self.weight) {
                Way::Half => {
                    let error = self.off(unpacked(&halved(&self.sample)?), pool);
                    Ok(Probe { weight: halved(&self.matrix)?, error })
                }
                _ => Ok(Probe { weight: Arc::new(Dense(self.matrix.clone())), error: 0.0 }),
            };
        }
        let fine = self.error(BlockType::Q8_0, PLAIN, pool).ok_or_else(does_not_fit)?;
        for ty in PROBES {
            let error = self.error(ty, PLAIN, pool).ok_or_else(does_not_fit)?;
            if error > OWN_GRID * fine {
                let weight = encode(&self.hessian, ty, PLAIN, &self.matrix, pool).ok_or_else(does_not_fit)?.0;
                return Ok(Probe { weight, error });
            }
        }
        let mut probe = None;
        for levels in LEVELS {
            let error = self.off(coarser(&self.sample, levels), pool);
            probe = Some((levels, error));
            if error > OWN_GRID * fine {
                break;
            }
        }
        let (levels, error) = probe.ok_or_else(does_not_fit)?;
        Ok(Probe { weight: Arc::new(Dense(coarser(&self.matrix, levels))), error })
    }

    /// The losses of every type from those of the probe, `nats`: in proportion to the errors on the sampled rows. As it was read, it loses
    /// nothing, and no type that takes as many bytes is worth a look.
    fn curve(&self, probe: &Probe, nats: f64, pool: &Pool) -> Curve {
        let (shape, as_read) = (self.matrix.shape(), Way::as_read(self.weight));
        let most = bytes(shape, as_read.row_type());
        let mut curve = Curve { ways: vec![as_read], options: vec![(most, 0.0)] };
        for ty in fitting(shape[1]) {
            let bytes = bytes(shape, RowType::Blocks(ty));
            let Some(error) = self.error(ty, CHOSEN, pool).filter(|_| bytes < most) else { continue };
            curve.push(Way::Encoded(ty), bytes, if probe.error > 0.0 { nats * error / probe.error } else { 0.0 });
        }
        if fitting(shape[1]).is_empty() && Way::without_blocks(self.weight) == Way::Half {
            // The very version that was tried in the model.
            curve.push(Way::Half, bytes(shape, RowType::F16), nats);
        }
        curve
    }
}

/// The matrix with so many evenly spaced levels in each 32 values of a row.
fn coarser(matrix: &Matrix, levels: f32) -> Matrix {
    let mut matrix = matrix.clone();
    for row in 0..matrix.rows() {
        for block in matrix.row_mut(row).chunks_mut(32) {
            let (low, high) = block.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
            let step = (high - low) / (levels - 1.0);
            if step > 0.0 {
                block.iter_mut().for_each(|value| *value = low + ((*value - low) / step).round() * step);
            }
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_levels_by_hand() {
        let matrix = Matrix::from_vec(1, 4, vec![-1.0, 0.4, 0.6, 2.0]);
        assert_eq!(coarser(&matrix, 4.0).row(0), [-1.0, 0.0, 1.0, 2.0]);
        assert_eq!(coarser(&matrix, 2.0).row(0), [-1.0, -1.0, 2.0, 2.0]);
        assert_eq!(coarser(&Matrix::from_vec(1, 3, vec![7.0; 3]), 8.0).row(0), [7.0; 3]);
    }
}
