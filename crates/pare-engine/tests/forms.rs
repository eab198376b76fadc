//! Directories in pare's own forms: what is written is read back to the bit, refused where it does not fit, and read by numpy.

use crate::tiny::{bits, bundle, json_of, logits, sequences, work};
use crate::written::{expected, read_by_numpy};
use pare_engine::bundle::Bundle;
use pare_engine::write::{WriteAs, weight_bytes, write_directory};
use pare_format::write::OutputDir;
use pare_kernels::block_diagonal::BlockDiagonal;
use pare_kernels::blocks::{BlockType, RowType};
use pare_kernels::panels::PanelType;
use pare_kernels::pool::Pool;
use pare_kernels::sparse::{EightRows, SparseType, TwoOfFour};
use pare_model::matrix::Matrix;
use pare_model::model::{Model, PackAs};
use pare_model::rng::SplitMix64;
use pare_model::site::Projection;
use pare_model::storage::{Dense, LowRank, Sparse, Sum, Wrapped};
use pare_model::weight::Weight;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const FORMS: [&str; 12] = [
    "q8_0",
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "q4_k",
    "q5_k",
    "q6_k",
    "2of4-f16",
    "2of4-int8",
    "rows8-f16",
    "rows8-int8",
];

/// Numbers that f16 holds, none of them -0, when `scale` is a power of 2.
fn random(shape: [usize; 2], scale: f32, seed: u64) -> Matrix {
    let mut rng = SplitMix64::new(seed);
    let mut number = || ((2.0 * rng.unit() - 1.0) * 1024.0).round() as f32 / 1024.0 * scale + 0.0;
    Matrix::from_vec(shape[0], shape[1], (0..shape[0] * shape[1]).map(|_| number()).collect())
}

/// A tied llama of width 256, so that rows are whole blocks, whose projections have both patterns: of 8 rows, inputs 0 and 1 of 4.
pub(crate) fn wide(folder: &Path) -> Bundle {
    let mut bundle = bundle("llama-tied", folder);
    let (hidden, ffn, keys) = (256, 512, 128);
    (bundle.config.hidden, bundle.config.ffn, bundle.config.head_dim) = (hidden, ffn, 64);
    let model = &mut bundle.model;
    (model.architecture.hidden, model.architecture.head_dim) = (hidden, 64);
    model.embedding = Arc::new(Dense(random([128, hidden], 1.0, 1)));
    model.final_norm = vec![1.0; hidden].into();
    for (index, block) in model.blocks.iter_mut().enumerate() {
        for (at, projection) in Projection::ALL.into_iter().enumerate() {
            let shape = match projection {
                Projection::Q | Projection::O => [hidden, hidden],
                Projection::K | Projection::V => [keys, hidden],
                Projection::Gate | Projection::Up => [ffn, hidden],
                Projection::Down => [hidden, ffn],
            };
            let mut matrix = random(shape, 0.125, (10 * index + at + 2) as u64);
            for row in 0..shape[0] {
                let values = matrix.row_mut(row).iter_mut().enumerate();
                values.filter(|(column, _)| (column + row / 8) % 4 > 1).for_each(|(_, value)| *value = 0.0);
            }
            block.linear_mut(projection).unwrap().weight = Arc::new(Dense(matrix));
        }
        let norm: Arc<[f32]> = vec![1.0; hidden].into();
        block.ffn.as_mut().unwrap().norm = Arc::clone(&norm);
        let pare_model::block::Mixer::Attention(part) = block.mixer.as_mut().unwrap() else { panic!("attention") };
        part.norm = norm;
    }
    bundle
}

pub(crate) fn write(
    before: &Bundle,
    model: &Model,
    name: &str,
    to: &Path,
    pool: &Pool,
) -> Result<BTreeMap<String, String>, String> {
    let output = OutputDir::create(to, false).unwrap();
    let write_as = WriteAs::find(name).unwrap();
    assert_eq!(write_as.name(), name);
    let written = write_directory(&output, before, model, write_as, work(pool)).map_err(|error| error.to_string())?;
    output.commit().unwrap();
    assert_eq!(written.bytes, weight_bytes(to).unwrap());
    Ok(written
        .storages
        .into_iter()
        .map(|(name, kept)| (name, kept.values.map_or(kept.kind.clone(), |values| format!("{}-{values}", kept.kind))))
        .collect())
}

pub(crate) fn open(path: &Path, pool: &Pool) -> Bundle {
    Bundle::open(&path.display().to_string(), work(pool)).unwrap()
}

/// What a projection becomes, from the kernels alone.
fn stored(name: &str, weight: &dyn Weight, pool: &Pool) -> Arc<dyn Weight> {
    let [out, inn] = weight.shape();
    let row = |row: usize, to: &mut [f32]| weight.decode_row(row, to);
    let ty = if name.ends_with("int8") { SparseType::Int8 } else { SparseType::F16 };
    if name.starts_with("2of4") {
        return Arc::new(Sparse::two_of_four(TwoOfFour::pack(ty, out, inn, &row, pool).unwrap()));
    }
    if name.starts_with("rows8") {
        return Arc::new(Sparse::eight_rows(EightRows::pack(ty, out, inn, &row, pool).unwrap()));
    }
    let ty = BlockType::ALL.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name)).unwrap();
    let (mut values, mut decoded) = (vec![0.0; inn], Matrix::zeros(out, inn));
    let mut bytes = vec![0; inn / ty.values_per_block() * ty.bytes_per_block()];
    for o in 0..out {
        row(o, &mut values);
        RowType::Blocks(ty).encode(&values, &mut bytes);
        ty.decode(&bytes, decoded.row_mut(o));
    }
    Arc::new(Dense(decoded))
}

#[test]
fn every_form_is_read_back_to_the_bit_written_again_the_same_and_read_by_numpy() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = wide(folder.path());
    let tokens = sequences(1, 40, 128, 8).remove(0);
    let path = |name: &str| folder.path().join(name);
    for name in FORMS {
        let storages = write(&before, &before.model, name, &path(name), &pool).unwrap();
        let blocks = !name.contains('-');
        assert_eq!(storages.len(), if blocks { 15 } else { 14 }, "{name}: {storages:?}");
        let embedding = if name == "q6_k" { "q6_k" } else { "q8_0" };
        assert_eq!(
            storages.get("model.embed_tokens.weight").map(String::as_str),
            blocks.then_some(embedding),
            "{name}"
        );
        assert!(storages.iter().all(|(weight, kept)| kept == name || weight.contains("embed")), "{name}: {storages:?}");
        let config = json_of(&path(name).join("config.json"));
        assert_eq!(config["quantization_config"]["quant_method"], "pare", "{name}");

        let again = open(&path(name), &pool);
        let mut expected_model = before.model.clone();
        for block in &mut expected_model.blocks {
            for projection in Projection::ALL {
                let linear = block.linear_mut(projection).unwrap();
                linear.weight = stored(name, linear.weight.as_ref(), &pool);
            }
        }
        if blocks {
            expected_model.embedding = stored(embedding, before.model.embedding.as_ref(), &pool);
        }
        assert_eq!(
            bits(&logits(&again.model, &tokens, &pool)),
            bits(&logits(&expected_model, &tokens, &pool)),
            "{name}"
        );
        let packed = again.model.packed(PackAs::Stored, &pool);
        for (_, linear) in packed.blocks[0].linears() {
            assert!(linear.weight.product().is_some() && linear.weight.name().eq_ignore_ascii_case(name), "{name}");
        }

        write(&again, &again.model, name, &path(&format!("{name}-again")), &pool).unwrap();
        let file = |name: &str| std::fs::read(path(name).join("model.safetensors")).unwrap();
        assert!(
            file(name) == file(&format!("{name}-again")),
            "{name}: what is read and written again is the same file"
        );
        read_by_numpy(&path(name), &expected(&again.model.packed(PackAs::Exact, &pool), &pool));
        write(&again, &again.model, "f32", &path(&format!("{name}-plain")), &pool).unwrap();
        assert!(json_of(&path(&format!("{name}-plain/config.json")))["quantization_config"].is_null(), "{name}");
    }
}

#[test]
fn rows_that_are_no_whole_blocks_fall_back() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    // C 64 and F 80: no row is a block of 256, and those of the down projections are none of 32.
    let before = bundle("llama-tied", folder.path());
    for (name, inner) in [("q4_k", "q5_0"), ("q5_k", "q5_1"), ("q6_k", "q8_0"), ("q4_0", "q4_0")] {
        let storages = write(&before, &before.model, name, &folder.path().join(name), &pool).unwrap();
        assert_eq!(storages.len(), 13, "{storages:?}");
        for (weight, kept) in &storages {
            assert!(!weight.contains("down_proj"), "{weight}");
            assert_eq!(kept, if weight.contains("embed") { "q8_0" } else { inner }, "{name}: {weight}");
        }
        let again = open(&folder.path().join(name), &pool);
        assert_eq!(again.model.blocks[0].linear(Projection::Down).unwrap().weight.name(), "f16");
    }
}

#[test]
fn a_projection_without_the_pattern_is_refused_with_its_name_row_and_a_way_out() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let before = bundle("llama-tied", folder.path());
    for (name, says) in [
        ("2of4-int8", ["model.layers.0.self_attn.q_proj.weight", "row 0: 4 of the inputs 0 to 3", "recipe wanda-2of4"]),
        ("2of4-f16", ["model.layers.0.self_attn.q_proj.weight", "row 0: 4 of the inputs 0 to 3", "another --dtype"]),
        (
            "rows8-f16",
            ["model.layers.0.self_attn.q_proj.weight", "rows 0 to 7 keep 64 of 64 columns", "recipe wanda-8rows"],
        ),
        ("rows8-int8", ["model.layers.0.self_attn.q_proj.weight", "rows 0 to 7 keep 64 of 64", "another --dtype"]),
    ] {
        let to = folder.path().join(name);
        let said = write(&before, &before.model, name, &to, &pool).unwrap_err();
        assert!(says.iter().all(|what| said.contains(what)), "{name}: {said}");
        assert!(!to.exists(), "nothing half-written is left");
    }
    let second = tempfile::tempdir().unwrap();
    let mut wide = wide(second.path());
    let mut large = random([256, 256], 0.0, 1);
    large.row_mut(9)[4] = 1e6;
    wide.model.blocks[1].linear_mut(Projection::O).unwrap().weight = Arc::new(Dense(large));
    for name in ["2of4-f16", "rows8-f16"] {
        let said = write(&wide, &wide.model, name, &folder.path().join(name), &pool).unwrap_err();
        assert!(said.contains("model.layers.1.self_attn.o_proj.weight: row 9: "), "{name}: {said}");
    }
    let said = write(&wide, &wide.model, "q4_0", &folder.path().join("q4_0"), &pool).unwrap_err();
    assert!(said.contains("model.layers.1.self_attn.o_proj.weight.q4_0") && said.contains("row 9, column 4"), "{said}");
}

#[test]
fn what_is_made_of_several_weights_is_written_so() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = wide(folder.path());
    let mut model = before.model.clone();
    let dense = |shape, seed| -> Arc<dyn Weight> { Arc::new(Dense(random(shape, 0.125, seed))) };
    let projection =
        |block: &mut pare_model::block::Block, which, with: &dyn Fn(Arc<dyn Weight>) -> Arc<dyn Weight>| {
            let linear = block.linear_mut(which).unwrap();
            linear.weight = with(Arc::clone(&linear.weight));
        };
    let diagonal = |count, size, seed| {
        let numbers = random([count * size, size], 0.5, seed);
        let row = |block: usize, row: usize, to: &mut [f32]| to.copy_from_slice(numbers.row(block * size + row));
        Arc::new(BlockDiagonal::pack(PanelType::F32, count, size, &row, &pool))
    };
    let low_rank = || -> Arc<dyn Weight> { Arc::new(LowRank::new(dense([512, 7], 50), dense([7, 256], 51)).unwrap()) };
    projection(&mut model.blocks[0], Projection::Up, &|core| Arc::new(Sum::new(vec![core, low_rank()]).unwrap()));
    projection(&mut model.blocks[0], Projection::Gate, &|_| low_rank());
    projection(&mut model.blocks[1], Projection::Q, &|core| {
        Arc::new(Wrapped::new(diagonal(8, 32, 60), core, diagonal(256, 1, 61)).unwrap())
    });
    let to = folder.path().join("composed");
    let storages = write(&before, &model, "2of4-f16", &to, &pool).unwrap();
    let kind = |name: &str| storages[&format!("model.layers.{name}.weight")].as_str();
    let kinds = [kind("0.mlp.up_proj"), kind("0.mlp.gate_proj"), kind("1.self_attn.q_proj"), kind("1.mlp.up_proj")];
    assert_eq!(kinds, ["sum", "low_rank", "wrapped", "2of4-f16"]);
    let again = open(&to, &pool);
    let tokens = sequences(1, 40, 128, 8).remove(0);
    assert_eq!(bits(&logits(&again.model, &tokens, &pool)), bits(&logits(&model, &tokens, &pool)));
    read_by_numpy(&to, &expected(&again.model, &pool));
}
