//! L-Mul: how far dot products move when every multiplication becomes one addition of integers.
//!
//! Source     Luo and Sun 2024, Addition is All You Need for Energy-efficient Language Models, arXiv:2410.00907
//! Formula    x = (1 + x_m) 2^x_e, y alike, mantissas rounded to m bits (to even at a tie). L(x, y) = (1 + c) 2^(x_e + y_e + k), where x_m + y_m + 2^-l(m) = k + c, k whole, 0 <= c < 1; l(m) = m for m <= 3, 3 for m = 4, 4 above. That is one addition of exponent and mantissa as one integer; signs multiply
//! Shapes     weight W [out, in]; inputs X [T, in]; relative error ||Y' - Y||_F / ||Y||_F with Y = X W^T, both sums in f64
//! Needs      inputs
//! Parameters m, bits of the mantissas, 1..=23
//! Cost       two emulated multiplications for each exact one: for reports, not for running
//! Departs    multiplication changes, not the weight, so there is no encoding of this name; sums are exact, where the source has 8-bit or f32 sums; operands below the smallest normal number count as 0
//! Errors     none; no inputs, or outputs that are all 0, have no relative error
//! Exactness  0: equal to goldens/metric/l_mul

use pare_model::matrix::Matrix;

/// Bits of the mantissa of an f32.
const MANTISSA: u32 = 23;

/// What [`accuracy`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// Relative error of dot products of L-Mul.
    pub l_mul: f64,
    /// The same when the rounded operands are multiplied exactly: the share of the error that the mantissas alone make.
    pub rounded: f64,
}

/// The product of `a` and `b` by L-Mul with mantissas of `bits` bits. Not finite when an operand is not, or when it overflows.
///
/// # Panics
/// When `bits` is not within `1..=23`: a programmer's mistake.
#[track_caller]
pub fn l_mul(a: f32, b: f32, bits: u32) -> f32 {
    assert!((1..=MANTISSA).contains(&bits), "a mantissa of {bits} bits");
    if !a.is_finite() || !b.is_finite() {
        return a * b;
    }
    let sign = (a.to_bits() ^ b.to_bits()) & (1 << 31);
    let (x, y) = (field(a, bits), field(b, bits));
    if x == 0 || y == 0 {
        return f32::from_bits(sign);
    }
    let shift = match bits {
        ..=3 => bits,
        4 => 3,
        _ => 4,
    };
    let infinity = 255_i64 << bits;
    let sum = i64::from(x) + i64::from(y) + (1 << (bits - shift)) - (127 << bits);
    let sum = if i64::from(x.max(y)) >= infinity { infinity } else { sum.min(infinity) };
    // Below the smallest normal number there is nothing but 0.
    let magnitude = if sum < 1 << bits { 0 } else { (sum as u32) << (MANTISSA - bits) };
    f32::from_bits(sign | magnitude)
}

/// Exponent and rounded mantissa as one integer; 0 for numbers below the smallest normal one.
fn field(a: f32, bits: u32) -> u32 {
    let magnitude = a.to_bits() & !(1 << 31);
    if magnitude >> MANTISSA == 0 {
        return 0;
    }
    let dropped = MANTISSA - bits;
    let half = (1_u32 << dropped) >> 1;
    // A carry out of the mantissa belongs into the exponent, which stands above it.
    let odd = magnitude >> dropped & 1;
    if dropped == 0 { magnitude } else { (magnitude + half - 1 + odd) >> dropped }
}

/// `a` with its mantissa rounded.
fn rounded(a: f32, bits: u32) -> f64 {
    let magnitude = f64::from(f32::from_bits(field(a, bits) << (MANTISSA - bits)));
    if a.is_sign_negative() { -magnitude } else { magnitude }
}

/// Relative error of the dot products of `weight` with the rows of `inputs`, `[T, in]`, when they are formed by L-Mul; none without
/// inputs, or when every dot product is 0.
///
/// # Panics
/// When `inputs` is not whole rows, or `bits` not within `1..=23`: a programmer's mistake.
#[track_caller]
pub fn accuracy(weight: &Matrix, inputs: &[f32], bits: u32) -> Option<Accuracy> {
    let width = weight.cols();
    assert!(width > 0 && inputs.len().is_multiple_of(width), "{} inputs are not rows of {width}", inputs.len());
    let (mut exact, mut of_l_mul, mut of_rounding) = (0.0, 0.0, 0.0);
    for x in inputs.chunks_exact(width) {
        for row in 0..weight.rows() {
            let pairs = || weight.row(row).iter().zip(x);
            let whole: f64 = pairs().map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            let by_l_mul: f64 = pairs().map(|(&w, &x)| f64::from(l_mul(w, x, bits))).sum();
            let by_rounding: f64 = pairs().map(|(&w, &x)| rounded(w, bits) * rounded(x, bits)).sum();
            exact += whole * whole;
            of_l_mul += (by_l_mul - whole).powi(2);
            of_rounding += (by_rounding - whole).powi(2);
        }
    }
    let relative = |error: f64| (error / exact).sqrt();
    (exact > 0.0).then(|| Accuracy { l_mul: relative(of_l_mul), rounded: relative(of_rounding) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_by_hand() {
        // 3 bits, l = 3: 1.5 * 1.25 is 1 + 0.5 + 0.25 + 0.125 = 1.875, exactly that of 1.5 * 1.25.
        assert_eq!(l_mul(1.5, 1.25, 3), 1.875);
        // 1 * 1 gets the offset too: 1.125. Signs multiply, exponents add.
        assert_eq!(l_mul(1.0, -1.0, 3), -1.125);
        assert_eq!(l_mul(-4.0, -0.5, 3), 2.25);
        // 4 bits, l = 3: 0.5 + 0.75 + 0.125 carries: 2 (1 + 0.375), where the product is 2.625.
        assert_eq!(l_mul(1.5, 1.75, 4), 2.75);
        // 4 bits: 0.9375 + 0.9375 + 0.125 = 2 carries twice.
        assert_eq!(l_mul(1.9375, 1.9375, 4), 4.0);
        // 6 bits, l = 4.
        assert_eq!(l_mul(1.0, 1.0, 6), 1.0625);
        // 1 bit: 1.25 lies between 1 and 1.5 and goes to the even 1; 1.75 to 2.
        assert_eq!((l_mul(1.25, 1.0, 1), l_mul(1.75, 1.0, 1)), (1.5, 3.0));
    }

    #[test]
    fn zeros_and_ends_of_the_range() {
        let tiny = f32::MIN_POSITIVE;
        assert_eq!(l_mul(0.0, 5.0, 4), 0.0);
        assert!(l_mul(-0.0, 5.0, 4).is_sign_negative());
        assert_eq!((l_mul(tiny / 2.0, 5.0, 4), l_mul(tiny, 0.25, 4), l_mul(tiny, 1.0, 4)), (0.0, 0.0, tiny * 1.125));
        assert_eq!((l_mul(1e30, -1e30, 4), l_mul(f32::MAX, 0.5, 4)), (f32::NEG_INFINITY, f32::INFINITY));
        assert!(l_mul(f32::NAN, 1.0, 4).is_nan() && l_mul(f32::INFINITY, 0.0, 4).is_nan());
    }

    #[test]
    fn accuracy_by_hand() {
        // 1 * 1 + 2 * 1.5 = 4; by L-Mul of 3 bits 1.125 + 3.25 = 4.375; the operands themselves need no rounding.
        let weight = Matrix::from_vec(1, 2, vec![1.0, 2.0]);
        assert_eq!(accuracy(&weight, &[1.0, 1.5], 3), Some(Accuracy { l_mul: 0.375 / 4.0, rounded: 0.0 }));
        assert_eq!(accuracy(&weight, &[], 3), None);
        assert_eq!(accuracy(&weight, &[0.0, 0.0], 3), None);
    }
}
