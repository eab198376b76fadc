//! The reader of removed units, and its repair.

use crate::Error;
use pare_methods::compensate::{self, Compensate, Info};
use pare_model::block::Block;
use pare_model::plan::{Edit, spread};
use pare_model::site::{Projection, Site};
use pare_model::stats::Stats;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// The reader of removed units, before the cut.
pub(super) struct CutReader {
    pub(super) projection: Projection,
    reader: Linear,
    kept: Vec<usize>,
}

impl CutReader {
    pub(super) fn of(block: &Block, edit: &Edit) -> Result<Self, Error> {
        let (projection, kept) = match edit {
            Edit::KeepChannels { channels, .. } => (Projection::Down, channels.clone()),
            Edit::KeepGroups { groups, .. } => {
                let width = block.attention().map_or(0, |attention| attention.group_width());
                (Projection::O, spread(groups, width))
            }
            _ => return Err(Error::Recipe),
        };
        let reader = block.linear(projection).ok_or(Error::Recipe)?.clone();
        Ok(Self { projection, reader, kept })
    }

    pub(super) fn repair(
        &self,
        block: &mut Block,
        edit: &Edit,
        repair: &dyn Compensate,
        stats: &Stats,
        (index, bias_allowed): (usize, bool),
    ) -> Result<Info, Error> {
        let reader = self.reader.to_matrix();
        let cut = compensate::Cut {
            site: Site::new(index, self.projection.input()),
            reader: &reader,
            bias: self.reader.bias.as_deref(),
            kept: &self.kept,
            bias_allowed,
        };
        let repaired = repair.compensate(&cut, stats)?;
        block.apply(index, edit)?;
        let linear = block.linear_mut(self.projection).ok_or(Error::Recipe)?;
        *linear = Linear { weight: Arc::new(Dense(repaired.weight)), bias: repaired.bias.map(Into::into) };
        Ok(repaired.info)
    }
}
