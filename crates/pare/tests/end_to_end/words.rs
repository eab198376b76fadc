//! Texts of our own making, the same on every machine: simple sentences drawn from short lists of words.

use std::fmt::Write as _;

const WHO: &[&str] = &[
    "the farmer",
    "a sailor",
    "the old teacher",
    "my sister",
    "the doctor",
    "a young painter",
    "the baker",
    "our neighbour",
    "the captain",
    "a shepherd",
    "the gardener",
    "the clockmaker",
];
const DOES: &[&str] = &[
    "finds",
    "carries",
    "remembers",
    "repairs",
    "sells",
    "forgets",
    "paints",
    "watches",
    "hides",
    "follows",
    "describes",
    "counts",
];
const WHAT: &[&str] = &[
    "a wooden boat",
    "the red lantern",
    "three apples",
    "an old map",
    "the broken clock",
    "a letter",
    "the small dog",
    "a basket of bread",
    "the silver key",
    "a bag of seeds",
    "the blue door",
    "a long rope",
];
const WHERE: &[&str] = &[
    "near the river",
    "in the village",
    "behind the church",
    "on the hill",
    "at the market",
    "by the sea",
    "in the forest",
    "under the bridge",
    "beside the road",
    "in the kitchen",
];
const WHEN: &[&str] = &[
    "in the morning",
    "after the rain",
    "before dinner",
    "every winter",
    "at night",
    "on Sunday",
    "when the wind is cold",
    "in early spring",
];

/// Steele, Lea and Flood's SplitMix64.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }
}

/// At least `words` words, in paragraphs of a few sentences.
pub(crate) fn story(words: usize, seed: u64) -> String {
    let mut draws = Draws(seed);
    let mut text = String::new();
    while text.split_whitespace().count() < words {
        for _ in 0..3 + draws.below(4) {
            let sentence = sentence(&mut draws);
            let (first, rest) = sentence.split_at(1);
            write!(text, "{}{rest}. ", first.to_uppercase()).unwrap();
        }
        text.truncate(text.trim_end().len());
        text.push_str("\n\n");
    }
    text
}

fn sentence(draws: &mut Draws) -> String {
    let mut clause = || {
        let (who, does, what) = (draws.pick(WHO), draws.pick(DOES), draws.pick(WHAT));
        format!("{who} {does} {what} {}", draws.pick(WHERE))
    };
    let (first, second) = (clause(), clause());
    match draws.below(4) {
        0 => format!("{first}, and {second}"),
        1 => format!("{} {first}", draws.pick(WHEN)),
        2 => format!("{first} because {second}"),
        _ => format!("{first} {}", draws.pick(WHEN)),
    }
}

#[test]
fn stories_are_fixed_and_differ_by_seed() {
    let (one, other) = (story(100, 1), story(100, 2));
    assert_eq!(one, story(100, 1));
    assert_ne!(one, other);
    assert!((100..160).contains(&one.split_whitespace().count()));
    assert!(one.is_ascii() && one.starts_with(char::is_uppercase));
}
