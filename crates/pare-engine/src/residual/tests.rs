use super::*;
use crate::progress::{Interrupt, Silent};
use pare_format::directory::ModelDirectory;
use pare_model::load::from_directory;
use std::path::Path;

static NEVER: Interrupt = Interrupt::new();

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families/llama-tied");
    let mut model = from_directory(&ModelDirectory::open(folder).unwrap()).unwrap().model;
    model.blocks = model.blocks.iter().cycle().take(4).cloned().collect();
    model
}

/// More than one batch, with sequences of several lengths.
fn texts() -> Vec<Vec<u32>> {
    (0..9).map(|text: u32| (0..290 + text).map(|at| (text * 31 + at * 17) % 128).collect()).collect()
}

#[test]
fn looking_changes_nothing_and_batches_are_the_whole() {
    let (pool, model, texts) = (Pool::new(2), model(), texts());
    let work = Work { pool: &pool, progress: &Silent, interrupt: &NEVER };
    let block = &model.blocks[0];
    let embedded = ResidualStream::embed(&model, &texts);
    let [mut stream, mut batchwise] = [(); 2].map(|()| embedded.clone());
    let [mut peeked, mut observed] = [(); 2].map(|()| Capture::only(&[Point::FfnOut, Point::BlockPart]));
    stream.peek(0, block, &mut peeked, work).unwrap();
    assert_eq!(stream.x(), embedded.x());
    stream.advance_observed(0, block, &mut observed, work).unwrap();
    let batches = batchwise.batches();
    assert_eq!(batches.len(), 2);
    let mut captured = Vec::new();
    for batch in &batches {
        let mut own = Capture::only(&[Point::FfnOut]);
        batchwise.advance_batch(batch, (0, block), &mut own, work).unwrap();
        captured.extend_from_slice(own.at(Point::FfnOut));
    }
    assert_ne!(stream.x(), embedded.x());
    assert_eq!((stream.x(), batchwise.x()), (observed.at(Point::BlockPart), observed.at(Point::BlockPart)));
    assert_eq!((peeked.at(Point::FfnOut), &captured[..]), (observed.at(Point::FfnOut), observed.at(Point::FfnOut)));
    assert!(peeked.at(Point::AttentionIn).is_empty());
}

#[test]
fn a_walk_goes_on_where_models_begin_to_differ() {
    let (pool, model, texts) = (Pool::new(1), model(), texts());
    let work = Work { pool: &pool, progress: &Silent, interrupt: &NEVER };
    let mut checkpoints = Checkpoints::of(&model, &texts[..2], work).unwrap();
    let mut changed = model.clone();
    changed.blocks[2].ffn = None;
    for (other, first) in [(&model, 4), (&changed, 2)] {
        let mut whole = ResidualStream::embed(other, &texts[..2]);
        let (found, stream) = checkpoints.resume(other).unwrap();
        assert_eq!(found, first);
        for (index, block) in other.blocks.iter().enumerate() {
            whole.advance(index, block, work).unwrap();
            if index >= first {
                stream.advance(index, block, work).unwrap();
            }
        }
        assert_eq!(stream.x(), whole.x());
    }
    changed.embedding = Arc::new(pare_model::storage::Dense(Linear::new(Arc::clone(&model.embedding)).to_matrix()));
    assert!(checkpoints.resume(&changed).is_none());
}
