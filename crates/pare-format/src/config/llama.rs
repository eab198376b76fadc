//! A model of another family as the llama that it also is.

use super::{Family, ModelConfig};

impl Family {
    /// Whether the configuration has a place for a bias on the output projection of attention.
    #[must_use]
    pub fn may_have_output_bias(self) -> bool {
        self.chooses_attention_bias()
    }

    /// Whether the configuration has a place for biases on the feed-forward projections.
    #[must_use]
    pub fn may_have_mlp_bias(self) -> bool {
        self == Self::Llama
    }
}

impl ModelConfig {
    /// The same model as a llama: without norms of heads and windows the families compute one function, and llama has biases on every
    /// projection of a part or on none, so that zeros stand where there was none. None for a model that is no llama.
    #[must_use]
    pub fn to_llama(&self) -> Option<Self> {
        if self.family.has_qk_norm() || (0..self.blocks).any(|index| self.window(index).is_some()) {
            return None;
        }
        let mut llama = Self { family: Family::Llama, sliding_window: None, windowed: Vec::new(), ..self.clone() };
        if self.family != Family::Llama {
            // Programs that ask every family for a window would find one.
            for key in ["sliding_window", "use_sliding_window", "max_window_layers"] {
                llama.raw.remove(key);
            }
        }
        Some(llama)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{self, Bounds, Json};
    use std::path::Path;

    fn read(text: &str) -> ModelConfig {
        match json::parse(Path::new("config.json"), text.as_bytes(), Bounds::CONFIG).unwrap() {
            Json::Object(object) => ModelConfig::from_json(Path::new("config.json"), object).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn of(family: &str, more: &str) -> ModelConfig {
        read(&format!(
            r#"{{"model_type": "{family}", "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 64{more}}}"#
        ))
    }

    #[test]
    fn what_a_llama_keeps_and_leaves_out_of_qwen2() {
        let qwen = of(
            "qwen2",
            r#", "use_sliding_window": false, "sliding_window": 32, "max_window_layers": 1, "use_cache": true"#,
        );
        assert!(qwen.attention_bias && !qwen.output_bias());
        let llama = read(&qwen.to_llama().unwrap().to_json());
        assert_eq!((llama.family, llama.attention_bias, llama.output_bias()), (Family::Llama, true, true));
        // Defaults differ between the families: what was none stays none.
        assert_eq!((llama.bos, llama.eos.len(), llama.context), (None, 0, 64));
        assert_eq!((llama.head_dim, llama.kv_heads, llama.norm_eps), (16, 2, 1e-6));
        for key in ["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"] {
            assert_eq!(llama.raw.get(key), None, "{key}");
        }
        assert!(llama.raw.get("use_cache").is_some());
    }

    #[test]
    fn windows_and_norms_of_heads_are_no_llama() {
        assert!(of("mistral", r#", "sliding_window": null"#).to_llama().is_some());
        assert!(of("mistral", r#", "sliding_window": 4096"#).to_llama().is_some(), "it covers the context");
        assert!(of("mistral", r#", "sliding_window": 32"#).to_llama().is_none());
        assert!(
            of("qwen2", r#", "use_sliding_window": true, "sliding_window": 32, "max_window_layers": 1"#)
                .to_llama()
                .is_none()
        );
        assert!(of("qwen3", "").to_llama().is_none());
        let llama = of("llama", "");
        assert_eq!(llama.to_llama(), Some(llama));
    }
}
