//! The names of the tensors that a model of a given shape has.

use super::ModelConfig;

/// The embedding.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The output head, when it is not the embedding.
pub(crate) const HEAD: &str = "lm_head.weight";

impl ModelConfig {
    /// The names of all tensors of the model, block by block.
    pub fn tensor_names(&self) -> impl Iterator<Item = String> + '_ {
        let first = std::iter::once(EMBEDDING.to_owned());
        let blocks = (0..self.blocks).flat_map(|i| self.block_tensor_names(i));
        let head = (!self.tied).then(|| HEAD.to_owned());
        first.chain(blocks).chain(std::iter::once("model.norm.weight".to_owned())).chain(head)
    }

    /// The names of the tensors of block `index`.
    #[must_use]
    pub fn block_tensor_names(&self, index: usize) -> Vec<String> {
        let shape = self.block(index);
        let mut names = Vec::new();
        let mut add = |name: &str| names.push(format!("model.layers.{index}.{name}"));
        if shape.attention.is_some() {
            add("input_layernorm.weight");
            for (part, bias) in [
                ("q_proj", self.attention_bias),
                ("k_proj", self.attention_bias),
                ("v_proj", self.attention_bias),
                ("o_proj", self.output_bias()),
            ] {
                add(&format!("self_attn.{part}.weight"));
                if bias {
                    add(&format!("self_attn.{part}.bias"));
                }
            }
            if self.shortcuts {
                add("self_attn.shortcut.weight");
            }
            if self.family.has_qk_norm() {
                add("self_attn.q_norm.weight");
                add("self_attn.k_norm.weight");
            }
        }
        if shape.ffn.is_some() {
            add("post_attention_layernorm.weight");
            for part in ["gate_proj", "up_proj", "down_proj"] {
                add(&format!("mlp.{part}.weight"));
                if self.mlp_bias {
                    add(&format!("mlp.{part}.bias"));
                }
            }
            if self.shortcuts {
                add("mlp.shortcut.weight");
            }
        }
        names
    }

    /// Whether the tensor `name` may be there without being part of the model.
    pub(crate) fn may_ignore(&self, name: &str) -> bool {
        name.ends_with(".rotary_emb.inv_freq") || (self.tied && name == HEAD)
    }
}
