//! Sizes and speeds as horizontal bars, one panel per quantity, one bar per model.

use super::number::{MISSING, megabytes, rough_count, significant};
use super::picture::across;
use super::text::shortened;
use crate::figures::{Figures, Role};

/// The panels, in one row where the page is wide enough.
#[derive(askama::Template)]
#[template(path = "bars.html")]
pub(super) struct Bars {
    pub(super) panels: Vec<Panel>,
}

pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) better: &'static str,
    pub(super) summary: String,
    pub(super) height: usize,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) label: String,
    /// In full, for the tooltip.
    pub(super) tooltip: String,
    pub(super) value: String,
    pub(super) class: &'static str,
    pub(super) text_y: usize,
    pub(super) bar_y: usize,
    pub(super) width: Option<String>,
}

/// Height of a model's label and bar.
const PITCH: usize = 38;

struct Quantity {
    title: &'static str,
    better: &'static str,
    value: fn(&Figures) -> Option<f64>,
    show: fn(f64) -> String,
}

const QUANTITIES: [Quantity; 4] = [
    Quantity {
        title: "Bytes",
        better: "lower is better",
        value: |figures| figures.bytes.map(|bytes| bytes as f64),
        show: megabytes,
    },
    Quantity {
        title: "Parameters",
        better: "lower is better",
        value: |figures| Some(figures.parameters as f64),
        show: |value| rough_count(value as u64),
    },
    Quantity {
        title: "Decode, tokens/s",
        better: "higher is better",
        value: |figures| figures.decode_tok_s,
        show: |value| significant(value, 3),
    },
    Quantity {
        title: "Prefill, tokens/s",
        better: "higher is better",
        value: |figures| figures.prefill_tok_s,
        show: |value| significant(value, 3),
    },
];

/// Draws the quantities that were measured; none when there is nothing to compare.
pub(super) fn draw(figures: &[Figures]) -> Option<Bars> {
    let panels: Vec<Panel> = QUANTITIES.iter().filter_map(|quantity| panel(quantity, figures)).collect();
    (figures.len() > 1 && !panels.is_empty()).then_some(Bars { panels })
}

fn panel(quantity: &Quantity, figures: &[Figures]) -> Option<Panel> {
    let measured = |figures: &Figures| (quantity.value)(figures).filter(|value| value.is_finite());
    let most = figures.iter().filter_map(measured).reduce(f64::max)?;
    let bars: Vec<Bar> = figures
        .iter()
        .enumerate()
        .map(|(index, figures)| {
            let value = measured(figures);
            let shown = value.map_or(MISSING.to_owned(), quantity.show);
            Bar {
                label: shortened(&figures.label, 26),
                tooltip: format!("{}: {shown}", figures.label),
                value: shown,
                class: match figures.role {
                    Role::Dense | Role::AsRead => "dense",
                    Role::Result => "result",
                    Role::Baseline => "baseline",
                },
                text_y: index * PITCH + 14,
                bar_y: index * PITCH + 20,
                width: value.filter(|_| most > 0.0).map(|value| across((value / most).clamp(0.0, 1.0))),
            }
        })
        .collect();
    let values: Vec<&str> = bars.iter().map(|bar| bar.tooltip.as_str()).collect();
    Some(Panel {
        title: quantity.title,
        better: quantity.better,
        summary: format!("{}, {}. {}.", quantity.title, quantity.better, values.join("; ")),
        height: figures.len() * PITCH,
        bars,
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::shrunk;
    use super::*;
    use askama::Template;

    #[test]
    fn the_longest_bar_fills_the_panel_and_the_rest_are_in_proportion() {
        let mut report = shrunk();
        report.figures[0].bytes = Some(100_000_000);
        report.figures[1].bytes = Some(80_000_000);
        report.figures[2].bytes = None;
        let bars = draw(&report.figures).unwrap();
        let bytes = &bars.panels[0];
        assert_eq!(bytes.bars[0].width.as_deref(), Some("100.000%"));
        assert_eq!(bytes.bars[1].width.as_deref(), Some("80.000%"));
        assert_eq!((bytes.bars[2].width.as_deref(), bytes.bars[2].value.as_str()), (None, "–"));
        assert!(bytes.summary.contains("lower is better") && bytes.summary.contains("80.0\u{a0}MB"));
        assert_eq!(bars.render().unwrap().matches("<svg").count(), 4);
    }

    #[test]
    fn a_quantity_that_nobody_measured_has_no_panel() {
        let mut report = shrunk();
        for figures in &mut report.figures {
            figures.decode_tok_s = None;
            figures.prefill_tok_s = Some(f64::NAN);
        }
        let titles: Vec<&str> = draw(&report.figures).unwrap().panels.iter().map(|panel| panel.title).collect();
        assert_eq!(titles, ["Bytes", "Parameters"]);
        assert!(draw(&report.figures[..1]).is_none());
    }
}
