use super::*;
use crate::observe::observe;
use crate::progress::Interrupt;
use pare_format::directory::ModelDirectory;
use pare_kernels::pool::Pool;
use pare_model::load::from_directory;
use pare_model::matrix::Matrix;
use pare_model::site::{Point, Projection};
use pare_model::storage::Dense;
use std::path::Path;

static NEVER: Interrupt = Interrupt::new();

fn work(pool: &Pool) -> Work<'_> {
    Work { pool, progress: &Silent, interrupt: &NEVER }
}

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families/llama-tied");
    let mut model = from_directory(&ModelDirectory::open(folder).unwrap()).unwrap().model;
    model.blocks = model.blocks.iter().cycle().take(5).cloned().collect();
    model
}

fn texts() -> Vec<Vec<u32>> {
    (0..7).map(|text: u32| (0..11 + text).map(|at| (text * 31 + at * 17) % 128).collect()).collect()
}

#[test]
fn blocks_that_are_not_run_again_change_no_bit() {
    let (pool, model, texts) = (Pool::new(2), model(), texts());
    let mut text = OnText::new(&model, Split::of(&texts).unwrap(), work(&pool));
    let at = |block, point, stat| (Site::new(block, point), stat);
    let mut changed = model.clone();
    changed.blocks[2].ffn = None;
    let mut embedded = model.clone();
    embedded.embedding = Arc::clone(&model.embedding);
    let mut other = model.clone();
    let rows = (0..128).flat_map(|token| (0..64).map(move |at| ((token * 7 + at) % 13) as f32)).collect();
    other.embedding = Arc::new(Dense(Matrix::from_vec(128, 64, rows)));
    // Deeper, the same again, less deep, with another block, with another embedding.
    for (model, block) in [
        (&model, 0),
        (&model, 3),
        (&model, 4),
        (&model, 4),
        (&model, 2),
        (&changed, 4),
        (&model, 4),
        (&other, 4),
        (&embedded, 3),
    ] {
        let needs = BTreeSet::from([
            at(block, Point::FfnIn, Stat::Gram),
            at(block, Point::AttentionOut, Stat::Mean),
            at(model.blocks.len() - 1, Point::BlockPart, Stat::Cosine),
        ]);
        let found = text.observed(model, &needs).unwrap();
        let plain = observe(model, &texts[..6], &needs, work(&pool)).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), plain.iter().collect::<Vec<_>>(), "block {block}");
        assert_eq!((found.tokens(), found.iter().count() >= 2), (plain.tokens(), true));
    }
}

#[test]
fn a_model_does_not_diverge_from_itself_and_others_as_they_are_measured() {
    let (pool, model, texts) = (Pool::new(1), model(), texts());
    let mut text = OnText::new(&model, Split::of(&texts).unwrap(), work(&pool));
    assert!(text.diverged(&model).unwrap() < 1e-6);
    let mut other = model.clone();
    other.blocks.remove(1);
    let found = text.diverged(&other).unwrap();
    let first = [texts[6][..].into()];
    let measured = crate::evaluate::on_text(&[&model, &other], &first, work(&pool)).unwrap();
    let want = measured[1].divergence.mean().unwrap();
    assert!(found > 0.0 && (found - want).abs() < 1e-5 * want, "{found} {want}");
    assert_eq!(text.diverged(&other).unwrap(), found);
}

#[test]
fn what_stopped_the_work_is_told() {
    let (pool, model) = (Pool::new(1), model());
    let run = |model: &Model, name: &str, keep, texts: &[Vec<u32>], work| {
        rewrite(model, name, &Settings::default(), keep, texts, 0, work).unwrap_err()
    };
    let stop = Interrupt::new();
    stop.set();
    let stopped = Work { interrupt: &stop, ..work(&pool) };
    for name in ["slice", "slice-global", "flatten", "neighbour-average"] {
        assert!(matches!(run(&model, name, 0.5, &texts(), stopped), Error::Interrupted(_)), "{name}");
    }
    let mut broken = model.clone();
    let linear = broken.blocks[1].linear_mut(Projection::O).unwrap();
    let mut matrix = linear.to_matrix();
    matrix.data_mut().fill(f32::NAN);
    linear.weight = Arc::new(Dense(matrix));
    let error = run(&broken, "flatten", 0.5, &texts(), work(&pool));
    assert!(matches!(error, Error::NotFinite { site: Site { block: 1, .. }, .. }), "{error}");
    let error = run(&model, "slicing", 0.5, &texts(), work(&pool)).to_string();
    assert!(error.contains("\"slicing\"") && error.contains("slice"), "{error}");
    let error = run(&model, "slice", 0.5, &[vec![1], vec![]], work(&pool));
    assert!(matches!(&error, Error::Text(why) if why.contains("two windows")), "{error}");
    assert!(matches!(run(&model, "slice", 0.0, &texts(), work(&pool)), Error::Method(MethodError::Params { .. })));
}
