//! What the tests hold the fast paths to.

/// The one law in three lines: `x` `[T, in]` times `w` `[out, in]`.
pub(crate) fn multiply(x: &[f32], w: &[f32], rows: usize, out: usize, inn: usize) -> Vec<f32> {
    let fold = |t: usize, o: usize| (0..inn).fold(0.0f32, |acc, i| x[t * inn + i].mul_add(w[o * inn + i], acc));
    (0..rows * out).map(|at| fold(at / out, at % out)).collect()
}

/// `length` numbers between -1 and 1 that depend on the seed.
pub(crate) fn numbers(seed: u64, length: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// The sizes that a test loops over: `few` of them under Miri, which is a thousand times slower and looks for other mistakes.
pub(crate) fn sizes<'a, T>(all: &'a [T], few: &'a [T]) -> &'a [T] {
    if cfg!(miri) { few } else { all }
}

/// Whether every value has the same bits.
pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
