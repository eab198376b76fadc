//! How many parameters slicing leaves, from shapes alone.

/// The shapes of a decoder whose residual stream may have been sliced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// V: tokens.
    pub vocab: usize,
    /// Rows of a table of learned positions; 0 without one.
    pub positions: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Width of the residual stream in front of every part.
    pub width: usize,
    /// Width that the last block writes and the head reads: `width`, or the width before slicing where the head is left whole.
    pub last_width: usize,
    /// H D: outputs of the query projection.
    pub queries: usize,
    /// G D: outputs of the key and of the value projection.
    pub keys: usize,
    /// F: channels.
    pub ffn: usize,
    /// Whether the feed-forward layer has a gate beside its first projection.
    pub gated: bool,
    /// Numbers per channel of a norm: 2 with gain and bias, 1 with a gain, 0 where both are folded into neighbours.
    pub per_norm: usize,
    /// Whether every projection has a bias.
    pub biases: bool,
    /// Whether every part has a shortcut.
    pub shortcuts: bool,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Whether an untied head has a bias.
    pub head_bias: bool,
}

/// Stored numbers of a decoder of these shapes, a tied head counted once.
pub fn parameter_count(shapes: &Shapes) -> u64 {
    let n = |value: usize| value as u64;
    let linear = |out: usize, inn: usize| n(out) * n(inn) + if shapes.biases { n(out) } else { 0 };
    let width = shapes.width;
    let block = |out: usize| {
        let attention = linear(shapes.queries, width) + 2 * linear(shapes.keys, width) + linear(width, shapes.queries);
        let first = if shapes.gated { 2 } else { 1 };
        let ffn = first * linear(shapes.ffn, width) + linear(out, shapes.ffn);
        let shortcuts = if shapes.shortcuts { n(width) * n(width) + n(out) * n(width) } else { 0 };
        attention + ffn + shortcuts + 2 * n(shapes.per_norm) * n(width)
    };
    let blocks = match shapes.blocks.checked_sub(1) {
        Some(before) => n(before) * block(width) + block(shapes.last_width),
        None => 0,
    };
    let head = match shapes.tied {
        true => 0,
        false => n(shapes.vocab) * n(shapes.last_width) + if shapes.head_bias { n(shapes.vocab) } else { 0 },
    };
    n(shapes.vocab + shapes.positions) * n(width) + blocks + n(shapes.per_norm) * n(shapes.last_width) + head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 2 tokens, width 2, one block of q, k, v, o [1, 2] and gate, up, down [3, 2]: 4 + 8 + 18, with gains 3 * 2 more.
        let shapes = Shapes {
            vocab: 2,
            positions: 0,
            blocks: 1,
            width: 2,
            last_width: 2,
            queries: 1,
            keys: 1,
            ffn: 3,
            gated: true,
            per_norm: 1,
            biases: false,
            shortcuts: false,
            tied: true,
            head_bias: false,
        };
        assert_eq!(parameter_count(&shapes), 36);
        // Two shortcuts [2, 2]; a head [2, 2] with 2 biases; biases of 1 + 1 + 1 + 2 + 3 + 3 + 2.
        assert_eq!(parameter_count(&Shapes { shortcuts: true, ..shapes }), 44);
        assert_eq!(parameter_count(&Shapes { tied: false, head_bias: true, ..shapes }), 42);
        assert_eq!(parameter_count(&Shapes { biases: true, ..shapes }), 49);
        assert_eq!(parameter_count(&Shapes { blocks: 0, ..shapes }), 6);
    }
}
