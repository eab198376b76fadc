//! The Pareto front: what nothing else beats in both cost and loss.

/// A point: what it costs and what is lost, both better when smaller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Bytes, or seconds per token.
    pub cost: f64,
    /// Divergence.
    pub loss: f64,
}

/// The indices of the points that no other one beats, by ascending cost (then loss, then index).
///
/// A point beats another when it is no worse in both and better in one: equal points stand side by side. What is not finite is on no
/// front.
pub fn front(points: &[Point]) -> Vec<usize> {
    let finite = |point: &Point| point.cost.is_finite() && point.loss.is_finite();
    let mut order: Vec<usize> = (0..points.len()).filter(|&index| finite(&points[index])).collect();
    order.sort_by(|&a, &b| {
        let (a, b, indices) = (points[a], points[b], a.cmp(&b));
        a.cost.total_cmp(&b.cost).then(a.loss.total_cmp(&b.loss)).then(indices)
    });
    let mut kept: Vec<usize> = Vec::new();
    for index in order {
        let last = kept.last().map(|&last| points[last]);
        if last.is_none_or(|last| points[index].loss < last.loss || points[index] == last) {
            kept.push(index);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(points: &[(f64, f64)]) -> Vec<usize> {
        front(&points.iter().map(|&(cost, loss)| Point { cost, loss }).collect::<Vec<_>>())
    }

    #[test]
    fn by_hand() {
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.5, 2.5), (3.0, 3.0)]), [1, 2, 0]);
        // Of two that cost the same the one that loses less; of two that lose the same the cheaper one.
        assert_eq!(of(&[(1.0, 2.0), (1.0, 1.0), (2.0, 1.0)]), [1]);
        assert_eq!(of(&[(1.0, 1.0), (1.0, 1.0)]), [0, 1]);
        assert_eq!(of(&[(-2.0, 0.0), (-1.0, 0.0)]), [0], "a speed enters as its negative");
    }

    #[test]
    fn what_is_not_finite_is_on_no_front() {
        assert_eq!(of(&[(1.0, f64::NAN), (f64::NAN, 1.0), (1.0, f64::INFINITY), (9.0, 9.0)]), [3]);
    }

    #[test]
    fn it_agrees_with_the_definition_on_every_small_grid() {
        // Every way to choose 4 points of a 3 x 3 grid.
        for code in 0..9usize.pow(4) {
            let cells = [code % 9, code / 9 % 9, code / 81 % 9, code / 729];
            let points: Vec<(f64, f64)> = cells.iter().map(|cell| ((cell % 3) as f64, (cell / 3) as f64)).collect();
            let beaten = |a: (f64, f64)| points.iter().any(|b| b.0 <= a.0 && b.1 <= a.1 && *b != a);
            let mut found = of(&points);
            found.sort_unstable();
            let expected: Vec<usize> = (0..4).filter(|&index| !beaten(points[index])).collect();
            assert_eq!(found, expected, "{points:?}");
        }
    }
}
