//! Tasks from a file: multiple choice by likelihood, and exact answers by greedy decoding.
//!
//! A line of the file is a JSON object. With `choices`, `answer` is the index of the right one, and the model answers with the choice
//! whose tokens it finds most likely after `prompt`. Without, `answer` is a text, and the model is right when the first line that it
//! writes is that text, white space around it aside.
//!
//! Prompt and continuation are tokenised together and split where the tokens of the prompt alone end, as lm-evaluation-harness does:
//! white space at the end of the prompt goes to the continuation, and a space stands between the two when neither brings one.

mod file;

pub use file::{Answer, Task, read};

use crate::Error;
use crate::bundle::Bundle;
use crate::generate::continue_text;
use crate::likelihood::{Continuation, score};
use crate::progress::Work;
use pare_methods::metric::Estimate;
use pare_model::forward::Runner;
use pare_model::model::Model;
use pare_model::sample::{Sampler, Sampling};

/// Tokens that an exact answer may have beyond those of the right one, before it is called another.
const MORE_TOKENS: usize = 16;

/// What a model answered to one task.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Whether it is right.
    pub is_right: bool,
    /// Whether the choice with the largest log-likelihood per character is the right one; none for exact answers.
    pub is_right_per_character: Option<bool>,
    /// Log-likelihood of each choice, nats; empty for exact answers.
    pub log_likelihoods: Vec<f64>,
    /// What was written, for exact answers.
    pub written: Option<String>,
}

/// Accuracy of a model over all tasks.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Accuracy {
    /// Tasks.
    pub tasks: usize,
    /// Share of right answers.
    pub accuracy: Option<Estimate>,
    /// The same with log-likelihoods divided by the characters of the choice, over tasks with choices.
    pub accuracy_per_character: Option<Estimate>,
    /// Share of right answers less that of the reference, on the same tasks.
    pub difference: Option<Estimate>,
    /// The same for [`Accuracy::accuracy_per_character`].
    pub difference_per_character: Option<Estimate>,
}

impl Accuracy {
    /// Over `outcomes`, beside those of a reference on the same tasks.
    pub fn of(outcomes: &[Outcome], reference: Option<&[Outcome]>) -> Self {
        let number = |is_right: bool| f64::from(u8::from(is_right));
        let right = |outcomes: &[Outcome]| outcomes.iter().map(|one| number(one.is_right)).collect::<Vec<f64>>();
        let per_character = |outcomes: &[Outcome]| {
            outcomes.iter().filter_map(|one| one.is_right_per_character).map(number).collect::<Vec<f64>>()
        };
        let difference = |of: &dyn Fn(&[Outcome]) -> Vec<f64>| {
            reference.and_then(|reference| Estimate::of_difference(&of(outcomes), &of(reference)))
        };
        Self {
            tasks: outcomes.len(),
            accuracy: Estimate::of(&right(outcomes)),
            accuracy_per_character: Estimate::of(&per_character(outcomes)),
            difference: difference(&right),
            difference_per_character: difference(&per_character),
        }
    }
}

/// A task in the tokens of one model.
#[derive(Clone, Debug)]
pub struct Encoded {
    asked: Asked,
}

#[derive(Clone, Debug)]
enum Asked {
    Choices { continuations: Vec<Continuation>, characters: Vec<usize>, right: usize },
    Exact { prompt: Vec<u32>, answer: String, limit: usize },
}

/// The tasks in the tokens of `bundle`'s model, checked before any of them is run.
///
/// # Errors
/// A text that the tokenizer refuses; a task longer than the model's context; a choice that adds no token to the prompt. Names the line.
pub fn encode(tasks: &[Task], bundle: &Bundle) -> Result<Vec<Encoded>, Error> {
    let context = bundle.model.architecture.context;
    tasks
        .iter()
        .map(|task| {
            let refused = |why: String| Error::Text(format!("{}: {why}", task.place));
            let fits = |tokens: usize| {
                if tokens <= context {
                    return Ok(());
                }
                Err(refused(format!("{tokens} tokens with the answer; the context of {} holds {context}", bundle.name)))
            };
            let starts = |given: usize| match given {
                0 => Err(refused(format!("the tokenizer of {} makes no token of the prompt", bundle.name))),
                _ => Ok(()),
            };
            let asked = match &task.answer {
                Answer::Choice { choices, right } => {
                    let mut continuations = Vec::with_capacity(choices.len());
                    for choice in choices {
                        let one = continuation(&task.prompt, choice, bundle)?;
                        starts(one.given)?;
                        if one.tokens.len() <= one.given {
                            return Err(refused(format!("the choice {choice:?} adds no token to the prompt")));
                        }
                        fits(one.tokens.len())?;
                        continuations.push(one);
                    }
                    let characters = choices.iter().map(|choice| choice.chars().count().max(1)).collect();
                    Asked::Choices { continuations, characters, right: *right }
                }
                Answer::Exact(answer) => {
                    let Continuation { mut tokens, given } = continuation(&task.prompt, answer, bundle)?;
                    starts(given)?;
                    let limit = tokens.len().saturating_sub(given) + MORE_TOKENS;
                    tokens.truncate(given);
                    fits(given + limit)?;
                    Asked::Exact { prompt: tokens, answer: answer.trim().to_owned(), limit }
                }
            };
            Ok(Encoded { asked })
        })
        .collect()
}

/// The tokens of `prompt` and `text` together, and how many of them are the prompt's.
fn continuation(prompt: &str, text: &str, bundle: &Bundle) -> Result<Continuation, Error> {
    let trimmed = prompt.trim_end();
    let gap = &prompt[trimmed.len()..];
    let has_gap = trimmed.is_empty() || !gap.is_empty() || text.starts_with(char::is_whitespace);
    let space = if has_gap { "" } else { " " };
    let front = &bundle.tokenizer.specials().front;
    let begin = if front.is_empty() && trimmed.is_empty() { vec![bundle.first_token()] } else { front.clone() };
    let encode = |text: &str| Ok::<_, Error>([&begin[..], &bundle.tokenizer.encode(text, false)?].concat());
    let tokens = encode(&format!("{trimmed}{gap}{space}{text}"))?;
    Ok(Continuation { tokens, given: encode(trimmed)?.len() })
}

/// Lets a model answer. `bundle` is that of the tasks' tokens: its end tokens end an answer.
///
/// # Errors
/// The user stops it.
pub fn run(model: &Model, bundle: &Bundle, tasks: &[Encoded], work: Work<'_>) -> Result<Vec<Outcome>, Error> {
    let mut runner = Runner::new(model, work.pool);
    let mut outcomes = Vec::with_capacity(tasks.len());
    work.progress.begin("answering tasks", tasks.len() as u64);
    for task in tasks {
        work.interrupt.check()?;
        outcomes.push(match &task.asked {
            Asked::Choices { continuations, characters, right } => {
                let scored = score(&mut runner, continuations);
                let log_likelihoods: Vec<f64> = scored.iter().map(|one| -one.nats).collect();
                let per_character: Vec<f64> =
                    log_likelihoods.iter().zip(characters).map(|(nats, &count)| nats / count as f64).collect();
                Outcome {
                    is_right: most_likely(&log_likelihoods) == Some(*right),
                    is_right_per_character: Some(most_likely(&per_character) == Some(*right)),
                    log_likelihoods,
                    written: None,
                }
            }
            Asked::Exact { prompt, answer, limit } => {
                let written = first_line(model, bundle, prompt, *limit, work)?;
                Outcome {
                    is_right: written == *answer,
                    is_right_per_character: None,
                    log_likelihoods: Vec::new(),
                    written: Some(written),
                }
            }
        });
        work.progress.advance(1, "");
    }
    work.progress.end();
    Ok(outcomes)
}

/// The first of the largest; none where one is not a number.
fn most_likely(values: &[f64]) -> Option<usize> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    values.iter().enumerate().reduce(|best, other| if other.1 > best.1 { other } else { best }).map(|(index, _)| index)
}

/// The first line, empty ones aside, that greedy decoding writes, without white space around it.
fn first_line(model: &Model, bundle: &Bundle, prompt: &[u32], limit: usize, work: Work<'_>) -> Result<String, Error> {
    let greedy = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    let mut stream = bundle.tokenizer.stream(true);
    let mut text = String::new();
    continue_text(model, prompt, limit, &mut Sampler::new(greedy, 0), work, |token| {
        if bundle.is_end(token) {
            return false;
        }
        text += &stream.push(token);
        !text.trim_start().contains('\n')
    })?;
    text += &stream.finish();
    Ok(text.trim_start().lines().next().unwrap_or("").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(is_right: bool, per_character: bool) -> Outcome {
        Outcome { is_right, is_right_per_character: Some(per_character), log_likelihoods: Vec::new(), written: None }
    }

    #[test]
    fn accuracy_by_hand() {
        let own = [choice(true, false), choice(false, true)];
        let reference = [choice(true, true), choice(true, true)];
        let found = Accuracy::of(&own, Some(&reference));
        assert_eq!(found.accuracy.map(|own| own.mean), Some(0.5));
        assert_eq!(found.difference, Estimate::of(&[0.0, -1.0]));
        assert_eq!(found.difference_per_character, Estimate::of(&[-1.0, 0.0]));
        assert_eq!(Accuracy::of(&own, None).difference, None);
    }

    #[test]
    fn what_is_not_a_number_is_no_answer() {
        assert_eq!(most_likely(&[-3.0, -1.0, -1.0]), Some(1));
        assert_eq!(most_likely(&[-3.0, f64::NAN]), None);
        assert_eq!(most_likely(&[]), None);
    }
}
