//! Running the generated probes on a model.

use crate::likelihood::{Continuation, score};
use crate::progress::Work;
use pare_format::FormatErrorKind;
use pare_format::tokenizer::Tokenizer;
use pare_methods::metric::probes::{Probe, Task};
use pare_model::forward::Runner;
use pare_model::model::Model;
use std::collections::BTreeMap;

/// How many tasks of each probe, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Tasks per probe.
    pub tasks: usize,
    /// Seed of the tasks.
    pub seed: u64,
}

/// Accuracy per probe: `addition` by likelihood among four answers (chance is 0.25), `addition_generated` by greedy decoding.
pub type Accuracies = BTreeMap<String, f64>;

struct Encoded {
    prompt: Vec<u32>,
    /// The right one first.
    answers: Vec<Vec<u32>>,
}

fn encode(tokenizer: &Tokenizer, task: &Task) -> Result<Encoded, pare_format::FormatError> {
    // The prompt's last space goes to the answer: models of this kind write words with the space before them.
    let prompt = task.prompt.trim_end_matches(' ');
    let space = &task.prompt[prompt.len()..];
    let tokens = |text: &str| -> Result<Vec<u32>, pare_format::FormatError> {
        let tokens = tokenizer.encode(text, false)?;
        if tokens.is_empty() {
            let (found, expected) = (format!("makes no token of {text:?}"), "at least one, for a probe".to_owned());
            let error = pare_format::FormatError::new(tokenizer.file(), FormatErrorKind::Found { found, expected });
            return Err(error.hint("measure without probes: --probes 0, and shrink with --no-verify"));
        }
        Ok(tokens)
    };
    let answers = std::iter::once(&task.answer).chain(&task.wrong);
    let answers = answers.map(|answer| tokens(&format!("{space}{answer}\n"))).collect::<Result<_, _>>()?;
    Ok(Encoded { prompt: tokens(prompt)?, answers })
}

/// Whether the tokenizer can say the tasks: to be asked before hours of work that end in probes.
///
/// # Errors
/// A task of which the tokenizer makes no token.
pub fn check(tokenizer: &Tokenizer, series: Series) -> Result<(), crate::Error> {
    for probe in Probe::ALL {
        for index in 0..series.tasks {
            encode(tokenizer, &probe.task(series.seed, index))?;
        }
    }
    Ok(())
}

/// Runs every probe.
///
/// # Errors
/// A text that the tokenizer refuses; [`Interrupted`](crate::progress::Interrupted) when the user stops it.
pub fn run(model: &Model, tokenizer: &Tokenizer, series: Series, work: Work<'_>) -> Result<Accuracies, crate::Error> {
    let mut accuracies = Accuracies::new();
    let mut runner = Runner::new(model, work.pool);
    work.progress.begin("probing", (Probe::ALL.len() * series.tasks) as u64);
    for probe in Probe::ALL {
        let tasks = (0..series.tasks)
            .map(|index| encode(tokenizer, &probe.task(series.seed, index)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut likely = 0;
        let mut generated = 0;
        for task in &tasks {
            work.interrupt.check()?;
            let (by_likelihood, by_generation) = answer(&mut runner, task);
            likely += usize::from(by_likelihood);
            generated += usize::from(by_generation);
            work.progress.advance(1, probe.name());
        }
        let share = |right: usize| right as f64 / series.tasks.max(1) as f64;
        accuracies.insert(probe.name().to_owned(), share(likely));
        accuracies.insert(format!("{}_generated", probe.name()), share(generated));
    }
    work.progress.end();
    Ok(accuracies)
}

/// Whether the right answer is the most likely, and whether greedy decoding writes it.
fn answer(runner: &mut Runner<'_>, task: &Encoded) -> (bool, bool) {
    let continuation = |answer: &Vec<u32>| {
        let tokens = [&task.prompt[..], answer].concat();
        Continuation { tokens, given: task.prompt.len() }
    };
    let scored = score(runner, &task.answers.iter().map(continuation).collect::<Vec<_>>());
    let [right, wrong @ ..] = &scored[..] else { return (false, false) };
    (wrong.iter().all(|wrong| right.nats <= wrong.nats), right.is_greedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_tokenizer_that_makes_no_token_of_a_task_is_an_error() {
        let json = r#"{"added_tokens": [], "model": {"type": "BPE", "vocab": {"z": 0}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}}"#;
        let tokenizer = Tokenizer::from_json(Path::new("tokenizer.json"), json.as_bytes()).unwrap();
        let said = check(&tokenizer, Series { tasks: 1, seed: 0 }).unwrap_err().to_string();
        assert!(said.contains("makes no token of") && said.contains("--probes 0"), "{said}");
        assert!(check(&tokenizer, Series { tasks: 0, seed: 0 }).is_ok());
    }
}
