//! Properties of every score.

use crate::Draw;
use pare_methods::card::Grain;
use pare_methods::error::{MethodError, NumericCause};
use pare_methods::score::{ENTRIES, Entry};
use pare_methods::view::View;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::{Stat, Stats};

const GRAINS: [Grain; 6] = [Grain::Weight, Grain::Channel, Grain::Group, Grain::Attention, Grain::Ffn, Grain::Block];
const STATS: [Stat; 6] = [Stat::Mean, Stat::MeanAbs, Stat::MeanSquare, Stat::Gram, Stat::Cosine, Stat::DeltaRatio];

/// A view and its statistics, owned.
#[derive(Clone)]
struct Toy {
    grain: Grain,
    site: Site,
    projection: Option<Projection>,
    units: usize,
    reader: Option<Matrix>,
    writers: Vec<Matrix>,
    means: Vec<f64>,
    cosine: f64,
}

impl Toy {
    fn new(grain: Grain, draw: &mut Draw) -> Self {
        let (point, units, reader, writers) = match grain {
            Grain::Weight => (Point::AttentionIn, 35, Some(draw.matrix(5, 7)), vec![]),
            Grain::Channel => (Point::FfnOut, 6, Some(draw.matrix(4, 6)), vec![draw.matrix(6, 4), draw.matrix(6, 4)]),
            Grain::Group => {
                let writers = vec![draw.matrix(12, 4), draw.matrix(6, 4), draw.matrix(6, 4)];
                (Point::AttentionOut, 3, Some(draw.matrix(4, 12)), writers)
            }
            Grain::Attention => (Point::AttentionPart, 1, None, vec![draw.matrix(3, 4), draw.matrix(4, 3)]),
            Grain::Ffn => (Point::FfnPart, 1, None, vec![draw.matrix(6, 4), draw.matrix(4, 6)]),
            Grain::Block => (Point::BlockPart, 1, None, vec![draw.matrix(6, 4), draw.matrix(4, 6)]),
        };
        let projection = (grain == Grain::Weight).then_some(Projection::V);
        let width = reader.as_ref().map_or(1, Matrix::cols);
        let means = draw.many(width).into_iter().map(f64::abs).collect();
        let site = Site::new(3, point);
        Self { grain, site, projection, units, reader, writers, means, cosine: draw.next() }
    }

    fn stats(&self, fill: impl Fn(Stat) -> Option<Vec<f64>>) -> Stats {
        let mut stats = Stats::new(10);
        for stat in STATS {
            if let Some(values) = fill(stat) {
                stats.insert(self.site, stat, values);
            }
        }
        stats
    }

    fn values(&self, stat: Stat) -> Vec<f64> {
        match stat {
            Stat::Cosine => vec![self.cosine],
            // A part that turns nothing adds nothing here.
            Stat::DeltaRatio => vec![1.0 - self.cosine],
            Stat::Gram => self.means.iter().flat_map(|a| self.means.iter().map(move |b| a * b)).collect(),
            _ => self.means.clone(),
        }
    }

    fn score(&self, entry: &Entry) -> Result<Vec<f64>, MethodError> {
        self.score_with(entry, &self.stats(|stat| Some(self.values(stat))))
    }

    fn score_with(&self, entry: &Entry, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        let writers: Vec<&Matrix> = self.writers.iter().collect();
        let view = View {
            grain: self.grain,
            site: self.site,
            projection: self.projection,
            units: self.units,
            reader: self.reader.as_ref(),
            writers: &writers,
        };
        (entry.build)(5).score(&view, stats)
    }

    /// The same model with the units (for single weights: the inputs) in another order.
    fn permuted(&self, order: &[usize]) -> Self {
        let spread = |length: usize| -> Vec<usize> {
            let each = length / order.len();
            order.iter().flat_map(|unit| unit * each..(unit + 1) * each).collect()
        };
        let reader = self.reader.as_ref().map(|reader| reader.select_cols(&spread(reader.cols())));
        let writers = self.writers.iter().map(|writer| writer.select_rows(&spread(writer.rows()))).collect();
        let means = spread(self.means.len()).into_iter().map(|col| self.means[col]).collect();
        Self { reader, writers, means, ..self.clone() }
    }
}

fn served() -> impl Iterator<Item = (&'static Entry, Toy)> {
    let toys = (0..20).flat_map(|seed| GRAINS.map(|grain| Toy::new(grain, &mut Draw(seed))));
    toys.flat_map(|toy| ENTRIES.iter().map(move |entry| (entry, toy.clone())))
        .filter(|(entry, toy)| entry.card.grains.contains(&toy.grain))
}

#[test]
fn one_finite_number_per_unit_and_again_the_same() {
    let mut count = 0;
    for (entry, toy) in served() {
        let scores = toy.score(entry).unwrap();
        assert_eq!(scores.len(), toy.units, "{entry:?} {:?}", toy.grain);
        assert!(scores.iter().all(|score| score.is_finite()), "{entry:?} {scores:?}");
        assert_eq!(scores, toy.score(entry).unwrap(), "{entry:?}");
        count += 1;
    }
    assert!(count >= 20 * ENTRIES.len(), "every score serves a grain");
}

#[test]
fn only_the_declared_statistics_are_read() {
    for (entry, toy) in served() {
        let whole = toy.score(entry).unwrap();
        let declared = toy.stats(|stat| entry.card.needs.contains(&stat).then(|| toy.values(stat)));
        assert_eq!(toy.score_with(entry, &declared).unwrap(), whole, "{entry:?}");
    }
}

#[test]
fn permuted_units_have_permuted_scores() {
    for (index, (entry, toy)) in served().enumerate().filter(|(_, (entry, _))| !entry.positional) {
        let scores = toy.score(entry).unwrap();
        let inputs = if toy.grain == Grain::Weight { toy.means.len() } else { toy.units };
        let order = Draw(index as u64).permutation(inputs);
        let want: Vec<f64> = scores.chunks_exact(inputs).flat_map(|row| order.iter().map(|&unit| row[unit])).collect();
        let got = toy.permuted(&order).score(entry).unwrap();
        // The rounding of a factorisation depends on the order of the inputs; all other scores are equal to the bit.
        let slack = if entry.card.name == "obs-group" { entry.card.exactness } else { 0.0 };
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= slack * want.abs(), "{entry:?} {:?}: {got} {want}", toy.grain);
        }
    }
}

#[test]
fn a_positional_score_does_depend_on_the_place() {
    let toy = Toy::new(Grain::Channel, &mut Draw(1));
    for entry in ENTRIES.iter().filter(|entry| entry.positional) {
        let order = [1, 2, 3, 4, 5, 0];
        let scores = toy.score(entry).unwrap();
        let moved: Vec<f64> = order.iter().map(|&unit| scores[unit]).collect();
        assert_ne!(toy.permuted(&order).score(entry).unwrap(), moved, "{entry:?} need not be positional");
    }
}

#[test]
fn other_grains_are_unsupported() {
    for entry in ENTRIES {
        for grain in GRAINS.into_iter().filter(|grain| !entry.card.grains.contains(grain)) {
            let error = Toy::new(grain, &mut Draw(2)).score(entry).unwrap_err();
            assert!(matches!(error, MethodError::Unsupported { .. }), "{entry:?} {grain:?}: {error}");
        }
    }
}

#[test]
fn missing_short_and_broken_statistics_are_refused() {
    for (entry, toy) in served() {
        for &need in entry.card.needs {
            let with = |values: Option<Vec<f64>>| {
                let stats = toy.stats(|stat| if stat == need { values.clone() } else { Some(toy.values(stat)) });
                toy.score_with(entry, &stats).unwrap_err()
            };
            assert_eq!(with(None), MethodError::MissingStat { stat: need, site: toy.site }, "{entry:?}");
            let mut long = toy.values(need);
            long.push(1.0);
            assert!(matches!(with(Some(long)), MethodError::Shape { .. }), "{entry:?}");
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut values = toy.values(need);
                let last = values.len() - 1;
                values[last] = bad;
                let error = with(Some(values));
                let MethodError::Numeric { cause: NumericCause::NotFinite { index, .. }, .. } = error else {
                    panic!("{entry:?}: {error}")
                };
                assert_eq!(index, last);
            }
        }
    }
}

#[test]
fn broken_weights_are_refused_where_weights_are_read() {
    let readers = ["fluctuation", "head-contribution", "magnitude", "obs-group", "wanda"];
    for entry in ENTRIES.iter().filter(|entry| readers.contains(&entry.card.name)) {
        for &grain in entry.card.grains {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut toy = Toy::new(grain, &mut Draw(3));
                toy.reader.as_mut().unwrap_or_else(|| &mut toy.writers[0]).data_mut()[1] = bad;
                let message = toy.score(entry).unwrap_err().to_string();
                assert!(message.contains("value 1 is ") && message.contains("a finite number"), "{message}");
            }
        }
    }
}

#[test]
fn views_that_do_not_fit_their_grain_are_refused() {
    for (entry, toy) in served() {
        let refuse = |change: &dyn Fn(&mut Toy)| {
            let mut toy = toy.clone();
            change(&mut toy);
            toy.score(entry).unwrap_err()
        };
        let error = refuse(&|toy| toy.site.point = Point::FfnIn);
        assert!(matches!(error, MethodError::Params { key: "site", .. }), "{entry:?}: {error}");
        for units in [0, 1000] {
            let error = refuse(&|toy| toy.units = units);
            assert!(matches!(error, MethodError::Shape { .. }), "{entry:?} {units}: {error}");
        }
        if toy.reader.is_some() {
            let error = refuse(&|toy| toy.reader = None);
            assert!(matches!(error, MethodError::Shape { what: "number of readers", .. }), "{entry:?}: {error}");
        }
        if toy.grain == Grain::Weight {
            let error = refuse(&|toy| toy.projection = None);
            assert!(matches!(error, MethodError::Params { key: "projection", .. }), "{entry:?}: {error}");
        }
        if toy.reader.is_some() && !toy.writers.is_empty() {
            let error = refuse(&|toy| toy.writers[1] = Matrix::zeros(toy.units * 2 + 1, 4));
            let wanted = MethodError::Shape {
                site: toy.site,
                what: "rows of a writer",
                want: toy.units * 3,
                got: toy.units * 2 + 1,
            };
            assert_eq!(error, wanted, "{entry:?}");
        }
    }
}

#[test]
fn dead_units_and_equal_units_are_legal() {
    for (entry, mut toy) in served().filter(|(entry, _)| !entry.positional) {
        toy.reader.iter_mut().chain(&mut toy.writers).for_each(|matrix| matrix.data_mut().fill(0.0));
        toy.means.fill(0.0);
        toy.cosine = 1.0;
        assert!(toy.score(entry).unwrap().iter().all(|&score| score == 0.0), "{entry:?} {:?}", toy.grain);
    }
}
