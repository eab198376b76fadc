//! Which architecture of llama.cpp a model is, and what none of them can say.

use crate::Error;
use pare_format::config::{Family, Scaling};
use pare_model::block::{Attention, Block, Ffn};
use pare_model::model::Model;
use pare_model::site::Projection;

/// FFN channels of zeros that stand in for a missing part, where readers ask for one: a block of every quantised type.
pub(super) const STAND_IN_CHANNELS: usize = 32;

/// A part of a block in the file.
#[derive(Debug)]
pub(super) enum Part<'a, T> {
    /// The model's own.
    Own(&'a T),
    /// Zeros that compute nothing, because readers need the part to be there.
    StandIn,
    /// Not in the file.
    Absent,
}

impl<T> Part<'_, T> {
    fn size(&self, own: impl Fn(&T) -> usize, stand_in: usize) -> usize {
        match self {
            Self::Own(part) => own(part),
            Self::StandIn => stand_in,
            Self::Absent => 0,
        }
    }
}

/// One block of the file.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) attention: Part<'a, Attention>,
    pub(super) ffn: Part<'a, Ffn>,
}

impl Layer<'_> {
    /// H.
    pub(super) fn heads(&self) -> usize {
        self.attention.size(|part| part.heads, 1)
    }

    /// G.
    pub(super) fn groups(&self) -> usize {
        self.attention.size(|part| part.groups, 1)
    }

    /// F.
    pub(super) fn width(&self) -> usize {
        self.ffn.size(Ffn::width, STAND_IN_CHANNELS)
    }
}

/// How a model is said in the terms of llama.cpp.
#[derive(Debug)]
pub(super) struct Architecture<'a> {
    /// `general.architecture`.
    pub(super) name: &'static str,
    /// The blocks that the file has: those without parts pass everything on and are left out.
    pub(super) layers: Vec<Layer<'a>>,
    /// Whether a block of the file may have another number than in the model.
    pub(super) renumbers: bool,
    /// Whether q, k and v (and o, where the architecture has it) have biases.
    pub(super) attention_bias: bool,
    /// Whether gate, up and down have biases.
    pub(super) ffn_bias: bool,
}

/// The error for a model that cannot be written so.
pub(super) fn refuse(model: &str, why: &str) -> Error {
    Error::Refused(format!("{model}: cannot be exported: {why}"))
}

impl<'a> Architecture<'a> {
    /// # Errors
    /// What no architecture of the format can say.
    pub(super) fn of(model: &'a Model) -> Result<Self, String> {
        let family = model.architecture.family;
        let blocks: Vec<&Block> =
            model.blocks.iter().filter(|block| block.mixer.is_some() || block.ffn.is_some()).collect();
        let widths = |block: &Block| {
            let attention = block.attention().map(|part| (part.heads, part.groups));
            Some((attention?, block.ffn.as_ref()?.width()))
        };
        if model.has_shortcuts() {
            return Err("its blocks have shortcuts (the rewrite slice makes them), which the GGUF format cannot say; the rewrite \
                        slice-global makes a model without"
                .to_owned());
        }
        let Some(first) = blocks.first() else { return Err("no block has a part left".to_owned()) };
        let uniform = widths(first).is_some() && blocks.iter().all(|block| widths(block) == widths(first));
        let name = match (family, uniform) {
            (Family::Llama | Family::Mistral, true) => "llama",
            (Family::Llama | Family::Mistral, false) => "deci",
            (Family::Qwen2, true) => "qwen2",
            (Family::Qwen3, true) => "qwen3",
            (Family::Qwen2 | Family::Qwen3, false) => {
                let name = family.model_type();
                return Err(format!(
                    "its blocks differ in heads, feed-forward width or parts, which the GGUF format says of llama models only, not of \
                     {name}; a recipe that cuts every block alike can be exported"
                ));
            }
        };
        let layer = |(index, block): (usize, &&'a Block)| Layer {
            // Readers take the width of a head as 0 when the first block has none.
            attention: match block.attention() {
                Some(part) => Part::Own(part),
                None if index == 0 => Part::StandIn,
                None => Part::Absent,
            },
            // llama.cpp skips the attention of a block without feed-forward layer.
            ffn: block.ffn.as_ref().map_or(Part::StandIn, Part::Own),
        };
        let has = |projections: &[Projection]| {
            let of_block = |block: &&Block| {
                projections.iter().any(|&p| block.linear(p).is_some_and(|linear| linear.bias.is_some()))
            };
            blocks.iter().any(of_block)
        };
        let architecture = Self {
            name,
            layers: blocks.iter().enumerate().map(layer).collect(),
            renumbers: blocks.len() != model.blocks.len(),
            attention_bias: has(&[Projection::Q, Projection::K, Projection::V, Projection::O]),
            ffn_bias: has(&[Projection::Gate, Projection::Up, Projection::Down]),
        };
        architecture.check_biases(model, has(&[Projection::O]))?;
        architecture.check_heads(model, &blocks)?;
        architecture.check_rope(model)?;
        Ok(architecture)
    }

    /// Whether rows of queries and keys are written with the two halves of each head interleaved.
    pub(super) fn interleaves(&self) -> bool {
        matches!(self.name, "llama" | "deci")
    }

    /// Whether the output projection of attention has a bias in the file.
    pub(super) fn output_bias(&self) -> bool {
        self.attention_bias && self.interleaves()
    }

    fn check_biases(&self, model: &Model, output_bias: bool) -> Result<(), String> {
        let refuse = |which: &str| Err(format!("the GGUF architecture {} has no bias on {which}", self.name));
        match self.name {
            "qwen2" if output_bias => return refuse("the output projection of attention"),
            "qwen3" if self.attention_bias => return refuse("attention"),
            "qwen2" | "qwen3" if self.ffn_bias => return refuse("the feed-forward layer"),
            _ => {}
        }
        match &model.head {
            Some(head) if head.bias.is_some() => refuse("the output head"),
            _ => Ok(()),
        }
    }

    fn check_heads(&self, model: &Model, blocks: &[&Block]) -> Result<(), String> {
        let architecture = &model.architecture;
        for (index, part) in blocks.iter().enumerate().filter_map(|(index, block)| Some((index, block.attention()?))) {
            let norms = [&part.q_norm, &part.k_norm].map(Option::is_some);
            if norms != [self.name == "qwen3"; 2] {
                let has = if self.name == "qwen3" { "needs" } else { "has no" };
                return Err(format!("block {index}: the GGUF architecture {} {has} norms of heads", self.name));
            }
            let (all, hidden) = (part.heads * architecture.head_dim, architecture.hidden);
            if self.name == "qwen2" && all != hidden {
                return Err(format!(
                    "its heads are {all} wide together and the model {hidden}, which the GGUF architecture qwen2 cannot say"
                ));
            }
        }
        Ok(())
    }

    fn check_rope(&self, model: &Model) -> Result<(), String> {
        match model.architecture.rope.scaling {
            Scaling::Llama3 { .. } | Scaling::Divisors(_) if !self.interleaves() => Err(format!(
                "the GGUF architecture {} has no place for frequencies that are divided one by one (llama3)",
                self.name
            )),
            Scaling::Yarn { factor, beta_fast, beta_slow, attention_factor, .. } => {
                let usual = 0.1 * factor.ln() + 1.0;
                let factor_differs = attention_factor.is_some_and(|own| (own - usual).abs() > 1e-6 * usual);
                if (beta_fast, beta_slow) != (32.0, 1.0) || factor_differs {
                    return Err(format!(
                        "YaRN with beta_fast {beta_fast}, beta_slow {beta_slow}, attention_factor {}: readers of GGUF files use 32, 1 and \
                         {usual:.6}",
                        attention_factor.unwrap_or(usual)
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the user should know of the file.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.name == "deci" {
            notes.push("blocks differ: written as architecture \"deci\", which llama.cpp and pare read".to_owned());
        }
        let zeros = self.layers.iter().filter(|layer| matches!(layer.ffn, Part::StandIn)).count();
        if zeros > 0 {
            notes.push(format!(
                "{zeros} blocks without feed-forward layer get one of {STAND_IN_CHANNELS} channels of zeros: llama.cpp would skip their \
                 attention otherwise"
            ));
        }
        if self.layers.iter().any(|layer| matches!(layer.attention, Part::StandIn)) {
            notes
                .push("the first block gets one head of zeros: llama.cpp would not load the file otherwise".to_owned());
        }
        notes
    }
}
