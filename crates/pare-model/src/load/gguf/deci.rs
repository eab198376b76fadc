//! The architecture `deci`: llama whose blocks differ in heads and feed-forward width, or lack a part.

use pare_format::gguf::{Gguf, Value};
use pare_format::json::{Json, Object};
use pare_format::{FormatError, FormatErrorKind, Result, limits};

/// Heads H, KV heads G and feed-forward width F of every block; 0 for a part that is not there.
pub(super) struct Shapes {
    blocks: Vec<[u64; 3]>,
}

impl Shapes {
    /// Reads the three lists.
    ///
    /// # Errors
    /// A list of another length than the number of blocks; attention without keys, or attention in a block without feed-forward layer,
    /// which other programs skip.
    pub(super) fn read(gguf: &Gguf) -> Result<Self> {
        let count_key = "deci.block_count";
        let count = gguf.u64(count_key)?;
        if count > limits::BLOCKS {
            let kind = FormatErrorKind::TooLarge { what: "number of blocks", found: count, limit: limits::BLOCKS };
            return Err(FormatError::new(gguf.file(), kind).item(format!("key {count_key:?}")));
        }
        let heads = list(gguf, "deci.attention.head_count", count)?;
        let groups = list(gguf, "deci.attention.head_count_kv", count)?;
        let widths = list(gguf, "deci.feed_forward_length", count)?;
        let blocks: Vec<[u64; 3]> = heads.into_iter().zip(groups).zip(widths).map(|((h, g), f)| [h, g, f]).collect();
        for (index, &[heads, groups, width]) in blocks.iter().enumerate() {
            let found = match (heads, groups, width) {
                (0, 0, _) | (1.., 1.., 1..) => continue,
                (0, ..) => "keys without queries",
                (_, 0, _) => "a linear map in place of attention",
                _ => "attention without a feed-forward layer, which llama.cpp skips",
            };
            let kind = FormatErrorKind::Unsupported {
                found: format!("{found} in block {index}"),
                supported: "blocks with attention and a feed-forward layer, or without attention".into(),
            };
            return Err(FormatError::new(gguf.file(), kind).item("key \"general.architecture\""));
        }
        Ok(Self { blocks })
    }

    /// What the blocks with attention have, and the blocks with a feed-forward layer: H, G, F of the first of them.
    pub(super) fn first(&self) -> [u64; 3] {
        let attention = self.blocks.iter().find(|block| block[0] > 0).map_or([1, 1], |block| [block[0], block[1]]);
        let width = self.blocks.iter().map(|block| block[2]).find(|width| *width > 0).unwrap_or(1);
        [attention[0], attention[1], width]
    }

    /// The entry `pare` of a `config.json`.
    pub(super) fn entry(&self) -> Object {
        let block = |&[heads, groups, width]: &[u64; 3]| -> Json {
            let attention = (heads > 0).then(|| {
                let mut object = Object::default();
                object.set("heads", heads);
                object.set("kv_heads", groups);
                object
            });
            let mut object = Object::default();
            object.set("attention", attention);
            object.set("ffn", (width > 0).then_some(width));
            object.into()
        };
        let mut entry = Object::default();
        entry.set("blocks", Json::Array(self.blocks.iter().map(block).collect()));
        entry
    }
}

/// A number for each of `count` blocks; one number stands for all.
fn list(gguf: &Gguf, key: &str, count: u64) -> Result<Vec<u64>> {
    let Some(Value::Array(array)) = gguf.get(key) else {
        return Ok(vec![gguf.u64(key)?; count as usize]);
    };
    if array.len() as u64 != count {
        let (found, expected) = (format!("{} entries", array.len()), format!("{count}, one per block"));
        return Err(
            FormatError::new(gguf.file(), FormatErrorKind::Found { found, expected }).item(format!("key {key:?}"))
        );
    }
    Ok(gguf.opt_u32s(key)?.unwrap_or_default().into_iter().map(u64::from).collect())
}
