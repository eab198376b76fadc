//! The largest numbers that are read at all. A declared number above its limit is refused before anything is allocated for it.

/// Bytes of a safetensors header.
pub const HEADER_BYTES: u64 = 100_000_000;
/// Tensors in one file.
pub const TENSORS: u64 = 1_000_000;
/// Bytes of a tensor name.
pub const NAME_BYTES: u64 = 1_024;
/// Dimensions of a tensor.
pub const RANK: u64 = 8;
/// One dimension of a tensor: a product with an element size stays far from overflow.
pub const DIMENSION: u64 = 1 << 48;
/// Entries of a safetensors `__metadata__`.
pub const METADATA_ENTRIES: u64 = 65_536;
/// Values inside one entry of a safetensors header.
pub const ENTRY_VALUES: u64 = 1_024;
/// Bytes of a JSON configuration file.
pub const CONFIG_BYTES: u64 = 16_000_000;
/// Bytes of a shard index.
pub const INDEX_BYTES: u64 = 100_000_000;
/// Shards of one model.
pub const SHARDS: u64 = 10_000;
/// Nested arrays and objects in JSON.
pub const JSON_DEPTH: usize = 64;
/// Values in one JSON document: bounds what a small text can grow to in memory.
pub const JSON_VALUES: u64 = 4_000_000;
/// Transformer blocks of a model.
pub const BLOCKS: u64 = 4_096;
/// Width of the residual stream, of a feed-forward layer or of all heads together.
pub const WIDTH: u64 = 1 << 22;
/// Attention heads of a block.
pub const HEADS: u64 = 1 << 14;
/// Rows of the embedding.
pub const VOCABULARY: u64 = 4_000_000;
/// Positions of the context.
pub const CONTEXT: u64 = 1 << 30;
/// End-of-text tokens.
pub const END_TOKENS: usize = 256;
