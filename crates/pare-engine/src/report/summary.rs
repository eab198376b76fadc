//! What the figures say, in one sentence, and against the result where it loses.

use super::number::{megabytes, percent, rough_count, significant, times};
use super::redundancy::{ATTENTION, BLOCK, FFN, IDLE, Sign};
use super::tables::CHANCE;
use super::text::listed;
use crate::figures::{Figures, Report, Role};

/// The head of the page.
pub(super) struct Summary {
    /// One sentence.
    pub(super) lead: String,
    /// Sizes, speeds, probes: short remarks.
    pub(super) more: Vec<String>,
}

/// Computes both from the figures.
pub(super) fn summary(report: &Report) -> Summary {
    let dense = report.figures.iter().find(|figures| figures.role == Role::Dense);
    let result = report.figures.iter().find(|figures| figures.role == Role::Result);
    match (dense, result) {
        (Some(dense), Some(result)) => {
            let baselines: Vec<&Figures> =
                report.figures.iter().filter(|figures| figures.role == Role::Baseline).collect();
            let clauses =
                [removed(report, dense, result), quality(dense, result), comparison(dense, result, &baselines)];
            let before = report.figures.iter().find(|figures| figures.role == Role::AsRead).unwrap_or(dense);
            Summary { lead: clauses.join("; ") + ".", more: changes(before, result) }
        }
        _ => alone(report),
    }
}

fn removed(report: &Report, dense: &Figures, result: &Figures) -> String {
    let in_blocks = report.model.block_parameters;
    let (before, after) = (dense.parameters, result.parameters);
    if after > before {
        return format!("{} of the parameters added", percent((after - before) as f64 / before.max(1) as f64));
    }
    let gone = before - after;
    if gone == 0 {
        let zeroed = report.picture.iter().any(|share| share.attention < 1.0 || share.ffn < 1.0);
        return if zeroed { "Weights zeroed but still stored" } else { "No parameter removed" }.to_owned();
    }
    // More than the blocks hold: something outside of them went too.
    if gone > in_blocks {
        return format!("{} of all parameters removed", percent(gone as f64 / before as f64));
    }
    format!("{} of the block parameters removed", percent(gone as f64 / in_blocks as f64))
}

/// Perplexity over that of the dense model, computed when it is not given.
fn ratio(dense: &Figures, figures: &Figures) -> Option<f64> {
    figures.perplexity_ratio.or(match (dense.perplexity, figures.perplexity) {
        (Some(before), Some(after)) => Some(after / before),
        _ => None,
    })
}

fn quality(dense: &Figures, result: &Figures) -> String {
    let perplexity = ratio(dense, result).map(|ratio| format!("perplexity {}", times(ratio)));
    let top1 = result.top1_agreement.map(|share| format!("{} same top-1", percent(share)));
    let parts: Vec<String> = perplexity.into_iter().chain(top1).collect();
    if parts.is_empty() { "quality on text not measured".to_owned() } else { parts.join(", ") }
}

fn comparison(dense: &Figures, result: &Figures, baselines: &[&Figures]) -> String {
    let mut lost = Vec::new();
    let mut rest = Vec::new();
    for baseline in baselines {
        let wins = wins(dense, baseline, result);
        if !wins.is_empty() {
            lost.push(format!("{} ({})", baseline.label, wins.join(", ")));
        } else if let Some(ratio) = ratio(dense, baseline) {
            rest.push(format!("{} ({})", times(ratio), baseline.label));
        }
    }
    let lost = (!lost.is_empty()).then(|| format!("it loses to {}", listed(&lost)));
    let rest = (!rest.is_empty()).then(|| format!("by comparison {}", listed(&rest)));
    let clauses: Vec<String> = lost.into_iter().chain(rest).collect();
    if clauses.is_empty() { "no baseline measured".to_owned() } else { clauses.join("; ") }
}

/// Where a baseline is better than the result, with its value. A result that is not a number loses to one that is; values
/// that read the same are a draw.
fn wins(dense: &Figures, baseline: &Figures, result: &Figures) -> Vec<String> {
    let three_digits: fn(f64) -> String = |value| significant(value, 3);
    let lower = |theirs: f64, ours: f64| theirs < ours || ours.is_nan() && !theirs.is_nan();
    let higher = |theirs: f64, ours: f64| theirs > ours || ours.is_nan() && !theirs.is_nan();
    let win = |better: &dyn Fn(f64, f64) -> bool, show: fn(f64) -> String, theirs: Option<f64>, ours: Option<f64>| {
        let (theirs, ours) = (theirs?, ours?);
        (better(theirs, ours) && show(theirs) != show(ours)).then(|| show(theirs))
    };
    let perplexity = win(&lower, times, ratio(dense, baseline), ratio(dense, result));
    let divergence = win(&lower, three_digits, baseline.kl_mean, result.kl_mean);
    let top1 = win(&higher, percent, baseline.top1_agreement, result.top1_agreement);
    let probes = win(&higher, percent, probe_mean(baseline, result), probe_mean(result, baseline));
    [
        perplexity.map(|ratio| format!("perplexity {ratio}")),
        divergence.map(|nats| format!("mean KL {nats}")),
        top1.map(|share| format!("{share} same top-1")),
        probes.map(|share| format!("{share} of the probes")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn change(before: f64, after: f64) -> String {
    let change = after / before - 1.0;
    let sign = if change < 0.0 { "−" } else { "+" };
    format!("{sign}{}", percent(change.abs()))
}

/// From the model as it was read to the result.
fn changes(dense: &Figures, result: &Figures) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(before), Some(after)) = (dense.bytes, result.bytes)
        && before > 0
    {
        let (before, after) = (before as f64, after as f64);
        lines.push(format!("{} → {} ({})", megabytes(before), megabytes(after), change(before, after)));
    }
    if dense.parameters > 0 {
        let change = change(dense.parameters as f64, result.parameters as f64);
        let (before, after) = (rough_count(dense.parameters), rough_count(result.parameters));
        lines.push(format!("{before} → {after} parameters ({change})"));
    }
    let speeds =
        [("decode", dense.decode_tok_s, result.decode_tok_s), ("prefill", dense.prefill_tok_s, result.prefill_tok_s)];
    for (name, before, after) in speeds {
        if let (Some(before), Some(after)) = (before, after)
            && before > 0.0
        {
            let (from, to) = (significant(before, 3), significant(after, 3));
            lines.push(format!("{name} {from} → {to} tokens/s ({})", times(after / before)));
        }
    }
    if let (Some(before), Some(after)) = (probe_mean(dense, result), probe_mean(result, dense)) {
        lines.push(format!("probes {} → {} right (chance {})", percent(before), percent(after), percent(CHANCE)));
    }
    lines
}

/// Mean accuracy by likelihood over the probes that both models have.
fn probe_mean(figures: &Figures, other: &Figures) -> Option<f64> {
    let shares: Vec<f64> = figures
        .probes
        .iter()
        .filter(|(name, _)| !name.ends_with("_generated") && other.probes.contains_key(*name))
        .map(|(_, &share)| share)
        .collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

/// A report on one model.
fn alone(report: &Report) -> Summary {
    let model = &report.model;
    let figures = report.figures.first();
    let end = |sign: &Sign, what: &str| {
        let (block, value) = sign.strongest(&report.redundancy, 1).pop()?;
        Some(format!("{what}block\u{a0}{block} ({value})"))
    };
    let least: Vec<String> = [(&BLOCK, ""), (&ATTENTION, "the attention of "), (&FFN, "the feed-forward part of ")]
        .into_iter()
        .filter_map(|(sign, what)| end(sign, what))
        .collect();
    let least = (!least.is_empty()).then(|| format!("Least influence: {}", least.join(", ")));
    let idle = end(&IDLE, "most idle channels: ");
    let found: Vec<String> = least.into_iter().chain(idle).collect();
    let sizes = format!("{} parameters in {} blocks", rough_count(model.parameters), model.blocks);
    let (lead, first) = if found.is_empty() { (sizes, None) } else { (found.join("; "), Some(sizes)) };
    let mut more = Vec::from_iter(first);
    if let Some(bytes) = figures.and_then(|figures| figures.bytes) {
        more.push(megabytes(bytes as f64));
    }
    if let Some(perplexity) = figures.and_then(|figures| figures.perplexity) {
        more.push(format!("perplexity {}", significant(perplexity, 4)));
    }
    Summary { lead: lead + ".", more }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{inspected, shrunk};
    use super::*;

    #[test]
    fn a_good_result() {
        let report = shrunk();
        assert_eq!(
            summary(&report).lead,
            "20.0\u{a0}% of the block parameters removed; perplexity 1.18×, 83.1\u{a0}% same top-1; by comparison 14.2× (random)."
        );
        assert_eq!(summary(&report).more[0], "98.4\u{a0}MB → 82.0\u{a0}MB (−16.6\u{a0}%)");
    }

    #[test]
    fn a_result_that_loses_says_so() {
        let mut report = shrunk();
        let mut better = report.figures[1].clone();
        better.label = "magnitude".to_owned();
        better.role = Role::Baseline;
        better.perplexity_ratio = Some(1.1);
        better.top1_agreement = Some(0.85);
        report.figures.push(better);
        let lead = summary(&report).lead;
        assert!(
            lead.contains(
                "it loses to magnitude (perplexity 1.10×, 85.0\u{a0}% same top-1); by comparison 14.2× (random)"
            ),
            "{lead}"
        );
        // Better than the result, but not by a digit that is shown.
        report.figures[3].perplexity_ratio = Some(1.1799);
        report.figures[3].top1_agreement = report.figures[1].top1_agreement;
        assert!(summary(&report).lead.ends_with("by comparison 14.2× (random) and 1.18× (magnitude)."));
        report.figures[3].probes.insert("copying".to_owned(), 0.9);
        assert!(summary(&report).lead.contains("it loses to magnitude (90.0\u{a0}% of the probes)"));
        report.figures[1].perplexity_ratio = Some(f64::NAN);
        assert!(summary(&report).lead.contains("random (perplexity 14.2×)"), "{}", summary(&report).lead);
    }

    #[test]
    fn what_was_not_measured_is_not_claimed() {
        let mut report = shrunk();
        report.figures.truncate(2);
        for figures in &mut report.figures {
            figures.parameters = 500;
            (figures.perplexity, figures.perplexity_ratio, figures.top1_agreement) = (None, None, None);
            (figures.bytes, figures.decode_tok_s, figures.prefill_tok_s) = (None, None, None);
            figures.probes.clear();
        }
        let text = summary(&report);
        assert!(text.lead.starts_with("Weights zeroed but still stored; "), "{}", text.lead);
        report.picture.clear();
        assert_eq!(summary(&report).lead, "No parameter removed; quality on text not measured; no baseline measured.");
        assert_eq!(text.more, ["500 → 500 parameters (+0.0\u{a0}%)"]);
    }

    #[test]
    fn inspect_names_the_weakest_block_and_parts() {
        let mut report = inspected();
        report.redundancy[1].block_influence = 0.001;
        report.redundancy[0].attention_influence = 0.002;
        report.redundancy[4].idle_channels = 0.5;
        assert_eq!(
            summary(&report).lead,
            "Least influence: block\u{a0}1 (0.00100), the attention of block\u{a0}0 (0.00200), \
             the feed-forward part of block\u{a0}0 (0.0400); most idle channels: block\u{a0}4 (50.0\u{a0}%)."
        );
        report.redundancy.clear();
        assert_eq!(summary(&report).lead, "134.5\u{a0}M parameters in 30 blocks.");
    }
}
