//! One row: column by column with the error carried forward, then codes and scales by turns while the error falls.

use super::hessian::HessianFactor;
use pare_kernels::blocks::{BlockType, Line, Scales};
use pare_kernels::elementwise::subtract_rows;

/// Columns whose errors are carried to all later columns at once.
const STRIP: usize = 32;

/// How much work a row is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundingOptions {
    /// Carry the error of each column to the columns after it.
    pub carry: bool,
    /// Rounds over all codes and scales after that.
    pub rounds: usize,
}

/// Writes rows; holds the buffers that a row needs.
#[derive(Debug)]
pub struct Rounder<'a> {
    hessian: &'a HessianFactor,
    ty: BlockType,
    options: RoundingOptions,
    codes: Vec<u8>,
    scales: Vec<Scales>,
    /// What the codes stand for.
    values: Vec<f32>,
    /// Target minus values.
    off: Vec<f32>,
    /// Moments times `off`, negated.
    gradient: Vec<f32>,
    buffer: Vec<f32>,
}

impl<'a> Rounder<'a> {
    /// For rows of `hessian`'s inputs in blocks of `ty`; none when a row is no whole number of blocks.
    pub fn new(hessian: &'a HessianFactor, ty: BlockType, options: RoundingOptions) -> Option<Self> {
        let n = hessian.inputs();
        let zeros = || vec![0.0; n];
        n.is_multiple_of(ty.values_per_block()).then(|| Self {
            hessian,
            ty,
            options,
            codes: vec![0; n],
            scales: Vec::with_capacity(n / ty.values_per_block()),
            values: zeros(),
            off: zeros(),
            gradient: zeros(),
            buffer: zeros(),
        })
    }

    /// Writes the row `target` into `bytes`; its error is returned: `(target - values) H (target - values)`.
    ///
    /// # Panics
    /// When `target` or `bytes` are not one row.
    pub fn row(&mut self, target: &[f32], bytes: &mut [u8]) -> f64 {
        self.write(target, None, bytes)
    }

    /// As [`Rounder::row`], from these scales of the row's blocks on; without rounds they stay what they are.
    ///
    /// # Panics
    /// When `target` or `bytes` are not one row, or there is not one of `scales` for each block.
    pub fn row_in(&mut self, target: &[f32], scales: &[Scales], bytes: &mut [u8]) -> f64 {
        assert_eq!(scales.len() * self.ty.values_per_block(), self.hessian.inputs(), "scales of a row");
        self.write(target, Some(scales), bytes)
    }

    fn write(&mut self, target: &[f32], scales: Option<&[Scales]>, bytes: &mut [u8]) -> f64 {
        assert_eq!(target.len(), self.hessian.inputs(), "values of a row");
        self.sweep(target, scales);
        for ((off, target), value) in self.off.iter_mut().zip(target).zip(&self.values) {
            *off = target - value;
        }
        let mut error = self.update_gradient();
        for _ in 0..self.options.rounds {
            if !self.coordinate_descent() {
                break;
            }
            // Afresh, so that the rounding of many small changes does not add up.
            let next = self.update_gradient();
            let gain = error - next;
            error = next;
            if gain < 0.02 * error {
                break;
            }
        }
        let size = self.ty.values_per_block();
        let blocks = bytes.chunks_exact_mut(self.ty.bytes_per_block());
        for ((bytes, codes), scales) in blocks.zip(self.codes.chunks_exact(size)).zip(&self.scales) {
            self.ty.pack(codes, scales, bytes);
        }
        error
    }

    /// The values of the row that was written last.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Column by column: scales per block from what the columns are by then, or, in an order of the form's own, from what they are at
    /// first; the nearest code, the error carried forward.
    fn sweep(&mut self, target: &[f32], given: Option<&[Scales]>) {
        let (ty, n, hessian) = (self.ty, self.hessian.inputs(), self.hessian);
        let (size, group) = (ty.values_per_block(), ty.values_per_group());
        let ((low, high), middle) = (ty.code_range(), ty.middle());
        let wanted = &mut self.buffer;
        let order = hessian.order();
        self.scales.clear();
        match order {
            None => wanted.copy_from_slice(target),
            Some(order) => {
                // Blocks are finished in no order: their scales cannot wait for the errors that reach them.
                let of = |(block, values): (usize, &[f32])| {
                    let costs = &hessian.cost()[block * size..][..size];
                    given.map_or_else(|| ty.scales(values, costs), |given| given[block])
                };
                self.scales.extend(target.chunks_exact(size).enumerate().map(of));
                wanted.iter_mut().zip(order).for_each(|(wanted, &input)| *wanted = target[input]);
            }
        }
        let mut errors = [0.0f32; STRIP];
        for start in (0..n).step_by(STRIP) {
            if order.is_none() && start.is_multiple_of(size) {
                let block = start..start + size;
                self.scales.push(match given {
                    Some(given) => given[start / size],
                    None => ty.scales(&wanted[block.clone()], &hessian.cost()[block]),
                });
            }
            for j in start..start + STRIP {
                let input = order.map_or(j, |order| order[j]);
                let line = self.scales[input / size].line(ty, input % size / group);
                let code = line.nearest(wanted[j], middle, low, high);
                let value = line.value(code, middle);
                (self.codes[input], self.values[input]) = (code, value);
                let factor = &hessian.factor(j, j)[..start + STRIP - j];
                let error = (wanted[j] - value) / factor[0];
                errors[j - start] = error;
                if self.options.carry {
                    for (later, factor) in wanted[j + 1..start + STRIP].iter_mut().zip(&factor[1..]) {
                        *later -= error * factor;
                    }
                }
            }
            let next = start + STRIP;
            if self.options.carry && next < n {
                subtract_rows(&mut wanted[next..], &errors, hessian.factor(start, next), n);
            }
        }
    }

    /// Sets the gradient anew and gives the error.
    fn update_gradient(&mut self) -> f64 {
        self.gradient.fill(0.0);
        subtract_rows(&mut self.gradient, &self.off, self.hessian.all_moments(), self.hessian.inputs());
        -self.off.iter().zip(&self.gradient).map(|(&off, &gradient)| f64::from(off) * f64::from(gradient)).sum::<f64>()
    }

    /// One round: the line of each group, then each of its codes, to where the error is least while all else stays. Whether anything
    /// moved.
    fn coordinate_descent(&mut self) -> bool {
        let size = self.ty.values_per_group();
        let mut moved = false;
        for start in (0..self.hessian.inputs()).step_by(size) {
            moved |= self.move_line(start);
            moved |= self.move_codes(start);
        }
        moved
    }

    fn move_line(&mut self, start: usize) -> bool {
        let (ty, hessian, size) = (self.ty, self.hessian, self.ty.values_per_group());
        let (block, group) = (start / ty.values_per_block(), start % ty.values_per_block() / size);
        let (middle, own) = (ty.middle(), self.scales[block]);
        let line = own.line(ty, group);
        let codes = &self.codes[start..start + size];
        let mut steps = [0.0f32; STRIP];
        for (step, &code) in steps.iter_mut().zip(codes) {
            *step = (i32::from(code) - middle) as f32;
        }
        let steps = &steps[..size];
        // The quadratic form of (change of step, change of offset), and its gradient (negated moments times what is off).
        let (mut turned, mut negated) = ([0.0f32; STRIP], [0.0f32; STRIP]);
        negated.iter_mut().zip(steps).for_each(|(to, step)| *to = -step);
        subtract_rows(&mut turned[..size], &negated[..size], &hessian.moments_from(start)[start..], hessian.inputs());
        let (mut ss, mut so, mut oo, mut s, mut o) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for (i, &step) in steps.iter().enumerate() {
            let gradient = self.gradient[start + i];
            ss += step * turned[i];
            so += turned[i];
            oo += hessian.sum_beside(start + i);
            s -= step * gradient;
            o -= gradient;
        }
        let change = match ty.has_offset() {
            false => [s / ss, 0.0],
            true => {
                let determinant = ss * oo - so * so;
                [(oo * s - so * o) / determinant, (ss * o - so * s) / determinant]
            }
        };
        if !change.iter().all(|change| change.is_finite()) {
            return false;
        }
        let next = own.with_line(ty, group, Line { step: line.step + change[0], offset: line.offset + change[1] });
        if next == own {
            return false;
        }
        let next_line = next.line(ty, group);
        let (ds, d_o) = (next_line.step - line.step, next_line.offset - line.offset);
        let gain = 2.0 * (ds * s + d_o * o) - (ds * ds * ss + 2.0 * ds * d_o * so + d_o * d_o * oo);
        if gain.is_nan() || gain <= 0.0 {
            return false;
        }
        self.scales[block] = next;
        let mut moves = [0.0f32; STRIP];
        for (i, change) in moves[..size].iter_mut().enumerate() {
            let value = next_line.value(self.codes[start + i], middle);
            *change = self.values[start + i] - value;
            self.off[start + i] += *change;
            self.values[start + i] = value;
        }
        subtract_rows(&mut self.gradient, &moves[..size], hessian.moments_from(start), hessian.inputs());
        true
    }

    fn move_codes(&mut self, start: usize) -> bool {
        let (ty, hessian, size) = (self.ty, self.hessian, self.ty.values_per_group());
        let (block, group) = (start / ty.values_per_block(), start % ty.values_per_block() / size);
        let ((low, high), middle) = (ty.code_range(), ty.middle());
        let line = self.scales[block].line(ty, group);
        if line.step == 0.0 {
            return false;
        }
        let mut moved = false;
        for j in start..start + size {
            let moments = hessian.moments(j);
            let wanted = self.values[j] - self.gradient[j] / moments[j];
            let code = line.nearest(wanted, middle, low, high);
            if code == self.codes[j] {
                continue;
            }
            let value = line.value(code, middle);
            let change = self.values[j] - value;
            // Never uphill, whatever the rounding.
            if change * (2.0 * -self.gradient[j] + change * moments[j]) >= 0.0 {
                continue;
            }
            (self.codes[j], self.values[j]) = (code, value);
            self.off[j] += change;
            subtract_rows(&mut self.gradient, &[change], moments, hessian.inputs());
            moved = true;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARRY: RoundingOptions = RoundingOptions { carry: true, rounds: 0 };

    /// Moments of correlated inputs, from a linear congruence.
    fn hessian(inputs: usize) -> HessianFactor {
        HessianFactor::new(&gram(inputs), inputs, 0.01).unwrap()
    }

    fn gram(inputs: usize) -> Vec<f64> {
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        let tokens: Vec<Vec<f64>> = (0..2 * inputs)
            .map(|_| {
                let shared = draw();
                (0..inputs).map(|_| draw() + shared).collect()
            })
            .collect();
        let moment = |at: usize| tokens.iter().map(|x| x[at / inputs] * x[at % inputs]).sum::<f64>();
        (0..inputs * inputs).map(|at| moment(at) / tokens.len() as f64).collect()
    }

    fn target(inputs: usize) -> Vec<f32> {
        (0..inputs).map(|i| ((i * 7919 % 101) as f32 / 50.0 - 1.0).powi(3)).collect()
    }

    #[test]
    fn by_hand() {
        // H = [[2, 1], [1, 1]] on the first two of 32 inputs: rounding w0 = 0.4 down to 0 leaves w1 = 0.2 + 0.4 * 1 / 1 = 0.6 for the other.
        let mut gram = vec![0.0; 32 * 32];
        (0..32).for_each(|i| gram[i * 33] = 1.0);
        (gram[0], gram[1], gram[32]) = (2.0, 1.0, 1.0);
        let hessian = HessianFactor::new(&gram, 32, 0.0).unwrap();
        let mut row = vec![0.0f32; 32];
        (row[0], row[1]) = (0.4, 0.2);
        // Q8_0 with a scale of 1: codes are whole numbers around 128.
        let scales = [BlockType::Q8_0.scales(&[0.0; 32], &[1.0; 32]).with_line(
            BlockType::Q8_0,
            0,
            Line { step: 1.0, offset: 0.0 },
        )];
        let mut bytes = vec![0; 34];
        let mut rounder = Rounder::new(&hessian, BlockType::Q8_0, CARRY).unwrap();
        let error = rounder.row_in(&row, &scales, &mut bytes);
        assert_eq!(&rounder.values()[..3], [0.0, 1.0, 0.0]);
        // Off by (0.4, -0.8): 2 * 0.16 - 2 * 0.32 + 0.64.
        assert!((error - 0.32).abs() < 1e-6, "{error}");
        let mut plain = Rounder::new(&hessian, BlockType::Q8_0, RoundingOptions { carry: false, rounds: 0 }).unwrap();
        assert!((plain.row_in(&row, &scales, &mut bytes) - 0.52).abs() < 1e-6);
    }

    #[test]
    fn the_input_that_matters_most_is_taken_first_by_hand() {
        // H = [[1, 1], [1, 2]]: the second is rounded first, 0.4 down to 0, and leaves 0.2 + 0.4 * 1 / 1 = 0.6 for the first.
        let mut gram = vec![0.0; 32 * 32];
        (0..32).for_each(|i| gram[i * 33] = 1.0);
        (gram[1], gram[32], gram[33]) = (1.0, 1.0, 2.0);
        let hessian = HessianFactor::largest_first(&gram, 32, 0.0).unwrap();
        assert_eq!(hessian.order().unwrap()[..4], [1, 0, 2, 3]);
        let mut row = vec![0.0f32; 32];
        (row[0], row[1]) = (0.2, 0.4);
        let line = Line { step: 1.0, offset: 0.0 };
        let scales = [BlockType::Q8_0.scales(&[0.0; 32], &[1.0; 32]).with_line(BlockType::Q8_0, 0, line)];
        let mut rounder = Rounder::new(&hessian, BlockType::Q8_0, CARRY).unwrap();
        let error = rounder.row_in(&row, &scales, &mut [0; 34]);
        assert_eq!(&rounder.values()[..3], [1.0, 0.0, 0.0]);
        assert!((error - 0.32).abs() < 1e-6, "{error}");
    }

    #[test]
    fn the_bytes_decode_to_the_values_and_every_step_lowers_the_error() {
        every_step_lowers_the_error(&hessian(256));
        every_step_lowers_the_error(&HessianFactor::largest_first(&gram(256), 256, 0.01).unwrap());
    }

    fn every_step_lowers_the_error(hessian: &HessianFactor) {
        let target = target(256);
        for ty in BlockType::ALL {
            let mut bytes = vec![0; 256 / ty.values_per_block() * ty.bytes_per_block()];
            let mut error = |options| {
                let mut rounder = Rounder::new(hessian, ty, options).unwrap();
                let error = rounder.row(&target, &mut bytes);
                let mut decoded = vec![0.0; 256];
                ty.decode(&bytes, &mut decoded);
                assert!(decoded == rounder.values(), "{}", ty.name());
                error
            };
            let plain = error(RoundingOptions { carry: false, rounds: 0 });
            let carried = error(CARRY);
            let polished = error(RoundingOptions { carry: true, rounds: 4 });
            assert!(polished <= carried && carried < plain, "{}: {polished} {carried} {plain}", ty.name());
        }
    }

    #[test]
    fn rows_of_zeros_and_rows_that_do_not_fit() {
        let hessian = hessian(64);
        assert!(Rounder::new(&hessian, BlockType::Q4K, CARRY).is_none());
        for ty in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0] {
            let mut bytes = vec![0xa5; 2 * ty.bytes_per_block()];
            let options = RoundingOptions { carry: true, rounds: 2 };
            assert_eq!(Rounder::new(&hessian, ty, options).unwrap().row(&[0.0; 64], &mut bytes), 0.0, "{}", ty.name());
            let mut decoded = [1.0; 64];
            ty.decode(&bytes, &mut decoded);
            assert_eq!(decoded, [0.0; 64], "{}", ty.name());
        }
    }
}
