//! Bad GGUF files, group G of the battery: every one must end in an error that names field, found and expected.

mod gguf_bytes;
mod rows;

use std::path::Path;

use gguf_bytes::{Bytes, array, key, number, string, strings, tensor, tensor_dims, text};
use pare_format::gguf::{GgmlType, Gguf, check_split, nonfinite};
use rows::Expect::{Fine, Says};
use rows::{Row, row};

fn parse(bytes: &[u8]) -> Result<Gguf, String> {
    Gguf::parse(Path::new("bad.gguf"), bytes).map_err(|e| e.to_string())
}

fn bytes(id: &'static str, expect: rows::Expect, make: impl FnOnce() -> Vec<u8> + Send + 'static) -> Row {
    row(id, expect, move || parse(&make()).map(drop))
}

fn file(id: &'static str, expect: rows::Expect, file: Bytes) -> Row {
    bytes(id, expect, move || file.build())
}

#[test]
fn header() {
    let sound = Bytes::sound;
    rows::run(vec![
        file("sound v3", Fine, sound()),
        file("sound v2", Fine, Bytes { version: 2, ..sound() }),
        file("no tensors", Fine, Bytes::new()),
        bytes("G01 empty", Says(&["bad.gguf", "needs 4 more bytes, the file has 0", "not a GGUF file"]), Vec::new),
        file("G01 magic", Says(&["magic \"GGML\"", "expected \"GGUF\""]), Bytes { magic: *b"GGML", ..sound() }),
        file("G01 swapped magic", Says(&["big-endian"]), Bytes { magic: *b"FUGG", ..sound() }),
        file("G01 swapped version", Says(&["version 50331648", "big-endian"]), Bytes { version: 3 << 24, ..sound() }),
        bytes("G01 page", Says(&["this is an HTML page"]), || b"<!DOCTYPE html><html>401</html>".to_vec()),
        bytes("G01 pointer", Says(&["Git LFS pointer"]), || b"version https://git-lfs.github.com/spec/v1\n".to_vec()),
        file("G02 v0", Says(&["version 0", "2 or 3"]), Bytes { version: 0, ..sound() }),
        file("G02 v1", Says(&["version 1", "2 or 3"]), Bytes { version: 1, ..sound() }),
        file("G02 v4", Says(&["version 4", "2 or 3"]), Bytes { version: 4, ..sound() }),
        file("G02 v max", Says(&["version 4294967295", "2 or 3"]), Bytes { version: u32::MAX, ..sound() }),
        file(
            "G03 tensors -1",
            Says(&["\"tensor_count\"", "declares 18446744073709551615 tensors, at most", "at byte 8"]),
            Bytes { tensor_count: Some(u64::MAX), ..sound() },
        ),
        file("G03 tensors 2^63", Says(&["\"tensor_count\""]), Bytes { tensor_count: Some(1 << 63), ..sound() }),
        file(
            "G03 tensors 10^12",
            Says(&["1000000000000 tensors"]),
            Bytes { tensor_count: Some(1_000_000_000_000), ..sound() },
        ),
        file(
            "G03 keys -1",
            Says(&["\"metadata_kv_count\"", "at byte 16"]),
            Bytes { key_count: Some(u64::MAX), ..sound() },
        ),
        file("G03 keys 10^12", Says(&["1000000000000 keys"]), Bytes { key_count: Some(1_000_000_000_000), ..sound() }),
        file(
            "G03 one key too many",
            Says(&["tensor 0", "name is empty", "at byte"]),
            Bytes { key_count: Some(2), ..sound() },
        ),
        bytes("G03 cut in the counts", Says(&["needs 8 more bytes, the file has 7"]), move || {
            Bytes { tensor_count: Some(0), ..sound() }.build()[..23].to_vec()
        }),
    ]);
}

#[test]
fn keys_and_values() {
    let with = |raw: Vec<u8>| Bytes::sound().key(raw);
    let named = |len: u64| [&len.to_le_bytes()[..], b"abc"].concat();
    rows::run(vec![
        file("G04 key 2^64-1", Says(&["key 1", "18446744073709551615 bytes of text"]), with(named(u64::MAX))),
        file("G04 key 1 GiB + 1", Says(&["key 1", "1073741825 bytes"]), with(named((1 << 30) + 1))),
        file("G04 key longer than the limit", Says(&["1025 bytes", "at most 1024"]), with(text(&"k".repeat(1025), ""))),
        bytes("G04 text longer than the rest", Says(&["field \"t\"", "declares 9 bytes of text, at most 5"]), || {
            let lie = [&9_u64.to_le_bytes()[..], b"short"].concat();
            let head = Bytes { key_count: Some(1), ..Bytes::new() }.build();
            [&head[..24], &key(b"t", 8, &lie)].concat()
        }),
        file("G05 empty key", Says(&["key 1", "name is empty"]), with(number("", 1))),
        file(
            "G05 same key",
            Says(&["\"general.architecture\"", "occurs twice", "entry 0", "entry 1"]),
            with(text("general.architecture", "qwen2")),
        ),
        bytes("G05 a million keys", Says(&["1000000 keys, at most 65536"]), || {
            let keys = (0..1_000_000).map(|i| number(&format!("k{i}"), i)).collect();
            Bytes { keys, ..Bytes::new() }.build()
        }),
        bytes("G05 as many keys as allowed", Fine, || {
            let keys = (0..65_536).map(|i| number(&format!("k{i}"), i)).collect();
            Bytes { keys, ..Bytes::new() }.build()
        }),
        file("G06 type 13", Says(&["field \"x\"", "value type 13", "0 to 12"]), with(key(b"x", 13, &[0; 8]))),
        file("G06 type 255", Says(&["field \"x\"", "value type 255"]), with(key(b"x", 255, &[0; 8]))),
        file("G06 array of arrays", Says(&["field \"x\"", "array of arrays"]), with(array("x", 9, 1, &[0; 32]))),
        file("G06 array type 77", Says(&["field \"x\"", "array element type 77"]), with(array("x", 77, 1, &[0; 32]))),
        file(
            "G06 2^40 u8",
            Says(&["field \"x\"", "1099511627776 array elements"]),
            with(array("x", 0, 1 << 40, &[0; 32])),
        ),
        file("G06 2^61 f64", Says(&["field \"x\"", "array elements"]), with(array("x", 12, 1 << 61, &[0; 32]))),
        file("G06 2^40 strings", Says(&["field \"x\"", "array elements"]), with(array("x", 8, 1 << 40, &[0; 32]))),
        file(
            "G06 string in an array",
            Says(&["field \"x\" element 1", "bytes of text"]),
            with(array("x", 8, 2, &[string(b"ok"), u64::MAX.to_le_bytes().to_vec()].concat())),
        ),
        file("G06 empty array", Fine, with(array("x", 8, 0, &[]))),
        file("G07 bool 2", Says(&["field \"x\"", "bool 2", "0 or 1"]), with(key(b"x", 7, &[2]))),
        file("G07 bool 2 in an array", Says(&["field \"x\"", "bool 2"]), with(array("x", 7, 2, &[1, 2]))),
        file("G07 key not UTF-8", Says(&["key 1", "not UTF-8 at its byte 1"]), with(key(b"x\xff", 4, &[0; 4]))),
        file("G07 key with an escape", Says(&["key 1", "control character"]), with(number("x\u{1b}[2J", 1))),
        file("G07 token not UTF-8", Fine, with(strings("tokenizer.ggml.tokens", &[&b"\xff\xfe"[..], b"a"]))),
        row(
            "G07 text not UTF-8 when asked for",
            Says(&["field \"n\"", "invalid UTF-8 at byte 0", "UTF-8 string"]),
            || {
                let file = Bytes::new().key(key(b"n", 8, &string(b"\xff")));
                parse(&file.build())?.str("n").map(drop).map_err(|e| e.to_string())
            },
        ),
        row("absent key", Says(&["field \"llama.block_count\"", "is missing", "integer"]), || {
            parse(&Bytes::sound().build())?.u32("llama.block_count").map(drop).map_err(|e| e.to_string())
        }),
        row("wrong type", Says(&["\"general.architecture\"", "string \"llama\"", "integer from 0"]), || {
            parse(&Bytes::sound().build())?.u32("general.architecture").map(drop).map_err(|e| e.to_string())
        }),
    ]);
}

#[test]
fn alignment() {
    let with = |raw: Vec<u8>| Bytes::sound().key(raw);
    rows::run(vec![
        file("G08 0", Says(&["\"general.alignment\"", "u32 0", "power of two"]), with(number("general.alignment", 0))),
        file("G08 3", Says(&["\"general.alignment\"", "u32 3"]), with(number("general.alignment", 3))),
        file(
            "G08 2^31",
            Says(&["\"general.alignment\"", "u32 2147483648"]),
            with(number("general.alignment", 1 << 31)),
        ),
        file("G08 text", Says(&["\"general.alignment\"", "string \"32\""]), with(text("general.alignment", "32"))),
        file(
            "G08 u64",
            Says(&["\"general.alignment\"", "u64 32"]),
            with(key(b"general.alignment", 10, &32_u64.to_le_bytes())),
        ),
        file(
            "G08 twice",
            Says(&["\"general.alignment\"", "occurs twice"]),
            with(number("general.alignment", 32)).key(number("general.alignment", 64)),
        ),
        file("alignment 64", Fine, Bytes { align: 64, ..with(number("general.alignment", 64)) }),
        file(
            "alignment 65536",
            Says(&["tensor \"b\"", "data offset 128", "65536"]),
            Bytes { align: 65_536, ..with(number("general.alignment", 65_536)) },
        ),
    ]);
}

#[test]
fn tensors() {
    let only = |raw: Vec<u8>| Bytes::sound().only(raw);
    rows::run(vec![
        file("G09 0 dimensions", Says(&["tensor \"t\"", "0 dimensions", "1 to 4"]), only(tensor("t", &[], 0, 0))),
        file("G09 5 dimensions", Says(&["tensor \"t\"", "5 dimensions"]), only(tensor("t", &[1; 5], 0, 0))),
        file(
            "G09 2^32-1 dimensions",
            Says(&["tensor \"t\"", "4294967295 dimensions"]),
            only(tensor_dims(b"t", u32::MAX, &[1], 0, 0)),
        ),
        file(
            "G09 -1",
            Says(&["tensor \"t\"", "dimension 1 is 18446744073709551615"]),
            only(tensor("t", &[2, u64::MAX], 0, 0)),
        ),
        file("G09 0", Says(&["tensor \"t\"", "dimension 0 is 0"]), only(tensor("t", &[0, 4], 0, 0))),
        file("G09 [2^63-1, 2]", Says(&["tensor \"t\"", "overflows"]), only(tensor("t", &[i64::MAX as u64, 2], 0, 0))),
        file(
            "G09 pads to 0",
            Says(&["tensor \"t\"", "overflows"]),
            only(tensor("t", &[4, (1 << 30) - 1, (1 << 30) + 1], 0, 0)),
        ),
        file("G09 bytes overflow", Says(&["tensor \"t\"", "overflows"]), only(tensor("t", &[1 << 30, 1 << 31], 28, 0))),
        file(
            "G10 half a block",
            Says(&["tensor \"t\"", "rows of 48 values", "multiple of the Q4_0 block, 32"]),
            only(tensor("t", &[48, 2], 2, 0)),
        ),
        file("G10 unknown type", Says(&["tensor \"t\"", "unknown type 99", "Q4_K"]), only(tensor("t", &[32], 99, 0))),
        file("G10 removed type", Says(&["tensor \"t\"", "Q4_2, removed"]), only(tensor("t", &[32], 4, 0))),
        file("known but not computed with", Fine, only(tensor("t", &[256], 19, 0))),
        file(
            "G11 unaligned",
            Says(&["tensor \"t\"", "data offset 4", "not a multiple of the alignment 32", "expected 0"]),
            only(tensor("t", &[4], 0, 4)),
        ),
        file(
            "G11 overlap",
            Says(&["tensor \"b\"", "data offset 96", "overlaps", "expected 128"]),
            Bytes { tensors: vec![tensor("a", &[32], 0, 0), tensor("b", &[32], 0, 96)], ..Bytes::sound() },
        ),
        file(
            "G11 gap",
            Says(&["tensor \"b\"", "data offset 160", "gap", "expected 128"]),
            Bytes { tensors: vec![tensor("a", &[32], 0, 0), tensor("b", &[16], 0, 160)], ..Bytes::sound() },
        ),
        file(
            "G11 backwards",
            Says(&["tensor \"a\"", "data offset 128", "expected 0"]),
            Bytes { tensors: vec![tensor("a", &[32], 0, 128), tensor("b", &[32], 0, 0)], ..Bytes::sound() },
        ),
        file("G11 far away", Says(&["tensor \"t\"", "expected 0"]), only(tensor("t", &[4], 0, 1 << 60))),
        bytes("G12 short by one", Says(&["tensor \"b\"", "1 bytes are missing", "cut short"]), || {
            let mut b = Bytes::sound().build();
            b.pop();
            b
        }),
        row("G12 tail", Says(&["7 bytes follow the last tensor"]), || {
            let b = [Bytes::sound().build(), vec![0; 7]].concat();
            Err(parse(&b)?.warnings().join("; "))
        }),
        row("G13 64 bytes", Says(&["64 bytes", "at most 63"]), || {
            Err(parse(&Bytes::sound().only(tensor(&"n".repeat(64), &[4], 0, 0)).build())?.warnings().join("; "))
        }),
        file("G13 1025 bytes", Says(&["tensor 0", "1025"]), only(tensor(&"n".repeat(1025), &[4], 0, 0))),
        file("empty name", Says(&["tensor 0", "name is empty"]), only(tensor("", &[4], 0, 0))),
        file("NUL in a name", Says(&["tensor 0", "control"]), only(tensor("a\0b", &[4], 0, 0))),
        file(
            "same name",
            Says(&["tensor \"a\"", "occurs twice"]),
            Bytes { tensors: vec![tensor("a", &[32], 0, 0), tensor("a", &[32], 0, 128)], ..Bytes::sound() },
        ),
        row("G14 NaN scale", Says(&["2 scales"]), || {
            let data: Vec<u8> = [[0x00, 0x7e].to_vec(), vec![1; 18], [0x00, 0x7c].to_vec(), vec![1; 18]].concat();
            Err(format!("{} scales", nonfinite(GgmlType::Q4_1, &data).unwrap_or(0)))
        }),
    ]);
}

fn part(no: u16, count: u16, total: i32, name: &str) -> Gguf {
    let short = |name: &[u8], v: u16| key(name, 2, &v.to_le_bytes());
    let file = Bytes::sound()
        .key(short(b"split.no", no))
        .key(short(b"split.count", count))
        .key(key(b"split.tensors.count", 5, &total.to_le_bytes()))
        .only(tensor(name, &[32], 0, 0));
    Gguf::parse(Path::new(&format!("part{no}.gguf")), &file.build()).expect("a sound part")
}

#[test]
fn splits() {
    let check = |parts: &[Gguf]| check_split(parts).map(drop).map_err(|e| e.to_string());
    rows::run(vec![
        row("G15 all parts", Fine, move || check(&[part(1, 2, 2, "b"), part(0, 2, 2, "a")])),
        row("G15 missing", Says(&["3 parts declared, 2 given"]), move || {
            check(&[part(0, 3, 3, "a"), part(2, 3, 3, "b")])
        }),
        row("G15 twice", Says(&["part0.gguf", "part 1 is given twice"]), move || {
            check(&[part(0, 2, 2, "a"), part(0, 2, 2, "b")])
        }),
        row("G15 count differs", Says(&["part1.gguf", "3 parts", "2 as in part0.gguf"]), move || {
            check(&[part(0, 2, 2, "a"), part(1, 3, 2, "b")])
        }),
        row("G15 totals", Says(&["split.tensors.count", "9 tensors", "2, as the parts hold"]), move || {
            check(&[part(0, 2, 9, "a"), part(1, 2, 9, "b")])
        }),
        row("G15 same tensor", Says(&["part1.gguf", "tensor \"a\"", "also in part0.gguf"]), move || {
            check(&[part(0, 2, 2, "a"), part(1, 2, 2, "a")])
        }),
        row("G15 no beyond count", Says(&["split.no", "part 5 of 2"]), || {
            part(5, 2, 2, "x").split().map(drop).map_err(|e| e.to_string())
        }),
        row("G15 other model", Says(&["general.architecture", "\"qwen2\"", "\"llama\""]), move || {
            let foreign = Bytes { keys: vec![text("general.architecture", "qwen2")], ..Bytes::sound() }
                .key(number("split.no", 1))
                .key(number("split.count", 2))
                .only(tensor("b", &[32], 0, 0));
            check(&[part(0, 2, 2, "a"), parse(&foreign.build())?])
        }),
        row("G15 none", Says(&["at least one part"]), move || check(&[])),
    ]);
}
