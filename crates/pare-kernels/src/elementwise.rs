//! Functions of one row: softmax, norms, activations, rotations. The same bits on every instruction set.

use crate::isa::{Isa, versions};

/// Lanes of every f32 reduction; lane `l` takes elements `l`, `l + 32` ... in order, then halves are added to halves.
const LANES: usize = 32;
/// Lanes of every f64 reduction.
const WIDE_LANES: usize = 16;

/// `e^x`, within 2 units in the last place; `exp(-inf) = 0`, infinite from about 88.73, NaN for NaN.
pub fn exp(x: f32) -> f32 {
    exp_value(x)
}

/// `gate = silu(gate) * up`, where `silu(g) = g / (1 + exp(-g))`.
///
/// # Panics
/// When the lengths differ.
pub fn silu_product(gate: &mut [f32], up: &[f32]) {
    silu_product_on(Isa::detect(), gate, up);
}

/// `row[i] = exp(row[i] - max) / sum`. The order of the sum depends on the length alone. A row of nothing but `-inf`,
/// with `inf` or with NaN becomes NaN; an empty one stays empty.
pub fn softmax(row: &mut [f32]) {
    softmax_on(Isa::detect(), row, 1.0);
}

/// [`softmax`] of `scale * row[i]`.
pub fn scaled_softmax(row: &mut [f32], scale: f32) {
    softmax_on(Isa::detect(), row, scale);
}

/// `y[i] = x[i] / sqrt(mean of squares + eps) * gain[i]`, the mean in f64.
///
/// # Panics
/// When the lengths differ.
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    rms_norm_on(Isa::detect(), x, gain, eps, y);
}

/// `x[i] = x[i] / sqrt(mean of squares + eps) * gain[i]`, with the bits of [`rms_norm`].
///
/// # Panics
/// When the lengths differ.
pub fn rms_norm_in_place(x: &mut [f32], gain: &[f32], eps: f32) {
    rms_norm_in_place_on(Isa::detect(), x, gain, eps);
}

/// `y += x`.
///
/// # Panics
/// When the lengths differ.
pub fn add(y: &mut [f32], x: &[f32]) {
    add_on(Isa::detect(), y, x);
}

/// `y[i] = fold over r in order of fma(-a[r], rows[r * stride + i], acc)`, from `acc = y[i]`.
///
/// # Panics
/// When a row ends beyond `rows`.
pub fn subtract_rows(y: &mut [f32], a: &[f32], rows: &[f32], stride: usize) {
    subtract_rows_on(Isa::detect(), y, a, rows, stride);
}

/// `ln(sum of exp(row[i]))`, the sum in f64; `-inf` for an empty row.
pub fn log_sum_exp(row: &[f32]) -> f64 {
    log_sum_exp_on(Isa::detect(), row)
}

/// Rotates heads of width `D = 2 * cos.len()`, in the half-split layout: for `i < D / 2`,
/// `(x[i], x[i + D/2]) = (x[i] * cos[i] - x[i + D/2] * sin[i], x[i + D/2] * cos[i] + x[i] * sin[i])`, each product and
/// sum rounded.
///
/// # Panics
/// When `cos` and `sin` differ in length or `x` is not whole heads.
pub fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    rotate_on(Isa::detect(), x, cos, sin);
}

versions!(silu_product_on, silu_product_body, (gate: &mut [f32], up: &[f32]));
versions!(softmax_on, softmax_body, (row: &mut [f32], scale: f32));
versions!(rms_norm_on, rms_norm_body, (x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]));
versions!(rms_norm_in_place_on, rms_norm_in_place_body, (x: &mut [f32], gain: &[f32], eps: f32));
versions!(add_on, add_body, (y: &mut [f32], x: &[f32]));
versions!(subtract_rows_on, subtract_rows_body, (y: &mut [f32], a: &[f32], rows: &[f32], stride: usize));
versions!(log_sum_exp_on, log_sum_exp_body, (row: &[f32]) -> f64);
versions!(rotate_on, rotate_body, (x: &mut [f32], cos: &[f32], sin: &[f32]));

#[inline(always)]
fn subtract_rows_body(y: &mut [f32], a: &[f32], rows: &[f32], stride: usize) {
    const WIDTH: usize = 64;
    let (wide, rest) = y.as_chunks_mut::<WIDTH>();
    let done = wide.len() * WIDTH;
    for (chunk, y) in wide.iter_mut().enumerate() {
        let mut sums = *y;
        for (r, &a) in a.iter().enumerate() {
            let row = &rows[r * stride + chunk * WIDTH..][..WIDTH];
            for i in 0..WIDTH {
                sums[i] = (-a).mul_add(row[i], sums[i]);
            }
        }
        *y = sums;
    }
    for (r, &a) in a.iter().enumerate() {
        let row = &rows[r * stride + done..][..rest.len()];
        for (y, &x) in rest.iter_mut().zip(row) {
            *y = (-a).mul_add(x, *y);
        }
    }
}

/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; then a polynomial in `r` of relative error 4e-9, times `2^n` in two steps so that
/// the smallest results are rounded once.
#[inline(always)]
fn exp_value(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    // Beyond these the result is 0 or infinite; a NaN passes.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = n.mul_add(-std::f32::consts::LN_2, x);
    let r = n.mul_add(1.904_654_2e-9, r);
    let p = 1.381_454e-3f32;
    let p = p.mul_add(r, 8.368_745e-3);
    let p = p.mul_add(r, 4.166_839e-2);
    let p = p.mul_add(r, 1.666_652_1e-1);
    let p = p.mul_add(r, 4.999_999_4e-1);
    let p = p.mul_add(r, 1.0).mul_add(r, 1.0);
    let n = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * power(half) * power(n.wrapping_sub(half))
}

#[inline(always)]
fn silu_product_body(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    for (gate, &up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp_value(-*gate)) * up;
    }
}

/// The largest value that is not NaN; `-inf` when there is none.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, tail) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |max, &x| larger(max, x))
}

#[inline(always)]
fn softmax_body(row: &mut [f32], scale: f32) {
    for x in row.iter_mut() {
        *x *= scale;
    }
    let max = maximum(row);
    let mut lanes = [0.0f32; LANES];
    let (chunks, tail) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp_value(*x - max);
            *lane += *x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail) {
        *x = exp_value(*x - max);
        *lane += *x;
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    for x in row.iter_mut() {
        *x /= lanes[0];
    }
}

/// Adds the upper half of the lanes to the lower until one is left.
#[inline(always)]
fn wide_sum(mut lanes: [f64; WIDE_LANES]) -> f64 {
    let mut width = WIDE_LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

#[inline(always)]
fn rms_norm_body(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    assert_eq!(x.len(), gain.len(), "x and gain");
    assert_eq!(x.len(), y.len(), "x and y");
    let scale = rms_scale(x, eps);
    for ((y, &x), &gain) in y.iter_mut().zip(x).zip(gain) {
        *y = x * scale * gain;
    }
}

#[inline(always)]
fn rms_norm_in_place_body(x: &mut [f32], gain: &[f32], eps: f32) {
    assert_eq!(x.len(), gain.len(), "x and gain");
    let scale = rms_scale(x, eps);
    for (x, &gain) in x.iter_mut().zip(gain) {
        *x = *x * scale * gain;
    }
}

/// One over the root of the mean of squares plus `eps`.
#[inline(always)]
fn rms_scale(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [0.0f64; WIDE_LANES];
    let (chunks, tail) = x.as_chunks::<WIDE_LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane += f64::from(x) * f64::from(x);
    }
    let mean = wide_sum(lanes) / x.len() as f64;
    (1.0 / (mean + f64::from(eps)).sqrt()) as f32
}

#[inline(always)]
fn add_body(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "y and x");
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[inline(always)]
fn log_sum_exp_body(row: &[f32]) -> f64 {
    let max = maximum(row);
    if max.is_infinite() && !row.iter().any(|x| x.is_nan()) {
        return f64::from(max);
    }
    let mut lanes = [0.0f64; WIDE_LANES];
    let (chunks, tail) = row.as_chunks::<WIDE_LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(exp_value(x - max));
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane += f64::from(exp_value(x - max));
    }
    f64::from(max) + wide_sum(lanes).ln()
}

#[inline(always)]
fn rotate_body(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert_eq!(cos.len(), sin.len(), "cos and sin");
    let half = cos.len();
    if half == 0 {
        return assert!(x.is_empty(), "heads of width 0");
    }
    assert!(x.len().is_multiple_of(2 * half), "x is not heads of {}", 2 * half);
    for head in x.chunks_exact_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        for (((low, high), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
        }
    }
}

#[cfg(test)]
mod tests;
