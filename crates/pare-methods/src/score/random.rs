//! Random: keep what the seed says.
//!
//! Source     folklore: the baseline below which no score may fall
//! Formula    S_u = top 53 bits of h(seed, block, point, projection, u), divided by 2^53: uniform in 0..1
//! Shapes     S [units]
//! Needs      no statistic, no weight
//! Parameters seed: any 64-bit number, from the recipe
//! Cost       O(units)
//! Departs    nothing
//! Errors     Shape and Params for a view that does not fit its grain
//! Exactness  0 against goldens/score/random
//!
//! h starts at the seed and takes in one number v after the other as h = mix(h + v), where mix is one step of SplitMix64
//! (Steele, Lea, Flood 2014). A score therefore depends on where its unit is, never on the order of calls.

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::error::MethodError;
use crate::view::View;
use pare_model::rng::SplitMix64;
use pare_model::site::{Point, Projection};
use pare_model::stats::Stats;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "random",
        about: "draws a number for every unit: the baseline that a score must beat",
        source: "folklore: the baseline below which no score may fall",
        formula: "S_u = top 53 bits of h(seed, block, point, projection, u), divided by 2^53: uniform in 0..1",
        needs: &[],
        parameters: &[],
        grains: &[Grain::Weight, Grain::Channel, Grain::Group, Grain::Attention, Grain::Ffn, Grain::Block],
        cost: "a dozen integer operations per unit",
        departs: "nothing",
        exactness: 0.0,
    },
    positional: true,
    build: |seed| Box::new(Random { seed }),
};

/// Draws a number for every unit.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// Another seed, other numbers.
    pub seed: u64,
}

impl Score for Random {
    fn score(&self, view: &View<'_>, _stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "it serves every grain")?;
        let place = [view.site.block as u64, point_code(view.site.point), projection_code(view.projection)];
        let state = place.into_iter().fold(self.seed, take_in);
        Ok((0..view.units as u64).map(|unit| (take_in(state, unit) >> 11) as f64 / (1_u64 << 53) as f64).collect())
    }
}

fn take_in(state: u64, value: u64) -> u64 {
    mix(state.wrapping_add(value))
}

/// One step of SplitMix64 from `state`.
fn mix(state: u64) -> u64 {
    SplitMix64::new(state).next_u64()
}

// Written out, so that a new variant of the enum does not change old draws.
fn point_code(point: Point) -> u64 {
    match point {
        Point::AttentionIn => 0,
        Point::AttentionOut => 1,
        Point::FfnIn => 2,
        Point::FfnOut => 3,
        Point::AttentionPart => 4,
        Point::FfnPart => 5,
        Point::BlockPart => 6,
    }
}

fn projection_code(projection: Option<Projection>) -> u64 {
    match projection {
        None => 0,
        Some(Projection::Q) => 1,
        Some(Projection::K) => 2,
        Some(Projection::V) => 3,
        Some(Projection::O) => 4,
        Some(Projection::Gate) => 5,
        Some(Projection::Up) => 6,
        Some(Projection::Down) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::matrix::Matrix;
    use pare_model::site::Site;

    #[test]
    fn mixes_as_published() {
        // The first three outputs of SplitMix64 from the state 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2)), 0x06c4_5d18_8009_454f);
    }

    #[test]
    fn differs_by_seed_block_and_projection() {
        let matrix = Matrix::zeros(8, 8);
        let draw = |seed, block, projection| {
            let site = Site::new(block, Point::AttentionIn);
            let projection = Some(projection);
            let view = View { grain: Grain::Weight, site, projection, units: 64, reader: Some(&matrix), writers: &[] };
            Random { seed }.score(&view, &Stats::new(0)).unwrap()
        };
        let first = draw(7, 0, Projection::Q);
        assert!(first.iter().all(|score| (0.0..1.0).contains(score)));
        let mean = first.iter().sum::<f64>() / 64.0;
        assert!((mean - 0.5).abs() < 0.15, "{mean}");
        assert_ne!(first, draw(8, 0, Projection::Q));
        assert_ne!(first, draw(7, 1, Projection::Q));
        assert_ne!(first, draw(7, 0, Projection::K));
        assert_eq!(first, draw(7, 0, Projection::Q));
    }
}
