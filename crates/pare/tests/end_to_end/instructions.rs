//! The same bytes on every instruction set: what cuts and repairs with our own arithmetic alone.

use crate::model::Tiny;
use crate::program::pare;
use crate::words::story;
use pare_kernels::isa::Isa;
use std::fs;
use std::path::Path;

/// Without decompositions, then with Cholesky's factor: solved, inverted, and as the factor of an inverse.
const RECIPES: [(&str, &str); 9] = [
    ("magnitude", "0.5"),
    ("wanda", "0.5"),
    ("wanda-sp", "0.8"),
    ("slim", "0.8"),
    ("slim-free", "0.8"),
    ("sparsegpt", "0.5"),
    ("sparsegpt-solved", "0.5"),
    ("wanda-solved", "0.5"),
    ("struct-energy", "0.8"),
];

#[test]
fn every_set_writes_the_same_bytes() {
    let tiny = Tiny::of_family("llama-tied");
    let text = tiny.write("a.txt", story(900, 1));
    for (recipe, keep) in RECIPES {
        let outputs: Vec<(&str, Vec<u8>, Vec<u8>)> = Isa::available()
            .map(|isa| {
                let output = tiny.path(&format!("{recipe}-{}", isa.name()));
                let fixed =
                    ["shrink", &tiny.name(), "--recipe", recipe, "--keep", keep, "--text", &text, "--no-verify"];
                pare([&fixed[..], &["-o", &output]].concat()).env("PARE_ISA", isa.name()).succeeds();
                let read = |name: &str| fs::read(Path::new(&output).join(name)).unwrap();
                (isa.name(), read("model.safetensors"), read("pare.json"))
            })
            .collect();
        for (name, weights, record) in &outputs[1..] {
            assert!(*weights == outputs[0].1, "{recipe}: other weights on {name} than on {}", outputs[0].0);
            assert!(*record == outputs[0].2, "{recipe}: another record on {name} than on {}", outputs[0].0);
        }
    }
}

#[test]
fn a_set_that_is_unknown_is_refused() {
    pare(["methods"]).env("PARE_ISA", "sse9").refuses(&["PARE_ISA=sse9", "avx2", "portable"]);
}
