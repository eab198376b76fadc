use super::*;
use crate::reference::{numbers, same_bits, sizes};

struct Case {
    groups: usize,
    heads: usize,
    d: usize,
    tokens: usize,
}

static CASES: [Case; 5] = [
    Case { groups: 3, heads: 3, d: 64, tokens: 75 },
    Case { groups: 1, heads: 1, d: 5, tokens: 40 },
    Case { groups: 2, heads: 8, d: 33, tokens: 35 },
    Case { groups: 1, heads: 15, d: 32, tokens: 300 },
    // From 128 positions on, threads share the work of a few tokens.
    Case { groups: 2, heads: 4, d: 33, tokens: 200 },
];
static FEW: [Case; 2] =
    [Case { groups: 2, heads: 2, d: 3, tokens: 7 }, Case { groups: 1, heads: 1, d: 2, tokens: 130 }];

fn cases() -> &'static [Case] {
    sizes(&CASES, &FEW)
}

impl Case {
    fn width(&self) -> usize {
        self.groups * self.heads * self.d
    }

    fn queries(&self) -> Vec<f32> {
        numbers(1, self.tokens * self.width()).iter().map(|q| q * 3.0).collect()
    }

    fn cache(&self, capacity: usize) -> KvBlock {
        let mut cache = KvBlock::new(self.groups, self.d, capacity);
        let length = self.tokens * self.groups * self.d;
        cache.extend(&numbers(2, length), &numbers(3, length));
        cache
    }

    fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    fn whole(&self, isa: Isa, pool: &Pool) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.tokens * self.width()];
        let mut scratch = AttentionScratch::new();
        let cache = self.cache(self.tokens);
        cache.attend_on(isa, &self.queries(), 0, self.heads, self.scale(), &mut scratch, &mut out, pool);
        out
    }
}

#[test]
fn the_textbook_formula_in_f64_agrees() {
    for case in cases() {
        let (d, kv) = (case.d, case.groups * case.d);
        let (queries, found) = (case.queries(), case.whole(Isa::detect(), &Pool::new(2)));
        let (keys, values) = (numbers(2, case.tokens * kv), numbers(3, case.tokens * kv));
        for t in 0..case.tokens {
            for head in 0..case.groups * case.heads {
                let column = head / case.heads * d;
                let at = t * case.width() + head * d;
                let score = |p: usize| {
                    let products = (0..d).map(|i| f64::from(queries[at + i]) * f64::from(keys[p * kv + column + i]));
                    (products.sum::<f64>() * f64::from(case.scale())).exp()
                };
                let scores: Vec<f64> = (0..=t).map(score).collect();
                let sum: f64 = scores.iter().sum();
                for i in 0..d {
                    let value = |p: usize| scores[p] * f64::from(values[p * kv + column + i]);
                    let exact = (0..=t).map(value).sum::<f64>() / sum;
                    assert!((f64::from(found[at + i]) - exact).abs() < 3e-6, "{t} {head} {i}");
                }
            }
        }
    }
}

#[test]
fn sets_and_pools_give_the_same_bits() {
    for case in cases() {
        let expected = case.whole(Isa::PORTABLE, &Pool::new(1));
        for isa in Isa::available() {
            for threads in [1, 2, 3] {
                assert!(same_bits(&case.whole(isa, &Pool::new(threads)), &expected), "{} {threads}", isa.name());
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_around_it_nor_on_the_capacity() {
    let pool = Pool::new(2);
    for case in cases() {
        let (width, kv) = (case.width(), case.groups * case.d);
        let (queries, expected) = (case.queries(), case.whole(Isa::detect(), &pool));
        let (keys, values) = (numbers(2, case.tokens * kv), numbers(3, case.tokens * kv));
        for &step in sizes(&[1, 3, 7], &[50]) {
            let mut cache = KvBlock::new(case.groups, case.d, case.tokens + 100);
            let mut scratch = AttentionScratch::new();
            let mut found = vec![f32::NAN; expected.len()];
            for first in (0..case.tokens).step_by(step) {
                let end = case.tokens.min(first + step);
                cache.extend(&keys[first * kv..end * kv], &values[first * kv..end * kv]);
                let (queries, out) = (&queries[first * width..end * width], &mut found[first * width..end * width]);
                cache.attend(queries, first, case.heads, case.scale(), &mut scratch, out, &pool);
            }
            assert!(same_bits(&found, &expected), "{step} tokens at a time");
        }
    }
}

#[test]
fn what_lies_beyond_a_position_cannot_reach_it() {
    let case = &CASES[0];
    let expected = case.whole(Isa::detect(), &Pool::new(1));
    let mut cache = case.cache(100);
    let bad = vec![f32::NAN; case.groups * case.d];
    (40..case.tokens).for_each(|position| cache.append(position, &bad, &bad));
    let mut out = vec![0.0; expected.len()];
    let mut scratch = AttentionScratch::new();
    cache.attend(&case.queries(), 0, case.heads, case.scale(), &mut scratch, &mut out, &Pool::new(1));
    let (before, after) = out.split_at(40 * case.width());
    assert!(same_bits(before, &expected[..before.len()]));
    assert!(after.iter().all(|x| x.is_nan()));
}

#[test]
fn one_group_alone_has_the_bits_of_the_whole() {
    let case = &CASES[2];
    let (queries, expected) = (case.queries(), case.whole(Isa::detect(), &Pool::new(2)));
    let (cache, each) = (case.cache(64), case.heads * case.d);
    let mut scratch = AttentionScratch::new();
    for group in 0..case.groups {
        let mut out = vec![0.0; case.tokens * each];
        let (q, stride, tokens) = (&queries[group * each..], case.width(), case.tokens);
        cache.attend_group(group, q, stride, tokens, 0, case.heads, case.scale(), &mut scratch, &mut out, each);
        for (t, row) in out.chunks(each).enumerate() {
            assert!(same_bits(row, &expected[t * case.width() + group * each..][..each]));
        }
    }
}

#[test]
#[should_panic(expected = "of 40 held")]
fn positions_not_held_are_refused() {
    let case = &CASES[1];
    let mut scratch = AttentionScratch::new();
    case.cache(64).attend(&[0.0; 10], 39, 1, 1.0, &mut scratch, &mut [0.0; 10], &Pool::new(1));
}
