//! Everything that a cut could remove: groups of units of one grain, what they cost and what they are worth.

use crate::Error;
use crate::recipe::Cut;
use pare_methods::card::Grain;
use pare_methods::score::Score;
use pare_methods::select::Compare;
use pare_methods::view::View;
use pare_model::block::Block;
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::plan::{Edit, Mask};
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::Stats;

/// Units of one grain at one place of the model, all of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Size of a unit.
    pub grain: Grain,
    /// Where.
    pub site: Site,
    /// Which projection, for weights.
    pub projection: Option<Projection>,
    /// How many units.
    pub units: usize,
    /// Projection weights that leave with one unit.
    pub unit_cost: u64,
}

/// Weights of the projections of a block: what `keep` is a share of.
pub fn projection_weights(block: &Block) -> u64 {
    block.linears().map(|(_, linear)| linear.inputs() as u64 * linear.outputs() as u64).sum()
}

fn weights_of(block: &Block, projections: &[Projection]) -> u64 {
    block
        .linears()
        .filter(|(projection, _)| projections.contains(projection))
        .map(|(_, linear)| linear.inputs() as u64 * linear.outputs() as u64)
        .sum()
}

const ATTENTION: [Projection; 4] = [Projection::Q, Projection::K, Projection::V, Projection::O];
const FFN: [Projection; 3] = [Projection::Gate, Projection::Up, Projection::Down];

impl Candidates {
    /// The candidates of one grain in one block.
    pub fn of_block(grain: Grain, index: usize, block: &Block) -> Vec<Self> {
        let one = |point, units: usize, cost: u64| Self {
            grain,
            site: Site::new(index, point),
            projection: None,
            units,
            unit_cost: cost / units.max(1) as u64,
        };
        match grain {
            Grain::Weight => block
                .linears()
                .map(|(projection, linear)| Self {
                    grain,
                    site: Site::new(index, projection.input()),
                    projection: Some(projection),
                    units: linear.inputs() * linear.outputs(),
                    unit_cost: 1,
                })
                .collect(),
            Grain::Channel => {
                block.ffn.iter().map(|ffn| one(Point::FfnOut, ffn.width(), weights_of(block, &FFN))).collect()
            }
            Grain::Group => block
                .attention()
                .map(|part| one(Point::AttentionOut, part.groups, weights_of(block, &ATTENTION)))
                .into_iter()
                .collect(),
            Grain::Attention => block
                .attention()
                .map(|_| one(Point::AttentionPart, 1, weights_of(block, &ATTENTION)))
                .into_iter()
                .collect(),
            Grain::Ffn => block.ffn.iter().map(|_| one(Point::FfnPart, 1, weights_of(block, &FFN))).collect(),
            Grain::Block => vec![one(Point::BlockPart, 1, projection_weights(block))],
        }
    }

    /// The candidates of one grain in all blocks.
    pub fn of_model(grain: Grain, model: &Model) -> Vec<Self> {
        model.blocks.iter().enumerate().flat_map(|(index, block)| Self::of_block(grain, index, block)).collect()
    }

    /// One number per unit, higher = keep.
    ///
    /// # Errors
    /// What the score refuses.
    pub fn score(&self, score: &dyn Score, block: &Block, stats: &Stats) -> Result<Vec<f64>, Error> {
        let matrices = |projections: &[Projection]| -> Vec<Matrix> {
            block.linears().filter(|(p, _)| projections.contains(p)).map(|(_, linear)| linear.to_matrix()).collect()
        };
        let (reader, writers) = match self.grain {
            Grain::Weight => (self.projection.and_then(|p| block.linear(p)).map(|l| l.to_matrix()), Vec::new()),
            Grain::Channel => {
                (block.linear(Projection::Down).map(|l| l.to_matrix()), matrices(&[Projection::Gate, Projection::Up]))
            }
            Grain::Group => (
                block.linear(Projection::O).map(|l| l.to_matrix()),
                matrices(&[Projection::Q, Projection::K, Projection::V]),
            ),
            Grain::Attention => (None, matrices(&ATTENTION)),
            Grain::Ffn => (None, matrices(&FFN)),
            Grain::Block => (None, matrices(&Projection::ALL)),
        };
        let view = View {
            grain: self.grain,
            site: self.site,
            projection: self.projection,
            units: self.units,
            reader: reader.as_ref(),
            writers: &writers.iter().collect::<Vec<_>>(),
        };
        Ok(score.score(&view, stats)?)
    }

    /// The edit that leaves `quota` units: those with the highest scores, the lower index on a tie. None when all stay.
    ///
    /// # Errors
    /// A pattern that does not fit the matrix.
    pub fn edit(&self, cut: &Cut, scores: &[f64], quota: usize, block: &Block) -> Result<Option<Edit>, Error> {
        use pare_methods::select::keep_top;
        let index = self.site.block;
        if quota >= self.units && cut.compare != Compare::TwoOfFour && cut.compare != Compare::FourOfEight {
            return Ok(None);
        }
        Ok(match self.grain {
            Grain::Weight => {
                let Some((projection, linear)) = self.projection.and_then(|p| Some((p, block.linear(p)?))) else {
                    return Ok(None);
                };
                let [rows, cols] = linear.weight.shape();
                let kept = cut.compare.keep(scores, cols, quota)?;
                let mut mask = Mask::none(rows, cols);
                for index in kept {
                    mask.keep(index);
                }
                Some(Edit::Mask { block: index, projection, mask })
            }
            Grain::Channel => Some(Edit::KeepChannels { block: index, channels: keep_top(scores, quota) }),
            Grain::Group => Some(Edit::KeepGroups { block: index, groups: keep_top(scores, quota) }),
            Grain::Attention => (quota == 0).then_some(Edit::DropAttention { block: index }),
            Grain::Ffn => (quota == 0).then_some(Edit::DropFfn { block: index }),
            Grain::Block => (quota == 0).then_some(Edit::DropBlock { block: index }),
        })
    }
}
