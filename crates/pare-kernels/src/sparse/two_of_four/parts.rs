//! The rows of a 2:4 matrix as a file holds them, and how they are found and checked.

use super::super::{RUN, SparseError, SparseType, SparseValues, check_length, quant_of, scale_of};
use crate::pool::Pool;
use crate::shared::Shared;
use half::f16;
use std::sync::{Mutex, PoisonError};

/// Inputs of which 2 are kept.
pub(super) const GROUP: usize = 4;

/// Groups of [`GROUP`] inputs, the last of which may be cut off.
pub(super) fn groups_of(inn: usize) -> usize {
    inn.div_ceil(GROUP)
}

/// A matrix `[out, in]` as plain rows, with `groups = ceil(in / 4)` groups of 4 inputs each.
///
/// - `values`: `[out, 2 * groups]`, the two kept values of each group in the order of their inputs; integers have
///   `scales` `[out, ceil(in / 32)]`, which are finite.
/// - `positions`: `[out, ceil(groups / 2)]` bytes. The low 4 bits are an even group, the high 4 bits the odd one after it
///   or zero. In 4 bits, the low 2 say where in the group the first kept value stands, the high 2 the second, which is
///   further on.
///
/// Where fewer than 2 inputs are kept, the values that fill up are zero; only they may stand behind the last input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoOfFourParts {
    /// Where in their groups the kept values stand.
    pub positions: Vec<u8>,
    /// The kept values.
    pub values: SparseValues,
}

impl TwoOfFourParts {
    pub(super) fn zeroed(ty: SparseType, out: usize, inn: usize) -> TwoOfFourParts {
        let groups = groups_of(inn);
        let values = SparseValues::zeroed(ty, 2 * groups * out, inn.div_ceil(RUN) * out);
        TwoOfFourParts { positions: vec![0; groups.div_ceil(2) * out], values }
    }

    /// What [`super::TwoOfFour::pack`] packs.
    ///
    /// # Errors
    /// As [`super::TwoOfFour::pack`]; of several rows, the first.
    pub fn find(
        ty: SparseType,
        out: usize,
        inn: usize,
        decode_row: &(dyn Fn(usize, &mut [f32]) + Sync),
        pool: &Pool,
    ) -> Result<TwoOfFourParts, SparseError> {
        let mut parts = TwoOfFourParts::zeroed(ty, out, inn);
        let groups = groups_of(inn);
        let bytes = groups.div_ceil(2);
        let positions = Shared::new(&mut parts.positions);
        let (halves, quants, scales) = match &mut parts.values {
            SparseValues::F16(values) => (Shared::new(values), Shared::new(&mut []), Shared::new(&mut [])),
            SparseValues::Int8 { values, scales } => (Shared::new(&mut []), Shared::new(values), Shared::new(scales)),
        };
        let first = Mutex::new(None::<(usize, SparseError)>);
        let tasks = (4 * pool.threads()).min(out);
        pool.run(if inn == 0 { 0 } else { tasks }, &|task| {
            let (mut row, mut kept) = (vec![0.0f32; inn], vec![0.0f32; 2 * groups]);
            for o in task * out / tasks..(task + 1) * out / tasks {
                decode_row(o, &mut row);
                // SAFETY: each row belongs to one task.
                let positions = unsafe { positions.slice_mut(o * bytes, bytes) };
                let found = find_row(&row, o, &mut kept, positions).and_then(|()| {
                    let runs = inn.div_ceil(RUN);
                    // SAFETY: as above.
                    unsafe {
                        match ty {
                            SparseType::F16 => round(&kept, halves.slice_mut(o * 2 * groups, 2 * groups)),
                            SparseType::Int8 => {
                                let values = quants.slice_mut(o * 2 * groups, 2 * groups);
                                return quantise(&kept, o, values, scales.slice_mut(o * runs, runs));
                            }
                        }
                    }
                    Ok(())
                });
                if let Err(error) = found {
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|(row, _)| o < *row) {
                        *first = Some((o, error));
                    }
                    return;
                }
            }
        });
        match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(parts),
        }
    }

    /// Every rule of the type.
    pub(super) fn check(&self, out: usize, inn: usize) -> Result<(), SparseError> {
        let groups = groups_of(inn);
        let bytes = groups.div_ceil(2);
        check_length("bytes of positions", self.positions.len(), bytes.checked_mul(out))?;
        let kept = groups.checked_mul(2).and_then(|kept| kept.checked_mul(out));
        self.values.check(kept, inn.div_ceil(RUN).checked_mul(out))?;
        // Without inputs there are no bytes, however many outputs the shape claims.
        for (row, positions) in self.positions.chunks_exact(bytes.max(1)).enumerate() {
            for group in 0..groups {
                let (a, b) = pair(positions, group);
                if a >= b {
                    return Err(SparseError::Positions { row, group });
                }
                for (k, position) in [a, b].into_iter().enumerate() {
                    if group * GROUP + usize::from(position) >= inn && !self.is_zero(2 * (row * groups + group) + k) {
                        return Err(SparseError::Padding { row, at: group });
                    }
                }
            }
            if groups % 2 == 1 && positions[bytes - 1] >> 4 != 0 {
                return Err(SparseError::Positions { row, group: groups });
            }
        }
        Ok(())
    }

    fn is_zero(&self, at: usize) -> bool {
        match &self.values {
            SparseValues::F16(values) => values[at] & 0x7fff == 0,
            SparseValues::Int8 { values, .. } => values[at] == 0,
        }
    }

    /// The positions of 32 inputs of row `o` as one word, the first kept value lowest.
    pub(super) fn word(&self, inn: usize, o: usize, block: usize) -> u32 {
        let bytes = groups_of(inn).div_ceil(2);
        let row = &self.positions[o * bytes..(o + 1) * bytes];
        row[4 * block..].iter().take(4).enumerate().fold(0, |word, (i, &byte)| word | u32::from(byte) << (8 * i))
    }

    pub(super) fn set_positions(&mut self, inn: usize, o: usize, group: usize, bits: u8) {
        self.positions[o * groups_of(inn).div_ceil(2) + group / 2] |= bits << (4 * (group % 2));
    }
}

/// The positions of the two kept values of a group.
fn pair(positions: &[u8], group: usize) -> (u8, u8) {
    let bits = positions[group / 2] >> (4 * (group % 2));
    (bits & 3, bits >> 2 & 3)
}

/// Writes the kept values of a row, two for each group, and their positions.
fn find_row(row: &[f32], o: usize, kept: &mut [f32], positions: &mut [u8]) -> Result<(), SparseError> {
    positions.fill(0);
    for (group, (weights, kept)) in row.chunks(GROUP).zip(kept.chunks_exact_mut(2)).enumerate() {
        let mut at = [0usize; GROUP];
        let mut found = 0;
        for (position, &weight) in weights.iter().enumerate() {
            if weight != 0.0 {
                at[found] = position;
                found += 1;
            }
        }
        let (a, b) = match found {
            0 => (0, 1),
            1 => (0, at[0].max(1)),
            2 => (at[0], at[1]),
            _ => return Err(SparseError::NotTwoOfFour { row: o, group, found }),
        };
        let value = |at: usize| weights.get(at).copied().unwrap_or(0.0);
        (kept[0], kept[1]) = (value(a), value(b));
        positions[group / 2] |= ((a | b << 2) as u8) << (4 * (group % 2));
    }
    Ok(())
}

fn round(kept: &[f32], values: &mut [u16]) {
    values.iter_mut().zip(kept).for_each(|(value, &kept)| *value = f16::from_f32(kept).to_bits());
}

fn quantise(kept: &[f32], row: usize, values: &mut [i8], scales: &mut [u16]) -> Result<(), SparseError> {
    let blocks = values.chunks_mut(RUN / 2).zip(kept.chunks(RUN / 2)).zip(scales);
    for (run, ((values, kept), to)) in blocks.enumerate() {
        let most = kept.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let finite = kept.iter().all(|value| value.is_finite());
        let scale = scale_of(most).filter(|_| finite).ok_or(SparseError::Range { row, run })?;
        *to = scale.to_bits();
        values.iter_mut().zip(kept).for_each(|(value, &kept)| *value = quant_of(kept, scale));
    }
    Ok(())
}
