//! Requests that cannot be carried out: exit code 2, nothing on the output stream, a message that says what to do, nothing written.

use crate::model::Tiny;
use crate::program::{names, pare};
use crate::words::story;
use std::fs;

/// A tiny model with a calibration text `a.txt` and a held-out text `b.txt` beside it.
fn with_texts() -> Tiny {
    let tiny = Tiny::new();
    tiny.write("a.txt", story(900, 1));
    tiny.write("b.txt", story(900, 2));
    tiny
}

/// `pare shrink` of the tiny model into `out`, which must be refused and leave the folder as it was.
fn shrink_refuses(tiny: &Tiny, arguments: &[&str], parts: &[&str]) -> String {
    let before = names(tiny.folder());
    let (model, output) = (tiny.name(), tiny.path("out"));
    let all = [&["shrink", &model, "-o", &output], arguments].concat();
    let said = pare(all).refuses(parts);
    assert_eq!(names(tiny.folder()), before, "{arguments:?}");
    said
}

#[test]
fn usage_errors() {
    let tiny = Tiny::new();
    let model = tiny.name();
    let rows: &[(&[&str], &[&str])] = &[
        (&[], &["Usage", "shrink", "eval", "run"]),
        (&["shrnk"], &["shrnk", "similar subcommand", "shrink"]),
        (&["run", &model], &["<PROMPT>"]),
        (&["run", &model, "hi", "--tempreature", "1"], &["--tempreature", "--temperature"]),
        (&["run", &model, "hi", "--threads", "0"], &["--threads", "0"]),
        (&["run", &model, "hi", "--threads", "two"], &["--threads", "two"]),
        (&["run", &model, "hi", "--weights", "q4"], &["--weights", "q4", "exact"]),
        (&["shrink", &model], &["--recipe", "--output"]),
        (&["shrink", &model, "--recipe", "slim", "-o", "x", "--dtype", "f64"], &["--dtype", "f64", "bf16"]),
        (&["eval", &model, "--context", "1"], &["--context", "1"]),
        (&["eval", &model, "--windows", "0"], &["--windows", "0"]),
        (&["inspect", &model, "--calibration-windows", "0"], &["--calibration-windows", "0"]),
        (&["methods", "--json", "--markdown"], &["--json", "--markdown"]),
    ];
    for (arguments, parts) in rows {
        pare(*arguments).refuses(parts);
    }
}

#[test]
fn sampling_out_of_range() {
    let tiny = Tiny::new();
    let model = tiny.name();
    let rows = [
        ("--temperature=-0.5", "0 to 100"),
        ("--temperature=nan", "0 to 100"),
        ("--temperature=inf", "0 to 100"),
        ("--top-p=0", "above 0, at most 1"),
        ("--top-p=1.01", "above 0, at most 1"),
        ("--top-p=nan", "above 0, at most 1"),
        ("--min-p=-0.1", "0 to 1"),
        ("--min-p=2", "0 to 1"),
    ];
    for (option, expected) in rows {
        let (name, _) = option.split_once('=').unwrap();
        pare(["run", &model, "hi", option]).refuses(&[name, expected]);
    }
}

#[test]
fn prompts_that_do_not_fit() {
    let tiny = Tiny::new();
    let model = tiny.name();
    pare(["run", &model, ""]).refuses(&["prompt is empty"]);
    pare(["run", &model, &"x".repeat(64)]).refuses(&["64 tokens", "context holds 64"]);
    pare(["run", &model, &"x".repeat(63)]).succeeds();
    pare(["run", &model, "hi", "--chat"]).refuses(&[&model, "no chat template", "without --chat"]);
}

#[test]
fn recipes_that_are_none() {
    let tiny = with_texts();
    let text = tiny.path("a.txt");
    let refuses = |recipe: &str, parts: &[&str]| {
        shrink_refuses(&tiny, &["--recipe", recipe, "--text", &text, "--no-verify"], parts);
    };
    refuses("slimm", &["no recipe \"slimm\"", "did you mean \"slim\"?", "wanda"]);
    refuses("quite-another", &["no recipe \"quite-another\"", "built in: "]);
    let good = "name = \"own\"\nabout = \"a\"\nsource = \"own\"\nkeep = 0.8\n[[cut]]\ngrain = \"channel\"\nscore = \"wanda\"\n";
    let rows: &[(&str, &str, &[&str])] = &[
        ("score", "scroe", &["line 7", "scroe", "did you mean \"score\"?"]),
        ("wanda", "wnada", &["cut[0].score", "wnada", "did you mean \"wanda\"?"]),
        ("wanda", "block-influence", &["cut[0].grain", "block-influence"]),
        ("keep = 0.8", "keep = 1.8", &["field keep", "1.8", "at most 1"]),
        ("keep = 0.8", "keep = nan", &["field keep", "NaN"]),
        ("channel", "chanel", &["chanel", "channel"]),
        ("[[cut]]", "[[cut]", &["line 5"]),
    ];
    for (from, to, parts) in rows {
        let file = tiny.write("own.toml", good.replace(from, to));
        refuses(&file, &[&["own.toml"], *parts].concat());
    }
    let file = tiny.write("own.toml", [0xff, 0xfe]);
    refuses(&file, &["own.toml", "UTF-8"]);
    let file = tiny.write("own.toml", good);
    pare(["shrink", &tiny.name(), "--recipe", &file, "-o", &tiny.path("out"), "--text", &text, "--no-verify"])
        .succeeds();
}

#[test]
fn shares_that_cannot_be_kept_are_refused_before_the_work() {
    // No text and no cache for one: a request that came as far as writing text would fail on that.
    let tiny = Tiny::new();
    for (keep, parts) in [
        ("0", ["--keep 0", "above 0"]),
        ("-0.5", ["--keep -0.5", "above 0"]),
        ("1.5", ["--keep 1.5", "at most 1"]),
        ("nan", ["--keep NaN", "above 0"]),
        ("0.01", ["--keep 0.01", "a larger keep"]),
        // Of 80 channels 22 would stay, and the recipe rounds to 32.
        ("0.6", ["--keep 0.6", "at least 32 must stay"]),
    ] {
        shrink_refuses(&tiny, &["--recipe", "slim", &format!("--keep={keep}")], &parts);
    }
}

#[test]
fn what_the_sizes_of_the_model_do_not_allow_is_refused_before_the_work() {
    // 2 blocks, C 64, F 80, keys of 32; no text and no cache for one.
    let tiny = Tiny::new();
    let refuses = |recipe: &str, more: &[&str], parts: &[&str]| {
        shrink_refuses(&tiny, &[&["--recipe", recipe], more].concat(), parts);
    };
    let rows: &[(&str, &str, &[&str])] = &[
        ("armor", "0.5", &["block 0 gate", "[80, 64]", "blocks of 32"]),
        ("armor", "0.8", &["--keep 0.8", "pattern keeps half", "not 0.8"]),
        ("asvd", "0.02", &["--keep 0.02", "block 0 q", "strongest direction alone takes 0.0313"]),
        ("delta-drop", "0.5", &["--keep 0.5", "a larger keep (more than 0.5556)"]),
        ("flap", "0.1", &["--keep 0.1", "0.1 of 55296 parameters is 5529.6", "the floors keep 12672"]),
        ("flattengpt", "0.1", &["--keep 0.1", "the rewrite flatten", "0.1 of 2 blocks leaves none"]),
        ("global-magnitude", "0.1", &["--keep 0.1", "0.1 of 55296 parameters is 5529.6", "the floors keep"]),
        ("gptq", "1", &["block 0 down", "rows of 80 in Q4_0"]),
        ("gptq", "0.5", &["--keep 0.5", "removes nothing"]),
        ("gptq-eora", "1", &["block 0 down", "rows of 80 in Q4_0"]),
        ("llm-drop", "0.5", &["--keep 0.5", "a larger keep (more than 0.5556)"]),
        ("merge-features", "0.3", &["--keep 0.3", "the rewrite merge-features", "more than 0.444"]),
        ("neighbour-average", "0.1", &["--keep 0.1", "the rewrite neighbour-average", "leaves none"]),
        ("shortgpt", "0.1", &["--keep 0.1", "the floors keep 27648"]),
        ("slice-global", "0.1", &["--keep 0.1", "the rewrite slice-global", "less than half of 32"]),
        ("slicegpt", "0.02", &["--keep 0.02", "the rewrite slice", "less than half of 8"]),
        ("sparsegpt-4of8", "0.3", &["--keep 0.3", "keeps half", "not 0.3"]),
        ("svd", "0.02", &["--keep 0.02", "block 0 q", "strongest direction"]),
        ("wanda-2of4", "0.8", &["--keep 0.8", "keeps half", "not 0.8"]),
    ];
    for (recipe, keep, parts) in rows {
        refuses(recipe, &["--keep", keep], parts);
    }
    refuses(
        "slim",
        &["--dtype", "2of4-f16"],
        &["--dtype 2of4-f16", "recipe slim", "q of the first block", "wanda-2of4"],
    );
    refuses("wanda-2of4", &["--dtype", "rows8-int8"], &["--dtype rows8-int8", "recipe wanda-2of4", "wanda-8rows"]);

    let own = |stage: &str, parts: &[&str]| {
        let head = "name = \"own\"\nabout = \"a\"\nsource = \"own\"\nkeep = 0.5\n";
        let file = tiny.write("own.toml", head.to_owned() + stage);
        refuses(&file, &[], parts);
    };
    own(
        "[[encode]]\nmethod = \"svd\"\nwith = { rank = 65 }",
        &["block 0 q", "rank: 65 of a [64, 64] matrix", "1..=64"],
    );
    let eora = "[[cut]]\ngrain = \"weight\"\nscore = \"wanda\"\ncompensate = \"eora\"\ncompensate-with";
    own(&format!("{eora} = {{ rank = 33 }}"), &["block 0 k", "rank: 33 of a [32, 64] matrix", "1..=32"]);
    own(&format!("{eora} = {{ rank = 32, type = \"q8_0\" }}"), &["block 0 down", "q8_0 for factors of 80 inputs"]);
    let sparse = "[[encode]]\nmethod = \"sparsegpt\"\ncompare = \"2:4\"\nwith";
    own(&format!("{sparse} = {{ block = 6 }}"), &["block: 6", "whole groups of 4"]);
    own(&format!("{sparse} = {{ type = \"q4_0\" }}"), &["block 0 down", "rows of 80 in Q4_0"]);
}

#[test]
fn a_text_that_cannot_be_used_is_refused_before_the_model_writes_another() {
    let tiny = Tiny::new();
    let (model, output) = (tiny.name(), tiny.path("out"));
    let short = tiny.write("short.txt", "too short");
    let parts = ["short.txt", "9 tokens", "needs 64", "--context"];
    shrink_refuses(&tiny, &["--recipe", "slim", "--held-out", &short], &parts);
    pare(["compare", &model, "-o", &output, "--held-out", &short]).refuses(&parts);
    pare(["merge", &model, &model, "-o", &output, "--held-out", &short]).refuses(&parts);
    assert_eq!(names(tiny.folder()), ["model", "short.txt"]);
}

#[test]
fn a_size_that_the_merge_does_not_serve_is_refused_before_the_work() {
    let tiny = Tiny::new();
    let (model, output) = (tiny.name(), tiny.path("out"));
    for (method, size, parts) in [
        ("average", "1.5", ["parameter size: 1.5", "expected 1"]),
        ("pleas", "0", ["--size 0", "expected 1..=2"]),
        ("pleas", "nan", ["--size NaN", "expected 1..=2"]),
    ] {
        pare(["merge", &model, &model, "--method", method, "--size", size, "-o", &output]).refuses(&parts);
    }
    assert_eq!(names(tiny.folder()), ["model"]);
}

#[test]
fn texts_that_cannot_be_used() {
    let tiny = with_texts();
    let (a, b) = (tiny.path("a.txt"), tiny.path("b.txt"));
    let short = tiny.write("short.txt", "too short");
    let slim = |rest: &[&str], parts: &[&str]| shrink_refuses(&tiny, &[&["--recipe", "slim"], rest].concat(), parts);

    slim(&["--text", &short, "--held-out", &b], &["short.txt", "9 tokens", "needs 64", "--context"]);
    slim(&["--text", &a, "--held-out", &short], &["short.txt", "9 tokens"]);
    let none = tiny.path("none.txt");
    slim(&["--text", &none, "--held-out", &b], &["none.txt"]);

    // The same text, under the same and under another name, in whole windows and in windows shorter than a run that counts.
    slim(&["--text", &a, "--held-out", &a], &["a.txt", "overlap", "48 tokens"]);
    slim(&["--text", &a, "--held-out", &a, "--context", "32"], &["a.txt", "overlap", "32 tokens"]);
    let copy = tiny.write("copy.txt", fs::read(&a).unwrap());
    slim(&["--text", &a, "--held-out", &copy], &["a.txt", "copy.txt", "overlap"]);
    let latin = tiny.write("latin.txt", b"caf\xe9".repeat(100));
    slim(&["--text", &latin, "--held-out", &b], &["latin.txt", "byte 3", "UTF-8"]);
    let rows = tiny.write("rows.jsonl", "{\"text\": \"good\"}\n{\"txet\": \"bad\"}\n");
    slim(&["--text", &rows, "--held-out", &b], &["rows.jsonl", "line 2", "\"text\""]);
    let rows = tiny.write("rows.jsonl", "{\"text\": \"good\"}\n\n{\"text\": \n");
    slim(&["--text", &rows, "--held-out", &b], &["rows.jsonl", "line 3"]);
    let folder = tiny.name();
    slim(&["--text", &folder, "--held-out", &b], &["model", "directory"]);
}

#[test]
fn a_passage_in_both_texts_is_found_wherever_it_stands() {
    // Windows of 256 tokens, and texts so short that every window is read.
    let tiny = Tiny::of_family("llama-llama3-biases");
    let passage = story(150, 1);
    let part = tiny.write("part.txt", &passage);
    for start in [101, 150, 220] {
        let mixed = tiny.write("mixed.txt", story(30, 2) + &passage[start..start + 400] + &story(60, 3));
        let texts = ["--recipe", "slim", "--text", &part, "--held-out", &mixed];
        shrink_refuses(&tiny, &texts, &["part.txt", "mixed.txt", "overlap", "48 tokens"]);
    }
}

#[test]
fn outputs_that_are_in_the_way() {
    let tiny = with_texts();
    let (model, text) = (tiny.name(), tiny.path("a.txt"));
    let weights = fs::read(tiny.model().join("model.safetensors")).unwrap();
    let to = |output: &str, more: &[&str]| {
        let fixed = ["shrink", &model, "--recipe", "wanda-sp", "--text", &text, "--no-verify", "-o", output];
        pare([&fixed[..], more].concat())
    };

    for more in [&[][..], &["--force"]] {
        to(&model, more).refuses(&["model", "also an input"]);
        to(&tiny.path("model/../model"), more).refuses(&["also an input"]);
        to(tiny.folder().to_str().unwrap(), more).refuses(&["also an input"]);
        to(&text, more).refuses(&["a.txt"]);
    }
    assert_eq!(fs::read(tiny.model().join("model.safetensors")).unwrap(), weights);

    let output = tiny.path("out");
    fs::create_dir(&output).unwrap();
    fs::write(tiny.folder().join("out/notes"), "mine").unwrap();
    for more in [&[][..], &["--force"]] {
        to(&output, more).refuses(&["out", "pare did not write", "pare.json"]);
        assert_eq!(names(&tiny.folder().join("out")), ["notes"]);
        assert_eq!(fs::read(tiny.folder().join("out/notes")).unwrap(), b"mine");
    }
    fs::remove_file(tiny.folder().join("out/notes")).unwrap();
    assert_eq!(to(&output, &[]).succeeds(), format!("written: {output}\n"));
    to(&output, &[]).refuses(&["out", "exists already", "--force"]);
    assert_eq!(to(&output, &["--force"]).succeeds(), format!("written: {output}\n"));
    fs::write(tiny.folder().join("out/notes"), "mine").unwrap();
    to(&output, &["--force"]).refuses(&["notes", "pare did not write"]);
    assert!(names(&tiny.folder().join("out")).contains(&"model.safetensors".to_owned()));
    assert_eq!(names(tiny.folder()), ["a.txt", "b.txt", "model", "out"]);
}
