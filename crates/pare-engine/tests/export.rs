//! A model as a GGUF file: read back it computes the same, and what the format cannot say is refused.

use crate::tiny::{bits, bundle, family, logits, sequences, work};
use pare_engine::bundle::Bundle;
use pare_engine::export::{Export, Target, Written};
use pare_format::gguf::{Gguf, Value};
use pare_format::map::MappedFile;
use pare_format::write::NewFile;
use pare_kernels::BlockType;
use pare_kernels::pool::{Pool, default_threads};
use pare_model::matrix::Matrix;
use pare_model::model::Model;
use pare_model::plan::{Edit, Plan};
use pare_model::storage::Dense;
use pare_model::weight::Weight;
use std::path::Path;
use std::sync::Arc;

fn export(bundle: &Bundle, target: Target, to: &Path, pool: &Pool) -> Result<Written, String> {
    let plan = Export::plan(bundle, target).map_err(|error| error.to_string())?;
    let file = NewFile::create(to, false).map_err(|error| error.to_string())?;
    plan.write(file, work(pool)).map_err(|error| error.to_string())
}

fn open(path: &Path) -> Bundle {
    Bundle::open(&path.display().to_string(), work(&Pool::new(1))).unwrap()
}

/// A family's model with other blocks, and nothing of it on the disk.
fn edited(name: &str, folder: &Path, edits: Vec<Edit>) -> Bundle {
    let mut bundle = bundle(name, folder);
    bundle.model = bundle.model.apply(&Plan { edits }).unwrap();
    bundle.rewritten = true;
    bundle
}

#[test]
fn every_family_comes_back_to_the_bit() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    for (name, architecture) in [
        ("llama-tied", "llama"),
        ("llama-linear", "llama"),
        ("mistral", "llama"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen3"),
    ] {
        let before = bundle(name, folder.path());
        let path = folder.path().join(format!("{name}.gguf"));
        let written = export(&before, Target::F32, &path, &pool).unwrap();
        assert_eq!((written.architecture, written.bytes), (architecture, std::fs::metadata(&path).unwrap().len()));
        let after = open(&path);
        let tokens = sequences(1, 40, 128, 8).remove(0);
        assert_eq!(bits(&logits(&after.model, &tokens, &pool)), bits(&logits(&before.model, &tokens, &pool)), "{name}");
        let text = "a: B~ c";
        assert_eq!(after.tokenizer.encode(text, true).unwrap(), before.tokenizer.encode(text, true).unwrap());
        // And once more from the GGUF file: the same bytes.
        let again = folder.path().join(format!("{name}-again.gguf"));
        export(&after, Target::F32, &again, &pool).unwrap();
        let tensors = |path: &Path| {
            let file = MappedFile::open(path).unwrap();
            let gguf = Gguf::parse(path, file.bytes()).unwrap();
            file.bytes()[gguf.data_start()..].to_vec()
        };
        assert!(tensors(&path) == tensors(&again), "{name}");
    }
}

/// Relative root mean square error over all projections.
fn weight_error(old: &Model, new: &Model) -> f64 {
    let values = |model: &Model| -> Vec<f64> {
        let linears = model.blocks.iter().flat_map(|block| block.linears());
        linears.flat_map(|(_, linear)| linear.to_matrix().into_vec()).map(f64::from).collect()
    };
    let (old, new) = (values(old), values(new));
    let off: f64 = old.iter().zip(&new).map(|(a, b)| (a - b).powi(2)).sum();
    (off / old.iter().map(|v| v * v).sum::<f64>()).sqrt()
}

/// Blocks that differ, one without attention, one without a feed-forward layer, one with neither.
fn pieces(model: Model) -> Model {
    let edits = vec![
        Edit::KeepChannels { block: 0, channels: (0..64).collect() },
        Edit::KeepGroups { block: 1, groups: vec![1] },
        Edit::DropAttention { block: 2 },
        Edit::DropFfn { block: 3 },
        Edit::DropAttention { block: 4 },
        Edit::DropFfn { block: 4 },
    ];
    model.apply(&Plan { edits }).unwrap()
}

#[test]
fn blocks_that_differ_come_back_with_the_same_logits() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let mut before = bundle("llama-tied", folder.path());
    let five = crate::tiny::five_blocks();
    before.model.blocks = pieces(five).blocks;
    let path = folder.path().join("pieces.gguf");
    let written = export(&before, Target::F32, &path, &pool).unwrap();
    assert_eq!(written.architecture, "deci");
    let file = MappedFile::open(&path).unwrap();
    let gguf = Gguf::parse(&path, file.bytes()).unwrap();
    let list = |key: &str| gguf.opt_u32s(&format!("deci.{key}")).unwrap().unwrap();
    // The fourth block gets a feed-forward layer of zeros, and the fifth is left out.
    assert_eq!(list("attention.head_count"), [4, 2, 0, 4]);
    assert_eq!(list("attention.head_count_kv"), [2, 1, 0, 2]);
    assert_eq!(list("feed_forward_length"), [64, 72, 72, 32]);
    let after = open(&path);
    let tokens = sequences(1, 40, 128, 8).remove(0);
    // Adding a part that gives zeros can turn -0.0 into 0.0 and nothing else.
    assert_eq!(logits(&after.model, &tokens, &pool), logits(&before.model, &tokens, &pool));
    assert!(after.config.uneven.is_some());
}

#[test]
fn a_first_block_without_attention_gets_one_of_zeros() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let before = edited("llama-tied", folder.path(), vec![Edit::DropAttention { block: 0 }]);
    let path = folder.path().join("first.gguf");
    export(&before, Target::F32, &path, &pool).unwrap();
    let after = open(&path);
    assert_eq!(after.model.blocks[0].attention().unwrap().heads, 1);
    let tokens = sequences(1, 30, 128, 8).remove(0);
    assert_eq!(logits(&after.model, &tokens, &pool), logits(&before.model, &tokens, &pool));
}

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let before = bundle("llama-tied", folder.path());
    for name in Target::names() {
        let target = Target::find(name).unwrap();
        let paths = [1, 3].map(|threads| {
            let path = folder.path().join(format!("{name}-{threads}.gguf"));
            export(&before, target, &path, &Pool::new(threads)).unwrap();
            path
        });
        let bytes = paths.each_ref().map(|path| std::fs::read(path).unwrap());
        assert!(bytes[0] == bytes[1], "{name}");
        let off = weight_error(&before.model, &open(&paths[0]).model);
        let most = match target {
            Target::F32 => 0.0,
            Target::F16 | Target::Bf16 => 2e-3,
            Target::Plain(BlockType::Q8_0) => 0.01,
            Target::Plain(BlockType::Q4_0 | BlockType::Q4_1) => 0.12,
            // Rows of 80 and 64 fall back to f16 and blocks of 32.
            _ => 0.06,
        };
        assert!(off <= most, "{name}: {off}");
    }
}

#[test]
fn what_the_format_cannot_say_is_refused() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let to = folder.path().join("never.gguf");
    let refused = |bundle: &Bundle| {
        let error = export(bundle, Target::F16, &to, &pool).unwrap_err();
        assert!(!to.exists() && error.contains("cannot be exported"), "{error}");
        error
    };
    let place = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let uneven = edited("qwen2", &place("a"), vec![Edit::DropFfn { block: 1 }]);
    assert!(refused(&uneven).contains("not of qwen2"));
    assert!(refused(&bundle("llama-yarn", &place("b"))).contains("beta_fast 8"));
    let mut other = bundle("qwen3", &place("c"));
    other.model.blocks[0].linear_mut(pare_model::site::Projection::Down).unwrap().bias = Some(vec![0.5; 64].into());
    assert!(refused(&other).contains("no bias on the feed-forward layer"));
    let mut norms = bundle("llama-tied", &place("d"));
    norms.model.blocks[1].attention_mut().unwrap().q_norm = Some(vec![1.0; 16].into());
    assert!(refused(&norms).contains("norms of heads"));
    let none = edited("llama-tied", &place("e"), (0..2).map(|block| Edit::DropBlock { block }).collect());
    assert!(refused(&none).contains("no block"));
    let mut heads = bundle("qwen2", &place("f"));
    heads.model = heads
        .model
        .apply(&Plan {
            edits: vec![0, 1].into_iter().map(|block| Edit::KeepGroups { block, groups: vec![0] }).collect(),
        })
        .unwrap();
    assert!(refused(&heads).contains("32 wide together"));
}

#[test]
fn numbers_that_a_type_cannot_hold_are_refused_by_tensor_and_place() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let mut before = bundle("llama-tied", folder.path());
    let to = folder.path().join("never.gguf");
    for (value, says) in [(f32::NAN, "not a finite number"), (f32::NEG_INFINITY, "not a finite number"), (1e6, "bf16")]
    {
        let mut matrix = family("llama-tied").blocks[1].ffn.as_ref().unwrap().up.to_matrix();
        *matrix.row_mut(7).get_mut(3).unwrap() = value;
        before.model.blocks[1].ffn.as_mut().unwrap().up.weight =
            Arc::new(Dense(Matrix::from_vec(80, 64, matrix.into_vec())));
        let error = export(&before, Target::F16, &to, &pool).unwrap_err();
        assert!(error.contains("\"blk.1.ffn_up.weight\": row 7, column 3") && error.contains(says), "{error}");
        assert!(std::fs::read_dir(folder.path()).unwrap().count() == 1, "nothing half-written is left");
    }
    assert!(export(&before, Target::F32, &to, &pool).is_ok(), "f32 holds a million");
}

#[test]
fn off_grid_weights_compute_nearly_the_same() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    for name in ["llama-tied", "llama-llama3-biases", "mistral", "qwen2", "qwen3"] {
        let before = bundle(name, folder.path());
        let tokens = sequences(1, 40, 128, 8).remove(0);
        let expected = logits(&before.model, &tokens, &pool);
        let model = before.model.clone();
        let after = before.off_grid(3).unwrap();
        let moved = |a: &dyn Weight, b: &dyn Weight| {
            let [a, b] = [a, b].map(|weight| {
                let mut values = vec![0.0; weight.shape()[0] * weight.shape()[1]];
                weight.decode_all(&mut values);
                values
            });
            a.iter().zip(&b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64
        };
        // Every matrix, embedding and head too.
        assert!(moved(model.embedding.as_ref(), after.model.embedding.as_ref()) > 0.9, "{name}");
        if let (Some(a), Some(b)) = (&model.head, &after.model.head) {
            assert!(moved(a.weight.as_ref(), b.weight.as_ref()) > 0.9, "{name}");
        }
        let found = logits(&after.model, &tokens, &pool);
        assert_ne!(bits(&found), bits(&expected), "{name}");
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let most = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        assert!(off < 0.1 * most, "{name}: {off} of {most}");
    }
}

/// The real model: f16 holds its Q4_1 values nearly, and blocks that differ come back.
#[test]
fn the_real_model_goes_there_and_back() {
    let (pool, folder) = (Pool::new(default_threads()), tempfile::tempdir().unwrap());
    let mut before = Bundle::open("smollm2-135m", work(&pool)).unwrap();
    let tokens = before.tokenizer.encode("The capital of France is Paris, and the river", false).unwrap();
    let copy = folder.path().join("copy.gguf");
    let written = export(&before, Target::Plain(BlockType::Q4_1), &copy, &pool).unwrap();
    // Bytes that are there already are copied, not encoded again.
    assert_eq!(written.tensors.get("Q4_1"), Some(&210));
    assert_eq!(bits(&logits(&open(&copy).model, &tokens, &pool)), bits(&logits(&before.model, &tokens, &pool)));

    let edits = vec![
        Edit::DropAttention { block: 3 },
        Edit::DropFfn { block: 9 },
        Edit::KeepChannels { block: 5, channels: (0..1000).collect() },
        Edit::KeepGroups { block: 7, groups: vec![0, 2] },
    ];
    before.model = before.model.apply(&Plan { edits }).unwrap();
    before.rewritten = true;
    let path = folder.path().join("deci.gguf");
    assert_eq!(export(&before, Target::F16, &path, &pool).unwrap().architecture, "deci");
    let (old, new) = (logits(&before.model, &tokens, &pool), logits(&open(&path).model, &tokens, &pool));
    let off = old.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 0.05, "{off}");
    let file = MappedFile::open(&path).unwrap();
    let gguf = Gguf::parse(&path, file.bytes()).unwrap();
    assert_eq!(gguf.get("general.file_type"), Some(&Value::U32(1)));
    assert_eq!(gguf.str("tokenizer.ggml.pre").unwrap(), "smollm");
}
