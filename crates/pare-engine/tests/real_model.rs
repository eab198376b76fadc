//! SmolLM2-135M against transformers: sizes, logits, residual stream, text and masks.

use crate::tiny::{golden, json_of, work};
use pare_engine::built_in;
use pare_engine::candidates::Candidates;
use pare_engine::generate::continue_text;
use pare_engine::observe::{Needs, observe};
use pare_engine::recipe::Cut;
use pare_format::gguf::GgufModel;
use pare_format::safetensors::SafetensorsFile;
use pare_kernels::pool::{Pool, default_threads};
use pare_methods::card::Grain;
use pare_methods::score;
use pare_methods::select::Compare;
use pare_model::forward::{KvCache, Observer, Runner, Segment};
use pare_model::load::from_gguf;
use pare_model::model::{Model, PackAs};
use pare_model::plan::{Edit, Mask};
use pare_model::sample::{Sampler, Sampling, argmax};
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::{Stat, Stats};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Two f32 forward passes of 30 blocks, logits of up to 30.
const LOGIT_TOLERANCE: f32 = 5e-3;
/// The same for the residual stream, relative to its norm.
const HIDDEN_TOLERANCE: f64 = 2e-5;

fn model() -> Model {
    let path = built_in::find("smollm2-135m").unwrap().path().unwrap();
    let file = GgufModel::open(&path).unwrap_or_else(|error| panic!("{error}; run cargo xtask fetch"));
    from_gguf(&file).unwrap().model
}

fn pool() -> Pool {
    Pool::new(default_threads())
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn tensor(file: &SafetensorsFile, name: &str) -> Vec<f32> {
    let view = file.require(name).unwrap();
    view.bytes.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect()
}

/// Bytes of a tensor of a type that pare does not compute with.
fn raw(file: &SafetensorsFile, name: &str) -> Vec<u8> {
    file.view(file.get(name).unwrap()).unwrap().bytes.to_vec()
}

/// The residual stream at the last position after each block.
struct LastRows(Vec<Vec<f32>>);

impl Observer for LastRows {
    fn input(&mut self, _: usize, _: Point, _: &[f32], _: usize) {}

    fn part(&mut self, block: usize, point: Point, _: &[f32], after: &[f32], width: usize) {
        if point == Point::BlockPart {
            assert_eq!(block, self.0.len());
            self.0.push(after[after.len() - width..].to_vec());
        }
    }
}

#[test]
fn it_has_the_published_sizes() {
    let model = model();
    assert_eq!(model.parameters().total, 134_515_008);
    let sizes = &model.architecture;
    assert_eq!(
        (model.blocks.len(), sizes.hidden, sizes.head_dim, sizes.vocab, sizes.context),
        (30, 576, 64, 49_152, 8192)
    );
    assert!(model.head.is_none(), "the head is the embedding");
    for block in &model.blocks {
        let attention = block.attention().unwrap();
        assert_eq!((attention.heads, attention.groups, block.ffn.as_ref().unwrap().width()), (9, 3, 1536));
        assert!(block.linears().all(|(_, linear)| linear.bias.is_none()));
    }
}

#[test]
fn logits_and_residual_stream_are_those_of_transformers() {
    let (model, pool) = (model(), pool());
    let record = json_of(&golden("model/smollm2.json"));
    let stored = SafetensorsFile::open(golden("model/smollm2.safetensors")).unwrap();
    let (vocab, width) = (model.architecture.vocab, model.architecture.hidden);
    let prompts = record["prompts"].as_object().unwrap();
    assert_eq!(prompts.len(), 5);
    for (name, prompt) in prompts {
        let tokens = ids(&prompt["ids"]);
        let mut runner = Runner::new(&model, &pool);
        let mut caches = [KvCache::new(&model, tokens.len())];
        let mut rows = LastRows(Vec::new());
        let mut embedded = vec![0.0; width];
        Runner::embed(&model, &tokens[tokens.len() - 1..], &mut embedded);
        runner.hidden(&tokens, &[Segment { sequence: 0, start: 0, len: tokens.len() }], &mut caches, Some(&mut rows));
        let hidden = tensor(&stored, &format!("{name}.hidden"));
        assert_eq!(rows.0.len(), 30);
        for (index, (got, want)) in
            std::iter::once(&embedded).chain(&rows.0).zip(hidden.chunks_exact(width)).enumerate()
        {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let off = norm(&mut got.iter().zip(want).map(|(&got, &want)| f64::from(got) - f64::from(want)));
            let whole = norm(&mut want.iter().map(|&want| f64::from(want)));
            assert!(
                off <= HIDDEN_TOLERANCE * whole,
                "{name}: after {index} blocks the stream is {off:e} off, of {whole}"
            );
        }
        let logits = runner.logits(&(0..tokens.len()).collect::<Vec<_>>());
        let best: Vec<i32> = logits.chunks_exact(vocab).map(|row| argmax(row) as i32).collect();
        let top1 = raw(&stored, &format!("{name}.top1"));
        let top1: Vec<i32> = top1.as_chunks::<4>().0.iter().map(|raw| i32::from_le_bytes(*raw)).collect();
        assert_eq!(best, top1, "{name}: most likely ids");
        let last = &logits[(tokens.len() - 1) * vocab..];
        let want = tensor(&stored, &format!("{name}.logits"));
        assert_eq!(want.len(), vocab);
        let worst = last.iter().zip(&want).fold(0.0f32, |worst, (got, want)| worst.max((got - want).abs()));
        assert!(worst <= LOGIT_TOLERANCE, "{name}: a logit is {worst} off");
    }
}

#[test]
fn greedy_text_is_that_of_transformers_for_200_tokens() {
    let (model, pool) = (model(), pool());
    let packed = model.packed(PackAs::Exact, &pool);
    let record = json_of(&golden("model/greedy.json"));
    let mut sampler = Sampler::new(Sampling::GREEDY, 0);
    let written = continue_text(&packed, &ids(&record["ids"]), 200, &mut sampler, work(&pool), |_| true).unwrap();
    assert_eq!(written, ids(&record["continuation"]));
    assert_eq!(written.len(), 200);
}

/// Bits as numpy packs them: first weight in the highest bit of the first byte.
fn packed(kept: &[bool]) -> Vec<u8> {
    kept.chunks(8)
        .map(|byte| byte.iter().enumerate().fold(0, |all, (bit, &kept)| all | u8::from(kept) << (7 - bit)))
        .collect()
}

fn kept_of(mask: &Mask) -> Vec<bool> {
    let [rows, cols] = mask.shape();
    (0..rows * cols).map(|index| mask.kept(index)).collect()
}

/// The golden lets the first of equal scores go and pare the last: within each run of `compared` scores, the kept ones of those that
/// share the score at the cut are moved from the first to the last. Also counts them.
fn ties_turned(scores: &[f64], kept: &[bool], compared: usize) -> (Vec<bool>, usize) {
    let mut turned = kept.to_vec();
    let mut ties = 0;
    for (scores, kept) in scores.chunks_exact(compared).zip(turned.chunks_exact_mut(compared)) {
        let cut = scores
            .iter()
            .zip(kept.iter())
            .filter(|(_, kept)| **kept)
            .map(|(score, _)| *score)
            .fold(f64::INFINITY, f64::min);
        let at: Vec<usize> = (0..compared).filter(|&index| scores[index] == cut).collect();
        let stay = at.iter().filter(|&&index| kept[index]).count();
        if stay < at.len() {
            assert!(at.iter().take(stay).all(|&index| kept[index]), "of equal scores the first stay");
            at.iter().enumerate().for_each(|(place, &index)| kept[index] = place >= at.len() - stay);
            ties += at.len();
        }
    }
    (turned, ties)
}

fn half(
    model: &Model,
    (block, projection): (usize, Projection),
    name: &str,
    compare: Compare,
    stats: &Stats,
) -> (Vec<f64>, Vec<bool>) {
    let block_of = &model.blocks[block];
    let groups = Candidates::of_block(Grain::Weight, block, block_of);
    let group = groups.iter().find(|group| group.projection == Some(projection)).unwrap();
    let score = (score::find(name).unwrap().build)(0);
    let scores = group.score(score.as_ref(), block_of, stats).unwrap();
    let cut = Cut::by(Grain::Weight, name, compare);
    let edit = group.edit(&cut, &scores, group.units / 2, block_of).unwrap().unwrap();
    let Edit::Mask { block: at, projection: of, mask } = edit else { panic!("{edit:?}") };
    assert_eq!((at, of), (block, projection));
    (scores, kept_of(&mask))
}

fn digest(kept: &[bool]) -> String {
    format!("{:x}", Sha256::digest(packed(kept)))
}

const SITES: [(&str, usize, Projection); 4] = [
    ("0.q", 0, Projection::Q),
    ("0.down", 0, Projection::Down),
    ("15.q", 15, Projection::Q),
    ("15.down", 15, Projection::Down),
];

#[test]
fn magnitude_masks_are_those_of_numpy_up_to_the_tie_rule() {
    let model = model();
    let record = json_of(&golden("model/masks.json"));
    for (key, block, projection) in SITES {
        let want = &record["sites"][key];
        let (scores, kept) = half(&model, (block, projection), "magnitude", Compare::Matrix, &Stats::new(0));
        assert_eq!(kept.iter().filter(|kept| **kept).count() as u64, want["magnitude_kept"].as_u64().unwrap(), "{key}");
        let (turned, ties) = ties_turned(&scores, &kept, scores.len());
        assert_eq!(ties as u64, want["magnitude_ties_at_cut"].as_u64().unwrap(), "{key}");
        assert_eq!(digest(&turned), want["magnitude_sha256"].as_str().unwrap(), "{key}");
    }
}

#[test]
fn wanda_masks_are_those_of_numpy_from_the_same_statistics() {
    let model = model();
    let record = json_of(&golden("model/masks.json"));
    let stored = SafetensorsFile::open(golden("model/masks.safetensors")).unwrap();
    for (key, block, projection) in SITES {
        let square = tensor(&stored, &format!("{key}.mean_square"));
        let mut stats = Stats::new(record["tokens"].as_u64().unwrap());
        stats.insert(
            Site::new(block, projection.input()),
            Stat::MeanSquare,
            square.iter().map(|&x| f64::from(x)).collect(),
        );
        let (scores, kept) = half(&model, (block, projection), "wanda", Compare::Row, &stats);
        let (turned, _) = ties_turned(&scores, &kept, square.len());
        assert_eq!(packed(&turned[..64 * square.len()]), raw(&stored, &format!("{key}.wanda")), "{key}: first 64 rows");
        assert_eq!(digest(&turned), record["sites"][key]["wanda_sha256"].as_str().unwrap(), "{key}");
    }
}

#[test]
fn own_statistics_give_the_mean_squares_and_nearly_the_masks_of_numpy() {
    let (model, pool) = (model(), pool());
    let prompts = json_of(&golden("model/smollm2.json"));
    let texts: Vec<Vec<u32>> =
        prompts["prompts"].as_object().unwrap().values().map(|prompt| ids(&prompt["ids"])).collect();
    let needs: Needs =
        SITES.iter().map(|(_, block, projection)| (Site::new(*block, projection.input()), Stat::MeanSquare)).collect();
    let stats = observe(&model, &texts, &needs, work(&pool)).unwrap();
    assert_eq!(stats.tokens(), 118);
    let stored = SafetensorsFile::open(golden("model/masks.safetensors")).unwrap();
    for (key, block, projection) in SITES {
        let square = tensor(&stored, &format!("{key}.mean_square"));
        let own = stats.get(Site::new(block, projection.input()), Stat::MeanSquare).unwrap();
        for (channel, (own, &want)) in own.iter().zip(&square).enumerate() {
            let off = (own / f64::from(want) - 1.0).abs();
            assert!(off <= 1e-3, "{key}: mean square of channel {channel} is {own}, expected {want}");
        }
        let (scores, kept) = half(&model, (block, projection), "wanda", Compare::Row, &stats);
        let (turned, _) = ties_turned(&scores, &kept, square.len());
        let want = raw(&stored, &format!("{key}.wanda"));
        let same: u32 = packed(&turned[..64 * square.len()])
            .iter()
            .zip(&want)
            .map(|(got, want)| (!(got ^ want)).count_ones())
            .sum();
        let share = f64::from(same) / (64 * square.len()) as f64;
        assert!(share >= 0.995, "{key}: {share} of the mask agrees");
    }
}
