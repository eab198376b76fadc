//! Renders chat templates for comparison with other programs: a JSON object `{"source": ..., "variables": {...}}` per line of the input, and
//! per line of the output `{"text": ...}` or `{"error": ...}`. The day is 9 March 2026.

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use pare_format::chat::{ChatTemplate, Date};
use pare_format::json::{self, Bounds, Json};

fn main() -> std::io::Result<()> {
    let day = Date { year: 2026, month: 3, day: 9 };
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let rendered = render(&line?, day);
        let said = match rendered {
            Ok(text) => serde_json::json!({ "text": text }),
            Err(error) => serde_json::json!({ "error": error }),
        };
        writeln!(out, "{said}")?;
    }
    Ok(())
}

fn render(line: &str, day: Date) -> Result<String, String> {
    let read = json::parse(Path::new("line"), line.as_bytes(), Bounds::CONFIG).map_err(|e| e.to_string())?;
    let Json::Object(asked) = read else { return Err("no object".to_owned()) };
    match (asked.get("source"), asked.get("variables")) {
        (Some(Json::String(source)), Some(Json::Object(variables))) => {
            let template = ChatTemplate::parse(Path::new("template"), source).map_err(|e| e.to_string())?;
            template.with_date(day).render_with(variables).map_err(|e| e.to_string())
        }
        _ => Err("no source or no variables".to_owned()),
    }
}
