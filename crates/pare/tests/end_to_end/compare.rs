//! `pare compare` on tiny models: what it writes, that it goes on where it was, and what it refuses.

use crate::model::{Tiny, tensor};
use crate::program::{Ended, LIMIT, Pare, names, pare, wait};
use crate::words::{Draws, story};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn with_texts() -> Tiny {
    let tiny = Tiny::new();
    tiny.write("a.txt", story(900, 1));
    tiny.write("b.txt", story(900, 2));
    tiny
}

fn compare(tiny: &Tiny, more: &[&str]) -> Pare {
    let (model, a, b, output) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"), tiny.path("out"));
    let fixed = ["compare", &model, "--text", &a, "--held-out", &b, "-o", &output, "--context", "48"];
    pare([&fixed[..], more].concat())
}

/// slim cannot keep half of the tiny model, for its steps of 32 channels; wanda can.
const TWO: [&str; 6] = ["--recipes", "slim,wanda", "--keep", "0.5,0.88", "--probes", "1"];

fn succeeds(pare: Pare) -> Ended {
    let ended = pare.run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

fn counts(computed: usize, found: usize) -> String {
    format!("measured now: {computed}; found from earlier runs: {found}\n")
}

fn written(tiny: &Tiny) -> Value {
    serde_json::from_slice(&fs::read(tiny.folder().join("out/compare.json")).unwrap()).unwrap()
}

/// Names and bytes of every file that is kept.
fn kept(tiny: &Tiny) -> Vec<(String, Vec<u8>)> {
    let folder = tiny.folder().join("out/entries");
    names(&folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

/// What was written, without what differs from run to run and from folder to folder: times, memory, who is unbeaten in speed, paths.
fn untimed(tiny: &Tiny) -> Value {
    let text = written(tiny).to_string().replace(tiny.folder().to_str().unwrap(), "");
    let mut comparison: Value = serde_json::from_str(&text).unwrap();
    let of_run = ["speed", "cost", "peak_memory_bytes"];
    let strip = |figures: &mut Value| figures.as_object_mut().unwrap().retain(|key, _| !of_run.contains(&key.as_str()));
    strip(&mut comparison["dense"]);
    strip(&mut comparison["as_read"]);
    strip(&mut comparison["fronts"]);
    for list in ["entries", "plain_bits"] {
        comparison[list].as_array_mut().unwrap().iter_mut().for_each(strip);
    }
    let lasting = |note: &Value| !note.as_str().unwrap().starts_with("Speeds say little");
    comparison["notes"].as_array_mut().unwrap().retain(lasting);
    comparison
}

#[test]
fn two_recipes_at_two_shares_and_what_cannot_be() {
    let tiny = with_texts();
    let ended = succeeds(compare(&tiny, &[&TWO[..], &["--json"]].concat()));
    assert_eq!(ended.stderr, counts(9, 0));
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found, written(&tiny));
    assert_eq!(names(&tiny.folder().join("out")), ["compare.html", "compare.json", "entries"]);

    let entries = found["entries"].as_array().unwrap();
    let of = |name: &str, keep: f64| {
        let own = |entry: &&Value| entry["recipe"] == name && entry["keep"] == keep;
        entries.iter().find(own).unwrap_or_else(|| panic!("{name} {keep}: {found}"))
    };
    assert_eq!((&found["keeps"], entries.len()), (&json!([0.88, 0.5]), 8));
    let refused = of("slim", 0.5);
    assert_eq!(refused["status"], "not_applicable");
    assert!(refused["why"].as_str().unwrap().contains("at least 32 must stay"), "{refused}");
    let dense = &found["dense"];
    for (name, keep) in [("slim", 0.88), ("wanda", 0.88), ("wanda", 0.5), ("random", 0.88), ("magnitude", 0.5)] {
        let entry = of(name, keep);
        assert_eq!((&entry["status"], &entry["storage"]), (&json!("measured"), &json!("f16")), "{entry}");
        assert_eq!(entry["baseline"], ["random", "magnitude"].contains(&name), "{entry}");
        let number = |key: &str| entry[key].as_f64().unwrap_or_else(|| panic!("{key}: {entry}"));
        let ratio = number("perplexity") / dense["perplexity"].as_f64().unwrap();
        assert!((ratio / number("perplexity_ratio") - 1.0).abs() < 1e-12, "{entry}");
        assert!(number("kl_mean") > 0.01 && number("kl_p99") > number("kl_mean") && number("top1_agreement") < 1.0);
        assert!((number("kept") - keep).abs() < 0.03, "{entry}");
        assert_eq!(entry["parameters"].as_u64() < dense["parameters"].as_u64(), name == "slim", "{entry}");
        assert_eq!(entry["bytes"].as_u64() < dense["bytes"].as_u64(), name == "slim", "{entry}");
        assert!(entry["speed"]["decode_tok_s"].as_f64().unwrap() > 0.0, "{entry}");
        assert!(entry["speed"]["prefill_tok_s"].as_f64().unwrap() > 0.0, "{entry}");
        assert!(!cfg!(target_os = "linux") || entry["peak_memory_bytes"].as_u64() > Some(1 << 20), "{entry}");
        assert!(entry["speed"]["over_dense"]["median"].as_f64().unwrap() > 0.0, "{entry}");
        assert!(entry["cost"]["shrink_seconds"].as_f64() < entry["cost"]["seconds"].as_f64(), "{entry}");
        assert!(!cfg!(target_os = "linux") || entry["cost"]["peak_memory_bytes"].as_u64() > Some(1 << 20), "{entry}");
        assert!(entry["probes"].as_object().unwrap().keys().any(|probe| probe.ends_with("_generated")), "{entry}");
    }
    // More is lost where less is kept, and noise loses most.
    let lost = |name: &str, keep: f64| of(name, keep)["kl_mean"].as_f64().unwrap();
    assert!(lost("wanda", 0.88) < lost("wanda", 0.5) && lost("wanda", 0.5) < lost("random", 0.5));
    // Of the recipes slim alone leaves bytes out: it stands beside the uncut model in as few bits, which loses less. The file as read has a header
    // more than the dense weights.
    let plain = &found["plain_bits"].as_array().unwrap()[..];
    let [plain] = plain else { panic!("{plain:?}") };
    let least = of("slim", 0.88);
    assert!(plain["bytes"].as_u64() <= least["bytes"].as_u64() && plain["bytes"].as_u64() > Some(1000), "{plain}");
    assert!(plain["kl_mean"].as_f64() > Some(0.0) && plain["kl_mean"].as_f64() < least["kl_mean"].as_f64(), "{plain}");
    assert_eq!(found["fronts"]["bytes"], json!([plain["name"], "dense"]), "{found}");

    let page = fs::read_to_string(tiny.folder().join("out/compare.html")).unwrap();
    assert_eq!(page.matches("<svg class=\"pareto\"").count(), 2);
    for part in ["Quality against bytes", "Quality against speed", "polyline class=\"front\"", "slim 0.5", "must stay"]
    {
        assert!(page.contains(part), "{part}");
    }
    for loads in ["<script", "<link", "src=", "href=", "url(", "@import", "http:", "https:"] {
        assert!(!page.contains(loads), "{loads}");
    }
    // The same artefact measured by `shrink` and `eval` has the same figures.
    let (model, a, b, shrunk) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"), tiny.path("shrunk"));
    let shrink = ["shrink", &model, "--recipe", "wanda", "--keep", "0.5", "--text", &a, "--no-verify", "-o", &shrunk];
    pare([&shrink[..], &["--context", "48"]].concat()).succeeds();
    let eval = ["eval", &shrunk, "--against", &model, "--held-out", &b, "--context", "48", "--json", "--no-speed"];
    let alone = pare([&eval[..], &["--probes", "1"]].concat()).json();
    for key in ["perplexity", "kl_mean", "kl_p99", "top1_agreement", "bytes", "parameters", "probes"] {
        assert_eq!(alone[key], of("wanda", 0.5)[key], "{key}");
    }
}

#[test]
fn what_is_there_is_not_measured_again() {
    let tiny = with_texts();
    let first = succeeds(compare(&tiny, &TWO));
    assert!(
        first.stdout.contains("unbeaten in KL against bytes: ")
            && first.stdout.contains("without figures:\n  slim 0.5: ")
    );
    let (whole, figures, files) = (written(&tiny), untimed(&tiny), kept(&tiny));
    let second = succeeds(compare(&tiny, &TWO));
    assert_eq!((second.stderr, second.stdout), (counts(0, 9), first.stdout));
    assert_eq!((written(&tiny), kept(&tiny)), (whole, files.clone()));

    let entry = |start: &str| files.iter().find(|file| file.0.starts_with(start)).unwrap().0.clone();
    let path = |name: &str| tiny.folder().join("out/entries").join(name);
    // A file that is gone, one that was cut short, and one with another figure.
    fs::remove_file(path(&entry("wanda-0.5"))).unwrap();
    assert_eq!(succeeds(compare(&tiny, &TWO)).stderr, counts(1, 8));
    let spoil: [fn(&str) -> String; 2] =
        [|text| text[..text.len() / 2].to_owned(), |text| text.replacen("\"parameters\": ", "\"parameters\": 1", 1)];
    for (name, spoil) in [entry("dense"), entry("slim-0.88")].iter().zip(spoil) {
        let text = fs::read_to_string(path(name)).unwrap();
        assert_ne!(spoil(&text), text);
        fs::write(path(name), spoil(&text)).unwrap();
        let ended = succeeds(compare(&tiny, &TWO));
        assert!(ended.stderr.starts_with("note: ") && ended.stderr.contains(name.as_str()), "{ended:?}");
        assert!(ended.stderr.ends_with(&format!("; measured anew\n{}", counts(1, 8))), "{ended:?}");
    }
    assert_eq!(untimed(&tiny), figures);
    assert_eq!(
        kept(&tiny).iter().map(|file| &file.0).collect::<Vec<_>>(),
        files.iter().map(|file| &file.0).collect::<Vec<_>>()
    );

    // Another seed, another text and other measures are other entries; one more share is one more for each recipe.
    let no_speed = ["--no-speed", "--sort", "kl"];
    assert_eq!(succeeds(compare(&tiny, &[&TWO[..], &no_speed].concat())).stderr, counts(9, 0));
    assert_eq!(succeeds(compare(&tiny, &[&TWO[..], &["--seed", "1"]].concat())).stderr, counts(9, 0));
    tiny.write("a.txt", story(900, 3));
    // The dense model is measured on the held-out text alone.
    assert_eq!(succeeds(compare(&tiny, &TWO)).stderr, counts(7, 2));
    let more = ["--recipes", "slim,wanda", "--keep", "0.5,0.88,0.7", "--probes", "1"];
    // The largest plain type below either size of slim is the same.
    assert_eq!(succeeds(compare(&tiny, &more)).stderr, counts(4, 9));
}

#[test]
fn a_killed_comparison_goes_on_where_it_was() {
    let whole = {
        let tiny = with_texts();
        succeeds(compare(&tiny, &TWO));
        untimed(&tiny)
    };
    let mut draws = Draws(9);
    let mut killed = |tiny: &Tiny| {
        let mut child = compare(tiny, &TWO).start();
        std::thread::sleep(Duration::from_micros(draws.below(200_000) as u64));
        // Gone already when it was faster than that.
        let _ = child.kill();
        child.wait().unwrap().code().is_none()
    };
    for round in 0..6 {
        let tiny = (0..50).map(|_| with_texts()).find(|tiny| killed(tiny)).expect("the times are too long");
        // Once more, in what the first has left.
        killed(&tiny);
        let ended = succeeds(compare(&tiny, &TWO));
        assert!(ended.stderr.starts_with("measured now: "), "nothing half-written is read: {ended:?}");
        assert_eq!(untimed(&tiny), whole, "round {round}");
        assert_eq!(names(&tiny.folder().join("out")), ["compare.html", "compare.json", "entries"], "round {round}");
    }
}

#[test]
fn an_interrupted_comparison_keeps_what_is_finished() {
    let tiny = with_texts();
    let many = ["--keep", "0.95,0.9,0.85,0.8,0.75,0.7,0.65,0.6,0.55,0.5", "--probes", "24"];
    let mut child = compare(&tiny, &many).start();
    let entries = tiny.folder().join("out/entries");
    let finished =
        || if entries.is_dir() { names(&entries).iter().filter(|name| !name.starts_with('.')).count() } else { 0 };
    let start = Instant::now();
    while finished() < 3 {
        assert!(start.elapsed() < LIMIT && child.try_wait().unwrap().is_none(), "it does not begin, or ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(wait(&mut child, Duration::from_secs(5)), Some(Some(130)));
    let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(
        stderr.contains("the same command goes on from there") && stderr.ends_with("pare: interrupted\n"),
        "{stderr}"
    );
    assert_eq!(names(&tiny.folder().join("out")), ["entries"]);
    assert!(finished() >= 3);
}

#[test]
fn models_are_kept_when_asked() {
    let tiny = with_texts();
    let asked = ["--recipes", "wanda-2of4,shortgpt", "--keep", "0.5", "--probes", "0", "--no-speed"];
    let keep = [&asked[..], &["--keep-models"]].concat();
    assert_eq!(succeeds(compare(&tiny, &asked)).stderr, counts(6, 0));
    assert!(!tiny.folder().join("out/models").exists());
    // The dense model is not among them and needs no second measure.
    assert_eq!(succeeds(compare(&tiny, &keep)).stderr, counts(5, 1));
    assert_eq!(succeeds(compare(&tiny, &keep)).stderr, counts(0, 6));
    let models = tiny.folder().join("out/models");
    let comparison = written(&tiny);
    let [entries, plain] = ["entries", "plain_bits"].map(|list| comparison[list].as_array().unwrap());
    assert_eq!(names(&models).len(), 5);
    for name in names(&models) {
        let folder = models.join(&name);
        pare(["run", folder.to_str().unwrap(), "hi", "-n", "2"]).succeeds();
        let record: Value = serde_json::from_slice(&fs::read(folder.join("pare.json")).unwrap()).unwrap();
        let entry = match record["plain_bits"].is_string() {
            true => plain.iter().find(|entry| entry["bytes"] == record["weight_bytes"]).unwrap(),
            false => entries.iter().find(|entry| entry["recipe"] == record["recipe"]["name"]).unwrap(),
        };
        assert_eq!(entry["bytes"], fs::metadata(folder.join("model.safetensors")).unwrap().len(), "{name}");
        if name.starts_with("wanda-2of4") {
            assert_eq!((&entry["storage"], &record["dtype"]), (&json!("2of4-f16"), &json!("2of4-f16")));
        }
    }
    fs::remove_dir_all(models.join(&names(&models)[0])).unwrap();
    assert_eq!(succeeds(compare(&tiny, &keep)).stderr, counts(1, 5));
}

#[test]
fn a_model_with_numbers_that_are_none_is_refused_before_the_work() {
    let tiny = with_texts();
    // One gain is no number: every activation after it would be none.
    tiny.change_weights(|bytes| {
        let (at, length) = tensor(bytes, "model.layers.0.post_attention_layernorm.weight");
        let nan = if length == 64 * 4 { &f32::NAN.to_le_bytes()[..] } else { &[0xc0, 0x7f][..] };
        bytes[at..at + nan.len()].copy_from_slice(nan);
    });
    compare(&tiny, &TWO).refuses(&["block 0 ffn norm", "value 0 is NaN", "expected a finite number"]);
}

#[test]
fn what_cannot_be_compared_is_refused_before_the_work() {
    let tiny = with_texts();
    let refuses = |more: &[&str], parts: &[&str]| {
        compare(&tiny, more).refuses(parts);
        assert!(!Path::new(&tiny.path("out")).exists(), "{more:?}");
    };
    for keep in ["0", "-0.5", "1.5", "nan", "0.9,0"] {
        refuses(&["--keep", keep], &["--keep", "above 0 and at most 1"]);
    }
    refuses(&["--keep", "0.9,much"], &["much"]);
    refuses(&["--recipes", "slim,slimm"], &["no recipe \"slimm\"", "did you mean \"slim\"?"]);
    let own = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/slim.toml")).unwrap();
    let own = tiny.write("own.toml", own.replace("score = \"wanda\"", "score = \"magnitude\""));
    refuses(&["--recipes", &format!("slim,{own}")], &["own.toml", "two different recipes", "\"slim\""]);
    let copy = tiny.write("copy.txt", story(900, 1));
    refuses(&["--held-out", &copy], &["cannot be used multiple times"]);
    tiny.write("b.txt", story(900, 1));
    refuses(&[], &["a.txt", "b.txt", "overlap"]);
    tiny.write("b.txt", story(900, 2));
    tiny.write("out", "a file");
    compare(&tiny, &[]).refuses(&["out", "file"]);
    fs::remove_file(tiny.path("out")).unwrap();
    tiny.write("notes", "mine");
    let (model, a, b) = (tiny.name(), tiny.path("a.txt"), tiny.path("b.txt"));
    let to = |output: &str| pare(["compare", &model, "--text", &a, "--held-out", &b, "-o", output]);
    to(&tiny.path("model/../model")).refuses(&["also an input"]);
    to(tiny.folder().to_str().unwrap()).refuses(&["also an input"]);
    fs::create_dir(tiny.path("else")).unwrap();
    tiny.write("else/notes", "mine");
    to(&tiny.path("else")).refuses(&["else", "not empty", "another directory"]);
    assert_eq!(names(&tiny.folder().join("else")), ["notes"]);
    tiny.write("c.txt", "no folder");
    to(&tiny.path("c.txt/below")).refuses(&["c.txt/below", "cannot write"]);
}
