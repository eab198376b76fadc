//! Running the generated probes on a model.

use crate::likelihood::{Continuation, score};
use crate::progress::Work;
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
    let answers = std::iter::once(&task.answer)
        .chain(&task.wrong)
        .map(|answer| tokenizer.encode(&format!("{space}{answer}\n"), false))
        .collect::<Result<_, _>>()?;
    Ok(Encoded { prompt: tokenizer.encode(prompt, false)?, answers })
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
