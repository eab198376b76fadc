//! Names from files, made safe to show.

const SHOWN: usize = 120;

/// `text` in quotes, control and invisible characters escaped, cut after 120 characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN {
            shown.push_str(&format!("...\" ({} bytes)", text.len()));
            return shown;
        }
        match c {
            '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown.push('"');
    shown
}

/// The item of an error about a tensor.
pub(crate) fn tensor(name: &str) -> String {
    format!("tensor {}", quoted(name))
}

/// The item of an error about a field.
pub(crate) fn field(name: &str) -> String {
    format!("field {}", quoted(name))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(quoted("a.b"), "\"a.b\"");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("a\0\n\x1b[31m\u{202e}"), "\"a\\0\\n\\u{1b}[31m\\u{202e}\"");
        let long = quoted(&"x".repeat(1_000_000));
        assert!(long.ends_with("...\" (1000000 bytes)") && long.len() < 200);
    }
}
