//! What was written is read back to the bit, and understood by a reader that shares no code with pare.

use crate::tiny::{bits, bundle, golden, logits, sequences, work};
use pare_engine::bundle::Bundle;
use pare_engine::prove::bytes_to_write;
use pare_engine::recipe::Recipe;
use pare_engine::shrink::{Request, shrink};
use pare_engine::write::{WriteAs, allows_bias, describe, weight_bytes, write_directory};
use pare_format::safetensors::Dtype;
use pare_format::write::OutputDir;
use pare_kernels::pool::Pool;
use pare_model::model::Model;
use pare_model::plan::{Edit, Plan};
use pare_model::site::Projection;
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Channels and groups of every block, refitted by least squares.
const EVEN: &str = "name = \"even\"\nabout = \"test\"\nsource = \"own\"\nkeep = 0.6\n\
    [[cut]]\ngrain = \"channel\"\nscore = \"wanda\"\ncompensate = \"least-squares\"\nshare = 0.5\nmultiple = 8\n\
    [[cut]]\ngrain = \"group\"\nscore = \"wanda\"\ncompensate = \"least-squares\"\nshare = 0.5\n";
/// As slim-free, with a multiple that fits small blocks.
const UNEVEN: &str = "name = \"uneven\"\nabout = \"test\"\nsource = \"own\"\nkeep = 0.7\n\
    [[cut]]\ngrain = \"channel\"\nscore = \"magnitude\"\nallocate = \"global\"\ncompensate = \"least-squares\"\n";

pub(crate) fn shrunk(bundle: &Bundle, recipe: &str, pool: &Pool) -> Model {
    let recipe = Recipe::parse("test.toml", recipe).unwrap();
    let calibration = sequences(6, 40, 128, 4);
    let bias_allowed = |projection| allows_bias(&bundle.config, &recipe, projection);
    let request = Request {
        recipe: &recipe,
        keep: recipe.keep,
        calibration: &calibration,
        seed: 0,
        bias_allowed: &bias_allowed,
        form: None,
        job: None,
    };
    shrink(&bundle.model, &request, work(pool)).unwrap().model
}

fn write(before: &Bundle, model: &Model, dtype: Dtype, to: &Path, pool: &Pool) {
    let output = OutputDir::create(to, false).unwrap();
    let written = write_directory(&output, before, model, WriteAs::Type(dtype), work(pool)).unwrap();
    output.commit().unwrap();
    assert_eq!((written.bytes, written.storages.len()), (weight_bytes(to).unwrap(), 0));
}

/// Logits of some texts at their last position, as `tools/hf_logits.py --check` reads them.
pub(crate) fn expected(model: &Model, pool: &Pool) -> String {
    let prompts: Vec<_> = [1, 9, 30]
        .into_iter()
        .zip(20..)
        .map(|(length, seed)| {
            let ids = sequences(1, length, 128, seed).remove(0);
            let all = logits(model, &ids, pool);
            json!({ "ids": ids, "logits": all[all.len() - 128..] })
        })
        .collect();
    json!({ "prompts": prompts }).to_string()
}

/// Runs the numpy reader over `directory`.
pub(crate) fn read_by_numpy(directory: &Path, expected: &str) {
    let python = std::env::var_os("PARE_PYTHON_NUMPY").expect("PARE_PYTHON_NUMPY is not set: run cargo xtask test");
    let file = directory.with_extension("expected.json");
    std::fs::write(&file, expected).unwrap();
    let script = golden("../tools/hf_logits.py");
    let output = Command::new(python).arg("-B").arg(script).arg(directory).arg("--check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", directory.display());
    assert_eq!(said.matches("\"same_top1\": true").count(), 3, "{said}");
}

/// Writes `model` in f32, reads it back, and compares bits and the independent reader.
pub(crate) fn there_and_back(before: &Bundle, model: &Model, to: &Path, pool: &Pool) -> Bundle {
    write(before, model, Dtype::F32, to, pool);
    let again = Bundle::open(&to.display().to_string(), work(pool)).unwrap();
    let tokens = sequences(1, 40, 128, 8).remove(0);
    assert_eq!(bits(&logits(&again.model, &tokens, pool)), bits(&logits(model, &tokens, pool)), "{}", to.display());
    assert!(again.model.parameters().total >= model.parameters().total, "zeros may fill up biases");
    read_by_numpy(to, &expected(model, pool));
    again
}

#[test]
fn an_even_result_is_read_back_to_the_bit_and_by_numpy() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    for (family, has_bias) in
        [("llama-tied", true), ("llama-llama3-biases", true), ("qwen2", false), ("qwen3", false), ("mistral", false)]
    {
        let before = bundle(family, folder.path());
        let model = shrunk(&before, EVEN, &pool);
        for block in &model.blocks {
            assert_eq!(
                (block.attention().unwrap().groups, block.ffn.as_ref().unwrap().width() % 8),
                (1, 0),
                "{family}"
            );
            assert!(block.ffn.as_ref().unwrap().width() < 80, "{family}");
            assert_eq!(block.linear(Projection::Down).unwrap().bias.is_some(), has_bias, "{family}");
        }
        let again = there_and_back(&before, &model, &folder.path().join(format!("{family}-even")), &pool);
        assert!(again.config.uneven.is_none(), "{family}");
        assert_eq!(again.config.obstacle(), None, "{family}: other programs can read it");
    }
}

#[test]
fn an_uneven_result_is_read_back_to_the_bit_and_by_numpy() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    for family in ["llama-tied", "llama-llama3-biases", "qwen2", "qwen3", "mistral"] {
        let before = bundle(family, folder.path());
        // Whatever the scores say, the blocks differ.
        let plan = Plan { edits: vec![Edit::KeepChannels { block: 0, channels: (0..71).collect() }] };
        let free = shrunk(&before, UNEVEN, &pool)
            .apply(&Plan { edits: vec![Edit::KeepGroups { block: 1, groups: vec![1] }] })
            .unwrap();
        let partless = before
            .model
            .apply(&Plan { edits: vec![Edit::DropAttention { block: 0 }, Edit::DropFfn { block: 1 }] })
            .unwrap();
        for (name, model) in [("free", free), ("one", before.model.apply(&plan).unwrap()), ("partless", partless)] {
            let again = there_and_back(&before, &model, &folder.path().join(format!("{family}-{name}")), &pool);
            assert!(again.config.uneven.is_some() && again.config.obstacle().is_some(), "{family} {name}");
            assert_eq!(describe(&again.config, &again.model, Dtype::F32, false).blocks, 2, "{family} {name}");
        }
    }
}

#[test]
fn the_bytes_to_write_are_known_before_the_work() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let before = bundle("llama-tied", folder.path());
    let (single, half) = (WriteAs::Type(Dtype::F32), WriteAs::Auto);
    for (recipe, keep) in [(EVEN.to_owned(), 0.6), (EVEN.replace("keep = 0.6", "keep = 1.0"), 1.0)] {
        let to = folder.path().join(keep.to_string());
        write(&before, &shrunk(&before, &recipe, &pool), Dtype::F32, &to, &pool);
        let recipe = Recipe::parse("test.toml", &recipe).unwrap();
        let expected = bytes_to_write(&before.model, &recipe, keep, single, false);
        // The header is extra; floors and multiples of small blocks keep a little more or less than asked.
        let found = weight_bytes(&to).unwrap();
        assert!(found.abs_diff(expected) < expected / 10 + 4096, "{found}, expected {expected}");
    }
    let (masks, parameters) = (Recipe::find("wanda").unwrap(), before.model.parameters().total);
    assert_eq!(bytes_to_write(&before.model, &masks, 0.5, half, false), 2 * parameters);
    assert_eq!(bytes_to_write(&before.model, &masks, 0.5, single, true), 10 * parameters);
}

#[test]
fn half_precision_is_written_rounded_once() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let before = bundle("llama-tied", folder.path());
    assert_eq!(WriteAs::Auto.dtype(&before.model), Dtype::F16, "a model that is stored in f32");
    let path = |name: &str| folder.path().join(name);
    write(&before, &before.model, Dtype::F32, &path("whole"), &pool);
    write(&before, &before.model, Dtype::F16, &path("half"), &pool);
    let half = Bundle::open(&path("half").display().to_string(), work(&pool)).unwrap();
    let parameters = before.model.parameters().total;
    assert!(weight_bytes(&path("whole")).unwrap() > 4 * parameters && half.bytes < 2 * parameters + 8192);
    let worst =
        half.model.blocks[0].linears().zip(before.model.blocks[0].linears()).fold(0.0f32, |worst, ((_, a), (_, b))| {
            let (a, b) = (a.to_matrix(), b.to_matrix());
            a.data().iter().zip(b.data()).fold(worst, |worst, (a, b)| worst.max((a - b).abs() / b.abs().max(1e-4)))
        });
    assert!(worst > 0.0 && worst <= 1.0 / 2048.0, "{worst}");
    write(&half, &half.model, WriteAs::Auto.dtype(&half.model), &path("again"), &pool);
    let file = |name: &str| std::fs::read(path(name).join("model.safetensors")).unwrap();
    assert!(file("half") == file("again"), "what is read and written again is the same file");
}

#[test]
fn a_weight_that_the_type_cannot_hold_is_refused() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let before = bundle("llama-tied", folder.path());
    let mut model = before.model.clone();
    model.final_norm = vec![1e6; 64].into();
    let to = folder.path().join("overflow");
    let output = OutputDir::create(&to, false).unwrap();
    let error =
        write_directory(&output, &before, &model, WriteAs::Type(Dtype::F16), work(&pool)).unwrap_err().to_string();
    assert!(error.contains("model.norm.weight"), "{error}");
    drop(output);
    assert!(!to.exists(), "nothing half-written is left");
}
