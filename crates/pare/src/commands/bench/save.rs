//! Keeping what was measured: JSON and a table, in a folder per day and machine.

use super::table::Table;
use anyhow::{Context as _, Result};
use pare_engine::Error;
use pare_format::write::{NewFile, try_directory};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest name of a file, without its extension.
const LONGEST: usize = 100;

/// Refuses a folder that cannot be one or be written to, before anything is measured.
pub(super) fn refuse_files(folder: &Path) -> Result<()> {
    let there = folder.ancestors().find(|path| path.exists());
    match there {
        Some(path) if !path.is_dir() => {
            let message = format!("--save {}: {} is not a directory", folder.display(), path.display());
            Err(Error::Refused(message).into())
        }
        _ => Ok(try_directory(folder)?),
    }
}

/// Writes `FOLDER/DATE-MACHINE/MODELS.json` and `.md`; the path of the first. Nothing that is there is replaced.
pub(super) fn save(folder: &Path, record: &Value, table: &Table, models: &[String]) -> Result<PathBuf> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let date = text(&record["date"]);
    let machine = slug(&text(&record["machine"]["cpu"]));
    let folder = folder.join(format!("{}-{machine}", date.get(..10).unwrap_or(&date)));
    fs::create_dir_all(&folder).with_context(|| format!("cannot save in {}", folder.display()))?;
    let names: Vec<String> = models.iter().map(|model| slug(last_part(model))).collect();
    let json = free(&folder, &names.join("+"));
    let head = format!(
        "# {}\n\nBy pare {}, {date}, on {}.\n\n```\n{}\n```\n\n",
        models.iter().map(|model| last_part(model)).collect::<Vec<_>>().join(", "),
        text(&record["pare_version"]),
        text(&record["machine"]["cpu"]),
        command_line(&record["command"]),
    );
    NewFile::create(json.with_extension("md"), false)?.write_whole((head + &table.markdown()).as_bytes())?;
    NewFile::create(&json, false)?.write_whole(format!("{record:#}\n").as_bytes())?;
    Ok(json)
}

/// The first of `NAME.json`, `NAME-2.json`, ... that is not there.
fn free(folder: &Path, name: &str) -> PathBuf {
    let name: String = name.chars().take(LONGEST).collect();
    let path = |serial: usize| match serial {
        1 => folder.join(format!("{name}.json")),
        _ => folder.join(format!("{name}-{serial}.json")),
    };
    let mut serial = 1;
    while path(serial).exists() || path(serial).with_extension("md").exists() {
        serial += 1;
    }
    path(serial)
}

/// The last part of a path or of `hf:organisation/name`, without `.gguf`.
fn last_part(model: &str) -> &str {
    let last = model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(model);
    last.strip_suffix(".gguf").unwrap_or(last)
}

/// Lower-case letters and digits, with one `-` for everything between.
fn slug(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-");
    if slug.is_empty() { "unnamed".to_owned() } else { slug }
}

fn command_line(command: &Value) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |word: &str| {
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    command.as_array().into_iter().flatten().filter_map(Value::as_str).map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_plain() {
        assert_eq!(slug("Intel(R) Xeon(R) Processor @ 2.60GHz"), "intel-r-xeon-r-processor-2-60ghz");
        assert_eq!(slug("../.."), "unnamed");
        assert_eq!(last_part("a/b/tiny-Q4_0.gguf"), "tiny-Q4_0");
        assert_eq!(last_part("hf:organisation/name"), "name");
        assert_eq!(last_part("out/"), "out");
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        assert_eq!(command_line(&json!(["pare", "bench", "a b", "it's", ""])), r"pare bench 'a b' 'it'\''s' ''");
    }

    #[test]
    fn nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        for expected in ["a.json", "a-2.json", "a-3.json"] {
            let path = free(folder.path(), "a");
            fs::write(&path, "").unwrap();
            assert_eq!(name(path), expected);
        }
        assert_eq!(name(free(folder.path(), &"x".repeat(500))).len(), LONGEST + 5);
    }
}
