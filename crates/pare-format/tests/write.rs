//! Output appears whole or not at all.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write;
use std::path::Path;

use pare_format::write::{OutputDir, refuse_inputs, same_file, write_file_atomic};
use serde_json::json;

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_directory_appears_at_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let output = OutputDir::create(&out, false).unwrap();
    output.write("a", b"one").unwrap();
    let mut file = output.create_file("b").unwrap();
    file.write_all(b"two").unwrap();
    file.finish().unwrap();
    assert!(!out.exists());
    output.commit().unwrap();
    assert_eq!(listing(dir.path()), ["out"]);
    assert_eq!(listing(&out), ["a", "b"]);
    assert_eq!(fs::read(out.join("b")).unwrap(), b"two");
}

#[cfg(unix)]
#[test]
fn a_disk_without_room_is_refused_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let output = OutputDir::create(dir.path().join("out"), false).unwrap();
    output.require_room(0).unwrap();
    let error = output.require_room(u64::MAX).unwrap_err().to_string();
    for part in ["out", "18446744073709551615", "left"] {
        assert!(error.contains(part), "{error}");
    }
    drop(output);
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn without_a_commit_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let output = OutputDir::create(&out, false).unwrap();
    output.write("a", b"one").unwrap();
    drop(output);
    assert!(listing(dir.path()).is_empty());

    let output = OutputDir::create(&out, false).unwrap();
    let file = output.create_file("a").unwrap();
    drop(file);
    assert!(output.commit().unwrap_err().to_string().contains("1 unfinished files"));
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn content_is_replaced_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    // An empty directory is in nobody's way.
    let output = OutputDir::create(&out, false).unwrap();
    output.write("a", b"1").unwrap();
    output.commit().unwrap();

    // Without a record nobody knows whose it is.
    let error = OutputDir::create(&out, true).unwrap_err().to_string();
    assert!(error.contains("pare did not write") && error.contains("pare.json"), "{error}");
    fs::remove_file(out.join("a")).unwrap();
    for name in ["b", "c"] {
        let output = OutputDir::create(&out, true).unwrap();
        output.write(name, b"2").unwrap();
        output.write_record(json!({})).unwrap();
        output.commit().unwrap();
        assert_eq!(listing(&out), [name, "pare.json"]);
        assert_eq!(listing(dir.path()), ["out"]);
    }
    let error = OutputDir::create(&out, false).unwrap_err().to_string();
    assert!(error.contains("exists already and is not empty") && error.contains("--force"), "{error}");

    let output = OutputDir::create(dir.path().join("late"), false).unwrap();
    fs::create_dir(dir.path().join("late")).unwrap();
    fs::write(dir.path().join("late/x"), b"").unwrap();
    assert!(output.commit().unwrap_err().to_string().contains("pare did not write"));
    assert_eq!(listing(dir.path()), ["late", "out"]);
}

#[test]
fn a_directory_with_anything_that_pare_did_not_write_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let output = OutputDir::create(&out, false).unwrap();
    output.write("a", b"1").unwrap();
    output.write_record(json!({})).unwrap();
    output.commit().unwrap();
    let record = fs::read(out.join("pare.json")).unwrap();
    let stranger = |what: &str| {
        let error = OutputDir::create(&out, true).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("nothing was written"), "{error}");
        assert!(!OutputDir::create(&out, false).unwrap_err().to_string().contains("--force"));
    };
    let late = OutputDir::create(&out, true).unwrap();
    late.write("a", b"2").unwrap();
    fs::write(out.join("thesis.txt"), b"mine").unwrap();
    assert!(late.commit().unwrap_err().to_string().contains("thesis.txt"));
    stranger("thesis.txt");
    fs::remove_file(out.join("thesis.txt")).unwrap();
    fs::create_dir(out.join("b")).unwrap();
    stranger("\"b\"");
    fs::remove_dir(out.join("b")).unwrap();
    for other in [&b"{}"[..], b"", br#"{"pare": "0.1.0"}"#, br#"{"files": ["a"]}"#, br#"{"pare": 1, "files": ["a"]}"#] {
        fs::write(out.join("pare.json"), other).unwrap();
        stranger("pare did not write");
    }
    assert_eq!(fs::read(out.join("a")).unwrap(), b"1");
    fs::write(out.join("pare.json"), record).unwrap();
    OutputDir::create(&out, true).unwrap();
}

#[test]
fn missing_directories_are_made_and_stay_only_with_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("b/c/out");
    drop(OutputDir::create(&out, false).unwrap());
    assert!(listing(dir.path()).is_empty());
    let output = OutputDir::create(&out, false).unwrap();
    output.write("a", b"1").unwrap();
    output.commit().unwrap();
    assert_eq!(listing(&out), ["a"]);
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let first = OutputDir::create(&out, false).unwrap();
    let error = OutputDir::create(&out, false).unwrap_err().to_string();
    assert!(error.contains(&format!("is being written by process {}", std::process::id())), "{error}");
    first.write("a", b"1").unwrap();
    first.commit().unwrap();
}

#[test]
fn names_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    let output = OutputDir::create(dir.path().join("out"), false).unwrap();
    for name in ["../x", "/x", "a/b", "", ".", "..", "x/"] {
        let error = output.create_file(name).unwrap_err().to_string();
        assert!(error.contains("escapes the model directory"), "{name}: {error}");
    }
}

#[test]
fn odd_targets_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    let error = OutputDir::create(&file, true).unwrap_err().to_string();
    assert!(error.contains("is a file"), "{error}");
    assert!(OutputDir::create(file.join("below"), true).unwrap_err().to_string().contains("cannot write"));
    assert!(OutputDir::create("/", true).is_err());
    assert!(OutputDir::create(".", true).unwrap_err().to_string().contains("pare did not write"));
    let error = write_file_atomic(dir.path(), b"").unwrap_err().to_string();
    assert!(error.contains("is a directory"), "{error}");
    assert!(write_file_atomic(file.join("below"), b"").unwrap_err().to_string().contains("cannot write"));
    assert_eq!(fs::read(&file).unwrap(), b"x");
    assert_eq!(listing(dir.path()), ["file"]);
}

#[test]
fn leftovers_of_dead_processes_are_removed_or_finished() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    // No process has this number: it is above the largest that Linux gives.
    let dead = 4_194_999;
    let at = |mark: &str| dir.path().join(format!(".out.{mark}-{dead}"));
    let fill = |path: &Path, text: &str| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("a"), text).unwrap();
    };
    fs::write(dir.path().join(format!(".out.partial-{dead}-3")), b"").unwrap();
    fill(&at("partial"), "half");
    OutputDir::recover(&out).unwrap();
    assert_eq!(listing(dir.path()), [format!(".out.partial-{dead}-3")]);
    write_file_atomic(&out, b"x").unwrap();
    assert_eq!(listing(dir.path()), ["out"]);
    fs::remove_file(&out).unwrap();

    // Killed between the renames: the new one is complete.
    fill(&at("old"), "old");
    fill(&at("partial"), "new");
    OutputDir::recover(&out).unwrap();
    assert_eq!(listing(dir.path()), ["out"]);
    assert_eq!(fs::read(out.join("a")).unwrap(), b"new");

    // Killed while it removed the old one.
    fill(&at("old"), "old");
    OutputDir::recover(&out).unwrap();
    assert_eq!(listing(dir.path()), ["out"]);

    // The new one was lost: the old one comes back.
    fs::rename(&out, at("old")).unwrap();
    OutputDir::recover(&out).unwrap();
    assert_eq!(fs::read(out.join("a")).unwrap(), b"new");

    // Names that only look alike belong to others.
    fs::create_dir(dir.path().join(format!(".out.partial-{dead}x"))).unwrap();
    fs::create_dir(dir.path().join(format!(".out2.partial-{dead}"))).unwrap();
    OutputDir::recover(&out).unwrap();
    assert_eq!(listing(dir.path()).len(), 3);
}

#[cfg(unix)]
#[test]
fn permissions_and_links_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let plain = dir.path().join("plain");
    fs::write(&plain, b"").unwrap();
    let new = dir.path().join("new");
    write_file_atomic(&new, b"1").unwrap();
    assert_eq!(mode(&new), mode(&plain));
    fs::set_permissions(&new, fs::Permissions::from_mode(0o640)).unwrap();
    write_file_atomic(&new, b"2").unwrap();
    assert_eq!((mode(&new), fs::read(&new).unwrap()), (0o640, b"2".to_vec()));

    let link = dir.path().join("link");
    symlink("new", &link).unwrap();
    write_file_atomic(&link, b"3").unwrap();
    assert_eq!(fs::read(&new).unwrap(), b"3");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    fs::set_permissions(&new, fs::Permissions::from_mode(0o444)).unwrap();
    write_file_atomic(&new, b"4").unwrap();
    assert_eq!((mode(&new), fs::read(&new).unwrap()), (0o444, b"4".to_vec()));
    assert_eq!(listing(dir.path()), ["link", "new", "plain"]);
}

#[cfg(unix)]
#[test]
fn an_output_is_never_an_input() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("model")).unwrap();
    fs::write(at("model/w"), b"1").unwrap();
    fs::hard_link(at("model/w"), at("hard")).unwrap();
    std::os::unix::fs::symlink("model", at("soft")).unwrap();
    fs::write(at("other"), b"1").unwrap();
    assert!(same_file(at("model/w"), at("hard")) && same_file(at("model"), at("soft")));
    assert!(!same_file(at("hard"), at("other")) && !same_file(at("none"), at("none")));
    for output in ["model", "soft", "soft/../model", "model/w"] {
        let error = refuse_inputs(at(output), [at("model")]).unwrap_err().to_string();
        assert!(error.contains("is also an input"), "{error}");
    }
    refuse_inputs(at("hard"), [at("model/w")]).unwrap_err();
    refuse_inputs(dir.path(), [at("model")]).unwrap_err();
    refuse_inputs(at("new"), [at("model"), at("other")]).unwrap();
}
