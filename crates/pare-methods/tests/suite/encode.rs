//! Properties of every encoding.

use crate::Draw;
use pare_kernels::pool::Pool;
use pare_methods::encode::{ENTRIES, Encode, Encoded, Entry, Task, find};
use pare_methods::error::MethodError;
use pare_methods::select::Compare;
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};
use pare_model::weight::{Composed, Linear};

pub(crate) const SITE: Site = Site { block: 1, point: Point::FfnOut };
const COMPARES: [Compare; 5] =
    [Compare::Row, Compare::Matrix, Compare::TwoOfFour, Compare::FourOfEight, Compare::EightRows];

fn build(entry: &Entry) -> Box<dyn Encode> {
    (entry.build)(&Settings::default()).unwrap()
}

/// Statistics of `tokens` correlated inputs of very different scales, some of which are never seen when `dead`.
pub(crate) fn stats(draw: &mut Draw, width: usize, tokens: usize, dead: bool) -> Stats {
    let mixing = draw.matrix(width, 6);
    let scale: Vec<f64> =
        (0..width).map(|_| f64::from(!dead || draw.below(6) > 0) * (2.0 * draw.next()).exp()).collect();
    let mut gram = vec![0.0; width * width];
    let mut mean = vec![0.0; width];
    for _ in 0..tokens {
        let hidden = draw.many(6);
        let own = draw.many(width);
        let mix = |j: usize| mixing.row(j).iter().zip(&hidden).map(|(&m, h)| f64::from(m) * h).sum::<f64>();
        let x: Vec<f64> = (0..width).map(|j| scale[j] * (mix(j) + own[j])).collect();
        for (i, row) in gram.chunks_exact_mut(width).enumerate() {
            row.iter_mut().zip(&x).for_each(|(value, other)| *value += x[i] * other / tokens as f64);
        }
        mean.iter_mut().zip(&x).for_each(|(mean, x)| *mean += x / tokens as f64);
    }
    let mut stats = Stats::new(tokens as u64);
    stats.insert(SITE, Stat::MeanSquare, (0..width).map(|i| gram[i * width + i]).collect());
    stats.insert(SITE, Stat::Mean, mean);
    stats.insert(SITE, Stat::Gram, gram);
    stats
}

pub(crate) fn matrix(encoded: &Encoded) -> Matrix {
    Linear::new(encoded.weight.clone()).to_matrix()
}

fn bits(matrix: &Matrix) -> Vec<u32> {
    matrix.data().iter().map(|value| value.to_bits()).collect()
}

/// `tr((W - W') G (W - W')^T) / out`.
pub(crate) fn error(stats: &Stats, before: &Matrix, after: &Matrix) -> f64 {
    let (gram, width) = (stats.get(SITE, Stat::Gram).unwrap(), before.cols());
    let mut sum = 0.0;
    for row in 0..before.rows() {
        let lost: Vec<f64> =
            before.row(row).iter().zip(after.row(row)).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect();
        for (i, gram) in gram.chunks_exact(width).enumerate() {
            sum += lost[i] * gram.iter().zip(&lost).map(|(g, l)| g * l).sum::<f64>();
        }
    }
    sum / before.rows() as f64
}

#[test]
fn a_keep_of_one_changes_nothing() {
    let mut draw = Draw(1);
    for entry in ENTRIES.iter().filter(|entry| entry.removes) {
        for compare in COMPARES {
            let weight = draw.matrix(16, 24);
            let stats = stats(&mut draw, 24, 40, true);
            let task = Task { site: SITE, weight: &weight, keep: 1.0, compare };
            let encoded = build(entry).encode(&task, &stats, &Pool::new(1)).unwrap();
            assert_eq!(bits(&matrix(&encoded)), bits(&weight), "{entry:?} {compare:?}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let mut draw = Draw(2);
    for entry in ENTRIES {
        // Several bands of rows and blocks of inputs where there are such; decoding parts of parts is slow.
        let (compares, [out, width]) = match entry.card.name {
            "sparsegpt" => (&[Compare::Matrix, Compare::TwoOfFour, Compare::EightRows][..], [224, 160]),
            _ => (&[Compare::TwoOfFour][..], [96, 64]),
        };
        for &compare in compares {
            let weight = draw.matrix(out, width);
            let stats = stats(&mut draw, width, 200, false);
            let task = Task { site: SITE, weight: &weight, keep: 0.5, compare };
            let encoding = build(entry);
            let [one, again, three] = [1, 1, 3].map(|threads| {
                let encoded = encoding.encode(&task, &stats, &Pool::new(threads)).unwrap();
                (bits(&matrix(&encoded)), encoded.info)
            });
            assert_eq!(one, again, "{entry:?} {compare:?}");
            assert_eq!(one, three, "{entry:?} {compare:?}");
            if let Some(prepared) = encoding.prepare(SITE, width, &stats).unwrap() {
                let shared = encoding.encode_with(&task, &stats, &prepared, &Pool::new(2)).unwrap();
                assert_eq!(one, (bits(&matrix(&shared)), shared.info), "{entry:?} {compare:?}");
            }
        }
    }
}

#[test]
fn sparsegpt_keeps_exactly_as_many_in_the_pattern() {
    let entry = find("sparsegpt").unwrap();
    let mut draw = Draw(3);
    for round in 0..40 {
        let [out, width] = [1 + draw.below(120), 1 + draw.below(180)];
        let weight = draw.matrix(out, width);
        let stats = stats(&mut draw, width, 300, false);
        for compare in COMPARES {
            let patterned = matches!(compare, Compare::TwoOfFour | Compare::FourOfEight);
            let keep = if patterned { 0.5 } else { (draw.next() + 1.0) / 2.0 };
            let task = Task { site: SITE, weight: &weight, keep, compare };
            let encoded = build(entry).encode(&task, &stats, &Pool::new(2)).unwrap();
            let after = matrix(&encoded);
            assert!(after.data().iter().all(|value| *value != 0.0 || value.is_sign_positive()));
            let kept = |row: usize, inputs: std::ops::Range<usize>| {
                after.row(row)[inputs].iter().filter(|value| **value != 0.0).count()
            };
            let per_row = (keep * width as f64).round() as usize;
            match compare {
                Compare::Matrix => {
                    let total: usize = (0..out).map(|row| kept(row, 0..width)).sum();
                    assert_eq!(total, (keep * (out * width) as f64).round() as usize, "round {round}");
                }
                Compare::Row => assert!((0..out).all(|row| kept(row, 0..width) == per_row), "round {round}"),
                Compare::EightRows => {
                    for row in 0..out {
                        let first = row / 8 * 8;
                        let shared = (0..width).all(|i| (after.row(row)[i] == 0.0) == (after.row(first)[i] == 0.0));
                        assert!(shared && kept(row, 0..width) == per_row, "round {round}, row {row}");
                    }
                }
                Compare::TwoOfFour | Compare::FourOfEight => {
                    let m = if compare == Compare::TwoOfFour { 4 } else { 8 };
                    for (row, start) in (0..out).flat_map(|row| (0..width).step_by(m).map(move |start| (row, start))) {
                        let group = start..width.min(start + m);
                        assert_eq!(kept(row, group.clone()), group.len().min(m / 2), "round {round}");
                    }
                }
            }
            // What it says that it lost is what the Gram matrix says, and handing on what was lost pays.
            let (said, is) = (encoded.info.error.unwrap(), error(&stats, &weight, &after));
            assert!((said - is).abs() <= 1e-4 * is + 1e-9, "{said} {is}");
            let mut plain = weight.clone();
            let cut = plain.data_mut().iter_mut().zip(after.data());
            cut.filter(|(_, after)| **after == 0.0).for_each(|(value, _)| *value = 0.0);
            assert!(is <= error(&stats, &weight, &plain) * 1.02 + 1e-9, "round {round} {compare:?}");
        }
    }
}

#[test]
fn sparsegpt_loses_less_the_freer_the_pattern() {
    let mut draw = Draw(4);
    let weight = draw.matrix(64, 96);
    let stats = stats(&mut draw, 96, 400, false);
    let lost = [Compare::Matrix, Compare::FourOfEight, Compare::TwoOfFour].map(|compare| {
        let task = Task { site: SITE, weight: &weight, keep: 0.5, compare };
        build(find("sparsegpt").unwrap()).encode(&task, &stats, &Pool::new(1)).unwrap().info.error.unwrap()
    });
    assert!(lost.is_sorted(), "{lost:?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let mut draw = Draw(5);
    let sound = draw.matrix(32, 64);
    let stats = stats(&mut draw, 64, 80, false);
    let pool = Pool::new(1);
    for entry in ENTRIES {
        let encoding = build(entry);
        let task = Task { site: SITE, weight: &sound, keep: 0.5, compare: Compare::TwoOfFour };
        assert!(encoding.encode(&task, &stats, &pool).is_ok(), "{entry:?}");
        let refused = |task: &Task<'_>, stats: &Stats| encoding.encode(task, stats, &pool).unwrap_err();
        for keep in [-0.1, 1.1, f64::NAN] {
            let error = refused(&Task { keep, ..task }, &stats);
            assert!(matches!(error, MethodError::Params { key: "keep", .. }), "{entry:?} {error}");
        }
        let mut wild = sound.clone();
        wild.data_mut()[7] = f32::NAN;
        let error = refused(&Task { weight: &wild, ..task }, &stats);
        assert!(matches!(error, MethodError::Numeric { site: SITE, .. }), "{entry:?} {error}");
        for &stat in entry.card.needs {
            let error = refused(&task, &Stats::new(80));
            assert!(matches!(error, MethodError::MissingStat { site: SITE, .. }), "{entry:?} {error}");
            let mut other = stats.clone();
            other.insert(SITE, stat, vec![1.0; 3]);
            let error = refused(&task, &other);
            assert!(matches!(error, MethodError::Shape { site: SITE, .. }), "{entry:?} {error}");
            let mut values = stats.get(SITE, stat).unwrap().to_vec();
            values[5] = f64::INFINITY;
            other.insert(SITE, stat, values);
            let error = refused(&task, &other);
            assert!(matches!(error, MethodError::Numeric { site: SITE, .. }), "{entry:?} {error}");
        }
    }
}

#[test]
fn a_parameter_that_is_not_read_is_refused() {
    for entry in ENTRIES {
        let reads = |key| entry.card.parameters.contains(&key);
        let settings = Settings { levels: Some(3), ..Settings::default() };
        let outcome = (entry.build)(&settings);
        assert!(reads("levels") || matches!(outcome, Err(MethodError::Params { key: "levels", .. })), "{entry:?}");
    }
}

#[test]
fn sparsegpt_refuses() {
    let mut draw = Draw(6);
    let weight = draw.matrix(4, 40);
    let stats = stats(&mut draw, 40, 50, false);
    let refused = |settings: Settings, keep: f64, compare| {
        let encoding = (find("sparsegpt").unwrap().build)(&settings)?;
        encoding.encode(&Task { site: SITE, weight: &weight, keep, compare }, &stats, &Pool::new(1))
    };
    let message = |settings, keep, compare| refused(settings, keep, compare).unwrap_err().to_string();
    let plain = Settings::default;
    let says = message(plain(), 0.3, Compare::TwoOfFour);
    assert_eq!(says, "parameter keep: 0.3 of a pattern that keeps 0.5");
    let says = message(Settings { block: Some(6), ..plain() }, 0.5, Compare::TwoOfFour);
    assert_eq!(says, "parameter block: 6, expected whole groups of 4");
    let says = message(Settings { block: Some(0), ..plain() }, 0.5, Compare::Row);
    assert_eq!(says, "parameter block: 0, expected at least 1");
    let says = message(Settings { block: Some(48), bits: Some(4), ..plain() }, 0.5, Compare::Row);
    assert_eq!(says, "parameter block: 48, expected whole groups of 32 that share a step");
    let says = message(Settings { storage: Some("q4_0".into()), ..plain() }, 0.5, Compare::Row);
    assert_eq!(says, "sparsegpt does not work on rows of 40 in Q4_0: they are no whole number of blocks");
    let says = message(Settings { damping: Some(0.0), ..plain() }, 0.5, Compare::Row);
    assert_eq!(says, "parameter damping: 0, expected a number more than 0");
}

#[test]
fn armor_refuses_and_is_two_of_four() {
    let mut draw = Draw(7);
    let weight = draw.matrix(24, 32);
    let stats = stats(&mut draw, 32, 50, true);
    let encoded = |settings: Settings, keep: f64| {
        let encoding = (find("armor").unwrap().build)(&settings)?;
        let task = Task { site: SITE, weight: &weight, keep, compare: Compare::TwoOfFour };
        encoding.encode(&task, &stats, &Pool::new(1))
    };
    let message = |settings, keep| encoded(settings, keep).unwrap_err().to_string();
    let plain = Settings::default;
    let says = message(plain(), 0.5);
    assert_eq!(
        says,
        "armor does not work on a [24, 32] matrix in blocks of 32: a parameter block must divide outputs and inputs"
    );
    assert_eq!(message(Settings { block: Some(6), ..plain() }, 0.5), "parameter block: 6, expected a multiple of 4");
    assert_eq!(
        message(Settings { iterations: Some(0), ..plain() }, 0.5),
        "parameter iterations: 0, expected at least 1"
    );
    let says = message(Settings { block: Some(8), ..plain() }, 0.4);
    assert_eq!(says, "parameter keep: 0.4 of a core that keeps 0.5");
    let bytes = [1, 4, 16].map(|rounds| {
        let encoded = encoded(Settings { block: Some(8), iterations: Some(rounds), ..plain() }, 0.5).unwrap();
        let Some(Composed::Wrapped(wrapped)) = encoded.weight.composed() else { panic!("{encoded:?}") };
        let core = Linear::new(wrapped.core().clone()).to_matrix();
        for group in core.data().chunks_exact(4) {
            assert!(group.iter().filter(|value| value.to_bits() != 0).count() <= 2, "{group:?}");
        }
        let (said, is) = (encoded.info.error.unwrap(), error(&stats, &weight, &matrix(&encoded)));
        assert!((said - is).abs() <= 1e-4 * is, "{said} {is}");
        encoded.weight.bytes()
    });
    assert!(bytes.iter().all(|size| *size == bytes[0]), "rounds change no size: {bytes:?}");
}

#[test]
fn what_is_refused_for_its_sizes_is_refused_before() {
    let mut draw = Draw(8);
    let settings = |storage: Option<&str>, rank, bits, block| Settings {
        storage: storage.map(str::to_owned),
        rank,
        bits,
        block,
        ..Settings::default()
    };
    let all = [
        settings(None, None, None, None),
        settings(Some("q4_0"), None, None, None),
        settings(Some("q4_k"), None, None, None),
        settings(None, Some(9), None, None),
        settings(None, None, Some(4), None),
        settings(None, None, None, Some(12)),
    ];
    let (mut refused, mut accepted) = (0, 0);
    for [out, width] in [[16, 64], [12, 36], [3, 256], [1, 33], [40, 1]] {
        let weight = draw.matrix(out, width);
        let stats = stats(&mut draw, width, 60, false);
        for (entry, settings) in ENTRIES.iter().flat_map(|entry| all.iter().map(move |settings| (entry, settings))) {
            let Ok(encoding) = (entry.build)(settings) else { continue };
            for (keep, compare) in
                COMPARES.iter().flat_map(|&compare| [0.02, 0.5, 0.8, 1.0].map(|keep| (keep, compare)))
            {
                let task = Task { site: SITE, weight: &weight, keep, compare };
                let done = encoding.encode(&task, &stats, &Pool::new(1)).map(|_| ());
                assert_eq!(encoding.fits([out, width], keep, compare), done, "{entry:?} {settings:?} {task:?}");
                *if done.is_ok() { &mut accepted } else { &mut refused } += 1;
            }
        }
    }
    assert!(refused > 100 && accepted > 100, "{refused} {accepted}");
}
