//! Measures of what was kept: pure functions of logits and tokens.

pub mod divergence;
pub mod l_mul;
pub mod perplexity;
pub mod probes;

pub use divergence::Divergence;
pub use perplexity::Perplexity;
