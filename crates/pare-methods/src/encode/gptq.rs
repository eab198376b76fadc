//! GPTQ: codes of a block format chosen column by column, each column's error carried to the columns after it.
//!
//! Source     Frantar, Ashkboos, Hoefler, Alistarh 2022, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, arXiv:2210.17323
//! Formula    U^T U = (H + damping mean(diag H) I)^-1, H = E x x^T; for j in order (with act-order by falling H_jj): q_j = nearest code value, e = (w_j - q_j) / U_jj, w_k -= e U_jk for k > j
//! Shapes     W [out, in], H and U [in, in]
//! Needs      Stat::Gram [in, in]
//! Parameters type: a block type of GGUF (q4_0); damping: relative to the mean diagonal (0.01, 0..=1); iterations: rounds afterwards (1, 0..=100); act-order: take the inputs with the largest second moments first (false)
//! Cost       out * in^2 / 2 multiply-adds, each round about twice that; in^3 once; 8 bytes * in^2
//! Departs    the grid is that of the block type, its scales searched with costs 1 / U_jj^2 when the block's first column is reached (with act-order before all columns), where the source has an asymmetric grid over the range of a row or a group; then rounds of least-squares scales and coordinate descent on codes; inputs never seen are rounded, where the authors' code zeroes their weights
//! Errors     MissingStat, Shape, Numeric (not finite, not positive definite), Params (type, damping, iterations), Unsupported (rows that are no whole blocks)
//! Exactness  1e-4 against goldens/encode/gptq: codes from given scales, and the error in f32

use super::{Encode, Encoded, Entry, Info, Prepared, Shared, Task, block_type};
use crate::card::Card;
use crate::check;
use crate::error::{Built, MethodError};
use crate::rounding::{HessianFactor, Rounder, RoundingOptions};
use crate::select::Compare;
use crate::settings::Settings;
use pare_kernels::blocks::BlockType;
use pare_kernels::pool::Pool;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use std::sync::{Arc, Mutex, PoisonError};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "gptq",
        about: "codes of a block format chosen in turn, later columns making up for the errors of earlier ones",
        source: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, arXiv:2210.17323",
        formula: "U^T U = (H + damping mean(diag H) I)^-1, H = E x x^T; for j in order (with act-order by falling \
            H_jj): q_j = nearest code value, e = (w_j - q_j) / U_jj, w_k -= e U_jk for k > j",
        needs: &[Stat::Gram],
        parameters: &["type", "damping", "act-order", "iterations"],
        grains: &[],
        cost: "out * in^2 / 2 operations, each round afterwards about twice that; in^2 numbers of memory",
        departs: "the grid of a block type, scales searched where a block's first column is reached (act-order: at first); inputs never seen are not zeroed; rounds of least-squares scales and descent on codes",
        exactness: 1e-4,
    },
    removes: false,
    composes: false,
    build,
};

fn build(settings: &Settings) -> Built<dyn Encode> {
    settings.only(ENTRY.card.parameters)?;
    let damping = settings.damping.unwrap_or(0.01);
    if !(0.0..=1.0).contains(&damping) {
        return Err(MethodError::Params { key: "damping", why: format!("{damping}, expected 0..=1") });
    }
    let rounds = settings.iterations.unwrap_or(1);
    if rounds > 100 {
        return Err(MethodError::Params { key: "iterations", why: format!("{rounds}, expected 0..=100") });
    }
    let ty = settings.storage.as_deref().map_or(Ok(BlockType::Q4_0), block_type)?;
    let largest_first = settings.act_order.unwrap_or(false);
    Ok(Box::new(Gptq { ty, damping, largest_first, options: RoundingOptions { carry: true, rounds } }))
}

/// Rows that a thread takes at a time.
const ROWS: usize = 16;

/// Codes of a block format, chosen in turn.
#[derive(Clone, Copy, Debug)]
pub struct Gptq {
    /// The format.
    pub ty: BlockType,
    /// Relative to the mean diagonal.
    pub damping: f64,
    /// Whether the inputs with the largest second moments are taken first; blocks stay where they are.
    pub largest_first: bool,
    /// Work for each row.
    pub options: RoundingOptions,
}

impl Encode for Gptq {
    fn blocks(&self) -> Option<BlockType> {
        Some(self.ty)
    }

    fn fits(&self, [_, columns]: [usize; 2], _: f64, _: Compare) -> Result<(), MethodError> {
        super::whole_blocks(ENTRY.card.name, self.ty, columns)
    }

    fn encode(&self, task: &Task<'_>, stats: &Stats, pool: &Pool) -> Result<Encoded, MethodError> {
        self.check(task)?;
        self.by(task, &self.hessian(task.site, task.weight.cols(), stats)?, pool)
    }

    fn prepare(&self, site: Site, width: usize, stats: &Stats) -> Result<Option<Prepared>, MethodError> {
        Ok(Some(Prepared(Shared::Hessian(self.hessian(site, width, stats)?))))
    }

    fn encode_with(
        &self,
        task: &Task<'_>,
        stats: &Stats,
        prepared: &Prepared,
        pool: &Pool,
    ) -> Result<Encoded, MethodError> {
        let Prepared(Shared::Hessian(hessian)) = prepared else { return self.encode(task, stats, pool) };
        self.check(task)?;
        self.by(task, hessian, pool)
    }
}

impl Gptq {
    fn check(&self, task: &Task<'_>) -> Result<(), MethodError> {
        task.check()?;
        self.fits(task.weight.shape(), task.keep, task.compare)
    }

    fn hessian(&self, site: Site, width: usize, stats: &Stats) -> Result<HessianFactor, MethodError> {
        let gram = check::stat(stats, site, Stat::Gram, width * width)?;
        let hessian = match self.largest_first {
            true => HessianFactor::largest_first(gram, width, self.damping),
            false => HessianFactor::new(gram, width, self.damping),
        };
        hessian.map_err(|cause| MethodError::Numeric { site, cause })
    }

    fn by(&self, task: &Task<'_>, hessian: &HessianFactor, pool: &Pool) -> Result<Encoded, MethodError> {
        let [rows, columns] = task.weight.shape();
        if hessian.inputs() != columns {
            return Err(MethodError::Shape {
                site: task.site,
                what: "Hessian factor",
                want: columns,
                got: hessian.inputs(),
            });
        }
        let row_bytes = columns / self.ty.values_per_block() * self.ty.bytes_per_block();
        let mut bytes = vec![0; rows * row_bytes];
        // Rows do not look at each other: threads take a few at a time, and their errors are added in order.
        let pieces: Vec<Mutex<(&mut [u8], f64)>> =
            bytes.chunks_mut(ROWS * row_bytes.max(1)).map(|bytes| Mutex::new((bytes, 0.0))).collect();
        pool.run(pieces.len(), &|piece| {
            let mut own = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
            let Some(mut rounder) = Rounder::new(hessian, self.ty, self.options) else { return };
            let (bytes, error) = &mut *own;
            for (row, bytes) in (piece * ROWS..).zip(bytes.chunks_exact_mut(row_bytes.max(1))) {
                *error += rounder.row(task.weight.row(row), bytes);
            }
        });
        let errors = pieces.into_iter().map(|piece| piece.into_inner().unwrap_or_else(PoisonError::into_inner).1);
        let error: f64 = errors.sum();
        let stored = super::stored(self.ty, task.weight.shape(), bytes);
        let stored = stored.ok_or_else(|| super::no_blocks(ENTRY.card.name, self.ty, columns))?;
        let info = Info { damping: Some(hessian.damping()), error: Some(error / rows.max(1) as f64), removed: 0 };
        Ok(Encoded { weight: Arc::new(stored), info })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::matrix::Matrix;
    use pare_model::site::Point;

    #[test]
    fn what_is_stored_is_on_the_grid_and_its_error_is_true_by_hand() {
        // Uncorrelated inputs: codes are the nearest, and a row of two values is held exactly but for the f16 scale.
        let site = Site::new(0, Point::FfnIn);
        let mut stats = Stats::new(1);
        let unit = (0..32 * 32).map(|at| f64::from(u8::from(at % 33 == 0))).collect();
        stats.insert(site, Stat::Gram, unit);
        let weight = Matrix::from_vec(1, 32, (0..32).map(|i| if i % 3 == 0 { -0.5 } else { 0.25 }).collect());
        let task = Task { site, weight: &weight, keep: 1.0, compare: Compare::Row };
        let settings = Settings { storage: Some("q4_1".into()), ..Settings::default() };
        let encoded = build(&settings).unwrap().encode(&task, &stats, &Pool::new(1)).unwrap();
        let mut row = [0.0; 32];
        encoded.weight.decode_row(0, &mut row);
        assert!(row.iter().zip(weight.data()).all(|(a, b)| (a - b).abs() < 1e-3), "{row:?}");
        assert!(encoded.info.error.unwrap() < 1e-5 && encoded.weight.name() == "Q4_1");
        // Nothing to make up for among them: their order does not matter.
        let turned = Settings { act_order: Some(true), ..settings };
        let turned = build(&turned).unwrap().encode(&task, &stats, &Pool::new(1)).unwrap();
        let mut again = [0.0; 32];
        turned.weight.decode_row(0, &mut again);
        assert_eq!((row, encoded.info), (again, turned.info));
        assert!(build(&Settings { storage: Some("q3_k".into()), ..Settings::default() }).is_err());
        assert!(build(&Settings { damping: Some(2.0), ..Settings::default() }).is_err());
    }
}
