//! Tasks as lines of JSON.

use crate::Error;
use crate::text::read_plain;
use serde_json::Value;
use std::path::Path;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Everything before the answer.
    pub prompt: String,
    /// The right answer.
    pub answer: Answer,
    /// File and line, for messages.
    pub place: String,
}

/// What is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One of several texts.
    Choice {
        /// The texts, at least two.
        choices: Vec<String>,
        /// Which one is right.
        right: usize,
    },
    /// This text.
    Exact(String),
}

/// Choices of one task.
const MOST_CHOICES: usize = 1000;

/// Reads a file of tasks, one JSON object a line: `{"prompt": "2 + 2 =", "choices": ["3", "4"], "answer": 1}` or
/// `{"prompt": "2 + 2 =", "answer": "4"}`. Other fields are for people.
///
/// # Errors
/// The file cannot be read, is not UTF-8 or has no task; a line is no such object. Names file, line and field.
pub fn read(path: &Path) -> Result<Vec<Task>, Error> {
    let file = path.display();
    let text = read_plain(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut tasks = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{file}: line {}", index + 1);
        tasks.push(task(line, &place).map_err(|why| Error::Text(format!("{place}: {why}")))?);
    }
    if tasks.is_empty() {
        return Err(Error::Text(format!("{file}: no task; expected one JSON object a line")));
    }
    Ok(tasks)
}

fn task(line: &str, place: &str) -> Result<Task, String> {
    let row = pare_format::json::line(line)?;
    let prompt = row.get("prompt").and_then(Value::as_str).ok_or("no string field \"prompt\"")?;
    let answer = row.get("answer").ok_or("no field \"answer\"")?;
    let answer = match row.get("choices") {
        None => match answer.as_str().filter(|text| !text.trim().is_empty()) {
            Some(text) if !text.trim().contains('\n') => Answer::Exact(text.to_owned()),
            Some(_) => return Err("field \"answer\" has more than one line".to_owned()),
            None => {
                return Err(
                    "field \"answer\": expected a text that is not empty, or an index beside \"choices\"".to_owned()
                );
            }
        },
        Some(choices) => {
            let choices: Option<Vec<String>> = choices.as_array().and_then(|choices| {
                choices
                    .iter()
                    .map(|choice| choice.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
                    .collect()
            });
            let choices = choices.filter(|choices| (2..=MOST_CHOICES).contains(&choices.len())).ok_or_else(|| {
                format!("field \"choices\": expected a list of 2 to {MOST_CHOICES} texts, none of them empty")
            })?;
            let count = choices.len();
            let right = answer.as_u64().and_then(|right| usize::try_from(right).ok()).filter(|&right| right < count);
            let right =
                right.ok_or_else(|| format!("field \"answer\": found {answer}, expected 0 to {}", count - 1))?;
            Answer::Choice { choices, right }
        }
    };
    Ok(Task { prompt: prompt.to_owned(), answer, place: place.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str, why: &str) {
        let found = task(line, "f: line 1").unwrap_err();
        assert!(found.contains(why), "{line}: {found}");
    }

    #[test]
    fn both_kinds() {
        let found = task(r#"{"prompt": "2 + 2 =", "choices": ["3", "4"], "answer": 1, "id": 7}"#, "f").unwrap();
        assert_eq!(found.answer, Answer::Choice { choices: vec!["3".to_owned(), "4".to_owned()], right: 1 });
        let found = task(r#"{"prompt": "2 + 2 =", "answer": " 4 "}"#, "f").unwrap();
        assert_eq!(found.answer, Answer::Exact(" 4 ".to_owned()));
    }

    #[test]
    fn what_is_no_task_says_which_field() {
        refused("{", "EOF");
        refused("[1]", "\"prompt\"");
        refused(r#"{"prompt": 3, "answer": "4"}"#, "\"prompt\"");
        refused(r#"{"prompt": "a"}"#, "\"answer\"");
        refused(r#"{"prompt": "a", "answer": 1}"#, "expected a text");
        refused(r#"{"prompt": "a", "answer": " "}"#, "expected a text");
        refused(r#"{"prompt": "a", "answer": "b\nc"}"#, "more than one line");
        refused(r#"{"prompt": "a", "choices": ["b"], "answer": 0}"#, "2 to 1000");
        refused(r#"{"prompt": "a", "choices": ["b", ""], "answer": 0}"#, "none of them empty");
        refused(r#"{"prompt": "a", "choices": ["b", "c"], "answer": 2}"#, "found 2, expected 0 to 1");
        refused(r#"{"prompt": "a", "choices": ["b", "c"], "answer": "b"}"#, "expected 0 to 1");
        refused(r#"{"prompt": "a", "choices": ["b", "c"], "answer": -1}"#, "found -1");
    }
}
