//! Any bytes as a recipe: the kept corpus, the recipes that ship, and seeded mutations of both.

use pare_engine::recipe::{BUILT_IN, fuzz};
use pare_model::rng::SplitMix64;
use std::path::Path;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/recipe");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the corpus is there");
    let kept = files.iter().map(|path| std::fs::read(path).unwrap());
    kept.chain(BUILT_IN.iter().map(|(_, text)| text.as_bytes().to_vec())).collect()
}

#[test]
fn every_kept_recipe_ends_in_an_error_or_a_sound_recipe() {
    for bytes in corpus() {
        fuzz(&bytes);
    }
}

#[test]
fn mutated_recipes_end_in_an_error_or_a_sound_recipe() {
    let corpus = corpus();
    let mut rng = SplitMix64::new(1);
    for _ in 0..4000 {
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len().max(1)).min(bytes.len());
            match rng.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, rng.next_u64() as u8),
                2 => {
                    let other = &corpus[rng.below(corpus.len())];
                    let from = rng.below(other.len());
                    let line: Vec<u8> = other[from..].iter().copied().take_while(|&byte| byte != b'\n').collect();
                    bytes.splice(at..at, line);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = b"0123456789.-\"[]=eanu"[rng.below(20)];
                    }
                }
            }
        }
        fuzz(&bytes);
    }
}
