//! What the measures of the catalogue say of one block: directions, copies, spread.

use crate::Error;
use crate::observe::Needs;
use crate::parallel;
use crate::progress::Work;
use pare_methods::card::Grain;
use pare_methods::metric::{correlation, energy, mergeable, nuclear};
use pare_methods::view::View;
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::{Stat, Stats};

/// Share of the largest distance of two channels below which they count as alike.
const ALIKE: f64 = 0.5;
/// Channels that are compared for merging at most: the work grows with their square.
const COMPARED: usize = 512;

/// What the measures say; shares are 0..=1. A part that is not there has zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RedundancyMeasures {
    pub(super) effective_rank: f64,
    pub(super) nuclear_norm: f64,
    pub(super) head_correlation: f64,
    pub(super) channel_correlation: f64,
    pub(super) mergeable_channels: f64,
    pub(super) energy_entropy: f64,
    pub(super) effective_channels: f64,
}

/// Where the block reads the residual stream: after the norm of its first part.
fn entry(index: usize, block: &Block) -> Option<Site> {
    match (block.attention(), &block.ffn) {
        (Some(_), _) => Some(Site::new(index, Point::AttentionIn)),
        (None, Some(_)) => Some(Site::new(index, Point::FfnIn)),
        (None, None) => None,
    }
}

/// The statistics that [`measure`] reads: one Gram matrix of each width, 8 * n^2 bytes.
pub(super) fn needs(index: usize, block: &Block) -> Needs {
    let mut needs: Needs = entry(index, block).into_iter().map(|site| (site, Stat::Gram)).collect();
    let attention = block.attention().map(|_| Point::AttentionOut);
    let ffn = block.ffn.as_ref().map(|_| Point::FfnOut);
    for point in attention.into_iter().chain(ffn) {
        needs.extend([Stat::Mean, Stat::Gram].map(|stat| (Site::new(index, point), stat)));
    }
    needs
}

/// Measures one block by the `stats` of [`needs`].
///
/// Costs about 4/3 C^3 operations for the directions, 2 C (H D)^2 for the heads, F^2 for the pairs of channels, and
/// 6 C min(F, 512)^2 for their distances; threads share these four.
///
/// # Errors
/// Numbers that are not finite; the user stops it.
pub(super) fn measure(index: usize, block: &Block, stats: &Stats, work: Work<'_>) -> Result<RedundancyMeasures, Error> {
    let one = |which: usize| -> Result<RedundancyMeasures, Error> {
        work.interrupt.check()?;
        let mut found = RedundancyMeasures::default();
        match which {
            0 => found.mergeable_channels = merging(index, block)?,
            1 => (found.effective_rank, found.nuclear_norm) = directions(index, block, stats)?,
            2 => found.head_correlation = heads(index, block, stats)?,
            _ => {
                found.channel_correlation = channels(index, block, stats)?;
                (found.energy_entropy, found.effective_channels) = spread(index, block, stats)?;
            }
        }
        Ok(found)
    };
    let parts = parallel::each(4, work.pool, &one)?;
    Ok(RedundancyMeasures {
        effective_rank: parts[1].effective_rank,
        nuclear_norm: parts[1].nuclear_norm,
        head_correlation: parts[2].head_correlation,
        mergeable_channels: parts[0].mergeable_channels,
        ..parts[3]
    })
}

/// Effective rank over the width; nuclear norm over the largest that activations of the same energy can have.
fn directions(index: usize, block: &Block, stats: &Stats) -> Result<(f64, f64), Error> {
    let Some(site) = entry(index, block) else { return Ok((0.0, 0.0)) };
    let reader = if site.point == Point::AttentionIn { Projection::Q } else { Projection::Gate };
    let width = block.linear(reader).map_or(0, |linear| linear.inputs());
    let found = nuclear::of_activations(stats, site, width)?;
    let gram = stats.get(site, Stat::Gram).unwrap_or_default();
    let energy: f64 = gram.iter().step_by(width + 1).sum();
    // Equal singular values: sqrt(energy / C) each, C of them.
    let largest = (energy * width as f64).sqrt();
    let share = if largest > 0.0 { (found.nuclear_norm / largest).min(1.0) } else { 0.0 };
    Ok((found.effective_rank / width.max(1) as f64, share))
}

fn heads(index: usize, block: &Block, stats: &Stats) -> Result<f64, Error> {
    let Some(part) = block.attention() else { return Ok(0.0) };
    let site = Site::new(index, Point::AttentionOut);
    Ok(correlation::of_heads(stats, site, &part.o.to_matrix(), part.heads, &[])?.mean_strongest)
}

fn channels(index: usize, block: &Block, stats: &Stats) -> Result<f64, Error> {
    let Some(part) = &block.ffn else { return Ok(0.0) };
    let site = Site::new(index, Point::FfnOut);
    Ok(correlation::of_features(stats, site, part.width(), &[])?.mean_strongest)
}

/// Entropy over that of equal channels, and the count of equal channels with this entropy over all.
fn spread(index: usize, block: &Block, stats: &Stats) -> Result<(f64, f64), Error> {
    let Some(part) = &block.ffn else { return Ok((0.0, 0.0)) };
    let (site, width) = (Site::new(index, Point::FfnOut), part.width());
    let gram = stats.get(site, Stat::Gram).unwrap_or_default();
    let found = energy::spread(site, &written(&part.down.to_matrix(), gram))?;
    let most = (width as f64).ln();
    let entropy = if most > 0.0 { (found.entropy / most).min(1.0) } else { 1.0 };
    Ok((entropy, (found.effective_units / width.max(1) as f64).min(1.0)))
}

/// What each input of `reader` `[C, F]` writes, in mean squares, by the Gram matrix `[F, F]` of the inputs.
fn written(reader: &Matrix, gram: &[f64]) -> Vec<f64> {
    let mut lengths = vec![0.0; reader.cols()];
    for row in 0..reader.rows() {
        lengths.iter_mut().zip(reader.row(row)).for_each(|(sum, &w)| *sum += f64::from(w).powi(2));
    }
    // A square sum of an input is its place on the diagonal.
    let squares = gram.iter().step_by(reader.cols() + 1);
    lengths.iter().zip(squares).map(|(length, square)| length * square).collect()
}

/// Share of the channels that merge into others, whatever their lengths; of so many, evenly spaced, where there are more than [`COMPARED`].
fn merging(index: usize, block: &Block) -> Result<f64, Error> {
    let Some(part) = &block.ffn else { return Ok(0.0) };
    let chosen = evenly(part.width(), COMPARED);
    let mut reader = part.down.to_matrix().select_cols(&chosen);
    let mut writers = [&part.gate, &part.up].map(|linear| linear.to_matrix().select_rows(&chosen));
    normalise(&mut writers, &mut reader);
    let view = View {
        grain: Grain::Channel,
        site: Site::new(index, Point::FfnOut),
        projection: None,
        units: chosen.len(),
        reader: Some(&reader),
        writers: &writers.iter().collect::<Vec<_>>(),
    };
    let found = mergeable::mergeable(&view, ALIKE)?;
    Ok((found.units - found.left) as f64 / found.units.max(1) as f64)
}

/// Gives every channel (its rows of the writers and its column of the reader together) the length 1, but for those of zeros: a single long
/// one would be so far from all others that these were alike beside it.
fn normalise(writers: &mut [Matrix], reader: &mut Matrix) {
    for channel in 0..reader.cols() {
        let column = (0..reader.rows()).map(|row| reader.row(row)[channel]);
        let weights = writers.iter().flat_map(|writer| writer.row(channel).iter().copied()).chain(column);
        let length = weights.map(|w| f64::from(w).powi(2)).sum::<f64>().sqrt();
        let scale = |w: &mut f32| *w = if length > 0.0 { (f64::from(*w) / length) as f32 } else { 0.0 };
        writers.iter_mut().for_each(|writer| writer.row_mut(channel).iter_mut().for_each(scale));
        (0..reader.rows()).for_each(|row| scale(&mut reader.row_mut(row)[channel]));
    }
}

/// All of `count`, or `most` of them at even distances.
fn evenly(count: usize, most: usize) -> Vec<usize> {
    let chosen = count.min(most);
    (0..chosen).map(|at| at * count / chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_energy_by_hand() {
        // Columns (1, 2) and (0, 3); mean squares 4 and 1 on the diagonal.
        let reader = Matrix::from_vec(2, 2, vec![1.0, 0.0, 2.0, 3.0]);
        assert_eq!(written(&reader, &[4.0, 0.5, 0.5, 1.0]), [20.0, 9.0]);
    }

    #[test]
    fn channels_of_any_length_become_one_long_by_hand() {
        // Channels (3, 0, 4), (0, 0, 0) and (0.6, 0, 0.8).
        let mut writers = [Matrix::from_vec(3, 2, vec![3.0, 0.0, 0.0, 0.0, 0.6, 0.0])];
        let mut reader = Matrix::from_vec(1, 3, vec![4.0, 0.0, 0.8]);
        normalise(&mut writers, &mut reader);
        assert_eq!(writers[0].data(), [0.6, 0.0, 0.0, 0.0, 0.6, 0.0]);
        assert_eq!(reader.data(), [0.8, 0.0, 0.8]);
    }

    #[test]
    fn chosen_channels_are_even() {
        assert_eq!(evenly(3, 4), [0, 1, 2]);
        assert_eq!(evenly(10, 4), [0, 2, 5, 7]);
        assert_eq!(evenly(0, 4), [0; 0]);
    }
}
