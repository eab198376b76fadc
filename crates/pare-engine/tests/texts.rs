//! Texts: self-written ones depend on model, seed and purpose alone; files are read strictly; nothing is calibrated and verified on.

use crate::tiny::{family, tokenizer_json, work};
use pare_engine::bundle::Bundle;
use pare_engine::fingerprint::fingerprint;
use pare_engine::text::{Amount, OVERLAP, Openings, Purpose, Sources, Text, WritingOptions, read_plain};
use pare_format::tokenizer::Tokenizer;
use pare_kernels::pool::Pool;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const AMOUNT: Amount = Amount { sequences: 5, length: 24 };

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(Path::new("tokenizer.json"), tokenizer_json().as_bytes()).unwrap()
}

/// Runs `test` in a process of its own whose cache is an empty folder; in that process, runs `check`.
fn with_own_cache(test: &str, check: impl FnOnce(&Path)) {
    if let Some(cache) = std::env::var_os("PARE_TEST_CACHE") {
        return check(Path::new(&cache));
    }
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("PARE_CACHE", cache.path())
        .env("PARE_TEST_CACHE", cache.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn cached(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(cache.join("text")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn self_written_text_depends_on_seed_and_purpose_but_not_on_threads() {
    with_own_cache("texts::self_written_text_depends_on_seed_and_purpose_but_not_on_threads", |cache| {
        let model = family("llama-tied");
        let write = |purpose, seed, threads| {
            let pool = Pool::new(threads);
            let manner = WritingOptions { openings: &Openings::plain(7), purpose, seed };
            Text::self_written(&model, manner, AMOUNT, &[], work(&pool)).unwrap().sequences
        };
        let one = write(Purpose::Calibration, 0, 1);
        assert_eq!(one.len(), 5);
        assert!(one.iter().all(|text| text.len() == 24 && text[0] == 7 && text.iter().all(|&token| token < 128)));
        fs::remove_file(&cached(cache)[0]).unwrap();
        assert_eq!(write(Purpose::Calibration, 0, 3), one, "three threads");
        let others =
            [write(Purpose::Verification, 0, 1), write(Purpose::Calibration, 1, 1), write(Purpose::Verification, 1, 1)];
        for (index, other) in others.iter().enumerate() {
            assert!(other.iter().all(|text| !one.contains(text)), "text {index} repeats a sequence");
        }
        assert_ne!(others[0], others[1]);
        assert!((1..5).all(|index| one[index] != one[0]), "sequences differ");
        assert_eq!(cached(cache).len(), 4);
    });
}

#[test]
fn a_cached_text_is_read_back_and_a_broken_one_written_anew() {
    with_own_cache("texts::a_cached_text_is_read_back_and_a_broken_one_written_anew", |cache| {
        let (model, pool) = (family("qwen2"), Pool::new(1));
        let openings = Openings::plain(3);
        let manner = WritingOptions { openings: &openings, purpose: Purpose::Calibration, seed: 5 };
        let write = || Text::self_written(&model, manner, AMOUNT, &[], work(&pool)).unwrap();
        let first = write();
        let file = cached(cache).remove(0);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with(&format!("4-{}-calibration-5-", fingerprint(&model))), "{name}");
        assert!(name.ends_with("-5x24.tokens"), "{name}");
        let sound = fs::read(&file).unwrap();
        // Another token in the file is what is then read: the text came from there.
        let mut changed = sound.clone();
        changed[4] ^= 1;
        fs::write(&file, &changed).unwrap();
        let read = write();
        assert_ne!(read.sequences, first.sequences);
        assert_eq!(read.sequences[0][1], first.sequences[0][1] ^ 1);
        assert_eq!(read.origin, first.origin);
        // A file that is too short, or holds a token that the model does not have, is no text of this model.
        let mut foreign = sound.clone();
        foreign[9] = 1;
        for broken in [&sound[..sound.len() - 4], &foreign, b""] {
            fs::write(&file, broken).unwrap();
            assert_eq!(write().sequences, first.sequences);
            assert_eq!(fs::read(&file).unwrap(), sound);
        }
        assert_eq!(cached(cache), [file], "nothing unfinished is left");
    });
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// A text in which every run of a few letters stands once: numbers, counted up.
fn counted(from: usize, to: usize) -> String {
    (from..to).map(|number| format!("{number} ")).collect()
}

#[test]
fn windows_of_a_file_are_spread_evenly_over_it() {
    let (folder, tokenizer) = (Folder::new(), tokenizer());
    let text = counted(1000, 1200);
    let path = folder.file("a.txt", text.as_bytes());
    let read = Text::from_file(&path, &tokenizer, Amount { sequences: 4, length: 50 }).unwrap();
    // 1000 letters are 20 windows: 0, 5, 10 and 15.
    let starts = [0, 250, 500, 750];
    let decoded: Vec<String> = read.sequences.iter().map(|tokens| tokenizer.decode(tokens, false)).collect();
    assert_eq!(decoded, starts.map(|start| &text[start..start + 50]));
    assert!(read.origin.starts_with("4 x 50 tokens of ") && read.origin.ends_with("a.txt"), "{}", read.origin);
    let all = Text::from_file(&path, &tokenizer, Amount { sequences: 99, length: 50 }).unwrap();
    assert_eq!(all.sequences.len(), 20, "no more windows than there are");
    let whole = Text::from_file(&path, &tokenizer, Amount { sequences: 9, length: 1000 }).unwrap();
    assert_eq!(whole.sequences.len(), 1);
}

fn decoded(path: &Path, tokenizer: &Tokenizer, length: usize) -> String {
    let read = Text::from_file(path, tokenizer, Amount { sequences: 1, length }).unwrap();
    tokenizer.decode(&read.sequences[0], false)
}

#[test]
fn lines_of_json_are_joined_by_an_empty_line() {
    let (folder, tokenizer) = (Folder::new(), tokenizer());
    let rows = "{\"text\": \"one\\ntwo\", \"id\": 1}\n\n  \n{\"text\": \"three\"}\n";
    assert_eq!(decoded(&folder.file("a.jsonl", rows.as_bytes()), &tokenizer, 14), "one\ntwo\n\nthree");
    assert_eq!(
        decoded(&folder.file("a.txt", rows.as_bytes()), &tokenizer, 20),
        rows[..20],
        "another name is plain text"
    );
}

#[test]
fn conversations_are_rendered_with_the_template_of_the_model() {
    let folder = Folder::new();
    let template = "{% for message in messages %}[{{ message.role }}] {{ message.content }}<|end|>{% endfor %}";
    let chat = tokenizer().with_chat_template(Path::new("chat_template.jinja"), template.to_owned());
    let turns = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"yes\"}]}\n";
    let others = "{\"conversations\": [{\"from\": \"human\", \"value\": \"go\"}]}\n{\"text\": \"<|end|>\"}\n";
    let path = folder.file("chat.jsonl", (turns.to_owned() + others).as_bytes());
    // What the template writes as a special token is one; what stands in a text is text.
    let end = chat.id("<|end|>").unwrap();
    let ends = |length| {
        let read = Text::from_file(&path, &chat, Amount { sequences: 1, length }).unwrap();
        read.sequences[0].iter().filter(|&&token| token == end).count()
    };
    let whole = "[user] hi[assistant] yes[user] go<|end|>";
    assert_eq!((ends(10), ends(26), ends(36), ends(43)), (1, 2, 3, 3));
    let said = Text::from_file(&path, &chat, Amount { sequences: 1, length: 44 }).unwrap_err().to_string();
    assert!(said.contains("43 tokens"), "{said}");
    assert_eq!(
        decoded(&path, &chat, 43).replace("<|end|>", "").len(),
        whole.len() - 7,
        "{}",
        decoded(&path, &chat, 43)
    );
    let said = Text::from_file(&path, &tokenizer(), Amount { sequences: 1, length: 8 }).unwrap_err();
    assert!(said.is_bad_input() && said.to_string().contains("no chat template"), "{said}");
}

#[test]
fn a_file_that_is_no_text_is_refused_with_the_place() {
    let (folder, tokenizer) = (Folder::new(), tokenizer());
    let mut latin = b"caf".to_vec();
    latin.extend([0xe9, b' ', b'a']);
    let cases: [(&str, Vec<u8>, &[&str]); 7] = [
        ("latin.txt", latin, &["latin.txt: byte 3 is not UTF-8", "convert"]),
        ("cut.txt", "12345é".as_bytes()[..6].to_vec(), &["cut.txt: byte 5 is not UTF-8"]),
        (
            "no.jsonl",
            b"{\"text\": \"a\"}\n\n{\"body\": \"b\"}\n".to_vec(),
            &["no.jsonl: line 3: no string field \"text\", nor a list \"messages\""],
        ),
        ("number.jsonl", b"{\"text\": 5}\n".to_vec(), &["number.jsonl: line 1: no string field \"text\""]),
        ("broken.jsonl", b"{\"text\": \"a\"}\n{\"text\": \n".to_vec(), &["broken.jsonl: line 2: "]),
        ("short.txt", b"hello".to_vec(), &["short.txt: 5 tokens, one window needs 50", "--context"]),
        ("empty.txt", Vec::new(), &["empty.txt: 0 tokens, one window needs 50"]),
    ];
    for (name, bytes, says) in cases {
        let path = folder.file(name, &bytes);
        let error = Text::from_file(&path, &tokenizer, Amount { sequences: 2, length: 50 }).unwrap_err();
        let said = error.to_string();
        assert!(says.iter().all(|what| said.contains(what)), "{name}: {said}");
        assert!(error.is_bad_input(), "{name}");
    }
    let missing = folder.0.path().join("missing.txt");
    assert!(read_plain(&missing).unwrap_err().to_string().contains("missing.txt"));
}

#[test]
fn a_held_out_text_that_overlaps_is_refused_with_the_overlap() {
    let (folder, tokenizer) = (Folder::new(), tokenizer());
    let read = |name: &str, text: &str, length| {
        Text::from_file(&folder.file(name, text.as_bytes()), &tokenizer, Amount { sequences: 9, length }).unwrap()
    };
    let calibration = read("seen.txt", &counted(1000, 1100), 100);
    let other = counted(5000, 5100);
    assert!(calibration.refuse_overlap(&read("other.txt", &other, 100), &tokenizer).is_ok());
    // From window 1, token 20 on: as many letters as make an overlap, and one fewer.
    let seen = &counted(1000, 1020)[..OVERLAP];
    let with = |seen: &str| format!("{}{seen}{}", &other[..120], &other[..200]);
    assert!(calibration.refuse_overlap(&read("near.txt", &with(&seen[..OVERLAP - 1]), 100), &tokenizer).is_ok());
    let error = calibration.refuse_overlap(&read("held.txt", &with(seen), 100), &tokenizer).unwrap_err();
    let said = error.to_string();
    let wanted = ["seen.txt", "held.txt", "48 tokens at window 1, token 20", "1000 1001 1002", "do not overlap"];
    assert!(wanted.iter().all(|what| said.contains(what)), "{said}");
    assert!(error.is_bad_input());
}

/// A model that always writes the same: what it says next depends on nothing.
fn parrot() -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = crate::tiny::bundle("llama-tied", folder.path());
    for block in &mut bundle.model.blocks {
        (block.mixer, block.ffn) = (None, None);
    }
    bundle
}

#[test]
fn own_texts_of_any_two_seeds_do_not_overlap() {
    with_own_cache("texts::own_texts_of_any_two_seeds_do_not_overlap", |_| {
        let (model, pool) = (family("llama-tied"), Pool::new(2));
        let amount = Amount { sequences: 6, length: 30 };
        let openings = Openings::plain(1);
        let write = |purpose, seed, apart: &[&Text]| {
            let manner = WritingOptions { openings: &openings, purpose, seed };
            Text::self_written(&model, manner, amount, apart, work(&pool)).unwrap()
        };
        let calibration = write(Purpose::Calibration, 0, &[]);
        let plain = write(Purpose::Verification, 0, &[]);
        // A text that holds three of the windows that would be written: those three are written anew, the others stay.
        let taken = Text { sequences: plain.sequences[1..4].to_vec(), origin: "taken".to_owned() };
        let apart = write(Purpose::Verification, 0, &[&calibration, &taken]);
        assert_eq!(apart.sequences.len(), 6);
        assert!(taken.refuse_overlap(&plain, &tokenizer()).is_err());
        assert!(taken.refuse_overlap(&apart, &tokenizer()).is_ok());
        let kept = apart.sequences.iter().filter(|window| plain.sequences.contains(window)).count();
        assert_eq!(kept, 3);
        assert_eq!(write(Purpose::Verification, 0, &[&calibration, &taken]).sequences, apart.sequences);
    });
}

#[test]
fn a_model_that_only_repeats_itself_is_refused_and_not_called_an_overlap() {
    with_own_cache("texts::a_model_that_only_repeats_itself_is_refused_and_not_called_an_overlap", |_| {
        let (bundle, pool) = (parrot(), Pool::new(1));
        // Its only sequence, token after token.
        let manner = WritingOptions { openings: &Openings::plain(1), purpose: Purpose::Verification, seed: 0 };
        let amount = Amount { sequences: 2, length: 2 };
        let every: Vec<Vec<u32>> = (0..128).map(|token| vec![1, token]).collect();
        let all = Text { sequences: every, origin: "all".to_owned() };
        let error = Text::self_written(&bundle.model, manner, amount, &[&all], work(&pool)).unwrap_err();
        let said = error.to_string();
        assert!(error.is_bad_input() && said.contains("--held-out") && !said.contains("overlap"), "{said}");
    });
}

#[test]
fn without_packages_texts_are_the_models_own_and_a_model_alone_is_not_measured_on_them() {
    with_own_cache(
        "texts::without_packages_texts_are_the_models_own_and_a_model_alone_is_not_measured_on_them",
        |_| {
            let folder = tempfile::tempdir().unwrap();
            let (bundle, pool) = (crate::tiny::bundle("llama-tied", folder.path()), Pool::new(1));
            let sources = Sources { authors: &[&bundle], length: 24, seed: 0, own_alone: true };
            let calibration = sources.calibration(3, &[], work(&pool)).unwrap();
            assert!(calibration.notes.is_empty() && calibration.found.sequences.len() == 3);
            let held_out = sources.verification(2, &[&calibration.found], work(&pool)).unwrap().found;
            assert_eq!((held_out.len(), held_out[0].name.as_str()), (1, "own text"));
            let error = sources.reference(2, work(&pool)).unwrap_err();
            let said = error.to_string();
            assert!(error.is_bad_input() && said.contains("--held-out FILE") && said.contains("--against"), "{said}");
        },
    );
}
