//! Named statistics of activations, and the table that holds them.
//!
//! A method declares which it needs; the engine observes once for all methods. Everything is summed in f64 over tokens, in the
//! order of the tokens, so that the result does not depend on threads.

use crate::site::Site;
use std::collections::BTreeMap;

/// A statistic of the activations that pass a [`Site`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stat {
    /// Mean of `x_j` per channel, `[n]`.
    Mean,
    /// Mean of `|x_j|` per channel, `[n]`.
    MeanAbs,
    /// Mean of `x_j^2` per channel (per token, so sites of different calibration length compare), `[n]`.
    MeanSquare,
    /// Mean of `x_i x_j`, `[n, n]` row-major, symmetric.
    Gram,
    /// Mean over tokens of the cosine between the residual before and after a part, one number.
    Cosine,
    /// Mean over tokens of `||after - before|| / ||before||` of the residual around a part, one number.
    DeltaRatio,
}

/// Statistics observed at many sites: table keyed by `(Site, Stat)`.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    table: BTreeMap<(Site, Stat), Vec<f64>>,
    tokens: u64,
}

impl Stats {
    /// An empty table over `tokens` calibration tokens.
    pub fn new(tokens: u64) -> Self {
        Self { table: BTreeMap::new(), tokens }
    }

    /// How many tokens the means are over.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Puts the values of one statistic in the table.
    pub fn insert(&mut self, site: Site, stat: Stat, values: Vec<f64>) {
        self.table.insert((site, stat), values);
    }

    /// The values of one statistic, when it was observed.
    pub fn get(&self, site: Site, stat: Stat) -> Option<&[f64]> {
        self.table.get(&(site, stat)).map(Vec::as_slice)
    }

    /// Forgets what was observed at a block: it is not needed once the block is finished.
    pub fn forget_block(&mut self, block: usize) {
        self.table.retain(|(site, _), _| site.block != block);
    }

    /// Every entry, in the order of sites.
    pub fn iter(&self) -> impl Iterator<Item = (Site, Stat, &[f64])> {
        self.table.iter().map(|(&(site, stat), values)| (site, stat, values.as_slice()))
    }
}
