//! Files beside the weights: what they say is used and carried over, and nothing in them stands in the way of the weights.

use crate::tiny::{bundle, golden, tokenizer_json, work};
use pare_engine::bundle::Bundle;
use pare_engine::export::{Export, Target};
use pare_engine::write::{WriteAs, write_directory};
use pare_format::chat::Date;
use pare_format::safetensors::Dtype;
use pare_format::write::{NewFile, OutputDir};
use pare_kernels::pool::Pool;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A tiny qwen2, whose config.json names no end, with these files beside it.
fn with_files(folder: &Path, files: &[(&str, &str)]) -> Bundle {
    let model = folder.join("qwen2");
    drop(bundle("qwen2", folder));
    let mut config: Value = serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap();
    config["eos_token_id"] = Value::Null;
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    for (name, text) in files {
        let file = model.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    open(&model).unwrap()
}

fn open(path: &Path) -> Result<Bundle, String> {
    Bundle::open(&path.display().to_string(), work(&Pool::new(1))).map_err(|error| error.to_string())
}

fn rewritten(before: &Bundle, to: &Path) -> Bundle {
    let pool = Pool::new(1);
    let output = OutputDir::create(to, false).unwrap();
    write_directory(&output, before, &before.model, WriteAs::Type(Dtype::F32), work(&pool)).unwrap();
    output.commit().unwrap();
    open(to).unwrap()
}

fn exported(before: &Bundle, to: &Path) -> (Bundle, Vec<String>) {
    let pool = Pool::new(1);
    let export = Export::plan(before, Target::F32).unwrap();
    export.write(NewFile::create(to, false).unwrap(), work(&pool)).unwrap();
    (open(to).unwrap(), export.notes().to_vec())
}

/// The tokenizer's control token, which is known to end a turn.
const END: u32 = 96;

#[test]
fn ends_are_those_of_all_files_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let before = with_files(path, &[("generation_config.json", r#"{"eos_token_id": [5, 7, 999], "top_p": 0.5}"#)]);
    assert_eq!(before.ends, [5, 7, END]);
    assert!(before.is_end(7) && !before.is_end(6));
    assert!(before.warnings.iter().any(|warning| warning.contains("eos_token_id 999")), "{:?}", before.warnings);
    let after = rewritten(&before, &path.join("out"));
    assert_eq!(after.ends, before.ends);
    let kept = fs::read_to_string(path.join("out/generation_config.json")).unwrap();
    assert!(kept.contains("top_p"), "{kept}");
    let (after, _) = exported(&before, &path.join("out.gguf"));
    assert_eq!(after.ends, before.ends);
    // And from there to a directory, which never had a generation_config.json.
    assert_eq!(rewritten(&after, &path.join("again")).ends, before.ends);
}

#[test]
fn broken_side_files_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let before = with_files(
        folder.path(),
        &[
            ("generation_config.json", "version https://git-lfs.github.com/spec/v1\n"),
            ("tokenizer_config.json", r#"{"pad_token": "[PAD]", "chat_template": [{"name": "rag", "template": "x"}]}"#),
        ],
    );
    for part in ["Git LFS pointer", "pad_token \"[PAD]\""] {
        assert!(before.warnings.iter().any(|warning| warning.contains(part)), "{part}: {:?}", before.warnings);
    }
    let error = before.prompt("hi", true).unwrap_err().to_string();
    assert!(error.contains("only rag"), "{error}");
}

#[test]
fn templates_that_cannot_be_read_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_files(folder.path(), &[("chat_template.json", "version https://git-lfs.github.com/spec/v1\n")]));
    let model = folder.path().join("qwen2");
    fs::create_dir_all(model.join("chat_template.jinja")).unwrap();
    fs::create_dir_all(model.join("additional_chat_templates")).unwrap();
    fs::write(model.join("additional_chat_templates/rag.jinja"), [0xff, 0xfe]).unwrap();
    let opened = open(&model).unwrap();
    for part in [
        "chat_template.json: this is a Git LFS pointer",
        "chat_template.jinja: is a directory",
        "rag.jinja: is not UTF-8",
    ] {
        assert!(opened.warnings.iter().any(|warning| warning.contains(part)), "{part}: {:?}", opened.warnings);
    }
    assert!(opened.tokenizer.specials().other_templates.is_empty() && opened.tokenizer.chat_template().is_none());
}

#[test]
fn a_template_in_a_file_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let before = with_files(
        path,
        &[
            ("tokenizer_config.json", r#"{"chat_template": "OLD{{ messages[0].content }}"}"#),
            ("chat_template.jinja", "new {{ messages[0].content }} {{ strftime_now('%d %b %Y') }}"),
            ("additional_chat_templates/rag.jinja", "rag"),
        ],
    );
    let text = |bundle: &Bundle| bundle.tokenizer.decode(&bundle.prompt("hi", true).unwrap(), false);
    assert_eq!(text(&before), "new hi 26 Jul 2024");
    let date = Date { year: 2026, month: 3, day: 9 };
    let dated = Bundle { tokenizer: before.tokenizer.with_date(date), ..before };
    assert_eq!(text(&dated), "new hi 09 Mar 2026");
    for after in [rewritten(&dated, &path.join("out")), exported(&dated, &path.join("out.gguf")).0] {
        assert_eq!(text(&after), "new hi 26 Jul 2024");
        assert_eq!(after.tokenizer.specials().other_templates[0].source, "rag");
    }
}

#[test]
fn licences_are_carried_over() {
    let folder = tempfile::tempdir().unwrap();
    let before =
        with_files(folder.path(), &[("LICENSE", "do as you like"), ("NOTICE.txt", "by us"), ("README.md", "x")]);
    let out = folder.path().join("out");
    drop(rewritten(&before, &out));
    assert_eq!(fs::read_to_string(out.join("LICENSE")).unwrap(), "do as you like");
    assert_eq!(fs::read_to_string(out.join("NOTICE.txt")).unwrap(), "by us");
    assert!(!out.join("README.md").exists());
}

#[test]
fn special_tokens_in_a_prompt_are_read_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let before = bundle("llama-tied", folder.path());
    assert_eq!(before.raw_prompt("a<|end|>", true).unwrap()[1..], [END]);
    assert_eq!(before.raw_prompt("a<|end|>", false).unwrap().len(), 8);
    // Characters that the vocabulary lacks leave nothing.
    assert!(before.raw_prompt("\t", false).unwrap_err().to_string().contains("no tokens"));
    assert!(before.raw_prompt("", true).unwrap_err().to_string().contains("is empty"));
    let most = before.model.architecture.context;
    let error = before.check_length(&vec![0; most], 1).unwrap_err().to_string();
    assert!(before.check_length(&vec![0; most], 0).is_ok() && error.contains(&format!("holds {most}")), "{error}");
}

#[cfg(unix)]
#[test]
fn links_lead_into_a_cache_and_nowhere_else() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(bundle("llama-tied", path));
    let blobs = path.join("hub/models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let weights = path.join("llama-tied/model.safetensors");
    let blob = blobs.join("0123456789abcdef".repeat(4));
    fs::rename(&weights, &blob).unwrap();
    symlink(&blob, &weights).unwrap();
    open(&path.join("llama-tied")).unwrap();
    for elsewhere in [blobs.join("weights"), path.join("0123456789abcdef".repeat(4)), path.join("hub/blobs/x")] {
        fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        fs::copy(&blob, &elsewhere).unwrap();
        fs::remove_file(&weights).unwrap();
        symlink(&elsewhere, &weights).unwrap();
        let error = open(&path.join("llama-tied")).unwrap_err();
        assert!(error.contains("escapes the model directory") && error.contains("give the directory"), "{error}");
    }
    // A side file that leads out is left out.
    fs::remove_file(&weights).unwrap();
    fs::copy(&blob, &weights).unwrap();
    symlink(path.join("secret"), path.join("llama-tied/LICENSE")).unwrap();
    symlink(golden("README.md"), path.join("llama-tied/generation_config.json")).unwrap();
    let opened = open(&path.join("llama-tied")).unwrap();
    assert!(opened.kept.is_empty(), "{:?}", opened.kept);
    assert!(opened.warnings.iter().any(|warning| warning.contains("not used")), "{:?}", opened.warnings);
}

#[test]
fn what_is_missing_is_named_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(bundle("llama-tied", path));
    let model = path.join("llama-tied");
    let says = |folder: &Path, parts: &[&str]| {
        let error = open(folder).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    fs::create_dir(path.join("gguf")).unwrap();
    fs::write(path.join("gguf/a-Q8_0.gguf"), "GGUF").unwrap();
    says(&path.join("gguf"), &["config.json", "is missing", "a-Q8_0.gguf"]);
    fs::create_dir_all(path.join("models--a--b/snapshots/012345")).unwrap();
    says(&path.join("models--a--b"), &["is missing", "snapshots/012345"]);
    says(path, &["is missing", "the folder \"llama-tied\""]);
    fs::rename(model.join("model.safetensors"), model.join("pytorch_model.safetensors")).unwrap();
    says(&model, &["model.safetensors: is missing", "\"pytorch_model.safetensors\""]);
    fs::rename(model.join("pytorch_model.safetensors"), model.join("model.safetensors")).unwrap();
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    says(&model, &["tokenizer.json: is missing", "download tokenizer.json"]);
    fs::write(model.join("tokenizer.model"), "x").unwrap();
    says(&model, &["only 1 (\"tokenizer.model\")", "save_pretrained"]);
    fs::write(model.join("tokenizer.json"), tokenizer_json()).unwrap();
    let config = fs::read(model.join("config.json")).unwrap();
    fs::write(model.join("config.json"), [&b"\xef\xbb\xbf"[..], &config].concat()).unwrap();
    open(&model).unwrap();
}
