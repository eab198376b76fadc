//! What a model computes, in 24 letters: the key of everything that is kept because it was computed before.

use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::pool::{Pool, default_threads};
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::model::Model;
use pare_model::weight::{Composed, Linear, Weight};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::sync::OnceLock;

/// Values that are hashed by one thread at a time. A part of the result: another length is another hash.
const LEAF: usize = 1 << 18;

/// A hash of a model and of this program's version: every byte of every weight, norm and bias, and every number of the architecture.
///
/// Pieces of tensors are hashed by all threads of the machine, and their hashes in order; the result does not depend on how many there are. The
/// bytes of a file are hashed once in a process, however often it is asked. A weight in another storage is another weight: products of
/// quantised blocks are.
pub fn fingerprint(model: &Model) -> String {
    fingerprint_on(model, &Pool::new(default_threads()))
}

/// [`fingerprint`] by given threads.
pub fn fingerprint_on(model: &Model, pool: &Pool) -> String {
    let Model { architecture, embedding, blocks, final_norm, head } = model;
    let mut all = Tensors::default();
    all.weight("embedding", embedding.as_ref());
    for (index, block) in blocks.iter().enumerate() {
        all.block(index, block);
    }
    all.values("final norm", final_norm);
    all.linear("head", head.as_ref());

    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(format!("{architecture:?}, {} blocks", blocks.len()));
    for (tensor, digest) in all.0.iter().zip(digests(&all.0, pool)) {
        // The label's length keeps the end of one from being read as the beginning of the other.
        hash.update((tensor.label.len() as u64).to_le_bytes());
        hash.update(&tensor.label);
        hash.update(digest);
    }
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

type Hash = [u8; 32];

/// Something that is hashed row by row.
struct Tensor<'a> {
    /// Where it stands, how it is stored, and its shape.
    label: String,
    shape: [usize; 2],
    source: Source<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Weight(&'a dyn Weight),
    Diagonal(&'a BlockDiagonal),
    Values(&'a [f32]),
}

#[derive(Default)]
struct Tensors<'a>(Vec<Tensor<'a>>);

impl<'a> Tensors<'a> {
    fn push(&mut self, label: String, shape: [usize; 2], source: Source<'a>) {
        self.0.push(Tensor { label: format!("{label} {shape:?}"), shape, source });
    }

    fn values(&mut self, label: &str, values: &'a [f32]) {
        self.push(label.to_owned(), [1, values.len()], Source::Values(values));
    }

    /// A part that may be missing is named either way.
    fn optional(&mut self, label: &str, values: Option<&'a [f32]>) {
        match values {
            Some(values) => self.values(label, values),
            None => self.values(&format!("no {label}"), &[]),
        }
    }

    fn weight(&mut self, label: &str, weight: &'a dyn Weight) {
        let named = format!("{label} {}", weight.name());
        match weight.composed() {
            None => self.push(named, weight.shape(), Source::Weight(weight)),
            Some(Composed::LowRank(low_rank)) => {
                let (a, b) = low_rank.factors();
                self.weight(&format!("{named} a"), a.as_ref());
                self.weight(&format!("{named} b"), b.as_ref());
            }
            Some(Composed::Sum(sum)) => {
                for (index, term) in sum.terms().iter().enumerate() {
                    self.weight(&format!("{named} {index} of {}", sum.terms().len()), term.as_ref());
                }
            }
            Some(Composed::Wrapped(wrapped)) => {
                for (side, diagonal) in ["left", "right"].into_iter().zip(wrapped.diagonals()) {
                    let shape = [diagonal.count() * diagonal.size(), diagonal.size()];
                    self.push(format!("{named} {side}"), shape, Source::Diagonal(diagonal));
                }
                self.weight(&format!("{named} core"), wrapped.core().as_ref());
            }
        }
    }

    fn linear(&mut self, label: &str, linear: Option<&'a Linear>) {
        let Some(Linear { weight, bias }) = linear else { return self.values(&format!("no {label}"), &[]) };
        self.weight(label, weight.as_ref());
        self.optional(&format!("{label} bias"), bias.as_deref());
    }

    fn block(&mut self, index: usize, block: &'a Block) {
        let Block { mixer, ffn } = block;
        let named = |what: &str| format!("block {index} {what}");
        match mixer {
            None => self.values(&named("no attention"), &[]),
            Some(Mixer::Attention(part)) => {
                let Attention { norm, q, k, v, o, q_norm, k_norm, shortcut, heads, groups } = part;
                self.values(&named(&format!("attention of {heads} heads in {groups} groups")), norm);
                for (what, linear) in [("q", q), ("k", k), ("v", v), ("o", o)] {
                    self.linear(&named(what), Some(linear));
                }
                self.optional(&named("q norm"), q_norm.as_deref());
                self.optional(&named("k norm"), k_norm.as_deref());
                self.linear(&named("attention shortcut"), shortcut.as_ref());
            }
            // A mixer that is not hashed would make two models one.
            Some(other) => self.values(&named(&format!("{other:?}")), &[]),
        }
        let Some(Ffn { norm, gate, up, down, shortcut }) = ffn else { return self.values(&named("no ffn"), &[]) };
        self.values(&named("ffn"), norm);
        for (what, linear) in [("gate", gate), ("up", up), ("down", down)] {
            self.linear(&named(what), Some(linear));
        }
        self.linear(&named("ffn shortcut"), shortcut.as_ref());
    }
}

impl Tensor<'_> {
    /// Rows of the pieces that threads take.
    fn leaves(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [rows, width] = self.shape;
        let step = (LEAF / width.max(1)).max(1);
        (0..rows).step_by(step).map(move |first| first..rows.min(first + step))
    }

    fn hash(&self, rows: Range<usize>) -> Hash {
        let mut hash = Sha256::new();
        let mut row = vec![0.0f32; self.shape[1]];
        let mut bytes = Vec::new();
        for index in rows {
            match self.source {
                Source::Weight(weight) => {
                    if let Some(stored) = weight.as_stored() {
                        hash.update(stored.row_bytes(index));
                        continue;
                    }
                    weight.decode_row(index, &mut row);
                }
                Source::Diagonal(diagonal) => diagonal.decode_within(index, &mut row),
                Source::Values(values) => row.copy_from_slice(values),
            }
            bytes.clear();
            bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
            hash.update(&bytes);
        }
        hash.finalize().into()
    }

    /// Where the hash of what lies in a file is kept.
    fn kept(&self) -> Option<&OnceLock<Hash>> {
        match self.source {
            Source::Weight(weight) => weight.as_stored().map(|stored| stored.hash()),
            Source::Diagonal(_) | Source::Values(_) => None,
        }
    }
}

/// The hash of each tensor: that of the hashes of its pieces.
fn digests(tensors: &[Tensor<'_>], pool: &Pool) -> Vec<Hash> {
    let unknown = |tensor: &Tensor<'_>| tensor.kept().is_none_or(|kept| kept.get().is_none());
    let leaves: Vec<(usize, Range<usize>)> = tensors
        .iter()
        .enumerate()
        .filter(|(_, tensor)| unknown(tensor))
        .flat_map(|(index, tensor)| tensor.leaves().map(move |rows| (index, rows)))
        .collect();
    let hashes: Vec<OnceLock<Hash>> = leaves.iter().map(|_| OnceLock::new()).collect();
    pool.run(leaves.len(), &|leaf| {
        let (index, rows) = &leaves[leaf];
        hashes[leaf].get_or_init(|| tensors[*index].hash(rows.clone()));
    });
    let mut joined: Vec<Sha256> = tensors.iter().map(|_| Sha256::new()).collect();
    for ((index, _), hash) in leaves.iter().zip(&hashes) {
        hash.get().iter().for_each(|hash| joined[*index].update(hash));
    }
    let join = |(tensor, joined): (&Tensor<'_>, Sha256)| match tensor.kept() {
        Some(kept) => *kept.get_or_init(|| joined.finalize().into()),
        None => joined.finalize().into(),
    };
    tensors.iter().zip(joined).map(join).collect()
}
