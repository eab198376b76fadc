use super::*;
use crate::reference::{numbers, same_bits};

const LENGTHS: [usize; 10] = [0, 1, 2, 15, 16, 31, 32, 33, 100, 577];

/// Runs `work` on every set and checks that all give the same bits; returns them.
fn on_every_set(work: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
    let portable = work(Isa::PORTABLE);
    for isa in Isa::available() {
        assert!(same_bits(&work(isa), &portable), "{}", isa.name());
    }
    portable
}

fn close(found: &[f32], expected: impl Iterator<Item = f64>, tolerance: f64) {
    for (i, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1e-6), "{i}: {found} is not {expected}");
    }
}

#[test]
fn exp_is_within_two_units_everywhere() {
    let mut worst = 0.0f64;
    for bits in (0..=u32::MAX).step_by(4099) {
        let x = f32::from_bits(bits);
        let (found, exact) = (exp(x), f64::from(x).exp());
        if x.is_nan() {
            assert!(found.is_nan());
        } else if exact > f64::from(f32::MAX) * 1.000_000_03 {
            assert_eq!(found, f32::INFINITY, "exp({x})");
        } else {
            let nearest = exact as f32;
            let unit = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
            worst = worst.max((f64::from(found) - exact).abs() / unit);
        }
    }
    assert!(worst <= 2.0, "{worst} units");
    assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
    assert_eq!(exp(f32::INFINITY), f32::INFINITY);
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(-0.0), 1.0);
    assert_eq!(exp(88.8), f32::INFINITY);
    assert!(exp(88.7).is_finite());
}

#[test]
fn silu_product_follows_its_formula() {
    for length in LENGTHS {
        let (gate, up) = (numbers(1, length), numbers(2, length));
        let gate: Vec<f32> = gate.iter().map(|g| g * 30.0).collect();
        let found = on_every_set(|isa| {
            let mut gate = gate.clone();
            silu_product_on(isa, &mut gate, &up);
            gate
        });
        let exact = gate.iter().zip(&up).map(|(&g, &u)| f64::from(g) / (1.0 + (-f64::from(g)).exp()) * f64::from(u));
        close(&found, exact, 1e-6);
    }
}

#[test]
fn softmax_follows_its_formula() {
    for length in LENGTHS {
        let row: Vec<f32> = numbers(3, length).iter().map(|x| x * 9.0).collect();
        for scale in [1.0, 0.125] {
            let found = on_every_set(|isa| {
                let mut row = row.clone();
                softmax_on(isa, &mut row, scale);
                row
            });
            let exps: Vec<f64> = row.iter().map(|&x| f64::from(x * scale).exp()).collect();
            let sum: f64 = exps.iter().sum();
            close(&found, exps.iter().map(|e| e / sum), 2e-6);
        }
    }
    let mut masked = [f32::NEG_INFINITY, 1.0, 1.0];
    softmax(&mut masked);
    assert_eq!(masked, [0.0, 0.5, 0.5]);
}

#[test]
fn rms_norm_follows_its_formula() {
    for length in &LENGTHS[1..] {
        let (x, gain) = (numbers(4, *length), numbers(5, *length));
        let found = on_every_set(|isa| {
            let mut y = vec![0.0; *length];
            rms_norm_on(isa, &x, &gain, 1e-5, &mut y);
            let mut in_place = x.clone();
            rms_norm_in_place_on(isa, &mut in_place, &gain, 1e-5);
            assert_eq!(in_place, y);
            y
        });
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / *length as f64;
        let scale = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
        close(&found, x.iter().zip(&gain).map(|(&x, &g)| f64::from(x) * scale * f64::from(g)), 1e-6);
    }
}

#[test]
fn log_sum_exp_follows_its_formula() {
    for length in &LENGTHS[1..] {
        let row: Vec<f32> = numbers(6, *length).iter().map(|x| x * 20.0).collect();
        let exact = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        let portable = log_sum_exp_on(Isa::PORTABLE, &row);
        assert!((portable - exact).abs() < 1e-6 * exact.abs().max(1.0), "{portable} is not {exact}");
        for isa in Isa::available() {
            assert_eq!(log_sum_exp_on(isa, &row).to_bits(), portable.to_bits());
        }
    }
    assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
    assert_eq!(log_sum_exp(&[f32::NEG_INFINITY; 3]), f64::NEG_INFINITY);
    assert_eq!(log_sum_exp(&[f32::INFINITY, 1.0]), f64::INFINITY);
    assert!(log_sum_exp(&[f32::NEG_INFINITY, f32::NAN]).is_nan());
    assert_eq!(log_sum_exp(&[1000.0, 1000.0]), 1000.0 + 2f64.ln());
}

#[test]
fn a_quarter_turn_swaps_the_halves() {
    let mut x = [1.0, 2.0, 3.0, 4.0];
    rotate(&mut x, &[0.0, 0.0], &[1.0, 1.0]);
    assert_eq!(x, [-3.0, -4.0, 1.0, 2.0]);
    let angles = numbers(7, 33);
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    on_every_set(|isa| {
        let mut x = numbers(8, 3 * 66);
        rotate_on(isa, &mut x, &cos, &sin);
        x
    });
}

#[test]
fn add_adds() {
    for length in LENGTHS {
        let (x, y) = (numbers(9, length), numbers(10, length));
        let found = on_every_set(|isa| {
            let mut y = y.clone();
            add_on(isa, &mut y, &x);
            y
        });
        assert!(found.iter().zip(x.iter().zip(&y)).all(|(sum, (x, y))| *sum == y + x));
    }
}
