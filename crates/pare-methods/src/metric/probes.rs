//! Probes: small generated tasks with one right answer.
//!
//! Source     own; the reason is "perplexity hides damage" (a cut model can keep its perplexity and lose a skill)
//! Formula    accuracy = right answers / tasks. By likelihood: the right answer is the most likely of four. By generation: greedy
//!            decoding begins with it
//! Shapes     a task is a few-shot prompt, the right answer, three wrong ones of the same form
//! Needs      nothing
//! Parameters seed; number of tasks per probe
//! Cost       about 40 tokens of prompt per task
//! Departs    nothing
//! Errors     none
//! Exactness  the tasks depend on the seed alone

use pare_model::rng::SplitMix64;

/// A kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// One-digit sums.
    Addition,
    /// Repeat a list of words.
    Copying,
    /// Close the open brackets.
    Brackets,
    /// The number after a run of numbers.
    Counting,
}

/// One question with its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Everything before the answer.
    pub prompt: String,
    /// The right answer.
    pub answer: String,
    /// Wrong answers of the same form, different from the right one and from each other.
    pub wrong: [String; 3],
}

const WORDS: [&str; 24] = [
    "apple", "river", "stone", "cloud", "table", "horse", "green", "paper", "light", "bread", "chair", "water",
    "house", "plant", "music", "glass", "night", "money", "field", "train", "heart", "voice", "earth", "story",
];

impl Probe {
    /// Every probe.
    pub const ALL: [Self; 4] = [Self::Addition, Self::Copying, Self::Brackets, Self::Counting];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Copying => "copying",
            Self::Brackets => "brackets",
            Self::Counting => "counting",
        }
    }

    /// Task `index` of the series `seed`: three solved examples, then the question.
    pub fn task(self, seed: u64, index: usize) -> Task {
        let mut rng = SplitMix64::stream(seed, (self as u64) << 32 | index as u64);
        let mut prompt = String::new();
        for _ in 0..3 {
            let (question, answer, _) = self.question(&mut rng);
            prompt.push_str(&question);
            prompt.push_str(&answer);
            prompt.push('\n');
        }
        let (question, answer, wrong) = self.question(&mut rng);
        prompt.push_str(&question);
        Task { prompt, answer, wrong }
    }

    fn question(self, rng: &mut SplitMix64) -> (String, String, [String; 3]) {
        match self {
            Self::Addition => {
                let (a, b) = (rng.below(9) + 1, rng.below(9) + 1);
                let sum = a + b;
                (format!("{a} + {b} = "), sum.to_string(), others(rng, sum, 2, 18).map(|n| n.to_string()))
            }
            Self::Counting => {
                let step = rng.below(3) + 1;
                let start = rng.below(20) + 1;
                let terms: Vec<String> = (0..4).map(|i| (start + i * step).to_string()).collect();
                let next = start + 4 * step;
                let wrong = others(rng, next, start, next + 6);
                (format!("{}, ", terms.join(", ")), next.to_string(), wrong.map(|n| n.to_string()))
            }
            Self::Copying => {
                let words = draw(rng, 5);
                let answer = words[..3].join(" ");
                let swapped = format!("{} {} {}", words[1], words[0], words[2]);
                let last = format!("{} {} {}", words[0], words[1], words[3]);
                let first = format!("{} {} {}", words[4], words[1], words[2]);
                (format!("say: {answer} -> "), answer, [swapped, last, first])
            }
            Self::Brackets => {
                let depth = rng.below(3) + 2;
                let open: String = (0..depth).map(|_| ['(', '[', '{'][rng.below(3)]).collect();
                let close = |open: char| match open {
                    '(' => ')',
                    '[' => ']',
                    _ => '}',
                };
                let answer: String = open.chars().rev().map(close).collect();
                // Three ways to be wrong: one bracket of another kind, each at a place of its own or of a kind of its own.
                let wrong = std::array::from_fn(|way| {
                    let place = if way == 2 { 0 } else { depth - 1 };
                    let turn = if way == 0 { 1 } else { 2 };
                    let kinds = [')', ']', '}'];
                    let swap = |c: char| kinds[(kinds.iter().position(|&k| k == c).unwrap_or(0) + turn) % 3];
                    answer.chars().enumerate().map(|(i, c)| if i == place { swap(c) } else { c }).collect()
                });
                (format!("{open} a "), answer, wrong)
            }
        }
    }
}

/// Three different numbers in `low..=high`, none of them `right`.
fn others(rng: &mut SplitMix64, right: usize, low: usize, high: usize) -> [usize; 3] {
    let mut pool: Vec<usize> = (low..=high).filter(|&n| n != right).collect();
    std::array::from_fn(|_| pool.remove(rng.below(pool.len())))
}

/// `count` different words.
fn draw(rng: &mut SplitMix64, count: usize) -> Vec<&'static str> {
    let mut pool = WORDS.to_vec();
    (0..count).map(|_| pool.remove(rng.below(pool.len()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_depend_on_the_seed_alone() {
        assert_eq!(Probe::Addition.task(1, 3), Probe::Addition.task(1, 3));
        assert_ne!(Probe::Addition.task(1, 3), Probe::Addition.task(2, 3));
    }

    #[test]
    fn every_wrong_answer_is_wrong_and_different() {
        for probe in Probe::ALL {
            for index in 0..200 {
                let task = probe.task(5, index);
                let mut all = vec![task.answer.clone()];
                all.extend(task.wrong.clone());
                all.sort();
                all.dedup();
                assert_eq!(all.len(), 4, "{probe:?} {task:?}");
            }
        }
    }

    #[test]
    fn answers_are_right() {
        for index in 0..100 {
            let task = Probe::Addition.task(9, index);
            for line in format!("{}{}", task.prompt, task.answer).lines() {
                let (sum, answer) = line.split_once(" = ").unwrap();
                let (a, b) = sum.split_once(" + ").unwrap();
                assert_eq!(a.parse::<u32>().unwrap() + b.parse::<u32>().unwrap(), answer.parse::<u32>().unwrap());
            }
        }
    }
}
