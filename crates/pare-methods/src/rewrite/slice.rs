//! Slice: in front of every part the residual stream turns to its own principal axes and keeps those with the most energy.
//!
//! Source     Ashkboos et al. 2024, SliceGPT: Compress Large Language Models by Deleting Rows and Columns, arXiv:2401.15024
//! Formula    C_i = E[x x^T] of the normed stream in front of part i; Q_i the first R of its eigenvectors; readers W Q_i, writers Q_(i+1)^T W,
//!            shortcut Q_(i+1)^T Q_i, embedding E Q_0, head E diag(g) Q_last; every norm has the gain sqrt(C / R) and eps' = eps C / R
//! Shapes     x `[C]`; Q_i [C, R]; C_i [C, C]; shortcuts [R, R]
//! Needs      Stat::Gram at the inputs of attention and feed-forward layers, each behind the parts that are sliced already
//! Parameters block: R is a multiple of it, at least 1, default 8
//! Cost       two passes per block over its calibration states; 10 C^3 operations per part; 8 C^2 bytes per part
//! Departs    the head and the last block have the width R too; no damping, which changes no eigenvector; no random turn at the end; the
//!            authors' code takes the moments of the stream before its norm, where long rows count for more
//! Errors     Params for a keep that leaves no multiple or a block of 0; Unsupported for a model with shortcuts; Numeric or Row for
//!            numbers that are not finite
//! Exactness  1e-4 of the logits of goldens/rewrite/slice, which no sign or turn of the axes changes

mod count;

pub use count::{Shapes, parameter_count};

use super::{Calibration, Entry, Rewrite, Rewritten, fold_norm};
use crate::basis::{Basis, Name, dense};
use crate::card::Card;
use crate::check;
use crate::error::{MethodError, shown};
use pare_model::block::{Block, Ffn};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::stats::Stat;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "slice",
        about: "turns the residual stream to its principal axes in front of every part and keeps the first ones; shortcuts turn it on",
        source: "SliceGPT: Compress Large Language Models by Deleting Rows and Columns, arXiv:2401.15024",
        formula: "C_i = E[x x^T] of the normed stream in front of part i; Q_i the first R of its eigenvectors; \
            readers W Q_i, writers Q_(i+1)^T W, shortcut Q_(i+1)^T Q_i, embedding E Q_0, head E diag(g) Q_last; \
            every norm has the gain sqrt(C / R) and eps' = eps C / R",
        needs: &[Stat::Gram],
        parameters: &["block"],
        grains: &[],
        cost: "two passes per block, one eigendecomposition [C, C] per part; two shortcuts [R, R] more in each block",
        departs: "head and last block have the narrow width too; moments of the normed stream; no damping, no random turn at the end",
        exactness: 1e-4,
    },
    removes: true,
    uniform: false,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        let multiple = settings.block.unwrap_or(8);
        check_multiple(multiple)?;
        Ok(Box::new(Slice { multiple }))
    },
};

/// One basis in front of every part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The width is a multiple of this.
    pub multiple: usize,
}

impl Rewrite for Slice {
    fn rewrite(&self, model: &Model, keep: f64, calibration: &mut dyn Calibration) -> Result<Rewritten, MethodError> {
        let Some(kept) = kept_width(model, keep, self.multiple)? else { return Ok(unchanged(model)) };
        let sliced = per_part(model, kept, calibration)?;
        let shortcuts = sliced.blocks.iter().flat_map(Block::shortcuts).map(Linear::parameters).sum::<u64>();
        let mut notes = notes(model, &sliced);
        notes.push(format!(
            "{shortcuts} parameters are shortcuts, which only pare reads; slice-global makes a model without"
        ));
        Ok(Rewritten { model: sliced, notes })
    }

    fn check(&self, model: &Model, keep: f64) -> Result<(), MethodError> {
        kept_width(model, keep, self.multiple).map(|_| ())
    }
}

/// The model in a basis of `kept` axes in front of every part.
fn per_part(model: &Model, kept: usize, calibration: &mut dyn Calibration) -> Result<Model, MethodError> {
    let folded = fold_norm::of_all(model)?;
    let sites = sites(&folded);
    let mut bases: Vec<Basis> = Vec::with_capacity(sites.len());
    // Full width, but behind each basis that is chosen the stream has what lies along its axes alone.
    let mut narrowed = folded.clone();
    for (index, &site) in sites.iter().enumerate() {
        let gram = moments(&narrowed, &[site], calibration)?.remove(0);
        let basis = Basis::principal(&name(site, &folded), &gram, folded.architecture.hidden)?.first(kept);
        narrow(&mut narrowed, index.checked_sub(1).map(|writer| sites[writer]), &basis)?;
        bases.push(basis);
    }
    assemble(&folded, &sites, &bases.iter().collect::<Vec<_>>(), true)
}

/// Refuses a multiple of 0.
pub(super) fn check_multiple(multiple: usize) -> Result<(), MethodError> {
    if multiple == 0 {
        return Err(MethodError::Params { key: "block", why: "0, expected at least 1".into() });
    }
    Ok(())
}

/// The width that `keep` leaves, the nearest multiple; none when that is the whole width.
pub(super) fn kept_width(model: &Model, keep: f64, multiple: usize) -> Result<Option<usize>, MethodError> {
    let width = model.architecture.hidden;
    let refuse = |why| Err(MethodError::Params { key: "keep", why });
    if !(keep > 0.0 && keep <= 1.0) {
        return refuse(format!("{keep}, expected more than 0 and at most 1"));
    }
    if model.has_shortcuts() {
        let why = "its residual stream has another basis in front of every part already";
        return Err(MethodError::Unsupported { method: "slice", what: "a model with shortcuts".into(), why });
    }
    let kept = (keep * width as f64 / multiple as f64).round() as usize * multiple;
    match kept {
        0 => refuse(format!(
            "{} of the width {width} is less than half of {multiple}, the multiple that is kept",
            shown(keep)
        )),
        kept => Ok((keep < 1.0 && kept < width).then_some(kept)),
    }
}

/// The result where nothing is removed.
pub(super) fn unchanged(model: &Model) -> Rewritten {
    let note = format!("the width {} stays whole: the model is unchanged", model.architecture.hidden);
    Rewritten { model: model.clone(), notes: vec![note] }
}

/// What became of the parameters.
pub(super) fn notes(before: &Model, after: &Model) -> Vec<String> {
    let (old, new) = (before.parameters().total, after.parameters().total);
    let percent = 100.0 * (new as f64 - old as f64) / old as f64;
    let widths = (before.architecture.hidden, after.architecture.hidden);
    let mut notes = vec![format!("width {} -> {}; {old} -> {new} parameters ({percent:+.1} %)", widths.0, widths.1)];
    if before.head.is_none() {
        let head = after.head.as_ref().map_or(0, Linear::parameters);
        let tied = 100.0 * (new as f64 - head as f64 - old as f64) / old as f64;
        notes.push(format!(
            "the head is no longer the embedding: that costs {head} parameters ({:.1} % of the model; {tied:+.1} % if it could stay tied)",
            100.0 * head as f64 / old as f64
        ));
    }
    notes
}

/// Where the residual stream is read: in front of every part, and at last by the head, as the feed-forward layer of one more block.
pub(super) fn sites(model: &Model) -> Vec<Site> {
    let mut sites = Vec::new();
    for (index, block) in model.blocks.iter().enumerate() {
        sites.extend(block.mixer.is_some().then(|| Site::new(index, Point::AttentionIn)));
        sites.extend(block.ffn.is_some().then(|| Site::new(index, Point::FfnIn)));
    }
    sites.push(Site::new(model.blocks.len(), Point::FfnIn));
    sites
}

pub(super) fn name(site: Site, model: &Model) -> String {
    if site.block < model.blocks.len() { site.to_string() } else { "input of the head".to_owned() }
}

/// Second moments of the normed stream at `sites` of a model whose gains are folded, `[C, C]` each.
pub(super) fn moments(
    model: &Model,
    sites: &[Site],
    calibration: &mut dyn Calibration,
) -> Result<Vec<Vec<f64>>, MethodError> {
    let width = model.architecture.hidden;
    let last = sites.iter().map(|site| site.block).max().unwrap_or(0);
    let mut seen = model.clone();
    seen.blocks.truncate(last + 1);
    if last == model.blocks.len() {
        seen.blocks.push(silent(width));
    }
    let needs = sites.iter().map(|&site| (site, Stat::Gram)).collect();
    let stats = calibration.observe(&seen, &needs)?;
    sites.iter().map(|&site| Ok(check::stat(&stats, site, Stat::Gram, width * width)?.to_vec())).collect()
}

/// A block that adds nothing, so that what passes it can be observed.
fn silent(width: usize) -> Block {
    let zeros = |out, inn| dense(Matrix::zeros(out, inn), None);
    let (gate, up, down) = (zeros(1, width), zeros(1, width), zeros(width, 1));
    Block { mixer: None, ffn: Some(Ffn { norm: vec![1.0; width].into(), gate, up, down, shortcut: None }) }
}

/// Takes from what the part at `writer` writes (the embedding without one) and passes on all that does not lie along the axes.
fn narrow(model: &mut Model, writer: Option<Site>, basis: &Basis) -> Result<(), MethodError> {
    let projection = basis.projection();
    let Some(site) = writer else {
        let embedding = projection.reader(model.embedding.as_ref(), &Name::Whole("embedding"))?;
        model.embedding = Arc::new(Dense(embedding));
        return Ok(());
    };
    let (linear, shortcut) = writes(&mut model.blocks[site.block], site);
    *linear = projection.written_by(linear, &Name::At(site))?;
    *shortcut = Some(projection.map());
    Ok(())
}

/// The map of the part at `site` that writes to the residual stream, and its shortcut.
fn writes(block: &mut Block, site: Site) -> (&mut Linear, &mut Option<Linear>) {
    let Block { mixer, ffn } = block;
    match (site.point, mixer, ffn) {
        (Point::AttentionIn, Some(pare_model::block::Mixer::Attention(part)), _) => (&mut part.o, &mut part.shortcut),
        (_, _, Some(part)) => (&mut part.down, &mut part.shortcut),
        _ => unreachable!("sites are those of parts that are there"),
    }
}

/// The model whose stream has the coordinates along `bases[i]` in front of `sites[i]`; without shortcuts all bases are one.
pub(super) fn assemble(
    folded: &Model,
    sites: &[Site],
    bases: &[&Basis],
    shortcuts: bool,
) -> Result<Model, MethodError> {
    let (first, last) = (bases[0], bases[bases.len() - 1]);
    let (width, kept) = (folded.architecture.hidden, first.kept());
    // x / sqrt(x^2 / C + eps) = sqrt(C / R) x / sqrt(x^2 / R + eps C / R)
    let ratio = width as f64 / kept as f64;
    let gain: Arc<[f32]> = vec![ratio.sqrt() as f32; kept].into();
    let mut model = folded.clone();
    model.architecture.hidden = kept;
    model.architecture.norm_eps = (f64::from(folded.architecture.norm_eps) * ratio) as f32;
    model.embedding = Arc::new(Dense(first.reader(folded.embedding.as_ref(), &Name::Whole("embedding"))?));
    for ((&site, &basis), &next) in sites.iter().zip(bases).zip(&bases[1..]) {
        let (block, name) = (&mut model.blocks[site.block], Name::At(site));
        let (linear, shortcut) = writes(block, site);
        *linear = next.written_by(linear, &name)?;
        *shortcut = shortcuts.then(|| basis.to(next));
        let read = |linear: &mut Linear| {
            *linear = basis.read_by(linear, &name)?;
            Ok::<(), MethodError>(())
        };
        match (site.point, &mut block.mixer, &mut block.ffn) {
            (Point::AttentionIn, Some(pare_model::block::Mixer::Attention(part)), _) => {
                [&mut part.q, &mut part.k, &mut part.v].into_iter().try_for_each(read)?;
                part.norm = Arc::clone(&gain);
                // Norms of heads share eps: sqrt(ratio) larger heads come out the same.
                let scaled = [(&mut part.q, part.q_norm.is_some()), (&mut part.k, part.k_norm.is_some())];
                scaled.into_iter().filter(|(_, normed)| *normed).for_each(|(linear, _)| scale(linear, ratio.sqrt()));
            }
            (_, _, Some(part)) => {
                [&mut part.gate, &mut part.up].into_iter().try_for_each(read)?;
                part.norm = Arc::clone(&gain);
            }
            _ => {}
        }
    }
    if let Some(head) = &folded.head {
        model.head = Some(last.read_by(head, &Name::Whole("head"))?);
    }
    model.final_norm = gain;
    Ok(model)
}

fn scale(linear: &mut Linear, factor: f64) {
    let mut matrix = linear.to_matrix();
    let times = |value: f32| (f64::from(value) * factor) as f32;
    matrix.data_mut().iter_mut().for_each(|value| *value = times(*value));
    *linear = dense(matrix, linear.bias.as_ref().map(|bias| bias.iter().map(|&b| times(b)).collect()));
}

#[cfg(test)]
mod tests;
