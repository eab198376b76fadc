//! Loss against cost: one point per entry, the front that no other one beats, and as many labels as have room.

use super::axis::{linear, logarithmic};
use super::labels::{Area, HEIGHT, POINT, place};
use super::number::significant;
use crate::compare::{Point, front};

/// What the axis across shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    /// Less is better, as with bytes.
    Less,
    /// More is better, as with speed.
    More,
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// Shown beside the point where there is room, and above it when a reader points at it.
    pub(super) label: String,
    /// On the axis across.
    pub(super) x: f64,
    /// Mean divergence in nats.
    pub(super) kl: f64,
    /// A simple method.
    pub(super) baseline: bool,
}

/// The drawing, in units of its own box.
#[derive(askama::Template)]
#[template(path = "pareto.html")]
pub(super) struct Plot {
    pub(super) summary: String,
    pub(super) x_title: &'static str,
    pub(super) box_size: (f64, f64),
    pub(super) frame: Area,
    pub(super) across: Vec<(String, String)>,
    pub(super) upwards: Vec<(String, String)>,
    /// The model before, as a line: where it stands, and where its name does.
    pub(super) dense: Option<String>,
    pub(super) front: String,
    pub(super) leaders: Vec<[String; 4]>,
    pub(super) dots: Vec<Dot>,
    pub(super) texts: Vec<(String, String, String)>,
    /// Labels without room.
    pub(super) unlabelled: usize,
    /// Names of what is not finite.
    pub(super) absent: Vec<String>,
}

pub(super) struct Dot {
    pub(super) tooltip: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) class: &'static str,
    pub(super) baseline: bool,
    /// Corner of the square of a baseline.
    pub(super) corner: (String, String),
}

const BOX: (f64, f64) = (900.0, 500.0);
const FRAME: Area = Area { left: 62.0, top: 16.0, right: 888.0, bottom: 446.0 };

/// Draws the points, with the model before at `dense`; none when no point has a place on the axes.
pub(super) fn draw(marks: &[Mark], dense: Option<f64>, better: Better, x_title: &'static str) -> Option<Plot> {
    let (finite, rest): (Vec<&Mark>, Vec<&Mark>) =
        marks.iter().partition(|mark| mark.x.is_finite() && mark.kl.is_finite() && mark.kl >= 0.0);
    let losses: Vec<f64> = finite.iter().map(|mark| mark.kl).filter(|&kl| kl > 0.0).collect();
    if losses.is_empty() {
        return None;
    }
    let (least, most) = ends(losses.iter().copied());
    let (low, high) = ((least / 1.35).max(f64::MIN_POSITIVE), most * 1.35);
    let (left, right) = ends(finite.iter().map(|mark| mark.x).chain(dense));
    let pad = if right > left { 0.05 * (right - left) } else { 0.05 * right.abs().max(1.0) };
    let (left, right) = (left - pad, right + pad);
    let x = |value: f64| FRAME.left + (value - left) / (right - left) * (FRAME.right - FRAME.left);
    let y = |kl: f64| {
        // No loss at all is below every power of ten: it stands on the lower edge.
        let share = if kl > low { (kl / low).ln() / (high / low).ln() } else { 0.0 };
        FRAME.bottom - share * (FRAME.bottom - FRAME.top)
    };
    let places: Vec<(f64, f64)> = finite.iter().map(|mark| (x(mark.x), y(mark.kl))).collect();
    let costs: Vec<Point> = finite
        .iter()
        .map(|mark| Point { cost: if better == Better::Less { mark.x } else { -mark.x }, loss: mark.kl })
        .collect();
    let unbeaten = front(&costs);
    let steps = steps(&unbeaten.iter().map(|&index| places[index]).collect::<Vec<_>>(), better);
    let mut obstacles: Vec<Area> = steps.windows(2).map(|pair| segment(pair[0], pair[1])).collect();
    obstacles.extend(dense.map(|dense| segment((x(dense), FRAME.top), (x(dense), FRAME.bottom))));

    // The front first, then what loses least: where room is short, those are read.
    let mut order: Vec<usize> = (0..finite.len()).collect();
    order.sort_by(|&a, &b| {
        let rank = |index: usize| !unbeaten.contains(&index);
        rank(a).cmp(&rank(b)).then(finite[a].kl.total_cmp(&finite[b].kl)).then(a.cmp(&b))
    });
    let texts: Vec<(usize, &str)> = order.iter().map(|&index| (index, finite[index].label.as_str())).collect();
    let placed = place(&texts, &places, &obstacles, &FRAME);

    let text = |(index, area): (usize, Area)| {
        let baseline = area.bottom - 0.25 * HEIGHT;
        (at((area.left + area.right) / 2.0), at(baseline), finite[index].label.clone())
    };
    let dot = |index: usize| {
        let (mark, (x, y)) = (finite[index], places[index]);
        Dot {
            tooltip: format!("{}: KL {}, {} {x_title}", mark.label, significant(mark.kl, 3), significant(mark.x, 4)),
            x: at(x),
            y: at(y),
            class: if unbeaten.contains(&index) { "best" } else { "other" },
            baseline: mark.baseline,
            corner: (at(x - POINT + 1.0), at(y - POINT + 1.0)),
        }
    };
    Some(Plot {
        summary: summary(&finite, &unbeaten, x_title),
        x_title,
        box_size: BOX,
        frame: FRAME,
        across: linear(left, right, 9).into_iter().map(|tick| (at(x(tick.value)), tick.label)).collect(),
        upwards: logarithmic(low, high, 9).into_iter().map(|tick| (at(y(tick.value)), tick.label)).collect(),
        dense: dense.map(|dense| at(x(dense))),
        front: steps.iter().map(|&(x, y)| format!("{},{}", at(x), at(y))).collect::<Vec<_>>().join(" "),
        leaders: placed
            .iter()
            .filter_map(|placed| placed.as_ref()?.leader)
            .map(|(from, to)| [from.0, from.1, to.0, to.1].map(at))
            .collect(),
        // The front is drawn last: nothing covers it.
        dots: order.iter().rev().map(|&index| dot(index)).collect(),
        unlabelled: placed.iter().filter(|placed| placed.is_none()).count(),
        texts: order
            .iter()
            .zip(&placed)
            .filter_map(|(&index, placed)| placed.map(|placed| text((index, placed.area))))
            .collect(),
        absent: rest.iter().map(|mark| mark.label.clone()).collect(),
    })
}

/// A coordinate, to a tenth of a unit.
fn at(value: f64) -> String {
    format!("{value:.1}")
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}

/// The corners of the front: what can be had at each cost is what the cheaper entries reach, and nothing between two entries is promised.
fn steps(front: &[(f64, f64)], better: Better) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (front.first(), front.last()) else { return Vec::new() };
    let mut corners = vec![(first.0, FRAME.top)];
    for (index, &(x, y)) in front.iter().enumerate() {
        if index > 0 {
            corners.push((x, front[index - 1].1));
        }
        corners.push((x, y));
    }
    let edge = if better == Better::Less { FRAME.right } else { FRAME.left };
    corners.push((edge, last.1));
    corners.dedup();
    corners
}

/// A line as something that labels keep clear of.
fn segment(from: (f64, f64), to: (f64, f64)) -> Area {
    Area {
        left: from.0.min(to.0) - 1.0,
        top: from.1.min(to.1) - 1.0,
        right: from.0.max(to.0) + 1.0,
        bottom: from.1.max(to.1) + 1.0,
    }
}

fn summary(marks: &[&Mark], unbeaten: &[usize], x_title: &str) -> String {
    let names: Vec<&str> = unbeaten.iter().map(|&index| marks[index].label.as_str()).collect();
    format!(
        "Mean divergence on a logarithmic axis against {x_title}, {} entries. Unbeaten: {}.",
        marks.len(),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(label: &str, x: f64, kl: f64) -> Mark {
        Mark { label: label.to_owned(), x, kl, baseline: label.starts_with("random") }
    }

    #[test]
    fn the_front_is_drawn_in_steps_from_the_cheapest_on() {
        let corners = steps(&[(100.0, 50.0), (200.0, 300.0)], Better::Less);
        assert_eq!(corners, [(100.0, FRAME.top), (100.0, 50.0), (200.0, 50.0), (200.0, 300.0), (FRAME.right, 300.0)]);
        let corners = steps(&[(200.0, 50.0), (100.0, 300.0)], Better::More);
        assert_eq!(corners, [(200.0, FRAME.top), (200.0, 50.0), (100.0, 50.0), (100.0, 300.0), (FRAME.left, 300.0)]);
        assert!(steps(&[], Better::Less).is_empty());
    }

    fn find<'p>(plot: &'p Plot, label: &str) -> &'p Dot {
        plot.dots.iter().find(|dot| dot.tooltip.starts_with(&format!("{label}:"))).unwrap()
    }

    #[test]
    fn points_are_where_the_axes_say() {
        let marks = [mark("a", 100.0, 0.01), mark("b", 200.0, 1.0), mark("random c", 150.0, 0.1)];
        let plot = draw(&marks, Some(200.0), Better::Less, "MB").unwrap();
        let dots = ["a", "b", "random c"].map(|label| find(&plot, label));
        let x: Vec<f64> = dots.iter().map(|dot| dot.x.parse().unwrap()).collect();
        let y: Vec<f64> = dots.iter().map(|dot| dot.y.parse().unwrap()).collect();
        assert!((x[2] - (x[0] + x[1]) / 2.0).abs() <= 0.11, "{x:?}");
        assert!((y[2] - (y[0] + y[1]) / 2.0).abs() <= 0.11 && y[0] > y[1], "{y:?}");
        assert_eq!(plot.dense.as_ref(), Some(&dots[1].x));
        let tick = plot.upwards.iter().find(|tick| tick.1 == "0.1").unwrap();
        assert_eq!(tick.0, dots[2].y);
        let classes: Vec<(&str, bool)> = dots.iter().map(|dot| (dot.class, dot.baseline)).collect();
        assert_eq!(classes, [("best", false), ("other", false), ("other", true)]);
        assert_eq!((plot.texts.len(), plot.unlabelled), (3, 0));
    }

    #[test]
    fn a_fast_entry_is_better_than_a_slow_one() {
        let marks = [mark("slow", 10.0, 0.1), mark("fast", 20.0, 0.1), mark("faster", 30.0, 0.5)];
        let plot = draw(&marks, None, Better::More, "tok/s").unwrap();
        assert_eq!(["slow", "fast", "faster"].map(|label| find(&plot, label).class), ["other", "best", "best"]);
        assert!(plot.summary.ends_with("Unbeaten: faster, fast."), "{}", plot.summary);
    }

    #[test]
    fn what_has_no_place_is_named_and_no_loss_stands_on_the_edge() {
        let marks = [
            mark("whole", 3.0, 0.0),
            mark("broken", 2.0, f64::INFINITY),
            mark("odd", 1.0, f64::NAN),
            mark("a", 2.0, 0.2),
        ];
        let plot = draw(&marks, None, Better::Less, "MB").unwrap();
        assert_eq!(plot.absent, ["broken", "odd"]);
        assert_eq!(find(&plot, "whole").y, at(FRAME.bottom));
        assert!(draw(&marks[..3], None, Better::Less, "MB").is_none(), "nothing to scale the axis by");
        assert!(draw(&[], Some(1.0), Better::Less, "MB").is_none());
    }
}
