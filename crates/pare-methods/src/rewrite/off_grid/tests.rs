use super::*;
use pare_kernels::blocks::BlockType;
use pare_model::block::{Attention, Ffn, Mixer};

const C: usize = 5;
const D: usize = 2;
const H: usize = 4;
const G: usize = 2;
const F: usize = 3;

fn numbers(rng: &mut SplitMix64, count: usize) -> Vec<f32> {
    (0..count).map(|_| (2.0 * rng.unit() - 1.0) as f32).collect()
}

/// A block with a bias on every projection.
fn block() -> Block {
    let mut rng = SplitMix64::new(5);
    let mut linear = |out: usize, inn: usize| Linear {
        weight: Arc::new(Dense(Matrix::from_vec(out, inn, numbers(&mut rng, out * inn)))),
        bias: Some(numbers(&mut rng, out).into()),
    };
    let (q, k, v, o) = (linear(H * D, C), linear(G * D, C), linear(G * D, C), linear(C, H * D));
    let (gate, up, down) = (linear(F, C), linear(F, C), linear(C, F));
    let (norm, other): (Arc<[f32]>, Arc<[f32]>) = (numbers(&mut rng, C).into(), numbers(&mut rng, C).into());
    let attention = Attention { norm, q, k, v, o, q_norm: None, k_norm: None, shortcut: None, heads: H, groups: G };
    Block { mixer: Some(Mixer::Attention(attention)), ffn: Some(Ffn { norm: other, gate, up, down, shortcut: None }) }
}

fn rewritten(seed: u64) -> Block {
    let mut block = block();
    rewrite(&mut block, 0, [SplitMix64::stream(seed, 0), SplitMix64::stream(seed, 1)]).unwrap();
    block
}

/// Row `row` of a projection behind its norm, and its bias at the end.
fn row(linear: &Linear, norm: &[f32], row: usize) -> Vec<f64> {
    let matrix = linear.to_matrix();
    let gains = norm.iter().map(|&gain| f64::from(gain));
    let mut row_of: Vec<f64> = matrix.row(row).iter().zip(gains).map(|(&w, gain)| f64::from(w) * gain).collect();
    row_of.push(f64::from(linear.bias.as_ref().unwrap()[row]));
    row_of
}

fn column(linear: &Linear, column: usize) -> Vec<f64> {
    let matrix = linear.to_matrix();
    (0..matrix.rows()).map(|row| f64::from(matrix.row(row)[column])).collect()
}

#[track_caller]
fn near(found: &[f64], expected: &[f64]) {
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(found.len() == expected.len() && off < 3e-7, "{found:?} for {expected:?}");
}

#[test]
fn queries_keys_and_gates_compute_the_same() {
    let (before, after) = (block(), rewritten(1));
    for projection in [Projection::Q, Projection::K, Projection::Gate] {
        let norm = |block: &Block| match projection {
            Projection::Gate => block.ffn.as_ref().unwrap().norm.clone(),
            _ => block.attention().unwrap().norm.clone(),
        };
        assert!(norm(&after).iter().all(|&gain| gain == 1.0));
        let (old, new) = (before.linear(projection).unwrap(), after.linear(projection).unwrap());
        (0..old.outputs()).for_each(|at| near(&row(new, &norm(&after), at), &row(old, &norm(&before), at)));
        assert_eq!(new.bias, old.bias);
    }
}

/// What goes in by row `reader` of one projection and out by column `writer` of another: their outer product.
fn passage(reader: &[f64], writer: &[f64]) -> Vec<f64> {
    writer.iter().flat_map(|w| reader.iter().map(move |r| w * r)).collect()
}

#[test]
fn every_passage_through_values_and_channels_computes_the_same() {
    let (before, after) = (block(), rewritten(1));
    let [old, new] = [&before, &after].map(|block| block.attention().unwrap());
    let mut moved = 0;
    for at in 0..H * D {
        // By hand: heads 0 and 1 read group 0, heads 2 and 3 group 1.
        let value = [0, 1, 0, 1, 2, 3, 2, 3][at];
        let through = |part: &Attention| passage(&row(&part.v, &part.norm, value), &column(&part.o, at));
        near(&through(new), &through(old));
        moved += usize::from((column(&new.o, at)[0] - column(&old.o, at)[0]).abs() > 1e-4);
    }
    assert!(moved > H, "the outputs themselves changed");
    let [old, new] = [&before, &after].map(|block| block.ffn.as_ref().unwrap());
    for at in 0..F {
        let through = |part: &Ffn| passage(&row(&part.up, &part.norm, at), &column(&part.down, at));
        near(&through(new), &through(old));
    }
    assert_eq!(new.down.bias, old.down.bias);
    assert_ne!(new.up.bias, old.up.bias);
}

#[test]
fn the_seed_decides() {
    let weights =
        |block: &Block| block.linears().flat_map(|(_, linear)| linear.to_matrix().into_vec()).collect::<Vec<_>>();
    assert_eq!(weights(&rewritten(1)), weights(&rewritten(1)));
    assert_ne!(weights(&rewritten(1)), weights(&rewritten(2)));
}

#[test]
fn scales_are_log_uniform_between_their_ends() {
    let scales = draw(&mut SplitMix64::new(3), 4000);
    let (low, high) = scales.iter().fold((f64::MAX, 0.0f64), |(low, high), &s| (low.min(s), high.max(s)));
    assert!((0.8..0.801).contains(&low) && (1.249..1.25).contains(&high), "{low} {high}");
    let mean = scales.iter().map(|s| s.ln()).sum::<f64>() / 4000.0;
    assert!(mean.abs() < 0.01, "{mean}");
    assert!((-10..=10).map(f64::from).all(|x| (exp(x / 40.0) - (x / 40.0).exp()).abs() < 1e-15));
}

#[test]
fn a_weight_that_is_no_number_is_refused() {
    let mut block = block();
    let mut matrix = block.linear(Projection::Up).unwrap().to_matrix();
    matrix.row_mut(1)[2] = f32::NAN;
    block.linear_mut(Projection::Up).unwrap().weight = Arc::new(Dense(matrix));
    let error = rewrite(&mut block, 7, [SplitMix64::new(0), SplitMix64::new(0)]).unwrap_err().to_string();
    assert!(error.contains("block 7") && error.contains("NaN"), "{error}");
}

#[test]
fn the_step_by_hand() {
    assert_eq!(step(&[0.5, -1.0, 0.5, 2.0, 1.25]), 0.75);
    assert_eq!(step(&[3.0; 4]), 0.0);
    assert_eq!(step(&[0.0, -0.0]), 0.0);
}

const ROWS: usize = 48;
const COLS: usize = 512;

/// A matrix of sums of four uniform numbers, nearly normal, rounded to `ty`.
fn quantised(ty: BlockType, rng: &mut SplitMix64) -> Arc<dyn Weight> {
    let mut bytes = vec![0; ROWS * COLS / ty.values_per_block() * ty.bytes_per_block()];
    ty.encode(&random(rng), &mut bytes);
    let mut values = vec![0.0; ROWS * COLS];
    ty.decode(&bytes, &mut values);
    Arc::new(Dense(Matrix::from_vec(ROWS, COLS, values)))
}

fn random(rng: &mut SplitMix64) -> Vec<f32> {
    (0..ROWS * COLS).map(|_| (0..4).map(|_| rng.unit() - 0.5).sum::<f64>() as f32).collect()
}

/// Squared error of `ty` over the squared spread of the runs of 32: what a uniform grid loses depends on nothing else.
fn loss(ty: BlockType, values: &[f32]) -> f64 {
    let (mut bytes, mut back) =
        (vec![0; values.len() / ty.values_per_block() * ty.bytes_per_block()], vec![0.0; values.len()]);
    ty.encode(values, &mut bytes);
    ty.decode(&bytes, &mut back);
    let off: f64 = values.iter().zip(&back).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let spread = |run: &[f32]| {
        let (low, high) = run.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        f64::from(high - low).powi(2)
    };
    off / values.chunks(32).map(spread).sum::<f64>()
}

#[test]
fn no_quantiser_has_the_old_grids_advantage() {
    let mut rng = SplitMix64::new(11);
    let fresh = random(&mut rng);
    let site = Site::new(0, Point::FfnIn);
    for old in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q8_0, BlockType::Q4K, BlockType::Q6K] {
        let before = quantised(old, &mut rng);
        let after = Linear::new(dithered(&before, site, SplitMix64::new(3)).unwrap()).to_matrix();
        let before = Linear::new(before).to_matrix();
        assert!(loss(old, before.data()) < 0.1 * loss(old, &fresh), "{} is on its own grid", old.name());
        for ty in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_1, BlockType::Q8_0, BlockType::Q4K, BlockType::Q6K] {
            let (found, expected) = (loss(ty, after.data()), loss(ty, &fresh));
            let ratio = found / expected;
            assert!((0.93..1.08).contains(&ratio), "{} after {}: {ratio}", ty.name(), old.name());
        }
    }
}

#[test]
fn every_matrix_moves_by_less_than_a_step_and_by_its_own_noise() {
    let before = quantised(BlockType::Q8_0, &mut SplitMix64::new(5));
    let site = Site::new(0, Point::FfnIn);
    let noise = |seed| {
        let after = Linear::new(dithered(&before, site, SplitMix64::new(seed)).unwrap()).to_matrix();
        let before = Linear::new(Arc::clone(&before)).to_matrix();
        after.data().iter().zip(before.data()).map(|(a, b)| a - b).collect::<Vec<f32>>()
    };
    let (one, other) = (noise(1), noise(2));
    assert_eq!(one, noise(1));
    assert!(one.iter().zip(&other).filter(|(a, b)| a == b).count() < 5);
    assert!(one.iter().filter(|off| **off == 0.0).count() < 5);
}
