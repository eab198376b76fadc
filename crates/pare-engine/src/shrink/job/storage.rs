//! The storages of a block as a tree that JSON can hold, with its leaves in safetensors.

use crate::Error;
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};
use pare_format::safetensors::{Dtype, SafetensorsFile};
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use pare_kernels::product::Product;
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::site::Projection;
use pare_model::storage::{Element, LowRank, Stored, Sum, Wrapped};
use pare_model::weight::{Composed, Linear, Weight};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::Arc;

/// A finished block.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockTree {
    /// Query heads and KV groups; none without attention.
    attention: Option<(usize, usize)>,
    ffn: bool,
    /// In the order of the forward pass, those of parts that are there.
    linears: Vec<(Projection, Tree, Option<usize>)>,
}

/// A weight. Numbers name tensors.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tree {
    /// As the model has it.
    Original,
    Dense(usize, [usize; 2]),
    Blocks(usize, [usize; 2], String),
    LowRank(Box<Tree>, Box<Tree>),
    Sum(Vec<Tree>),
    /// Left, core, right; of the diagonals the number and the size of blocks.
    Wrapped(usize, [usize; 2], Box<Tree>, usize, [usize; 2]),
}

/// The numbers of one tensor.
enum Leaf {
    Rows(Arc<dyn Weight>),
    Bytes(Arc<dyn Weight>),
    Values(Vec<f32>),
}

/// Takes a block apart.
pub(super) struct Writer<'a> {
    original: &'a Block,
    leaves: Vec<(TensorSpec, Leaf)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(original: &'a Block) -> Self {
        Self { original, leaves: Vec::new() }
    }

    /// The tree of `block`; none when it holds a storage that has no place here, or norms that differ from the model's.
    pub(super) fn block(&mut self, block: &Block) -> Option<BlockTree> {
        let mut linears = Vec::new();
        for (projection, linear) in block.linears() {
            let original = self.original.linear(projection);
            let tree = match original {
                Some(original) if Arc::ptr_eq(&original.weight, &linear.weight) => Tree::Original,
                _ => self.weight(&linear.weight)?,
            };
            let bias = linear.bias.as_ref().map(|bias| self.values(bias.to_vec()));
            linears.push((projection, tree, bias));
        }
        let attention = block.attention().map(|part| (part.heads, part.groups));
        Some(BlockTree { attention, ffn: block.ffn.is_some(), linears })
    }

    fn weight(&mut self, weight: &Arc<dyn Weight>) -> Option<Tree> {
        let shape = weight.shape();
        Some(match (weight.composed(), weight.as_stored()) {
            (Some(Composed::LowRank(low)), _) => {
                let (a, b) = low.factors();
                Tree::LowRank(Box::new(self.weight(a)?), Box::new(self.weight(b)?))
            }
            (Some(Composed::Sum(sum)), _) => {
                Tree::Sum(sum.terms().iter().map(|term| self.weight(term)).collect::<Option<_>>()?)
            }
            (Some(Composed::Wrapped(wrapped)), _) => {
                let core = Box::new(self.weight(wrapped.core())?);
                let [left, right] = wrapped.diagonals();
                let sizes = [left, right].map(|diagonal| [diagonal.count(), diagonal.size()]);
                let [left, right] = [left, right].map(|diagonal| self.values(blocks_of(diagonal)));
                Tree::Wrapped(left, sizes[0], core, right, sizes[1])
            }
            (None, Some(stored)) => match stored.element() {
                element if element.is_quantised() => {
                    let row = element.bytes_of(shape[1])?;
                    let at = self.push(Dtype::U8, vec![shape[0], row], Leaf::Bytes(Arc::clone(weight)));
                    Tree::Blocks(at, shape, element.name().to_owned())
                }
                _ => self.rows(weight),
            },
            (None, None) if weight.as_sparse().is_none() => self.rows(weight),
            (None, None) => return None,
        })
    }

    fn rows(&mut self, weight: &Arc<dyn Weight>) -> Tree {
        let shape = weight.shape();
        Tree::Dense(self.push(Dtype::F32, shape.to_vec(), Leaf::Rows(Arc::clone(weight))), shape)
    }

    fn values(&mut self, values: Vec<f32>) -> usize {
        self.push(Dtype::F32, vec![values.len()], Leaf::Values(values))
    }

    fn push(&mut self, dtype: Dtype, shape: Vec<usize>, leaf: Leaf) -> usize {
        let index = self.leaves.len();
        self.leaves.push((TensorSpec { name: index.to_string(), dtype, shape }, leaf));
        index
    }

    pub(super) fn specs(&self) -> Vec<TensorSpec> {
        self.leaves.iter().map(|(spec, _)| spec.clone()).collect()
    }

    pub(super) fn write<W: Write>(&self, out: &mut SafetensorsWriter<W>) -> Result<(), Error> {
        for (_, leaf) in &self.leaves {
            match leaf {
                Leaf::Values(values) => out.write_f32(values)?,
                Leaf::Rows(weight) => {
                    let [rows, cols] = weight.shape();
                    let mut row = vec![0.0; cols];
                    for index in 0..rows {
                        weight.decode_row(index, &mut row);
                        out.write_f32(&row)?;
                    }
                }
                Leaf::Bytes(weight) => {
                    let Some(stored) = weight.as_stored() else { continue };
                    (0..weight.shape()[0]).try_for_each(|row| out.write(stored.row_bytes(row)))?;
                }
            }
        }
        Ok(())
    }
}

/// The blocks of a block-diagonal matrix, one after the other, row by row.
fn blocks_of(diagonal: &BlockDiagonal) -> Vec<f32> {
    let (size, width) = (diagonal.size(), diagonal.shape()[1]);
    let mut row = vec![0.0; width];
    let mut values = Vec::with_capacity(width * size);
    for index in 0..width {
        diagonal.decode_row(index, &mut row);
        let start = index / size * size;
        values.extend_from_slice(&row[start..start + size]);
    }
    values
}

/// Puts a block together again. None is a file that is not what was written.
pub(super) struct Reader<'a> {
    pub(super) file: &'a SafetensorsFile,
    pub(super) original: &'a Block,
}

impl Reader<'_> {
    pub(super) fn block(&self, tree: &BlockTree) -> Option<Block> {
        let linear = |projection: Projection| {
            let (_, tree, bias) = tree.linears.iter().find(|(p, ..)| *p == projection)?;
            let weight = match tree {
                Tree::Original => Arc::clone(&self.original.linear(projection)?.weight),
                tree => self.weight(tree)?,
            };
            let bias = match bias {
                None => None,
                Some(at) => Some(self.values(*at)?.into()),
            };
            Some(Linear { weight, bias })
        };
        let mixer = match tree.attention {
            None => None,
            Some((heads, groups)) => Some(Mixer::Attention(Attention {
                q: linear(Projection::Q)?,
                k: linear(Projection::K)?,
                v: linear(Projection::V)?,
                o: linear(Projection::O)?,
                heads,
                groups,
                ..self.original.attention()?.clone()
            })),
        };
        let ffn = match tree.ffn {
            false => None,
            true => Some(Ffn {
                gate: linear(Projection::Gate)?,
                up: linear(Projection::Up)?,
                down: linear(Projection::Down)?,
                ..self.original.ffn.as_ref()?.clone()
            }),
        };
        Some(Block { mixer, ffn })
    }

    fn bytes(&self, at: usize) -> Option<pare_format::map::Bytes> {
        Some(self.file.view(self.file.get(&at.to_string())?)?.bytes)
    }

    fn values(&self, at: usize) -> Option<Vec<f32>> {
        Some(self.bytes(at)?.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect())
    }

    fn weight(&self, tree: &Tree) -> Option<Arc<dyn Weight>> {
        Some(match tree {
            Tree::Original => return None,
            Tree::Dense(at, shape) => Arc::new(Stored::new(Element::F32, *shape, self.bytes(*at)?)?),
            Tree::Blocks(at, shape, name) => {
                let element = Element::quantised().find(|element| element.name() == name)?;
                Arc::new(Stored::new(element, *shape, self.bytes(*at)?)?)
            }
            Tree::LowRank(a, b) => Arc::new(LowRank::new(self.weight(a)?, self.weight(b)?)?),
            Tree::Sum(terms) => {
                let terms = terms.iter().map(|term| self.weight(term)).collect::<Option<_>>()?;
                Arc::new(Sum::new(terms)?)
            }
            Tree::Wrapped(left, of_left, core, right, of_right) => {
                let (left, right) = (self.diagonal(*left, *of_left)?, self.diagonal(*right, *of_right)?);
                Arc::new(Wrapped::new(Arc::new(left), self.weight(core)?, Arc::new(right))?)
            }
        })
    }

    fn diagonal(&self, at: usize, [count, size]: [usize; 2]) -> Option<BlockDiagonal> {
        let values = self.values(at)?;
        if values.len() != count.checked_mul(size)?.checked_mul(size)? {
            return None;
        }
        let row = |block: usize, row: usize, out: &mut [f32]| {
            out.copy_from_slice(&values[(block * size + row) * size..][..size]);
        };
        Some(BlockDiagonal::pack(PanelType::F32, count, size, &row, &Pool::new(1)))
    }
}
