//! The report as one HTML file that needs nothing else: no script, no font, no image, no network.

use super::number::{count, duration, percent};
use super::text::visible_report;
use super::{bars, curves, picture, redundancy};
use super::{summary, tables};
use crate::figures::Report;
use askama::Template;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    summary: summary::Summary,
    picture: Option<picture::Picture>,
    figures: tables::Table,
    bars: Option<bars::Bars>,
    by_likelihood: Option<tables::Table>,
    by_generation: Option<tables::Table>,
    redundancy: Option<redundancy::Charts>,
    curves: Option<curves::Map>,
    model: Vec<(&'static str, String)>,
    recipe: Vec<(&'static str, String)>,
    version: &'static str,
}

/// The page of a report.
///
/// # Errors
/// The template cannot be written, which no report should be able to cause.
pub(super) fn render(report: &Report) -> Result<String, askama::Error> {
    let report = &visible_report(report);
    let cut = report.figures.len() > 1 || report.picture.iter().any(|share| share.attention < 1.0 || share.ffn < 1.0);
    Page {
        report,
        summary: summary::summary(report),
        picture: picture::draw(&report.picture).filter(|_| cut),
        figures: tables::figures(&report.figures),
        bars: bars::draw(&report.figures),
        by_likelihood: tables::probes_by_likelihood(&report.figures),
        by_generation: tables::probes_by_generation(&report.figures),
        redundancy: redundancy::draw(&report.redundancy),
        curves: curves::draw(&report.curves),
        model: model_facts(report),
        recipe: recipe_facts(report),
        version: env!("CARGO_PKG_VERSION"),
    }
    .render()
}

fn model_facts(report: &Report) -> Vec<(&'static str, String)> {
    let model = &report.model;
    let number = |value: usize| count(value as u64);
    vec![
        ("Model", model.name.clone()),
        ("Family", model.family.clone()),
        ("Stored as", model.storage.clone()),
        ("Parameters", count(model.parameters)),
        ("of them in blocks", count(model.block_parameters)),
        ("Blocks", number(model.blocks)),
        ("Model width", number(model.hidden)),
        ("Query heads", number(model.heads)),
        ("KV groups", number(model.groups)),
        ("Feed-forward width", number(model.ffn)),
        ("Vocabulary", number(model.vocab)),
    ]
}

fn recipe_facts(report: &Report) -> Vec<(&'static str, String)> {
    let Some(recipe) = &report.recipe else { return Vec::new() };
    vec![
        ("Recipe", recipe.name.clone()),
        ("What it does", recipe.about.clone()),
        ("Source", recipe.source.clone()),
        ("Asked to keep", format!("{} of the projection weights", percent(recipe.keep))),
        ("Time taken", duration(recipe.seconds)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::examples::{inspected, shrunk};
    use super::*;

    #[test]
    fn text_of_models_and_users_is_escaped_everywhere() {
        const BAD: &str = "\x1b[2J<script>alert('x')</script>&\"";
        let mut report = shrunk();
        report.title = BAD.to_owned();
        report.model.name = BAD.to_owned();
        report.model.family = BAD.to_owned();
        report.model.storage = BAD.to_owned();
        let recipe = report.recipe.as_mut().unwrap();
        (recipe.name, recipe.about, recipe.source) = (BAD.to_owned(), BAD.to_owned(), BAD.to_owned());
        for figures in &mut report.figures {
            figures.label = BAD.to_owned();
            figures.probes.insert(BAD.to_owned(), 0.5);
        }
        report.samples[0].prompt = BAD.to_owned();
        report.samples[0].texts[0] = (BAD.to_owned(), BAD.to_owned());
        report.conditions.push((BAD.to_owned(), BAD.to_owned()));
        report.notes.push(BAD.to_owned());
        let page = render(&report).unwrap();
        assert!(!page.contains("<script") && !page.contains("alert('x')"), "unescaped text");
        assert!(page.contains("⟨ESC⟩[2J&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62;&#38;&#34;"));
        assert!(!page.chars().any(|character| character.is_control() && character != '\n' && character != '\t'));
    }

    #[test]
    fn nothing_is_loaded_and_nothing_runs() {
        for report in [shrunk(), inspected()] {
            let page = render(&report).unwrap();
            for bad in ["http://", "https://", "src=", "href=", "url(", "@import", "<script", " onload"] {
                assert!(!page.contains(bad), "{bad}");
            }
            assert!(page.contains("default-src 'none'"));
        }
    }

    #[test]
    fn every_drawing_has_a_text_and_headings_are_in_order() {
        for report in [shrunk(), inspected()] {
            let page = render(&report).unwrap();
            assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
            for drawing in page.split("<svg ").skip(1) {
                let tag = drawing.split('>').next().unwrap();
                let described = tag.contains("role=\"img\"") && tag.contains("aria-label=\"");
                assert!(described || tag.contains("aria-hidden=\"true\""), "{tag}");
            }
            let levels: Vec<u32> = page
                .match_indices("<h")
                .filter_map(|(at, _)| page[at + 2..].chars().next().and_then(|level| level.to_digit(10)))
                .collect();
            assert_eq!(levels[0], 1);
            assert!(levels.len() > 3 && levels[1..].iter().all(|&level| level > 1));
            assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
        }
    }

    #[test]
    fn whitespace_of_samples_is_kept() {
        let mut report = shrunk();
        report.samples[0].texts[0].1 = "\n  def f():\n\treturn  1\n".to_owned();
        let page = render(&report).unwrap();
        assert!(page.contains("<div class=\"text\">\n  def f():\n\treturn  1\n</div>"));
    }

    #[test]
    fn sections_without_data_are_left_out() {
        let full = render(&shrunk()).unwrap();
        let mut report = shrunk();
        report.samples.clear();
        report.notes.clear();
        report.conditions.clear();
        report.picture.clear();
        report.figures.iter_mut().for_each(|figures| figures.probes.clear());
        let bare = render(&report).unwrap();
        for heading in [">Samples<", ">Notes<", ">Conditions<", ">What was kept<", ">Probes<"] {
            assert!(full.contains(heading) && !bare.contains(heading), "{heading}");
        }
    }

    #[test]
    fn an_inspect_report_shows_one_model() {
        let page = render(&inspected()).unwrap();
        assert!(page.contains(">Redundancy<") && page.contains("134,515,008"));
        for absent in [">What was kept<", "and recipe", "★", "<small>baseline"] {
            assert!(!page.contains(absent), "{absent}");
        }
    }

    #[test]
    fn a_report_without_any_figures_is_a_page_all_the_same() {
        let mut report = inspected();
        report.figures.clear();
        report.redundancy.clear();
        let page = render(&report).unwrap();
        assert!(page.contains("134.5\u{a0}M parameters in 30 blocks.") && !page.contains(">Figures<"));
    }
}
