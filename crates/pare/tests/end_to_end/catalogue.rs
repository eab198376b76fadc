//! `pare methods` and the help texts.

use crate::program::pare;
use std::path::Path;

const AXES: [&str; 6] = ["score", "allocate", "compensate", "encode", "rewrite", "merge"];

#[test]
fn the_catalogue_names_every_method_and_recipe_in_all_its_forms() {
    let (plain, markdown) = (pare(["methods"]).succeeds(), pare(["methods", "--markdown"]).succeeds());
    let json = pare(["methods", "--json"]).json();
    let mut keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["allocate", "compensate", "encode", "merge", "recipes", "rewrite", "score"]);
    for axis in AXES {
        let methods = json[axis].as_array().unwrap();
        assert!(!methods.is_empty(), "{axis}");
        for method in methods {
            for key in ["name", "about", "source", "cost"] {
                let value = method[key].as_str().unwrap();
                assert!(
                    !value.is_empty() && plain.contains(value) && markdown.contains(value),
                    "{axis}: {key}: {value}"
                );
            }
            assert!(method["needs"].is_array() && method["grains"].is_array());
            let formula = method["formula"].as_str().unwrap();
            assert!(
                !formula.is_empty() && markdown.contains(&format!("- formula: `{formula}`\n")),
                "{axis}: {formula}"
            );
        }
    }
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let files = crate::program::names(&recipes);
    let listed = json["recipes"].as_array().unwrap();
    let mut named: Vec<String> =
        listed.iter().map(|recipe| format!("{}.toml", recipe["name"].as_str().unwrap())).collect();
    named.sort();
    assert_eq!(named, files, "a recipe of recipes/ is not built in, or the other way round");
    for recipe in listed {
        let name = recipe["name"].as_str().unwrap();
        assert!(plain.contains(name) && markdown.contains(&format!("### {name}\n")), "{name}");
    }
}

#[test]
fn a_name_shows_all_that_is_known_of_it() {
    let wanda = pare(["methods", "wanda"]).succeeds();
    for part in
        ["score: ", "recipe: ", "  formula     S_oi = |W_oi| * sqrt(mean over tokens of x_i^2)", "arXiv:2306.11695"]
    {
        assert!(wanda.contains(part), "{part}: {wanda}");
    }
    assert!(!wanda.contains("magnitude"), "{wanda}");
    let json = pare(["methods", "wanda", "--json"]).json();
    assert_eq!(json["score"]["name"], "wanda");
    assert_eq!(json["recipe"]["name"], "wanda");
    assert!(wanda.contains(json["score"]["formula"].as_str().unwrap()));
    pare(["methods", "wnada"]).refuses(&["\"wnada\"", "perhaps wanda?", "`pare methods`"]);
    pare(["methods", "wanda", "--markdown"]).refuses(&["--markdown"]);
}

#[test]
fn help_names_every_command_and_option() {
    const TEXTS: [&str; 8] =
        ["--text", "--held-out", "--own-text", "--context", "--calibration-windows", "--windows", "--seed", "--date"];
    let help = pare(["--help"]).succeeds();
    let rows: &[(&str, &[&str])] = &[
        ("demo", &["--output", "--json"]),
        ("inspect", &["--curve", "--report", "--force", "--json"]),
        ("shrink", &["--recipe", "--keep", "--output", "--force", "--dtype", "--no-verify", "--json"]),
        ("eval", &["--against", "--probes", "--no-speed", "--json"]),
        ("merge", &["<A>", "<B>", "--method", "--size", "--output", "--force", "--dtype", "--no-verify", "--json"]),
        (
            "run",
            &[
                "--chat",
                "--special",
                "--date",
                "--tokens",
                "--temperature",
                "--top-k",
                "--top-p",
                "--min-p",
                "--seed",
                "--ignore-end",
                "--weights",
                "--json",
            ],
        ),
        ("fit", &["--context", "--weights", "--json"]),
        ("methods", &["[NAME]", "--markdown", "--json"]),
        ("pull", &["<NAME>", "--revision", "--token"]),
        ("logits", &["--prompts", "--special", "--output", "--force"]),
    ];
    for (command, options) in rows {
        assert!(help.contains(&format!("  {command} ")), "{command}: {help}");
        let text = pare([command, "--help"]).succeeds();
        let texts = if ["inspect", "shrink", "eval", "merge"].contains(command) { &TEXTS[..] } else { &[] };
        for option in options.iter().chain(texts).chain(&["--threads", "--quiet", "--help"]) {
            assert!(text.contains(option), "{command}: {option}: {text}");
        }
    }
    assert!(help.contains("smollm2-135m") && help.contains("--threads") && help.contains("--version"));
    assert_eq!(pare(["--version"]).succeeds(), format!("pare {}\n", env!("CARGO_PKG_VERSION")));
}
