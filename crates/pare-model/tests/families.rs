//! Logits of transformers for a tiny model of every family.

use crate::tiny::{FAMILIES, family, golden, logits};
use pare_kernels::pool::Pool;
use pare_model::sample::argmax;
use serde_json::Value;

/// Agreement of two f32 forward passes with logits of about 15.
const TOLERANCE: f64 = 1e-4;

fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden("families").join(name).join("logits.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn every_family_gives_the_logits_of_transformers() {
    let pool = Pool::new(2);
    for name in FAMILIES {
        let (model, golden) = (family(name), read(name));
        let ids: Vec<u32> = numbers(&golden["ids"]).into_iter().map(|id| id as u32).collect();
        let logits = logits(&model, &ids, &pool);
        let rows: Vec<&[f32]> = logits.chunks_exact(model.architecture.vocab).collect();
        let last = numbers(&golden["last"]);
        assert_eq!((rows.len(), rows[0].len()), (ids.len(), last.len()), "{name}");
        for (id, (&got, &want)) in rows[rows.len() - 1].iter().zip(&last).enumerate() {
            assert!((f64::from(got) - want).abs() <= TOLERANCE, "{name}: logit {id} is {got}, expected {want}");
        }
        let best: Vec<f64> = rows.iter().map(|row| argmax(row) as f64).collect();
        assert_eq!(best, numbers(&golden["top1"]), "{name}: most likely ids");
    }
}

#[test]
fn no_golden_folder_is_forgotten() {
    let folders = std::fs::read_dir(golden("families")).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with(['.', '_']))
        .collect();
    names.sort();
    assert_eq!(names, FAMILIES);
}
