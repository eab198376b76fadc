//! Safetensors files that are large, and paths that are no files.

use std::fs::{self, File};
use std::path::Path;

use pare_format::safetensors::SafetensorsFile;

use super::super::Expect::{Fails, Fine, Warns};
use super::super::Row;
use super::{entry, file, header, open, open_at, path, row, sparse};

pub(super) fn rows() -> Vec<Row> {
    large().into_iter().chain(files()).collect()
}

fn many(count: usize, one: impl Fn(usize) -> String, data: usize) -> impl FnOnce(&Path) + Send {
    let mut entries = String::new();
    for i in 0..count {
        entries.push_str(if i > 0 { "," } else { "" });
        entries.push_str(&one(i));
    }
    let content = file(header(&entries), data);
    move |dir: &Path| fs::write(path(dir), content).unwrap()
}

fn large() -> Vec<Row> {
    let deep = "[".repeat(100_000);
    let million = |dir: &Path| {
        let start = std::time::Instant::now();
        let warnings = open(dir)?;
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
        Ok(warnings)
    };
    let million_file = || {
        let one = |i| entry(&format!("t{i}"), "U8", "1", &format!("{i},{}", i + 1));
        Row::new("S20", "a million tensors", move |dir: &Path| many(1_000_000, one, 1_000_000)(dir), million, Fine)
    };
    let too_many = |dir: &Path| many(1_000_001, |i| entry(&format!("t{i}"), "U8", "0", "0,0"), 0)(dir);
    let string = |dir: &Path| {
        let text = format!(r#"{{"__metadata__":{{"k":"{}"}}}}"#, "x".repeat(90_000_000));
        fs::write(path(dir), file(text, 0)).unwrap();
    };
    let strings = |dir: &Path| {
        many(10_000_000, |i| if i == 0 { r#""__metadata__":{"":"""#.into() } else { r#""":"""#.into() }, 0)(dir)
    };
    let array = |dir: &Path| {
        let text = format!(r#"{{"a":{{"shape":[{}0]}}}}"#, "0,".repeat(40_000_000));
        fs::write(path(dir), file(text, 0)).unwrap();
    };
    vec![
        million_file(),
        Row::new(
            "S20",
            "a million and one",
            too_many,
            open,
            Fails(&["number of tensors is 1000001, the limit is 1000000"]),
        ),
        sparse(
            "S20",
            "10 million",
            600_000_000_u64.to_le_bytes().to_vec(),
            600_000_008,
            Fails(&["header length", "limit is 100000000"]),
        ),
        row("S21", format!(r#""a":{deep}"#), 0, Fails(&["tensor \"a\": JSON depth is 65, the limit is 64"])),
        row("S21", format!(r#""__metadata__":{deep}"#), 0, Fails(&["__metadata__: JSON depth is 65"])),
        row("S21", format!(r#""a":{}"#, r#"{"x":"#.repeat(100_000)), 0, Fails(&["JSON depth is 65"])),
        sparse(
            "S21",
            "100 MB string",
            100_000_016_u64.to_le_bytes().to_vec(),
            100_000_024,
            Fails(&["limit is 100000000"]),
        ),
        Row::new("S21", "90 MB string", string, open, Warns(&["holds no tensors"])),
        Row::new("S21", "metadata of 10 million keys", strings, open, Fails(&["__metadata__"])),
        Row::new(
            "S21",
            "shape of 40 million zeros",
            array,
            open,
            Fails(&["number of JSON values is 1025, the limit is 1024"]),
        ),
    ]
}

fn files() -> Vec<Row> {
    let good = |dir: &Path| fs::write(path(dir), file(header(&entry("a", "U8", "9000", "0,9000")), 9_000)).unwrap();
    let changed = |change: fn(&Path)| {
        move |dir: &Path| {
            let file = SafetensorsFile::open(path(dir))?;
            file.unchanged()?;
            change(&path(dir));
            file.unchanged().map(|()| Vec::new())
        }
    };
    let truncate = |path: &Path| File::options().write(true).open(path).unwrap().set_len(100).unwrap();
    let mut rows = vec![
        Row::new("S22", "nothing happened", good, changed(|_| ()), Fine),
        Row::new(
            "S22",
            "truncated after opening",
            good,
            changed(truncate),
            Fails(&["model.safetensors: changed while reading", "now 100"]),
        ),
        Row::new(
            "S22",
            "removed after opening",
            good,
            changed(|p| fs::remove_file(p).unwrap()),
            Fails(&["changed while reading"]),
        ),
        Row::new(
            "S23",
            "directory",
            |dir| fs::create_dir(path(dir)).unwrap(),
            open,
            Fails(&["is a directory, expected a regular file"]),
        ),
        Row::new("S23", "not there", |_| (), open, Fails(&["model.safetensors: No such file"])),
        Row::new("S23", "below a file", good, |dir| open_at(&path(dir).join("x")), Fails(&["Not a directory"])),
    ];
    if cfg!(unix) {
        let pipe =
            |dir: &Path| assert!(std::process::Command::new("mkfifo").arg(path(dir)).status().unwrap().success());
        rows.push(Row::new("S23", "pipe", pipe, open, Fails(&["is a pipe, expected a regular file"])));
        rows.push(Row::new(
            "S23",
            "/dev/zero",
            |_| (),
            |_| open_at(Path::new("/dev/zero")),
            Fails(&["/dev/zero: is a device"]),
        ));
        #[cfg(unix)]
        rows.push(Row::new(
            "S23",
            "socket",
            |dir| drop(std::os::unix::net::UnixListener::bind(path(dir)).unwrap()),
            open,
            Fails(&["is a socket"]),
        ));
    }
    rows
}
