//! Measures of what was kept, pure functions of logits and tokens; and of what is redundant, of weights and statistics.

pub mod accuracy;
pub mod correlation;
pub mod divergence;
pub mod energy;
pub mod l_mul;
pub mod mergeable;
pub mod nuclear;
pub mod perplexity;
pub mod probes;

pub use accuracy::Estimate;
pub use correlation::Correlation;
pub use divergence::Divergence;
pub use energy::Spread;
pub use mergeable::Mergeable;
pub use nuclear::Nuclear;
pub use perplexity::Perplexity;
