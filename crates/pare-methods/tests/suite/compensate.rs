//! Properties of every repair.

use crate::Draw;
use pare_methods::compensate::{Build, Compensate, Cut, ENTRIES, Entry, Repaired, find};
use pare_methods::error::MethodError;
use pare_methods::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};

const SITE: Site = Site { block: 1, point: Point::FfnOut };

/// The repairs of readers of removed columns.
fn of_columns() -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(|entry| matches!(entry.build, Build::Columns(_)))
}

#[track_caller]
fn build(entry: &Entry) -> Box<dyn Compensate> {
    let Build::Columns(build) = entry.build else { panic!("{entry:?} repairs whole matrices") };
    build(&Settings::default()).unwrap()
}

/// A reader and the calibration tokens that it reads, `[T, in]`.
struct Toy {
    reader: Matrix,
    bias: Option<Vec<f32>>,
    tokens: Vec<Vec<f64>>,
    kept: Vec<usize>,
}

impl Toy {
    fn new(seed: u64) -> Self {
        let mut draw = Draw(seed);
        let (out, width, tokens) = (1 + draw.below(5), 2 + draw.below(8), 1 + draw.below(30));
        let reader = draw.matrix(out, width);
        let bias = (draw.next() > 0.0).then(|| draw.many(out).into_iter().map(|value| value as f32).collect());
        // Correlated, off centre, of very different scales; one input in six is dead.
        let mixing = draw.matrix(width, width);
        let scale: Vec<f64> = (0..width).map(|_| f64::from(draw.below(6) > 0) * (3.0 * draw.next()).exp()).collect();
        let centre = draw.many(width);
        let tokens = (0..tokens)
            .map(|_| {
                let hidden = draw.many(width);
                let mix = |j: usize| mixing.row(j).iter().zip(&hidden).map(|(&m, h)| f64::from(m) * h).sum::<f64>();
                (0..width).map(|j| scale[j] * (mix(j) + centre[j])).collect()
            })
            .collect();
        let quota = draw.below(width + 1);
        let mut kept = draw.permutation(width);
        kept.truncate(quota);
        kept.sort_unstable();
        Self { reader, bias, tokens, kept }
    }

    fn stats(&self) -> Stats {
        let (width, count) = (self.reader.cols(), self.tokens.len() as f64);
        let mean = (0..width).map(|j| self.tokens.iter().map(|x| x[j]).sum::<f64>() / count).collect();
        let gram = (0..width * width)
            .map(|at| self.tokens.iter().map(|x| x[at / width] * x[at % width]).sum::<f64>() / count)
            .collect();
        let mut stats = Stats::new(self.tokens.len() as u64);
        stats.insert(SITE, Stat::Mean, mean);
        stats.insert(SITE, Stat::Gram, gram);
        stats
    }

    fn cut(&self, bias_allowed: bool) -> Cut<'_> {
        Cut { site: SITE, reader: &self.reader, bias: self.bias.as_deref(), kept: &self.kept, bias_allowed }
    }

    /// The mean squared error over the tokens themselves.
    fn error(&self, weight: &Matrix, bias: Option<&[f32]>) -> f64 {
        let out = self.reader.rows();
        let at = |bias: Option<&[f32]>, o: usize| bias.map_or(0.0, |bias| f64::from(bias[o]));
        let mut sum = 0.0;
        for x in &self.tokens {
            for o in 0..out {
                let whole: f64 = self.reader.row(o).iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum();
                let pared: f64 = weight.row(o).iter().zip(&self.kept).map(|(&w, &j)| f64::from(w) * x[j]).sum();
                sum += (whole + at(self.bias.as_deref(), o) - pared - at(bias, o)).powi(2);
            }
        }
        sum / (out * self.tokens.len()) as f64
    }

    fn error_of(&self, repaired: &Repaired) -> f64 {
        self.error(&repaired.weight, repaired.bias.as_deref())
    }

    /// The mean square of what the reader gives: what rounding errors are measured by.
    fn size(&self) -> f64 {
        let out = self.reader.rows();
        let square = |x: &Vec<f64>| -> f64 {
            (0..out)
                .map(|o| self.reader.row(o).iter().zip(x).map(|(&w, x)| (f64::from(w) * x).powi(2)).sum::<f64>())
                .sum()
        };
        self.tokens.iter().map(square).sum::<f64>() / (out * self.tokens.len()) as f64
    }
}

#[test]
fn no_repair_raises_the_calibration_error_and_what_it_reports_is_true() {
    let mut repaired_cuts = 0;
    for seed in 0..400 {
        let toy = Toy::new(seed);
        let stats = toy.stats();
        let slack = 1e-12 * (1.0 + toy.size());
        for entry in of_columns() {
            for bias_allowed in [true, false] {
                let cut = toy.cut(bias_allowed);
                let repaired = match build(entry).compensate(&cut, &stats) {
                    Err(MethodError::Unsupported { .. }) if !bias_allowed && entry.needs_bias => continue,
                    repaired => repaired.unwrap(),
                };
                assert!(bias_allowed || !entry.needs_bias || toy.kept.len() == toy.reader.cols(), "{entry:?} {seed}");
                repaired_cuts += 1;
                let (before, after) = (toy.error_of(&cut.plain()), toy.error_of(&repaired));
                assert!(after <= before + slack, "{entry:?} {seed}: {before} before, {after} after");
                let (told_before, told_after) =
                    (repaired.info.error_before.unwrap(), repaired.info.error_after.unwrap());
                assert!((told_before - before).abs() <= 1e-9 * before + slack, "{seed}: {told_before} {before}");
                assert!((told_after - after).abs() <= 1e-9 * before + slack, "{seed}: {told_after} {after}");
                assert!(told_after <= told_before, "{entry:?} {seed}: {told_before} {told_after}");
                assert_eq!(repaired.weight.shape(), [toy.reader.rows(), toy.kept.len()]);
                assert!(bias_allowed || repaired.bias == toy.bias, "{entry:?} {seed}");
                assert_eq!(build(entry).compensate(&cut, &stats).unwrap(), repaired, "{entry:?} is not deterministic");
            }
        }
    }
    assert!(repaired_cuts > 1000, "{repaired_cuts}");
}

#[test]
fn least_squares_is_never_worse_than_bias() {
    let repair = |name: &str, toy: &Toy| build(find(name).unwrap()).compensate(&toy.cut(true), &toy.stats()).unwrap();
    let mut better = 0;
    for seed in 0..400 {
        let toy = Toy::new(seed);
        let (bias, least) = (repair("bias", &toy), repair("least-squares", &toy));
        assert!(least.info.error_after <= bias.info.error_after, "{seed}");
        assert!(toy.error_of(&least) <= toy.error_of(&bias) + 1e-12 * (1.0 + toy.size()), "{seed}");
        better += usize::from(toy.error_of(&least) < 0.9 * toy.error_of(&bias));
    }
    assert!(better > 100, "{better}");
}

#[test]
fn keeping_all_changes_no_bit() {
    for seed in 0..50 {
        let mut toy = Toy::new(seed);
        toy.kept = (0..toy.reader.cols()).collect();
        for entry in of_columns() {
            let repaired = build(entry).compensate(&toy.cut(true), &toy.stats()).unwrap();
            assert_eq!((&repaired.weight, &repaired.bias), (&toy.reader, &toy.bias), "{entry:?}");
            assert_eq!((repaired.info.error_before, repaired.info.error_after), (Some(0.0), Some(0.0)));
        }
    }
}

#[test]
fn no_first_step_beats_the_optimum() {
    // At a fine damping no small change of a weight or of the bias makes the error smaller.
    for seed in 0..100 {
        let toy = Toy::new(seed);
        let fine = pare_methods::compensate::LeastSquares { damping: Some(1e-10) };
        let repaired = pare_methods::compensate::Compensate::compensate(&fine, &toy.cut(true), &toy.stats()).unwrap();
        let least = toy.error_of(&repaired);
        for at in 0..repaired.weight.data().len() {
            for step in [-1e-2, 1e-2] {
                let mut moved = repaired.clone();
                moved.weight.data_mut()[at] += step;
                assert!(toy.error_of(&moved) >= least - 1e-8 * (1.0 + toy.size()), "{seed} weight {at}");
            }
        }
    }
}

#[test]
fn broken_input_is_refused() {
    for entry in of_columns() {
        let toy = Toy { kept: vec![0], ..Toy::new(3) };
        let width = toy.reader.cols();
        let compensate = |cut: &Cut<'_>, stats: &Stats| build(entry).compensate(cut, stats).unwrap_err();
        for &need in entry.card.needs {
            let all = toy.stats();
            let mut rest = Stats::new(1);
            all.iter()
                .filter(|(_, stat, _)| *stat != need)
                .for_each(|(site, stat, v)| rest.insert(site, stat, v.into()));
            assert_eq!(compensate(&toy.cut(true), &rest), MethodError::MissingStat { stat: need, site: SITE });
            rest.insert(SITE, need, vec![0.0; width + 1]);
            assert!(matches!(compensate(&toy.cut(true), &rest), MethodError::Shape { .. }), "{entry:?}");
            let mut values = all.get(SITE, need).unwrap().to_vec();
            values[1] = f64::NAN;
            rest.insert(SITE, need, values);
            let message = compensate(&toy.cut(true), &rest).to_string();
            assert!(message.contains("value 1 is NaN"), "{entry:?}: {message}");
        }
        let stats = toy.stats();
        let late = Cut { kept: &[width], ..toy.cut(true) };
        assert!(matches!(compensate(&late, &stats), MethodError::Params { key: "kept", .. }), "{entry:?}");
        let torn = Cut { bias: Some(&[]), ..toy.cut(true) };
        assert!(matches!(compensate(&torn, &stats), MethodError::Shape { what: "bias", .. }), "{entry:?}");
        let mut reader = toy.reader.clone();
        reader.data_mut()[0] = f32::NAN;
        let broken = Cut { reader: &reader, ..toy.cut(true) };
        assert!(matches!(compensate(&broken, &stats), MethodError::Numeric { .. }), "{entry:?}");
    }
}

#[test]
fn empty_matrices_are_legal() {
    let mut stats = Stats::new(1);
    stats.insert(SITE, Stat::Mean, vec![]);
    stats.insert(SITE, Stat::Gram, vec![]);
    for [out, width] in [[0, 0], [2, 0]] {
        let reader = Matrix::zeros(out, width);
        let cut = Cut { site: SITE, reader: &reader, bias: None, kept: &[], bias_allowed: true };
        for entry in of_columns() {
            assert_eq!(build(entry).compensate(&cut, &stats).unwrap().weight.shape(), [out, width], "{entry:?}");
        }
    }
    let reader = Matrix::zeros(0, 2);
    stats.insert(SITE, Stat::Mean, vec![1.0; 2]);
    stats.insert(SITE, Stat::Gram, vec![2.0, 1.0, 1.0, 2.0]);
    let cut = Cut { site: SITE, reader: &reader, bias: None, kept: &[1], bias_allowed: true };
    for entry in of_columns() {
        assert_eq!(build(entry).compensate(&cut, &stats).unwrap().weight.shape(), [0, 1], "{entry:?}");
    }
}
