//! Directories that other tools quantised: the values of their documents, to the bit, and errors that name the tensor.

use crate::tiny::{golden, logits};
use pare_format::directory::ModelDirectory;
use pare_kernels::pool::Pool;
use pare_model::load::from_directory;
use pare_model::model::{Model, PackAs};
use pare_model::site::Projection;
use pare_model::storage::Dense;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Each form of `goldens/quantised`, and what its down projection is kept as.
const FORMS: [(&str, &str); 12] = [
    ("awq", "Q5_0"),
    ("float8", "f8_e4m3"),
    ("float8-tensor", "f8_e4m3"),
    ("fp8", "f8_e4m3"),
    ("gptq", "Q4_0"),
    ("gptq-3bit", "Q4_0"),
    ("gptq-8bit", "Q8_0"),
    ("gptq-order", "int8"),
    ("gptq-v2", "Q5_0"),
    ("int8", "Q8_0"),
    ("packed", "Q4_0"),
    ("packed-zeros", "int8"),
];

fn load(path: &Path) -> Result<Model, String> {
    let directory = ModelDirectory::open(path).map_err(|error| error.to_string())?;
    from_directory(&directory).map(|loaded| loaded.model).map_err(|error| error.to_string())
}

#[test]
fn every_form_has_the_values_of_its_documents_to_the_bit() {
    let pool = Pool::new(2);
    let folders = std::fs::read_dir(golden("quantised")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(folders.filter(|path| path.is_dir()).count(), FORMS.len(), "a folder is forgotten");
    for (form, kept) in FORMS {
        let path = golden("quantised").join(form);
        let model = load(&path).unwrap();
        let values = std::fs::read(path.join("values.f32")).unwrap();
        let mut rest = values.as_slice();
        let mut dense = model.clone();
        for projection in Projection::ALL {
            let linear = model.blocks[0].linear(projection).unwrap();
            let matrix = linear.to_matrix();
            let (own, after) = rest.split_at(4 * matrix.data().len());
            rest = after;
            for (index, (found, raw)) in matrix.data().iter().zip(own.as_chunks::<4>().0).enumerate() {
                let expected = f32::from_le_bytes(*raw);
                // A zero of a negative scale may have lost its sign.
                assert!(*found == expected, "{form}: {projection} value {index} is {found}, expected {expected}");
            }
            dense.blocks[0].linear_mut(projection).unwrap().weight = Arc::new(Dense(matrix));
        }
        assert!(rest.is_empty());
        assert_eq!(model.blocks[0].linear(Projection::Down).unwrap().weight.name(), kept, "{form}");
        let tokens: Vec<u32> = (0..16).map(|i| i * 7 % 16).collect();
        let expected = logits(&dense, &tokens, &pool);
        assert!(expected.iter().all(|value| value.is_finite()));
        assert_eq!(logits(&model, &tokens, &pool), expected, "{form}");
        assert_eq!(logits(&model.packed(PackAs::Exact, &pool), &tokens, &pool), expected, "{form}");
        if !kept.starts_with('Q') {
            assert_eq!(logits(&model.packed(PackAs::Stored, &pool), &tokens, &pool), expected, "{form}");
        }
    }
}

/// The tensors of a safetensors file: type, shape, bytes.
type Tensors = BTreeMap<String, (String, Vec<u64>, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let at = |value: &Value| value.as_u64().unwrap() as usize;
    let tensor = |(name, info): (String, Value)| {
        let range = at(&info["data_offsets"][0])..at(&info["data_offsets"][1]);
        let shape = info["shape"].as_array().unwrap().iter().map(|side| side.as_u64().unwrap()).collect();
        (name, (info["dtype"].as_str().unwrap().to_owned(), shape, data[range].to_vec()))
    };
    header.into_iter().map(tensor).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (dtype, shape, bytes)) in tensors {
        let range = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": range }));
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    std::fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

/// Loads `form` after `change` of the tensors of one matrix.
fn changed(form: &str, change: impl Fn(&mut Tensors, &str)) -> Result<Model, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = golden("quantised").join(form);
    std::fs::copy(path.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut tensors = read(&path.join("model.safetensors"));
    change(&mut tensors, "model.layers.0.mlp.down_proj.");
    write(&folder.path().join("model.safetensors"), &tensors);
    load(folder.path())
}

#[test]
fn a_part_that_is_missing_or_wrong_is_named() {
    for (form, _) in FORMS {
        let names: Vec<String> = {
            let all = read(&golden("quantised").join(form).join("model.safetensors"));
            all.into_keys().filter(|name| name.contains("down_proj") && !name.ends_with("bias")).collect()
        };
        for name in names {
            let optional = ["g_idx", "weight_zero_point", "input_scale"].iter().any(|part| name.ends_with(part));
            let part = name.rsplit('.').next().unwrap().to_owned();
            let without = changed(form, |tensors, _| drop(tensors.remove(&name)));
            match without {
                Ok(_) => assert!(optional, "{form} without {name}"),
                // FP8 may have either of two names for its scales.
                Err(error) => assert!(error.contains("down_proj.weight") || error.contains(&name), "{form}: {error}"),
            }
            if part == "input_scale" {
                continue;
            }
            let other = changed(form, |tensors, _| tensors.get_mut(&name).unwrap().0 = "U8".into());
            assert!(other.is_err(), "{form}: bytes that do not fit the type");
            let turned = changed(form, |tensors, _| tensors.get_mut(&name).unwrap().1.push(1));
            match turned {
                Ok(_) => assert!(
                    ["weight_shape", "weight_zero_point", "weight_scale"].contains(&part.as_str()),
                    "{form}: {name}"
                ),
                Err(error) => assert!(error.contains(&part) && error.contains("shape"), "{form}: {error}"),
            }
        }
        let beside = changed(form, |tensors, module| {
            tensors.insert(format!("{module}strange"), ("F16".into(), vec![1], vec![0, 0]));
        });
        assert!(beside.unwrap_err().contains("down_proj.strange"), "{form}");
    }
    let twice = changed("gptq", |tensors, module| {
        tensors.insert(format!("{module}weight"), ("F16".into(), vec![32, 64], vec![0; 4096]));
    });
    assert!(twice.unwrap_err().contains("stands beside"));
    let outside = changed("gptq-order", |tensors, module| {
        tensors.get_mut(&format!("{module}g_idx")).unwrap().2[..4].copy_from_slice(&(-1i32).to_le_bytes());
    });
    let error = outside.unwrap_err();
    assert!(error.contains("g_idx") && error.contains("0 to 3"), "{error}");
    let bias = changed("gptq-order", |tensors, module| {
        tensors.get_mut(&format!("{module}bias")).unwrap().2[1] = 0x3c;
    });
    assert!(bias.unwrap_err().contains("down_proj.bias"));
    let far = changed("gptq-8bit", |tensors, module| {
        tensors.get_mut(&format!("{module}qzeros")).unwrap().2.fill(0);
    });
    assert!(far.unwrap_err().contains("zero point"));
}

/// Whatever the numbers are, loading and decoding end in values or in an error.
#[test]
fn no_numbers_panic() {
    for (form, _) in FORMS {
        for fill in [0x00, 0xff, 0x7f, 0x80] {
            let model = changed(form, |tensors, module| {
                let own = tensors.iter_mut().filter(|(name, _)| name.starts_with(module) && !name.ends_with("bias"));
                own.for_each(|(_, (_, _, bytes))| bytes.fill(fill));
            });
            if let Ok(model) = model {
                model.blocks[0].linear(Projection::Down).unwrap().to_matrix();
            }
        }
    }
}
