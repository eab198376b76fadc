//! Functions of one row: softmax, norms, activations, rotations. Same bits on every instruction set.

/// `e^x`, within 2 units in the last place; `exp(-inf) = 0`, infinite from about 88.73, NaN for NaN.
pub fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// `gate = silu(gate) * up`, where `silu(g) = g / (1 + exp(-g))`.
///
/// # Panics
/// When the lengths differ.
pub fn silu_product(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    for (gate, &up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// `row[i] = exp(row[i] - max) / sum`. The order of the sum depends on the length alone. A row of nothing but `-inf`, or with a NaN,
/// becomes NaN; an empty one stays empty.
pub fn softmax(row: &mut [f32]) {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    row.iter_mut().for_each(|x| *x = exp(*x - max));
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// `y[i] = x[i] / sqrt(mean of squares + eps) * gain[i]`, the mean in f64.
///
/// # Panics
/// When the lengths differ.
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    assert_eq!(x.len(), gain.len(), "x and gain");
    assert_eq!(x.len(), y.len(), "x and y");
    let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len() as f64;
    let scale = (1.0 / (mean + f64::from(eps)).sqrt()) as f32;
    for ((y, &x), &gain) in y.iter_mut().zip(x).zip(gain) {
        *y = x * scale * gain;
    }
}

/// `y += x`.
///
/// # Panics
/// When the lengths differ.
pub fn add(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "y and x");
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
}

/// `ln(sum of exp(row[i]))`, the sum in f64; `-inf` for an empty row.
pub fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    f64::from(max) + row.iter().map(|&x| f64::from(exp(x - max))).sum::<f64>().ln()
}

/// Rotates heads of width `D = 2 * cos.len()`, in the half-split layout: for `i < D / 2`,
/// `(x[i], x[i + D/2]) = (x[i] * cos[i] - x[i + D/2] * sin[i], x[i + D/2] * cos[i] + x[i] * sin[i])`.
///
/// # Panics
/// When `cos` and `sin` differ in length or `x` is not whole heads.
pub fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert_eq!(cos.len(), sin.len(), "cos and sin");
    let half = cos.len();
    if half == 0 {
        return assert!(x.is_empty(), "heads of width 0");
    }
    assert!(x.len().is_multiple_of(2 * half), "x is not heads of {}", 2 * half);
    for head in x.chunks_exact_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        for i in 0..half {
            let (a, b) = (low[i], high[i]);
            low[i] = a * cos[i] - b * sin[i];
            high[i] = b * cos[i] + a * sin[i];
        }
    }
}
