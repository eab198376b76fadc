//! Merging two models of one architecture: both run side by side over calibration text, and block after block becomes one.

use crate::Error;
use crate::bundle::Bundle;
use crate::progress::Work;
use crate::residual::{Capture, ResidualStream};
use pare_kernels::gram::accumulate_gram;
use pare_methods::merge::{Entry, Info, Joint, Joints, Pair, middle};
use pare_methods::settings::Settings;
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::storage::Dense;
use pare_model::weight::{Linear, Weight};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Models whose embeddings are less alike than this have residual streams of different bases.
const LEAST_COSINE: f64 = 0.5;
/// Below this it is said.
const DOUBTFUL_COSINE: f64 = 0.95;

/// How to merge.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Entry,
    /// Its parameters.
    pub settings: &'a Settings,
    /// FFN width of the result relative to that of the models, within `1..=2`.
    pub size: f64,
    /// Calibration text, cut into sequences of tokens; not looked at by methods that need no statistic.
    pub calibration: &'a [Vec<u32>],
}

/// Two models in one.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The model.
    pub model: Model,
    /// What was found in each block.
    pub blocks: Vec<Info>,
}

/// Refuses models that cannot be merged, before any work. What is odd but allowed comes back as a remark.
///
/// # Errors
/// Other sizes, another tokenizer, a head that only one of them has, embeddings of another basis; a `size` outside `1..=2`.
pub fn check(first: &Bundle, second: &Bundle, size: f64) -> Result<Option<String>, Error> {
    let names = format!("{} and {}", first.name, second.name);
    let refuse = |why: String| Err(Error::Refused(format!("{names}: {why}")));
    if !(1.0..=2.0).contains(&size) {
        return Err(Error::Refused(format!(
            "--size {size}: the FFN width of the result over that of one model, expected 1..=2"
        )));
    }
    let (a, b) = (&first.model, &second.model);
    if a.architecture != b.architecture || a.blocks.len() != b.blocks.len() {
        let sizes = |model: &Model| {
            let of = &model.architecture;
            let rope = of.rope.theta;
            format!(
                "{}, {} blocks, width {}, heads of {}, vocabulary {}, context {}, rotary base {rope}",
                of.family.model_type(),
                model.blocks.len(),
                of.hidden,
                of.head_dim,
                of.vocab,
                of.context
            )
        };
        return refuse(format!("only models of one architecture can be merged; {}, and {}", sizes(a), sizes(b)));
    }
    if a.has_shortcuts() || b.has_shortcuts() {
        return refuse(
            "one changes its basis between blocks (shortcuts): each part would have to be matched in another"
                .to_owned(),
        );
    }
    for (index, (block, other)) in a.blocks.iter().zip(&b.blocks).enumerate() {
        let (found, expected) = (shape(other), shape(block));
        if found != expected {
            return refuse(format!(
                "block {index} has {found} in the second, {expected} in the first: only equal blocks can be merged"
            ));
        }
    }
    if a.head.is_some() != b.head.is_some() {
        return refuse("only one of them has a head of its own, the other uses its embedding".to_owned());
    }
    let differs = (0..a.architecture.vocab as u32).find(|&id| first.tokenizer.token(id) != second.tokenizer.token(id));
    if let Some(id) = differs {
        return refuse(format!("their tokenizers differ, first in token {id}: one model cannot read for both"));
    }
    let cosine = embedding_cosine(a.embedding.as_ref(), b.embedding.as_ref());
    if cosine.is_nan() || cosine < LEAST_COSINE {
        return refuse(format!(
            "the cosine of their embeddings is {cosine:.3} on average, expected {LEAST_COSINE} or more: they do not come from one model, and the basis of the residual stream is not aligned"
        ));
    }
    Ok((cosine < DOUBTFUL_COSINE).then(|| {
        format!("{names}: the cosine of their embeddings is {cosine:.3} on average; the basis of the residual stream is taken as the same")
    }))
}

fn shape(block: &Block) -> String {
    let attention = block.attention().map(|part| format!("{} query heads in {} groups", part.heads, part.groups));
    let ffn = block.ffn.as_ref().map(|part| format!("{} channels", part.width()));
    let biases = block.linears().filter(|(_, linear)| linear.bias.is_some()).count();
    let [attention, ffn] = [attention, ffn].map(|part| part.unwrap_or_else(|| "none".to_owned()));
    format!("attention: {attention}, ffn: {ffn}, {biases} biases")
}

/// Mean over tokens of the cosine between both embeddings; tokens that either has as zeros do not count.
fn embedding_cosine(a: &dyn Weight, b: &dyn Weight) -> f64 {
    let [vocab, hidden] = a.shape();
    let (mut row, mut other) = (vec![0.0; hidden], vec![0.0; hidden]);
    let (mut sum, mut count) = (0.0, 0);
    for token in 0..vocab {
        a.decode_row(token, &mut row);
        b.decode_row(token, &mut other);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let size = (dot(&row, &row) * dot(&other, &other)).sqrt();
        if size != 0.0 {
            sum += dot(&row, &other) / size;
            count += 1;
        }
    }
    sum / f64::from(count)
}

/// One model in the place of two that [`check`] lets pass. Embeddings, heads and gains become their mean.
///
/// # Errors
/// What the method refuses; activations that are not finite; the user stops it.
pub fn merge(first: &Model, second: &Model, request: &Request<'_>, work: Work<'_>) -> Result<Joined, Error> {
    let method = (request.method.build)(request.settings)?;
    let mut model = first.clone();
    model.embedding = mean(first.embedding.as_ref(), second.embedding.as_ref());
    model.final_norm = middle(&first.final_norm, &second.final_norm).into();
    if let (Some(head), Some(other)) = (&mut model.head, &second.head) {
        let bias = head.bias.as_ref().zip(other.bias.as_ref()).map(|(a, b)| middle(a, b).into());
        *head = Linear { weight: mean(head.weight.as_ref(), other.weight.as_ref()), bias };
    }
    let mut streams = (!request.method.card.needs.is_empty())
        .then(|| [first, second].map(|model| ResidualStream::embed(model, request.calibration)));
    let mut blocks = Vec::with_capacity(first.blocks.len());
    work.progress.begin("merging", first.blocks.len() as u64);
    for (index, (a, b)) in first.blocks.iter().zip(&second.blocks).enumerate() {
        work.interrupt.check()?;
        let joints = match &mut streams {
            Some(streams) => observe(index, [a, b], streams, work)?,
            None => Joints::new(),
        };
        let merged = method.merge(&Pair { index, first: a, second: b }, request.size, &joints)?;
        model.blocks[index] = merged.block;
        let note = merged.info.similarity.map_or(String::new(), |value| format!("channels alike {value:.2}"));
        blocks.push(merged.info);
        work.progress.advance(1, &note);
    }
    work.progress.end();
    Ok(Joined { model, blocks })
}

/// The mean of two weights.
fn mean(a: &dyn Weight, b: &dyn Weight) -> Arc<dyn Weight> {
    let [rows, cols] = a.shape();
    let mut mean = Matrix::zeros(rows, cols);
    let mut other = vec![0.0; cols];
    for row in 0..rows {
        a.decode_row(row, mean.row_mut(row));
        b.decode_row(row, &mut other);
        let middle = middle(mean.row(row), &other);
        mean.row_mut(row).copy_from_slice(&middle);
    }
    Arc::new(Dense(mean))
}

/// Runs the block of each model over its stream; what both see, side by side, as moments.
fn observe(
    index: usize,
    blocks: [&Block; 2],
    streams: &mut [ResidualStream; 2],
    work: Work<'_>,
) -> Result<Joints, Error> {
    let mut sums: BTreeMap<Point, (usize, Vec<f64>)> = BTreeMap::new();
    let [first, second] = streams;
    for batch in &first.batches() {
        let [mut seen, mut other] = [(); 2].map(|()| Capture::only(&Point::INPUTS));
        first.advance_batch(batch, (index, blocks[0]), &mut seen, work)?;
        second.advance_batch(batch, (index, blocks[1]), &mut other, work)?;
        for ((point, seen), (_, other)) in seen.into_points().zip(other.into_points()) {
            let width = seen.width;
            let pairs = seen.x.chunks_exact(width).zip(other.x.chunks_exact(width));
            let both: Vec<f32> = pairs.flat_map(|(x, y)| [x, y]).flatten().copied().collect();
            let (_, sum) = sums.entry(point).or_insert_with(|| (width, vec![0.0; 4 * width * width]));
            accumulate_gram(&both, 2 * width, sum, work.pool);
        }
    }
    let tokens = first.tokens() as f64;
    let mut joints = Joints::new();
    for (point, (width, mut sum)) in sums {
        sum.iter_mut().for_each(|sum| *sum /= tokens);
        joints.insert(point, Joint::new(Site::new(index, point), width, sum)?);
    }
    Ok(joints)
}
