//! EoRA: a low-rank matrix beside an approximated one, that gives back what the inputs miss most.
//!
//! Source     Liu et al. 2024, "EoRA: Training-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation",
//!            arXiv:2410.21271, from the paper's text
//! Formula    D = W - W'; G = Q diag(l) Q^T, S = Q diag(l)^1/2; D S = U diag(s) V^T; A B = U_R U_R^T D = D S V_R V_R^T S^-1, the least of
//!            E||(D - A B) x||^2; the result is W' + A B
//! Shapes     W, W', D [out, in]; G, S [in, in]; A [out, R]; B [R, in]
//! Needs      Stat::Gram [in, in]
//! Parameters rank: R, range 1..=min(out, in), default 32. type: storage of A and B, f32 (default), f16 or q8_0 (R and in multiples of 32)
//! Cost       9 n^3 + 2 out * in * max(out, in) operations with n = min(out, in), and 9 in^3 more where in < out; 24 out * in bytes
//! Departs    the vectors are those of the smaller of D G D^T and S^T D^T D S, where the first needs no S; eigenvalues l are at least
//!            1e-6 of the largest; A and B share their size evenly; G sums all tokens, as in the source's theorem, where its algorithm
//!            averages the sequences of the calibration text before it multiplies
//! Errors     MissingStat, Shape; Params: rank or type; Numeric: not finite, no convergence
//! Exactness  1e-4 against goldens/compensate/eora (factors are rounded to f32)
//!
//! Where rounding the factors costs more than they give, the matrix stays as it was, and the result says so.

use super::{Build, Entry, Info, RefitMasked, RefitTask, Refitted, Simpler};
use crate::card::Card;
use crate::check;
use crate::distortion;
use crate::error::MethodError;
use crate::linalg;
use crate::low_rank;
use pare_kernels::blocks::{BlockType, RowType};
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use pare_model::storage::{Dense, Element, LowRank, Stored, Sum};
use pare_model::weight::{Linear, Weight};
use std::sync::Arc;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "eora",
        about: "adds a low-rank matrix that gives back what the inputs miss most of an approximated one",
        source: "EoRA: Training-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation, arXiv:2410.21271",
        formula: "D = W - W'; G = Q diag(l) Q^T, S = Q diag(l)^1/2; D S = U diag(s) V^T; A B = U_R U_R^T D = D S V_R \
            V_R^T S^-1, the least of E||(D - A B) x||^2; the result is W' + A B",
        needs: &[Stat::Gram],
        parameters: &["rank", "type"],
        grains: &[],
        cost: "9 min(out, in)^3 + 2 out * in * max(out, in) operations, 9 in^3 more where in < out; 24 out * in bytes",
        departs: "no eigenvectors of the inputs where out <= in; elsewhere their eigenvalues are at least 1e-6 of the largest; moments of all tokens, not of averaged sequences",
        exactness: 1e-4,
    },
    composes: true,
    of_zeros: false,
    needs_bias: false,
    build: Build::Matrix(|settings| {
        settings.only(ENTRY.card.parameters)?;
        let rank = settings.rank.unwrap_or(RANK);
        let storage = match settings.storage.as_deref() {
            None | Some("f32") => Factors::F32,
            Some("f16") => Factors::F16,
            Some("q8_0") if rank.is_multiple_of(BlockType::Q8_0.values_per_block()) => Factors::Q8,
            Some("q8_0") => {
                let why = format!("{rank} in q8_0, expected a multiple of 32");
                return Err(MethodError::Params { key: "rank", why });
            }
            Some(other) => {
                return Err(MethodError::Params { key: "type", why: format!("{other:?}, expected f32, f16 or q8_0") });
            }
        };
        Ok(Box::new(Eora { rank, storage }))
    }),
};

const RANK: usize = 32;
/// The smallest eigenvalue of the inputs that is told apart, relative to the largest.
const FLOOR: f64 = 1e-6;

/// How the factors are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// As they are.
    F32,
    /// Half precision.
    F16,
    /// Blocks of 32 codes of 8 bits.
    Q8,
}

/// Adds a low-rank matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Eora {
    /// `R`.
    pub rank: usize,
    /// How `A` and `B` are kept.
    pub storage: Factors,
}

impl RefitMasked for Eora {
    fn fits(&self, shape: [usize; 2]) -> Result<(), MethodError> {
        low_rank::rank(Some(self.rank), 1.0, shape)?;
        if self.storage == Factors::Q8 && !shape[1].is_multiple_of(BlockType::Q8_0.values_per_block()) {
            let why = format!("q8_0 for factors of {} inputs, expected a multiple of 32", shape[1]);
            return Err(MethodError::Params { key: "type", why });
        }
        Ok(())
    }

    fn refit(&self, lost: &RefitTask<'_>, stats: &Stats) -> Result<Refitted, MethodError> {
        let after = lost.check()?;
        let [out, width] = after.shape();
        let gram = check::stat(stats, lost.site, Stat::Gram, width * width)?;
        self.fits(after.shape())?;
        let rank = self.rank;
        let change = lost.before.data().iter().zip(after.data()).map(|(&a, &b)| f64::from(a) - f64::from(b));
        let change: Vec<f64> = change.collect();
        let error_before = distortion::mean(&distortion::per_row(gram, lost.before, &after));
        check::finite(lost.site, "calibration error", &[error_before])?;
        let unchanged = Info { error_before: Some(error_before), error_after: Some(error_before), ..Info::default() };
        if error_before == 0.0 {
            let info = Info { fell_back: Some(Simpler::Plain), ..unchanged };
            return Ok(Refitted { weight: Arc::clone(lost.after), info });
        }
        let factors = match out <= width {
            true => from_outputs(lost.site, &change, gram, [out, width, rank])?,
            false => from_inputs(lost.site, &change, gram, [out, width, rank])?,
        };
        let [a, b] = factors.map(|factor| self.stored(factor));
        let decoded = [&a, &b].map(|factor| Linear::new(Arc::clone(factor)).to_matrix());
        let mut refitted = low_rank::product(&decoded);
        refitted.data_mut().iter_mut().zip(after.data()).for_each(|(value, after)| *value += after);
        let factors = LowRank::new(a, b).expect("factors of one rank");
        let sum = Sum::new(vec![Arc::clone(lost.after), Arc::new(factors)]).expect("one shape");
        let weight: Arc<dyn Weight> = Arc::new(sum);
        check::weights(lost.site, "refitted weight", &refitted)?;
        let error_after = distortion::mean(&distortion::per_row(gram, lost.before, &refitted));
        check::finite(lost.site, "calibration error", &[error_after])?;
        if error_after > error_before {
            let info = Info { fell_back: Some(Simpler::Plain), ..unchanged };
            return Ok(Refitted { weight: Arc::clone(lost.after), info });
        }
        Ok(Refitted { weight, info: Info { error_after: Some(error_after), ..unchanged } })
    }
}

impl Eora {
    fn stored(&self, factor: Matrix) -> Arc<dyn Weight> {
        let (rows, element) = match self.storage {
            Factors::F32 => return Arc::new(Dense(factor)),
            Factors::F16 => (RowType::F16, Element::F16),
            Factors::Q8 => (RowType::Blocks(BlockType::Q8_0), Element::Block(BlockType::Q8_0)),
        };
        let values = factor.data().len() / rows.values_per_block();
        let mut bytes = vec![0; values * rows.bytes_per_block()];
        rows.encode(factor.data(), &mut bytes);
        Arc::new(Stored::new(element, factor.shape(), bytes.into()).expect("rows of whole blocks"))
    }
}

/// `U_R` and `U_R^T D`, with U the eigenvectors of `D G D^T`.
fn from_outputs(
    site: Site,
    change: &[f64],
    gram: &[f64],
    [out, width, rank]: [usize; 3],
) -> Result<[Matrix; 2], MethodError> {
    let spread = linalg::product(change, gram, [out, width, width]);
    let moments = linalg::product(&spread, &linalg::transposed(change, width), [out, width, out]);
    low_rank::by_outputs(site, change, moments, [out, width, rank])
}

/// `D S V_R` and `V_R^T S^-1`, with V the eigenvectors of `S^T D^T D S`.
fn from_inputs(
    site: Site,
    change: &[f64],
    gram: &[f64],
    [out, width, rank]: [usize; 3],
) -> Result<[Matrix; 2], MethodError> {
    let (values, vectors) = low_rank::eigen(site, gram.to_vec(), width)?;
    let largest = values.last().copied().unwrap_or(0.0);
    let roots: Vec<f64> = values.iter().map(|value| value.max(FLOOR * largest).sqrt()).collect();
    // Rows of Q^T, scaled: S^T and S^-1.
    let scaled = |scale: &dyn Fn(f64) -> f64| -> Vec<f64> {
        let rows = vectors.chunks_exact(width).zip(&roots);
        rows.flat_map(|(row, &root)| row.iter().map(move |value| value * scale(root))).collect()
    };
    let (to, back) = (scaled(&|root| root), scaled(&|root| 1.0 / root));
    let seen = linalg::product(&to, &linalg::transposed(change, width), [width, width, out]);
    low_rank::by_inputs(site, &seen, &back, [out, width, rank])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    const SITE: Site = Site { block: 0, point: Point::FfnOut };

    fn refitted(before: Matrix, gram: &[f64], rank: usize) -> (Vec<f32>, Info) {
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::Gram, gram.to_vec());
        let after: Arc<dyn Weight> = Arc::new(Dense(Matrix::zeros(before.rows(), before.cols())));
        let lost = RefitTask { site: SITE, before: &before, after: &after, mask: None };
        let refitted = Eora { rank, storage: Factors::F32 }.refit(&lost, &stats).unwrap();
        (Linear::new(refitted.weight).to_matrix().into_vec(), refitted.info)
    }

    #[test]
    fn the_direction_that_the_inputs_miss_by_hand() {
        // 3 of a strong input against 4 of a weak one: 9 * 2 against 16 * 1/2.
        let (values, info) = refitted(Matrix::from_vec(2, 2, vec![3.0, 0.0, 0.0, 4.0]), &[2.0, 0.0, 0.0, 0.5], 1);
        for (got, want) in values.iter().zip([3.0, 0.0, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{values:?}");
        }
        assert!((info.error_before.unwrap() - 13.0).abs() < 1e-9 && (info.error_after.unwrap() - 4.0).abs() < 1e-6);
        // More outputs than inputs go the other way.
        let (values, _) =
            refitted(Matrix::from_vec(3, 2, vec![3.0, 0.0, 0.0, 4.0, 0.0, 0.0]), &[2.0, 0.0, 0.0, 0.5], 1);
        for (got, want) in values.iter().zip([3.0, 0.0, 0.0, 0.0, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn nothing_lost_is_nothing_added() {
        let (values, info) = refitted(Matrix::from_vec(1, 2, vec![3.0, 1.0]), &[0.0; 4], 1);
        assert_eq!((values, info.fell_back), (vec![0.0, 0.0], Some(Simpler::Plain)));
    }
}
