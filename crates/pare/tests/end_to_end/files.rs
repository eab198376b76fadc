//! Files are the user's: what pare did not write stays, and what cannot be written is noticed before the work.

use crate::model::Tiny;
use crate::program::{Pare, names, pare};
use crate::words::story;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A tiny model with texts that are short enough for its window.
fn with_texts() -> Tiny {
    let tiny = Tiny::new();
    tiny.write("a.txt", story(900, 1));
    tiny.write("b.txt", story(900, 2));
    tiny.write("w.json", r#"{"from": 1, "windows": [[1, 2, 3, 4]]}"#);
    fs::create_dir(tiny.path("other")).unwrap();
    for name in names(&tiny.model()) {
        fs::copy(tiny.model().join(&name), tiny.folder().join("other").join(&name)).unwrap();
    }
    tiny
}

/// Every command that writes a file, without `--force`, and whether what it writes shows that pare wrote it.
const FILES: [(&str, bool); 4] = [("inspect", true), ("logits", true), ("windows", false), ("export", true)];
/// Every command that writes a directory and has `--force`.
const DIRECTORIES: [&str; 2] = ["shrink", "merge"];

fn command(tiny: &Tiny, what: &str, output: &str, more: &[&str]) -> Pare {
    let (model, other, a, w) = (tiny.name(), tiny.path("other"), tiny.path("a.txt"), tiny.path("w.json"));
    let fixed: Vec<&str> = match what {
        "inspect" => vec!["inspect", &model, "--text", &a, "--report", output],
        "logits" => vec!["logits", &model, "-o", output],
        "windows" => vec!["logits", &model, "--windows", &w, "-o", output],
        "export" => vec!["export", &model, "--gguf", "f16", "-o", output],
        "shrink" => vec!["shrink", &model, "--recipe", "slim", "--text", &a, "--no-verify", "-o", output],
        "merge" => vec!["merge", &model, &other, "--method", "average", "--no-verify", "-o", output],
        _ => vec!["compare", &model, "--recipes", "random", "--keep", "0.5", "--text", &a, "-o", output],
    };
    pare([&fixed[..], more].concat())
}

#[test]
fn a_file_that_pare_did_not_write_is_never_replaced() {
    let tiny = with_texts();
    tiny.write("mine.html", "<!doctype html><title>mine</title>");
    tiny.write("mine.json", r#"{"mine": true}"#);
    tiny.write("empty", "");
    let mine = ["mine.html", "mine.json", "a.txt", "w.json", "model/config.json", "model/tokenizer.json"];
    let before = mine.map(|name| fs::read(tiny.path(name)).unwrap());
    for (what, _) in FILES {
        for name in mine {
            for more in [&[][..], &["--force"]] {
                let ended = command(&tiny, what, &tiny.path(name), more).run();
                assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{what} {name} {more:?}: {ended:?}");
                assert!(ended.stderr.contains(name), "{what}: {}", ended.stderr);
            }
        }
        // A directory of the model is an input too, also where no file is yet.
        command(&tiny, what, &tiny.path("model/new"), &[]).refuses(&["model/new", "is also an input"]);
        command(&tiny, what, &tiny.path("empty"), &[]).refuses(&["empty"]);
    }
    assert_eq!(mine.map(|name| fs::read(tiny.path(name)).unwrap()), before);
    assert!(fs::read(tiny.path("empty")).unwrap().is_empty() && !tiny.model().join("new").exists());
}

#[test]
fn a_file_that_pare_wrote_is_replaced_when_told_to() {
    let tiny = with_texts();
    for (what, shows) in FILES {
        // Directories that are missing are made.
        let output = tiny.path(&format!("made/for/{what}"));
        command(&tiny, what, &output, &[]).succeeds();
        let before = fs::read(&output).unwrap();
        let refused = command(&tiny, what, &output, &[]).refuses(&[what, "nothing was written"]);
        assert_eq!(refused.contains("--force"), shows, "{what}: {refused}");
        let again = command(&tiny, what, &output, &["--force"]);
        if shows {
            again.succeeds();
        } else {
            again.refuses(&["does not show it"]);
        }
        assert!(fs::read(&output).unwrap() == before, "{what}");
        assert_eq!(names(Path::new(&output).parent().unwrap()).len(), 1);
        fs::remove_file(output).unwrap();
    }
}

#[test]
fn a_directory_that_pare_did_not_write_is_never_replaced() {
    let tiny = with_texts();
    fs::create_dir(tiny.path("docs")).unwrap();
    tiny.write("docs/thesis.txt", "precious");
    tiny.write("docs/pare.json", "{}");
    for what in DIRECTORIES {
        for more in [&[][..], &["--force"]] {
            command(&tiny, what, &tiny.path("docs"), more).refuses(&["docs", "pare did not write"]);
        }
        let output = tiny.path(&format!("made/for/{what}"));
        command(&tiny, what, &output, &[]).succeeds();
        command(&tiny, what, &output, &[]).refuses(&["exists already", "--force"]);
        command(&tiny, what, &output, &["--force"]).succeeds();
        fs::write(Path::new(&output).join("thesis.txt"), "precious").unwrap();
        command(&tiny, what, &output, &["--force"]).refuses(&["thesis.txt", "pare did not write"]);
        assert_eq!(fs::read(Path::new(&output).join("thesis.txt")).unwrap(), b"precious");
        assert_eq!(names(Path::new(&output).parent().unwrap()), [what]);
        fs::remove_dir_all(output).unwrap();
    }
    command(&tiny, "compare", &tiny.path("docs"), &[]).refuses(&["docs", "give another directory"]);
    pare(["demo", "-o", &tiny.path("docs")]).refuses(&["docs", "pare did not write"]);
    assert_eq!(names(Path::new(&tiny.path("docs"))), ["pare.json", "thesis.txt"]);
    // Blocks of a run that was stopped would be kept in a folder beside the output.
    fs::create_dir(tiny.path(".out.pare-job")).unwrap();
    tiny.write(".out.pare-job/thesis.txt", "precious");
    command(&tiny, "shrink", &tiny.path("out"), &[]).refuses(&[".out.pare-job", "thesis.txt"]);
    assert_eq!(names(Path::new(&tiny.path(".out.pare-job"))), ["thesis.txt"]);
}

#[test]
fn files_of_a_comparison_are_replaced_only_when_they_are_its_own() {
    let tiny = with_texts();
    let held = tiny.path("b.txt");
    let more = ["--held-out", &held, "--probes", "0", "--no-speed"];
    let output = tiny.path("made/for/out");
    command(&tiny, "compare", &output, &more).succeeds();
    command(&tiny, "compare", &output, &more).succeeds();
    let page = Path::new(&output).join("compare.html");
    fs::write(&page, "mine").unwrap();
    command(&tiny, "compare", &output, &more).refuses(&["compare.html", "pare did not write"]);
    assert_eq!(fs::read(page).unwrap(), b"mine");
    assert_eq!(names(Path::new(&output)), ["compare.html", "compare.json", "entries"]);
}

#[test]
fn an_output_that_cannot_be_written_is_noticed_before_the_work() {
    let tiny = with_texts();
    // So much text that the work would take minutes.
    let long = ["--calibration-windows", "100000", "--own-text"];
    let below = tiny.path("b.txt/below/x");
    for what in ["inspect", "shrink", "compare"] {
        let model = tiny.name();
        let fixed: &[&str] = match what {
            "inspect" => &["inspect", &model, "--report", &below],
            "shrink" => &["shrink", &model, "--recipe", "slim", "-o", &below],
            _ => &["compare", &model, "-o", &below],
        };
        pare([fixed, &long].concat()).limit(Duration::from_secs(10)).refuses(&["b.txt/below", "cannot write"]);
    }
    for (what, _) in FILES {
        command(&tiny, what, &below, &[]).refuses(&["b.txt/below", "cannot write"]);
    }
    let save = ["bench", &tiny.name(), "--save", &below];
    pare(save).limit(Duration::from_secs(10)).refuses(&["b.txt", "--save"]);
    assert_eq!(names(tiny.folder()), ["a.txt", "b.txt", "model", "other", "w.json"]);
}

#[test]
fn a_cache_that_cannot_be_written_costs_time_not_the_answer() {
    let tiny = with_texts();
    let model = tiny.name();
    let small = ["--calibration-windows", "4", "--own-text", "--context", "32", "--no-verify"];
    let shrink =
        |output: &str| pare([&["shrink", &model, "--recipe", "slim", "-o", &tiny.path(output)], &small[..]].concat());
    let kept = shrink("kept").env("PARE_CACHE", tiny.path("cache")).run();
    assert_eq!((kept.code, kept.stderr.as_str()), (Some(0), ""), "{kept:?}");
    let none = shrink("none").without_env("PARE_CACHE").without_env("XDG_CACHE_HOME").without_env("HOME").run();
    let file =
        shrink("file").without_env("PARE_CACHE").without_env("XDG_CACHE_HOME").env("HOME", tiny.path("a.txt")).run();
    for ended in [none, file] {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr.matches("a later run does this again").count(), 1, "{ended:?}");
    }
    let weights = |output: &str| fs::read(tiny.path(&format!("{output}/model.safetensors"))).unwrap();
    assert!(weights("none") == weights("kept") && weights("file") == weights("kept"));
}

#[test]
fn where_no_bar_is_seen_every_stage_is_a_line() {
    let tiny = with_texts();
    let (held, output) = (tiny.path("b.txt"), tiny.path("out"));
    let more = ["--held-out", &held, "--context", "48"];
    let (model, a) = (tiny.name(), tiny.path("a.txt"));
    let fixed = ["shrink", &model, "--recipe", "slim", "--text", &a, "-o", &output, "--force"];
    let ended = pare([&fixed[..], &more].concat()).run();
    for stage in ["looking at weights", "cutting", "writing", "measuring on text", "probing", "measuring speed"] {
        assert!(ended.stages.iter().any(|line| line.ends_with(&format!(" s] {stage}"))), "{stage}: {ended:?}");
    }
    let quiet = pare([&["--quiet"], &fixed[..], &more].concat()).run();
    assert_eq!((quiet.code, quiet.stages.len(), quiet.stderr.as_str()), (Some(0), 0, ""), "{quiet:?}");
}

#[test]
fn a_context_above_the_models_is_cut_with_a_note() {
    let tiny = with_texts();
    let (model, a, b) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"));
    let (one, two) = (tiny.path("one"), tiny.path("two"));
    let texts = ["--text", &a, "--held-out", &b];
    let rows: &[&[&str]] = &[
        &["eval", &model, "--held-out", &b, "--no-speed", "--probes", "0"],
        &["inspect", &model, "--text", &a],
        &[&["shrink", &model, "--recipe", "slim", "-o", &one][..], &texts].concat(),
        &[&["compare", &model, "--recipes", "random", "--keep", "0.5", "--no-speed", "-o", &two][..], &texts].concat(),
    ];
    for row in rows {
        let above = pare([row, &["--context", "65"][..]].concat()).run();
        let note = format!("note: --context 65: the context of {model} is 64; using that\n");
        assert_eq!((above.code, above.stderr.matches(&note).count()), (Some(0), 1), "{row:?}: {above:?}");
    }
    let full = pare(["run", &model, "hi", "--ignore-end", "-n", "100"]).run();
    assert!(full.code == Some(0) && full.stderr.contains("the context of") && full.stderr.contains("full"), "{full:?}");
    let within = pare([rows[0], &["--context", "64"]].concat()).run();
    assert!(within.code == Some(0) && !within.stderr.contains("--context"), "{within:?}");
}
