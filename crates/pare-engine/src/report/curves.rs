//! Distortion curves as a map: one column per block, one row per removal, darker where more is lost.

use super::number::{MISSING, percent, significant};
use super::picture::{Number, across, max_width, numbers};
use super::text::listed;
use crate::figures::BlockCurve;

/// The map. Positions across are per cent of its width; heights are pixels.
#[derive(askama::Template)]
#[template(path = "curves.html")]
pub(super) struct Map {
    pub(super) summary: String,
    pub(super) height: usize,
    pub(super) max_width: usize,
    pub(super) rows: Vec<Row>,
    pub(super) numbers: Vec<Number>,
    pub(super) numbers_y: usize,
    pub(super) steps: Vec<Step>,
    pub(super) least: String,
    pub(super) table: Vec<Vec<String>>,
}

pub(super) struct Row {
    pub(super) name: String,
    pub(super) name_y: usize,
    pub(super) top: usize,
    pub(super) value_y: usize,
    pub(super) cells: Vec<Cell>,
}

pub(super) struct Cell {
    pub(super) tooltip: String,
    pub(super) x: String,
    pub(super) middle: String,
    pub(super) width: String,
    /// None where nothing was measured.
    pub(super) shade: Option<String>,
    /// Whether text on it must be light.
    pub(super) dark: bool,
    /// The divergence in two digits, where there is room.
    pub(super) value: Option<String>,
}

/// One shade of the legend.
pub(super) struct Step {
    pub(super) label: String,
    pub(super) shade: String,
}

/// Where the next shade begins, in nats: the same for every model, so that pages compare.
const STEPS: [f64; 7] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];
/// Height of a row with its name.
const PITCH: usize = 54;
/// Up to so many blocks a value fits its cell.
const ROOMY: usize = 32;
/// How many blocks are named.
const NAMED: usize = 3;

/// How many steps a divergence has passed.
fn step(kl: f64) -> usize {
    STEPS.iter().take_while(|&&begin| kl >= begin).count()
}

/// How dark each step is: with a gap in the middle, so that text is readable on both sides of it.
const SHADES: [f64; STEPS.len() + 1] = [0.0, 0.08, 0.18, 0.3, 0.6, 0.72, 0.84, 0.94];

fn shade(step: usize) -> String {
    format!("{:.2}", SHADES[step])
}

fn shown(kl: Option<f64>) -> String {
    kl.map_or_else(|| MISSING.to_owned(), |kl| significant(kl, 3))
}

/// At most five characters, as in `0.012`, `.0012` and `12.3`.
fn brief(kl: f64) -> String {
    match kl {
        0.0..0.000_95 => "<.001".to_owned(),
        0.000_95..0.0995 => format!("{kl:.3}")[1..].to_owned(),
        0.0995..0.995 => format!("{kl:.2}")[1..].to_owned(),
        0.995..99.5 => significant(kl, 2),
        _ => "≥99".to_owned(),
    }
}

/// The removals that were measured in any block, by rising level, each with a value per block; the whole block last.
fn removals(curves: &[BlockCurve]) -> Vec<(String, Vec<Option<f64>>)> {
    let mut levels: Vec<f64> = curves.iter().flat_map(|curve| curve.channels.iter().map(|point| point.level)).collect();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    let mut rows: Vec<(String, Vec<Option<f64>>)> = levels
        .into_iter()
        .map(|level| {
            let name = match level {
                1.0 => "Feed-forward part".to_owned(),
                _ => format!("{} of the channels", percent(level).replace(".0\u{a0}", "\u{a0}")),
            };
            let at = |curve: &BlockCurve| {
                let point = curve.channels.iter().find(|point| point.level == level)?;
                Some(point.kl_mean).filter(|kl| kl.is_finite())
            };
            (name, curves.iter().map(at).collect())
        })
        .collect();
    let dropped = curves.iter().map(|curve| curve.dropped.filter(|kl| kl.is_finite())).collect();
    rows.push(("Whole block".to_owned(), dropped));
    rows
}

/// The blocks whose loss is smallest, in words.
fn least(name: &str, values: &[Option<f64>]) -> Option<String> {
    let mut known: Vec<(usize, f64)> = values.iter().enumerate().filter_map(|(at, kl)| Some((at, (*kl)?))).collect();
    known.sort_by(|a, b| a.1.total_cmp(&b.1));
    known.truncate(NAMED);
    let named: Vec<String> =
        known.iter().map(|&(at, kl)| format!("block\u{a0}{at}\u{a0}({})", significant(kl, 3))).collect();
    (!named.is_empty()).then(|| format!("{name}: {}.", listed(&named)))
}

/// Draws the curves; none without blocks.
pub(super) fn draw(curves: &[BlockCurve]) -> Option<Map> {
    if curves.is_empty() {
        return None;
    }
    let removals = removals(curves);
    let pitch = 1.0 / curves.len() as f64;
    let cell = |name: &str, block: usize, kl: Option<f64>| Cell {
        tooltip: format!("Block {block}, {name}: {}", shown(kl)),
        x: across(block as f64 * pitch),
        middle: across((block as f64 + 0.5) * pitch),
        width: across(pitch),
        shade: kl.map(|kl| shade(step(kl))),
        dark: kl.is_some_and(|kl| 2 * step(kl) > STEPS.len()),
        value: kl.filter(|_| curves.len() <= ROOMY).map(brief),
    };
    let rows: Vec<Row> = removals
        .iter()
        .enumerate()
        .map(|(at, (name, values))| Row {
            name: name.clone(),
            name_y: at * PITCH + 14,
            top: at * PITCH + 20,
            value_y: at * PITCH + 38,
            cells: values.iter().enumerate().map(|(block, &kl)| cell(name, block, kl)).collect(),
        })
        .collect();
    let least: Vec<String> = removals.iter().rev().take(2).rev().filter_map(|(name, kl)| least(name, kl)).collect();
    let least = if least.is_empty() { String::new() } else { format!("Least lost. {}", least.join(" ")) };
    let label = |step: usize| match step {
        0 => format!("below {}", STEPS[0]),
        7 => format!("{} and more", STEPS[6]),
        _ => format!("{} to {}", STEPS[step - 1], STEPS[step]),
    };
    Some(Map {
        summary: format!("Divergence per block and removal, darker where more is lost. {least}"),
        height: rows.len() * PITCH + 36,
        max_width: max_width(curves.len()),
        numbers: numbers(curves.len()),
        numbers_y: rows.len() * PITCH + 30,
        steps: (0..=STEPS.len()).map(|step| Step { label: label(step), shade: shade(step) }).collect(),
        least,
        table: (0..curves.len())
            .map(|block| {
                std::iter::once(block.to_string())
                    .chain(removals.iter().map(|(_, values)| shown(values[block])))
                    .collect()
            })
            .collect(),
        rows,
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::inspected;
    use super::*;
    use askama::Template;

    #[test]
    fn one_cell_per_block_and_removal() {
        let mut curves = inspected().curves;
        let map = draw(&curves).unwrap();
        let names: Vec<&str> = map.rows.iter().map(|row| row.name.as_str()).collect();
        let of = |share: &str| format!("{share}\u{a0}% of the channels");
        assert_eq!(names, [&of("10"), &of("25"), &of("50"), "Feed-forward part", "Whole block"]);
        let html = map.render().unwrap();
        assert_eq!(html.matches("<title>Block ").count(), 5 * 30);
        assert!(map.least.starts_with("Least lost. Feed-forward part: block\u{a0}0\u{a0}(0.0320), "), "{}", map.least);
        // A block without a feed-forward part, that cannot leave: nothing is claimed of it.
        curves[1].channels.clear();
        (curves[1].dropped, curves[2].dropped) = (None, Some(f64::INFINITY));
        let map = draw(&curves).unwrap();
        assert!(map.rows.iter().all(|row| row.cells[1].shade.is_none() && row.cells[1].value.is_none()));
        assert_eq!(map.table[1][1..], ["–"; 5]);
        assert_eq!(map.table[2][5], "–");
        assert!(draw(&[]).is_none());
    }

    #[test]
    fn shades_rise_with_the_divergence_and_turn_the_text() {
        assert_eq!([0.0, 0.0009, 0.001, 0.02, 0.5, 1.0, 50.0].map(step), [0, 0, 1, 3, 6, 7, 7]);
        let shades: Vec<f64> = (0..=STEPS.len()).map(|step| shade(step).parse().unwrap()).collect();
        assert!(shades[0] == 0.0 && shades.windows(2).all(|pair| pair[0] + 0.07 < pair[1]), "{shades:?}");
        let map = draw(&inspected().curves).unwrap();
        let cells: Vec<&Cell> = map.rows.iter().flat_map(|row| &row.cells).collect();
        assert!(cells.iter().any(|cell| cell.dark) && cells.iter().any(|cell| !cell.dark));
        assert!(cells.iter().all(|cell| cell.dark == (cell.shade.as_ref().unwrap().parse::<f64>().unwrap() > 0.46)));
    }

    #[test]
    fn values_in_cells_are_short() {
        let shown = [0.0, 0.0004, 0.0012, 0.0999, 0.12, 0.996, 4.56, 12.3, 99.4, 250.0].map(brief);
        assert_eq!(shown, ["<.001", "<.001", ".001", ".10", ".12", "1.0", "4.6", "12", "99", "≥99"]);
    }
}
