//! What was read in blocks is written in blocks: no matrix is plain afterwards, and nothing becomes larger.

use crate::forms::{open, wide, write};
use crate::tiny::{sequences, work};
use pare_engine::as_read::{AsRead, in_blocks as blocks_of};
use pare_engine::bundle::Bundle;
use pare_engine::prove::{Job, Made, result_bytes, size_note};
use pare_engine::recipe::{BUILT_IN, Recipe};
use pare_engine::text::Text;
use pare_engine::write::WriteAs;
use pare_format::write::OutputDir;
use pare_kernels::blocks::BlockType;
use pare_kernels::pool::Pool;
use pare_methods::allocate;
use pare_methods::card::Grain;
use pare_model::site::Projection;
use pare_model::storage::Element;
use pare_model::weight::Weight;
use std::path::Path;

/// The wide model in blocks of type `ty`, read from its files.
fn in_blocks(ty: BlockType, folder: &Path, pool: &Pool) -> Bundle {
    let (before, to) = (wide(folder), folder.join(ty.name()));
    write(&before, &before.model, &ty.name().to_lowercase(), &to, pool).unwrap();
    open(&to, pool)
}

fn text() -> Text {
    Text { sequences: sequences(8, 64, 128, 4), origin: "a test".to_owned() }
}

/// Shrinks as `pare shrink` does without an option, and reads back what was written.
fn shrunk(bundle: &Bundle, recipe: &Recipe, keep: f64, to: &Path, pool: &Pool) -> (Made, WriteAs, Bundle) {
    let write_as = WriteAs::Auto.of(recipe, &bundle.model);
    let calibration = text();
    let job = Job { bundle, recipe, keep, calibration: &calibration, seed: 1, write_as, resumable: false };
    let output = OutputDir::create(to, false).unwrap();
    let made = job.run(&output, work(pool)).unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
    output.commit().unwrap();
    (made, write_as, open(to, pool))
}

fn rows(weight: &dyn Weight) -> Vec<Vec<u8>> {
    let stored = weight.as_stored().unwrap();
    (0..weight.shape()[0]).map(|row| stored.row_bytes(row).to_vec()).collect()
}

#[test]
fn a_cut_leaves_every_matrix_in_the_blocks_that_it_was_read_in() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let recipe = Recipe::find("slim").unwrap();
    for ty in BlockType::ALL {
        let folder = folder.path().join(ty.name());
        std::fs::create_dir(&folder).unwrap();
        let before = in_blocks(ty, &folder, &pool);
        let (made, write_as, after) = shrunk(&before, &recipe, 0.8, &folder.join("out"), &pool);
        assert_eq!(write_as, WriteAs::AsRead);
        assert!(made.written.bytes < before.bytes, "{ty:?}: {} of {}", made.written.bytes, before.bytes);
        assert_eq!(rows(after.model.embedding.as_ref()), rows(before.model.embedding.as_ref()), "{ty:?}");
        for (index, (was, is)) in before.model.blocks.iter().zip(&after.model.blocks).enumerate() {
            assert!(is.ffn.as_ref().unwrap().width() < 512, "{ty:?}");
            for (projection, linear) in is.linears() {
                let was = was.linear(projection).unwrap();
                // 512 channels are too few steps of 256, so that rows of the reader no longer divide by it.
                let falls_back = projection == Projection::Down && ty.values_per_block() > 32;
                let kept = blocks_of(linear.weight.as_ref()).unwrap_or_else(|| panic!("{ty:?}: {projection} is plain"));
                assert!(falls_back || kept == Element::Block(ty), "{ty:?}, block {index}: {projection} is {kept:?}");
                // What was not repaired is copied: no row is new.
                let (was, is) = (rows(was.weight.as_ref()), rows(linear.weight.as_ref()));
                assert!(
                    projection == Projection::Down || is.iter().all(|row| was.contains(row)),
                    "{ty:?}: {projection}"
                );
            }
        }
        // The codes were chosen by what reaches the reader.
        let rounded: Vec<_> = made.shrunk.encoded.iter().map(|encoded| encoded.projection).collect();
        assert_eq!(rounded, [Projection::Down; 2], "{ty:?}");
        assert!(made.shrunk.encoded.iter().all(|encoded| encoded.info.error.unwrap() > 0.0), "{ty:?}");
    }
}

#[test]
fn masks_keep_their_zeros_in_blocks_that_hold_one() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = in_blocks(BlockType::Q4_1, folder.path(), &pool);
    for name in ["wanda", "wanda-2of4", "sparsegpt", "random"] {
        let recipe = Recipe::find(name).unwrap();
        let (made, _, after) = shrunk(&before, &recipe, 0.5, &folder.path().join(name), &pool);
        assert!(made.written.bytes <= before.bytes, "{name}");
        for block in &after.model.blocks {
            for (projection, linear) in block.linears() {
                assert_eq!(
                    blocks_of(linear.weight.as_ref()),
                    Some(Element::Block(BlockType::Q4_0)),
                    "{name}: {projection}"
                );
                let matrix = linear.to_matrix();
                let zeros = matrix.data().iter().filter(|value| **value == 0.0).count();
                assert!(2 * zeros >= matrix.data().len(), "{name}: {projection} has {zeros} zeros");
            }
        }
        assert!(
            made.shrunk
                .notes
                .iter()
                .any(|note| note.contains("Q4_1 are kept in Q4_0") || note.contains("read in Q4_1 are kept in Q4_0")),
            "{name}: {:?}",
            made.shrunk.notes
        );
    }
    let note = |recipe: &str, keep, write_as| size_note(&before, &Recipe::find(recipe).unwrap(), keep, write_as);
    let larger = note("slim", 0.8, WriteAs::Auto).unwrap();
    assert!(larger.contains("larger than what was read") && larger.contains("without --dtype"), "{larger}");
    assert!(note("slim", 0.8, WriteAs::AsRead).is_none());
    assert!(note("asvd", 0.8, WriteAs::Kept).unwrap().contains("larger than what was read"));
}

#[test]
fn what_rounding_made_zero_counts_as_kept() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = in_blocks(BlockType::Q4_0, folder.path(), &pool);
    let zeros = |bundle: &Bundle| {
        let linears = bundle.model.blocks.iter().flat_map(|block| block.linears());
        let (mut zeros, mut all) = (0, 0);
        for matrix in linears.map(|(_, linear)| linear.to_matrix()) {
            zeros += matrix.data().iter().filter(|value| **value == 0.0).count();
            all += matrix.data().len();
        }
        zeros as f64 / all as f64
    };
    assert!(zeros(&before) > 0.05, "4 bits hold many zeros that nobody removed: {}", zeros(&before));
    for (name, keep) in [("random", 0.8), ("wanda", 0.9), ("sparsegpt", 0.8), ("sparsegpt-int4", 0.5)] {
        let (made, _, after) = shrunk(&before, &Recipe::find(name).unwrap(), keep, &folder.path().join(name), &pool);
        assert!((made.shrunk.kept - keep).abs() < 0.01, "{name}: {} of {keep}", made.shrunk.kept);
        assert!(zeros(&after) > 1.0 - keep + 0.01, "{name}: {} zeros", zeros(&after));
    }
    // What leaves as a whole is counted by what is left.
    let recipe = Recipe::find("slim").unwrap();
    let (made, ..) = shrunk(&before, &recipe, 0.8, &folder.path().join("slim"), &pool);
    let [was, is] = [&before.model, &made.shrunk.model].map(|model| model.parameters().blocks as f64);
    assert!((made.shrunk.kept - is / was).abs() < 0.01 && made.shrunk.kept < 0.85, "{}", made.shrunk.kept);
}

#[test]
fn zeros_in_place_are_said_to_save_nothing() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let before = in_blocks(BlockType::Q8_0, folder.path(), &pool);
    let said = size_note(&before, &Recipe::find("wanda").unwrap(), 0.5, WriteAs::AsRead).unwrap();
    assert!(said.contains("zeros are stored") && said.contains("no smaller"), "{said}");
}

#[test]
fn no_recipe_that_ends_in_plain_numbers_writes_more_than_was_read() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = in_blocks(BlockType::Q4_1, folder.path(), &pool);
    assert!(AsRead::of(&before.model).is_some());
    let mut seen = 0;
    for (name, _) in BUILT_IN {
        let recipe = Recipe::find(name).unwrap();
        if WriteAs::Auto.of(&recipe, &before.model) != WriteAs::AsRead || !recipe.rewrite.is_empty() {
            continue;
        }
        // Of two blocks, whole parts leave in large steps.
        let parts = recipe.cut.iter().any(|cut| matches!(cut.grain, Grain::Attention | Grain::Ffn | Grain::Block));
        let keep = if parts { 0.5 } else { recipe.keep };
        // Those that measure what every choice does take long, and end as the others do.
        let measures = recipe.cut.iter().any(|cut| allocate::find(&cut.allocate).unwrap().measures);
        if measures || pare_engine::prove::check(&before, &recipe, keep, WriteAs::AsRead).is_err() {
            continue;
        }
        let (made, write_as, _) = shrunk(&before, &recipe, keep, &folder.path().join(name), &pool);
        assert!(made.written.bytes <= before.bytes, "{name}: {} of {}", made.written.bytes, before.bytes);
        let expected = result_bytes(&before.model, &recipe, keep, write_as);
        let off = made.written.bytes.abs_diff(expected);
        assert!(off < expected / 4 + 8192, "{name}: {} written, {expected} expected", made.written.bytes);
        seen += 1;
    }
    assert!(seen >= 15, "{seen} recipes");
}
