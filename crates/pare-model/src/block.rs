//! One block of a decoder: attention and feed-forward, each of which may be missing.

use crate::site::Projection;
use crate::weight::Linear;
use std::sync::Arc;

/// Grouped-query attention with rotary positions.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Gain of the norm before it, `[C]`.
    pub norm: Arc<[f32]>,
    /// Query projection `[H * D, C]`.
    pub q: Linear,
    /// Key projection `[G * D, C]`.
    pub k: Linear,
    /// Value projection `[G * D, C]`.
    pub v: Linear,
    /// Output projection `[C, H * D]`.
    pub o: Linear,
    /// Gain of the norm of each query head, `[D]` (qwen3).
    pub q_norm: Option<Arc<[f32]>>,
    /// Gain of the norm of each key head, `[D]` (qwen3).
    pub k_norm: Option<Arc<[f32]>>,
    /// What the residual stream passes beside the part, `[C, C]`; none when it passes unchanged.
    pub shortcut: Option<Linear>,
    /// Query heads H.
    pub heads: usize,
    /// KV heads G; query heads `g * H / G .. (g + 1) * H / G` read KV head `g`.
    pub groups: usize,
}

/// What mixes the tokens of a sequence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Mixer {
    /// Softmax attention.
    Attention(Attention),
}

/// Gated feed-forward: `down(silu(gate x) * up x)`.
#[derive(Clone, Debug)]
pub struct Ffn {
    /// Gain of the norm before it, `[C]`.
    pub norm: Arc<[f32]>,
    /// Gate projection `[F, C]`.
    pub gate: Linear,
    /// Up projection `[F, C]`.
    pub up: Linear,
    /// Down projection `[C, F]`.
    pub down: Linear,
    /// What the residual stream passes beside the part, `[C, C]`; none when it passes unchanged.
    pub shortcut: Option<Linear>,
}

impl Ffn {
    /// Number of channels F.
    pub fn width(&self) -> usize {
        self.down.inputs()
    }
}

/// A block: `x + mixer(norm x)`, then `x + ffn(norm x)`; a part with a shortcut S makes it `S x + part(norm x)`.
#[derive(Clone, Debug)]
pub struct Block {
    /// The attention part, unless it was dropped.
    pub mixer: Option<Mixer>,
    /// The feed-forward part, unless it was dropped.
    pub ffn: Option<Ffn>,
}

impl Block {
    /// The attention part.
    pub fn attention(&self) -> Option<&Attention> {
        self.mixer.as_ref().map(|Mixer::Attention(attention)| attention)
    }

    /// The attention part, writable.
    pub fn attention_mut(&mut self) -> Option<&mut Attention> {
        self.mixer.as_mut().map(|Mixer::Attention(attention)| attention)
    }

    /// One of its projections, unless its part was dropped.
    pub fn linear(&self, projection: Projection) -> Option<&Linear> {
        let (attention, ffn) = (self.attention(), self.ffn.as_ref());
        match projection {
            Projection::Q => attention.map(|part| &part.q),
            Projection::K => attention.map(|part| &part.k),
            Projection::V => attention.map(|part| &part.v),
            Projection::O => attention.map(|part| &part.o),
            Projection::Gate => ffn.map(|part| &part.gate),
            Projection::Up => ffn.map(|part| &part.up),
            Projection::Down => ffn.map(|part| &part.down),
        }
    }

    /// One of its projections, writable.
    pub fn linear_mut(&mut self, projection: Projection) -> Option<&mut Linear> {
        let Self { mixer, ffn } = self;
        let attention = mixer.as_mut().map(|Mixer::Attention(attention)| attention);
        let ffn = ffn.as_mut();
        match projection {
            Projection::Q => attention.map(|part| &mut part.q),
            Projection::K => attention.map(|part| &mut part.k),
            Projection::V => attention.map(|part| &mut part.v),
            Projection::O => attention.map(|part| &mut part.o),
            Projection::Gate => ffn.map(|part| &mut part.gate),
            Projection::Up => ffn.map(|part| &mut part.up),
            Projection::Down => ffn.map(|part| &mut part.down),
        }
    }

    /// Its projections that are there, in the order of the forward pass.
    pub fn linears(&self) -> impl Iterator<Item = (Projection, &Linear)> {
        Projection::ALL.into_iter().filter_map(|projection| Some((projection, self.linear(projection)?)))
    }

    /// The shortcuts of its parts that are there.
    pub fn shortcuts(&self) -> impl Iterator<Item = &Linear> {
        let attention = self.attention().and_then(|part| part.shortcut.as_ref());
        attention.into_iter().chain(self.ffn.as_ref().and_then(|part| part.shortcut.as_ref()))
    }

    /// The shortcuts of its parts that are there, writable.
    pub fn shortcuts_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Self { mixer, ffn } = self;
        let attention = mixer.as_mut().and_then(|Mixer::Attention(attention)| attention.shortcut.as_mut());
        attention.into_iter().chain(ffn.as_mut().and_then(|part| part.shortcut.as_mut()))
    }

    /// Stored numbers of the attention part: projections, biases, norms and a shortcut.
    pub fn attention_parameters(&self) -> u64 {
        self.attention().map_or(0, |part| {
            let gain = |gain: &Option<Arc<[f32]>>| gain.as_ref().map_or(0, |gain| gain.len() as u64);
            [&part.q, &part.k, &part.v, &part.o].iter().map(|linear| linear.parameters()).sum::<u64>()
                + part.norm.len() as u64
                + gain(&part.q_norm)
                + gain(&part.k_norm)
                + part.shortcut.as_ref().map_or(0, Linear::parameters)
        })
    }

    /// Stored numbers of the feed-forward part.
    pub fn ffn_parameters(&self) -> u64 {
        self.ffn.as_ref().map_or(0, |part| {
            [&part.gate, &part.up, &part.down].iter().map(|linear| linear.parameters()).sum::<u64>()
                + part.norm.len() as u64
                + part.shortcut.as_ref().map_or(0, Linear::parameters)
        })
    }
}
