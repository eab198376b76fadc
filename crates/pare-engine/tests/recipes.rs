//! Recipes: the built-in ones are sound, and a mistake is answered with its field and what it may be.

use pare_engine::recipe::{BUILT_IN, Recipe};
use std::path::Path;

const SOUND: &str = r#"
name = "test"
about = "a test"
source = "own"
keep = 0.8

[[cut]]
grain = "channel"
score = "wanda"
"#;

fn refusal(text: &str) -> String {
    Recipe::parse("r.toml", text).unwrap_err().to_string()
}

#[test]
fn every_recipe_of_the_folder_is_built_in_under_its_own_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, _) in BUILT_IN {
        let recipe = Recipe::find(name).unwrap();
        assert_eq!(recipe.name, *name);
        let written = toml::to_string(&recipe).unwrap();
        assert_eq!(Recipe::parse("again.toml", &written).unwrap(), recipe, "{name} is read back as it was written");
    }
}

#[test]
fn defaults_are_the_plain_ones() {
    let recipe = Recipe::parse("r.toml", SOUND).unwrap();
    let cut = &recipe.cut[0];
    assert!(!recipe.sequential && cut.compensate.is_none());
    assert_eq!((cut.allocate.as_str(), cut.share, cut.multiple), ("uniform", 1.0, 1));
}

#[test]
fn a_mistake_is_answered_with_its_field() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("keep = 0.8", "kep = 0.8", &["unknown field `kep`", "did you mean \"keep\"?"]),
        ("score = \"wanda\"", "scor = \"wanda\"", &["unknown field `scor`", "did you mean \"score\"?"]),
        ("keep = 0.8", "", &["missing field `keep`"]),
        ("keep = 0.8", "keep = 0.0", &["field keep: found 0, expected a number above 0, at most 1"]),
        ("keep = 0.8", "keep = 1.1", &["field keep: found 1.1,"]),
        ("keep = 0.8", "keep = nan", &["field keep: found NaN,"]),
        ("keep = 0.8", "keep = \"much\"", &["line 5", "invalid type"]),
        ("grain = \"channel\"", "grain = \"chanel\"", &["unknown variant `chanel`", "`channel`"]),
        ("score = \"wanda\"", "score = \"wnada\"", &["field cut[0].score: found \"wnada\"", "did you mean \"wanda\"?"]),
        (
            "score = \"wanda\"",
            "score = \"block-influence\"",
            &["field cut[0].grain: found Channel", "block-influence serves"],
        ),
        ("grain = \"channel\"", "grain = \"block\"", &["field cut[0].grain: found Block", "wanda serves"]),
        (
            "score = \"wanda\"",
            "score = \"wanda\"\nallocate = \"globl\"",
            &["cut[0].allocate", "did you mean \"global\"?"],
        ),
        (
            "score = \"wanda\"",
            "score = \"wanda\"\ncompensate = \"least-square\"",
            &["cut[0].compensate", "\"least-squares\"?"],
        ),
        (
            "grain = \"channel\"",
            "grain = \"weight\"\ncompensate = \"bias\"",
            &["cut[0].compensate", "channel or group"],
        ),
        ("score = \"wanda\"", "score = \"wanda\"\nmultiple = 0", &["cut[0].multiple: found 0"]),
        ("score = \"wanda\"", "score = \"wanda\"\nmultiple = -1", &["invalid value", "usize"]),
        ("grain = \"channel\"", "grain = \"group\"\nmultiple = 2", &["cut[0].multiple: found 2"]),
        (
            "score = \"wanda\"",
            "score = \"wanda\"\ncompare = \"2:4\"",
            &["cut[0].compare", "only with grain = \"weight\""],
        ),
        ("score = \"wanda\"", "score = \"wanda\"\ncompare = \"3:4\"", &["unknown variant `3:4`", "2:4"]),
        (
            "score = \"wanda\"",
            "score = \"wanda\"\nshare = 0.5",
            &["cut.share: found 0.5, expected positive shares that add up to 1"],
        ),
        ("score = \"wanda\"", "score = \"wanda\"\nshare = nan", &["cut.share: found NaN"]),
        ("keep = 0.8", "keep = 0.8\nsequential = true\n#", &[]),
        ("score = \"wanda\"", "score = \"wanda\"\n[[cut]]\ngrain = \"group\"\nscore = \"wanda\"", &["found 1 + 1"]),
        (
            "score = \"wanda\"",
            "score = \"wanda\"\nshare = 1.5\n[[cut]]\ngrain = \"group\"\nscore = \"wanda\"\nshare = -0.5",
            &["found 1.5 + -0.5"],
        ),
        (
            "keep = 0.8\n\n[[cut]]\ngrain = \"channel\"\nscore = \"wanda\"",
            "keep = 0.8\ncut = []",
            &["field cut: found none"],
        ),
    ];
    for (from, to, says) in cases {
        assert!(SOUND.contains(from), "{from:?} is not in the sound recipe");
        let text = SOUND.replace(from, to);
        if says.is_empty() {
            assert!(Recipe::parse("r.toml", &text).unwrap().sequential, "{to:?}");
            continue;
        }
        let said = refusal(&text);
        assert!(said.starts_with("r.toml: ") && says.iter().all(|what| said.contains(what)), "{to:?}: {said}");
    }
}

#[test]
fn zeros_are_solved_around_where_there_are_some() {
    let parse = |encode: &str| {
        let head = "name = \"t\"\nabout = \"t\"\nsource = \"own\"\nkeep = 0.5\n[[encode]]\n";
        Recipe::parse("r.toml", &format!("{head}{encode}\ncompensate = \"masked-least-squares\"\n"))
    };
    for sound in ["method = \"armor\"", "method = \"sparsegpt\"\ncompare = \"2:4\""] {
        assert!(parse(sound).is_ok(), "{sound}");
    }
    let said = |encode: &str| parse(encode).unwrap_err().to_string();
    let none = said("method = \"svd\"");
    assert!(none.contains("field encode[0].compensate: found \"masked-least-squares\", expected another"), "{none}");
    let rounded = said("method = \"sparsegpt\"\nwith = { bits = 4, group = 32 }");
    assert!(rounded.contains("field encode[0].with: found bits = 4, expected no bits"), "{rounded}");
}

#[test]
fn sequential_is_for_units_inside_a_part() {
    let cut = "grain = \"block\"\nscore = \"block-influence\"";
    let text =
        format!("name = \"t\"\nabout = \"t\"\nsource = \"own\"\nkeep = 0.8\nsequential = true\n[[cut]]\n{cut}\n");
    assert!(refusal(&text).contains("field sequential: found true, expected false, unless"), "{}", refusal(&text));
}

#[test]
fn a_recipe_is_found_by_name_or_file_and_a_near_miss_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.toml");
    std::fs::write(&file, SOUND).unwrap();
    assert_eq!(Recipe::find(&file.display().to_string()).unwrap().name, "test");
    let said = Recipe::find("wanda-2of5").unwrap_err().to_string();
    assert!(said.contains("no recipe \"wanda-2of5\"") && said.contains("did you mean \"wanda-2of4\"?"), "{said}");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(Recipe::find(&file.display().to_string()).unwrap_err().to_string().contains("own.toml"));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(Recipe::find(&file.display().to_string()).unwrap_err().to_string().contains("1048577 bytes"));
}

#[test]
fn the_baseline_is_the_same_removal_by_another_score() {
    for (name, _) in BUILT_IN {
        let recipe = Recipe::find(name).unwrap();
        let baseline = recipe.baseline("random");
        assert!(!baseline.sequential && baseline.name.contains("random"), "{name}");
        assert!((baseline.cut.iter().map(|cut| cut.share).sum::<f64>() - 1.0).abs() < 1e-9, "{name}");
        for (cut, other) in recipe.cut.iter().zip(&baseline.cut) {
            assert_eq!(
                (other.score.as_str(), other.allocate.as_str(), &other.compensate),
                ("random", "uniform", &None)
            );
            assert_eq!((cut.grain, cut.multiple, cut.compare), (other.grain, other.multiple, other.compare));
        }
    }
}

#[test]
fn every_built_in_recipe_says_where_it_departs_from_its_source() {
    for (name, _) in BUILT_IN {
        let recipe = Recipe::find(name).unwrap();
        assert!(!recipe.departs.trim().is_empty(), "{name}: nothing said");
        assert!(recipe.departs == "nothing" || recipe.departs.len() > 20, "{name}: {}", recipe.departs);
        let known = ["own", "folklore"].iter().any(|start| recipe.source.starts_with(start));
        assert!(
            known || recipe.source.contains("arXiv:"),
            "{name}: a source that can be looked up, not {}",
            recipe.source
        );
        // What is no paper's is called so in both places.
        assert!(!recipe.source.starts_with("own") || recipe.departs.starts_with("own"), "{name}: {}", recipe.departs);
    }
}
