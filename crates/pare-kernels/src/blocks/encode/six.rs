//! The blocks of 256 with 6-bit codes around zero.

use super::k::{ROUNDS, WIDTHS, sum};
use super::{halved, put_half};

/// 16 values of a block of 6-bit codes from -32 to 31. Errors count by the square of the value.
struct Sixteen {
    x: [f32; 16],
    w: [f32; 16],
}

impl Sixteen {
    #[inline(always)]
    fn codes(&self, scale: f32) -> [f32; 16] {
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        self.x.map(|x| (x * inverse).round_ties_even().clamp(-32.0, 31.0))
    }

    #[inline(always)]
    fn error(&self, q: &[f32; 16], scale: f32) -> f32 {
        sum::<16>(|i| {
            let off = q[i] * scale - self.x[i];
            self.w[i] * off * off
        })
    }

    #[inline(always)]
    fn error_of(&self, scale: f32) -> f32 {
        self.error(&self.codes(scale), scale)
    }

    /// The scale that gives the value of the largest magnitude the code `-steps`.
    #[inline(always)]
    fn span(&self, steps: f32) -> f32 {
        self.x.iter().fold(0.0f32, |most, &x| if x.abs() > most.abs() { x } else { most }) / -steps
    }

    /// Sums over the codes that belong to `scale`: of `w q x` and `w q q`.
    #[inline(always)]
    fn moments(&self, q: &[f32; 16]) -> (f32, f32) {
        (sum::<16>(|i| self.w[i] * q[i] * self.x[i]), sum::<16>(|i| self.w[i] * q[i] * q[i]))
    }

    #[inline(always)]
    fn search(&self) -> f32 {
        let mut best = self.span(32.0);
        let mut least = self.error_of(best);
        for step in 0..WIDTHS {
            let codes = self.codes(self.span(31.0 + 0.1 * step as f32));
            let (qx, qq) = self.moments(&codes);
            let scale = qx / qq;
            let error = self.error(&codes, scale);
            // Not for NaN either.
            if error < least {
                (best, least) = (scale, error);
            }
        }
        best
    }
}

/// The scales of a block of 6-bit codes.
#[derive(Clone, Copy)]
struct Steps {
    d: f32,
    /// Scale of each group in steps of `d`, -128 to 127.
    groups: [f32; 16],
}

impl Steps {
    #[inline(always)]
    fn around(scales: &[f32; 16]) -> Self {
        let most = scales.iter().fold(0.0f32, |most, &scale| if scale.abs() > most.abs() { scale } else { most });
        let d = halved(most / -128.0);
        let step = |scale: f32| if d == 0.0 { 0.0 } else { (scale / d).round_ties_even().clamp(-128.0, 127.0) };
        Self { d, groups: scales.map(step) }
    }

    #[inline(always)]
    fn error(&self, groups: &[Sixteen; 16]) -> f32 {
        groups.iter().zip(self.groups).map(|(group, steps)| group.error_of(self.d * steps)).sum()
    }

    #[inline(always)]
    fn settle(&mut self, groups: &[Sixteen; 16]) {
        for (group, steps) in groups.iter().zip(&mut self.groups) {
            let mut least = group.error_of(self.d * *steps);
            for near in [*steps - 1.0, *steps + 1.0] {
                let error = group.error_of(self.d * near);
                if (-128.0..=127.0).contains(&near) && error < least {
                    (*steps, least) = (near, error);
                }
            }
        }
    }

    #[inline(always)]
    fn refit(&self, groups: &[Sixteen; 16]) -> Option<Self> {
        let (mut above, mut below) = (0.0f64, 0.0f64);
        for (group, steps) in groups.iter().zip(self.groups) {
            let (qx, qq) = group.moments(&group.codes(self.d * steps));
            above += f64::from(steps) * f64::from(qx);
            below += f64::from(steps) * f64::from(steps) * f64::from(qq);
        }
        let d = halved((above / below) as f32);
        (d != 0.0 && d.is_finite()).then_some(Self { d, ..*self })
    }

    #[inline(always)]
    fn search(groups: &[Sixteen; 16]) -> Self {
        let plain = Self::around(&std::array::from_fn(|at| groups[at].span(32.0)));
        let mut best = Self::around(&std::array::from_fn(|at| groups[at].search()));
        best.settle(groups);
        let mut least = best.error(groups);
        let simple = plain.error(groups);
        if simple < least {
            (best, least) = (plain, simple);
        }
        for _ in 0..ROUNDS {
            let Some(mut next) = best.refit(groups) else { break };
            next.settle(groups);
            let error = next.error(groups);
            if error >= least {
                break;
            }
            (best, least) = (next, error);
        }
        best
    }
}

#[inline(always)]
pub(super) fn q6(values: &[f32; 256], block: &mut [u8; 210]) {
    let (groups, _) = values.as_chunks::<16>();
    let groups: [Sixteen; 16] = std::array::from_fn(|at| Sixteen { x: groups[at], w: groups[at].map(|x| x * x) });
    let steps = Steps::search(&groups);
    let mut codes = [0u8; 256];
    for (at, group) in groups.iter().enumerate() {
        let found = group.codes(steps.d * steps.groups[at]);
        for (code, found) in codes[at * 16..].iter_mut().zip(found) {
            *code = (found + 32.0) as u8;
        }
        block[192 + at] = steps.groups[at] as i8 as u8;
    }
    put_half(block, 208, steps.d);
    for half in 0..2 {
        let codes = &codes[half * 128..];
        for i in 0..32 {
            let [a, b, c, d] = [codes[i], codes[i + 32], codes[i + 64], codes[i + 96]];
            block[half * 64 + i] = (a & 0x0f) | (c << 4);
            block[half * 64 + 32 + i] = (b & 0x0f) | (d << 4);
            block[128 + half * 32 + i] = (a >> 4) | (b >> 4 << 2) | (c >> 4 << 4) | (d >> 4 << 6);
        }
    }
}

/// `d` and the small scales for values whose errors count by `weights`.
#[inline(always)]
pub(super) fn weighted(values: &[f32], weights: &[f32]) -> (f32, [u8; 16]) {
    let (values, _) = values.as_chunks::<16>();
    let (weights, _) = weights.as_chunks::<16>();
    let groups: [Sixteen; 16] = std::array::from_fn(|at| Sixteen { x: values[at], w: weights[at] });
    let steps = Steps::search(&groups);
    (steps.d, steps.groups.map(|step| step as i8 as u8))
}
