//! What the machine can do at most: bytes read per second, multiply-adds per second. Measures of speed are put beside them.

mod int8;

use crate::isa::{Isa, versions};
use crate::memory::Aligned;
use crate::pool::Pool;
use crate::shared::Shared;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Values per part of a read: 1 MiB, so that a thread that is held up leaves its share to the others.
const PART: usize = 1 << 18;
/// Values side by side in one step of the read: enough sums to hide the latency of an addition.
const SIDE_BY_SIDE: usize = 128;
/// Values that are fetched ahead of their use, as the kernels do.
const AHEAD: usize = 512;
/// Sums side by side in the peak loop: 12 registers of 16 lanes, or more of fewer.
const LANES: usize = 192;
/// Steps of the peak loop between two looks at the clock.
const STEPS: usize = 20_000;
/// How long the peak loop runs in each thread.
const PEAK_TIME: Duration = Duration::from_millis(60);

/// A buffer that is read from end to end, to measure how fast memory is read.
#[derive(Debug)]
pub struct Stream(Aligned<f32>);

impl Stream {
    /// A buffer of about `bytes` (at least 1 MiB), written once by all threads so that its pages exist.
    ///
    /// Only a buffer much larger than the last cache measures memory.
    ///
    /// # Panics
    /// When `bytes` does not fit the address space.
    pub fn new(bytes: usize, pool: &Pool) -> Self {
        let parts = bytes.div_ceil(PART * size_of::<f32>()).max(1);
        let length = parts.checked_mul(PART).expect("the buffer fits the address space");
        let mut buffer = Aligned::<f32>::zeroed(length);
        let shared = Shared::new(&mut buffer);
        pool.run(parts, &|part| {
            // SAFETY: parts do not overlap.
            unsafe { shared.slice_mut(part * PART, PART) }.fill(1.0);
        });
        Self(buffer)
    }

    /// Bytes of the buffer.
    pub fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.0)
    }

    /// Reads the whole buffer once with all threads; bytes per second.
    pub fn read(&self, pool: &Pool) -> f64 {
        let isa = Isa::detect();
        let start = Instant::now();
        pool.run(self.0.len() / PART, &|part| {
            black_box(sum(isa, &self.0[part * PART..(part + 1) * PART]));
        });
        self.bytes() as f64 / start.elapsed().as_secs_f64()
    }
}

versions!(sum, sum_body, (values: &[f32]) -> f32);

#[inline(always)]
fn sum_body(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; SIDE_BY_SIDE];
    for values in values.as_chunks::<SIDE_BY_SIDE>().0 {
        fetch(values.as_ptr().wrapping_add(AHEAD));
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    sums.iter().sum()
}

/// Asks for the values of one step at `at`, which may lie outside of the buffer.
#[inline(always)]
fn fetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..SIDE_BY_SIDE).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Floating-point operations per second (a multiply-add counts as two) of all threads together, with every operand in a register:
/// what no matrix product of this program can pass on this machine at this moment.
pub fn peak_flops(pool: &Pool) -> f64 {
    let isa = Isa::detect();
    peak(pool, &|| {
        black_box(multiply_add(isa, black_box(1e-3), black_box(1e-3)));
        LANES * STEPS
    })
}

/// The same of products of 8-bit integers, which models in quantised blocks are multiplied by.
pub fn peak_int8_ops(pool: &Pool) -> f64 {
    let isa = Isa::detect();
    peak(pool, &|| {
        let (products, sum) = int8::multiply_add(isa, black_box(1), black_box(1));
        black_box(sum);
        products * int8::STEPS
    })
}

/// Operations per second of all threads together; `work` does some multiply-adds and says how many.
fn peak(pool: &Pool, work: &(dyn Fn() -> usize + Sync)) -> f64 {
    let threads = pool.threads();
    let mut rates = vec![0.0f64; threads];
    let shared = Shared::new(&mut rates);
    pool.run(threads, &|part| {
        let (mut done, start) = (0usize, Instant::now());
        while start.elapsed() < PEAK_TIME {
            done += work();
        }
        let rate = (2 * done) as f64 / start.elapsed().as_secs_f64();
        // SAFETY: each part has an element of its own.
        unsafe { shared.slice_mut(part, 1) }.fill(rate);
    });
    rates.iter().sum()
}

versions!(multiply_add, multiply_add_body, (x: f32, w: f32) -> f32);

#[inline(always)]
fn multiply_add_body(x: f32, w: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = x.mul_add(w, *sum);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive_and_finite() {
        for threads in [1, 2] {
            let pool = Pool::new(threads);
            let stream = Stream::new(3_000_000, &pool);
            assert_eq!(stream.bytes(), 3 << 20);
            for rate in [stream.read(&pool), peak_flops(&pool), peak_int8_ops(&pool)] {
                assert!(rate > 0.0 && rate.is_finite(), "{rate}");
            }
        }
    }

    #[test]
    fn a_part_is_read_whole() {
        for isa in Isa::available() {
            assert_eq!(sum(isa, &[1.0; 4 * SIDE_BY_SIDE]), 4.0 * SIDE_BY_SIDE as f32);
            assert!(multiply_add(isa, 1e-3, 1e-3) > 0.0);
        }
    }
}
