//! Where the labels of points can stand without covering a point or each other.

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// The rectangle around a point.
    pub(super) fn around(x: f64, y: f64, half: f64) -> Self {
        Self { left: x - half, top: y - half, right: x + half, bottom: y + half }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn holds(&self, inner: &Self) -> bool {
        self.left <= inner.left && self.right >= inner.right && self.top <= inner.top && self.bottom >= inner.bottom
    }

    fn contains(&self, (x, y): (f64, f64)) -> bool {
        self.left < x && x < self.right && self.top < y && y < self.bottom
    }

    fn distance(&self, point: (f64, f64)) -> f64 {
        let (x, y) = self.nearest(point);
        (x - point.0).hypot(y - point.1)
    }

    /// The place inside that is nearest to a point.
    fn nearest(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }
}

/// Height of a line of text.
pub(super) const HEIGHT: f64 = 14.0;
/// Width of a character, on the wide side: which font a reader has is not known.
const CHARACTER: f64 = 6.3;
/// Distance of a label from the middle of its point.
const GAP: f64 = 8.0;
/// How much farther a label may go, with a line that leads to it.
const FARTHER: [f64; 6] = [0.0, 14.0, 28.0, 44.0, 62.0, 84.0];
/// Half the size of a point.
pub(super) const POINT: f64 = 5.5;

/// A label in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placed {
    /// Where the text stands.
    pub(super) area: Area,
    /// The line from the point to the text, where the text is not beside the point.
    pub(super) leader: Option<((f64, f64), (f64, f64))>,
}

/// Finds a place for each text in turn, or none where there is no room: `points` and `obstacles` are never covered, and nothing leaves
/// `frame`.
pub(super) fn place(
    texts: &[(usize, &str)],
    points: &[(f64, f64)],
    obstacles: &[Area],
    frame: &Area,
) -> Vec<Option<Placed>> {
    let mut taken: Vec<Area> = obstacles.to_vec();
    let mut placed = Vec::with_capacity(texts.len());
    for &(own, text) in texts {
        let at = points[own];
        let found = candidates(at, text).find(|candidate| {
            let free = |area: &Area| !taken.iter().any(|taken| taken.meets(area));
            let others = || points.iter().map(|&(x, y)| Area::around(x, y, POINT));
            // Without a line a reader takes a label for that of the nearest point.
            let own = candidate.area.distance(at);
            let nearest = points.iter().all(|&point| own <= candidate.area.distance(point));
            frame.holds(&candidate.area)
                && free(&candidate.area)
                && (nearest || candidate.leader.is_some())
                && others().all(|point| !point.meets(&candidate.area))
                && candidate.leader.is_none_or(|leader| {
                    let others = points.iter().filter(|&&point| point != at);
                    let others = others.map(|&(x, y)| Area::around(x, y, POINT));
                    // The line may cross lines, but neither texts nor points.
                    let texts = taken[obstacles.len()..].iter().copied();
                    !others.chain(texts).any(|area| crosses(leader, &area))
                })
        });
        taken.extend(found.map(|placed| placed.area));
        placed.push(found);
    }
    placed
}

/// Places around a point, the best first: beside it, above, below, at the corners; then the same farther away.
fn candidates((x, y): (f64, f64), text: &str) -> impl Iterator<Item = Placed> {
    let width = CHARACTER * text.chars().count() as f64;
    FARTHER.iter().flat_map(move |&farther| {
        let sides =
            [(1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, -1.0), (-1.0, 1.0)];
        sides.into_iter().map(move |(across, down): (f64, f64)| {
            let both = if across != 0.0 && down != 0.0 { 0.75 } else { 1.0 };
            let away = (GAP + farther) * both;
            let middle = (x + across * (away + width / 2.0), y + down * (away + HEIGHT / 2.0));
            let area = Area {
                left: middle.0 - width / 2.0,
                right: middle.0 + width / 2.0,
                top: middle.1 - HEIGHT / 2.0,
                bottom: middle.1 + HEIGHT / 2.0,
            };
            Placed { area, leader: (farther > 0.0).then(|| ((x, y), area.nearest((x, y)))) }
        })
    })
}

fn crosses((from, to): ((f64, f64), (f64, f64)), area: &Area) -> bool {
    let steps = 24;
    (1..steps).any(|step| {
        let share = f64::from(step) / f64::from(steps);
        area.contains((from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Area = Area { left: 0.0, top: 0.0, right: 800.0, bottom: 400.0 };

    #[test]
    fn a_lone_label_stands_to_the_right_and_turns_at_the_edge() {
        let placed = place(&[(0, "slim 0.8")], &[(100.0, 100.0)], &[], &FRAME)[0].unwrap();
        assert!((placed.area.left - 108.0).abs() < 1e-9 && placed.leader.is_none(), "{placed:?}");
        let placed = place(&[(0, "slim 0.8")], &[(795.0, 100.0)], &[], &FRAME)[0].unwrap();
        assert!((placed.area.right - 787.0).abs() < 1e-9 && placed.leader.is_none(), "{placed:?}");
    }

    #[test]
    fn labels_cover_neither_points_nor_each_other_nor_what_is_in_the_way() {
        // 40 points in a tight cloud and a line through it.
        let points: Vec<(f64, f64)> =
            (0..40).map(|i| (300.0 + f64::from(i * 37 % 41) * 5.0, 100.0 + f64::from(i * 23 % 43) * 4.0)).collect();
        let names: Vec<String> = (0..40).map(|i| format!("recipe-{i} 0.5")).collect();
        let texts: Vec<(usize, &str)> = names.iter().map(String::as_str).enumerate().collect();
        let wall = Area { left: 395.0, top: 0.0, right: 397.0, bottom: 400.0 };
        let placed = place(&texts, &points, &[wall], &FRAME);
        let areas: Vec<Area> = placed.iter().flatten().map(|placed| placed.area).collect();
        assert!(areas.len() >= 12, "only {} of 40 found a place", areas.len());
        for (index, area) in areas.iter().enumerate() {
            assert!(FRAME.holds(area) && !wall.meets(area), "{area:?}");
            assert!(areas[..index].iter().all(|other| !other.meets(area)), "{area:?}");
            assert!(points.iter().all(|&(x, y)| !Area::around(x, y, POINT).meets(area)), "{area:?}");
        }
    }

    #[test]
    fn a_label_without_a_line_is_nearest_to_its_own_point() {
        // To the right there is a label already, and above a point whose label it would seem to be.
        let points = [(100.0, 100.0), (100.0, 86.0)];
        let taken = Area { left: 106.0, top: 94.0, right: 300.0, bottom: 108.0 };
        let placed = place(&[(0, "slim 0.8")], &points, &[taken], &FRAME)[0].unwrap();
        let [own, other] = points.map(|point| placed.area.distance(point));
        assert!(own <= other && placed.leader.is_none(), "{placed:?}");
        let corner = Area { left: 0.0, right: 94.0, ..FRAME };
        let below = Area { top: 106.0, ..FRAME };
        let placed = place(&[(0, "slim 0.8")], &points, &[taken, corner, below], &FRAME)[0].unwrap();
        assert!(placed.leader.is_some(), "{placed:?}");
    }

    #[test]
    fn where_there_is_no_room_there_is_no_label() {
        let narrow = Area { left: 0.0, top: 0.0, right: 30.0, bottom: 30.0 };
        assert_eq!(place(&[(0, "much too long")], &[(15.0, 15.0)], &[], &narrow), [None]);
    }
}
