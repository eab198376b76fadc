//! Splits the tensors of a model over files of bounded size.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::write::TensorSpec;
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::json::{Json, Object};
use crate::quote;

/// Bytes of tensor data in one shard, as other tools choose it.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;
/// The file of a model that fits in one shard.
pub const SINGLE: &str = "model.safetensors";
/// The file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Name of the file.
    pub file: String,
    /// The tensors that it holds, as positions in the planned list.
    pub tensors: Range<usize>,
    /// Bytes of tensor data.
    pub bytes: u64,
}

/// Which tensor goes to which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlan {
    /// The files in order.
    pub shards: Vec<Shard>,
    /// Bytes of all tensors.
    pub total_size: u64,
}

/// Fills shards with `tensors` in their order, each with at most `max_shard_bytes` of data; a larger tensor has a shard of its own.
///
/// # Errors
/// `Found` when the size of a tensor overflows or is not a whole number of bytes, `Duplicate` for a name given twice.
pub fn plan_shards(tensors: &[TensorSpec], max_shard_bytes: u64) -> Result<ShardPlan> {
    let mut bounds: Vec<(Range<usize>, u64)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut total_size = 0_u64;
    for (i, tensor) in tensors.iter().enumerate() {
        if !seen.insert(tensor.name.as_str()) {
            return Err(FormatError::new(SINGLE, FormatErrorKind::Duplicate).item(quote::tensor(&tensor.name)));
        }
        let bytes = tensor.bytes(Path::new(SINGLE))?;
        total_size = total_size.checked_add(bytes).ok_or_else(|| tensor.overflow(Path::new(SINGLE)))?;
        match bounds.last_mut() {
            Some((range, filled)) if *filled == 0 || filled.saturating_add(bytes) <= max_shard_bytes => {
                range.end = i + 1;
                *filled += bytes;
            }
            _ => bounds.push((i..i + 1, bytes)),
        }
    }
    if bounds.is_empty() {
        bounds.push((0..0, 0));
    }
    let count = bounds.len();
    let name =
        |i: usize| if count == 1 { SINGLE.to_owned() } else { format!("model-{:05}-of-{count:05}.safetensors", i + 1) };
    let shards =
        bounds.into_iter().enumerate().map(|(i, (tensors, bytes))| Shard { file: name(i), tensors, bytes }).collect();
    Ok(ShardPlan { shards, total_size })
}

impl ShardPlan {
    /// The text of [`INDEX`] for the planned `tensors`, or `None` when one file holds them all.
    #[must_use]
    pub fn index(&self, tensors: &[TensorSpec]) -> Option<String> {
        if self.shards.len() < 2 {
            return None;
        }
        let mut files = BTreeMap::new();
        for shard in &self.shards {
            for tensor in tensors.get(shard.tensors.clone()).unwrap_or_default() {
                files.insert(tensor.name.clone(), Json::from(shard.file.as_str()));
            }
        }
        let mut metadata = Object::default();
        metadata.set("total_size", self.total_size);
        let mut index = Object::default();
        index.set("metadata", metadata);
        index.set("weight_map", Object::of(files.into_iter().collect()));
        Some(Json::from(index).to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dtype;
    use super::*;

    fn spec(name: &str, len: usize) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype: Dtype::U8, shape: vec![len] }
    }

    #[test]
    fn one_shard_has_the_plain_name_and_no_index() {
        let tensors = [spec("a", 5), spec("b", 5)];
        let plan = plan_shards(&tensors, 10).unwrap();
        assert_eq!(plan.shards, [Shard { file: "model.safetensors".into(), tensors: 0..2, bytes: 10 }]);
        assert_eq!(plan.index(&tensors), None);
        assert_eq!(plan_shards(&[], 10).unwrap().shards.len(), 1);
    }

    #[test]
    fn shards_keep_order_and_bound() {
        let tensors = [spec("c", 6), spec("a", 4), spec("e", 0), spec("b", 1), spec("z", 99), spec("d", 1)];
        let plan = plan_shards(&tensors, 10).unwrap();
        let ranges: Vec<_> = plan.shards.iter().map(|s| (s.tensors.clone(), s.bytes)).collect();
        assert_eq!(ranges, [(0..3, 10), (3..4, 1), (4..5, 99), (5..6, 1)]);
        assert_eq!(plan.shards[1].file, "model-00002-of-00004.safetensors");
        assert_eq!(plan.total_size, 111);
        let index = plan.index(&tensors).unwrap();
        assert!(index.starts_with("{\n  \"metadata\": {\n    \"total_size\": 111\n  },\n  \"weight_map\": {\n    \"a\": \"model-00001-of-00004.safetensors\",\n    \"b\""));
    }

    #[test]
    fn equal_names_are_refused() {
        assert!(plan_shards(&[spec("a", 1), spec("a", 1)], 10).unwrap_err().to_string().contains("occurs twice"));
    }
}
