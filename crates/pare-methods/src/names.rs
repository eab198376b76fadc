//! Finding a method by its name, and the name that was perhaps meant.

/// The candidate fewest single-letter edits away from `name`, when a third of its letters or fewer differ. Ties go to the
/// first candidate.
pub fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name: Vec<char> = name.chars().collect();
    candidates
        .map(|candidate| (distance(&name, candidate), candidate))
        .filter(|(edits, candidate)| edits * 3 <= candidate.len().max(name.len()) + 2)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance: inserted, deleted and changed letters.
fn distance(from: &[char], to: &str) -> usize {
    let mut costs: Vec<usize> = (0..=from.len()).collect();
    for (row, letter) in to.chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (col, other) in from.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = costs[col + 1];
            costs[col + 1] = changed.min(costs[col] + 1).min(diagonal + 1);
        }
    }
    costs[from.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits_by_hand() {
        let count = |from: &str, to: &str| distance(&from.chars().collect::<Vec<_>>(), to);
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("wanda", "wanda"), 0);
    }

    #[test]
    fn suggests_only_what_is_near() {
        let names = || ["magnitude", "random", "wanda"].into_iter();
        assert_eq!(nearest("wnada", names()), Some("wanda"));
        assert_eq!(nearest("magnitud", names()), Some("magnitude"));
        assert_eq!(nearest("Wanda", names()), Some("wanda"));
        assert_eq!(nearest("sparsegpt", names()), None);
        assert_eq!(nearest("", names()), None);
    }
}
