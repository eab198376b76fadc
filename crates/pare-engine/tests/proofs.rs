//! Proofs: every recipe has what it must beat beside it.

use crate::tiny::{bundle, model_for, sequences, work};
use pare_engine::figures::{Report, Role};
use pare_engine::prove::{AS_READ, Job, PLAIN_BITS, Proof, prove};
use pare_engine::recipe::{BUILT_IN, Recipe};
use pare_engine::text::{Named, Text};
use pare_engine::write::{WriteAs, weight_bytes};
use pare_format::write::OutputDir;
use pare_kernels::pool::Pool;
use pare_methods::{encode, rewrite};
use std::path::Path;

fn proven(name: &str, folder: &Path, pool: &Pool) -> Report {
    let mut bundle = bundle("llama-tied", folder);
    bundle.model = model_for(name);
    let recipe = Recipe::find(name).unwrap();
    let text = |seed| Text { sequences: sequences(6, 40, 96, seed), origin: format!("seed {seed}") };
    let named = |name: &str, seed| Named { name: name.to_owned(), text: text(seed) };
    let (calibration, verification) = (text(4), [named("speeches", 5), named("own text", 6)]);
    let write_as = WriteAs::Auto.of(&recipe, &bundle.model);
    let (bundle, recipe, calibration) = (&bundle, &recipe, &calibration);
    let job = Job { bundle, recipe, keep: recipe.keep, calibration, seed: 3, write_as, resumable: false };
    let output = OutputDir::create(folder.join(name), false).unwrap();
    let made = job.run(&output, work(pool)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let weigh = |path: &Path| weight_bytes(path).ok();
    let proof = Proof {
        verification: &verification,
        context: 40,
        probes: 0,
        prompts: &[],
        continuation: 0,
        speed: false,
        weigh: Some(&weigh),
    };
    prove(&job, &made, output.temporary(), &proof, work(pool)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_recipe_has_its_baselines_and_what_the_user_had_beside_it() {
    let pool = Pool::new(2);
    for (name, _) in BUILT_IN {
        let folder = tempfile::tempdir().unwrap();
        let report = proven(name, folder.path(), &pool);
        let recipe = Recipe::find(name).unwrap();
        for figures in &report.figures {
            let names: Vec<&str> = figures.texts.iter().map(|text| text.name.as_str()).collect();
            assert_eq!(names, ["speeches", "own text"], "{name}: {}", figures.label);
            let [first, second] = [&figures.texts[0], &figures.texts[1]];
            assert_eq!((first.perplexity, first.kl_mean), (figures.perplexity, figures.kl_mean), "{name}");
            assert!(second.perplexity.is_some() && second.perplexity != first.perplexity, "{name}: {}", figures.label);
        }
        let labels = |role: Role| -> Vec<&str> {
            report.figures.iter().filter(|figures| figures.role == role).map(|figures| figures.label.as_str()).collect()
        };
        assert_eq!(
            (labels(Role::Dense), labels(Role::AsRead), labels(Role::Result)),
            (vec!["dense"], vec![AS_READ], vec![*name])
        );
        let removes =
            recipe.encode.iter().any(|step| encode::find(&step.method).unwrap().removes) || !recipe.cut.is_empty();
        let rewrites = recipe.rewrite.iter().any(|step| rewrite::find(&step.method).unwrap().removes);
        let mut expected = Vec::new();
        if removes {
            let simple = ["random", "magnitude"].into_iter().filter(|score| score != name);
            expected.extend(simple.map(|score| format!("{score}, no repair")));
        }
        if rewrites {
            expected.push("blocks dropped".to_owned());
        }
        expected.push(PLAIN_BITS.to_owned());
        assert_eq!(labels(Role::Baseline), expected, "{name}");

        let of = |label: &str| report.figures.iter().find(|figures| figures.label == label).unwrap();
        let (dense, read, result, plain) = (of("dense"), of(AS_READ), of(name), of(PLAIN_BITS));
        for figures in &report.figures {
            assert!(figures.perplexity.is_some_and(|value| value > 1.0), "{name}: {}", figures.label);
            assert_eq!(figures.kl_mean.is_some(), !matches!(figures.role, Role::Dense | Role::AsRead), "{name}");
        }
        assert_eq!((read.perplexity, read.parameters), (dense.perplexity, dense.parameters), "{name}");
        assert_eq!(read.peak_memory_bytes, read.bytes, "each path is that of its own files");
        for figures in [dense, result, plain] {
            assert_eq!(figures.peak_memory_bytes, figures.bytes, "{name}: {}", figures.label);
        }
        // Small headers aside, plain bits have no more bytes than the result, or the least that there are.
        let least = report.notes.iter().any(|note| note.contains("the least that plain types reach"));
        assert!(least || plain.bytes <= result.bytes, "{name}: {:?} of {:?}", plain.bytes, result.bytes);
        assert!(report.notes.iter().any(|note| note.starts_with("as read is what was given")), "{:?}", report.notes);
    }
}
