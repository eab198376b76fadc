//! What a rendering has used, and the filters and methods that are allowed, each weighed before it runs.

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::guard::{ESCAPE, NUMBER, TEXT, WEIGH};
use super::python;

/// Filters of the engine that templates use; those that run other filters or format numbers are left out.
const FILTERS: &[&str] = &[
    "lower",
    "upper",
    "title",
    "capitalize",
    "replace",
    "length",
    "count",
    "dictsort",
    "items",
    "reverse",
    "trim",
    "join",
    "split",
    "lines",
    "default",
    "d",
    "round",
    "format",
    "abs",
    "int",
    "float",
    "first",
    "last",
    "min",
    "max",
    "sort",
    "list",
    "bool",
    "sum",
    "unique",
    "safe",
    "indent",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "map",
];
/// Of these, the ones that apply a filter or test named in their arguments.
const BY_NAME: &[&str] = &["select", "reject", "selectattr", "rejectattr", "map"];
/// Those whose result can be longer than their arguments together.
const LENGTHEN: &[&str] = &["replace", "join", "indent", "format"];
const REMOVED: &[&str] =
    &["escape", "e", "attr", "batch", "slice", "groupby", "chain", "zip", "pprint", "urlencode", "tojson"];

/// Bytes that one rendering may copy before it starts to count the input.
const BASE: u64 = 64 << 20;
const PER_INPUT_BYTE: u64 = 64;
/// What an element of a list or map counts, in bytes.
const ELEMENT: u64 = 16;
const DEPTH: usize = 32;

/// Variable that holds the allowance of a rendering. No template can name it: it starts with a space.
pub(super) const ALLOWANCE: &str = " allowance";

/// What is left for one rendering.
#[derive(Debug)]
struct Left(u64);

/// What a rendering of `input` bytes may use.
pub(super) fn allowance(input: usize) -> u64 {
    (input as u64).saturating_mul(PER_INPUT_BYTE).saturating_add(BASE)
}

fn spend(state: &mut State<'_, '_>, cost: u64) -> Result<(), Error> {
    let allowed = match state.get_extension::<Left>() {
        Some(left) => left.0,
        None => state.lookup(ALLOWANCE).and_then(|v| u64::try_from(v).ok()).unwrap_or(BASE),
    };
    let left = allowed.checked_sub(cost).ok_or_else(too_much)?;
    state.get_or_insert_extension_with(|| Left(left)).0 = left;
    Ok(())
}

fn too_much() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the template copies more text than is allowed")
}

/// Bytes of a value, elements counted; at most a little above `most`.
fn weight(value: &Value, most: u64, depth: usize) -> u64 {
    if let Some(text) = value.as_str() {
        return text.len() as u64;
    }
    let mut total = ELEMENT;
    if depth >= DEPTH {
        return u64::MAX;
    }
    let is_map = value.kind() == ValueKind::Map;
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
        && let Ok(items) = value.try_iter()
    {
        for item in items {
            total = total.saturating_add(weight(&item, most, depth.saturating_add(1)));
            if is_map && let Ok(inner) = value.get_item(&item) {
                total = total.saturating_add(weight(&inner, most, depth.saturating_add(1)));
            }
            if total > most {
                break;
            }
        }
    }
    total
}

/// Bytes that the result can have beyond those of the arguments.
fn expansion(name: &str, args: &[Value]) -> u64 {
    let text = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or_default();
    let product = |a: usize, b: usize| (a as u64).saturating_mul(b as u64);
    match name {
        "replace" => {
            let (from, to) = (text(1), text(2));
            let matches = text(0).len().checked_div(from.len()).unwrap_or(text(0).len()).saturating_add(1);
            product(matches, to.len())
        }
        "join" => {
            // As a filter: list, joiner; as a method: joiner, list.
            let (list, joiner) = if text(0).is_empty() { (0, text(1)) } else { (1, text(0)) };
            product(args.get(list).and_then(Value::len).unwrap_or(0), joiner.len())
        }
        "indent" => {
            let width = args.get(1).and_then(Value::as_usize).unwrap_or(4);
            product(text(0).lines().count().saturating_add(1), width)
        }
        _ => 0,
    }
}

/// Puts the weighed filters, methods and outputs in place of the engine's own.
pub(super) fn install(env: &mut Environment<'_>) {
    for name in REMOVED {
        env.remove_filter(name);
    }
    env.remove_global("debug");
    for &name in FILTERS {
        // The engine's own filter, out of reach of the template.
        let own = Environment::new();
        env.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            charge(state, name, &args)?;
            if name == "format" {
                check_format(&args)?;
            }
            let args = if name == "join" { texts_of(args) } else { args };
            let unweighed = |arg: &Value| arg.as_str().is_some_and(|n| REMOVED.contains(&n) || LENGTHEN.contains(&n));
            if BY_NAME.contains(&name) && args.iter().skip(1).any(unweighed) {
                return Err(Error::new(ErrorKind::UnknownFilter, format!("not available inside {name}")));
            }
            own.empty_state().apply_filter(name, &args)
        });
    }
    for name in [TEXT, "string"] {
        env.add_filter(name, move |state: &mut State<'_, '_>, value: Value| {
            charge(state, name, std::slice::from_ref(&value))?;
            Ok::<_, Error>(if value.kind() == ValueKind::String { value } else { Value::from(python::text(&value)) })
        });
    }
    env.add_filter(WEIGH, |state: &mut State<'_, '_>, value: Value| {
        charge(state, WEIGH, std::slice::from_ref(&value))?;
        Ok::<_, Error>(value)
    });
    env.add_filter(ESCAPE, |state: &mut State<'_, '_>, value: Value| {
        let Some(text) = value.as_str().filter(|_| !value.is_safe()) else { return Ok(value) };
        spend(state, (text.len() as u64).saturating_mul(6))?;
        let escaped = text.replace('&', "&amp;").replace('>', "&gt;").replace('<', "&lt;");
        Ok::<_, Error>(Value::from(escaped.replace('\'', "&#39;").replace('"', "&#34;")))
    });
    env.add_filter(NUMBER, |value: Value| {
        if value.kind() == ValueKind::Number {
            return Ok(value);
        }
        let what = format!("{} cannot be multiplied in a chat template", value.kind());
        Err(Error::new(ErrorKind::InvalidOperation, what))
    });
    env.set_unknown_method_callback(|state, value, method, args| {
        let all: Vec<Value> = std::iter::once(value.clone()).chain(args.iter().cloned()).collect();
        charge(state, method, &all)?;
        if method == "format" {
            check_format(&all)?;
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
    env.set_formatter(|out, state, value| {
        charge(state, "output", std::slice::from_ref(value))?;
        match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&python::text(value)),
        }
        .map_err(Error::from)
    });
}

/// A list that is joined becomes one of texts as Python shows them, unless an attribute of its items is asked for.
fn texts_of(args: Vec<Value>) -> Vec<Value> {
    let [list, rest @ ..] = args.as_slice() else { return args };
    let plain = rest.iter().all(|arg| arg.kind() != ValueKind::Map) && rest.len() <= 1;
    match list.try_iter() {
        Ok(items) if plain && list.kind() != ValueKind::String => {
            let texts: Value = items.map(|item| Value::from(python::text(&item))).collect();
            std::iter::once(texts).chain(rest.iter().cloned()).collect()
        }
        _ => args,
    }
}

/// Refuses fields with widths above four digits or given as arguments: one could fill the memory.
fn check_format(args: &[Value]) -> Result<(), Error> {
    let format = args.first().and_then(Value::as_str).unwrap_or_default();
    let (mut digits, mut inside) = (0_u32, false);
    for c in format.chars() {
        // A field is `{...}`, or from `%` to its letter.
        inside = matches!(c, '{' | '%') || (inside && c != '}' && !c.is_ascii_alphabetic());
        digits = if inside && c.is_ascii_digit() { digits.saturating_add(1) } else { 0 };
        if digits > 4 || (inside && c == '*') {
            let what = "format with a width of more than four digits, or one that is an argument";
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        }
    }
    Ok(())
}

/// Counts the arguments and what the result can have beyond them.
pub(super) fn charge(state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<(), Error> {
    // A single value above this is refused without being measured to its end.
    const MOST: u64 = 1 << 40;
    let weights = args.iter().fold(0, |sum: u64, arg| sum.saturating_add(weight(arg, MOST, 0)));
    spend(state, weights.saturating_add(expansion(name, args)))
}
