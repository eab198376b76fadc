//! A comparison as one HTML page that needs nothing else: two plots, a table of models, one for each share, and what has no figures.

use super::number::{count, duration, megabytes, percent, significant, times};
use super::pareto::{Better as Towards, Mark, Plot, draw};
use super::tables::{self, Better, Column, Table};
use super::text::{visible, visible_model};
use crate::compare::{
    AS_READ, Comparison, DENSE, Entry, ModelEntry, ModelFigures, OnOneText, Outcome, PLAIN_BITS, PlainEntry,
};
use crate::figures::{Figures, OnText, Role};
use askama::Template;

#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    comparison: &'a Comparison,
    title: String,
    lead: String,
    plots: Vec<Pane>,
    sections: Vec<Section>,
    refused: Vec<(String, &'static str, String)>,
    /// Name, how its projections are stored, where it is.
    models: Vec<(String, String, String)>,
    /// Name, what it does, source.
    recipes: Vec<(String, String, String)>,
    model: Vec<(&'static str, String)>,
    version: &'static str,
}

struct Pane {
    title: &'static str,
    about: &'static str,
    unbeaten: String,
    plot: Plot,
}

/// A table of what stands side by side.
struct Section {
    title: String,
    /// What its rows are.
    kind: &'static str,
    figures: Table,
    by_likelihood: Option<Table>,
    by_generation: Option<Table>,
}

/// The page of a comparison.
///
/// # Errors
/// The template cannot be written, which no comparison should be able to cause.
pub fn render_comparison(comparison: &Comparison) -> Result<String, askama::Error> {
    let comparison = &visible_comparison(comparison);
    let refused = comparison.entries.iter().filter_map(|entry| {
        let kind = if matches!(entry.outcome, Outcome::Failed { .. }) { "failed" } else { "not applicable" };
        Some((entry.name(), kind, entry.why()?.to_owned()))
    });
    Page {
        comparison,
        title: title(comparison),
        lead: lead(comparison),
        plots: plots(comparison),
        sections: models(comparison)
            .into_iter()
            .chain(comparison.keeps.iter().filter_map(|&keep| share(comparison, keep)))
            .collect(),
        refused: refused.collect(),
        models: comparison
            .models
            .iter()
            .map(|own| (own.name.clone(), own.figures.storage.clone(), own.path.clone()))
            .collect(),
        recipes: recipes(comparison),
        model: vec![
            ("Model", comparison.model.name.clone()),
            ("Family", comparison.model.family.clone()),
            ("Stored as", comparison.model.storage.clone()),
            ("Parameters", count(comparison.model.parameters)),
            ("of them in blocks", count(comparison.model.block_parameters)),
            ("Blocks", count(comparison.model.blocks as u64)),
        ],
        version: env!("CARGO_PKG_VERSION"),
    }
    .render()
}

fn title(comparison: &Comparison) -> String {
    let name = &comparison.model.name;
    match (comparison.models.is_empty(), comparison.entries.is_empty()) {
        (true, _) => format!("{name}, every recipe"),
        (false, true) => format!("{name} and models beside it"),
        (false, false) => format!("{name}, recipes and models beside it"),
    }
}

fn recipes(comparison: &Comparison) -> Vec<(String, String, String)> {
    let mut recipes: Vec<(String, String, String)> = Vec::new();
    for entry in &comparison.entries {
        if recipes.last().is_none_or(|last| last.0 != entry.recipe) {
            recipes.push((entry.recipe.clone(), entry.about.clone(), entry.source.clone()));
        }
    }
    recipes
}

/// Entries with figures of one share, the least divergence first.
fn of_share(comparison: &Comparison, keep: f64) -> Vec<(&Entry, &ModelFigures)> {
    let of_share = comparison.entries.iter().filter(|entry| entry.keep == keep);
    let mut entries: Vec<(&Entry, &ModelFigures)> =
        of_share.filter_map(|entry| Some((entry, entry.measured()?))).collect();
    entries.sort_by(|a, b| a.1.kl_mean.total_cmp(&b.1.kl_mean));
    entries
}

fn lead(comparison: &Comparison) -> String {
    // What is as large as before has gained nothing by its loss.
    let models = comparison.models.iter().filter(|model| model.figures.bytes < comparison.as_read.bytes);
    let model = models.min_by(|a, b| a.figures.kl_mean.total_cmp(&b.figures.kl_mean));
    let model = model.map(|model| format!("{} (KL {})", model.name, significant(model.figures.kl_mean, 3)));
    let pared = comparison.keeps.iter().filter_map(|&keep| {
        let smaller = |(_, figures): &(&Entry, &ModelFigures)| figures.bytes < comparison.as_read.bytes;
        let (entry, figures) = of_share(comparison, keep).into_iter().find(smaller)?;
        // The same bytes without a cut.
        let plain =
            comparison.plain_bits.iter().map(|plain| &plain.figures).filter(|plain| plain.bytes <= figures.bytes);
        let plain = plain.min_by(|a, b| a.kl_mean.total_cmp(&b.kl_mean));
        let plain = plain.map(|plain| format!("; {PLAIN_BITS} of its size {}", significant(plain.kl_mean, 3)));
        let (kl, plain) = (significant(figures.kl_mean, 3), plain.unwrap_or_default());
        Some(format!("{} at {keep} (KL {kl}{plain})", entry.recipe))
    });
    let best: Vec<String> = model.into_iter().chain(pared).collect();
    if best.is_empty() && comparison.entries.is_empty() {
        return "No model is smaller than the reference as it was read.".to_owned();
    }
    if best.is_empty() {
        let none = comparison.entries.iter().all(|entry| entry.measured().is_none());
        let why = ["No recipe made the model smaller than it was read.", "No recipe could keep any of the shares."];
        return why[usize::from(none)].to_owned();
    }
    format!("Least divergence of what is smaller than the model as it was read: {}.", best.join(", "))
}

fn plots(comparison: &Comparison) -> Vec<Pane> {
    let marks = |x: &dyn Fn(&ModelFigures) -> f64| -> Vec<Mark> {
        let mark = |entry: &Entry| {
            let figures = entry.measured()?;
            let (label, baseline) = (entry.name(), entry.baseline);
            Some(Mark { label, x: x(figures), kl: figures.kl_mean, baseline })
        };
        let before = [(AS_READ, &comparison.as_read), (DENSE, &comparison.dense)];
        let before = before.map(|(label, figures)| {
            let (label, baseline) = (label.to_owned(), false);
            Mark { label, x: x(figures), kl: figures.kl_mean, baseline }
        });
        let given = comparison.models.iter().map(|model| Mark {
            label: model.name.clone(),
            x: x(&model.figures),
            kl: model.figures.kl_mean,
            baseline: false,
        });
        let plain = comparison.plain_bits.iter().map(|plain| Mark {
            label: plain.name.clone(),
            x: x(&plain.figures),
            kl: plain.figures.kl_mean,
            baseline: true,
        });
        given.chain(plain).chain(comparison.entries.iter().filter_map(mark)).chain(before).collect()
    };
    let dense = &comparison.dense;
    let mega = |figures: &ModelFigures| figures.bytes as f64 / 1e6;
    let bytes = draw(&marks(&mega), Some(mega(dense)), Towards::Less, "MB").map(|plot| Pane {
        title: "Quality against bytes",
        about: "Mean divergence from the original against the bytes of the written weights. Lower left is better.",
        unbeaten: comparison.fronts.bytes.join(", "),
        plot,
    });
    let rate = |figures: &ModelFigures| figures.comparable_tok_s(dense).unwrap_or(f64::NAN);
    let own = dense.speed.map(|speed| speed.decode_tok_s);
    let speed = own.and_then(|own| draw(&marks(&rate), Some(own), Towards::More, "tokens/s")).map(|plot| Pane {
        title: "Quality against speed",
        about: "Mean divergence from the original against decoding speed. Lower right is better. Each model took turns with the original; \
                what is drawn is that ratio times the original's speed, so that a machine that changes its speed moves no point.",
        unbeaten: comparison.fronts.speed.join(", "),
        plot,
    });
    bytes.into_iter().chain(speed).collect()
}

/// A row of a section.
struct Line<'a> {
    label: &'a str,
    role: Role,
    figures: &'a ModelFigures,
}

/// The models that are there already, the least divergence first.
fn models(comparison: &Comparison) -> Option<Section> {
    let mut models: Vec<&ModelEntry> = comparison.models.iter().collect();
    models.sort_by(|a, b| a.figures.kl_mean.total_cmp(&b.figures.kl_mean));
    let lines: Vec<Line<'_>> = models
        .into_iter()
        .map(|model| Line { label: &model.name, role: Role::Result, figures: &model.figures })
        .collect();
    section(comparison, "Models".to_owned(), "Model", &lines)
}

fn share(comparison: &Comparison, keep: f64) -> Option<Section> {
    let role = |baseline: bool| if baseline { Role::Baseline } else { Role::Result };
    let mut lines: Vec<Line<'_>> = of_share(comparison, keep)
        .into_iter()
        .map(|(entry, figures)| Line { label: &entry.recipe, role: role(entry.baseline), figures })
        .collect();
    if !lines.is_empty() {
        let plain = comparison.plain_bits.iter();
        lines.extend(plain.map(|own| Line { label: &own.name, role: Role::Baseline, figures: &own.figures }));
        lines.sort_by(|a, b| a.figures.kl_mean.total_cmp(&b.figures.kl_mean));
    }
    section(comparison, format!("Keep {keep}"), "Recipe", &lines)
}

fn section(comparison: &Comparison, title: String, kind: &'static str, lines: &[Line<'_>]) -> Option<Section> {
    if lines.is_empty() {
        return None;
    }
    let dense = &comparison.dense;
    let mut figures =
        vec![as_figures("original", Role::Dense, dense), as_figures(AS_READ, Role::AsRead, &comparison.as_read)];
    let before = figures.len();
    figures.extend(lines.iter().map(|line| as_figures(line.label, line.role, line.figures)));
    let mut table = tables::figures(&figures);
    for (index, row) in table.rows.iter_mut().enumerate() {
        // None of them is the result: all are weighed alike.
        let Some(line) = index.checked_sub(before) else { continue };
        (row.class, row.remark) = ("", if lines[line].role == Role::Baseline { "baseline" } else { "" });
    }
    // Speeds of different moments are not ranked; the ratios are.
    for (at, column) in table.columns.iter().enumerate() {
        if ["Decode", "Prefill"].contains(&column.title.as_str()) {
            table.rows.iter_mut().for_each(|row| row.cells[at].best = false);
        }
    }
    let mut add = |title: &str,
                   unit: &'static str,
                   better: Better,
                   show: fn(f64) -> String,
                   value: &dyn Fn(&ModelFigures) -> Option<f64>| {
        let measured = lines.iter().map(|line| value(line.figures));
        let values: Vec<Option<f64>> = std::iter::repeat_n(None, before).chain(measured).collect();
        if values.iter().all(Option::is_none) {
            return;
        }
        let arrow = if better == Better::Lower { "↓" } else { "↑" };
        table.columns.push(Column { title: title.to_owned(), unit, arrow });
        for (row, cell) in table.rows.iter_mut().zip(tables::cells(&figures, better, show, &values)) {
            row.cells.push(cell);
        }
    };
    add("Speed", "of original", Better::Higher, times, &|own| own.speed.map(|speed| speed.over_dense.median));
    add("Probes", "mean", Better::Higher, percent, &|own| own.mean_probe(false));
    add("Written", "mean", Better::Higher, percent, &|own| own.mean_probe(true));
    // What was not made here took nothing to make.
    let made = |own: &ModelFigures, value: Option<f64>| own.kept.and(value);
    add("Making", "time", Better::Lower, duration, &|own| made(own, Some(own.cost.shrink_seconds)));
    add("Making", "memory", Better::Lower, megabytes, &|own| {
        made(own, own.cost.peak_memory_bytes.map(|bytes| bytes as f64))
    });
    Some(Section {
        title,
        kind,
        figures: table,
        by_likelihood: tables::probes_by_likelihood(&figures),
        by_generation: tables::probes_by_generation(&figures),
    })
}

fn as_figures(label: &str, role: Role, measured: &ModelFigures) -> Figures {
    let pared = |value: f64| (!matches!(role, Role::Dense | Role::AsRead)).then_some(value);
    Figures {
        label: label.to_owned(),
        role,
        perplexity: Some(measured.perplexity),
        perplexity_ratio: pared(measured.perplexity_ratio),
        kl_mean: pared(measured.kl_mean),
        kl_p99: pared(measured.kl_p99),
        top1_agreement: pared(measured.top1_agreement),
        texts: on_texts(role, measured),
        parameters: measured.parameters,
        bytes: Some(measured.bytes),
        prefill_tok_s: measured.speed.map(|speed| speed.prefill_tok_s),
        decode_tok_s: measured.speed.map(|speed| speed.decode_tok_s),
        peak_memory_bytes: measured.peak_memory_bytes,
        probes: measured.probes.clone(),
    }
}

fn on_texts(role: Role, measured: &ModelFigures) -> Vec<OnText> {
    let pared = |value: f64| (!matches!(role, Role::Dense | Role::AsRead)).then_some(value);
    let text = |text: &OnOneText| OnText {
        name: text.name.clone(),
        perplexity: Some(text.perplexity),
        perplexity_ratio: pared(text.perplexity_ratio),
        kl_mean: pared(text.kl_mean),
        kl_p99: None,
        top1_agreement: None,
    };
    measured.texts.iter().map(text).collect()
}

/// The comparison with all its text made visible. Every field is named here, so that a new one cannot be forgotten.
fn visible_comparison(comparison: &Comparison) -> Comparison {
    let Comparison { pare, model, keeps, dense, as_read, models, plain_bits, entries, fronts, conditions, notes } =
        comparison;
    let names = |names: &[String]| names.iter().map(|name| visible(name)).collect();
    let figures = |measured: &ModelFigures| ModelFigures {
        storage: visible(&measured.storage),
        probes: measured.probes.iter().map(|(name, &share)| (visible(name), share)).collect(),
        texts: measured.texts.iter().map(|text| OnOneText { name: visible(&text.name), ..text.clone() }).collect(),
        ..measured.clone()
    };
    let entry = |entry: &Entry| {
        let Entry { recipe, about, source, baseline, keep, outcome } = entry;
        let outcome = match outcome {
            Outcome::Measured(measured) => Outcome::Measured(Box::new(figures(measured))),
            Outcome::NotApplicable { why } => Outcome::NotApplicable { why: visible(why) },
            Outcome::Failed { why } => Outcome::Failed { why: visible(why) },
        };
        let (recipe, about, source) = (visible(recipe), visible(about), visible(source));
        Entry { recipe, about, source, baseline: *baseline, keep: *keep, outcome }
    };
    let given = |model: &ModelEntry| {
        let ModelEntry { name, path, figures: own } = model;
        ModelEntry { name: visible(name), path: visible(path), figures: figures(own) }
    };
    let plain = |plain: &PlainEntry| {
        let PlainEntry { name, figures: own } = plain;
        PlainEntry { name: visible(name), figures: figures(own) }
    };
    Comparison {
        pare: pare.clone(),
        model: visible_model(model),
        keeps: keeps.clone(),
        dense: figures(dense),
        as_read: figures(as_read),
        models: models.iter().map(given).collect(),
        plain_bits: plain_bits.iter().map(plain).collect(),
        entries: entries.iter().map(entry).collect(),
        fronts: crate::compare::Fronts { bytes: names(&fronts.bytes), speed: names(&fronts.speed) },
        conditions: conditions.iter().map(|(name, value)| (visible(name), visible(value))).collect(),
        notes: notes.iter().map(|note| visible(note)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::inspected;
    use super::*;
    use crate::compare::{Fronts, example};

    fn comparison() -> Comparison {
        let entry = |recipe: &str, keep: f64, outcome: Outcome| Entry {
            recipe: recipe.to_owned(),
            about: "what it does".to_owned(),
            source: "a paper".to_owned(),
            baseline: recipe == "random",
            keep,
            outcome,
        };
        let measured = |kl, bytes, speed| Outcome::Measured(Box::new(example(kl, bytes, speed)));
        let why = "the pattern keeps half".to_owned();
        Comparison {
            pare: "0.1.0".to_owned(),
            model: inspected().model,
            keeps: vec![0.8, 0.5],
            dense: example(0.0, 269_000_000, 1.0),
            as_read: example(0.0, 269_000_000, 1.0),
            models: Vec::new(),
            plain_bits: Vec::new(),
            entries: vec![
                entry("slim", 0.8, measured(0.08, 230_000_000, 1.2)),
                entry("slim", 0.5, measured(0.9, 170_000_000, 1.6)),
                entry("halves", 0.8, Outcome::NotApplicable { why }),
                entry("halves", 0.5, measured(f64::INFINITY, 180_000_000, 1.5)),
                entry("random", 0.8, measured(0.4, 269_000_000, 1.0)),
                entry("random", 0.5, Outcome::Failed { why: "no number".to_owned() }),
            ],
            fronts: Fronts { bytes: vec!["slim 0.5".to_owned()], speed: vec!["slim 0.5".to_owned()] },
            conditions: vec![("seed".to_owned(), "1".to_owned())],
            notes: vec!["a remark".to_owned()],
        }
    }

    #[test]
    fn the_page_holds_both_plots_every_share_and_every_reason() {
        let page = render_comparison(&comparison()).unwrap();
        assert_eq!(page.matches("<svg class=\"pareto\"").count(), 2);
        for part in [
            "Quality against bytes",
            "Quality against speed",
            "Keep 0.8",
            "Keep 0.5",
            "slim 0.8",
            "halves 0.8",
            "not applicable",
            "the pattern keeps half",
            "random 0.5",
            "failed",
            "no number",
            "Not drawn: halves 0.5",
            "∞",
            "a remark",
            "<dt>slim</dt><dd>what it does <small>(a paper)</small></dd>",
            "Least divergence of what is smaller than the model as it was read: slim at 0.8 (KL 0.0800), slim at 0.5 (KL 0.900).",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn plain_bits_stand_beside_every_share_and_in_the_headline() {
        let mut comparison = comparison();
        let plain = |kl, bytes| PlainEntry { name: format!("{PLAIN_BITS} {bytes}"), figures: example(kl, bytes, 1.3) };
        comparison.plain_bits = vec![plain(0.01, 229_000_000), plain(0.05, 169_000_000)];
        let page = render_comparison(&comparison).unwrap();
        let headline = "slim at 0.8 (KL 0.0800; plain bits of its size 0.0100), slim at 0.5 (KL 0.900; plain bits of its size 0.0500).";
        assert!(page.contains(headline), "{page}");
        for share in ["Keep 0.8", "Keep 0.5"] {
            let table = page.split(&format!("<h2>{share}</h2>")).nth(1).unwrap().split("</table>").next().unwrap();
            assert!(table.contains("plain bits 229000000") && table.contains("plain bits 169000000"), "{table}");
        }
        assert_eq!(page.matches("<title>plain bits 169000000: KL 0.0500").count(), 2, "on both plots");
    }

    fn given(name: &str, kl: f64, bytes: u64) -> ModelEntry {
        let figures = ModelFigures { kept: None, ..example(kl, bytes, 1.5) };
        ModelEntry { name: name.to_owned(), path: format!("m/{name}"), figures }
    }

    #[test]
    fn models_have_a_table_of_their_own_and_stand_on_both_plots() {
        let mut comparison = comparison();
        comparison.models = vec![given("four.gguf", 0.07, 90_000_000), given("eight.gguf", 0.01, 140_000_000)];
        let page = render_comparison(&comparison).unwrap();
        let table = page.split("<h2>Models</h2>").nth(1).unwrap().split("</table>").next().unwrap();
        let place = |name: &str| table.find(&format!("<th scope=\"row\">{name}")).unwrap_or_else(|| panic!("{table}"));
        assert!(
            place("original") < place("as read") && place("eight.gguf") < place("four.gguf"),
            "least divergence first"
        );
        assert!(page.contains("<dt>four.gguf</dt><dd>projections in f16 <small>(m/four.gguf)</small></dd>"), "{page}");
        assert!(!table.contains("Making"), "what was not made here took nothing to make");
        assert!(page.split("<h2>Keep 0.8</h2>").nth(1).unwrap().contains("Making"));
        assert_eq!(page.matches("<title>eight.gguf: KL 0.0100").count(), 2);
        assert!(
            page.contains("as it was read: eight.gguf (KL 0.0100), slim at 0.8 (KL 0.0800), slim at 0.5 (KL 0.900).")
        );

        (comparison.entries, comparison.keeps) = (Vec::new(), Vec::new());
        let page = render_comparison(&comparison).unwrap();
        assert!(
            page.contains("and models beside it</h1>")
                && !page.contains("<h2>Recipes</h2>")
                && !page.contains("<h2>Keep")
        );
        comparison.models.iter_mut().for_each(|model| model.figures.bytes = 300_000_000);
        let page = render_comparison(&comparison).unwrap();
        assert!(page.contains("No model is smaller than the reference as it was read."));
    }

    #[test]
    fn nothing_is_loaded_nothing_runs_and_text_is_escaped() {
        const BAD: &str = "\x1b[2J<script>alert('x')</script>&\"";
        let mut comparison = comparison();
        comparison.model.name = BAD.to_owned();
        comparison.notes.push(BAD.to_owned());
        comparison.conditions.push((BAD.to_owned(), BAD.to_owned()));
        comparison.fronts.bytes.push(BAD.to_owned());
        comparison.models = vec![given(BAD, 0.1, 60_000_000)];
        for entry in &mut comparison.entries {
            (entry.recipe, entry.about, entry.source) = (BAD.to_owned(), BAD.to_owned(), BAD.to_owned());
            if let Outcome::NotApplicable { why } | Outcome::Failed { why } = &mut entry.outcome {
                *why = BAD.to_owned();
            }
        }
        let page = render_comparison(&comparison).unwrap();
        for bad in ["http://", "https://", "src=", "href=", "url(", "@import", "<script", " onload", "alert('x')"] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.contains("default-src 'none'"));
        assert!(!page.chars().any(|character| character.is_control() && character != '\n' && character != '\t'));
    }

    #[test]
    fn without_speeds_there_is_one_plot_and_without_figures_none() {
        let mut comparison = comparison();
        let drop_speed = |measured: &mut ModelFigures| measured.speed = None;
        drop_speed(&mut comparison.dense);
        drop_speed(&mut comparison.as_read);
        for entry in &mut comparison.entries {
            if let Outcome::Measured(measured) = &mut entry.outcome {
                drop_speed(measured);
            }
        }
        let page = render_comparison(&comparison).unwrap();
        assert_eq!(page.matches("<svg class=\"pareto\"").count(), 1);
        assert!(!page.contains("of original"));
        comparison.entries.retain(|entry| entry.measured().is_none());
        let page = render_comparison(&comparison).unwrap();
        assert!(!page.contains("<svg") && page.contains("No recipe could keep any of the shares."));
    }
}
