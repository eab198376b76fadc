use super::*;
use crate::reference::{numbers, same_bits, sizes};

#[test]
fn every_kernel_folds_as_three_lines_do() {
    for isa in Isa::available() {
        for &depth in sizes(&[0, 1, 2, 31, 192, 193], &[0, 3]) {
            for &rows in sizes(&[0, 1, 2, 3, 7, 12, 13, 40], &[0, 1, 3]) {
                for (width, accumulate) in [(1, false), (15, true), (16, false), (31, true), (32, false), (32, true)] {
                    let (x_stride, y_stride) = (depth + 3, 37);
                    let x = numbers(1, rows * x_stride);
                    let panel = numbers(2, depth * PANEL);
                    let before = numbers(3, rows * y_stride);
                    let (mut y, mut expected) = (before.clone(), before);
                    multiply_panel_on(isa, &x, x_stride, rows, &panel, depth, &mut y, y_stride, width, accumulate);
                    for r in 0..rows {
                        for o in 0..width {
                            let mut acc = if accumulate { expected[r * y_stride + o] } else { 0.0 };
                            for k in 0..depth {
                                acc = x[r * x_stride + k].mul_add(panel[k * PANEL + o], acc);
                            }
                            expected[r * y_stride + o] = acc;
                        }
                    }
                    assert!(same_bits(&y, &expected), "{} {rows}x{depth}x{width}", isa.name());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "x is too short")]
fn a_short_input_is_refused() {
    multiply_panel(&[0.0; 9], 5, 2, &[0.0; 160], 5, &mut [0.0; 64], 32, 32, false);
}

#[test]
#[should_panic(expected = "y is too short")]
fn a_short_output_is_refused() {
    multiply_panel(&[0.0; 10], 5, 2, &[0.0; 160], 5, &mut [0.0; 63], 32, 32, false);
}
