//! GGUF files as people have them: everything in a file is used or refused by name, and what was written is read back.

use crate::tiny::{bits, bundle, logits, sequences, work};
use crate::written::{expected, read_by_numpy};
use pare_engine::bundle::Bundle;
use pare_engine::export::{Export, Target};
use pare_engine::write::{WriteAs, write_directory};
use pare_format::config::{Family, Rope, Scaling};
use pare_format::gguf::{Array, GgmlType, GgufModel, GgufWriter, TensorSpec, Value};
use pare_format::safetensors::Dtype;
use pare_format::write::{NewFile, OutputDir};
use pare_kernels::pool::Pool;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The content of a file, to be changed and written again.
#[derive(Clone)]
struct File {
    keys: Vec<(String, Value)>,
    tensors: Vec<(TensorSpec, Vec<u8>)>,
}

impl File {
    fn read(path: &Path) -> Self {
        let model = GgufModel::open(path).unwrap();
        let tensors = model.tensors().map(|tensor| {
            let bytes = model.tensor(&tensor.name).unwrap().1.to_vec();
            let spec =
                TensorSpec { name: tensor.name.clone(), ggml_type: tensor.ggml_type, shape: tensor.shape.clone() };
            (spec, bytes)
        });
        Self { keys: model.header().metadata().to_vec(), tensors: tensors.collect() }
    }

    fn write(&self, path: &Path) {
        let specs: Vec<TensorSpec> = self.tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let mut writer = GgufWriter::new(path, std::fs::File::create(path).unwrap(), &self.keys, &specs).unwrap();
        for (spec, bytes) in &self.tensors {
            writer.tensor(&spec.name, bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    /// With a tensor of twos.
    fn with(mut self, name: &str, shape: &[usize]) -> Self {
        let spec = TensorSpec { name: name.to_owned(), ggml_type: GgmlType::F32, shape: shape.to_vec() };
        self.tensors.push((spec, 2.0f32.to_le_bytes().repeat(shape.iter().product())));
        self
    }

    fn without(mut self, end: &str) -> Self {
        self.tensors.retain(|(spec, _)| !spec.name.ends_with(end));
        self
    }

    /// With a key, in place of the one that is there.
    fn key(mut self, key: &str, value: Value) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    fn no_key(mut self, key: &str) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }
}

fn open(path: &Path) -> Result<Bundle, String> {
    Bundle::open(&path.display().to_string(), work(&Pool::new(1))).map_err(|error| error.to_string())
}

fn export(bundle: &Bundle, target: Target, to: &Path) -> Result<(), String> {
    let pool = Pool::new(1);
    let plan = Export::plan(bundle, target).map_err(|error| error.to_string())?;
    plan.write(NewFile::create(to, false).unwrap(), work(&pool)).map(drop).map_err(|error| error.to_string())
}

fn directory(bundle: &Bundle, write_as: WriteAs, to: &Path) {
    let (pool, output) = (Pool::new(1), OutputDir::create(to, false).unwrap());
    write_directory(&output, bundle, &bundle.model, write_as, work(&pool)).unwrap();
    output.commit().unwrap();
}

/// The bits of the logits of some text.
fn says(bundle: &Bundle) -> Vec<u32> {
    bits(&logits(&bundle.model, &sequences(1, 40, 128, 8).remove(0), &Pool::new(1)))
}

/// A family's model as a file.
fn file_of(family: &str, folder: &Path) -> File {
    let path = folder.join(format!("{family}.gguf"));
    export(&bundle(family, folder), Target::F32, &path).unwrap();
    File::read(&path)
}

/// What is said of `file`; nothing when it is read.
fn refusal(file: &File, folder: &Path) -> Option<String> {
    let path = folder.join("tried.gguf");
    file.write(&path);
    open(&path).err()
}

#[test]
fn every_tensor_is_used_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let [llama, qwen2, qwen3] = ["llama-tied", "qwen2", "qwen3"].map(|family| file_of(family, place));
    let refused = |file: File, name: &str| {
        let said = refusal(&file, place).unwrap_or_else(|| panic!("{name} was ignored"));
        assert!(said.contains(&format!("tensor {name:?}")), "{name}: {said}");
    };
    for (name, shape) in [
        ("blk.0.attn_q_norm.weight", &[16][..]),
        ("blk.0.post_attention_norm.weight", &[64]),
        ("blk.0.ffn_sub_norm.weight", &[80]),
        ("blk.2.attn_norm.weight", &[64]),
        ("output.bias", &[128]),
        ("rope_factors_long.weight", &[8]),
        ("blk.1.ffn_gate_inp.weight", &[64, 4]),
        ("token_types.weight", &[64]),
    ] {
        refused(llama.clone().with(name, shape), name);
    }
    refused(qwen2.clone().with("blk.0.attn_output.bias", &[64]), "blk.0.attn_output.bias");
    refused(qwen3.clone().with("blk.1.ffn_up.bias", &[80]), "blk.1.ffn_up.bias");
    for (spec, _) in &llama.tensors {
        let stem = spec.name.trim_end_matches(".weight");
        refused(llama.clone().with(&format!("{stem}.scale"), &[1]), &format!("{stem}.scale"));
        // The embedding names the vocabulary, and is asked for first.
        refused(llama.clone().without(&spec.name), &spec.name);
    }
    let several = llama.clone().with("a", &[1]).with("b", &[1]).with("c", &[1]);
    assert!(refusal(&several, place).unwrap().contains("and 2 more (\"b\", \"c\")"));
    // What adds to the function is used, where the architecture has a place for it.
    let plain = open(&place.join("llama-tied.gguf")).unwrap();
    for name in ["blk.0.attn_q.bias", "blk.1.attn_k.bias", "blk.0.attn_output.bias", "blk.1.ffn_down.bias"] {
        let width = if name.contains("attn_k") { 32 } else { 64 };
        let path = place.join("bias.gguf");
        llama.clone().with(name, &[width]).write(&path);
        let own = open(&path).unwrap();
        assert_ne!(says(&own), says(&plain), "{name}");
        let again = place.join(name);
        directory(&own, WriteAs::Type(Dtype::F32), &again);
        assert_eq!(says(&open(&again).unwrap()), says(&own), "{name}");
    }
}

#[test]
fn every_key_that_changes_the_function_is_used_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let llama = file_of("llama-tied", place);
    let plain = says(&open(&place.join("llama-tied.gguf")).unwrap());
    let float = Value::F32;
    for (key, value) in [
        ("expert_count", Value::U32(4)),
        ("attention.causal", Value::Bool(false)),
        ("attention.scale", float(0.5)),
        ("attention.value_length", Value::U32(8)),
        ("attention.max_alibi_bias", float(8.0)),
        ("attention.clamp_kqv", float(1.0)),
        ("rope.dimension_count", Value::U32(8)),
        ("rope.dimension_count", Value::Array(Array::I32(vec![16, 8]))),
        ("rope.dimension_sections", Value::Array(Array::I32(vec![4, 2, 2, 0]))),
        ("rope.scaling.attn_factor", float(1.25)),
        ("rope.scaling.type", Value::text("longrope")),
        ("logit_scale", float(0.0625)),
        ("residual_scale", float(0.5)),
        ("embedding_scale", float(12.0)),
        ("final_logit_softcapping", float(30.0)),
        ("use_parallel_residual", Value::Bool(true)),
        ("a_key_of_tomorrow", Value::Bool(false)),
    ] {
        let key = format!("llama.{key}");
        let file = llama.clone().key("llama.rope.scaling.factor", float(1.0)).key(&key, value.clone());
        let said = refusal(&file, place).unwrap_or_else(|| panic!("{key} {} was ignored", value.describe()));
        assert!(said.contains(&format!("field {key:?}")), "{said}");
    }
    for (key, value) in [
        ("expert_count", Value::U32(0)),
        ("attention.causal", Value::Bool(true)),
        ("attention.scale", float(0.25)),
        ("attention.sliding_window", Value::U32(64)),
        ("logit_scale", float(1.0)),
        ("rope.scaling.attn_factor", float(1.0)),
        ("rope.scaling.finetuned", Value::Bool(true)),
        ("rope.scaling.factor", float(0.0)),
        ("rope.dimension_count", Value::Array(Array::I32(vec![16, 16]))),
        ("vocab_size", Value::U32(7)),
    ] {
        let path = place.join("neutral.gguf");
        llama.clone().key(&format!("llama.{key}"), value).write(&path);
        assert_eq!(says(&open(&path).unwrap()), plain, "{key}");
    }
    let of_other = llama.clone().key("general.type", Value::text("adapter"));
    assert!(refusal(&of_other, place).unwrap().contains("general.type"));
}

#[test]
fn a_factor_of_rotary_positions_counts_under_each_of_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let linear = file_of("llama-linear", place);
    let expected = says(&open(&place.join("llama-linear.gguf")).unwrap());
    let (kind, factor) = ("llama.rope.scaling.type", "llama.rope.scaling.factor");
    let old = "llama.rope.scale_linear";
    let of = |file: File| {
        let path = place.join("scaled.gguf");
        file.write(&path);
        let found = open(&path).unwrap();
        (says(&found), found.config.rope.scaling)
    };
    assert_eq!(of(linear.clone().no_key(kind)).0, expected, "a factor without a type is linear");
    assert_eq!(of(linear.clone().no_key(kind).no_key(factor).key(old, Value::F32(2.0))).0, expected);
    assert_eq!(of(linear.clone().key(old, Value::F32(2.0))).0, expected);
    assert_eq!(of(linear.clone().key(kind, Value::text("none"))).1, Scaling::None, "the type none overrules a factor");
    let two = linear.clone().key(old, Value::F32(3.0));
    assert!(refusal(&two, place).unwrap().contains("rope.scale_linear"));
    let yarn = linear.clone().key(kind, Value::text("yarn"));
    let usual = of(yarn.clone());
    let sharpened = of(yarn.clone().key("llama.rope.scaling.attn_factor", Value::F32(1.5)));
    let Scaling::Yarn { attention_factor: Some(own), factor: 2.0, .. } = sharpened.1 else {
        panic!("{:?}", sharpened.1)
    };
    assert!((own - 1.5 * (0.1 * 2.0f64.ln() + 1.0)).abs() < 1e-12 && sharpened.0 != usual.0);
    let turns = of(yarn.key("llama.rope.scaling.yarn_beta_fast", Value::F32(8.0)));
    assert!(matches!(turns.1, Scaling::Yarn { beta_fast: 8.0, beta_slow: 1.0, .. }));
}

#[test]
fn a_window_below_the_context_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    for (family, architecture, windowed) in
        [("llama-tied", "llama", Family::Mistral), ("qwen2", "qwen2", Family::Qwen2), ("qwen3", "qwen3", Family::Qwen3)]
    {
        let path = folder.path().join(format!("{family}-window.gguf"));
        let key = format!("{architecture}.attention.sliding_window");
        let file = file_of(family, folder.path());
        let plain = says(&open(&folder.path().join(format!("{family}.gguf"))).unwrap());
        file.key(&key, Value::U32(48)).write(&path);
        let found = open(&path).unwrap();
        assert_eq!((found.model.architecture.context, found.config.family), (48, windowed), "{family}");
        assert!((0..2).all(|block| found.config.window(block) == Some(48)), "{family}");
        assert_eq!(says(&found), plain, "within the window nothing changes");
    }
}

/// Sets the scaling of rotary positions.
fn scaled(mut bundle: Bundle, scaling: &Scaling) -> Bundle {
    let rope = Rope { theta: bundle.config.rope.theta, scaling: scaling.clone() };
    bundle.config.rope = rope.clone();
    bundle.model.architecture.rope = rope;
    bundle
}

/// Divisors that no formula gives, for heads of `head_dim`.
fn divisors(head_dim: usize) -> Scaling {
    let some = [1.0, 1.5, 1.25, 2.0, 3.0, 7.0, 5.5, 4.0];
    Scaling::Divisors(some.into_iter().cycle().take(head_dim / 2).collect())
}

#[test]
fn llama_3_scaling_comes_back_from_its_divisors() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let before = bundle("llama-llama3-biases", place);
    let path = place.join("llama3.gguf");
    export(&before, Target::F32, &path).unwrap();
    let file = File::read(&path);
    assert!(file.keys.iter().all(|(key, _)| !key.contains("rope.scaling")), "the tensor alone says it");
    let after = open(&path).unwrap();
    assert_eq!((says(&after), &after.config.rope), (says(&before), &before.config.rope));
    // Other divisors are another model, which both forms keep.
    let own = scaled(before, &divisors(16));
    assert_ne!(says(&own), says(&after));
    let path = place.join("own.gguf");
    export(&own, Target::F32, &path).unwrap();
    let found = open(&path).unwrap();
    assert_eq!((says(&found), found.config.rope.scaling.clone()), (says(&own), divisors(16)));
    let written = place.join("own-written");
    directory(&found, WriteAs::Type(Dtype::F32), &written);
    let again = open(&written).unwrap();
    assert_eq!((says(&again), &again.config.rope), (says(&own), &own.config.rope));
    read_by_numpy(&written, &expected(&own.model, &Pool::new(1)));
    assert!(again.config.obstacle().is_some(), "no other program reads divisors from a directory");

    let both = file.clone().key("llama.rope.scaling.type", Value::text("linear"));
    let both = both.key("llama.rope.scaling.factor", Value::F32(2.0));
    assert!(refusal(&both, place).unwrap().contains("rope_freqs.weight"));
    let mut broken = file;
    let (_, bytes) = broken.tensors.iter_mut().find(|(spec, _)| spec.name == "rope_freqs.weight").unwrap();
    bytes[..4].copy_from_slice(&0.0f32.to_le_bytes());
    assert!(refusal(&broken, place).unwrap().contains("finite and above 0"));
}

#[test]
fn what_is_written_is_read_back_with_equal_logits() {
    let folder = tempfile::tempdir().unwrap();
    let yarn = |factor: f64, attention_factor| Scaling::Yarn {
        factor,
        original_context: 48,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor,
    };
    let scalings = |head_dim| {
        [
            Scaling::None,
            Scaling::Linear { factor: 2.5 },
            Scaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 32 },
            yarn(4.0, None),
            yarn(1.3, Some(1.2)),
            divisors(head_dim),
        ]
    };
    let mut exported = 0;
    for family in ["llama-tied", "llama-llama3-biases", "mistral", "qwen2", "qwen3"] {
        let head_dim = crate::tiny::family(family).architecture.head_dim;
        for (number, scaling) in scalings(head_dim).iter().enumerate() {
            for (target, dtype) in [("f32", Dtype::F32), ("f16", Dtype::F16), ("bf16", Dtype::BF16)] {
                let place: PathBuf = folder.path().join(format!("{family}-{number}-{target}"));
                std::fs::create_dir(&place).unwrap();
                let name = format!("{family} {scaling:?} {target}");
                // What was written once is exact in its type.
                directory(&scaled(bundle(family, &place), scaling), WriteAs::Type(dtype), &place.join("once"));
                let once = open(&place.join("once")).unwrap();
                assert_eq!(&once.config.rope.scaling, scaling, "{name}");
                directory(&once, WriteAs::Type(dtype), &place.join("twice"));
                assert_eq!(says(&open(&place.join("twice")).unwrap()), says(&once), "{name}");
                let path = place.join("file.gguf");
                match export(&once, Target::find(target).unwrap(), &path) {
                    Ok(()) => {
                        assert_eq!(says(&open(&path).unwrap()), says(&once), "{name}");
                        exported += 1;
                    }
                    Err(said) => {
                        let llama = ["llama-tied", "llama-llama3-biases", "mistral"].contains(&family);
                        let divided = matches!(scaling, Scaling::Llama3 { .. } | Scaling::Divisors(_));
                        let allowed = divided && !llama || number == 4;
                        assert!(allowed && said.contains("cannot be exported"), "{name}: {said}");
                    }
                }
            }
        }
    }
    // Of 90 all but divided frequencies in the two families without a place for them, and sharpening that the format does not say.
    assert_eq!(exported, 90 - 2 * 2 * 3 - 5 * 3);
}

#[test]
fn a_stored_head_counts_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let tied = bundle("llama-tied", place);
    // Untied by the configuration, then said to be tied.
    let mut other = bundle("llama-linear", place);
    other.model.head = Some(pare_model::weight::Linear::new(Arc::clone(&bundle("qwen2", place).model.embedding)));
    let expected = says(&other);
    let path = place.join("head");
    directory(&other, WriteAs::Type(Dtype::F32), &path);
    let said = |value: &str| {
        let config = std::fs::read_to_string(path.join("config.json")).unwrap();
        let old = if value == "true" { "false" } else { "true" };
        let (from, to) = (format!("\"tie_word_embeddings\": {old}"), format!("\"tie_word_embeddings\": {value}"));
        assert!(config.contains(&from));
        std::fs::write(path.join("config.json"), config.replace(&from, &to)).unwrap();
    };
    said("true");
    let found = open(&path).unwrap();
    assert_eq!((says(&found), found.config.tied), (expected.clone(), false));
    assert!(found.warnings.iter().any(|warning| warning.contains("the stored head is used")), "{:?}", found.warnings);
    directory(&found, WriteAs::Type(Dtype::F32), &place.join("again"));
    directory(&found, WriteAs::find("q8_0").unwrap(), &place.join("blocks"));
    let again = open(&place.join("again")).unwrap();
    assert_eq!((says(&again), again.warnings.len()), (expected.clone(), 0));
    let blocks = open(&place.join("blocks")).unwrap();
    assert!(blocks.model.head.is_some() && blocks.warnings.is_empty());
    let file = place.join("head.gguf");
    export(&found, Target::F32, &file).unwrap();
    assert_eq!(says(&open(&file).unwrap()), expected);

    // The reverse: no head where one is announced.
    let path = place.join("llama-tied");
    let config = std::fs::read_to_string(path.join("config.json")).unwrap();
    let from = "\"tie_word_embeddings\": true";
    assert!(config.contains(from));
    std::fs::write(path.join("config.json"), config.replace(from, "\"tie_word_embeddings\": false")).unwrap();
    let found = open(&path).unwrap();
    assert_eq!((says(&found), found.config.tied), (says(&tied), true));
    assert!(found.warnings.iter().any(|warning| warning.contains("the embedding is used")), "{:?}", found.warnings);
}

#[test]
fn biases_on_queries_keys_and_values_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let file = file_of("llama-llama3-biases", place);
    let path = place.join("qkv.gguf");
    file.without("attn_output.bias").without("ffn_gate.bias").write(&path);
    let found = open(&path).unwrap();
    let mut expected = bundle("llama-llama3-biases", &{
        let place = place.join("other");
        std::fs::create_dir(&place).unwrap();
        place
    });
    for block in &mut expected.model.blocks {
        block.attention_mut().unwrap().o.bias = None;
        block.ffn.as_mut().unwrap().gate.bias = None;
    }
    assert_eq!(says(&found), says(&expected));
    for (name, to) in [("directory", place.join("written")), ("file", place.join("written.gguf"))] {
        match name {
            "directory" => directory(&found, WriteAs::Type(Dtype::F32), &to),
            _ => export(&found, Target::F32, &to).unwrap(),
        }
        assert_eq!(says(&open(&to).unwrap()), says(&expected), "{name}");
    }
}

/// Writes `file` in `count` parts as `llama-gguf-split` does: the first has the metadata.
fn split(file: &File, count: usize, folder: &Path) -> Vec<PathBuf> {
    let each = file.tensors.len().div_ceil(count);
    let short = |value: usize| Value::U16(value as u16);
    let write = |(no, tensors): (usize, &[(TensorSpec, Vec<u8>)])| {
        let keys = if no == 0 { file.keys.clone() } else { Vec::new() };
        let part = File { keys, tensors: tensors.to_vec() }
            .key("split.no", short(no))
            .key("split.count", short(count))
            .key("split.tensors.count", Value::I32(file.tensors.len() as i32));
        let path = folder.join(format!("model-{:05}-of-{count:05}.gguf", no + 1));
        part.write(&path);
        path
    };
    file.tensors.chunks(each).enumerate().map(write).collect()
}

#[test]
fn a_part_of_a_split_model_loads_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let file = file_of("llama-llama3-biases", place);
    let whole = open(&place.join("llama-llama3-biases.gguf")).unwrap();
    let parts = split(&file, 3, place);
    let size: u64 = parts.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    for path in &parts {
        let found = open(path).unwrap();
        assert_eq!((says(&found), found.bytes), (says(&whole), size), "{}", path.display());
    }
    // What is exported of the parts is what is exported of the whole.
    let found = open(&parts[0]).unwrap();
    let [of_parts, of_whole] = ["of-parts.gguf", "of-whole.gguf"].map(|name| place.join(name));
    export(&found, Target::F32, &of_parts).unwrap();
    export(&whole, Target::F32, &of_whole).unwrap();
    assert!(std::fs::read(&of_parts).unwrap() == std::fs::read(&of_whole).unwrap());

    let refused = |path: &Path, fragments: &[&str]| {
        let said = open(path).unwrap_err();
        assert!(fragments.iter().all(|fragment| said.contains(fragment)), "{said}");
    };
    let named = place.join("renamed.gguf");
    std::fs::copy(&parts[0], &named).unwrap();
    refused(&named, &["renamed.gguf: is part 1 of 3 and called otherwise", "-00001-of-00003.gguf"]);
    let second = std::fs::read(&parts[1]).unwrap();
    std::fs::remove_file(&parts[1]).unwrap();
    refused(&parts[0], &["model-00002-of-00003.gguf: is missing, part 2 of 3"]);
    std::fs::copy(&parts[2], &parts[1]).unwrap();
    refused(&parts[0], &["part 3 is given twice"]);
    std::fs::write(&parts[1], second).unwrap();
    assert!(open(&parts[0]).is_ok());
    // A later part that says more of the model than the first.
    let more = file.clone().key("llama.logit_scale", Value::F32(0.5));
    let later = File { keys: more.keys, tensors: File::read_part(&parts[2]) }
        .key("split.no", Value::U16(2))
        .key("split.count", Value::U16(3))
        .key("split.tensors.count", Value::I32(file.tensors.len() as i32));
    later.write(&parts[2]);
    refused(&parts[0], &["model-00003-of-00003.gguf", "field \"llama.logit_scale\"", "nothing, as in"]);
}

impl File {
    /// The tensors of one part alone.
    fn read_part(path: &Path) -> Vec<(TensorSpec, Vec<u8>)> {
        let bytes = std::fs::read(path).unwrap();
        let gguf = pare_format::gguf::Gguf::parse(path, &bytes).unwrap();
        let of = |tensor: &pare_format::gguf::GgufTensor| {
            let spec =
                TensorSpec { name: tensor.name.clone(), ggml_type: tensor.ggml_type, shape: tensor.shape.clone() };
            (spec, bytes[tensor.range.clone()].to_vec())
        };
        gguf.tensors().iter().map(of).collect()
    }
}
