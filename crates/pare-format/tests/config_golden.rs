//! Configurations that transformers wrote are understood as transformers understands them (see `golden/configs.py`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use pare_format::config::{ModelConfig, Scaling};
use pare_format::json::{self, Bounds, Json, Object};

/// What is compared, in the form of `configs.json`.
fn understood(config: &ModelConfig) -> Json {
    let (scaling, factor) = match config.rope.scaling {
        Scaling::None => ("default", None),
        Scaling::Linear { factor } => ("linear", Some(factor)),
        Scaling::Llama3 { factor, .. } => ("llama3", Some(factor)),
        Scaling::Yarn { factor, .. } => ("yarn", Some(factor)),
        Scaling::Divisors(_) => ("divisors", None),
    };
    let dtype = config.dtype.map(|dtype| match dtype.name() {
        "F16" => "float16",
        "BF16" => "bfloat16",
        other => panic!("{other}"),
    });
    let norm_eps: f64 = config.norm_eps.to_string().parse().unwrap();
    let entries: [(&str, Json); 18] = [
        ("family", config.family.model_type().into()),
        ("hidden", config.hidden.into()),
        ("blocks", config.blocks.into()),
        ("heads", config.heads.into()),
        ("kv_heads", config.kv_heads.into()),
        ("head_dim", config.head_dim.into()),
        ("ffn", config.ffn.into()),
        ("vocab", config.vocab.into()),
        ("context", config.context.into()),
        ("norm_eps", norm_eps.into()),
        ("theta", config.rope.theta.into()),
        ("scaling", scaling.into()),
        ("factor", factor.into()),
        ("tied", config.tied.into()),
        ("bos", config.bos.map(u64::from).into()),
        ("eos", config.eos.iter().map(|id| u64::from(*id)).collect::<Vec<_>>().into()),
        ("dtype", dtype.into()),
        ("windows", (0..config.blocks).map(|i| config.window(i)).collect::<Vec<_>>().into()),
    ];
    let mut object = Object::default();
    entries.into_iter().for_each(|(key, value)| object.set(key, value));
    object.into()
}

#[test]
fn as_transformers_understands_them() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let expected = json::read_object(&golden.join("configs.json"), Bounds::CONFIG).unwrap();
    assert_eq!(expected.len(), 11);
    for (name, expected) in expected.iter() {
        let path = golden.join(format!("configs/{name}.json"));
        let config = ModelConfig::open(&path).unwrap();
        assert_eq!(understood(&config).to_text(), expected.to_text(), "{name}");
        let Json::Object(written) = json::parse(&path, config.to_json().as_bytes(), Bounds::CONFIG).unwrap() else {
            panic!("{name} is no object");
        };
        let again = ModelConfig::from_json(&path, written).unwrap();
        assert_eq!(understood(&again).to_text(), expected.to_text(), "{name}, written and read");
    }
}
