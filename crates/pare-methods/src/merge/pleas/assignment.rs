//! The assignment problem, exactly: shortest augmenting paths with potentials, as Jonker and Volgenant 1987.

/// Of each row of the `[n, n]` matrix `costs`, row by row, the column of an assignment with the least sum. Of equal choices the lower
/// column comes first, so that the result depends on the costs alone. O(n^3).
pub(super) fn assign(costs: &[f64], n: usize) -> Vec<usize> {
    debug_assert_eq!(costs.len(), n * n);
    let cost = |row: usize, col: usize| costs[row * n + col];
    // Potentials: row + column never exceed a cost, and equal it where rows are assigned.
    let mut columns: Vec<f64> =
        (0..n).map(|col| (0..n).fold(f64::INFINITY, |least, row| least.min(cost(row, col)))).collect();
    let mut rows = vec![0.0; n];
    let mut owner: Vec<Option<usize>> = vec![None; n];
    let mut partner: Vec<Option<usize>> = vec![None; n];
    for row in 0..n {
        let free = (0..n).fold((f64::INFINITY, 0), |best, col| {
            let slack = cost(row, col) - columns[col];
            if slack < best.0 { (slack, col) } else { best }
        });
        rows[row] = free.0;
        if owner[free.1].is_none() {
            (owner[free.1], partner[row]) = (Some(row), Some(free.1));
        }
    }
    for start in 0..n {
        if partner[start].is_some() {
            continue;
        }
        // The shortest paths from `start` to every column, over columns that are taken.
        let mut distance: Vec<f64> = (0..n).map(|col| cost(start, col) - rows[start] - columns[col]).collect();
        let mut before = vec![start; n];
        let mut done = vec![false; n];
        let mut reached = Vec::new();
        let (end, length) = loop {
            let mut next = (f64::INFINITY, n);
            for col in (0..n).filter(|&col| !done[col]) {
                if distance[col] < next.0 || next.1 == n {
                    next = (distance[col], col);
                }
            }
            let (length, col) = next;
            done[col] = true;
            let Some(row) = owner[col] else { break (col, length) };
            reached.push(col);
            for other in (0..n).filter(|&other| !done[other]) {
                let through = length + cost(row, other) - rows[row] - columns[other];
                if through < distance[other] {
                    (distance[other], before[other]) = (through, row);
                }
            }
        };
        rows[start] += length;
        for col in reached {
            columns[col] -= length - distance[col];
            if let Some(row) = owner[col] {
                rows[row] += length - distance[col];
            }
        }
        let mut col = end;
        loop {
            let row = before[col];
            owner[col] = Some(row);
            let old = partner[row].replace(col);
            match old {
                Some(old) if row != start => col = old,
                _ => break,
            }
        }
    }
    partner.into_iter().enumerate().map(|(row, col)| col.unwrap_or(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(costs: &[f64], n: usize, assigned: &[usize]) -> f64 {
        assigned.iter().enumerate().map(|(row, &col)| costs[row * n + col]).sum()
    }

    /// The least sum over all permutations of `0..n`.
    fn least(costs: &[f64], n: usize, row: usize, taken: &mut Vec<usize>) -> f64 {
        if row == n {
            return sum(costs, n, taken);
        }
        let mut best = f64::INFINITY;
        for col in 0..n {
            if !taken.contains(&col) {
                taken.push(col);
                best = best.min(least(costs, n, row + 1, taken));
                taken.pop();
            }
        }
        best
    }

    fn is_permutation(assigned: &[usize]) -> bool {
        let mut sorted = assigned.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..assigned.len())
    }

    #[test]
    fn by_hand() {
        assert_eq!(assign(&[], 0), [0; 0]);
        assert_eq!(assign(&[7.0], 1), [0]);
        // 1 + 5 and 2 + 3.
        assert_eq!(assign(&[1.0, 2.0, 3.0, 5.0], 2), [1, 0]);
        assert_eq!(assign(&[4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 3.0, 2.0, 2.0], 3), [1, 0, 2]);
        assert_eq!(assign(&[0.0; 16], 4), [0, 1, 2, 3]);
    }

    #[test]
    fn never_more_than_the_best_of_all_permutations() {
        let mut state = 7_u64;
        let mut next = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        for n in 1..=7 {
            for round in 0..60 {
                // Few distinct whole costs: ties, and sums that are exact.
                let most = if round % 2 == 0 { 4 } else { 1000 };
                let costs: Vec<f64> = (0..n * n).map(|_| next(most) as f64 - 2.0).collect();
                let assigned = assign(&costs, n);
                assert!(is_permutation(&assigned), "{assigned:?}");
                assert_eq!(sum(&costs, n, &assigned), least(&costs, n, 0, &mut Vec::new()), "{costs:?}");
            }
        }
    }

    #[test]
    fn finds_a_hidden_permutation() {
        let n = 300;
        let hidden: Vec<usize> = (0..n).map(|row| (row * 77 + 5) % n).collect();
        let noise = |row: usize, col: usize| ((row * 7919 + col * 104_729) % 1009) as f64 / 2000.0;
        let costs: Vec<f64> =
            (0..n * n).map(|at| noise(at / n, at % n) - f64::from(u8::from(hidden[at / n] == at % n))).collect();
        assert_eq!(assign(&costs, n), hidden);
    }
}
