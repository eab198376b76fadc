//! Commands that are killed or interrupted.

use crate::bench::peer;
use crate::model::Tiny;
use crate::program::{LIMIT, collect, names, pare, real, text, wait, without_stages};
use crate::words::{Draws, story};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const KILLS: usize = 20;

/// Sends the signal `INT` (what Ctrl-C sends) or `TERM`.
fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// All that a directory holds.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    names(directory).into_iter().map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect()
}

#[test]
fn a_killed_shrink_leaves_the_old_directory_or_the_new_one() {
    let tiny = Tiny::new();
    let (model, a, b, output) =
        (tiny.name(), tiny.write("a.txt", story(900, 1)), tiny.write("b.txt", story(900, 2)), tiny.path("out"));
    // Recipes take turns, so that the old directory differs from the new one. With a proof, a dense copy is written and read too.
    let shrink = |recipe: &str, proof: bool| {
        let fixed = ["shrink", &model, "--recipe", recipe, "-o", &output, "--force", "--text", &a, "--context", "48"];
        let more = if proof { ["--held-out", &b] } else { ["--no-verify", "--quiet"] };
        pare([&fixed[..], &more].concat())
    };
    let directory = Path::new(&output);
    let mut whole = Vec::new();
    for recipe in ["slim", "wanda-sp"] {
        shrink(recipe, false).succeeds();
        whole.push(contents(directory));
    }
    assert_ne!(whole[0], whole[1]);

    let mut draws = Draws(5);
    let mut killed = 0;
    for round in 0..KILLS {
        let (recipe, proof) = (["slim", "wanda-sp"][round % 2], round % 4 > 1);
        let start = Instant::now();
        let mut child = shrink(recipe, proof).start();
        let longest = if proof { 600 } else { 60 };
        std::thread::sleep(Duration::from_micros(draws.below(1000 * longest) as u64));
        // Gone already when it was faster than that.
        let _ = child.kill();
        killed += usize::from(child.wait().unwrap().code().is_none());
        assert!(start.elapsed() < LIMIT);
        // A proof's record holds times, and a page beside it; its weights are those of a run without one.
        let weights =
            |files: &[(String, Vec<u8>)]| files.iter().find(|file| file.0 == "model.safetensors").cloned().unwrap();
        let recovered = if directory.exists() { contents(directory) } else { Vec::new() };
        if !recovered.is_empty() {
            assert!(whole.iter().any(|whole| weights(whole) == weights(&recovered)), "round {round}");
            assert!(recovered.iter().any(|file| file.0 == "pare.json"), "round {round}");
            pare(["run", &output, "hi", "-n", "2"]).succeeds();
        }
        // The next run that ends well finds and removes what is left.
        shrink(recipe, false).succeeds();
        assert_eq!(names(tiny.folder()), ["a.txt", "b.txt", "model", "out"], "round {round}");
        assert_eq!(contents(directory), whole[round % 2], "round {round}");
    }
    assert!(killed >= KILLS / 4, "only {killed} of {KILLS} were still running: the times are too long");
}

#[test]
fn an_interrupted_shrink_leaves_the_old_directory() {
    let tiny = Tiny::new();
    let (model, output, cache) = (tiny.name(), tiny.path("out"), tiny.path("cache"));
    let a = tiny.write("a.txt", story(900, 1));
    pare(["shrink", &model, "--recipe", "slim", "-o", &output, "--text", &a, "--no-verify"]).succeeds();
    let before = contents(Path::new(&output));
    // The text of so many windows takes minutes.
    let long = [
        "shrink",
        &model,
        "--recipe",
        "wanda",
        "-o",
        &output,
        "--force",
        "--calibration-windows",
        "100000",
        "--own-text",
    ];
    let mut child = pare(long).env("PARE_CACHE", &cache).start();
    let partial = || names(tiny.folder()).iter().any(|name| name.contains("partial"));
    let start = Instant::now();
    while !partial() {
        assert!(start.elapsed() < LIMIT, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    ends_as_interrupted(&mut child);
    assert_eq!(contents(Path::new(&output)), before);
    assert_eq!(names(tiny.folder()), ["a.txt", "model", "out"]);
}

#[test]
fn real_inspect_stops_when_asked() {
    let tiny = Tiny::new();
    let report = tiny.path("report.html");
    let empty = names(tiny.folder());
    let many = ["inspect", "smollm2-135m", "--calibration-windows", "3000", "--seed", "4711", "--report", &report];
    // While it writes text, and, with a text that is given, while it observes.
    let file = tiny.path("long.txt");
    for (more, seconds) in [(&["--own-text"][..], 4), (&["--text", &file], 8)] {
        if more.len() > 1 {
            fs::write(&file, story(60_000, 3)).unwrap();
        }
        let mut child = real([&many[..], more].concat()).start();
        std::thread::sleep(Duration::from_secs(seconds));
        ends_as_interrupted(&mut child);
        assert!(!Path::new(&report).exists());
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(names(tiny.folder()), empty);
}

#[test]
fn an_interrupted_bench_ends_its_peer() {
    let tiny = Tiny::new();
    let (model, file, started) = (tiny.name(), tiny.write("peer.gguf", "GGUF"), tiny.path("started"));
    let peer = peer(&tiny, &format!("echo $$ > '{started}.part'; mv '{started}.part' '{started}'; exec sleep 60"));
    let sizes = ["--prompt", "8", "--tokens", "2", "--contexts", "0"];
    let mut child = pare([&["bench", &model, "--peer", &peer, "--peer-model", &file], &sizes[..]].concat()).start();
    let start = Instant::now();
    while !Path::new(&started).exists() {
        assert!(start.elapsed() < LIMIT, "the peer does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    ends_as_interrupted(&mut child);
    let pid = fs::read_to_string(&started).unwrap();
    let alive = Command::new("kill").args(["-0", pid.trim()]).output().unwrap().status.success();
    assert!(!alive, "the peer goes on after pare has ended");
}

/// Sends what Ctrl-C sends; the program ends with code 130 within 2 seconds and says so in one line.
fn ends_as_interrupted(child: &mut Child) {
    ends_by(child, "INT");
}

fn ends_by(child: &mut Child, signal: &str) {
    assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    send(child, signal);
    // Half a second for a machine that is busy.
    assert_eq!(wait(child, Duration::from_millis(2500)), Some(Some(130)));
    let (stderr, _) = without_stages(&stderr.join().unwrap());
    let stderr: String = stderr.split_inclusive('\n').filter(|line| !line.starts_with("note: ")).collect();
    assert_eq!((stdout.join().unwrap().as_str(), stderr.as_str()), ("", "pare: interrupted\n"));
}

#[test]
fn real_work_of_every_kind_stops_within_two_seconds() {
    let tiny = Tiny::new();
    let (text, held) = (tiny.write("a.txt", story(60_000, 3)), tiny.write("b.txt", story(60_000, 4)));
    let (model, out, file) = ("smollm2-135m", tiny.path("no/out"), tiny.path("no/m.gguf"));
    let before = names(tiny.folder());
    let rows: &[(&str, u64, &[&str])] = &[
        // One window takes most of a minute.
        ("TERM", 2500, &["eval", model, "--windows", "1", "--context", "8192", "--held-out", &held, "--no-speed"]),
        // Decompositions, and solving row by row.
        ("INT", 3500, &["shrink", model, "--recipe", "asvd", "--text", &text, "--no-verify", "-o", &out]),
        ("TERM", 3000, &["shrink", model, "--recipe", "sparsegpt", "--text", &text, "--no-verify", "-o", &out]),
        ("INT", 2500, &["export", model, "--gguf", "q4_k_m", "--gptq", "--text", &text, "-o", &file]),
        ("TERM", 1500, &["bench", model, "--prompt", "4096", "--rounds", "50"]),
        ("INT", 900, &["run", model, &"word ".repeat(7000), "--json", "--quiet"]),
    ];
    for (signal, milliseconds, arguments) in rows {
        let small = ["--calibration-windows", "16"];
        let more = if arguments.contains(&"--text") { &small[..] } else { &[] };
        let mut child = real([arguments, more].concat()).start();
        std::thread::sleep(Duration::from_millis(*milliseconds));
        ends_by(&mut child, signal);
        let left: Vec<String> = names(tiny.folder()).into_iter().filter(|name| name != "no").collect();
        assert_eq!(left, before, "{arguments:?}");
        // Finished blocks may wait there for the next run; nothing else does.
        let no = tiny.folder().join("no");
        let left = if no.is_dir() { names(&no) } else { Vec::new() };
        assert!(left.iter().all(|name| name == ".out.pare-job"), "{arguments:?}: {left:?}");
    }
}

#[test]
fn leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let tiny = Tiny::new();
    let (model, output, a) = (tiny.name(), tiny.path("out"), tiny.write("a.txt", story(900, 1)));
    let shrink = || pare(["shrink", &model, "--recipe", "slim", "-o", &output, "--force", "--text", &a, "--no-verify"]);
    // No process has a number this large.
    let dead = tiny.folder().join(".out.partial-4194999");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("model.safetensors"), "half").unwrap();
    shrink().succeeds();
    assert_eq!(names(tiny.folder()), ["a.txt", "model", "out"]);
    let living = tiny.folder().join(format!(".out.partial-{}", std::process::id()));
    fs::create_dir(&living).unwrap();
    shrink().refuses(&[text(Path::new(&output)), "is being written by process", &std::process::id().to_string()]);
    assert!(living.exists());
}
