//! Safetensors files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use pare_format::safetensors::SafetensorsFile;

use super::Expect::{Fails, Fine, Warns};
use super::{Expect, Outcome, Row};

mod files;

fn path(dir: &Path) -> PathBuf {
    dir.join("model.safetensors")
}

fn open(dir: &Path) -> Outcome {
    open_at(&path(dir))
}

fn open_at(path: &Path) -> Outcome {
    let file = SafetensorsFile::open(path)?;
    for tensor in file.tensors() {
        assert_eq!(file.view(tensor).unwrap().bytes.len(), tensor.range.len());
    }
    Ok(file.warnings().to_vec())
}

/// A file with the header `json`, in front of `data` bytes.
fn file(json: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let json = json.as_ref();
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// A header of `entries`, padded with spaces to a multiple of 8.
fn header(entries: &str) -> String {
    let mut json = format!("{{{entries}}}");
    json.push_str(&" ".repeat(json.len().next_multiple_of(8) - json.len()));
    json
}

/// One tensor entry.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{offsets}]}}"#)
}

fn bytes(id: &'static str, case: impl Into<String>, bytes: impl Into<Vec<u8>>, expect: Expect) -> Row {
    let bytes = bytes.into();
    Row::new(id, case, move |dir| fs::write(path(dir), bytes).unwrap(), open, expect)
}

/// A file whose header holds `entries`.
fn row(id: &'static str, entries: impl AsRef<str>, data: usize, expect: Expect) -> Row {
    let entries = entries.as_ref();
    let case: String = entries.chars().take(80).collect();
    bytes(id, case, file(header(entries), data), expect)
}

/// A file of `len` bytes that starts with `start`; the rest takes no place on the disk.
fn sparse(id: &'static str, case: &'static str, start: Vec<u8>, len: u64, expect: Expect) -> Row {
    let make = move |dir: &Path| {
        fs::write(path(dir), start).unwrap();
        File::options().write(true).open(path(dir)).unwrap().set_len(len).unwrap();
    };
    Row::new(id, case, make, open, expect)
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = lengths();
    rows.extend(json());
    rows.extend(layout());
    rows.extend(tensors());
    rows.extend(names());
    rows.extend(files::rows());
    rows
}

fn lengths() -> Vec<Row> {
    let mut one_more = file(header(""), 0);
    one_more[0] += 1;
    vec![
        bytes("S01", "empty", [], Fails(&["model.safetensors: 0 bytes, need at least 8 for the header length"])),
        bytes("S01", "1 byte", [1], Fails(&["1 bytes, need at least 8"])),
        bytes("S01", "7 bytes", [1; 7], Fails(&["7 bytes, need at least 8"])),
        bytes("S02", "u64::MAX", [0xff; 8], Fails(&["header length", "18446744073709551615", "limit is 100000000"])),
        bytes("S02", "2^63", (1_u64 << 63).to_le_bytes(), Fails(&["9223372036854775808", "limit is 100000000"])),
        sparse(
            "S02",
            "100 MB + 1",
            100_000_001_u64.to_le_bytes().to_vec(),
            100_000_009,
            Fails(&["100000001", "limit is 100000000"]),
        ),
        bytes(
            "S03",
            "one more than there is",
            one_more,
            Fails(&["header length: 9 runs 1 bytes past the end", "at most 8"]),
        ),
        bytes("S04", "length 0", [0; 8], Fails(&["header length: 0; expected at least 2"])),
        bytes("S04", "{}", file("{}", 0), Warns(&["holds no tensors"])),
        bytes(
            "S04",
            "{} with data",
            file("{}      ", 3),
            Fails(&["the tensor data is 3 bytes, 0 expected: 3 bytes too many"]),
        ),
    ]
}

fn json() -> Vec<Row> {
    let a = entry("a", "U8", "1", "0,1");
    let metadata = |value: &str| format!(r#""__metadata__":{value},{a}"#);
    let nul = format!("{{{a}}}\0\0\0");
    vec![
        bytes("S05", "not UTF-8", file(b"{\"\xff\":1}", 0), Fails(&["byte 0xff is not UTF-8", "at byte 10"])),
        bytes("S05", "cut inside a character", file(b"{\"\xe2\x82", 0), Fails(&["0xe2 is not UTF-8"])),
        bytes("S06", "not JSON", file("{nonsense", 0), Fails(&["not valid JSON", "at byte 9"])),
        bytes("S06", "cut short", file(r#"{"a":{"dtype":"#, 0), Fails(&["not valid JSON: EOF"])),
        bytes(
            "S06",
            "array",
            file("[]", 0),
            Fails(&["header: \"[\"; expected the header to be a JSON object", "at byte 8"]),
        ),
        bytes("S06", "only spaces", file("        ", 0), Fails(&["only white space"])),
        bytes(
            "S06",
            "trailing NUL bytes",
            file(nul, 1),
            Fails(&["not valid JSON: trailing characters", "padded with NUL bytes"]),
        ),
        bytes("S06", "trailing text", file("{} {}", 0), Fails(&["trailing characters", "at byte 11"])),
        bytes(
            "S07",
            "leading white space",
            file(format!(" \n\t\r   {{{a}}}"), 1),
            Warns(&["starts with white space (7 bytes)"]),
        ),
        bytes("S07", "byte order mark", file("\u{feff}{}", 0), Fails(&["a byte order mark", "at byte 8"])),
        row("S08", format!("{a},{a}"), 1, Fails(&["tensor \"a\": occurs twice", "at byte 61"])),
        row("S08", format!("{a},{}", entry("a", "U8", "1", "1,2")), 2, Fails(&["tensor \"a\": occurs twice"])),
        row("S08", format!("{a},{}", entry("a", "U8", "0", "0,0")), 1, Fails(&["tensor \"a\": occurs twice"])),
        row("S08", format!("{a},{}", entry("\\u0061", "U8", "1", "1,2")), 2, Fails(&["tensor \"a\": occurs twice"])),
        row(
            "S08",
            r#""a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}"#,
            1,
            Fails(&["tensor \"a\": key \"dtype\": occurs twice"]),
        ),
        row("S09", format!(r#""__metadata__":{{}},{}"#, metadata("{}")), 1, Fails(&["__metadata__: occurs twice"])),
        row("S09", metadata(r#"{"k":"1","k":"2"}"#), 1, Fails(&["__metadata__: key \"k\": occurs twice"])),
        row("S09", metadata(r#"{"k":1}"#), 1, Fails(&["__metadata__: key \"k\": 1; expected a string"])),
        row(
            "S09",
            metadata(r#"{"k":{"x":"y"}}"#),
            1,
            Fails(&["__metadata__: key \"k\": an object of 1; expected a string"]),
        ),
        row("S09", metadata("null"), 1, Fails(&["__metadata__: null; expected an object of strings"])),
        row("S09", metadata("{}"), 1, Fine),
        row("S09", metadata(r#"{"format":"pt"}"#), 1, Fine),
    ]
}

fn layout() -> Vec<Row> {
    let a = |offsets: &str| entry("a", "U8", "4", offsets);
    let b = |offsets: &str| entry("b", "U8", "4", offsets);
    let mut zip = file(header(&a("0,4")), 4);
    zip.extend_from_slice(b"PK\x03\x04");
    vec![
        row(
            "S10",
            format!("{},{}", a("0,4"), b("3,7")),
            7,
            Fails(&["tensor \"b\"", "overlap of 1 bytes", "tensor \"a\"", "at 4"]),
        ),
        row(
            "S10",
            format!("{},{}", a("0,4"), b("0,4")),
            4,
            Fails(&["tensor \"b\"", "overlap of 4 bytes", "tensor \"a\""]),
        ),
        row(
            "S10",
            format!("{},{}", a("0,4"), b("6,10")),
            10,
            Fails(&["tensor \"b\"", "gap of 2 bytes", "tensor \"a\""]),
        ),
        row("S10", a("1,5"), 5, Fails(&["tensor \"a\"", "gap of 1 bytes after the start of the data"])),
        row("S10", format!("{},{}", b("4,8"), a("0,4")), 8, Fine),
        row(
            "S10",
            format!("{},{}", entry("z", "U8", "0", "2,2"), a("0,4")),
            4,
            Fails(&["tensor \"z\"", "overlap of 2"]),
        ),
        row("S11", a("0,4"), 3, Fails(&["tensor data is 3 bytes, 4 expected: 1 bytes missing", "\"a\"", "cut short"])),
        row("S11", a("0,4"), 6, Fails(&["tensor data is 6 bytes, 4 expected: 2 bytes too many", "appended"])),
        bytes("S11", "zip appended", zip, Fails(&["4 bytes too many"])),
        row("S12", a("4,0"), 4, Fails(&["tensor \"a\"", "field \"data_offsets\"", "[4, 0] begins after its end"])),
        row("S12", a("-1,3"), 4, Fails(&["field \"data_offsets[0]\": -1;"])),
        row("S12", a("0,4e0"), 4, Fails(&["field \"data_offsets[1]\": 4.0;"])),
        row("S12", a("0,\"4\""), 4, Fails(&["field \"data_offsets[1]\": \"4\";"])),
        row("S12", a("0,9007199254740993"), 4, Fails(&["[0, 9007199254740993] are 9007199254740993 bytes", "4 bytes"])),
        row("S12", a("18446744073709551612,18446744073709551616"), 4, Fails(&["field \"data_offsets[1]\""])),
        row("S12", a("18446744073709551611,18446744073709551615"), 4, Fails(&["field \"data_offsets\"", "too large"])),
        row("S12", a("0"), 4, Fails(&["field \"data_offsets\": 1 numbers; expected 2"])),
        row("S12", a("0,4,8"), 4, Fails(&["field \"data_offsets\": 3 numbers; expected 2"])),
        row("S12", r#""a":{"dtype":"U8","shape":[4]}"#, 4, Fails(&["field \"data_offsets\": is missing"])),
        row(
            "S12",
            r#""a":{"dtype":"U8","shape":4,"data_offsets":[0,4]}"#,
            4,
            Fails(&["field \"shape\": 4; expected an array"]),
        ),
        row("S12", r#""a":[1]"#, 4, Fails(&["tensor \"a\": [1]; expected an object with dtype"])),
        row(
            "S12",
            r#""a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"strides":[1]}"#,
            4,
            Fails(&["field \"strides\""]),
        ),
    ]
}

fn tensors() -> Vec<Row> {
    let sized = |dtype: &str, shape: &str, len: usize| entry("w", dtype, shape, &format!("0,{len}"));
    let dims = vec!["2"; 300].join(",");
    let mut rows = vec![
        row(
            "S13",
            sized("I32", "2,2", 4),
            4,
            Fails(&[
                "tensor \"w\"",
                "data_offsets [0, 4] are 4 bytes",
                "16 bytes, the size of I32 [2, 2]",
                "at byte 9",
            ]),
        ),
        row("S13", sized("F32", "", 8), 8, Fails(&["are 8 bytes", "4 bytes, the size of F32 []"])),
        row(
            "S14",
            sized("U8", "2,18446744073709551614", 4),
            4,
            Fails(&["tensor \"w\"", "field \"shape\"", "overflows 64 bits"]),
        ),
        row("S14", sized("U8", "9223372036854775807,2", 4), 4, Fails(&["field \"shape\"", "overflows"])),
        row("S14", sized("F64", "1152921504606846976", 0), 0, Fails(&["field \"shape\"", "overflows"])),
        row("S14", sized("U8", &dims, 4), 4, Fails(&["number of dimensions is 300, the limit is 8"])),
        row("S14", sized("U8", &vec!["1"; 5_000].join(","), 1), 1, Fails(&["number of JSON values"])),
        row(
            "S15",
            sized("U8", "0,9223372036854775808", 0),
            0,
            Fails(&["dimension is 9223372036854775808, the limit is"]),
        ),
        row("S15", sized("U8", "0,1000000", 0), 0, Fine),
        row("S16", sized("F32", "", 4), 4, Fine),
        row("S16", sized("F32", "0", 0), 0, Fine),
        row("S16", sized("F32", "1,0,5", 0), 0, Fine),
        row(
            "S17",
            sized("F7", "1", 1),
            1,
            Fails(&["field \"dtype\": unknown dtype \"F7\"; expected one of F64, F32, F16, BF16"]),
        ),
        row("S17", sized("f32", "1", 4), 4, Fails(&["unknown dtype \"f32\""])),
        row(
            "S17",
            r#""w":{"dtype":7,"shape":[1],"data_offsets":[0,1]}"#,
            1,
            Fails(&["field \"dtype\": 7; expected a string"]),
        ),
        row("S18", sized("F4", "3", 1), 1, Fails(&["F4 [3] is 12 bits, not a whole number of bytes"])),
        row("S18", sized("F6_E2M3", "3,3", 7), 7, Fails(&["54 bits, not a whole number of bytes"])),
        row("S18", sized("F4", "2,3", 3), 3, Fine),
        bytes(
            "S24",
            "data start at byte 71",
            file(format!("{{{}}}", sized("U8", "1", 1)), 1),
            Warns(&["not a multiple of 8"]),
        ),
    ];
    for (dtype, len) in [("F8_E8M0", 2), ("F4", 1), ("C64", 16), ("F6_E3M2", 3)] {
        let shape = if dtype == "F6_E3M2" { "4" } else { "2" };
        rows.push(row("S17", sized(dtype, shape, len), len, Fine));
        let content = file(header(&sized(dtype, shape, len)), len);
        let require = |dir: &Path| SafetensorsFile::open(path(dir))?.require("w").map(|_| Vec::new());
        let make = move |dir: &Path| fs::write(path(dir), content).unwrap();
        rows.push(Row::new(
            "S17",
            format!("values of {dtype}"),
            make,
            require,
            Fails(&["tensor \"w\": dtype ", "is not supported; supported: F64, F32"]),
        ));
    }
    for (id, case, value) in [
        ("S25", "NaN", f32::NAN),
        ("S25", "infinity", f32::INFINITY),
        ("S25", "denormal", 1e-40),
        ("S26", "all zero", 0.0),
        ("S26", "all one", 1.0),
        ("S26", "all NaN", f32::NAN),
    ] {
        let mut content = file(header(&sized("F32", "3", 12)), 0);
        content.extend(std::iter::repeat_n(value.to_le_bytes(), 3).flatten());
        rows.push(bytes(id, case, content, Fine));
    }
    rows
}

fn names() -> Vec<Row> {
    let named = |name: &str| entry(name, "U8", "1", "0,1");
    let long = "x".repeat(1_000_000);
    vec![
        row("S19", named(""), 1, Fails(&["tensor \"\": an empty name"])),
        row("S19", named("a\\u0000b"), 1, Fails(&["tensor \"a\\0b\"", "control character"])),
        row("S19", named("a\\nb"), 1, Fails(&["tensor \"a\\nb\"", "control character"])),
        row("S19", named("\\u001b[31m"), 1, Fails(&["\\u{1b}[31m", "control character"])),
        row("S19", named(&long), 1, Fails(&["(1000000 bytes)", "length of the name is 1000000, the limit is 1024"])),
        row("S19", named("../../etc/passwd"), 1, Fine),
        row("S19", named("a\u{202e}b"), 1, Fine),
        row("S19", named("a\u{202e}b"), 2, Fails(&["a\\u{202e}b"])),
    ]
}
