//! Every file of an axis is registered, documented by the template, and has a golden.

use pare_methods::card::Card;
use pare_methods::{allocate, compensate, encode, merge, rewrite, score};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const HEADINGS: [&str; 9] =
    ["Source", "Formula", "Shapes", "Needs", "Parameters", "Cost", "Departs", "Errors", "Exactness"];

fn axes() -> Vec<(&'static str, Vec<Card>)> {
    vec![
        ("allocate", allocate::ENTRIES.iter().map(|entry| entry.card).collect()),
        ("compensate", compensate::ENTRIES.iter().map(|entry| entry.card).collect()),
        ("encode", encode::ENTRIES.iter().map(|entry| entry.card).collect()),
        ("merge", merge::ENTRIES.iter().map(|entry| entry.card).collect()),
        ("rewrite", rewrite::ENTRIES.iter().map(|entry| entry.card).collect()),
        ("score", score::ENTRIES.iter().map(|entry| entry.card).collect()),
    ]
}

fn files(axis: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(axis);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Folders belong to a method that has its head beside them; off grid makes test material, it is no way to pare.
    files.retain(|file| {
        file.is_file() && !["mod.rs", "off_grid.rs"].map(Some).contains(&file.file_name().unwrap().to_str())
    });
    files.sort();
    files
}

fn method(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().replace('_', "-")
}

#[test]
fn every_file_is_registered_and_every_name_has_a_file() {
    for (axis, cards) in axes() {
        let files: BTreeSet<String> = files(axis).iter().map(|file| method(file)).collect();
        let names: BTreeSet<String> = cards.iter().map(|card| card.name.to_owned()).collect();
        assert_eq!(files, names, "files of {axis} against its ENTRIES");
        assert!(
            cards.is_sorted_by(|a, b| a.name < b.name),
            "the ENTRIES of {axis} are not in the order of their names"
        );
    }
}

#[test]
fn every_head_follows_the_template() {
    for (axis, _) in axes() {
        for file in files(axis) {
            let text = fs::read_to_string(&file).unwrap();
            let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
            let found = head.iter().filter_map(|line| {
                let word = line.split_whitespace().next()?;
                let rest = line.trim_start().strip_prefix(word)?.trim();
                (HEADINGS.contains(&word) && !rest.is_empty()).then_some(word)
            });
            assert_eq!(found.collect::<Vec<_>>(), HEADINGS, "headings of {}", file.display());
        }
    }
}

#[test]
fn every_method_has_a_golden_and_the_script_that_made_it() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    for (axis, _) in axes() {
        for file in files(axis) {
            for extension in ["py", "json"] {
                let golden = goldens.join(axis).join(file.file_name().unwrap()).with_extension(extension);
                assert!(golden.is_file(), "{} is missing", golden.display());
            }
        }
    }
}

#[test]
fn every_card_is_filled_in() {
    for (axis, cards) in axes() {
        for card in cards {
            let texts = [card.name, card.about, card.source, card.cost, card.departs];
            assert!(texts.iter().all(|text| !text.is_empty()), "{axis} {card:?}");
            assert!(card.source.contains("arXiv:") || card.source.starts_with("folklore: "), "{axis} {card:?}");
            assert!((0.0..1e-3).contains(&card.exactness), "{axis} {card:?}");
        }
    }
}
