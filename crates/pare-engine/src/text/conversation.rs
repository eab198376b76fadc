//! Text files as people have them: plain text, lines of JSON with a text each, and lines with a conversation each.

use super::read_plain;
use crate::Error;
use pare_format::chat::{ChatTemplate, Message};
use pare_format::tokenizer::Tokenizer;
use serde_json::Value;
use std::path::Path;

/// A line of a `.jsonl` file.
#[derive(Debug, PartialEq, Eq)]
enum Row {
    Text(String),
    Messages(Vec<Message>),
}

/// The tokens of a file. Texts are joined by an empty line; a conversation is what the model's template makes of it.
pub(super) fn tokens(path: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
    let text = read_plain(path)?;
    let is_rows = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    if !is_rows {
        return Ok(tokenizer.encode(&text, false)?);
    }
    let rows = rows(path, &text)?;
    let mut tokens = Vec::new();
    let mut template = None;
    for stretch in rows.chunk_by(|a, b| matches!((a, b), (Row::Text(_), Row::Text(_)))) {
        if let [Row::Messages(messages)] = stretch {
            let template = match &mut template {
                Some(template) => template,
                none => none.insert(Template::of(path, tokenizer)?),
            };
            tokens.extend(tokenizer.encode(&template.render(messages)?, true)?);
            continue;
        }
        let texts: Vec<&str> = stretch.iter().filter_map(Row::text).collect();
        tokens.extend(tokenizer.encode(&texts.join("\n\n"), false)?);
    }
    Ok(tokens)
}

impl Row {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Messages(_) => None,
        }
    }
}

struct Template {
    template: ChatTemplate,
    bos: String,
    eos: String,
}

impl Template {
    fn of(path: &Path, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let Some(source) = tokenizer.chat_template() else {
            return Err(Error::Text(format!(
                "{}: holds conversations, and the model has no chat template to render them with; give lines with a \"text\"",
                path.display()
            )));
        };
        let spelt = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token(id));
            bytes.map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let template = ChatTemplate::parse(tokenizer.template_file(), source)?.with_date(tokenizer.date());
        Ok(Self { template, bos: spelt(tokenizer.bos()), eos: spelt(tokenizer.eos()) })
    }

    fn render(&self, messages: &[Message]) -> Result<String, Error> {
        Ok(self.template.render(messages, false, &self.bos, &self.eos)?)
    }
}

fn rows(path: &Path, text: &str) -> Result<Vec<Row>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(number, line): (usize, &str)| {
        let at = |what: &str| Error::Text(format!("{}: line {}: {what}", path.display(), number + 1));
        let value = pare_format::json::line(line).map_err(|what| at(&what))?;
        match (value.get("text"), value.get("messages"), value.get("conversations")) {
            (Some(Value::String(text)), ..) => Ok(Row::Text(text.clone())),
            (None, Some(messages), _) => conversation(messages, &MESSAGES).map_err(|what| at(&what)).map(Row::Messages),
            (None, None, Some(turns)) => conversation(turns, &SHARE_GPT).map_err(|what| at(&what)).map(Row::Messages),
            _ => Err(at("no string field \"text\", nor a list \"messages\" or \"conversations\"")),
        }
    };
    lines.map(row).collect()
}

/// How a conversation is spelt.
struct Spelling {
    list: &'static str,
    role: &'static str,
    content: &'static str,
    /// Other names of roles.
    roles: &'static [(&'static str, &'static str)],
}

const MESSAGES: Spelling = Spelling { list: "messages", role: "role", content: "content", roles: &[] };
const SHARE_GPT: Spelling = Spelling {
    list: "conversations",
    role: "from",
    content: "value",
    roles: &[("human", "user"), ("gpt", "assistant"), ("chatgpt", "assistant"), ("bing", "assistant")],
};

fn conversation(turns: &Value, spelling: &Spelling) -> Result<Vec<Message>, String> {
    let &Spelling { list, role, content, roles } = spelling;
    let turns = turns.as_array().filter(|turns| !turns.is_empty());
    let turns = turns.ok_or_else(|| format!("{list:?} is no list with at least one message"))?;
    let message = |(index, turn): (usize, &Value)| {
        let string = |field: &str| {
            let value = turn.get(field).and_then(Value::as_str);
            value.ok_or_else(|| format!("{list:?}, message {}: no string field {field:?}", index + 1))
        };
        let own = string(role)?;
        let role = roles.iter().find(|(other, _)| *other == own).map_or(own, |(_, role)| role);
        Ok(Message { role: role.to_owned(), content: string(content)?.to_owned() })
    };
    turns.iter().enumerate().map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Row>, String> {
        rows(Path::new("a.jsonl"), text).map_err(|error| error.to_string())
    }

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn conversations_of_both_spellings() {
        let text = "\u{feff}{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\r\n\n\
            {\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}], \"id\": 3}\n{\"text\": \"c\"}";
        let turns = || Row::Messages(vec![message("user", "a"), message("assistant", "b")]);
        assert_eq!(read(text).unwrap(), [turns(), turns(), Row::Text("c".to_owned())]);
    }

    #[test]
    fn what_is_no_conversation_is_refused_with_its_place() {
        for (text, why) in [
            ("{\"messages\": []}", "line 1: \"messages\" is no list"),
            ("{\"messages\": \"hello\"}", "line 1: \"messages\" is no list"),
            (
                "\n{\"messages\": [{\"role\": \"user\"}]}",
                "line 2: \"messages\", message 1: no string field \"content\"",
            ),
            ("{\"messages\": [{\"role\": \"user\", \"content\": [1]}]}", "message 1: no string field \"content\""),
            ("{\"conversations\": [{\"from\": \"gpt\", \"value\": \"b\"}, {}]}", "message 2: no string field \"from\""),
            ("{\"text\": null}", "line 1: no string field \"text\""),
            ("[1]", "line 1: no string field \"text\""),
            ("{", "line 1: "),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
