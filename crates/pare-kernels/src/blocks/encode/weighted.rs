//! Scales of blocks of 32 for weighted values: several widths of the grid, each refitted to its codes.

use super::k::sum;

/// Narrower and wider grids that are tried.
const WIDTHS: usize = 20;
/// Rounds of codes and line in turn.
const ROUNDS: usize = 4;

/// `q * step + offset` with codes from `low` to `high`.
#[derive(Clone, Copy)]
struct Fit {
    step: f32,
    offset: f32,
    error: f32,
}

/// 32 values and how much the error of each counts.
pub(super) struct Weighted<'a> {
    pub(super) x: &'a [f32; 32],
    pub(super) w: &'a [f32; 32],
    /// Codes, counted from the middle.
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) has_offset: bool,
}

impl Weighted<'_> {
    #[inline(always)]
    fn codes(&self, step: f32, offset: f32) -> [f32; 32] {
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        self.x.map(|x| ((x - offset) * inverse).round_ties_even().clamp(self.low, self.high))
    }

    #[inline(always)]
    fn error(&self, q: &[f32; 32], step: f32, offset: f32) -> f32 {
        sum::<32>(|i| {
            let off = q[i] * step + offset - self.x[i];
            self.w[i] * off * off
        })
    }

    /// The line of least weighted squares through codes `q`; none when they do not fix one.
    #[inline(always)]
    fn through(&self, q: &[f32; 32]) -> Option<(f32, f32)> {
        let Self { x, w, .. } = self;
        let (qq, qx) = (sum::<32>(|i| w[i] * q[i] * q[i]), sum::<32>(|i| w[i] * q[i] * x[i]));
        let line = match self.has_offset {
            false => (qx / qq, 0.0),
            true => {
                let (one, wx, wq) = (sum::<32>(|i| w[i]), sum::<32>(|i| w[i] * x[i]), sum::<32>(|i| w[i] * q[i]));
                let determinant = one * qq - wq * wq;
                ((one * qx - wx * wq) / determinant, (qq * wx - wq * qx) / determinant)
            }
        };
        (line.0.is_finite() && line.1.is_finite() && line.0 != 0.0).then_some(line)
    }

    /// The best line from this one on: its codes, the line through them, and so on.
    #[inline(always)]
    fn settle(&self, step: f32, offset: f32, rounds: usize) -> Fit {
        let mut codes = self.codes(step, offset);
        let mut best = Fit { step, offset, error: self.error(&codes, step, offset) };
        for _ in 0..rounds {
            let Some((step, offset)) = self.through(&codes) else { break };
            codes = self.codes(step, offset);
            let error = self.error(&codes, step, offset);
            // Not for NaN either.
            if error < best.error {
                best = Fit { step, offset, error };
            } else {
                break;
            }
        }
        best
    }

    /// Step and offset of the best line found.
    #[inline(always)]
    pub(super) fn search(&self) -> (f32, f32) {
        let (least, most) = self.x.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        let extreme = if most.abs() > least.abs() { most } else { least };
        let mut best = Fit { step: 0.0, offset: 0.0, error: f32::INFINITY };
        let mut take = |fit: Fit| {
            if fit.error < best.error {
                best = fit;
            }
        };
        for width in 0..WIDTHS {
            // From a little wider than the values to two thirds of them.
            let share = 1.04 - 0.02 * width as f32;
            if self.has_offset {
                let span = (most - least) * share;
                for side in [0.0, 0.5, 1.0] {
                    let offset = least + (most - least - span) * side;
                    take(self.settle(span / self.high, offset, 1));
                }
            } else {
                take(self.settle(extreme * share / self.low, 0.0, 1));
                take(self.settle(extreme * share / self.high, 0.0, 1));
            }
        }
        if best.error == f32::INFINITY {
            return (0.0, 0.0);
        }
        let best = self.settle(best.step, best.offset, ROUNDS);
        (best.step, best.offset)
    }
}
