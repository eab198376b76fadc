//! The blocks that a model was read in, so that what is made of it is kept in the same.

use crate::Error;
use crate::export::encode::{self, Chunks, Matrix};
use crate::export::fitting;
use crate::progress::Work;
use pare_kernels::blocks::{BlockType, RowType};
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::site::Projection;
use pare_model::storage::{Element, Stored};
use pare_model::weight::Weight;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The blocks of every matrix of a model as it was read; none for a matrix that was plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsRead {
    embedding: Option<Element>,
    head: Option<Element>,
    blocks: Vec<[Option<Element>; 7]>,
    /// The most frequent type of each projection, for models that a rewrite gave other blocks.
    usual: [Option<Element>; 7],
}

/// The quantised blocks that a weight is kept in; none when it is kept in another way.
pub fn in_blocks(weight: &dyn Weight) -> Option<Element> {
    weight.as_stored().map(Stored::element).filter(|element| element.is_quantised())
}

/// The type that a matrix in `element` is rounded to when it is changed: its own, or, where pare has no way back into it, the smallest
/// that it has.
pub(crate) fn rounds_to(element: Element) -> BlockType {
    match element {
        Element::Block(ty) => ty,
        _ => BlockType::Q4_0,
    }
}

fn of_block(block: &Block) -> [Option<Element>; 7] {
    Projection::ALL.map(|projection| in_blocks(block.linear(projection)?.weight.as_ref()))
}

impl AsRead {
    /// The blocks of `model`; none when no projection of it is in blocks.
    pub fn of(model: &Model) -> Option<Self> {
        let blocks: Vec<[Option<Element>; 7]> = model.blocks.iter().map(of_block).collect();
        let usual = std::array::from_fn(|at| {
            let here = || blocks.iter().filter_map(move |types| types[at]);
            // Of equally frequent types the one that comes first.
            let often = |ty: Element| here().filter(|other| *other == ty).count();
            here().enumerate().max_by_key(|&(index, ty)| (often(ty), usize::MAX - index)).map(|found| found.1)
        });
        let head = model.head.as_ref().and_then(|head| in_blocks(head.weight.as_ref()));
        let embedding = in_blocks(model.embedding.as_ref());
        blocks.iter().flatten().any(Option::is_some).then_some(Self { embedding, head, blocks, usual })
    }

    /// The blocks of a projection of block `index` of a model that has `count` blocks now.
    pub(crate) fn projection(&self, (index, count): (usize, usize), projection: Projection) -> Option<Element> {
        let at = Projection::ALL.iter().position(|&other| other == projection)?;
        match self.blocks.get(index).filter(|_| count == self.blocks.len()) {
            Some(types) => types[at],
            None => self.usual[at],
        }
    }

    /// Rounds every matrix of `model` that is in no blocks to the nearest, in the type that it was read in.
    ///
    /// # Errors
    /// A number that the type cannot hold; the user stops it.
    pub fn round_nearest(&self, model: &mut Model, work: Work<'_>) -> Result<(), Error> {
        let count = model.blocks.len();
        for (index, block) in model.blocks.iter_mut().enumerate() {
            for projection in Projection::ALL {
                let read = self.projection((index, count), projection);
                if let (Some(read), Some(linear)) = (read, block.linear_mut(projection)) {
                    round(&format!("block {index}: {projection}"), &mut linear.weight, rounds_to(read), work)?;
                }
            }
        }
        self.round_shared(model, work)
    }

    /// Puts what lies outside of the blocks, and is not as it was read, into blocks: the embedding, the head and shortcuts.
    ///
    /// # Errors
    /// A number that the type cannot hold; the user stops it.
    pub(crate) fn round_shared(&self, model: &mut Model, work: Work<'_>) -> Result<(), Error> {
        if let Some(read) = self.embedding {
            round("the embedding", &mut model.embedding, rounds_to(read), work)?;
        }
        if let (Some(read), Some(head)) = (self.head.or(self.embedding), &mut model.head) {
            round("the head", &mut head.weight, rounds_to(read), work)?;
        }
        for (index, block) in model.blocks.iter_mut().enumerate() {
            for shortcut in block.shortcuts_mut() {
                round(&format!("a shortcut of block {index}"), &mut shortcut.weight, BlockType::Q8_0, work)?;
            }
        }
        Ok(())
    }

    /// Which matrices of `model` are in another type than they were read in, as a sentence for each pair of types.
    pub(crate) fn remarks(&self, model: &Model) -> Vec<String> {
        let mut changed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let count = model.blocks.len();
        for (index, block) in model.blocks.iter().enumerate() {
            for (projection, linear) in block.linears() {
                let Some(read) = self.projection((index, count), projection) else { continue };
                let now = in_blocks(linear.weight.as_ref());
                if linear.weight.composed().is_none() && now != Some(read) {
                    *changed.entry((read.name(), now.map_or("a plain type", Element::name))).or_default() += 1;
                }
            }
        }
        let sentence = |((read, now), count): ((&str, &str), usize)| {
            format!(
                "{count} matrices that were read in {read} are kept in {now}: {read} does not fit their rows, holds no exact zero, or is a type \
                 that pare only reads."
            )
        };
        changed.into_iter().map(sentence).collect()
    }
}

/// Rounds what is in no blocks yet.
fn round(name: &str, weight: &mut Arc<dyn Weight>, ty: BlockType, work: Work<'_>) -> Result<(), Error> {
    if in_blocks(weight.as_ref()).is_none() {
        *weight = nearest(name, weight, ty, work)?;
    }
    Ok(())
}

/// The type of the same width that holds a zero exactly: blocks with a minimum do not.
pub(crate) fn with_zero(ty: BlockType) -> BlockType {
    match ty {
        BlockType::Q4_1 | BlockType::Q4K => BlockType::Q4_0,
        BlockType::Q5_1 | BlockType::Q5K => BlockType::Q5_0,
        other => other,
    }
}

/// Each number of `weight` rounded to the nearest that blocks of type `ty`, or of the next that fits its rows, hold; itself when it is in
/// these blocks already, is made of several, or fits none. `name` is for messages.
///
/// # Errors
/// A number that the type cannot hold; the user stops it.
pub(crate) fn nearest(
    name: &str,
    weight: &Arc<dyn Weight>,
    ty: BlockType,
    work: Work<'_>,
) -> Result<Arc<dyn Weight>, Error> {
    let shape = weight.shape();
    let fitting = match fitting(ty, shape[1]) {
        RowType::Blocks(ty)
            if weight.composed().is_none() && in_blocks(weight.as_ref()) != Some(Element::Block(ty)) =>
        {
            ty
        }
        _ => return Ok(Arc::clone(weight)),
    };
    let row = |row: usize, to: &mut [f32]| weight.decode_row(row, to);
    let matrix =
        Matrix { name, columns: shape[1], ty: RowType::Blocks(fitting), row: &row, stored: &|_| None, weights: None };
    let (mut bytes, mut buffer) = (Vec::new(), Vec::new());
    for rows in Chunks::of(shape) {
        work.interrupt.check()?;
        encode::rows(&matrix, rows, &mut buffer, work.pool).map_err(Error::Refused)?;
        bytes.extend_from_slice(&buffer);
    }
    let stored = Stored::new(Element::Block(fitting), shape, bytes.into());
    Ok(stored.map_or_else(|| Arc::clone(weight), |stored| Arc::new(stored) as Arc<dyn Weight>))
}
