//! A run that was stopped goes on where it was, and ends with the same bits.

use crate::tiny::{five_blocks, model_for, sequences, weights, work};
use pare_engine::Error;
use pare_engine::progress::{Interrupt, Progress, Work};
use pare_engine::prove::job_bytes;
use pare_engine::recipe::{BUILT_IN, Recipe};
use pare_engine::shrink::job::JobDirectory;
use pare_engine::shrink::{Request, Shrunk, shrink};
use pare_engine::write::WriteAs;
use pare_kernels::pool::Pool;
use pare_model::model::Model;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("pare-job-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// Stops the work after a number of blocks.
struct After {
    blocks: AtomicU64,
    interrupt: Interrupt,
}

impl Progress for After {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64, _: &str) {
        if self.blocks.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.interrupt.set();
        }
    }
    fn end(&self) {}
}

/// Bytes of a job directory that hold no numbers.
fn headers(path: &Path) -> u64 {
    let of = |entry: std::fs::DirEntry| {
        let bytes = std::fs::read(entry.path()).unwrap();
        match entry.path().extension().is_some_and(|extension| extension == "safetensors") {
            true => 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()),
            false => bytes.len() as u64,
        }
    };
    std::fs::read_dir(path).unwrap().map(|entry| of(entry.unwrap())).sum()
}

fn run(model: &Model, recipe: &Recipe, path: &Path, work: Work<'_>) -> Result<(Shrunk, usize), Error> {
    let calibration = sequences(6, 40, model.architecture.vocab, 5);
    let request = Request {
        recipe,
        keep: recipe.keep,
        calibration: &calibration,
        seed: 3,
        bias_allowed: &|_| true,
        form: None,
        job: None,
    };
    let (job, finished) = JobDirectory::open(path.to_owned(), model, &request)?;
    Ok((shrink(model, &Request { job: Some(&job), ..request }, work)?, finished))
}

#[test]
fn every_recipe_goes_on_where_it_was_stopped_and_ends_with_the_same_bits() {
    let pool = Pool::new(2);
    for (name, _) in BUILT_IN {
        let model = model_for(name);
        let recipe = Recipe::find(name).unwrap();
        let calibration = sequences(6, 40, model.architecture.vocab, 5);
        let request = Request {
            recipe: &recipe,
            keep: recipe.keep,
            calibration: &calibration,
            seed: 3,
            bias_allowed: &|_| true,
            form: None,
            job: None,
        };
        let whole = shrink(&model, &request, work(&pool)).unwrap();
        let path = folder(name);
        // A recipe that observes first counts those blocks too: stop two blocks before its end.
        let counting = After { blocks: AtomicU64::new(u64::MAX), interrupt: Interrupt::new() };
        let watched = |after: &After| {
            run(&model, &recipe, &path, Work { pool: &pool, progress: after, interrupt: &after.interrupt })
        };
        drop(watched(&counting).unwrap());
        let steps = u64::MAX - counting.blocks.load(Ordering::Relaxed);
        std::fs::remove_dir_all(&path).unwrap();

        let stopping = After { blocks: AtomicU64::new(steps - 2), interrupt: Interrupt::new() };
        assert!(matches!(watched(&stopping), Err(Error::Interrupted(_))), "{name}");
        let (resumed, finished) = run(&model, &recipe, &path, work(&pool)).unwrap();
        assert!(finished > 0, "{name}: nothing was left of the first run");
        assert_eq!((&resumed.plan, resumed.kept), (&whole.plan, whole.kept), "{name}");
        let size = JobDirectory::at(path.clone()).bytes();
        // A safetensors file and a record for each block, whose headers are large beside tiny matrices.
        let expected = job_bytes(&model, &recipe, recipe.keep, WriteAs::Auto.of(&recipe, &model)) + headers(&path);
        // What stands beside a matrix is small only beside large ones.
        assert!(
            !recipe.leaves_plain() || size <= expected + expected / 8,
            "{name}: {size} bytes, at most {expected} expected"
        );
        assert_eq!((&resumed.repairs, &resumed.encoded), (&whole.repairs, &whole.encoded), "{name}");
        assert!(weights(&resumed.model) == weights(&whole.model), "{name}: other bits than a run that was not stopped");
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn what_is_broken_or_of_another_run_is_made_again() {
    let (model, pool) = (five_blocks(), Pool::new(1));
    let recipe = Recipe::find("slim").unwrap();
    let path = folder("broken");
    let (whole, finished) = run(&model, &recipe, &path, work(&pool)).unwrap();
    assert_eq!(finished, 0);
    let tensors = path.join("00001.safetensors");
    let mut bytes = std::fs::read(&tensors).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&tensors, &bytes).unwrap();
    std::fs::write(path.join("00002.json"), "{").unwrap();
    let (again, finished) = run(&model, &recipe, &path, work(&pool)).unwrap();
    assert_eq!(finished, 5);
    assert!(weights(&again.model) == weights(&whole.model));
    assert_ne!(std::fs::read(&tensors).unwrap(), bytes, "the broken file was replaced");
    // Another recipe has nothing to go on with.
    let (_, finished) = run(&model, &Recipe::find("wanda").unwrap(), &path, work(&pool)).unwrap();
    assert_eq!(finished, 0);
    std::fs::remove_dir_all(&path).unwrap();
}
