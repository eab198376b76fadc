//! Values as Python shows them: what templates print, join and concatenate is `str(value)` there.

use minijinja::value::{Value, ValueKind};

/// `str(value)`; nothing for what is not defined.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => {
            let mut out = String::new();
            shown(value, &mut out);
            out
        }
    }
}

/// Appends `repr(value)`. Depth and size are bounded by what was charged before.
fn shown(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                shown(&item, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                shown(&key, out);
                out.push_str(": ");
                shown(&value.get_item(&key).unwrap_or_default(), out);
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// A number: `1`, `1.0`, `1e+16`.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if float.is_nan() {
        return "nan".to_owned();
    }
    // The same digits and the same limits of plain notation as Python, but for the exponent.
    let shown = format!("{float:?}");
    let Some((digits, exponent)) = shown.split_once('e') else { return shown };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Appends a string as `repr` writes it: in single quotes, unless it holds those alone.
fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::text;
    use minijinja::Value;

    #[test]
    fn values_are_shown_as_python_shows_them() {
        let list = Value::from(vec![Value::from("it's"), Value::from("a\n\"'"), Value::from(true), Value::from(())]);
        assert_eq!(text(&list), r#"["it's", 'a\n"\'', True, None]"#);
        let map = Value::from_pairs([("b", Value::from(1)), ("a", Value::from(2.0))]);
        assert_eq!(text(&map), "{'b': 1, 'a': 2.0}");
        for (float, shown) in
            [(0.1, "0.1"), (1e16, "1e+16"), (1e15, "1000000000000000.0"), (1e-5, "1e-05"), (2.5e-100, "2.5e-100")]
        {
            assert_eq!(text(&Value::from(float)), shown);
        }
        assert_eq!((text(&Value::UNDEFINED), text(&Value::from("x"))), (String::new(), "x".to_owned()));
    }
}
