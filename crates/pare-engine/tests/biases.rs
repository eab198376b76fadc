//! Repairs that add biases: on families that have no place for them the result is the llama that the model also is, or is refused.

use crate::tiny::{bits, bundle, logits, sequences, work};
use crate::written::{shrunk, there_and_back};
use pare_engine::bundle::Bundle;
use pare_engine::export::{Export, Target};
use pare_engine::prove::{Job, check, record};
use pare_engine::recipe::Recipe;
use pare_engine::text::Text;
use pare_engine::write::{WriteAs, allows_bias, other_family, write_directory};
use pare_format::config::Family;
use pare_format::safetensors::Dtype;
use pare_format::write::{NewFile, OutputDir};
use pare_kernels::pool::Pool;
use pare_model::site::Projection;

/// As flap, with as much of every block, and one of two groups.
const EVEN: &str = "name = \"even-flap\"\nabout = \"test\"\nsource = \"own\"\nkeep = 0.6\n\
    [[cut]]\ngrain = \"channel\"\nscore = \"fluctuation\"\ncompensate = \"bias\"\nshare = 0.5\nmultiple = 8\n\
    [[cut]]\ngrain = \"group\"\nscore = \"fluctuation\"\ncompensate = \"bias\"\nshare = 0.5\n";

fn flap() -> String {
    include_str!("../../../recipes/flap.toml").replace("keep = 0.8", "keep = 0.6")
}

fn has_bias(bundle: &Bundle, projection: Projection) -> bool {
    bundle.model.blocks.iter().any(|block| {
        let bias = block.linear(projection).and_then(|linear| linear.bias.as_ref());
        bias.is_some_and(|bias| bias.iter().any(|&value| value != 0.0))
    })
}

#[test]
fn qwen2_and_mistral_with_new_biases_are_written_as_llama() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    for family in ["qwen2", "mistral"] {
        let before = bundle(family, folder.path());
        for (name, recipe) in [("even", EVEN.to_owned()), ("flap", flap())] {
            let model = shrunk(&before, &recipe, &pool);
            let to = folder.path().join(format!("{family}-{name}"));
            let after = there_and_back(&before, &model, &to, &pool);
            assert_eq!(after.config.family, Family::Llama, "{family} {name}");
            assert!(after.config.attention_bias && after.config.mlp_bias, "{family} {name}");
            assert!(has_bias(&after, Projection::O) && has_bias(&after, Projection::Down), "{family} {name}");
            assert_eq!(has_bias(&after, Projection::Q), family == "qwen2", "{family} {name}");
            let written = std::fs::read_to_string(to.join("config.json")).unwrap();
            for says in
                ["\"model_type\": \"llama\"", "\"LlamaForCausalLM\"", "\"attention_bias\": true", "\"mlp_bias\": true"]
            {
                assert!(written.contains(says), "{family} {name}: {says} in {written}");
            }
            assert!(!written.contains("sliding_window"), "{written}");
            assert_eq!(after.config.obstacle().is_none(), name == "even", "{family} {name}");
            let recipe = Recipe::parse("test.toml", &recipe).unwrap();
            let note = other_family(&before.config, &recipe).unwrap();
            assert!(note.contains(&format!("{family} has no place")) && note.contains("written as llama"), "{note}");
            assert_eq!(other_family(&after.config, &recipe), None);
        }
    }
}

#[test]
fn the_record_says_of_which_family_the_result_is() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let calibration = Text { sequences: sequences(6, 40, 128, 4), origin: "test".into() };
    let recipe = Recipe::parse("test.toml", EVEN).unwrap();
    for (family, says) in [("qwen2", true), ("llama-tied", false)] {
        let before = bundle(family, folder.path());
        let write_as = WriteAs::Type(Dtype::F32);
        let job = Job {
            bundle: &before,
            recipe: &recipe,
            keep: 0.6,
            calibration: &calibration,
            seed: 0,
            write_as,
            resumable: false,
        };
        let output = OutputDir::create(folder.path().join(format!("{family}-record")), false).unwrap();
        let made = job.run(&output, work(&pool)).unwrap();
        let notes = record(&job, &made, None)["notes"].to_string();
        assert_eq!(notes.contains("written as llama"), says, "{family}: {notes}");
    }
}

#[test]
fn what_became_a_llama_comes_back_from_gguf_to_the_bit() {
    let (pool, folder) = (Pool::new(2), tempfile::tempdir().unwrap());
    let before = bundle("qwen2", folder.path());
    for (name, recipe, architecture) in [("even", EVEN.to_owned(), "llama"), ("flap", flap(), "deci")] {
        let after = there_and_back(&before, &shrunk(&before, &recipe, &pool), &folder.path().join(name), &pool);
        let path = folder.path().join(format!("{name}.gguf"));
        let plan = Export::plan(&after, Target::F32).unwrap();
        let written = plan.write(NewFile::create(&path, false).unwrap(), work(&pool)).unwrap();
        assert_eq!(written.architecture, architecture);
        let again = Bundle::open(&path.display().to_string(), work(&pool)).unwrap();
        assert!(
            has_bias(&again, Projection::K) && has_bias(&again, Projection::O) && has_bias(&again, Projection::Down)
        );
        let tokens = sequences(1, 40, 128, 8).remove(0);
        assert_eq!(bits(&logits(&again.model, &tokens, &pool)), bits(&logits(&after.model, &tokens, &pool)), "{name}");
    }
}

#[test]
fn a_model_that_is_no_llama_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::find("flap").unwrap();
    let mut windowed = bundle("mistral", folder.path());
    check(&windowed, &recipe, 0.6, WriteAs::Auto).unwrap();
    (windowed.config.sliding_window, windowed.config.windowed) = (Some(32), vec![true, false]);
    for (bundle, why) in [(bundle("qwen3", folder.path()), "per head"), (windowed, "sliding window")] {
        let error = check(&bundle, &recipe, 0.6, WriteAs::Auto).unwrap_err();
        let (error, input) = (error.to_string(), error.is_bad_input());
        assert!(input && error.contains(why) && error.contains("least-squares"), "{error}");
        assert_eq!(other_family(&bundle.config, &recipe), None);
        assert!(!allows_bias(&bundle.config, &recipe, Projection::Down));
        check(&bundle, &Recipe::find("slim").unwrap(), 0.9, WriteAs::Auto).unwrap();
    }
}

#[test]
fn only_a_recipe_that_cannot_do_without_leaves_the_family() {
    let folder = tempfile::tempdir().unwrap();
    let [flap, slim] = ["flap", "slim"].map(|name| Recipe::find(name).unwrap());
    for (family, own) in [("llama-tied", true), ("qwen2", false), ("mistral", false)] {
        let config = bundle(family, folder.path()).config;
        for projection in [Projection::O, Projection::Down] {
            assert!(allows_bias(&config, &flap, projection), "{family}");
            assert_eq!(allows_bias(&config, &slim, projection), own, "{family}");
        }
        assert!(!allows_bias(&config, &flap, Projection::Up), "{family}");
        assert_eq!(other_family(&config, &slim), None);
    }
}

#[test]
fn a_bias_without_a_place_is_never_written() {
    let (pool, folder) = (Pool::new(1), tempfile::tempdir().unwrap());
    let mut before = bundle("qwen3", folder.path());
    before.model.blocks[1].linear_mut(Projection::Down).unwrap().bias = Some(vec![0.5; 64].into());
    let output = OutputDir::create(folder.path().join("never"), false).unwrap();
    let written = write_directory(&output, &before, &before.model, WriteAs::Type(Dtype::F32), work(&pool));
    let error = written.unwrap_err().to_string();
    assert!(error.contains("block 1: down has a bias") && error.contains("qwen3"), "{error}");
}
