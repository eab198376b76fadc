//! What each matrix would lose in each type, in nats: the part of a block is measured through the rest of the model, the matrices of a
//! part through the part, the types of a matrix on some of its rows.

use super::quantise::{encode, gram, last_norm, unpacked};
use super::stream::Stream;
use crate::Error;
use crate::progress::Work;
use pare_kernels::blocks::BlockType;
use pare_kernels::pool::Pool;
use pare_methods::metric::Divergence;
use pare_methods::rounding::{Effort, Form};
use pare_model::block::Block;
use pare_model::forward::logits_of;
use pare_model::matrix::Matrix;
use pare_model::model::{Model, PackAs};
use pare_model::site::{Point, Projection, Site};
use pare_model::weight::Weight;
use std::sync::Arc;

/// Windows that are measured on, and tokens of each at most.
const WINDOWS: usize = 2;
const TOKENS: usize = 160;
/// Every so-many-th position is compared.
const EVERY: usize = 2;
/// Rows of a matrix that stand for all of them.
const SAMPLE: usize = 48;
/// The type that is tried in the model; the others are compared with it.
const PROBE: BlockType = BlockType::Q4_1;
/// How far the moments of few tokens are trusted.
const DAMPING: f64 = 0.1;
/// What is tried in the model is rounded plainly, with the inputs' weights.
const PLAIN: Effort = Effort { carry: false, rounds: 0 };

/// A matrix with its types: bytes and loss of each.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) types: Vec<BlockType>,
    /// `(bytes, nats)`.
    pub(super) options: Vec<(u64, f64)>,
}

/// The types that rows of `columns` can have, the smallest first.
pub(super) fn fitting(columns: usize) -> Vec<BlockType> {
    let mut types: Vec<BlockType> =
        BlockType::ALL.into_iter().filter(|ty| columns.is_multiple_of(ty.values_per_block())).collect();
    types.sort_by_key(|ty| ty.bytes_per_block() * 256 / ty.values_per_block());
    types
}

/// Bytes of a matrix in the file.
pub(super) fn bytes([rows, columns]: [usize; 2], ty: BlockType) -> u64 {
    (rows * (columns / ty.values_per_block() * ty.bytes_per_block())).next_multiple_of(32) as u64
}

/// The curves of the embedding, the head when it is another matrix, and each block's projections.
///
/// # Errors
/// The user stops it; numbers that are not finite.
pub(super) fn curves(dense: &Model, sequences: &[Vec<u32>], work: Work<'_>) -> Result<Vec<Curve>, Error> {
    let pool = work.pool;
    let count = WINDOWS.min(sequences.len());
    let windows: Vec<Vec<u32>> = (0..count)
        .map(|index| &sequences[index * sequences.len() / count])
        .map(|sequence| sequence[..sequence.len().min(TOKENS)].to_vec())
        .collect();
    let fast = dense.packed(PackAs::Exact, pool);
    let width = dense.architecture.hidden;
    work.progress.begin("measuring", dense.blocks.len() as u64 + 1);
    let embed = |embedding: &dyn Weight| Stream::embed(&dense.architecture, embedding, &windows);
    let mut streams = vec![embed(dense.embedding.as_ref())];
    for block in &fast.blocks {
        let mut next = streams[streams.len() - 1].clone();
        next.pass(block, work)?;
        streams.push(next);
    }
    let end = &streams[dense.blocks.len()];
    let logits = |model: &Model, stream: &Stream<'_>| {
        let rows: Vec<f32> = stream.x.chunks_exact(width).skip(1).step_by(EVERY).flatten().copied().collect();
        logits_of(model, &rows, pool)
    };
    let (truth, vocab) = (logits(&fast, end), dense.architecture.vocab);
    let divergence = |other: &[f32]| {
        let mut divergence = Divergence::default();
        truth.chunks_exact(vocab).zip(other.chunks_exact(vocab)).for_each(|(a, b)| divergence.add(a, b));
        divergence.mean().unwrap_or(0.0)
    };
    let through = |from: usize, block: Option<&Block>| -> Result<f64, Error> {
        let mut stream = streams[from].clone();
        for (index, own) in fast.blocks.iter().enumerate().skip(from) {
            stream.pass(block.filter(|_| index == from).unwrap_or(own), work)?;
        }
        Ok(divergence(&logits(&fast, &stream)))
    };
    let mut curves = Vec::new();

    let last = Site::new(dense.blocks.len().saturating_sub(1), Point::FfnPart);
    let form = form(&gram(&last_norm(dense, &end.x), width, pool), width, last)?;
    let matrix = unpacked(&dense.embedding);
    let probe = encode(&form, PROBE, PLAIN, &matrix, pool).map(|found| found.0);
    let mut other = fast.clone();
    let mut stream = embed(dense.embedding.as_ref());
    if let Some(probe) = probe {
        stream = embed(probe.as_ref());
        if dense.head.is_none() {
            other.embedding = pare_model::model::repack(&probe, PackAs::Exact, pool);
        }
    }
    for block in &fast.blocks {
        stream.pass(block, work)?;
    }
    curves.push(curve(&form, &matrix, divergence(&logits(&other, &stream)), pool));
    if let Some(head) = &dense.head {
        let matrix = head.to_matrix();
        let mut other = fast.clone();
        if let (Some((probe, _)), Some(head)) = (encode(&form, PROBE, PLAIN, &matrix, pool), &mut other.head) {
            head.weight = pare_model::model::repack(&probe, PackAs::Exact, pool);
        }
        curves.push(curve(&form, &matrix, divergence(&logits(&other, end)), pool));
    }
    work.progress.advance(1, "embedding");

    for (index, block) in dense.blocks.iter().enumerate() {
        let fast_block = &fast.blocks[index];
        let own = streams[index].look(fast_block, &POINTS, work)?;
        for (projections, part) in PARTS {
            let mut whole = fast_block.clone();
            let mut found = Vec::new();
            for &projection in projections {
                let Some(linear) = block.linear(projection) else { continue };
                let (inputs, point) = (linear.inputs(), projection.input());
                let form = self::form(&gram(own.at(point), inputs, pool), inputs, Site::new(index, point))?;
                let matrix = linear.to_matrix();
                let Some((probe, _)) = encode(&form, PROBE, PLAIN, &matrix, pool) else { continue };
                let probe = pare_model::model::repack(&probe, PackAs::Exact, pool);
                let mut single = fast_block.clone();
                for block in [&mut single, &mut whole] {
                    if let Some(linear) = block.linear_mut(projection) {
                        linear.weight = Arc::clone(&probe);
                    }
                }
                let seen = streams[index].look(&single, &[part], work)?;
                let off: f64 = seen.at(part).iter().zip(own.at(part)).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                found.push((form, matrix, off));
            }
            if found.is_empty() {
                continue;
            }
            let nats = through(index, Some(&whole))?;
            let all: f64 = found.iter().map(|found| found.2).sum();
            for (form, matrix, off) in found {
                let share = if all > 0.0 { off / all } else { 0.0 };
                curves.push(curve(&form, &matrix, nats * share, pool));
            }
        }
        work.progress.advance(1, "");
    }
    work.progress.end();
    Ok(curves)
}

/// What a block is observed at.
const POINTS: [Point; 6] =
    [Point::AttentionIn, Point::AttentionOut, Point::FfnIn, Point::FfnOut, Point::AttentionPart, Point::FfnPart];

const PARTS: [(&[Projection], Point); 2] = [
    (&[Projection::Q, Projection::K, Projection::V, Projection::O], Point::AttentionPart),
    (&[Projection::Gate, Projection::Up, Projection::Down], Point::FfnPart),
];

fn form(gram: &[f64], inputs: usize, site: Site) -> Result<Form, Error> {
    Form::new(gram, inputs, DAMPING)
        .map_err(|cause| Error::from(pare_methods::error::MethodError::Numeric { site, cause }))
}

/// The losses of every type from that of the probe: in proportion to the errors on some rows.
fn curve(form: &Form, matrix: &Matrix, probe_nats: f64, pool: &Pool) -> Curve {
    let rows = matrix.rows();
    let sample: Vec<usize> = (0..rows.min(SAMPLE)).map(|at| at * rows / rows.min(SAMPLE)).collect();
    let sample = matrix.select_rows(&sample);
    let error = |ty: BlockType, effort: Effort| encode(form, ty, effort, &sample, pool).map_or(0.0, |found| found.1);
    let probe = error(PROBE, PLAIN);
    let types = fitting(matrix.cols());
    let carried = Effort { carry: true, rounds: 1 };
    let options = types
        .iter()
        .map(|&ty| {
            let share = if probe > 0.0 { error(ty, carried) / probe } else { 0.0 };
            (bytes(matrix.shape(), ty), probe_nats * share)
        })
        .collect();
    Curve { types, options }
}
