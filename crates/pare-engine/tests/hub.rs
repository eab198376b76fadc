//! Fetching from a hub that the test itself serves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use pare_engine::Error;
use pare_engine::bundle::Bundle;
use pare_engine::hub::{Settings, fetch_with};
use pare_engine::progress::{Interrupt, Silent, Work};
use pare_kernels::pool::Pool;
use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
#[path = "hub/server.rs"]
mod server;

fn golden(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families/llama-tied");
    std::fs::read(folder.join(file)).unwrap()
}

fn settings(endpoint: &str, cache: &Path) -> Settings {
    Settings { endpoint: endpoint.to_owned(), token: None, cache: cache.to_owned(), offline: false }
}

fn fetch(repository: &str, settings: &Settings) -> Result<PathBuf, Error> {
    fetch_with(repository, settings, &Silent, &Interrupt::new())
}

/// The error of a fetch that fails, and whether it is the fault of what was asked.
fn refusal(repository: &str, settings: &Settings) -> (String, bool) {
    let error = fetch(repository, settings).unwrap_err();
    (error.to_string(), error.is_bad_input())
}

/// A model in the cache, as another tool leaves it.
fn by_another_tool(cache: &Path) -> PathBuf {
    let (folder, commit) = (cache.join("models--tiny--llama"), "c".repeat(40));
    let snapshot = folder.join("snapshots").join(&commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(folder.join("refs/main"), commit).unwrap();
    std::fs::write(snapshot.join("config.json"), golden("config.json")).unwrap();
    snapshot
}

#[test]
fn offline_uses_what_is_all_there() {
    let cache = tempfile::tempdir().unwrap();
    let mut settings = settings("http://127.0.0.1:1", cache.path());
    settings.offline = true;
    let (text, bad) = refusal("tiny/llama", &settings);
    assert!(bad && text.contains("no revision \"main\"") && text.contains("HF_HUB_OFFLINE"), "{text}");
    let snapshot = by_another_tool(cache.path());
    let (text, _) = refusal("tiny/llama", &settings);
    assert!(text.contains("does not have its model.safetensors"), "{text}");
    std::fs::write(snapshot.join("model.safetensors.index.json"), r#"{"weight_map":{"a":"x.safetensors"}}"#).unwrap();
    let (text, _) = refusal("tiny/llama", &settings);
    assert!(text.contains("does not have its x.safetensors"), "{text}");
    std::fs::write(snapshot.join("x.safetensors"), "x").unwrap();
    assert_eq!(fetch("tiny/llama", &settings).unwrap(), snapshot);
    assert_eq!(fetch(&format!("tiny/llama@{}", "c".repeat(40)), &settings).unwrap(), snapshot);
    let (text, bad) = refusal("../llama", &settings);
    assert!(bad && text.contains("expected hf:organisation/name"), "{text}");
}

#[test]
fn opening_a_model_of_a_hub_stops_when_asked() {
    let (pool, interrupt) = (Pool::new(1), Interrupt::new());
    interrupt.set();
    let work = Work { pool: &pool, progress: &Silent, interrupt: &interrupt };
    let error = Bundle::open("hf:tiny/no-such-model", work).unwrap_err();
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
}

#[cfg(not(feature = "hub"))]
#[test]
fn without_a_client_only_the_cache_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let settings = settings("http://127.0.0.1:1", cache.path());
    let (text, bad) = refusal("tiny/llama", &settings);
    assert!(bad && text.contains("--features hub") && text.contains("hf download tiny/llama"), "{text}");
    let snapshot = by_another_tool(cache.path());
    std::fs::write(snapshot.join("model.safetensors"), golden("model.safetensors")).unwrap();
    assert_eq!(fetch("tiny/llama", &settings).unwrap(), snapshot);
}

#[cfg(feature = "hub")]
mod online {
    use super::server::{Hub, Repository};
    use super::{Interrupt, fetch, fetch_with, golden, refusal, settings};
    use pare_format::directory::ModelDirectory;
    use std::path::{Path, PathBuf};

    fn single() -> Repository {
        Repository::new([("config.json", golden("config.json")), ("model.safetensors", golden("model.safetensors"))])
    }

    /// The golden model in two shards, each with half of its tensors.
    fn sharded() -> Repository {
        let bytes = golden("model.safetensors");
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let data = &bytes[8 + length..];
        let names: Vec<&String> = header.keys().filter(|name| *name != "__metadata__").collect();
        let (mut map, mut files) = (serde_json::Map::new(), vec![config()]);
        for (number, part) in names.chunks(names.len().div_ceil(2)).enumerate() {
            let file = format!("model-0000{}-of-00002.safetensors", number + 1);
            let (mut entries, mut body) = (serde_json::Map::new(), Vec::new());
            for &name in part {
                let mut entry = header[name].clone();
                let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
                let tensor = &data[at(0)..at(1)];
                let start = body.len();
                body.extend_from_slice(tensor);
                entry["data_offsets"] = serde_json::json!([start, body.len()]);
                entries.insert(name.clone(), entry);
                map.insert(name.clone(), file.clone().into());
            }
            let mut head = serde_json::to_vec(&entries).unwrap();
            head.resize(head.len().next_multiple_of(8), b' ');
            files.push((file, [&(head.len() as u64).to_le_bytes()[..], &head, &body].concat()));
        }
        files.push(index(&map.into()));
        Repository::new(files)
    }

    fn config() -> (String, Vec<u8>) {
        ("config.json".to_owned(), golden("config.json"))
    }

    fn index(map: &serde_json::Value) -> (String, Vec<u8>) {
        let text = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
        ("model.safetensors.index.json".to_owned(), text.into_bytes())
    }

    /// Every path below `folder`, links not followed.
    fn below(folder: &Path) -> Vec<PathBuf> {
        let mut all = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                all.push(entry.path());
            }
        }
        all
    }

    /// No name of the cache shows a file that is not whole.
    fn assert_nothing_half_written(cache: &Path, file: &str) {
        for path in below(cache) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name != file && !name.contains("incomplete") && !name.starts_with(".model"), "{}", path.display());
            assert_ne!(name, "refs", "leads to a commit that is not all there");
        }
    }

    #[test]
    fn a_single_file_is_fetched_once() {
        let mut repository = single();
        repository.add("tokenizer_config.json", b"{}".to_vec());
        repository.add("pytorch_model.bin", b"pickle".to_vec());
        let hub = Hub::start([("tiny/llama", repository)]);
        let cache = tempfile::tempdir().unwrap();
        let mut settings = settings(&hub.endpoint, cache.path());
        let snapshot = fetch("tiny/llama", &settings).unwrap();
        assert!(snapshot.ends_with(format!("models--tiny--llama/snapshots/{}", hub.commit)), "{}", snapshot.display());
        assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), golden("model.safetensors"));
        ModelDirectory::open(&snapshot).unwrap().check_tensor_names().unwrap();
        assert!(snapshot.join("tokenizer_config.json").is_file() && !snapshot.join("pytorch_model.bin").exists());
        let asked = hub.requests();
        assert!(asked.iter().all(|request| !request.contains("pytorch_model")), "{asked:?}");
        assert_eq!(asked.len(), 4, "{asked:?}");
        // A branch may have moved: only the list is asked for again.
        assert_eq!(fetch("tiny/llama", &settings).unwrap(), snapshot);
        assert_eq!(hub.requests().len(), 5);
        assert_eq!(fetch("tiny/llama@refs/pr/1", &settings).unwrap(), snapshot);
        assert!(hub.requests().last().unwrap().contains("/revision/refs%2Fpr%2F1?"));
        settings.offline = true;
        assert_eq!(fetch("tiny/llama", &settings).unwrap(), snapshot);
        assert_eq!(fetch("tiny/llama@refs/pr/1", &settings).unwrap(), snapshot);
        assert_eq!(hub.requests().len(), 6);
    }

    #[test]
    fn templates_beside_the_models_own_come_along() {
        for bare in [false, true] {
            let mut repository = single();
            repository.bare = bare;
            for file in ["tool_use.jinja", "../odd.jinja", "deep/er.jinja", ".hidden.jinja", "notes.txt", "a b.jinja"] {
                repository.add(&format!("additional_chat_templates/{file}"), b"{{ messages }}".to_vec());
            }
            let hub = Hub::start([("tiny/llama", repository)]);
            let cache = tempfile::tempdir().unwrap();
            let snapshot = fetch("tiny/llama", &settings(&hub.endpoint, cache.path())).unwrap();
            let model = ModelDirectory::open(&snapshot).unwrap();
            let names: Vec<&str> = model.templates().iter().map(|template| template.name.as_str()).collect();
            assert_eq!(names, ["tool_use"], "{:?}", hub.requests());
            assert_eq!(std::fs::read(&model.templates()[0].path).unwrap(), b"{{ messages }}");
            assert_eq!(
                hub.requests().iter().filter(|request| request.contains("additional_chat_templates")).count(),
                1
            );
        }
    }

    #[test]
    fn shards_are_those_of_the_index() {
        let hub = Hub::start([("tiny/sharded", sharded())]);
        let cache = tempfile::tempdir().unwrap();
        let snapshot = fetch("tiny/sharded", &settings(&hub.endpoint, cache.path())).unwrap();
        let model = ModelDirectory::open(&snapshot).unwrap();
        assert_eq!(model.shards().len(), 2);
        model.check_tensor_names().unwrap();
    }

    #[test]
    fn a_hub_that_tells_neither_size_nor_hash() {
        let mut repository = single();
        repository.bare = true;
        let hub = Hub::start([("tiny/llama", repository)]);
        let cache = tempfile::tempdir().unwrap();
        let snapshot = fetch("tiny/llama", &settings(&hub.endpoint, cache.path())).unwrap();
        ModelDirectory::open(&snapshot).unwrap().check_tensor_names().unwrap();
    }

    #[test]
    fn what_is_not_there_is_named() {
        let missing = Repository::new([config(), index(&serde_json::json!({"a": "gone.safetensors"}))]);
        let hostile = Repository::new([config(), index(&serde_json::json!({"a": "../x"}))]);
        let pickled = Repository::new([("config.json", golden("config.json")), ("pytorch_model.bin", b"x".to_vec())]);
        let mut lost = single();
        lost.listed_only = Some("model.safetensors".to_owned());
        let mut gated = single();
        gated.token = Some("hf_right".to_owned());
        let hub = Hub::start([
            ("tiny/missing", missing),
            ("tiny/hostile", hostile),
            ("tiny/pickled", pickled),
            ("tiny/lost", lost),
            ("tiny/gated", gated),
        ]);
        let cache = tempfile::tempdir().unwrap();
        let mut settings = settings(&hub.endpoint, &cache.path().join("hub"));
        for (repository, expected) in [
            ("tiny/nothing", "no such repository (404)"),
            ("tiny/lost@old", "has no revision \"old\""),
            ("tiny/missing", "lists \"gone.safetensors\", which the repository does not have"),
            ("tiny/hostile", "expected plain names of safetensors files"),
            ("tiny/pickled", "are pickle files (\"pytorch_model.bin\")"),
            ("tiny/lost", "does not have model.safetensors of it"),
            ("tiny/gated", "is gated: accept its terms"),
        ] {
            let (text, bad) = refusal(repository, &settings);
            assert!(bad && text.contains(expected), "{repository}: {text}");
        }
        assert!(!cache.path().join("x").exists() && !cache.path().join("hub/x").exists());
        settings.token = Some("hf_wrong".to_owned());
        let (text, bad) = refusal("tiny/gated", &settings);
        assert!(bad && text.contains("does not open it") && !text.contains("hf_wrong"), "{text}");
        settings.token = Some("hf_right".to_owned());
        ModelDirectory::open(fetch("tiny/gated", &settings).unwrap()).unwrap();
    }

    #[test]
    fn a_broken_download_shows_nothing_and_is_made_good() {
        for wrong_bytes in [false, true] {
            let mut repository = single();
            if wrong_bytes {
                repository.flip_once = Some("model.safetensors".to_owned());
            } else {
                repository.cut_once = Some("model.safetensors".to_owned());
            }
            let hub = Hub::start([("tiny/llama", repository)]);
            let cache = tempfile::tempdir().unwrap();
            let settings = settings(&hub.endpoint, cache.path());
            let (text, bad) = refusal("tiny/llama", &settings);
            let expected = if wrong_bytes { "sha256 is" } else { "the connection" };
            assert!(!bad && text.contains(expected) && text.contains("try again"), "{text}");
            // What came of it waits for the next fetch, unless it was wrong.
            let parts: Vec<PathBuf> = below(cache.path())
                .into_iter()
                .filter(|path| path.extension().is_some_and(|e| e == "incomplete"))
                .collect();
            assert_eq!(parts.len(), usize::from(!wrong_bytes), "{parts:?}");
            for path in below(cache.path()) {
                assert!(!path.ends_with("refs") && !path.ends_with("model.safetensors"), "{}", path.display());
            }
            let there = parts.first().map(|part| std::fs::metadata(part).unwrap().len() as usize);
            let snapshot = fetch("tiny/llama", &settings).unwrap();
            assert_eq!(hub.parts(), there.into_iter().collect::<Vec<_>>());
            assert!(below(cache.path()).iter().all(|path| path.extension().is_none_or(|e| e != "incomplete")));
            assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), golden("model.safetensors"));
        }
    }

    /// Keeps what the user is told.
    #[derive(Default)]
    struct Notes(std::sync::Mutex<Vec<String>>);

    impl pare_engine::progress::Progress for Notes {
        fn begin(&self, _: &str, _: u64) {}
        fn advance(&self, _: u64, _: &str) {}
        fn end(&self) {}
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn a_hub_that_is_not_there_and_a_cache_that_is_no_directory() {
        let hub = Hub::start([("tiny/llama", single())]);
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (text, bad) = refusal("tiny/llama", &settings(&hub.endpoint, &file));
        assert!(!bad && text.contains(&file.display().to_string()), "{text}");
        let mut settings = settings(&hub.endpoint, cache.path());
        let snapshot = fetch("tiny/llama", &settings).unwrap();
        drop(hub);
        let notes = Notes::default();
        assert_eq!(fetch_with("tiny/llama", &settings, &notes, &Interrupt::new()).unwrap(), snapshot);
        let notes = notes.0.into_inner().unwrap();
        let [note] = &notes[..] else { panic!("{notes:?}") };
        for part in ["hf:tiny/llama", &settings.endpoint, "cannot be reached", "the model that the cache has is used"] {
            assert!(note.contains(part), "{note}");
        }
        // Without all of it there is nothing to fall back to.
        std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
        let (text, bad) = refusal("tiny/llama", &settings);
        assert!(!bad && text.contains(&settings.endpoint) && text.contains("cannot be reached"), "{text}");
        std::fs::write(snapshot.join("model.safetensors"), golden("model.safetensors")).unwrap();
        settings.offline = true;
        assert_eq!(fetch("tiny/llama", &settings).unwrap(), snapshot);
    }

    #[test]
    fn an_interrupt_stops_before_the_next_file() {
        let hub = Hub::start([("tiny/llama", single())]);
        let cache = tempfile::tempdir().unwrap();
        let stop = pare_engine::progress::Interrupt::new();
        stop.set();
        let settings = settings(&hub.endpoint, cache.path());
        let error =
            pare_engine::hub::fetch_with("tiny/llama", &settings, &pare_engine::progress::Silent, &stop).unwrap_err();
        assert!(matches!(error, pare_engine::Error::Interrupted(_)), "{error}");
        assert_nothing_half_written(cache.path(), "config.json");
    }
}
