//! The lists of a matrix whose outputs share columns as a file holds them, and how they are found and checked.

use super::super::{RUN, SparseError, SparseType, SparseValues, check_length, quant_of, scale_of};
use super::GROUP;
use crate::pool::Pool;
use half::f16;
use std::sync::{Mutex, PoisonError};

/// The most inputs that columns of 16 bits can name.
const MOST_INPUTS: usize = 1 << 16;

/// A matrix `[out, in]` as lists, with `groups = ceil(out / 8)` groups of 8 neighbouring outputs.
///
/// - `offsets`: `groups + 1` numbers. Group `g` has the columns `offsets[g] .. offsets[g + 1]`; the first offset is 0.
/// - `columns`: the kept columns of each group, ascending and below `in`.
/// - `values`: `[columns][8]`, a value of each output of the group. Integers have `scales`, which are finite: 8 for each
///   run of 32 kept columns of a group, the last run of which may be shorter.
///
/// The values of outputs behind the last are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EightRowsParts {
    /// Where in the columns each group begins.
    pub offsets: Vec<u64>,
    /// The kept columns.
    pub columns: Vec<u16>,
    /// Their values.
    pub values: SparseValues,
}

impl EightRowsParts {
    /// What [`super::EightRows::pack`] packs.
    ///
    /// # Errors
    /// As [`super::EightRows::pack`]; of several groups, the first.
    pub fn find(
        ty: SparseType,
        out: usize,
        inn: usize,
        decode_row: &(dyn Fn(usize, &mut [f32]) + Sync),
        pool: &Pool,
    ) -> Result<EightRowsParts, SparseError> {
        if inn > MOST_INPUTS {
            return Err(SparseError::TooManyInputs { inputs: inn });
        }
        let groups = out.div_ceil(GROUP);
        let tasks = (4 * pool.threads()).min(groups);
        let found: Vec<Mutex<Result<EightRowsParts, SparseError>>> =
            (0..tasks).map(|_| Mutex::new(Ok(EightRowsParts::empty(ty)))).collect();
        pool.run(tasks, &|task| {
            let mut rows = vec![0.0f32; GROUP * inn];
            let mut parts = EightRowsParts::empty(ty);
            let mut result = Ok(());
            for group in task * groups / tasks..(task + 1) * groups / tasks {
                rows.fill(0.0);
                for o in group * GROUP..out.min((group + 1) * GROUP) {
                    decode_row(o, &mut rows[o % GROUP * inn..][..inn]);
                }
                result = parts.push(&rows, inn, group);
                if result.is_err() {
                    break;
                }
            }
            *found[task].lock().unwrap_or_else(PoisonError::into_inner) = result.map(|()| parts);
        });
        let mut all = EightRowsParts::empty(ty);
        for parts in found {
            all.append(parts.into_inner().unwrap_or_else(PoisonError::into_inner)?);
        }
        Ok(all)
    }

    pub(super) fn empty(ty: SparseType) -> EightRowsParts {
        EightRowsParts { offsets: vec![0], columns: Vec::new(), values: SparseValues::zeroed(ty, 0, 0) }
    }

    /// Adds a group of 8 rows `[8, inn]`.
    fn push(&mut self, rows: &[f32], inn: usize, group: usize) -> Result<(), SparseError> {
        let at = |lane: usize, column: usize| rows[lane * inn + column];
        let first = self.columns.len();
        let kept = (0..inn).filter(|&column| (0..GROUP).any(|lane| at(lane, column) != 0.0));
        self.columns.extend(kept.map(|column| column as u16));
        self.offsets.push(self.columns.len() as u64);
        for (run, columns) in self.columns[first..].chunks(RUN).enumerate() {
            let value = |lane: usize, column: u16| at(lane, usize::from(column));
            match &mut self.values {
                SparseValues::F16(values) => {
                    for &column in columns {
                        values.extend((0..GROUP).map(|lane| f16::from_f32(value(lane, column)).to_bits()));
                    }
                }
                SparseValues::Int8 { values, scales } => {
                    let mut of = [f16::ZERO; GROUP];
                    for (lane, scale) in of.iter_mut().enumerate() {
                        let finite = columns.iter().all(|&column| value(lane, column).is_finite());
                        let most = columns.iter().fold(0.0f32, |most, &column| most.max(value(lane, column).abs()));
                        let row = group * GROUP + lane;
                        *scale = scale_of(most).filter(|_| finite).ok_or(SparseError::Range { row, run })?;
                    }
                    scales.extend(of.map(f16::to_bits));
                    for &column in columns {
                        values.extend((0..GROUP).map(|lane| quant_of(value(lane, column), of[lane])));
                    }
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, other: EightRowsParts) {
        let before = self.columns.len() as u64;
        self.offsets.extend(other.offsets.iter().skip(1).map(|offset| before + offset));
        self.columns.extend(other.columns);
        match (&mut self.values, other.values) {
            (SparseValues::F16(to), SparseValues::F16(from)) => to.extend(from),
            (
                SparseValues::Int8 { values, scales },
                SparseValues::Int8 { values: more_values, scales: more_scales },
            ) => {
                values.extend(more_values);
                scales.extend(more_scales);
            }
            _ => unreachable!("parts of one type"),
        }
    }

    /// Every rule of the type.
    pub(super) fn check(&self, out: usize, inn: usize) -> Result<(), SparseError> {
        if inn > MOST_INPUTS {
            return Err(SparseError::TooManyInputs { inputs: inn });
        }
        let groups = out.div_ceil(GROUP);
        check_length("offsets", self.offsets.len(), groups.checked_add(1))?;
        if self.offsets[0] != 0 {
            return Err(SparseError::Offsets { group: 0 });
        }
        let mut runs = Some(0usize);
        for (group, pair) in self.offsets.windows(2).enumerate() {
            let kept = pair[1].checked_sub(pair[0]).filter(|&kept| kept <= inn as u64);
            let kept = kept.ok_or(SparseError::Offsets { group })? as usize;
            runs = runs.and_then(|runs| runs.checked_add(kept.div_ceil(RUN)));
        }
        let kept = usize::try_from(self.offsets[groups]).ok();
        check_length("columns", self.columns.len(), kept)?;
        let eights = |count: Option<usize>| count.and_then(|count| count.checked_mul(GROUP));
        self.values.check(eights(kept), eights(runs))?;
        for (group, pair) in self.offsets.windows(2).enumerate() {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            let columns = &self.columns[start..end];
            let wrong = |at: usize| usize::from(columns[at]) >= inn || (at > 0 && columns[at - 1] >= columns[at]);
            if let Some(at) = (0..columns.len()).find(|&at| wrong(at)) {
                return Err(SparseError::Columns { group, at });
            }
        }
        self.check_padding(out, groups)
    }

    fn check_padding(&self, out: usize, groups: usize) -> Result<(), SparseError> {
        let last = self.offsets[groups.saturating_sub(1)] as usize..self.columns.len();
        for at in last {
            for row in out..groups * GROUP {
                let place = at * GROUP + row % GROUP;
                let zero = match &self.values {
                    SparseValues::F16(values) => values[place] & 0x7fff == 0,
                    SparseValues::Int8 { values, .. } => values[place] == 0,
                };
                if !zero {
                    return Err(SparseError::Padding { row, at });
                }
            }
        }
        Ok(())
    }
}
