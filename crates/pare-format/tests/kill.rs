//! A writer that is killed leaves the old state or the new one.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pare_format::write::{NewFile, OutputDir, Unfinished, abandon, write_file_atomic};

const TARGET: &str = "PARE_TEST_KILL_TARGET";
const KILLS: u64 = 40;
const FILES: usize = 3;

fn content(generation: u64, file: usize) -> Vec<u8> {
    format!("{generation} {file}\n").into_bytes().repeat(5_000)
}

/// Writes generation after generation until it is killed.
fn write_for_ever(target: &Path) -> ! {
    for generation in 1.. {
        let output = OutputDir::create(target.join("dir"), true).unwrap();
        for file in 0..FILES {
            output.write(&format!("f{file}"), &content(generation, file)).unwrap();
        }
        output.write_record(serde_json::json!({})).unwrap();
        output.commit().unwrap();
        write_file_atomic(target.join("single"), &content(generation, 9)).unwrap();
    }
    unreachable!()
}

/// This test program again, as a process of its own, running only `test` with `variable` set.
fn again(test: &str, variable: &str, value: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(variable, value)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The generation of a file, when it is whole.
fn generation(path: &Path, file: usize) -> u64 {
    let bytes = fs::read(path).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let generation = text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(bytes, content(generation, file), "{} is not whole", path.display());
    generation
}

#[test]
fn killed_writers_leave_the_old_or_the_new() {
    if let Some(target) = std::env::var_os(TARGET) {
        write_for_ever(Path::new(&target));
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut random = 1_u64;
    let mut interrupted = 0;
    for kill in 0..KILLS {
        let mut child = again("killed_writers_leave_the_old_or_the_new", TARGET, dir.path());
        let start = Instant::now();
        // The first generation of this process: its number is 1 again.
        let first = fs::metadata(at("single")).ok().map(|m| m.modified().unwrap());
        while fs::metadata(at("single")).ok().map(|m| m.modified().unwrap()) == first {
            assert!(start.elapsed() < Duration::from_secs(20) && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_micros(200));
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((random >> 33) % 12_000));
        child.kill().unwrap();
        child.wait().unwrap();

        let names = || fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        interrupted += usize::from(names().len() != 2);
        OutputDir::recover(at("dir")).unwrap();
        let generations: Vec<u64> = (0..FILES).map(|i| generation(&at("dir").join(format!("f{i}")), i)).collect();
        assert!(generations.iter().all(|g| *g == generations[0]), "kill {kill}: mixed {generations:?}");
        assert_eq!(fs::read_dir(at("dir")).unwrap().count(), FILES + 1);
        let single = generation(&at("single"), 9);
        assert!(generations[0] == single || generations[0] == single + 1, "kill {kill}: {generations:?} and {single}");
        write_file_atomic(at("single"), &content(single, 9)).unwrap();
        assert_eq!(names().len(), 2, "kill {kill}: {:?}", names());
    }
    assert!(interrupted > 0, "no kill hit a write");
}

const SMALL: &str = "PARE_TEST_FULL_TARGET";

/// A limit on the size of files acts as a full disk does.
#[test]
fn a_write_that_fails_leaves_the_old() {
    if let Some(target) = std::env::var_os(SMALL) {
        let target = Path::new(&target);
        let error = write_file_atomic(target.join("single"), &vec![1; 1 << 20]).unwrap_err().to_string();
        assert!(error.contains("single: cannot write: File too large"), "{error}");
        let output = OutputDir::create(target.join("dir"), true).unwrap();
        let error = output.write("f", &vec![1; 4 << 20]).unwrap_err().to_string();
        assert!(error.contains("dir/f: cannot write: File too large"), "{error}");
        drop(output);
        std::process::exit(42);
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("single"), b"old").unwrap();
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/f"), b"old").unwrap();
    fs::write(at("dir/pare.json"), br#"{"pare": "0.1.0", "files": ["f", "pare.json"]}"#).unwrap();
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" a_write_that_fails_leaves_the_old --exact"])
        .arg(std::env::current_exe().unwrap())
        .env(SMALL, dir.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(42));
    assert_eq!(fs::read(at("single")).unwrap(), b"old");
    assert_eq!(fs::read(at("dir/f")).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

const GIVEN_UP: &str = "PARE_TEST_GIVEN_UP_TARGET";

/// What a process does that is told to end at once, in the middle of everything.
#[test]
fn what_is_given_up_leaves_nothing() {
    if let Some(target) = std::env::var_os(GIVEN_UP) {
        let target = Path::new(&target);
        let directory = OutputDir::create(target.join("new/dir"), false).unwrap();
        directory.write("f", b"half").unwrap();
        let _file = NewFile::create(target.join("other/new/file"), false).unwrap();
        let scratch = Unfinished::directory(target.join("scratch")).unwrap();
        fs::write(scratch.path().join("x"), b"").unwrap();
        fs::write(target.join("other/mine"), b"").unwrap();
        let done = NewFile::create(target.join("done"), false).unwrap();
        done.write_whole(b"whole").unwrap();
        abandon();
        // Nothing gets its name from here on: this one waits for ever.
        std::thread::spawn(move || directory.commit());
        std::thread::sleep(Duration::from_millis(50));
        std::process::exit(42);
    }
    let dir = tempfile::tempdir().unwrap();
    let status = again("what_is_given_up_leaves_nothing", GIVEN_UP, dir.path()).wait().unwrap();
    assert_eq!(status.code(), Some(42));
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(dir.path()), ["done", "other"]);
    assert_eq!(names(&dir.path().join("other")), ["mine"]);
    assert_eq!(fs::read(dir.path().join("done")).unwrap(), b"whole");
}
