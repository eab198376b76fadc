//! One block after another: cut, repair, encode, on the stream that the finished blocks before it produce.

use super::prepare::{Prepared, PreparedEncode, Repairer};
use super::reader::CutReader;
use super::{Encoded, Repair};
use crate::observe::Needs;
use crate::progress::Work;
use crate::residual::ResidualStream;
use crate::{Error, parallel};
use pare_kernels::pool::Pool;
use pare_methods::card::Grain;
use pare_methods::compensate::{RefitMasked, RefitTask};
use pare_methods::encode;
use pare_model::block::Block;
use pare_model::plan::{Edit, Mask, Plan};
use pare_model::site::{Projection, Site};
use pare_model::stats::Stats;
use pare_model::weight::Linear;

/// A finished block.
#[derive(Clone, Debug)]
pub struct Done {
    /// The block; both parts may be missing.
    pub block: Block,
    /// What was removed.
    pub edits: Vec<Edit>,
    /// What each repair found.
    pub repairs: Vec<Repair>,
    /// What each encoding found.
    pub encoded: Vec<Encoded>,
}

/// What is decided before the first block is touched.
pub(super) struct Decided {
    /// Edits of recipes that decide at once.
    pub(super) plan: Plan,
    /// Quotas of each group of each cut, of recipes that decide block by block.
    pub(super) quotas: Option<Vec<Vec<usize>>>,
}

impl Prepared<'_> {
    /// Whether a block can only be finished with the stream that reaches it.
    pub(super) fn needs_stream(&self) -> bool {
        self.recipe.sequential
            || self.cuts.iter().any(|cut| cut.columns.is_some() || cut.refit.is_some())
            || self.encodes.iter().any(|encode| !encode.needs.is_empty() || encode.refit.is_some())
            || self.rounds_by_text()
    }

    /// Finishes block `index`; `stream` is what reaches it, and stays as it is.
    pub(super) fn finish(
        &self,
        (index, original): (usize, &Block),
        decided: &Decided,
        mut stream: Option<&mut ResidualStream>,
        bias_allowed: &dyn Fn(Projection) -> bool,
        work: Work<'_>,
    ) -> Result<Done, Error> {
        let mut done = self.finish_cuts((index, original), decided, stream.as_deref_mut(), bias_allowed, work)?;
        let mut observer = Observing { index, stream, work };
        self.encode(&mut done, &mut observer)?;
        self.round(&mut done, &mut observer)?;
        Ok(done)
    }

    /// The same without the encodings.
    pub(super) fn finish_cuts(
        &self,
        (index, original): (usize, &Block),
        decided: &Decided,
        stream: Option<&mut ResidualStream>,
        bias_allowed: &dyn Fn(Projection) -> bool,
        work: Work<'_>,
    ) -> Result<Done, Error> {
        let mut observer = Observing { index, stream, work };
        let mut done = Done { block: original.clone(), edits: Vec::new(), repairs: Vec::new(), encoded: Vec::new() };
        let mut edits: Vec<Edit> = decided.plan.edits.iter().filter(|edit| edit.block() == index).cloned().collect();
        let needs = self.needs_of_cuts(index, decided.quotas.is_some());
        let stats = if needs.is_empty() { Stats::default() } else { observer.observe(original, &needs)? };
        if let Some(quotas) = &decided.quotas {
            edits.extend(self.edits_of(index, original, &stats, quotas, work)?);
        }
        edits.sort_by_key(order_of_repair);
        for edit in edits {
            match &edit {
                Edit::Mask { .. } => done.block.apply(index, &edit)?,
                _ => self.cut(&mut done, index, &edit, &mut observer, bias_allowed)?,
            }
            done.edits.push(edit);
        }
        let refit = self.cuts.iter().find_map(|cut| cut.refit.as_ref());
        if let Some(refit) = refit {
            let masked: Vec<(Projection, Linear)> = done
                .edits
                .iter()
                .filter_map(|edit| match edit {
                    Edit::Mask { projection, .. } => Some((*projection, original.linear(*projection)?.clone())),
                    _ => None,
                })
                .collect();
            done.refit(index, &masked, refit, &stats, work)?;
        }
        Ok(done)
    }

    /// What the scores and the repairs of masks want to know of a block before anything is removed from it.
    fn needs_of_cuts(&self, index: usize, scored: bool) -> Needs {
        let mut needs = Needs::new();
        for cut in &self.cuts {
            if scored {
                needs.extend(cut.score_needs(Some(index)));
            }
            if let Some(refit) = &cut.refit {
                let sites = cut.candidates.iter().map(|group| group.site).filter(|site| site.block == index);
                needs.extend(sites.flat_map(|site| refit.needs.iter().map(move |&stat| (site, stat))));
            }
        }
        needs
    }

    fn edits_of(
        &self,
        index: usize,
        original: &Block,
        stats: &Stats,
        quotas: &[Vec<usize>],
        work: Work<'_>,
    ) -> Result<Vec<Edit>, Error> {
        let mut edits = Vec::new();
        for (cut, quotas) in self.cuts.iter().zip(quotas) {
            let groups: Vec<_> =
                cut.candidates.iter().zip(quotas).filter(|(group, _)| group.site.block == index).collect();
            let edit = |at: usize| {
                let (group, &quota) = groups[at];
                let scores = group.score(cut.score.as_ref(), original, stats)?;
                group.edit(cut.cut, &scores, quota, original)
            };
            edits.extend(parallel::each(groups.len(), work.pool, &edit)?.into_iter().flatten());
        }
        Ok(edits)
    }

    /// One edit that makes the block smaller, and the repair of what reads the removed units.
    fn cut(
        &self,
        done: &mut Done,
        index: usize,
        edit: &Edit,
        observer: &mut Observing<'_>,
        bias_allowed: &dyn Fn(Projection) -> bool,
    ) -> Result<(), Error> {
        let repair = self.cuts.iter().find(|cut| is_of(cut.cut.grain, edit)).and_then(|cut| cut.columns.as_ref());
        let Some(repair) = repair else { return Ok(done.block.apply(index, edit)?) };
        let reader = CutReader::of(&done.block, edit)?;
        let site = Site::new(index, reader.projection.input());
        let needs = repair.needs.iter().map(|&stat| (site, stat)).collect();
        let stats = observer.observe(&done.block, &needs)?;
        let allowed = bias_allowed(reader.projection);
        let info = reader.repair(&mut done.block, edit, repair.method.as_ref(), &stats, (index, allowed))?;
        done.repairs.push(Repair { projection: reader.projection, block: index, info });
        Ok(())
    }

    fn encode(&self, done: &mut Done, observer: &mut Observing<'_>) -> Result<(), Error> {
        let index = observer.index;
        for step in &self.encodes {
            let served: Vec<Projection> =
                done.block.linears().map(|(projection, _)| projection).filter(|p| step.serves(*p)).collect();
            let needs: Needs = served.iter().flat_map(|&projection| step.needs(index, projection)).collect();
            let stats = if needs.is_empty() { Stats::default() } else { observer.observe(&done.block, &needs)? };
            let mut before = Vec::new();
            for projection in served {
                before.push((projection, done.block.linear(projection).cloned().ok_or(Error::Recipe)?));
            }
            let encoded = match step.method.is_single_threaded() {
                true => side_by_side(step, index, &before, &stats, observer.work)?,
                false => in_turn(step, index, &before, &stats, observer.work)?,
            };
            for ((projection, _), encoded) in before.iter().zip(encoded) {
                done.encoded.push(Encoded { projection: *projection, block: index, info: encoded.info });
                done.block.linear_mut(*projection).ok_or(Error::Recipe)?.weight = encoded.weight;
            }
            if let Some(refit) = &step.refit {
                done.refit(index, &before, refit, &stats, observer.work)?;
            }
        }
        Ok(())
    }
}

/// Encodes one matrix after the other: the threads share each.
fn in_turn(
    step: &PreparedEncode<'_>,
    index: usize,
    before: &[(Projection, Linear)],
    stats: &Stats,
    work: Work<'_>,
) -> Result<Vec<encode::Encoded>, Error> {
    let mut all = Vec::new();
    // What q, k and v share, or gate and up.
    let mut shared: Option<(Site, Option<encode::Prepared>)> = None;
    for (projection, linear) in before {
        work.interrupt.check()?;
        let weight = linear.to_matrix();
        let task = step.task(index, *projection, &weight);
        if shared.as_ref().is_none_or(|(of, _)| *of != task.site) {
            // The one before is not needed any more: it may be as large as the statistics.
            drop(shared.take());
            shared = Some((task.site, step.method.prepare(task.site, weight.cols(), stats)?));
        }
        all.push(match shared.as_ref().and_then(|(_, prepared)| prepared.as_ref()) {
            Some(prepared) => step.method.encode_with(&task, stats, prepared, work.pool)?,
            None => step.method.encode(&task, stats, work.pool)?,
        });
    }
    Ok(all)
}

/// Encodes several matrices at a time, each on one thread.
fn side_by_side(
    step: &PreparedEncode<'_>,
    index: usize,
    before: &[(Projection, Linear)],
    stats: &Stats,
    work: Work<'_>,
) -> Result<Vec<encode::Encoded>, Error> {
    let one = |at: usize| {
        work.interrupt.check()?;
        let (projection, linear) = &before[at];
        let weight = linear.to_matrix();
        Ok(step.method.encode(&step.task(index, *projection, &weight), stats, &Pool::new(1))?)
    };
    parallel::each(before.len(), work.pool, &one)
}

impl Done {
    /// Brings projections that were masked or encoded nearer to what they were `before`; those that lost nothing are left alone.
    fn refit(
        &mut self,
        index: usize,
        before: &[(Projection, Linear)],
        refit: &Repairer<dyn RefitMasked>,
        stats: &Stats,
        work: Work<'_>,
    ) -> Result<(), Error> {
        let (block, edits) = (&self.block, &self.edits);
        let one = |at: usize| {
            let (projection, before) = &before[at];
            work.interrupt.check()?;
            let after = block.linear(*projection).ok_or(Error::Recipe)?;
            let before = before.to_matrix();
            // What is made of several matrices is not what it was, and slow to read.
            if after.weight.composed().is_none() && after.to_matrix() == before {
                return Ok(None);
            }
            let site = Site::new(index, projection.input());
            let mask = edits.iter().find_map(|edit| mask_of(edit, *projection));
            let task = RefitTask { site, before: &before, after: &after.weight, mask };
            let refitted = refit.method.refit(&task, stats)?;
            Ok::<_, Error>(Some(refitted))
        };
        let refitted = parallel::each(before.len(), work.pool, &one)?;
        for ((projection, _), refitted) in before.iter().zip(refitted) {
            let Some(refitted) = refitted else { continue };
            self.block.linear_mut(*projection).ok_or(Error::Recipe)?.weight = refitted.weight;
            self.repairs.push(Repair { projection: *projection, block: index, info: refitted.info });
        }
        Ok(())
    }
}

/// The stream that reaches a block, where one is needed.
pub(super) struct Observing<'s> {
    pub(super) index: usize,
    pub(super) stream: Option<&'s mut ResidualStream>,
    pub(super) work: Work<'s>,
}

impl Observing<'_> {
    pub(super) fn observe(&mut self, block: &Block, needs: &Needs) -> Result<Stats, Error> {
        self.stream.as_mut().ok_or(Error::Recipe)?.observe(self.index, block, needs, self.work)
    }
}

/// The mask of `projection`, where the edit is one.
pub(super) fn mask_of(edit: &Edit, projection: Projection) -> Option<&Mask> {
    match edit {
        Edit::Mask { projection: of, mask, .. } if *of == projection => Some(mask),
        _ => None,
    }
}

/// Attention is cut and repaired before the feed-forward part, which reads its output.
fn order_of_repair(edit: &Edit) -> u8 {
    match edit {
        Edit::KeepGroups { .. } | Edit::DropAttention { .. } => 0,
        Edit::Mask { .. } | Edit::DropBlock { .. } => 1,
        Edit::KeepChannels { .. } | Edit::DropFfn { .. } => 2,
    }
}

fn is_of(grain: Grain, edit: &Edit) -> bool {
    matches!((grain, edit), (Grain::Channel, Edit::KeepChannels { .. }) | (Grain::Group, Edit::KeepGroups { .. }))
}
