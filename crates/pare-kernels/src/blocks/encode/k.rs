//! The blocks of 256 with scales and minima: groups are fitted one by one, then rounded to what the block can hold, together.

use super::{halved, put_half};

/// Steps of one search over the width of a group's grid.
pub(super) const WIDTHS: usize = 21;
/// Rounds of refitting the two scales of a block to the codes, and the codes to them.
pub(super) const ROUNDS: usize = 2;

/// Sums in eight lanes, in an order fixed by `N` alone.
#[inline(always)]
pub(super) fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    for start in (0..N).step_by(8) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// 32 values and how much the error of each counts.
struct Group {
    x: [f32; 32],
    w: [f32; 32],
}

/// `q * scale - min`, `min >= 0`.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    min: f32,
}

impl Group {
    /// Errors of large values count for more: by their magnitude, above a floor of the root mean square.
    #[inline(always)]
    fn new(x: &[f32; 32]) -> Self {
        let floor = (sum::<32>(|i| x[i] * x[i]) / 32.0).sqrt();
        Self { x: *x, w: x.map(|x| floor + x.abs()) }
    }

    #[inline(always)]
    fn codes(&self, line: Line, top: f32) -> [f32; 32] {
        let inverse = if line.scale > 0.0 { 1.0 / line.scale } else { 0.0 };
        self.x.map(|x| ((x + line.min) * inverse).round_ties_even().clamp(0.0, top))
    }

    #[inline(always)]
    fn error(&self, q: &[f32; 32], line: Line) -> f32 {
        sum::<32>(|i| {
            let off = q[i] * line.scale - line.min - self.x[i];
            self.w[i] * off * off
        })
    }

    #[inline(always)]
    fn error_of(&self, line: Line, top: f32) -> f32 {
        self.error(&self.codes(line, top), line)
    }

    /// From the smallest to the largest value; zero is always inside.
    #[inline(always)]
    fn span(&self, steps: f32) -> Line {
        let (low, high) = self.x.iter().fold((0.0f32, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        Line { scale: (high - low).max(0.0) / steps, min: -low }
    }

    /// The line of least weighted squares through codes `q`; none when they do not fix one.
    #[inline(always)]
    fn fit(&self, q: &[f32; 32]) -> Option<Line> {
        let Self { x, w } = self;
        let (sw, swx) = (sum::<32>(|i| w[i]), sum::<32>(|i| w[i] * x[i]));
        let (swq, swqq) = (sum::<32>(|i| w[i] * q[i]), sum::<32>(|i| w[i] * q[i] * q[i]));
        let swxq = sum::<32>(|i| w[i] * x[i] * q[i]);
        let determinant = sw * swqq - swq * swq;
        let mut line =
            Line { scale: (sw * swxq - swx * swq) / determinant, min: -(swqq * swx - swq * swxq) / determinant };
        if line.min < 0.0 {
            line = Line { scale: swxq / swqq, min: 0.0 };
        }
        (determinant > 0.0 && line.scale > 0.0 && line.scale.is_finite() && line.min.is_finite()).then_some(line)
    }

    /// The best line found: grids of several widths, each refitted to its codes; then codes and line in turn.
    #[inline(always)]
    fn search(&self, top: f32) -> Line {
        let mut best = self.span(top);
        let mut least = self.error_of(best, top);
        for step in 0..WIDTHS {
            let codes = self.codes(self.span(top - 1.0 + 0.1 * step as f32), top);
            let Some(line) = self.fit(&codes) else { continue };
            let error = self.error(&codes, line);
            if error < least {
                (best, least) = (line, error);
            }
        }
        for _ in 0..4 {
            let codes = self.codes(best, top);
            let Some(line) = self.fit(&codes) else { break };
            let error = self.error(&codes, line);
            if error >= least {
                break;
            }
            (best, least) = (line, error);
        }
        best
    }
}

/// The scales of a block of 256: two f16 numbers, and 6 bits twice for each group.
#[derive(Clone, Copy)]
struct Scales {
    d: f32,
    dmin: f32,
    /// Scale and minimum of each group, in steps of `d` and `dmin`.
    groups: [(f32, f32); 8],
}

impl Scales {
    #[inline(always)]
    fn line(&self, group: usize) -> Line {
        let (scale, min) = self.groups[group];
        Line { scale: self.d * scale, min: self.dmin * min }
    }

    #[inline(always)]
    fn error(&self, groups: &[Group; 8], top: f32) -> f32 {
        groups.iter().enumerate().map(|(at, group)| group.error_of(self.line(at), top)).sum()
    }

    /// Steps such that the largest of `lines` has step 63, and the others rounded.
    #[inline(always)]
    fn around(lines: &[Line; 8]) -> Self {
        let most = |of: fn(&Line) -> f32| halved(lines.iter().map(of).fold(0.0, f32::max) / 63.0);
        let (d, dmin) = (most(|line| line.scale), most(|line| line.min));
        let steps = |value: f32, step: f32| if step > 0.0 { (value / step).round_ties_even().min(63.0) } else { 0.0 };
        Self { d, dmin, groups: lines.map(|line| (steps(line.scale, d), steps(line.min, dmin))) }
    }

    /// Moves each group's steps by at most one, to where its error is least.
    #[inline(always)]
    fn settle(&mut self, groups: &[Group; 8], top: f32) {
        for (at, group) in groups.iter().enumerate() {
            let (scale, min) = self.groups[at];
            let mut least = f32::INFINITY;
            for scale in [scale, scale - 1.0, scale + 1.0] {
                for min in [min, min - 1.0, min + 1.0] {
                    if !(0.0..=63.0).contains(&scale) || !(0.0..=63.0).contains(&min) {
                        continue;
                    }
                    let error = group.error_of(Line { scale: self.d * scale, min: self.dmin * min }, top);
                    if error < least {
                        least = error;
                        self.groups[at] = (scale, min);
                    }
                }
            }
        }
    }

    /// `d` and `dmin` of least weighted squares for the codes that belong to these scales.
    #[inline(always)]
    fn refit(&self, groups: &[Group; 8], top: f32) -> Option<Self> {
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (at, group) in groups.iter().enumerate() {
            let q = group.codes(self.line(at), top);
            let (scale, min) = self.groups[at];
            let Group { x, w } = group;
            let (scale, min) = (f64::from(scale), f64::from(min));
            aa += scale * scale * f64::from(sum::<32>(|i| w[i] * q[i] * q[i]));
            ab -= scale * min * f64::from(sum::<32>(|i| w[i] * q[i]));
            bb += min * min * f64::from(sum::<32>(|i| w[i]));
            ax += scale * f64::from(sum::<32>(|i| w[i] * q[i] * x[i]));
            bx -= min * f64::from(sum::<32>(|i| w[i] * x[i]));
        }
        let determinant = aa * bb - ab * ab;
        let (d, dmin) = match bb > 0.0 {
            true => ((ax * bb - bx * ab) / determinant, (aa * bx - ab * ax) / determinant),
            false => (ax / aa, 0.0),
        };
        let (d, dmin) = (halved(d as f32), halved(dmin as f32));
        (d > 0.0 && dmin >= 0.0 && d.is_finite() && dmin.is_finite()).then_some(Self { d, dmin, ..*self })
    }

    /// The best scales found for a block.
    #[inline(always)]
    fn search(groups: &[Group; 8], top: f32) -> Self {
        let plain = Self::around(&std::array::from_fn(|at| groups[at].span(top)));
        let mut best = Self::around(&std::array::from_fn(|at| groups[at].search(top)));
        best.settle(groups, top);
        let mut least = best.error(groups, top);
        let simple = plain.error(groups, top);
        if simple < least {
            (best, least) = (plain, simple);
        }
        for _ in 0..ROUNDS {
            let Some(mut next) = best.refit(groups, top) else { break };
            next.settle(groups, top);
            let error = next.error(groups, top);
            if error >= least {
                break;
            }
            (best, least) = (next, error);
        }
        best
    }

    /// Twelve bytes: six bits of each scale and each minimum.
    #[inline(always)]
    fn packed(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (at, &(scale, min)) in self.groups.iter().enumerate() {
            let (scale, min) = (scale as u8, min as u8);
            if at < 4 {
                bytes[at] |= scale;
                bytes[at + 4] |= min;
            } else {
                bytes[at + 4] = (scale & 0x0f) | (min << 4);
                bytes[at - 4] |= scale >> 4 << 6;
                bytes[at] |= min >> 4 << 6;
            }
        }
        bytes
    }
}

/// Scales and codes of a block whose codes go from 0 to `top`.
#[inline(always)]
fn lines(values: &[f32; 256], top: f32) -> (Scales, [[u8; 32]; 8]) {
    let (groups, _) = values.as_chunks::<32>();
    let groups: [Group; 8] = std::array::from_fn(|at| Group::new(&groups[at]));
    let scales = Scales::search(&groups, top);
    (scales, std::array::from_fn(|at| groups[at].codes(scales.line(at), top).map(|code| code as u8)))
}

/// Two groups in the two halves of 32 bytes.
#[inline(always)]
fn put_pairs(codes: &[[u8; 32]; 8], out: &mut [u8]) {
    for (pair, bytes) in out.chunks_exact_mut(32).enumerate() {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (codes[2 * pair][i] & 0x0f) | (codes[2 * pair + 1][i] << 4);
        }
    }
}

#[inline(always)]
pub(super) fn q4(values: &[f32; 256], block: &mut [u8; 144]) {
    let (scales, codes) = lines(values, 15.0);
    put_half(block, 0, scales.d);
    put_half(block, 2, scales.dmin);
    block[4..16].copy_from_slice(&scales.packed());
    put_pairs(&codes, &mut block[16..]);
}

#[inline(always)]
pub(super) fn q5(values: &[f32; 256], block: &mut [u8; 176]) {
    let (scales, codes) = lines(values, 31.0);
    put_half(block, 0, scales.d);
    put_half(block, 2, scales.dmin);
    block[4..16].copy_from_slice(&scales.packed());
    for i in 0..32 {
        block[16 + i] = (0..8).fold(0, |byte, group| byte | (codes[group][i] >> 4 & 1) << group);
    }
    put_pairs(&codes, &mut block[48..]);
}

/// `d`, `dmin` and the small scales and minima for values whose errors count by `weights`.
#[inline(always)]
pub(super) fn weighted(values: &[f32], weights: &[f32], top: f32) -> (f32, f32, [u8; 16]) {
    let (values, _) = values.as_chunks::<32>();
    let (weights, _) = weights.as_chunks::<32>();
    let groups: [Group; 8] = std::array::from_fn(|at| Group { x: values[at], w: weights[at] });
    let scales = Scales::search(&groups, top);
    let small = |at: usize| if at.is_multiple_of(2) { scales.groups[at / 2].0 } else { scales.groups[at / 2].1 };
    (scales.d, scales.dmin, std::array::from_fn(|at| small(at) as u8))
}
