//! Decoding allocates nothing per token. A program of its own, because it counts every allocation of the process.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

#[path = "tiny.rs"]
#[allow(dead_code)]
mod tiny;

use pare_format::map::Bytes;
use pare_kernels::blocks::BlockType;
use pare_kernels::pool::Pool;
use pare_model::forward::{KvCache, Runner, Segment};
use pare_model::matrix::Matrix;
use pare_model::model::{Model, PackAs};
use pare_model::site::Projection;
use pare_model::storage::{Dense, Element, LowRank, Stored, Sum};
use pare_model::weight::Weight;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of each of `steps` steps of `rows` tokens after the first.
fn counted(model: &Model, rows: usize, steps: usize, pool: &Pool) -> Vec<usize> {
    let mut runner = Runner::new(model, pool);
    let mut caches = [KvCache::new(model, (steps + 1) * rows)];
    let (tokens, last) = (vec![1; rows], [rows - 1]);
    let mut counts = Vec::with_capacity(steps + 1);
    for step in 0..=steps {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        runner.hidden(&tokens, &[Segment { sequence: 0, start: step * rows, len: rows }], &mut caches, None);
        runner.logits(&last);
        counts.push(ALLOCATIONS.load(Ordering::Relaxed) - before);
    }
    assert!(counts.remove(0) > 0, "the first step makes the buffers, so the count counts");
    counts
}

/// The same model with every weight whose rows are whole blocks replaced by blocks, and a sum with a low-rank term.
fn composed(model: &Model) -> Model {
    let mut model = model.clone();
    let mut replaced = 0;
    for block in &mut model.blocks {
        for projection in Projection::ALL {
            let Some(linear) = block.linear_mut(projection) else { continue };
            let [out, inn] = linear.weight.shape();
            let thin = |rows, cols| -> Arc<dyn Weight> { Arc::new(Dense(Matrix::zeros(rows, cols))) };
            let correction: Arc<dyn Weight> = Arc::new(LowRank::new(thin(out, 2), thin(2, inn)).unwrap());
            let bytes = Bytes::from(vec![0x11; out * inn / 32 * 34]);
            let core: Arc<dyn Weight> = match Stored::new(Element::Block(BlockType::Q8_0), [out, inn], bytes) {
                Some(blocks) => Arc::new(blocks),
                None => Arc::clone(&linear.weight),
            };
            replaced += usize::from(core.as_stored().is_some_and(|stored| stored.element() != Element::F32));
            linear.weight = Arc::new(Sum::new(vec![core, correction]).unwrap());
        }
    }
    assert!(replaced > 0, "no weight has whole blocks");
    model
}

#[test]
fn decoding_allocates_nothing_once_the_buffers_are_there() {
    let pool = Pool::new(2);
    let tied = tiny::family("llama-tied");
    let (composed, turned) = (composed(&tied), tiny::with_shortcuts(&tied));
    for (name, model) in tiny::all().into_iter().chain([("composed", composed), ("shortcuts", turned)]) {
        for pack in [PackAs::Stored, PackAs::Exact] {
            let model = model.packed(pack, &pool);
            for rows in [1, 4] {
                let counts = counted(&model, rows, 40, &pool);
                assert!(counts.iter().all(|&count| count == 0), "{name}, {rows} rows: {counts:?}");
            }
        }
    }
}
