//! Back into the blocks that a model was read in: what a cut, a repair or a rewrite left plain is rounded again.

use super::Encoded;
use super::block::{Done, Observing, mask_of};
use super::prepare::Prepared;
use crate::Error;
use crate::as_read::{AsRead, in_blocks, nearest, rounds_to, with_zero};
use crate::export::fitting;
use crate::observe::Needs;
use pare_kernels::blocks::{BlockType, RowType};
use pare_methods::card::Grain;
use pare_methods::encode::{self, Encode as _, Gptq, Info, Task};
use pare_methods::rounding::RoundingOptions;
use pare_methods::select::Compare;
use pare_model::model::Model;
use pare_model::site::{Projection, Site};
use pare_model::stats::{Stat, Stats};

/// Relative to the mean diagonal of the second moments; Frantar et al. 2022 use the same.
const DAMPING: f64 = 0.01;
/// Fewer steps than this of a long block, and the width that is asked for could not be met.
const STEPS: usize = 16;
/// The length of the short blocks, which long ones fall back to.
const SHORT: usize = 32;

/// The blocks to round to, and how many blocks the model has after its rewrites.
#[derive(Clone, Copy)]
pub(super) struct InForm<'a> {
    form: &'a AsRead,
    count: usize,
}

/// A projection to be rounded.
struct Rounding {
    projection: Projection,
    ty: BlockType,
    /// Whether it has zeros that must stay.
    zeros: bool,
}

impl<'a> Prepared<'a> {
    /// The same, ending in `form`: widths become multiples of the length of blocks, so that rows stay whole blocks.
    pub(super) fn in_form(mut self, form: Option<&'a AsRead>, model: &Model) -> Self {
        let Some(form) = form else { return self };
        let count = model.blocks.len();
        for cut in self.cuts.iter_mut().filter(|cut| cut.cut.grain == Grain::Channel) {
            for group in &cut.candidates {
                let Some(read) = form.projection((group.site.block, count), Projection::Down) else { continue };
                let length = rounds_to(read).values_per_block();
                let length = if group.units >= STEPS * length { length } else { length.min(SHORT) };
                if group.units.is_multiple_of(length) {
                    cut.multiple = common_multiple(cut.multiple, length);
                }
            }
        }
        self.form = Some(InForm { form, count });
        self
    }

    /// Whether matrices are rounded by what their inputs are. What looks at no text is rounded to the nearest.
    pub(super) fn rounds_by_text(&self) -> bool {
        let looks = !self.recipe.rewrite.is_empty()
            || self.cuts.iter().any(|cut| !cut.needs.is_empty())
            || self.encodes.iter().any(|encode| !encode.needs.is_empty());
        self.form.is_some() && looks
    }

    /// Rounds every projection of a finished block that is not in blocks any more. Codes are chosen together, so that the error of the
    /// outputs is small on the inputs that reach the block: after a repair by least squares that error is orthogonal to what the repair
    /// left, so that these are the codes nearest to the outputs of the uncut matrix, too. Where zeros must stay, each number is rounded alone.
    pub(super) fn round(&self, done: &mut Done, observer: &mut Observing<'_>) -> Result<(), Error> {
        let Some(in_form) = &self.form else { return Ok(()) };
        let index = observer.index;
        let all: Vec<Rounding> = done
            .block
            .linears()
            .filter_map(|(projection, linear)| {
                let plain = linear.weight.composed().is_none() && linear.weight.as_sparse().is_none();
                let read = rounds_to(in_form.form.projection((index, in_form.count), projection)?);
                let masked = done.edits.iter().any(|edit| mask_of(edit, projection).is_some());
                let zeros = masked || self.encodes.iter().any(|step| step.serves(projection));
                let RowType::Blocks(ty) = fitting(if zeros { with_zero(read) } else { read }, linear.inputs()) else {
                    return None;
                };
                (plain && in_blocks(linear.weight.as_ref()).is_none()).then_some(Rounding { projection, ty, zeros })
            })
            .collect();
        let site = |rounding: &Rounding| Site::new(index, rounding.projection.input());
        let together = |rounding: &&Rounding| !rounding.zeros && observer.stream.is_some();
        let needs: Needs = all.iter().filter(together).map(|rounding| (site(rounding), Stat::Gram)).collect();
        let stats = if needs.is_empty() { Stats::default() } else { observer.observe(&done.block, &needs)? };
        // What q, k and v share, or gate and up.
        let mut shared: Option<(Site, Option<encode::Prepared>)> = None;
        for rounding in &all {
            observer.work.interrupt.check()?;
            let (projection, site) = (rounding.projection, site(rounding));
            let linear = done.block.linear_mut(projection).ok_or(Error::Recipe)?;
            let info = if stats.get(site, Stat::Gram).is_some() && !rounding.zeros {
                let options = RoundingOptions { carry: true, rounds: 1 };
                let method = Gptq { ty: rounding.ty, damping: DAMPING, largest_first: false, options };
                let weight = linear.to_matrix();
                let task = Task { site, weight: &weight, keep: 1.0, compare: Compare::Row };
                if shared.as_ref().is_none_or(|(of, _)| *of != site) {
                    drop(shared.take());
                    shared = Some((site, method.prepare(site, weight.cols(), &stats)?));
                }
                let encoded = match shared.as_ref().and_then(|(_, prepared)| prepared.as_ref()) {
                    Some(prepared) => method.encode_with(&task, &stats, prepared, observer.work.pool)?,
                    None => method.encode(&task, &stats, observer.work.pool)?,
                };
                linear.weight = encoded.weight;
                encoded.info
            } else {
                linear.weight =
                    nearest(&format!("block {index}: {projection}"), &linear.weight, rounding.ty, observer.work)?;
                Info::default()
            };
            done.encoded.push(Encoded { projection, block: index, info });
        }
        Ok(())
    }
}

fn common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor.max(1) * b
}
