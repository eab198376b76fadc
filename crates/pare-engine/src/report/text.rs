//! Text of a model or a user on its way into a page: what would act on the page unseen is made visible.
//!
//! Escaping `<`, `&` and quotes is left to the templates.

use crate::figures::{Figures, ModelFacts, OnText, RecipeFacts, Report, Sample};

/// Names of the ASCII control characters. Unicode has pictures of them, but few machines have a font that draws those.
const CONTROL: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI", "DLE",
    "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
];

/// Control characters by name, except line feed and tab; invisible marks that reorder or break text as code points.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\0'..='\x1f' => shown.push_str(&format!("⟨{}⟩", CONTROL[character as usize])),
            '\x7f' => shown.push_str("⟨DEL⟩"),
            '\u{80}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(character))),
            _ => shown.push(character),
        }
    }
    shown
}

/// The report with all its text made visible. Every field is named here, so that a new one cannot be forgotten.
pub(super) fn visible_report(report: &Report) -> Report {
    let pair = |(name, value): &(String, String)| (visible(name), visible(value));
    let Report { title, model, recipe, picture, redundancy, curves, figures, samples, conditions, notes } = report;
    Report {
        title: visible(title),
        model: visible_model(model),
        recipe: recipe.as_ref().map(visible_recipe),
        picture: picture.clone(),
        redundancy: redundancy.clone(),
        curves: curves.clone(),
        figures: figures.iter().map(visible_figures).collect(),
        samples: samples
            .iter()
            .map(|Sample { prompt, texts }| Sample { prompt: visible(prompt), texts: texts.iter().map(pair).collect() })
            .collect(),
        conditions: conditions.iter().map(pair).collect(),
        notes: notes.iter().map(|note| visible(note)).collect(),
    }
}

pub(super) fn visible_model(model: &ModelFacts) -> ModelFacts {
    let &ModelFacts {
        ref name,
        ref family,
        blocks,
        hidden,
        heads,
        groups,
        ffn,
        vocab,
        parameters,
        block_parameters,
        ref storage,
    } = model;
    ModelFacts {
        name: visible(name),
        family: visible(family),
        blocks,
        hidden,
        heads,
        groups,
        ffn,
        vocab,
        parameters,
        block_parameters,
        storage: visible(storage),
    }
}

fn visible_recipe(recipe: &RecipeFacts) -> RecipeFacts {
    let &RecipeFacts { ref name, ref about, ref source, keep, seconds } = recipe;
    RecipeFacts { name: visible(name), about: visible(about), source: visible(source), keep, seconds }
}

fn visible_figures(figures: &Figures) -> Figures {
    let &Figures {
        ref label,
        role,
        perplexity,
        perplexity_ratio,
        kl_mean,
        kl_p99,
        top1_agreement,
        ref texts,
        parameters,
        bytes,
        prefill_tok_s,
        decode_tok_s,
        peak_memory_bytes,
        ref probes,
    } = figures;
    let texts = texts.iter().map(|text| OnText { name: visible(&text.name), ..text.clone() }).collect();
    Figures {
        label: visible(label),
        role,
        perplexity,
        perplexity_ratio,
        kl_mean,
        kl_p99,
        top1_agreement,
        texts,
        parameters,
        bytes,
        prefill_tok_s,
        decode_tok_s,
        peak_memory_bytes,
        probes: probes.iter().map(|(name, &share)| (visible(name), share)).collect(),
    }
}

/// At most `limit` characters, the last an ellipsis when some are left out.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(visible("a\x1b[31m\0\r\n\tb\x7f"), "a⟨ESC⟩[31m⟨NUL⟩⟨CR⟩\n\tb⟨DEL⟩");
        assert_eq!(visible("\u{9b}x\u{202e}y"), "⟨U+009B⟩x⟨U+202E⟩y");
        assert_eq!(visible("plain — text, 日本語 👩‍🚀"), "plain — text, 日本語 👩‍🚀");
    }

    #[test]
    fn long_text_is_shortened_by_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }

    #[test]
    fn lists_in_prose() {
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(listed(&items), "a, b and c");
        assert_eq!(listed(&items[..2]), "a and b");
        assert_eq!(listed(&items[..1]), "a");
        assert_eq!(listed(&[]), "");
    }
}
