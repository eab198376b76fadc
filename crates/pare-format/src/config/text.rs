//! A configuration as the text of a `config.json`.

use super::{ModelConfig, OWN_METHOD, Scaling, rope, shapes, window};
use crate::json::{Json, Object};
use crate::safetensors::Dtype;

impl ModelConfig {
    /// The text of a `config.json` that says what this configuration says. Entries that were read and are not understood are kept, in
    /// their places. Tools that do not know the entry `pare` load it when [`ModelConfig::obstacle`] finds none.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut raw = self.raw.clone();
        raw.set("architectures", vec![self.family.architecture()]);
        raw.set("model_type", self.family.model_type());
        raw.set("hidden_size", self.hidden);
        raw.set("intermediate_size", self.ffn);
        raw.set("num_hidden_layers", self.blocks);
        raw.set("num_attention_heads", self.heads);
        raw.set("num_key_value_heads", self.kv_heads);
        raw.set("head_dim", self.head_dim);
        raw.set("vocab_size", self.vocab);
        raw.set("max_position_embeddings", self.context);
        raw.set("hidden_act", "silu");
        raw.set("rms_norm_eps", widened(self.norm_eps));
        raw.set("tie_word_embeddings", self.tied);
        if self.family.chooses_attention_bias() {
            raw.set("attention_bias", self.attention_bias);
        } else {
            raw.remove("attention_bias");
        }
        if self.family.may_have_mlp_bias() {
            raw.set("mlp_bias", self.mlp_bias);
        } else {
            raw.remove("mlp_bias");
        }
        raw.set("bos_token_id", self.bos.map(u64::from));
        raw.set(
            "eos_token_id",
            match self.eos.as_slice() {
                [] => Json::Null,
                [one] => u64::from(*one).into(),
                more => more.iter().map(|id| u64::from(*id)).collect::<Vec<_>>().into(),
            },
        );
        self.write_dtype(&mut raw);
        rope::write(&self.rope, &mut raw);
        window::write(self, &mut raw);
        shapes::write(self, &mut raw);
        self.write_method(&mut raw);
        Json::from(raw).to_text()
    }

    /// Whether another program would compute something else.
    fn needs_pare(&self) -> bool {
        self.own_forms || self.shortcuts || matches!(self.rope.scaling, Scaling::Divisors(_))
    }

    /// Names the method by which other tools refuse weights that they would misread; takes the name away where all are plain.
    fn write_method(&self, raw: &mut Object) {
        let key = "quantization_config";
        let there = raw.get(key).is_some();
        let own = match raw.get(key) {
            Some(Json::Object(method)) => method.get("quant_method") == Some(&Json::from(OWN_METHOD)),
            _ => false,
        };
        if self.needs_pare() && !own {
            let mut method = Object::default();
            method.set("quant_method", OWN_METHOD);
            raw.set(key, Json::Object(method));
        } else if there && !self.needs_pare() && self.quantised.is_none() {
            raw.remove(key);
        }
    }

    /// Sets the name of the type under the keys that are there, else under the one that every tool reads.
    fn write_dtype(&self, raw: &mut Object) {
        let name = match self.dtype {
            Some(Dtype::F64) => "float64",
            Some(Dtype::F32) => "float32",
            Some(Dtype::F16) => "float16",
            Some(Dtype::BF16) => "bfloat16",
            _ => return,
        };
        let (old, new) = ("torch_dtype", "dtype");
        let has_new = raw.get(new).is_some();
        if has_new {
            raw.set(new, name);
        }
        if !has_new || raw.get(old).is_some() {
            raw.set(old, name);
        }
    }
}

/// The shortest decimal number that is `value` in f32, so that 1e-5 is not written as 9.999999747378752e-6.
pub(super) fn widened(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
