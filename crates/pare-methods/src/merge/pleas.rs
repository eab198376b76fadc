//! PLeaS: channels that do the same are found and merged, then each layer is solved for what both models give on average.
//!
//! Source     Nasery et al. 2025, PLeaS: Merging Models with Permutations and Least Squares, arXiv:2407.02447
//! Formula    P maximises sum_i s(x_i, y_P(i)), s the cosine over calibration tokens of first and second model's activations x, y; with a size above 1 only the most similar pairs are merged and the others of both models stay. z = (x + P y) / 2 for merged features, x or y for those that stay; W minimises E |W z - t|^2 + damping mean(diag E z z^T) |W - W_0|^2, t = (A x + a + B y + b) / 2 likewise for merged outputs, W_0 the aligned average. As t - W_0 z is linear in x - P y alone, W - W_0 = V E[(x - P y) z^T] (E z z^T + damping ..)^-1, V = (alpha A - beta B) / 2
//! Shapes     of FFN channels x, y [F], z [size F]; of KV groups the unit is a group with its query heads, heads and inner order kept because of rotary positions; of the residual stream [C], whose basis is shared
//! Needs      Stat::Gram: of both models side by side at the inputs of all projections, [2n, 2n]
//! Parameters damping, default 1e-2, 0..=1
//! Cost       O(T n^2) for the moments, O(F^3) to match and to solve per block; 32 F^2 bytes and more
//! Departs    pairs for a size are the best of the full matching; groups of heads are matched, not single heads; inputs z are those of the two models, not of the merged one; the solution is drawn towards the aligned average; gains, embeddings and head are averaged
//! Errors     Params (size, damping); Shape; MissingStat; Numeric
//! Exactness  1e-5 against goldens/merge/pleas (solved in f64 over tokens there, through moments here; weights rounded to f32)

mod assignment;
mod fit;

use super::{Entry, Info, Joint, Joints, Merge, Merged, Pair, with_middle_norms};
use crate::card::{Card, Grain};
use crate::error::{Built, MethodError};
use crate::settings::Settings;
use assignment::assign;
use fit::{Aligned, Feature};
use pare_model::block::{Attention, Ffn};
use pare_model::site::{Point, Site};
use pare_model::stats::Stat;
use pare_model::weight::Linear;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "pleas",
        about: "matches channels and KV groups of both models, then solves each layer by least squares",
        source: "PLeaS: Merging Models with Permutations and Least Squares, arXiv:2407.02447",
        formula: "P maximises sum_i s(x_i, y_P(i)), s the cosine over calibration tokens of first and second model's \
            activations x, y; with a size above 1 only the most similar pairs are merged and the others of both \
            models stay. z = (x + P y) / 2 for merged features, x or y for those that stay; W minimises E |W z - \
            t|^2 + damping mean(diag E z z^T) |W - W_0|^2, t = (A x + a + B y + b) / 2 likewise for merged outputs, \
            W_0 the aligned average. As t - W_0 z is linear in x - P y alone, W - W_0 = V E[(x - P y) z^T] (E z z^T \
            + damping ..)^-1, V = (alpha A - beta B) / 2",
        needs: &[Stat::Gram],
        parameters: &["damping"],
        grains: &[Grain::Channel, Grain::Group],
        cost: "F^3 per block to match and to solve, tokens times F^2 for the moments; 32 F^2 bytes",
        departs: "residual stream not permuted; whole KV groups; drawn towards the aligned average",
        exactness: 1e-5,
    },
    build: |settings| Pleas::build(settings),
};

const DAMPING: f64 = 1e-2;

/// Permutations and least squares. See the head of the file.
#[derive(Clone, Copy, Debug)]
pub struct Pleas {
    damping: f64,
}

impl Pleas {
    fn build(settings: &Settings) -> Built<dyn Merge> {
        settings.only(ENTRY.card.parameters)?;
        let damping = settings.damping.unwrap_or(DAMPING);
        if !(0.0..=1.0).contains(&damping) {
            return Err(MethodError::Params { key: "damping", why: format!("{damping}, expected 0..=1") });
        }
        Ok(Box::new(Self { damping }))
    }
}

impl Merge for Pleas {
    fn merge(&self, pair: &Pair<'_>, size: f64, joints: &Joints) -> Result<Merged, MethodError> {
        pair.check()?;
        self.check(size)?;
        let work = Work { pair, joints, damping: self.damping };
        let mut block = with_middle_norms(pair);
        let mut info = Info { error_before: Some(0.0), error_after: Some(0.0), ..Info::default() };
        if let (Some(part), Some(second)) = (block.attention_mut(), pair.second.attention()) {
            work.attention(part, second, &mut info)?;
        }
        if let (Some(part), Some(second)) = (&mut block.ffn, &pair.second.ffn) {
            work.ffn(part, second, size, &mut info)?;
        }
        Ok(Merged { block, info })
    }

    fn check(&self, size: f64) -> Result<(), MethodError> {
        if !(1.0..=2.0).contains(&size) {
            return Err(MethodError::Params { key: "size", why: format!("{size}, expected 1..=2") });
        }
        Ok(())
    }
}

/// What the parts of a block share.
struct Work<'a> {
    pair: &'a Pair<'a>,
    joints: &'a Joints,
    damping: f64,
}

impl Work<'_> {
    fn site(&self, point: Point) -> Site {
        Site::new(self.pair.index, point)
    }

    fn joint(&self, point: Point, width: usize) -> Result<&Joint, MethodError> {
        let site = self.site(point);
        let joint = self.joints.get(&point).ok_or(MethodError::MissingStat { stat: Stat::Gram, site })?;
        if joint.width() == width {
            Ok(joint)
        } else {
            let what = "Gram matrix of both models, in inputs of each,";
            Err(MethodError::Shape { site, what, want: width, got: joint.width() })
        }
    }

    fn attention(&self, part: &mut Attention, second: &Attention, info: &mut Info) -> Result<(), MethodError> {
        let mixed = self.joint(Point::AttentionOut, part.o.inputs())?;
        let width = part.group_width();
        let matching = Matching::of(mixed, part.groups);
        info.moved_groups = matching.moved();
        let features = |width: usize| {
            let of_group = |(first, &second): (usize, &usize)| {
                (0..width).map(move |inner| Feature::Both(first * width + inner, second * width + inner))
            };
            matching.partner.iter().enumerate().flat_map(of_group).collect::<Vec<_>>()
        };
        let (queries, keys) = (features(width), features(part.k.outputs() / part.groups));
        let stream = self.stream(Point::AttentionIn, part.q.inputs())?;
        for (linear, other, outputs) in
            [(&mut part.q, &second.q, &queries), (&mut part.k, &second.k, &keys), (&mut part.v, &second.v, &keys)]
        {
            self.solve(Point::AttentionIn, (linear, other), outputs, &stream, info)?;
        }
        let outputs = same(part.o.outputs());
        self.solve(Point::AttentionOut, (&mut part.o, &second.o), &outputs, &Aligned::new(mixed, queries), info)
    }

    fn ffn(&self, part: &mut Ffn, second: &Ffn, size: f64, info: &mut Info) -> Result<(), MethodError> {
        let width = part.width();
        let hidden = self.joint(Point::FfnOut, width)?;
        let matching = Matching::of(hidden, width);
        let together = 2 * width - (size * width as f64).round() as usize;
        let channels = matching.features(together);
        let both = channels.iter().filter_map(|feature| match feature {
            Feature::Both(first, second) => Some((*first, *second)),
            _ => None,
        });
        info.moved_channels = both.clone().filter(|(first, second)| first != second).count();
        let similar: f64 = both.map(|(first, _)| matching.similarity[first]).sum();
        info.similarity = (together > 0).then(|| similar / together as f64);
        let stream = self.stream(Point::FfnIn, part.gate.inputs())?;
        for (linear, other) in [(&mut part.gate, &second.gate), (&mut part.up, &second.up)] {
            self.solve(Point::FfnIn, (linear, other), &channels, &stream, info)?;
        }
        let outputs = same(part.down.outputs());
        self.solve(Point::FfnOut, (&mut part.down, &second.down), &outputs, &Aligned::new(hidden, channels), info)
    }

    /// The residual stream behind a norm, whose channels stand for themselves.
    fn stream(&self, point: Point, width: usize) -> Result<Aligned, MethodError> {
        Ok(Aligned::new(self.joint(point, width)?, same(width)))
    }

    fn solve(
        &self,
        point: Point,
        (linear, other): (&mut Linear, &Linear),
        outputs: &[Feature],
        inputs: &Aligned,
        info: &mut Info,
    ) -> Result<(), MethodError> {
        let solved = inputs
            .fit(linear, other, outputs, self.damping)
            .map_err(|cause| MethodError::Numeric { site: self.site(point), cause })?;
        *linear = solved.linear;
        if solved.damping > info.damping {
            info.damping = solved.damping;
        }
        info.error_before = info.error_before.map(|error| error + solved.error_before);
        info.error_after = info.error_after.map(|error| error + solved.error_after);
        Ok(())
    }
}

/// Features that are the same in both models.
fn same(count: usize) -> Vec<Feature> {
    (0..count).map(|index| Feature::Both(index, index)).collect()
}

/// Which units of both models belong together.
struct Matching {
    /// Of each unit of the first model, that of the second.
    partner: Vec<usize>,
    /// Of each unit of the first model, how similar its partner is.
    similarity: Vec<f64>,
}

impl Matching {
    /// The matching of `units` of equal width with the largest sum of similarities. A silent unit resembles none.
    fn of(joint: &Joint, units: usize) -> Self {
        let (n, width) = (joint.width(), joint.width() / units.max(1));
        let energy = |start: usize| (start..start + width).map(|at| joint.at(at, at)).sum::<f64>();
        let first: Vec<f64> = (0..units).map(|unit| energy(unit * width)).collect();
        let second: Vec<f64> = (0..units).map(|unit| energy(n + unit * width)).collect();
        let mut similar = vec![0.0; units * units];
        for (at, value) in similar.iter_mut().enumerate() {
            let (a, b) = (at / units, at % units);
            let size = (first[a] * second[b]).sqrt();
            if size > 0.0 {
                let inner = |inner: usize| joint.at(a * width + inner, n + b * width + inner);
                *value = (0..width).map(inner).sum::<f64>() / size;
            }
        }
        let costs: Vec<f64> = similar.iter().map(|similar| -similar).collect();
        let partner = assign(&costs, units);
        let similarity = partner.iter().enumerate().map(|(a, &b)| similar[a * units + b]).collect();
        Self { partner, similarity }
    }

    fn moved(&self) -> usize {
        self.partner.iter().enumerate().filter(|(first, second)| first != *second).count()
    }

    /// The `together` most similar pairs merged, of equals the first, and all other units of both models.
    fn features(&self, together: usize) -> Vec<Feature> {
        let merged = crate::select::keep_top(&self.similarity, together);
        let is_merged = |first: usize| merged.binary_search(&first).is_ok();
        let of_first = self.partner.iter().enumerate().map(|(first, &second)| {
            if is_merged(first) { Feature::Both(first, second) } else { Feature::First(first) }
        });
        let alone = self.partner.iter().enumerate().filter(|(first, _)| !is_merged(*first));
        let mut of_second: Vec<usize> = alone.map(|(_, &second)| second).collect();
        of_second.sort_unstable();
        of_first.chain(of_second.into_iter().map(Feature::Second)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_by_hand() {
        // First (x0, x1), second (y0, y1) with y0 = -3 x1 and y1 = 2 x0 + x1, over x = (1, 0), (0, 1): means of products.
        let tokens = [[1.0, 0.0, 0.0, 2.0], [0.0, 1.0, -3.0, 1.0]];
        let second =
            (0..16).map(|at| tokens.iter().map(|u: &[f64; 4]| u[at / 4] * u[at % 4]).sum::<f64>() / 2.0).collect();
        let joint = Joint::new(Site::new(0, Point::FfnOut), 2, second).unwrap();
        let matching = Matching::of(&joint, 2);
        // Straight: cosines 0 and 1 / sqrt 5. Crossed: 2 / sqrt 5 and -1.
        assert_eq!(matching.partner, [0, 1]);
        assert!((matching.similarity[1] - 0.2_f64.sqrt()).abs() < 1e-15 && matching.similarity[0] == 0.0);
        assert_eq!(matching.features(2), [Feature::Both(0, 0), Feature::Both(1, 1)]);
        assert_eq!(matching.features(1), [Feature::First(0), Feature::Both(1, 1), Feature::Second(0)]);
        assert_eq!(matching.features(0).len(), 4);
        // As one unit: 2 + (-3) over tokens' inner products by place, of any size.
        assert_eq!(Matching::of(&joint, 1).partner, [0]);
    }
}
