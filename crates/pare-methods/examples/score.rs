//! Which weights of a small matrix wanda and magnitude would keep, on made-up statistics of its inputs.
//! `cargo run -p pare-methods --example score`
#![allow(clippy::print_stdout)]

use pare_methods::card::Grain;
use pare_methods::error::MethodError;
use pare_methods::score;
use pare_methods::select::keep_top_per_row;
use pare_methods::view::View;
use pare_model::matrix::Matrix;
use pare_model::site::{Projection, Site};
use pare_model::stats::{Stat, Stats};

fn main() -> Result<(), MethodError> {
    // W [out 2, in 4], and the mean square of each input: the last one is large.
    let weight = Matrix::from_vec(2, 4, vec![0.9, -0.5, 0.4, 0.1, -0.2, 0.3, 0.8, -0.4]);
    let projection = Projection::Down;
    let site = Site::new(0, projection.input());
    let mut stats = Stats::new(1000);
    stats.insert(site, Stat::MeanSquare, vec![1.0, 1.0, 1.0, 100.0]);

    let view = View {
        grain: Grain::Weight,
        site,
        projection: Some(projection),
        units: 8,
        reader: Some(&weight),
        writers: &[],
    };
    let mut kept = Vec::new();
    for name in ["wanda", "magnitude"] {
        let entry = score::find(name)?;
        let scores = (entry.build)(0).score(&view, &stats)?;
        let stays = keep_top_per_row(&scores, weight.cols(), 2);
        println!("{name}: {}\n  scores {scores:.1?}\n  keeps  {stays:?}", entry.card.formula);
        kept.push(stays);
    }
    // The weight 0.1 of the first row is small, and what it multiplies is not.
    assert_eq!(kept, [[0, 3, 6, 7], [0, 1, 6, 7]]);
    Ok(())
}
