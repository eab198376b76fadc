//! The best choice under a budget: one option of each curve, the sum of costs within the budget, the sum of losses least.

/// States that are kept at most; beyond it costs are rounded up to a coarser unit, which never breaks the budget.
const STATES: u64 = 1 << 18;

/// The best option reached at a cost.
#[derive(Clone, Copy)]
struct State {
    cost: u64,
    loss: f64,
    /// Which state of the curve before, and which option.
    from: u32,
    option: u32,
}

/// For each curve of `(cost, loss)` the index of its option; none when even the cheapest ones cost more than `budget`.
///
/// Exact while the budget in units of the costs' common divisor is below 2^18. Of equal losses the cheaper wins, then the earlier option.
pub(crate) fn choose(curves: &[Vec<(u64, f64)>], budget: u64) -> Option<Vec<usize>> {
    let divisor = curves.iter().flatten().fold(0, |divisor, option| gcd(divisor, option.0)).max(1);
    let unit = divisor * (budget / divisor / STATES + 1);
    let units = budget / unit;
    let mut layers: Vec<Vec<State>> = Vec::with_capacity(curves.len());
    let mut last = vec![State { cost: 0, loss: 0.0, from: 0, option: 0 }];
    for curve in curves {
        let mut next: Vec<State> = Vec::with_capacity(last.len() * curve.len());
        for (from, state) in last.iter().enumerate() {
            for (option, &(cost, loss)) in curve.iter().enumerate() {
                let cost = state.cost.saturating_add(cost.div_ceil(unit));
                if cost <= units && loss.is_finite() {
                    next.push(State { cost, loss: state.loss + loss, from: from as u32, option: option as u32 });
                }
            }
        }
        next.sort_by(|a, b| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
        let mut least = f64::INFINITY;
        next.retain(|state| {
            let better = state.loss < least;
            least = least.min(state.loss);
            better
        });
        if next.is_empty() {
            return None;
        }
        layers.push(std::mem::replace(&mut last, next));
    }
    let mut at = last.len() - 1;
    let mut options = vec![0; curves.len()];
    for (index, option) in options.iter_mut().enumerate().rev() {
        *option = last[at].option as usize;
        at = last[at].from as usize;
        last = std::mem::take(&mut layers[index]);
    }
    Some(options)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let curves = vec![vec![(2, 5.0), (4, 1.0)], vec![(2, 3.0), (3, 2.5), (6, 0.0)]];
        assert_eq!(choose(&curves, 3), None);
        assert_eq!(choose(&curves, 4), Some(vec![0, 0]));
        assert_eq!(choose(&curves, 6), Some(vec![1, 0]));
        assert_eq!(choose(&curves, 7), Some(vec![1, 1]));
        assert_eq!(choose(&curves, 100), Some(vec![1, 2]));
        assert_eq!(choose(&[], 0), Some(vec![]));
    }

    #[test]
    fn as_good_as_trying_everything() {
        for seed in 0..50u64 {
            let mut random = pare_model::rng::SplitMix64::new(seed);
            let mut draw = |below: usize| random.below(below) as u64;
            let curves: Vec<Vec<(u64, f64)>> =
                (0..6).map(|_| (0..4).map(|_| (1 + draw(30), draw(1000) as f64)).collect()).collect();
            let budget = 40 + draw(80);
            let mut best: Option<f64> = None;
            for code in 0..4usize.pow(6) {
                let picked = |of: usize| curves[of][code / 4usize.pow(of as u32) % 4];
                let cost: u64 = (0..6).map(|of| picked(of).0).sum();
                let loss: f64 = (0..6).map(|of| picked(of).1).sum();
                if cost <= budget && best.is_none_or(|best| loss < best) {
                    best = Some(loss);
                }
            }
            let found = choose(&curves, budget);
            let loss =
                found.as_ref().map(|found| found.iter().zip(&curves).map(|(&at, curve)| curve[at].1).sum::<f64>());
            assert_eq!(loss, best, "seed {seed}");
            if let Some(found) = found {
                assert!(found.iter().zip(&curves).map(|(&at, curve)| curve[at].0).sum::<u64>() <= budget);
            }
        }
    }
}
