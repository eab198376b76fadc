//! Merges: agreement with the references, and the properties of the axis.

use crate::Draw;
use crate::golden::{flat, floats, golden, list, matrix, near, numbers};
use pare_methods::error::MethodError;
use pare_methods::merge::{self, ENTRIES, Joint, Joints, Merge, Merged, Pair};
use pare_methods::settings::Settings;
use pare_model::block::{Attention, Block, Ffn, Mixer};
use pare_model::matrix::Matrix;
use pare_model::plan::spread;
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::Stat;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use serde_json::Value;
use std::sync::Arc;

const POINTS: [Point; 4] = [Point::AttentionIn, Point::AttentionOut, Point::FfnIn, Point::FfnOut];
const TOKENS: usize = 50;

fn build(name: &str) -> Box<dyn Merge> {
    (merge::find(name).unwrap().build)(&Settings::default()).unwrap()
}

fn linear(weight: Matrix, bias: Vec<f32>) -> Linear {
    Linear { weight: Arc::new(Dense(weight)), bias: Some(bias.into()) }
}

fn block(linears: &dyn Fn(Projection) -> Linear, heads: usize, groups: usize, norms: [Vec<f32>; 2]) -> Block {
    use Projection::{Down, Gate, K, O, Q, Up, V};
    let [norm, other] = norms;
    let [q, k, v, o, gate, up, down] = [Q, K, V, O, Gate, Up, Down].map(linears);
    let attention =
        Attention { norm: norm.into(), q, k, v, o, q_norm: None, k_norm: None, heads, groups, shortcut: None };
    Block {
        mixer: Some(Mixer::Attention(attention)),
        ffn: Some(Ffn { norm: other.into(), gate, up, down, shortcut: None }),
    }
}

/// Moments of two lists of activations, `[T, n]` each.
fn joint(point: Point, first: &[Vec<f64>], second: &[Vec<f64>]) -> Joint {
    let width = first[0].len();
    let mut second_moments = vec![0.0; 4 * width * width];
    for (x, y) in first.iter().zip(second) {
        let both = [&x[..], y].concat();
        for (at, sum) in second_moments.iter_mut().enumerate() {
            *sum += both[at / (2 * width)] * both[at % (2 * width)] / first.len() as f64;
        }
    }
    Joint::new(Site::new(0, point), width, second_moments).unwrap()
}

#[test]
fn average_golden() {
    let golden = golden("merge", "average");
    let of_model = |index: usize| {
        let linear = |name: &str| Linear::new(Arc::new(Dense(matrix(&golden["models"][index][name]))));
        let norm = floats(&golden["norms"][index]).into();
        Block {
            mixer: None,
            ffn: Some(Ffn { norm, gate: linear("gate"), up: linear("up"), down: linear("down"), shortcut: None }),
        }
    };
    let (first, second) = (of_model(0), of_model(1));
    let pair = Pair { index: 0, first: &first, second: &second };
    let merged = build("average").merge(&pair, 1.0, &Joints::new()).unwrap().block.ffn.unwrap();
    assert_eq!(merged.norm[..], floats(&golden["norm"]));
    for (linear, name) in [(&merged.gate, "gate"), (&merged.up, "up"), (&merged.down, "down")] {
        assert_eq!(linear.to_matrix(), matrix(&golden["merged"][name]));
    }
}

#[test]
fn pleas_golden() {
    let golden = golden("merge", "pleas");
    let exactness = merge::find("pleas").unwrap().card.exactness;
    let count = |key: &str| golden[key].as_u64().unwrap() as usize;
    let of_model = |model: &Value| {
        let of = |projection: Projection| {
            let stored = &model[projection.to_string()];
            linear(matrix(&stored["w"]), floats(&stored["b"]))
        };
        block(&of, count("heads"), count("kv_groups"), [vec![1.0; 5], vec![1.0; 5]])
    };
    let (first, second) = (of_model(&golden["models"][0]), of_model(&golden["models"][1]));
    let pair = Pair { index: 0, first: &first, second: &second };
    let activations = |model: usize, point: &Point| -> Vec<Vec<f64>> {
        let name = serde_json::to_value(point).unwrap();
        list(&golden["inputs"][model][name.as_str().unwrap()]).iter().map(numbers).collect()
    };
    let joints = POINTS.iter().map(|point| (*point, joint(*point, &activations(0, point), &activations(1, point))));
    let joints: Joints = joints.collect();
    for case in list(&golden["cases"]) {
        let settings = Settings { damping: golden["damping"].as_f64(), ..Settings::default() };
        let method = (merge::find("pleas").unwrap().build)(&settings).unwrap();
        let merged = method.merge(&pair, case["size"].as_f64().unwrap(), &joints).unwrap();
        for (projection, linear) in merged.block.linears() {
            let want = &case["merged"][projection.to_string()];
            let weights = linear.to_matrix();
            assert_eq!(weights.rows(), list(&want["w"]).len(), "{projection}");
            near(weights.data().iter().map(|&value| f64::from(value)), &flat(&want["w"]), exactness);
            near(linear.bias.iter().flat_map(|b| b.iter()).map(|&b| f64::from(b)), &numbers(&want["b"]), exactness);
        }
        let info = merged.info;
        for (told, key) in [(info.error_before, "error_before"), (info.error_after, "error_after")] {
            near(told, &[case[key].as_f64().unwrap()], 1e-9);
        }
        assert_eq!((info.damping, info.moved_groups), (settings.damping, 2));
        let moved = list(&case["channels"]).iter().filter(|pair| {
            let [first, second] = [&pair[0], &pair[1]].map(Value::as_u64);
            first.is_some() && second.is_some() && first != second
        });
        assert_eq!(info.moved_channels, moved.count());
    }
}

/// Two models' block and activations.
struct Toy {
    first: Block,
    second: Block,
    activations: Vec<[Vec<Vec<f64>>; 2]>,
}

const C: usize = 6;
const D: usize = 2;
const HEADS: usize = 6;
const GROUPS: usize = 3;
const F: usize = 9;

impl Toy {
    /// A block, and the same with its channels and groups in another order.
    fn permuted(seed: u64) -> (Self, [Vec<usize>; 2]) {
        let mut draw = Draw(seed);
        let shape = |projection: Projection| match projection {
            Projection::Q => [HEADS * D, C],
            Projection::K | Projection::V => [GROUPS * D, C],
            Projection::O => [C, HEADS * D],
            Projection::Gate | Projection::Up => [F, C],
            Projection::Down => [C, F],
        };
        let linears = Projection::ALL.map(|projection| {
            let [out, inn] = shape(projection);
            linear(draw.matrix(out, inn), draw.matrix(1, out).into_vec())
        });
        let norms = [draw.matrix(1, C).into_vec(), draw.matrix(1, C).into_vec()];
        let first = block(&|projection| linears[projection as usize].clone(), HEADS, GROUPS, norms);
        let (groups, channels) = (draw.permutation(GROUPS), draw.permutation(F));
        let second = Block {
            mixer: Some(Mixer::Attention(first.attention().unwrap().keep_groups(&groups))),
            ffn: Some(first.ffn.as_ref().unwrap().keep_channels(&channels)),
        };
        let activations = POINTS.map(|point| {
            let order = match point {
                Point::AttentionOut => spread(&groups, HEADS / GROUPS * D),
                Point::FfnOut => channels.clone(),
                _ => (0..C).collect(),
            };
            let x: Vec<Vec<f64>> = (0..TOKENS).map(|_| draw.many(order.len())).collect();
            let y = x.iter().map(|x| order.iter().map(|&at| x[at]).collect()).collect();
            [x, y]
        });
        (Self { first, second, activations: activations.to_vec() }, [groups, channels])
    }

    /// The same with noise on the second model's weights and activations.
    fn noisy(seed: u64, noise: f64) -> Self {
        let (mut toy, _) = Self::permuted(seed);
        let mut draw = Draw(seed + 1000);
        for projection in Projection::ALL {
            let linear = toy.second.linear_mut(projection).unwrap();
            let mut weight = linear.to_matrix();
            weight.data_mut().iter_mut().for_each(|value| *value += (noise * draw.next()) as f32);
            linear.weight = Arc::new(Dense(weight));
        }
        toy.activations.iter_mut().flat_map(|[_, y]| y).flatten().for_each(|value| *value += noise * draw.next());
        toy
    }

    fn merge(&self, name: &str, size: f64) -> Result<Merged, MethodError> {
        let pair = Pair { index: 0, first: &self.first, second: &self.second };
        let joints = POINTS.iter().zip(&self.activations).map(|(point, [x, y])| (*point, joint(*point, x, y)));
        build(name).merge(&pair, size, &joints.collect())
    }
}

fn bits(block: &Block) -> Vec<u32> {
    let linears = block.linears().flat_map(|(_, linear)| {
        linear.to_matrix().into_vec().into_iter().chain(linear.bias.iter().flat_map(|bias| bias.to_vec()))
    });
    let (attention, ffn) = (&block.attention().unwrap().norm, &block.ffn.as_ref().unwrap().norm);
    linears.chain(attention.to_vec()).chain(ffn.to_vec()).map(f32::to_bits).collect()
}

#[test]
fn a_block_merged_with_itself_is_itself() {
    for seed in 0..10 {
        let (mut toy, _) = Toy::permuted(seed);
        toy.second = toy.first.clone();
        toy.activations.iter_mut().for_each(|[x, y]| *y = x.clone());
        for entry in ENTRIES {
            let merged = toy.merge(entry.card.name, 1.0).unwrap();
            assert_eq!(bits(&merged.block), bits(&toy.first), "{entry:?} {seed}");
            assert_eq!((merged.info.moved_channels, merged.info.moved_groups), (0, 0));
        }
    }
}

#[test]
fn pleas_undoes_a_permutation_bit_for_bit_and_average_does_not() {
    for seed in 0..20 {
        let (toy, [groups, channels]) = Toy::permuted(seed);
        let merged = toy.merge("pleas", 1.0).unwrap();
        assert_eq!(bits(&merged.block), bits(&toy.first), "{seed}");
        let moved = |order: &[usize]| order.iter().enumerate().filter(|(at, unit)| at != *unit).count();
        assert_eq!((merged.info.moved_groups, merged.info.moved_channels), (moved(&groups), moved(&channels)));
        assert!((merged.info.similarity.unwrap() - 1.0).abs() < 1e-12 && merged.info.damping.is_none());
        assert_ne!(bits(&toy.merge("average", 1.0).unwrap().block), bits(&toy.first), "{seed}");
        assert_eq!(bits(&toy.merge("pleas", 1.0).unwrap().block), bits(&merged.block));
    }
}

/// What a projection of `block` gives for the activations `x`.
fn outputs(block: &Block, projection: Projection, x: &[f64]) -> Vec<f64> {
    let linear = block.linear(projection).unwrap();
    let (weight, bias) = (linear.to_matrix(), linear.bias.clone().unwrap());
    let dot = |row: usize| weight.row(row).iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
    (0..weight.rows()).map(|row| dot(row) + f64::from(bias[row])).collect()
}

#[test]
fn least_squares_never_raises_the_error_and_tells_it_truly() {
    let mut lowered = 0;
    for seed in 0..40 {
        let toy = Toy::noisy(seed, 0.2);
        for size in [1.0, 1.3, 2.0] {
            let merged = toy.merge("pleas", size).unwrap();
            let (before, after) = (merged.info.error_before.unwrap(), merged.info.error_after.unwrap());
            assert!(after <= before, "{seed} {size}: {before} {after}");
            lowered += usize::from(after < 0.9 * before);
            let width = merged.block.ffn.as_ref().unwrap().width();
            assert_eq!(width, (size * F as f64).round() as usize);
        }
        // The down projection alone, by hand, with all channels kept: z is x and y side by side in the model's own order.
        let merged = toy.merge("pleas", 2.0).unwrap().block;
        let [x, y] = &toy.activations[3];
        for (x, y) in x.iter().zip(y) {
            let wanted = [outputs(&toy.first, Projection::Down, x), outputs(&toy.second, Projection::Down, y)];
            let got = outputs(&merged, Projection::Down, &[&x[..], y].concat());
            for (at, got) in got.iter().enumerate() {
                let want = 0.5 * (wanted[0][at] + wanted[1][at]);
                assert!((got - want).abs() < 1e-5, "{seed}: {got} {want}");
            }
        }
    }
    assert!(lowered > 30, "{lowered}");
}

#[test]
fn broken_input_is_refused() {
    let (toy, _) = Toy::permuted(3);
    for entry in ENTRIES {
        let name = entry.card.name;
        for size in [0.5, 2.5, f64::NAN] {
            assert!(matches!(toy.merge(name, size), Err(MethodError::Params { key: "size", .. })), "{name} {size}");
        }
        let mut other = Toy::permuted(3).0;
        other.second.ffn = other.second.ffn.map(|ffn| ffn.keep_channels(&[0, 1]));
        assert!(matches!(other.merge(name, 1.0), Err(MethodError::Shape { .. })), "{name}");
        let mut other = Toy::permuted(3).0;
        other.second.mixer = None;
        let message = other.merge(name, 1.0).unwrap_err().to_string();
        assert_eq!(message, "block 0 attention part: attention parts has 0, expected 1");
        let mut other = Toy::permuted(3).0;
        other.first.linear_mut(Projection::K).unwrap().weight = {
            let mut weight = other.first.linear(Projection::K).unwrap().to_matrix();
            weight.data_mut()[1] = f32::INFINITY;
            Arc::new(Dense(weight))
        };
        assert!(matches!(other.merge(name, 1.0), Err(MethodError::Numeric { .. })), "{name}");
        assert!((entry.build)(&Settings { bits: Some(3), ..Settings::default() }).is_err());
    }
    let pair = Pair { index: 2, first: &toy.first, second: &toy.second };
    let error = build("pleas").merge(&pair, 1.0, &Joints::new()).err().unwrap();
    assert_eq!(error, MethodError::MissingStat { stat: Stat::Gram, site: Site::new(2, Point::AttentionOut) });
    let narrow = Joints::from([(Point::AttentionOut, joint(Point::AttentionOut, &[vec![1.0]], &[vec![1.0]]))]);
    assert!(matches!(build("pleas").merge(&pair, 1.0, &narrow), Err(MethodError::Shape { .. })));
    assert!(Joint::new(Site::new(0, Point::FfnIn), 2, vec![0.0; 4]).is_err());
    assert!(Joint::new(Site::new(0, Point::FfnIn), 1, vec![0.0, 0.0, f64::NAN, 0.0]).is_err());
    let wrong = Settings { damping: Some(-1.0), ..Settings::default() };
    assert!((merge::find("pleas").unwrap().build)(&wrong).is_err());
}
