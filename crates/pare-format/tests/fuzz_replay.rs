//! The fuzz corpus, mutated headers and round trips, without a fuzzer.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use pare_format::fuzz;
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};
use pare_format::safetensors::{Dtype, Header, SafetensorsFile};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;

#[test]
fn corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/safetensors");
    let mut seeds = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        fuzz::safetensors(&bytes);
        // Every beginning of a file is a file, too.
        (0..bytes.len()).for_each(|len| fuzz::safetensors(&bytes[..len]));
        seeds += 1;
    }
    assert!(seeds >= 20, "{seeds} seeds");
}

/// A tensor of whole bytes.
fn spec() -> impl Strategy<Value = TensorSpec> {
    let dtype = select(Dtype::all().collect::<Vec<_>>());
    let shape = prop::collection::vec(0_usize..5, 0..=4);
    ("[ -~\u{e9}\u{4e2d}\"\\\\]{1,12}", dtype, shape).prop_map(|(name, dtype, mut shape)| {
        if dtype.bytes(&shape).is_none() {
            shape.push(4);
        }
        TensorSpec { name, dtype, shape }
    })
}

fn specs() -> impl Strategy<Value = Vec<TensorSpec>> {
    prop::collection::vec(spec(), 0..6).prop_map(|mut specs| {
        let mut seen = std::collections::BTreeSet::new();
        specs.retain(|spec| seen.insert(spec.name.clone()));
        specs
    })
}

fn write(specs: &[TensorSpec], metadata: &[(String, String)]) -> Vec<u8> {
    let total: u64 = specs.iter().map(|spec| spec.bytes(Path::new("x")).unwrap()).sum();
    let data: Vec<u8> = (0..total).map(|i| (i * 37 % 251) as u8).collect();
    let mut writer = SafetensorsWriter::new("x", Vec::new(), specs.to_vec(), metadata).unwrap();
    // In pieces that do not follow the tensors.
    data.chunks(7).for_each(|piece| writer.write(piece).unwrap());
    writer.finish().unwrap()
}

/// What a mutation does to the text of a header.
#[derive(Debug, Clone)]
enum Mutation {
    /// Puts this text in place of a number or string.
    Token(Index, &'static str),
    /// Removes some bytes.
    Cut(Index, usize),
    /// Repeats some bytes.
    Repeat(Index, usize),
    /// Changes one byte.
    Byte(Index, u8),
    /// Moves the end of the file.
    Data(i64),
    /// Changes the declared length of the header.
    Length(i64),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let tokens = select(vec![
        "0",
        "1",
        "-1",
        "1e3",
        "0.5",
        "4",
        "8",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808",
        "null",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\"F32\"",
        "\"F4\"",
        "\"F7\"",
        "\"__metadata__\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "[[[[[[]]]]]]",
    ]);
    prop_oneof![
        4 => (any::<Index>(), tokens).prop_map(|(at, token)| Mutation::Token(at, token)),
        1 => (any::<Index>(), 1_usize..40).prop_map(|(at, len)| Mutation::Cut(at, len)),
        1 => (any::<Index>(), 1_usize..80).prop_map(|(at, len)| Mutation::Repeat(at, len)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        1 => (-9_i64..9).prop_map(Mutation::Data),
        1 => (-9_i64..9).prop_map(Mutation::Length),
    ]
}

/// The ranges of numbers and strings in a JSON text.
fn tokens(json: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < json.len() {
        let start = at;
        match json[at] {
            b'"' => {
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(json.len());
                found.push(start..at);
            }
            b'0'..=b'9' => {
                while at < json.len() && json[at].is_ascii_digit() {
                    at += 1;
                }
                found.push(start..at);
            }
            _ => at += 1,
        }
    }
    found
}

fn mutate(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (mut json, mut data) = (bytes[8..8 + len].to_vec(), bytes[8 + len..].to_vec());
    let mut declared = 0;
    for mutation in mutations {
        let range = |at: &Index, len: usize, json: &[u8]| {
            let start = at.index(json.len() + 1);
            start..(start + len).min(json.len())
        };
        match mutation {
            Mutation::Token(at, token) => {
                let tokens = tokens(&json);
                if !tokens.is_empty() {
                    json.splice(tokens[at.index(tokens.len())].clone(), token.bytes());
                }
            }
            Mutation::Cut(at, len) => drop(json.drain(range(at, *len, &json))),
            Mutation::Repeat(at, len) => {
                let range = range(at, *len, &json);
                let piece = json[range.clone()].to_vec();
                json.splice(range.end..range.end, piece);
            }
            Mutation::Byte(at, byte) if !json.is_empty() => {
                let at = at.index(json.len());
                json[at] = *byte;
            }
            Mutation::Byte(..) => {}
            Mutation::Data(by) => data.resize((data.len() as i64 + by).max(0) as usize, 0),
            Mutation::Length(by) => declared += by,
        }
    }
    let mut result = (json.len() as u64).wrapping_add_signed(declared).to_le_bytes().to_vec();
    result.extend(json);
    result.extend(data);
    result
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files(specs in specs(), mutations in prop::collection::vec(mutation(), 1..4)) {
        let bytes = mutate(&write(&specs, &[]), &mutations);
        fuzz::safetensors(&bytes);
        // What is accepted here is accepted by the reference, with the same tensors. The reverse does not hold: it is less strict.
        if let Ok(header) = Header::read(Path::new("x"), &bytes) {
            let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            prop_assert_eq!(header.tensors().len(), theirs.len());
            for tensor in header.tensors() {
                let view = theirs.tensor(&tensor.name).unwrap();
                prop_assert_eq!(&tensor.shape, view.shape());
                prop_assert_eq!(tensor.dtype.name(), format!("{:?}", view.dtype()));
                prop_assert_eq!(&bytes[tensor.range.clone()], view.data());
            }
        }
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0_u64..200) {
        fuzz::safetensors(&bytes);
        let with_length: Vec<u8> = len.to_le_bytes().into_iter().chain(bytes).collect();
        fuzz::safetensors(&with_length);
    }

    #[test]
    fn what_is_written_is_read(specs in specs(), metadata in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4)) {
        let metadata: Vec<_> = metadata.into_iter().filter(|(key, _)| key != "format").collect();
        let bytes = write(&specs, &metadata);
        prop_assert_eq!(&write(&specs, &metadata), &bytes);
        fuzz::safetensors(&bytes);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        fs::write(&path, &bytes).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        prop_assert_eq!(&file.metadata()[1..], &metadata[..]);
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut at = 0_u64;
        for spec in &specs {
            let view = file.view(file.get(&spec.name).unwrap()).unwrap();
            prop_assert_eq!((view.dtype, &view.shape), (spec.dtype, &spec.shape));
            let expected: Vec<u8> = (at..at + view.bytes.len() as u64).map(|i| (i * 37 % 251) as u8).collect();
            at += view.bytes.len() as u64;
            prop_assert_eq!(&*view.bytes, &expected[..]);
            prop_assert_eq!(theirs.tensor(&spec.name).unwrap().data(), &expected[..]);
        }
        prop_assert_eq!(theirs.len(), specs.len());
        prop_assert_eq!(file.tensors().len(), specs.len());
        // The reference's own file, in its own order, reads the same.
        let views: Vec<_> = theirs.tensors();
        let rewritten = safetensors::serialize(views, None).unwrap();
        let again = Header::read(Path::new("x"), &rewritten).unwrap();
        for spec in &specs {
            let tensor = again.get(&spec.name).unwrap();
            prop_assert_eq!(&rewritten[tensor.range.clone()], theirs.tensor(&spec.name).unwrap().data());
        }
    }
}
