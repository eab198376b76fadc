//! Weights kept in parts: every form is read back to the bit, and every rule that its tensors can break is answered by name.

use crate::tiny::{Draw, bits, golden, logits};
use pare_format::directory::ModelDirectory;
use pare_format::safetensors::Dtype;
use pare_format::safetensors::write::{SafetensorsWriter, TensorSpec};
use pare_kernels::blocks::{BlockType, RowType};
use pare_kernels::pool::Pool;
use pare_kernels::sparse::{EightRowsParts, SparseType, SparseValues, TwoOfFourParts};
use pare_model::load::from_directory;
use pare_model::model::{Model, PackAs};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

/// The weight that is kept in parts.
const NAME: &str = "model.layers.0.mlp.up_proj.weight";
const SHAPE: [usize; 2] = [80, 64];

type Tensor = (Dtype, Vec<usize>, Vec<u8>);
type Tensors = BTreeMap<String, Tensor>;

/// The tied llama of the goldens.
fn plain() -> Tensors {
    let directory = ModelDirectory::open(golden("families/llama-tied")).unwrap();
    let tensor = |name: &str| {
        let view = directory.tensor(name).unwrap();
        (name.to_owned(), (view.dtype, view.shape.clone(), view.bytes.to_vec()))
    };
    directory.names().map(tensor).collect()
}

fn halves(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn f32s(draw: &mut Draw, shape: &[usize]) -> Tensor {
    (Dtype::F32, shape.to_vec(), floats(&draw.many(shape.iter().product(), 0.0, 0.1)))
}

fn values(values: &SparseValues, shape: Vec<usize>, scales: Vec<usize>) -> Vec<(&'static str, Tensor)> {
    match values {
        SparseValues::F16(values) => vec![("values", (Dtype::F16, shape, halves(values)))],
        SparseValues::Int8 { values, scales: of } => vec![
            ("values", (Dtype::I8, shape, values.iter().map(|value| *value as u8).collect())),
            ("scales", (Dtype::F16, scales, halves(of))),
        ],
    }
}

/// The tensors of a random matrix of `shape` in `form`, behind `prefix`.
fn form(form: &str, prefix: &str, [out, inn]: [usize; 2]) -> Tensors {
    let (pool, mut draw) = (Pool::new(1), Draw::new(5));
    let numbers = draw.many(out * inn, 0.0, 0.1);
    let two = |row: usize, to: &mut [f32]| {
        for (at, to) in to.iter_mut().enumerate() {
            *to = if (at + row) % 4 < 2 { numbers[row * inn + at] } else { 0.0 };
        }
    };
    let eight = |row: usize, to: &mut [f32]| {
        for (at, to) in to.iter_mut().enumerate() {
            *to = if (at + row / 8).is_multiple_of(3) { numbers[row * inn + at] } else { 0.0 };
        }
    };
    let ty = if form.ends_with("int8") { SparseType::Int8 } else { SparseType::F16 };
    let parts: Vec<(&str, Tensor)> = match form.split('-').next().unwrap() {
        "2of4" => {
            let parts = TwoOfFourParts::find(ty, out, inn, &two, &pool).unwrap();
            let mut all = vec![("positions", (Dtype::U8, vec![out, inn / 8], parts.positions))];
            all.extend(values(&parts.values, vec![out, inn / 2], vec![out, inn / 32]));
            all
        }
        "rows8" => {
            let parts = EightRowsParts::find(ty, out, inn, &eight, &pool).unwrap();
            let offsets = parts.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
            let (kept, groups) = (parts.columns.len(), out / 8);
            let mut all = vec![
                ("offsets", (Dtype::I64, vec![groups + 1], offsets)),
                ("columns", (Dtype::U16, vec![kept], halves(&parts.columns))),
            ];
            all.extend(values(&parts.values, vec![kept, 8], vec![groups, 8]));
            all
        }
        "low_rank" => vec![("a", f32s(&mut draw, &[out, 5])), ("b", f32s(&mut draw, &[5, inn]))],
        name => {
            let ty = BlockType::ALL.into_iter().find(|ty| ty.name().to_lowercase() == name).unwrap();
            let mut bytes = vec![0; numbers.len() / ty.values_per_block() * ty.bytes_per_block()];
            RowType::Blocks(ty).encode(&numbers, &mut bytes);
            let tensor = (Dtype::U8, vec![out, bytes.len() / out], bytes);
            return [(format!("{prefix}.{name}"), tensor)].into();
        }
    };
    let kind = form.split('-').next().unwrap();
    parts.into_iter().map(|(part, tensor)| (format!("{prefix}.{kind}.{part}"), tensor)).collect()
}

/// The golden model with [`NAME`] in these tensors instead.
fn with(parts: Tensors) -> Tensors {
    let mut all = plain();
    all.remove(NAME);
    all.extend(parts);
    all
}

fn write(folder: &Path, tensors: &Tensors, method: &str) {
    let config = fs::read_to_string(golden("families/llama-tied/config.json")).unwrap();
    let config = config.replacen('{', &format!("{{ \"quantization_config\": {{ \"quant_method\": \"{method}\" }},"), 1);
    fs::write(folder.join("config.json"), config).unwrap();
    let spec = |(name, (dtype, shape, _)): (&String, &Tensor)| TensorSpec {
        name: name.clone(),
        dtype: *dtype,
        shape: shape.clone(),
    };
    let path = folder.join("model.safetensors");
    let file = File::create(&path).unwrap();
    let mut writer = SafetensorsWriter::new(&path, file, tensors.iter().map(spec).collect(), &[]).unwrap();
    tensors.values().for_each(|(_, _, bytes)| writer.write(bytes).unwrap());
    writer.finish().unwrap();
}

fn read(tensors: &Tensors) -> Result<Model, String> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), tensors, "pare");
    let directory = ModelDirectory::open(folder.path()).map_err(|error| error.to_string())?;
    from_directory(&directory).map(|loaded| loaded.model).map_err(|error| error.to_string())
}

/// Tensors of a form, changed so that they break one rule.
struct Broken {
    form: &'static str,
    change: fn(&mut Tensors),
    says: &'static [&'static str],
}

fn part<'a>(tensors: &'a mut Tensors, suffix: &str) -> &'a mut Tensor {
    tensors.get_mut(&format!("{NAME}.{suffix}")).unwrap()
}

fn take(tensors: &mut Tensors, suffix: &str) -> Tensor {
    tensors.remove(&format!("{NAME}.{suffix}")).unwrap()
}

fn put(tensors: &mut Tensors, suffix: &str, tensor: Tensor) {
    tensors.insert(format!("{NAME}.{suffix}"), tensor);
}

/// Puts a weight of blocks below as many sums as `depth`.
fn nest(tensors: &mut Tensors, depth: usize) {
    let tensor = take(tensors, "q8_0");
    put(tensors, &format!("{}q8_0", "sum.0.".repeat(depth)), tensor);
}

const ROWS: &[Broken] = &[
    Broken { form: "q8_0", change: |t| drop(take(t, "q8_0")), says: &["missing 1", "up_proj.weight"] },
    Broken {
        form: "q8_0",
        change: |t| drop(t.insert(NAME.to_owned(), (Dtype::F32, SHAPE.to_vec(), vec![0; 80 * 64 * 4]))),
        says: &["up_proj.weight\": is kept as a plain tensor and as \"q8_0\"; expected one form"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let again = part(t, "q8_0").clone();
            put(t, "q4_0", again);
        },
        says: &["is kept as \"q4_0\" and as \"q8_0\"; expected one form"],
    },
    Broken {
        form: "q8_0",
        change: |t| part(t, "q8_0").0 = Dtype::I8,
        says: &["weight.q8_0\": is of dtype I8; expected U8"],
    },
    Broken {
        form: "q8_0",
        change: |t| part(t, "q8_0").1 = vec![40, 136],
        says: &["model.safetensors", "weight.q8_0\": has shape [40, 136]; expected [80, 68]"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let tensor = take(t, "q8_0");
            put(t, "q4_k", tensor);
        },
        says: &["weight.q4_k\": has rows of 64 values", "expected a whole number of blocks of q4_k"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let tensor = take(t, "q8_0");
            put(t, "q3_0", tensor);
        },
        says: &["weight.q3_0\": is of no form; expected one of q4_0", "2of4, rows8, low_rank, sum, wrapped"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let tensor = part(t, "q8_0").clone();
            put(t, "q8_0.more", tensor);
        },
        says: &["weight.q8_0.more\": is below a tensor of blocks"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let tensor = part(t, "q8_0").clone();
            put(t, "", tensor);
        },
        says: &["weight.\": is of no form"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let again = part(t, "q8_0").clone();
            t.insert("model.norm.weight.q8_0".to_owned(), again);
        },
        says: &["not expected 1 (\"model.norm.weight.q8_0\")"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let again = part(t, "q8_0").clone();
            t.insert("model.extra.weight.q8_0".to_owned(), again);
        },
        says: &["not expected 1 (\"model.extra.weight.q8_0\")"],
    },
    Broken {
        form: "2of4-f16",
        change: |t| drop(take(t, "2of4.positions")),
        says: &["weight.2of4.positions\": is missing; expected positions, values, scales"],
    },
    Broken { form: "2of4-f16", change: |t| drop(take(t, "2of4.values")), says: &["weight.2of4.values\": is missing"] },
    Broken { form: "2of4-int8", change: |t| drop(take(t, "2of4.scales")), says: &["weight.2of4.scales\": is missing"] },
    Broken {
        form: "2of4-f16",
        change: |t| put(t, "2of4.scales", (Dtype::F16, vec![80, 2], vec![0; 320])),
        says: &["weight.2of4.scales\": stands beside values of F16"],
    },
    Broken {
        form: "2of4-f16",
        change: |t| put(t, "2of4.more", (Dtype::F16, vec![1], vec![0; 2])),
        says: &["weight.2of4.more\": is no part of its form; expected positions, values, scales"],
    },
    Broken {
        form: "2of4-f16",
        change: |t| part(t, "2of4.values").0 = Dtype::I16,
        says: &["weight.2of4.values\": is of dtype I16; expected F16 or I8"],
    },
    Broken {
        form: "2of4-f16",
        change: |t| part(t, "2of4.positions").1 = vec![40, 16],
        says: &["weight.2of4.positions\": has shape [40, 16]; expected [80, 8]"],
    },
    Broken {
        form: "2of4-f16",
        change: |t| part(t, "2of4.values").1 = vec![160, 16],
        says: &["weight.2of4.values\": has shape [160, 16]; expected [80, 32]"],
    },
    Broken {
        form: "2of4-int8",
        change: |t| part(t, "2of4.scales").1 = vec![160],
        says: &["weight.2of4.scales\": has shape [160]; expected [80, 2]"],
    },
    Broken {
        form: "2of4-f16",
        change: |t| part(t, "2of4.positions").2[11] = 0x4f,
        says: &["weight.2of4.positions\": row 1, group 6: the two positions of 4 do not ascend"],
    },
    Broken {
        form: "2of4-int8",
        change: |t| part(t, "2of4.scales").2[2..4].copy_from_slice(&[0, 0x7c]),
        says: &["weight.2of4.scales\": scale 1 is not finite"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| drop(take(t, "rows8.columns")),
        says: &["weight.rows8.columns\": is missing; expected offsets, columns, values, scales"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| part(t, "rows8.offsets").0 = Dtype::F64,
        says: &["weight.rows8.offsets\": is of dtype F64; expected I64 or U64"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| *part(t, "rows8.offsets") = (Dtype::I64, vec![2], vec![0; 16]),
        says: &["weight.rows8.offsets\": has shape [2]; expected [11]"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| part(t, "rows8.offsets").2[0] = 1,
        says: &["weight.rows8.offsets\": holds numbers that do not ascend so; expected 0, then"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| part(t, "rows8.offsets").2[80..].fill(0xff),
        says: &["weight.rows8.offsets\": holds numbers that do not ascend so"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| part(t, "rows8.offsets").2[80] += 1,
        says: &["weight.rows8.columns\": has shape [214]; expected [215]"],
    },
    Broken {
        form: "rows8-int8",
        change: |t| part(t, "rows8.scales").1 = vec![80],
        says: &["weight.rows8.scales\": has shape [80]; expected [10, 8]"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| part(t, "rows8.columns").2[2] = 0,
        says: &["weight.rows8.columns\": group 0, column 1: columns must ascend"],
    },
    Broken {
        form: "rows8-f16",
        change: |t| part(t, "rows8.columns").2[43] = 0x7f,
        says: &["weight.rows8.columns\": group 0, column 21: columns must ascend and be below"],
    },
    Broken {
        form: "rows8-int8",
        change: |t| part(t, "rows8.scales").2[..2].copy_from_slice(&[1, 0x7c]),
        says: &["weight.rows8.scales\": scale 0 is not finite"],
    },
    Broken {
        form: "low_rank",
        change: |t| part(t, "low_rank.a").1 = vec![400],
        says: &["weight.low_rank.a\": has shape [400]; expected [80, R]"],
    },
    Broken {
        form: "low_rank",
        change: |t| part(t, "low_rank.b").1 = vec![64, 5],
        says: &["weight.low_rank.b\": has shape [64, 5]; expected [5, 64]"],
    },
    Broken {
        form: "low_rank",
        change: |t| *part(t, "low_rank.b") = (Dtype::U8, vec![5, 64], vec![0; 320]),
        says: &["weight.low_rank.b\": U8 is not supported; supported: F32, F16, BF16"],
    },
    Broken {
        form: "q8_0",
        change: |t| nest(t, 5),
        says: &["sum.0.sum.0.sum.0.sum.0.sum\": is nested 5 deep; expected at most 4"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let tensor = take(t, "q8_0");
            put(t, "sum.1.q8_0", tensor);
        },
        says: &["weight.sum.1\": is not the number of a term; expected terms numbered from 0"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let tensor = take(t, "q8_0");
            put(t, "sum.00.q8_0", tensor);
        },
        says: &["weight.sum.00\": is not the number of a term"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            let tensor = take(t, "q8_0");
            put(t, "wrapped.core.q8_0", tensor);
        },
        says: &["weight.wrapped.left\": is missing; expected left, core, right"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            wrap(t);
            part(t, "wrapped.left").1 = vec![10, 16, 4];
        },
        says: &["weight.wrapped.left\": has shape [10, 16, 4]; expected [count, size, size] with count * size = 80"],
    },
    Broken {
        form: "q8_0",
        change: |t| {
            wrap(t);
            *part(t, "wrapped.right") = (Dtype::F32, vec![16, 2, 2], vec![0; 256]);
        },
        says: &["weight.wrapped.right\": has shape [16, 2, 2]; expected [count, size, size] with count * size = 64"],
    },
];

/// Puts a weight of blocks between two block-diagonal matrices.
fn wrap(tensors: &mut Tensors) {
    let (mut draw, tensor) = (Draw::new(6), take(tensors, "q8_0"));
    put(tensors, "wrapped.core.q8_0", tensor);
    put(tensors, "wrapped.left", f32s(&mut draw, &[10, 8, 8]));
    put(tensors, "wrapped.right", f32s(&mut draw, &[2, 32, 32]));
}

#[test]
fn every_broken_rule_is_answered_with_file_tensor_found_and_expected() {
    let mut failures = Vec::new();
    for Broken { form: name, change, says } in ROWS {
        let mut tensors = with(form(name, NAME, SHAPE));
        change(&mut tensors);
        match read(&tensors) {
            Ok(_) => failures.push(format!("{name} loads, expected {says:?}")),
            Err(said) if says.iter().all(|fragment| said.contains(fragment)) => {}
            Err(said) => failures.push(format!("{name}: no {says:?} in: {said}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_form_loads_and_computes_what_its_decoded_values_do() {
    let pool = Pool::new(2);
    let tokens: Vec<u32> = (0..40).map(|at| at * 37 % 128).collect();
    let forms =
        ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "2of4-f16", "2of4-int8", "rows8-f16", "rows8-int8", "low_rank"];
    for name in forms {
        let model = read(&with(form(name, NAME, SHAPE))).unwrap();
        let up = |model: &Model| model.blocks[0].ffn.as_ref().unwrap().up.clone();
        assert_eq!(
            up(&model).weight.name().to_lowercase(),
            name.replace('_', if name == "low_rank" { " " } else { "_" })
        );
        // Decoded, and written as plain f32: another way to the same numbers.
        let matrix = up(&model).to_matrix();
        let dense = (Dtype::F32, SHAPE.to_vec(), floats(matrix.data()));
        let dense = read(&with([(NAME.to_owned(), dense)].into())).unwrap();
        assert!(matrix.data().iter().any(|value| *value != 0.0), "{name}");
        let exact = |model: &Model| {
            bits(&logits(&model.packed(PackAs::Type(pare_kernels::panels::PanelType::F32), &pool), &tokens, &pool))
        };
        if name == "low_rank" {
            let (own, other) = (logits(&model, &tokens, &pool), logits(&dense, &tokens, &pool));
            assert!(own.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-4), "{name}: sums in two steps");
        } else {
            assert_eq!(exact(&model), exact(&dense), "{name}");
            let rounds = name == "2of4-int8";
            let same = bits(&logits(&model, &tokens, &pool)) == bits(&logits(&dense, &tokens, &pool));
            assert_eq!(same, !rounds, "{name}: only integers of 2:4 round the rows that they multiply");
        }
        let stored = model.packed(PackAs::Stored, &pool);
        assert_eq!(up(&stored).weight.name(), up(&model).weight.name());
    }
}

#[test]
fn sums_and_wrapped_weights_hold_every_other_form() {
    let mut tensors = with(form("q8_0", &format!("{NAME}.sum.0"), SHAPE));
    tensors.extend(form("low_rank", &format!("{NAME}.sum.1"), SHAPE));
    tensors.extend(form("q4_0", &format!("{NAME}.sum.2.sum.0.sum.0"), SHAPE));
    let mut draw = Draw::new(6);
    let at = format!("{NAME}.sum.3.wrapped");
    tensors.insert(format!("{at}.left"), f32s(&mut draw, &[10, 8, 8]));
    tensors.insert(format!("{at}.right"), f32s(&mut draw, &[2, 32, 32]));
    tensors.extend(form("rows8-int8", &format!("{at}.core"), SHAPE));
    tensors.insert(format!("{NAME}.sum.4"), f32s(&mut draw, &SHAPE));
    let model = read(&tensors).unwrap();
    let whole = model.blocks[0].ffn.as_ref().unwrap().up.to_matrix();
    let alone = |parts: Tensors, from: &str| {
        let rename = |(name, tensor): (String, Tensor)| (name.replacen(from, NAME, 1), tensor);
        let parts: Tensors = parts.into_iter().map(rename).collect();
        read(&with(parts)).unwrap().blocks[0].ffn.as_ref().unwrap().up.to_matrix()
    };
    let mut expected = vec![0.0f32; 80 * 64];
    for term in 0..5 {
        let prefix = format!("{NAME}.sum.{term}");
        let own = tensors.iter().filter(|(name, _)| name.starts_with(&prefix));
        let own: Tensors = own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        expected.iter_mut().zip(alone(own, &prefix).data()).for_each(|(sum, value)| *sum += value);
    }
    assert_eq!(bits(whole.data()), bits(&expected));
}

#[test]
fn only_a_directory_that_says_so_keeps_weights_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &with(form("q8_0", NAME, SHAPE)), "quanto");
    let said = ModelDirectory::open(folder.path()).unwrap_err().to_string();
    assert!(said.contains("config.json") && said.contains("(\"quanto\") is not supported"), "{said}");
    let config = fs::read_to_string(golden("families/llama-tied/config.json")).unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    let directory = ModelDirectory::open(folder.path()).unwrap();
    let said = from_directory(&directory).unwrap_err().to_string();
    assert!(said.contains("missing 1 (\"model.layers.0.mlp.up_proj.weight\")"), "{said}");
}

#[test]
fn mutated_parts_end_in_an_error_that_names_the_file_or_in_a_model() {
    let mut draw = Draw::new(9);
    let mut below = |most: usize| draw.tokens(1, most)[0] as usize;
    let mut ends = [0, 0];
    for name in ["q4_0", "2of4-f16", "2of4-int8", "rows8-f16", "rows8-int8", "low_rank"] {
        for _ in 0..60 {
            let mut parts: Vec<(String, Tensor)> = form(name, NAME, SHAPE).into_iter().collect();
            let (at, what) = (below(parts.len()), below(4));
            let (part, (dtype, shape, bytes)) = &mut parts[at];
            match what {
                0 => *part = part.replacen(".weight.", ".weight.sum.0.", below(2)),
                1 => shape.reverse(),
                2 => *dtype = if dtype.bits() == 8 { Dtype::BOOL } else { Dtype::BF16 },
                _ => {
                    let place = below(bytes.len());
                    bytes[place] ^= 1 << below(8);
                }
            }
            if parts.iter().any(|(_, (dtype, shape, bytes))| dtype.bytes(shape) != Some(bytes.len() as u64)) {
                continue;
            }
            match read(&with(parts.into_iter().collect())) {
                Ok(_) => ends[0] += 1,
                Err(said) => {
                    ends[1] += 1;
                    assert!(said.contains("/") && said.contains(": "), "{said}");
                }
            }
        }
    }
    assert!(ends.iter().all(|end| *end > 20), "models and errors: {ends:?}");
}
