//! What is left of each block: one column per block, a gauge for its attention and one for its feed-forward part.

use super::number::{MISSING, percent};
use crate::figures::BlockShare;

/// The drawing. Positions across are per cent of its width, so it fits any page; heights are pixels.
#[derive(askama::Template)]
#[template(path = "picture.html")]
pub(super) struct Picture {
    pub(super) summary: String,
    pub(super) max_width: usize,
    pub(super) rows: Vec<Row>,
    pub(super) numbers: Vec<Number>,
    pub(super) steps: [Step; 5],
    pub(super) table: Vec<[String; 3]>,
}

pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) name_y: usize,
    pub(super) value_y: usize,
    pub(super) cells: Vec<Cell>,
}

pub(super) struct Cell {
    pub(super) tooltip: String,
    pub(super) x: String,
    pub(super) middle: String,
    pub(super) right: String,
    pub(super) width: String,
    pub(super) top: usize,
    pub(super) bottom: usize,
    pub(super) fill_y: String,
    pub(super) fill_height: String,
    /// Nothing is left: drawn as a cross, so that it differs from a very small rest.
    pub(super) gone: bool,
    /// Per cent kept, where there is room for it.
    pub(super) value: Option<String>,
    pub(super) roomy: bool,
}

/// Number of a block below its column.
pub(super) struct Number {
    pub(super) block: usize,
    pub(super) x: String,
    /// Shown on narrow pages too.
    pub(super) always: bool,
}

/// One gauge of the legend.
pub(super) struct Step {
    pub(super) label: &'static str,
    pub(super) fill_y: usize,
    pub(super) fill_height: usize,
    pub(super) gone: bool,
}

/// Height of a gauge.
const GAUGE: usize = 44;
/// Up to so many blocks every number fits a narrow page.
const FEW: usize = 12;
/// Up to so many blocks every number fits a wide page.
const SOME: usize = 40;

/// A position across.
pub(super) fn across(share: f64) -> String {
    format!("{:.3}%", share * 100.0)
}

/// Numbers below `blocks` columns, as many as have room.
pub(super) fn numbers(blocks: usize) -> Vec<Number> {
    let (every, always) = match blocks {
        0..=FEW => (1, 1),
        13..=SOME => (1, 5),
        _ => (5 * blocks.div_ceil(100), 10 * blocks.div_ceil(100)),
    };
    (0..blocks)
        .step_by(every)
        .map(|block| Number {
            block,
            x: across((block as f64 + 0.5) / blocks as f64),
            always: block.is_multiple_of(always),
        })
        .collect()
}

/// Width in pixels beyond which `blocks` columns would only grow fat.
pub(super) fn max_width(blocks: usize) -> usize {
    (blocks * 46).max(240)
}

/// Draws the kept shares; none without blocks.
pub(super) fn draw(shares: &[BlockShare]) -> Option<Picture> {
    if shares.is_empty() {
        return None;
    }
    let attention: Vec<f64> = shares.iter().map(|share| share.attention).collect();
    let ffn: Vec<f64> = shares.iter().map(|share| share.ffn).collect();
    let blocks = if shares.len() == 1 { "1 block".to_owned() } else { format!("{} blocks", shares.len()) };
    let step = |label, kept: usize| Step { label, fill_y: 21 - kept, fill_height: kept, gone: kept == 0 };
    Some(Picture {
        summary: format!("Kept share of {blocks}. Attention: {}. Feed-forward: {}.", range(&attention), range(&ffn)),
        max_width: max_width(shares.len()),
        rows: vec![row("Attention", 18, &attention), row("Feed-forward", 106, &ffn)],
        numbers: numbers(shares.len()),
        steps: [step("all kept", 20), step("75 %", 15), step("50 %", 10), step("25 %", 5), step("removed", 0)],
        table: shares
            .iter()
            .enumerate()
            .map(|(block, share)| [block.to_string(), shown(share.attention), shown(share.ffn)])
            .collect(),
    })
}

fn shown(share: f64) -> String {
    if share.is_finite() { percent(share) } else { MISSING.to_owned() }
}

fn range(shares: &[f64]) -> String {
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if shown(least) == shown(most) {
        return format!("{} in every block", shown(least));
    }
    format!("{} to {}", shown(least), shown(most))
}

fn row(name: &'static str, top: usize, shares: &[f64]) -> Row {
    let pitch = 1.0 / shares.len() as f64;
    let cells = shares.iter().enumerate().map(|(block, &share)| {
        let kept = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let height = kept * GAUGE as f64;
        let left = block as f64 * pitch;
        Cell {
            tooltip: format!("Block {block}, {}: {} kept", name.to_lowercase(), shown(share)),
            x: across(left + 0.1 * pitch),
            middle: across(left + 0.5 * pitch),
            right: across(left + 0.9 * pitch),
            width: across(0.8 * pitch),
            top,
            bottom: top + GAUGE,
            fill_y: format!("{:.2}", (top + GAUGE) as f64 - height),
            fill_height: format!("{height:.2}"),
            gone: share == 0.0,
            value: (shares.len() <= SOME && share.is_finite()).then(|| format!("{:.0}", share * 100.0)),
            roomy: shares.len() <= FEW,
        }
    });
    Row { name, name_y: top - 6, value_y: top + GAUGE + 14, cells: cells.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use askama::Template;

    fn rendered(shares: &[BlockShare]) -> String {
        draw(shares).unwrap().render().unwrap()
    }

    #[test]
    fn two_cells_per_block_inside_the_drawing() {
        for blocks in [1, 30, 100] {
            let shares = vec![BlockShare { attention: 0.5, ffn: 1.0 }; blocks];
            let picture = rendered(&shares);
            assert_eq!(picture.matches("class=\"cell\"").count(), 2 * blocks);
            assert_eq!(picture.matches("<title>Block ").count(), 2 * blocks);
            // A tenth of a column stays free at its right.
            let expected = 100.0 - 10.0 / blocks as f64;
            let edge = right_edge(&shares);
            assert!((edge - expected).abs() < 0.001, "{blocks} blocks end at {edge} %, not at {expected} %");
        }
    }

    /// Right edge of the last cell, in per cent.
    fn right_edge(shares: &[BlockShare]) -> f64 {
        let picture = draw(shares).unwrap();
        picture.rows[1].cells.last().unwrap().right.trim_end_matches('%').parse().unwrap()
    }

    #[test]
    fn fill_follows_the_share_and_a_removed_part_is_crossed_out() {
        let shares = [BlockShare { attention: 0.0, ffn: 0.25 }, BlockShare { attention: 1.0, ffn: f64::NAN }];
        let picture = draw(&shares).unwrap();
        let heights: Vec<&str> =
            picture.rows.iter().flat_map(|row| &row.cells).map(|cell| cell.fill_height.as_str()).collect();
        assert_eq!(heights, ["0.00", "44.00", "11.00", "0.00"]);
        assert_eq!(picture.rows[0].cells.iter().map(|cell| cell.gone).collect::<Vec<_>>(), [true, false]);
        assert!(!picture.rows[1].cells[1].gone, "not known is not removed");
        assert_eq!(picture.rows[1].cells[1].tooltip, "Block 1, feed-forward: – kept");
    }

    #[test]
    fn numbers_get_sparse_as_blocks_get_many() {
        for blocks in [1, 12, 13, 30, 40, 41, 100, 250] {
            let numbers = numbers(blocks);
            assert_eq!(numbers[0].block, 0);
            let always = numbers.iter().filter(|number| number.always).count();
            assert!(numbers.len() <= SOME && (1..=FEW).contains(&always), "{blocks}: {}, {always}", numbers.len());
        }
    }

    #[test]
    fn no_blocks_no_picture() {
        assert!(draw(&[]).is_none());
    }
}
