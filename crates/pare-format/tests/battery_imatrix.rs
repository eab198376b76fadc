//! Importance matrices: both forms against files of another hand, there and back, and broken ones.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod gguf_bytes;

use gguf_bytes::{Bytes, number, strings, tensor, text};
use pare_format::imatrix::{Imatrix, ImatrixFormat, Inputs};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/imatrix").join(name)
}

#[test]
fn both_forms_say_what_another_hand_wrote() {
    let expected: Value = serde_json::from_slice(&std::fs::read(golden("tiny.json")).unwrap()).unwrap();
    for (name, form) in [("tiny.gguf", ImatrixFormat::Gguf), ("tiny.dat", ImatrixFormat::Binary)] {
        let imatrix = Imatrix::open(golden(name)).unwrap();
        let names: Vec<&str> = imatrix.entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["blk.0.attn_q.weight", "blk.0.ffn_down.weight", "blk.1.attn_output.weight"]);
        for (name, inputs) in &imatrix.entries {
            let want = expected["means"][name].as_array().unwrap();
            let own = inputs.means().unwrap();
            assert_eq!((own.len(), own[1]), (want.len(), 0.0));
            for (own, want) in own.iter().zip(want) {
                let want = want.as_f64().unwrap();
                // Two roundings of f32.
                assert!((f64::from(*own) - want).abs() <= 3e-7 * want, "{name}: {own} {want}");
            }
        }
        assert_eq!(imatrix.chunks, 2);
        match form {
            ImatrixFormat::Gguf => {
                assert_eq!((imatrix.texts.join(" "), imatrix.chunk_tokens), ("speeches.txt näher.txt".into(), 48))
            }
            ImatrixFormat::Binary => {
                assert_eq!((imatrix.texts.join(" "), imatrix.chunk_tokens), ("näher.txt".into(), 0))
            }
        }
        // There and back: the binary form byte by byte, GGUF value by value.
        let bytes = imatrix.to_bytes(Path::new(name), form).unwrap();
        assert_eq!(Imatrix::parse(Path::new(name), &bytes).unwrap(), imatrix, "{name}");
        if form == ImatrixFormat::Binary {
            assert_eq!(bytes, std::fs::read(golden(name)).unwrap());
        }
    }
    // From one form to the other the means stay.
    let gguf = Imatrix::open(golden("tiny.gguf")).unwrap();
    let binary = gguf.to_bytes(Path::new("x.dat"), ImatrixFormat::Binary).unwrap();
    assert_eq!(Imatrix::parse(Path::new("x.dat"), &binary).unwrap(), Imatrix::open(golden("tiny.dat")).unwrap());
}

#[test]
fn an_entry_without_data_has_no_means() {
    let inputs = Inputs { squares: vec![0.0; 4], count: 0.0 };
    assert_eq!(inputs.means(), None);
    let full = Inputs { squares: vec![1.0, 2.0], count: 4.0 };
    let entries = [("a".to_owned(), inputs), ("b".to_owned(), full)].into();
    let imatrix = Imatrix { entries, ..Imatrix::default() };
    let back = |form| {
        let bytes = imatrix.to_bytes(Path::new("x"), form).unwrap();
        Imatrix::parse(Path::new("x"), &bytes).unwrap()
    };
    assert_eq!(back(ImatrixFormat::Gguf), imatrix);
    // The binary form has no place for it.
    assert_eq!(back(ImatrixFormat::Binary).entries.keys().collect::<Vec<_>>(), ["b"]);
}

fn refuses(bytes: &[u8], parts: &[&str]) {
    let error = Imatrix::parse(Path::new("x.imatrix"), bytes).unwrap_err().to_string();
    for part in ["x.imatrix"].iter().chain(parts) {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

/// A GGUF file with these keys, and tensors of f32 with these values.
fn gguf(keys: &[Vec<u8>], tensors: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
    let mut file = Bytes { keys: keys.to_vec(), ..Bytes::new() };
    for (name, shape, values) in tensors {
        file.tensors.push(tensor(name, shape, 0, file.data.len() as u64));
        file.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        file.data.resize(file.data.len().next_multiple_of(32), 0);
    }
    file.build()
}

#[test]
fn broken_gguf_files_are_refused_by_name() {
    let kind = || vec![text("general.type", "imatrix")];
    let squares = ("a.in_sum2", &[3, 1][..], &[1.0, 2.0, 3.0][..]);
    let counts = ("a.counts", &[1, 1][..], &[5.0][..]);
    assert_eq!(Imatrix::parse(Path::new("x"), &gguf(&kind(), &[squares, counts])).unwrap().entries.len(), 1);
    // One number for a whole vector is a shape, too.
    let flat = [("a.in_sum2", &[3][..], &[1.0, 2.0, 3.0][..]), ("a.counts", &[1][..], &[5.0][..])];
    assert_eq!(Imatrix::parse(Path::new("x"), &gguf(&kind(), &flat)).unwrap().entries["a"].count, 5.0);

    refuses(&Bytes::sound().build(), &["\"general.type\"", "nothing", "imatrix"]);
    refuses(&gguf(&[text("general.type", "model")], &[squares, counts]), &["\"model\"", "pare imatrix"]);
    refuses(&gguf(&kind(), &[]), &["at least one matrix"]);
    refuses(&gguf(&kind(), &[squares]), &["\"a.in_sum2\"", "both .in_sum2 and .counts"]);
    refuses(&gguf(&kind(), &[counts]), &["\"a.counts\"", "both"]);
    let other = ("blk.0.attn_q.weight", &[2][..], &[1.0, 1.0][..]);
    refuses(&gguf(&kind(), &[squares, counts, other]), &["\"blk.0.attn_q.weight\"", ".in_sum2, .counts or .in_sum"]);
    let plain = ("a.in_sum", &[2, 1][..], &[1.0, 1.0][..]);
    refuses(&gguf(&kind(), &[squares, counts, plain]), &["\"a.in_sum\"", "2 values", "3 as in .in_sum2"]);
    let experts = [("a.in_sum2", &[2, 3][..], &[1.0; 6][..]), ("a.counts", &[1, 3][..], &[1.0; 3][..])];
    refuses(&gguf(&kind(), &experts), &["\"a.in_sum2\"", "[2, 3]", "no experts"]);
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let values = [1.0, bad, 3.0];
        let said = format!("value 1 is {bad}");
        refuses(&gguf(&kind(), &[("a.in_sum2", &[3, 1], &values), counts]), &["\"a.in_sum2\"", &said]);
        refuses(&gguf(&kind(), &[squares, ("a.counts", &[1, 1], &[bad])]), &["\"a.counts\"", "value 0 is"]);
    }
    let keys = [text("general.type", "imatrix"), text("imatrix.chunk_count", "many")];
    refuses(&gguf(&keys, &[squares, counts]), &["\"imatrix.chunk_count\""]);
    let keys = [text("general.type", "imatrix"), number("imatrix.datasets", 7)];
    refuses(&gguf(&keys, &[squares, counts]), &["\"imatrix.datasets\"", "array of strings"]);
    let keys = [text("general.type", "imatrix"), strings("imatrix.datasets", &[b"\xff"])];
    assert_eq!(Imatrix::parse(Path::new("x"), &gguf(&keys, &[squares, counts])).unwrap().texts, ["\u{fffd}"]);
}

/// An entry of the binary form.
fn entry(name: &[u8], chunks: i32, values: &[f32]) -> Vec<u8> {
    let mut out = (name.len() as i32).to_le_bytes().to_vec();
    out.extend(name);
    out.extend(chunks.to_le_bytes());
    out.extend((values.len() as i32).to_le_bytes());
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    out
}

fn binary(count: i32, parts: &[&[u8]]) -> Vec<u8> {
    [&count.to_le_bytes()[..], &parts.concat()].concat()
}

#[test]
fn broken_binary_files_are_refused_by_name() {
    let sound = entry(b"a", 2, &[1.0, 2.0]);
    let parse = |bytes: &[u8]| Imatrix::parse(Path::new("x"), bytes);
    // What older versions left out at the end may be missing.
    assert_eq!(parse(&binary(1, &[&sound])).unwrap().chunks, 0);
    assert_eq!(parse(&binary(1, &[&sound, &7i32.to_le_bytes()])).unwrap().chunks, 7);

    refuses(&[], &["needs 4 more bytes"]);
    refuses(&binary(0, &[&sound]), &["no entries"]);
    refuses(&binary(-1, &[&sound]), &["-1 entries"]);
    refuses(&binary(i32::MAX, &[&sound]), &["2147483647 entries", "at most 1 possible"]);
    refuses(&binary(2, &[&sound, &sound]), &["\"a\"", "occurs twice"]);
    refuses(&binary(1, &[&entry(b"", 1, &[1.0]), &[0; 9]]), &["entry 0", "no text"]);
    refuses(&binary(1, &[&entry(b"\xff\xfe", 1, &[1.0])]), &["entry 0", "no text"]);
    refuses(&binary(1, &[&entry(b"a\x1b", 1, &[1.0])]), &["entry 0", "no text"]);
    refuses(&binary(1, &[&i32::MAX.to_le_bytes(), &[b'a'; 40]]), &["entry 0", "2147483647 bytes of a name"]);
    refuses(&binary(1, &[&(-5i32).to_le_bytes(), &[b'a'; 40]]), &["entry 0", "-5 bytes of a name"]);
    refuses(&binary(1, &[&entry(b"a", -3, &[1.0])]), &["\"a\"", "-3 chunks"]);
    refuses(&binary(1, &[&entry(b"a", 1, &[]), &[0; 9]]), &["\"a\"", "no values"]);
    for bad in [f32::NAN, f32::NEG_INFINITY, -0.5] {
        refuses(&binary(1, &[&entry(b"a", 1, &[0.0, 1.0, bad])]), &["\"a\"", &format!("value 2 is {bad}")]);
    }
    let declares =
        |values: i32| [&1i32.to_le_bytes()[..], b"a", &1i32.to_le_bytes(), &values.to_le_bytes(), &[0; 12]].concat();
    refuses(&binary(1, &[&declares(i32::MAX)]), &["\"a\"", "2147483647 values", "at most 3 possible"]);
    refuses(&binary(1, &[&declares(-1)]), &["\"a\"", "-1 values"]);
    let text = [&1i32.to_le_bytes()[..], &9i32.to_le_bytes(), b"too short"].concat();
    assert_eq!(parse(&binary(1, &[&sound, &text])).unwrap().texts, ["too short"]);
    refuses(&binary(1, &[&sound, &text, b"more"]), &["4 bytes behind"]);
    refuses(&binary(1, &[&sound, &text[..text.len() - 1]]), &["the text's name", "9 bytes of a name"]);
    refuses(b"version https://git-lfs.github.com/spec/v1\n", &["Git LFS pointer"]);
    refuses(b"<!doctype html><html>", &["HTML page"]);
}

#[test]
fn no_change_of_a_byte_and_no_cut_makes_it_panic() {
    for name in ["tiny.gguf", "tiny.dat"] {
        let whole = std::fs::read(golden(name)).unwrap();
        let (mut read, mut refused) = (0, 0);
        let mut look = |bytes: &[u8]| match Imatrix::parse(Path::new(name), bytes) {
            Ok(imatrix) => {
                let sound = |inputs: &Inputs| inputs.squares.iter().all(|value| value.is_finite() && *value >= 0.0);
                assert!(imatrix.entries.values().all(sound));
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().starts_with(name), "{error}");
                refused += 1;
            }
        };
        for at in 0..whole.len() {
            look(&whole[..at]);
            for change in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                look(&bytes);
            }
        }
        assert!(read > 0 && refused > whole.len(), "{name}: {read} {refused}");
    }
}
