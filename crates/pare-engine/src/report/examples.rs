//! Reports for tests.

use crate::figures::{
    BlockCurve, BlockRedundancy, BlockShare, CurvePoint, Figures, ModelFacts, RecipeFacts, Report, Role, Sample,
};

fn figures(label: &str, role: Role) -> Figures {
    Figures {
        label: label.to_owned(),
        role,
        perplexity: Some(17.2),
        perplexity_ratio: None,
        kl_mean: None,
        kl_p99: None,
        top1_agreement: None,
        texts: Vec::new(),
        parameters: 134_515_008,
        bytes: Some(98_362_432),
        prefill_tok_s: Some(410.0),
        decode_tok_s: Some(61.5),
        peak_memory_bytes: Some(217_000_000),
        probes: [("copying".to_owned(), 0.8), ("copying_generated".to_owned(), 0.6)].into(),
    }
}

/// A curve that rises from block to block, and with what is removed.
pub(super) fn curve(block: usize) -> BlockCurve {
    let least = 0.0004 * 1.3_f64.powi(block as i32);
    let channels = [(0.1, 154, 1.0), (0.25, 384, 4.0), (0.5, 768, 16.0), (1.0, 1536, 80.0)]
        .map(|(level, removed_channels, times)| CurvePoint { level, removed_channels, kl_mean: times * least });
    BlockCurve { channels: channels.to_vec(), dropped: Some(100.0 * least) }
}

/// A model of 30 blocks, inspected.
pub(super) fn inspected() -> Report {
    let block = BlockRedundancy {
        attention_influence: 0.05,
        ffn_influence: 0.04,
        block_influence: 0.08,
        idle_channels: 0.2,
        group_spread: 1.5,
        effective_rank: 0.4,
        nuclear_norm: 0.6,
        head_correlation: 0.3,
        channel_correlation: 0.25,
        mergeable_channels: 0.1,
        energy_entropy: 0.9,
        effective_channels: 0.5,
    };
    Report {
        title: "smollm2-135m inspected".to_owned(),
        model: ModelFacts {
            name: "smollm2-135m".to_owned(),
            family: "llama".to_owned(),
            blocks: 30,
            hidden: 576,
            heads: 9,
            groups: 3,
            ffn: 1536,
            vocab: 49_152,
            parameters: 134_515_008,
            block_parameters: 106_202_880,
            storage: "q4_1".to_owned(),
        },
        recipe: None,
        picture: vec![BlockShare { attention: 1.0, ffn: 1.0 }; 30],
        redundancy: vec![block; 30],
        curves: (0..30).map(curve).collect(),
        figures: vec![figures("smollm2-135m", Role::Dense)],
        samples: Vec::new(),
        conditions: vec![("seed".to_owned(), "1".to_owned())],
        notes: Vec::new(),
    }
}

/// The same model, a fifth of its blocks' parameters removed, beside one baseline.
pub(super) fn shrunk() -> Report {
    let mut result = figures("slim", Role::Result);
    result.parameters -= 21_240_576;
    result.bytes = Some(82_000_000);
    (result.perplexity, result.perplexity_ratio) = (Some(20.296), Some(1.18));
    (result.kl_mean, result.kl_p99, result.top1_agreement) = (Some(0.21), Some(2.4), Some(0.831));
    let mut random = result.clone();
    (random.label, random.role) = ("random".to_owned(), Role::Baseline);
    (random.perplexity, random.perplexity_ratio) = (Some(244.2), Some(14.2));
    (random.kl_mean, random.kl_p99, random.top1_agreement) = (Some(3.1), Some(11.0), Some(0.31));
    let mut report = inspected();
    report.title = "smollm2-135m shrunk by slim".to_owned();
    report.recipe = Some(RecipeFacts {
        name: "slim".to_owned(),
        about: "the channels and groups that matter least leave".to_owned(),
        source: "own".to_owned(),
        keep: 0.8,
        seconds: 41.2,
    });
    report.picture = vec![BlockShare { attention: 1.0, ffn: 0.7 }; 30];
    (report.redundancy, report.curves) = (Vec::new(), Vec::new());
    report.figures.extend([result, random]);
    report.samples = vec![Sample {
        prompt: "Once upon a time".to_owned(),
        texts: vec![
            ("smollm2-135m".to_owned(), ", there was a fox.".to_owned()),
            ("slim".to_owned(), " a fox.".to_owned()),
        ],
    }];
    report.notes = vec!["Only pare runs a model whose blocks differ in width.".to_owned()];
    report
}
