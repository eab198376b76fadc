//! Project tasks: `cargo xtask help` lists them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

mod book;
mod catalogue;
mod check;
mod dist;
mod golden;
mod new;
mod nightly;
mod peers;
mod project;
mod python;
mod tidy;

use anyhow::{Result, bail};
use project::Project;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  check                        everything that CI does: formatting, clippy, rustdoc, tidy, dependencies, catalogue, tests
  test [-- ARGS]               fetch what the tests need, then run them all; ARGS go to `cargo test`
  tidy                         the project's own rules: sizes, headings, layers, names, goldens beside their scripts
  methods [--check]            write docs/METHODS.md from the registry; --check only compares
  book                         run the commands of README.md and the tutorial that are too long for CI; build target/book/html
  new AXIS NAME                skeleton of a method; AXIS is score, allocate, compensate or encode, NAME is kebab-case
  miri                         the portable kernels and the pool under Miri; this and the next need a nightly compiler
  fuzz [SECONDS]               build all fuzzers and run each for so long [default: 60]
  fetch                        fetch the built-in model into the user's cache
  dist                         a program that needs nothing of the system, and a wheel with it, tried in an empty environment
  golden --update              let pare rewrite the goldens that it makes itself, to be read in review
  peers transformers [DIR]     load a pared model (or the Hugging Face directory DIR) in transformers, compare logits
  peers llama.cpp [--tools DIR]  export models and run llama.cpp on them (built here, or in DIR), compare predictions
  peers templates [DIR]        render the chat templates that llama.cpp ships (or *.jinja of DIR) here and in transformers
  help                         this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let project = Project::find()?;
    match arguments {
        ["check"] => check::check(&project),
        ["test"] => check::test(&project, &[]),
        ["test", "--", rest @ ..] => check::test(&project, rest),
        ["tidy"] => tidy::run(&project.root),
        ["methods"] => catalogue::write(&project),
        ["methods", "--check"] => catalogue::compare(&project, project.pare("release")),
        ["book"] => book::book(&project),
        ["new", axis, name] => new::write(&project.root, axis, name),
        ["miri"] => nightly::miri(&project),
        ["fuzz"] => nightly::fuzz(&project, "60"),
        ["fuzz", seconds] => nightly::fuzz(&project, seconds),
        ["fetch"] => project::run(project.pare("release").args(project::FETCH)),
        ["dist"] => dist::dist(&project, "release"),
        ["dist", "--profile", profile] => dist::dist(&project, profile),
        ["golden", "--update"] => golden::update(&project),
        ["peers", "transformers"] => peers::transformers(&project, None),
        ["peers", "transformers", directory] => peers::transformers(&project, Some(directory)),
        ["peers", "llama.cpp"] => peers::llama_cpp(&project, None),
        ["peers", "llama.cpp", "--tools", tools] => peers::llama_cpp(&project, Some(tools)),
        ["peers", "templates"] => peers::templates(&project, None),
        ["peers", "templates", folder] => peers::templates(&project, Some(folder)),
        [] | ["help" | "--help" | "-h", ..] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("no command {:?}\n\n{HELP}", arguments.join(" ")),
    }
}
