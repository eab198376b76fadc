//! Chat templates: messages to a prompt, in a sandbox.
//!
//! A template is a program from the model's author, written for transformers: what it prints is what Jinja prints there. It gets no
//! files, no other templates, no clock; it runs on a fixed amount of fuel, and what it copies and writes is limited.

mod date;
mod guard;
mod json;
mod python;
mod tests;
mod work;

pub use date::{DAY, Date};

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use crate::json::{Json, Object};
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// Instructions that one rendering may run.
const FUEL: u64 = 1_000_000;
/// Instructions times the longest stretch of text in the template, in bytes.
const FUEL_BYTES: u64 = 256 << 20;
const RECURSION: usize = 64;
const MOST_SOURCE: usize = 256 << 10;
const MOST_OUTPUT: usize = 4 << 20;
const MOST_MESSAGES: usize = 16_384;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A template that compiles and can render conversations.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    file: PathBuf,
    /// The guarded source.
    source: String,
    fuel: u64,
    date: Date,
}

impl ChatTemplate {
    /// Compiles `source`; `file` names where it comes from in messages.
    ///
    /// # Errors
    /// A source above 256 KiB, or a syntax error with its line.
    pub fn parse(file: &Path, source: &str) -> Result<Self> {
        if source.len() > MOST_SOURCE {
            let kind = Kind::TooMany { what: "bytes", found: source.len() as u64, most: MOST_SOURCE as u64 };
            return Err(FormatError::new(file, kind).item("chat template"));
        }
        let guarded = guard::guard(source);
        let text = guarded.longest_text.max(1) as u64;
        let fuel = FUEL_BYTES.checked_div(text).unwrap_or(FUEL).min(FUEL);
        let template = Self { file: file.to_owned(), source: guarded.source, fuel, date: DAY };
        template.environment().template_from_str(&template.source).map_err(|e| template.error(&e))?;
        Ok(template)
    }

    /// The day that `strftime_now` shows; [`DAY`] unless it is set.
    #[must_use]
    pub fn with_date(mut self, date: Date) -> Self {
        self.date = date;
        self
    }

    /// The prompt for `messages`. `bos` and `eos` are the texts of the tokens, empty when the model has none.
    ///
    /// # Errors
    /// No messages or too many, whatever the template raises, and every limit; with the line in the template.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, bos: &str, eos: &str) -> Result<String> {
        let object = |message: &Message| {
            let entries = [("role", &message.role), ("content", &message.content)];
            Json::Object(Object::of(entries.map(|(key, text)| (key.to_owned(), Json::String(text.clone()))).into()))
        };
        let mut variables = Object::default();
        variables.set("messages", Json::Array(messages.iter().map(object).collect()));
        variables.set("add_generation_prompt", add_generation_prompt);
        variables.set("bos_token", bos);
        variables.set("eos_token", eos);
        self.render_with(&variables)
    }

    /// The prompt for `variables`: `messages`, `add_generation_prompt`, `bos_token`, `tools` and whatever else the template reads. `tools`
    /// and `documents` are there in any case.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_with(&self, variables: &Object) -> Result<String> {
        let fail = |found: String, expected: &str| {
            FormatError::new(&self.file, Kind::Found { found, expected: expected.into() }).item("messages")
        };
        match variables.get("messages") {
            Some(Json::Array(messages)) if messages.len() > MOST_MESSAGES => {
                return Err(fail(format!("{} messages", messages.len()), "at most 16384"));
            }
            Some(Json::Array(messages)) if !messages.is_empty() => {}
            Some(Json::Array(_)) | None => return Err(fail("no messages".into(), "at least one")),
            Some(other) => return Err(fail(other.shown(), "a list of messages")),
        }
        let input = variables.iter().map(|(_, value)| json::text_bytes(value)).fold(0, usize::saturating_add);
        // Absent, but defined: this is what templates are written against.
        let absent = ["tools", "documents"].map(|name| (name, Value::from(())));
        let given = variables.iter().map(|(name, value)| (name, json::value(value)));
        let allowance = (work::ALLOWANCE, Value::from(work::allowance(input)));
        let context = Value::from_pairs(absent.into_iter().chain(given).chain([allowance]));
        let mut out =
            Limited { bytes: Vec::new(), most: input.saturating_mul(4).saturating_add(MOST_OUTPUT), full: false };
        let env = self.environment();
        let template = env.template_from_str(&self.source).map_err(|e| self.error(&e))?;
        let done = template.render_captured_to(context, &mut out).map(drop);
        if out.full {
            let expected = format!("at most {}, four times the messages and 4 MiB", out.most);
            let kind = Kind::Found { found: format!("output of more than {} bytes", out.most), expected };
            return Err(FormatError::new(&self.file, kind).item("chat template"));
        }
        done.map_err(|e| self.error(&e))?;
        // The engine writes strings only.
        Ok(String::from_utf8_lossy(&out.bytes).into_owned())
    }

    fn environment(&self) -> Environment<'_> {
        let mut env = Environment::new();
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            env.set_syntax(syntax);
        }
        env.set_fuel(Some(self.fuel));
        env.set_recursion_limit(RECURSION);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        work::install(&mut env);
        tests::install(&mut env);
        env.add_filter("tojson", json::tojson);
        env.add_function("raise_exception", |what: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("the template refuses: {what}")))
        });
        let date = self.date;
        env.add_function("strftime_now", move |format: String| {
            date.format(&format)
                .map_err(|code| Error::new(ErrorKind::InvalidOperation, format!("strftime_now code {code:?}")))
        });
        env
    }

    fn error(&self, e: &Error) -> FormatError {
        let line = e.line().map(|n| format!("line {n}: ")).unwrap_or_default();
        // The engine names an unnamed template in some details; the file says it better.
        let what = match e.detail() {
            Some(detail) => format!("{}: {detail}", e.kind()),
            None => e.kind().to_string(),
        };
        let expected = match e.kind() {
            ErrorKind::OutOfFuel => format!("at most {} instructions", self.fuel),
            ErrorKind::SyntaxError => "a valid template".to_owned(),
            _ => "a template that renders these messages".to_owned(),
        };
        FormatError::new(&self.file, Kind::Found { found: format!("{line}{what}"), expected }).item("chat template")
    }
}

/// Reads a list of messages from JSON.
///
/// # Errors
/// The position of the message that is wrong, and what is wrong with it.
pub fn messages(file: &Path, json: &[u8]) -> Result<Vec<Message>> {
    let bad = |item: String, e: serde_json::Error| {
        let kind = Kind::Found { found: e.to_string(), expected: "an object with the texts role and content".into() };
        FormatError::new(file, kind).item(item)
    };
    let list: Vec<serde_json::Value> = serde_json::from_slice(json).map_err(|e| bad("messages".into(), e))?;
    let read = |(i, value)| serde_json::from_value(value).map_err(|e| bad(format!("messages[{i}]"), e));
    list.into_iter().enumerate().map(read).collect()
}

/// Takes at most so many bytes.
struct Limited {
    bytes: Vec<u8>,
    most: usize,
    full: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > self.most {
            self.full = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
