//! One level per curve, so that the losses add up to the least within a budget: exactly, and along convex hulls.

/// One point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// What it costs.
    pub cost: u64,
    /// What it loses, finite.
    pub loss: f64,
}

/// A choice that need not be the best.
#[derive(Clone, Debug, PartialEq)]
pub struct Near {
    /// Index of a level per curve.
    pub levels: Vec<usize>,
    /// No choice within the budget loses less than this one's loss less the gap.
    pub gap: f64,
}

/// The budget is divided into no more cells than this.
const CELLS: u64 = 10_000;

/// The level of each curve, within a budget, whose losses add up to the least, by dynamic programming; none when the cheapest levels
/// together exceed the budget, or when a curve has no level.
///
/// Exact when the budget is at most 10,000 times the greatest common divisor of the costs above each curve's cheapest level.
/// Beyond that costs are rounded up to cells, so that the budget is never exceeded, and [`choose_on_hulls`] is taken where its
/// choice loses less.
pub fn choose(curves: &[Vec<Level>], budget: u64) -> Option<Vec<usize>> {
    let spare = spare(curves, budget)?;
    let above = |curve: &[Level]| {
        let cheapest = curve.iter().map(|level| level.cost).min().unwrap_or(0);
        curve.iter().map(move |level| level.cost - cheapest).collect::<Vec<u64>>()
    };
    let costs: Vec<Vec<u64>> = curves.iter().map(|curve| above(curve)).collect();
    let unit = costs.iter().flatten().fold(0, |divisor, &cost| gcd(divisor, cost)).max(1);
    let most: u128 = costs.iter().map(|costs| u128::from(costs.iter().copied().max().unwrap_or(0))).sum();
    let units = (u128::from(spare).min(most) / u128::from(unit)) as u64;
    let cell = units.div_ceil(CELLS).max(1);
    let exact = table(curves, &costs, unit * cell, (units / cell) as usize);
    if cell == 1 {
        return Some(exact);
    }
    let near = choose_on_hulls(curves, budget)?.levels;
    Some(if loss(curves, &near) < loss(curves, &exact) { near } else { exact })
}

/// The best choice when `costs` are rounded up to multiples of `cell` and `cells` of them may be spent.
fn table(curves: &[Vec<Level>], costs: &[Vec<u64>], cell: u64, cells: usize) -> Vec<usize> {
    // best[c]: the least loss of the curves so far within c cells; chosen: the level that gave it, curve by curve.
    let mut best = vec![0.0; cells + 1];
    let mut chosen = vec![0_u32; curves.len() * (cells + 1)];
    for ((curve, costs), chosen) in curves.iter().zip(costs).zip(chosen.chunks_exact_mut(cells + 1)) {
        let mut next = vec![f64::INFINITY; cells + 1];
        for (index, (level, cost)) in curve.iter().zip(costs).enumerate() {
            let from = cost.div_ceil(cell);
            if from > cells as u64 {
                continue;
            }
            let from = from as usize;
            for (c, before) in (from..=cells).zip(&best) {
                if before + level.loss < next[c] {
                    next[c] = before + level.loss;
                    chosen[c] = index as u32;
                }
            }
        }
        best = next;
    }
    let mut left = cells;
    let mut levels = vec![0; curves.len()];
    for index in (0..curves.len()).rev() {
        levels[index] = chosen[index * (cells + 1) + left] as usize;
        left -= costs[index][levels[index]].div_ceil(cell) as usize;
    }
    levels
}

/// The same by a Lagrangian sweep along the lower convex hull of each curve, then a greedy fill of what is left of the budget:
/// `n log n` for `n` levels in all. Never better than [`choose`], and worse by no more than the gap.
pub fn choose_on_hulls(curves: &[Vec<Level>], budget: u64) -> Option<Near> {
    let mut spare = spare(curves, budget)?;
    let hulls: Vec<Vec<usize>> = curves.iter().map(|curve| hull(curve)).collect();
    let mut levels: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    for (row, (curve, hull)) in curves.iter().zip(&hulls).enumerate() {
        steps.extend((1..hull.len()).map(|at| (slope(curve[hull[at - 1]], curve[hull[at]]), row, at)));
    }
    // The steepest first; within a curve they are in order.
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    // Beyond the first step that does not fit, a fraction of it is what no choice can beat.
    let mut bound = 0.0;
    for &(slope, row, at) in &steps {
        let cost = curves[row][hulls[row][at]].cost - curves[row][levels[row]].cost;
        if cost > spare {
            bound = -slope * spare as f64;
            break;
        }
        spare -= cost;
        levels[row] = hulls[row][at];
    }
    let swept = loss(curves, &levels);
    while let Some((row, level)) = best_step(curves, &levels, spare) {
        spare = spare + curves[row][levels[row]].cost - curves[row][level].cost;
        levels[row] = level;
    }
    let gap = (loss(curves, &levels) - (swept - bound)).max(0.0);
    Some(Near { levels, gap })
}

/// The level that lowers the loss the most per cost, among those that `spare` pays for.
fn best_step(curves: &[Vec<Level>], levels: &[usize], spare: u64) -> Option<(usize, usize)> {
    let mut best: Option<(f64, usize, usize)> = None;
    for (row, (curve, &now)) in curves.iter().zip(levels).enumerate() {
        for (index, level) in curve.iter().enumerate() {
            let cost = level.cost.saturating_sub(curve[now].cost);
            let gain = curve[now].loss - level.loss;
            if gain <= 0.0 || cost > spare {
                continue;
            }
            let per_cost = if cost == 0 { f64::INFINITY } else { gain / cost as f64 };
            if best.is_none_or(|best| per_cost > best.0) {
                best = Some((per_cost, row, index));
            }
        }
    }
    best.map(|(_, row, index)| (row, index))
}

/// What is left of the budget when every curve takes its cheapest level.
fn spare(curves: &[Vec<Level>], budget: u64) -> Option<u64> {
    curves.iter().try_fold(budget, |left, curve| left.checked_sub(curve.iter().map(|level| level.cost).min()?))
}

/// Indices of the lower convex hull's corners, from the cheapest level on, losses falling.
fn hull(curve: &[Level]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..curve.len()).collect();
    order.sort_by(|&a, &b| {
        curve[a].cost.cmp(&curve[b].cost).then(curve[a].loss.total_cmp(&curve[b].loss)).then(a.cmp(&b))
    });
    let mut corners: Vec<usize> = Vec::new();
    for index in order {
        if corners.last().is_some_and(|&last| curve[index].loss >= curve[last].loss) {
            continue;
        }
        while let [.., before, last] = corners[..] {
            if slope(curve[before], curve[last]) < slope(curve[last], curve[index]) {
                break;
            }
            corners.pop();
        }
        corners.push(index);
    }
    corners
}

/// Loss per cost from one level to a dearer one.
fn slope(from: Level, to: Level) -> f64 {
    (to.loss - from.loss) / (to.cost - from.cost) as f64
}

fn loss(curves: &[Vec<Level>], levels: &[usize]) -> f64 {
    curves.iter().zip(levels).map(|(curve, &level)| curve[level].loss).sum()
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::rng::SplitMix64;

    fn curve(points: &[(u64, f64)]) -> Vec<Level> {
        points.iter().map(|&(cost, loss)| Level { cost, loss }).collect()
    }

    fn cost(curves: &[Vec<Level>], levels: &[usize]) -> u64 {
        curves.iter().zip(levels).map(|(curve, &level)| curve[level].cost).sum()
    }

    /// Every choice is tried.
    fn brute_force(curves: &[Vec<Level>], budget: u64) -> Option<f64> {
        let choices: usize = curves.iter().map(Vec::len).product();
        let choice = |mut number: usize| -> Vec<usize> {
            curves
                .iter()
                .map(|curve| {
                    let level = number % curve.len();
                    number /= curve.len();
                    level
                })
                .collect()
        };
        let within = (0..choices).map(choice).filter(|levels| cost(curves, levels) <= budget);
        within.map(|levels| loss(curves, &levels)).min_by(f64::total_cmp)
    }

    fn random(rng: &mut SplitMix64, dear: u64) -> Vec<Vec<Level>> {
        let level = |rng: &mut SplitMix64| Level { cost: dear * rng.below(30) as u64, loss: rng.unit() };
        (0..1 + rng.below(4)).map(|_| (0..1 + rng.below(5)).map(|_| level(rng)).collect()).collect()
    }

    #[test]
    fn by_hand() {
        // Both at the middle costs 4 and loses 4; one whole and one empty costs 4 and loses 5.
        let both = curve(&[(0, 5.0), (2, 2.0), (4, 0.0)]);
        let curves = [both.clone(), both];
        assert_eq!(choose(&curves, 4), Some(vec![1, 1]));
        assert_eq!(choose(&curves, 8), Some(vec![2, 2]));
        assert_eq!(choose(&curves, 1), Some(vec![0, 0]));
        assert_eq!(choose(&[], 1), Some(vec![]));
        assert_eq!(choose(&[curve(&[(3, 0.0)])], 2), None);
        assert_eq!(choose(&[vec![]], 2), None);
    }

    #[test]
    fn the_hull_misses_a_level_above_it_and_says_by_how_much() {
        // The middle level lies above the line from 10 to 0, so the sweep has nothing that 3 would pay for; the fill has.
        let curves = [curve(&[(0, 10.0), (3, 8.0), (4, 0.0)])];
        let near = choose_on_hulls(&curves, 3).unwrap();
        assert_eq!((near.levels, near.gap), (vec![1], 8.0 - 2.5));
        assert_eq!(choose(&curves, 3), Some(vec![1]));
        assert_eq!(choose_on_hulls(&curves, 4), Some(Near { levels: vec![2], gap: 0.0 }));
    }

    #[test]
    fn agrees_with_brute_force_and_the_hull_is_within_its_gap() {
        let (mut solved, mut apart) = (0, 0);
        for seed in 0..3000 {
            let mut rng = SplitMix64::new(seed);
            let curves = random(&mut rng, 1 + seed % 5 * 1000);
            let budget = (1 + seed % 5 * 1000) * rng.below(40) as u64;
            let Some(want) = brute_force(&curves, budget) else {
                assert_eq!(choose(&curves, budget), None);
                assert_eq!(choose_on_hulls(&curves, budget), None);
                continue;
            };
            solved += 1;
            let best = choose(&curves, budget).unwrap();
            assert!(cost(&curves, &best) <= budget);
            assert!((loss(&curves, &best) - want).abs() < 1e-12, "{seed}: {} {want}", loss(&curves, &best));
            let near = choose_on_hulls(&curves, budget).unwrap();
            assert!(cost(&curves, &near.levels) <= budget);
            let behind = loss(&curves, &near.levels) - want;
            assert!(-1e-12 < behind && behind < near.gap + 1e-12, "{seed}: {behind} {}", near.gap);
            apart += usize::from(behind > 1e-9);
        }
        assert!(solved > 1000 && apart > 10, "{solved} {apart}");
    }

    #[test]
    fn many_cells_are_rounded_and_the_budget_holds() {
        for seed in 0..50 {
            let mut rng = SplitMix64::new(seed);
            // Costs without a common divisor, far more than there are cells.
            let curves: Vec<Vec<Level>> = (0..4)
                .map(|_| {
                    let scale = 1e6 + 1e6 * rng.unit();
                    (0..5)
                        .map(|level| {
                            let share = f64::from(level) / 4.0;
                            Level {
                                cost: (scale * share) as u64 + 7,
                                loss: (1.0 - share).powi(2) * (1.0 + scale / 1e6),
                            }
                        })
                        .collect()
                })
                .collect();
            let budget = 2_900_017;
            let want = brute_force(&curves, budget).unwrap();
            let best = choose(&curves, budget).unwrap();
            assert!(cost(&curves, &best) <= budget);
            // A budget less by one cell for each curve bounds what the rounding can cost.
            let bound = brute_force(&curves, budget - 4 * (budget / CELLS + 1)).unwrap();
            let got = loss(&curves, &best);
            assert!(want - 1e-12 <= got && got <= bound + 1e-12, "{seed}: {want} {got} {bound}");
        }
    }
}
