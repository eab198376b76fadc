//! What a matrix should be, when its inputs are no longer those of the dense model.

use crate::error::NumericCause;
use crate::linalg;
use pare_model::matrix::Matrix;

/// Moves `weight` `[m, n]` by `share` of the least-squares change that makes up for a drift of the calibration tokens.
///
/// `gram` `[n, n]` is the mean of `x x^T` over the inputs as they are now, `cross` `[n, k]` that of `x d^T` with the drift `d`: dense minus
/// present. `writes`: the drift is that of the matrix's outputs (`k = m`); otherwise that of its inputs (`k = n`).
///
/// # Errors
/// `NotFinite` for a moment that is not finite, `NotPositiveDefinite` when no damping up to 1 helps.
pub fn correct_drift(
    weight: &mut Matrix,
    gram: &[f64],
    cross: &[f64],
    writes: bool,
    damping: f64,
    share: f64,
) -> Result<(), NumericCause> {
    let [m, n] = weight.shape();
    if let Some(cause) = crate::check::not_finite("drift", cross.iter().copied()) {
        return Err(cause);
    }
    // [m, n]: one right-hand side for each output.
    let mut change = match writes {
        true => linalg::transposed(cross, m),
        false => {
            let dense: Vec<f64> = weight.data().iter().map(|&value| f64::from(value)).collect();
            linalg::product(&dense, &linalg::transposed(cross, n), [m, n, n])
        }
    };
    linalg::solve_spd(gram, n, &mut change, damping)?;
    for (value, change) in weight.data_mut().iter_mut().zip(change) {
        *value += (share * change) as f32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_up_for_a_drift_by_hand() {
        // One input, now 2 where the dense model has 3: weight 4 gives 12 again as 6.
        let mut weight = Matrix::from_vec(1, 1, vec![4.0]);
        correct_drift(&mut weight, &[4.0], &[2.0], false, 0.0, 1.0).unwrap();
        assert_eq!(weight.data(), [6.0]);
        // The outputs of two rows lack 3 and -1 at an input of 2: half of the change is taken.
        let mut weight = Matrix::from_vec(2, 1, vec![1.0, 1.0]);
        correct_drift(&mut weight, &[4.0], &[6.0, -2.0], true, 0.0, 0.5).unwrap();
        assert_eq!(weight.data(), [1.75, 0.75]);
        assert!(correct_drift(&mut weight, &[4.0], &[f64::NAN, 0.0], true, 0.0, 1.0).is_err());
    }
}
