//! Rewrites a template so that every operand of `+`, `~` and `*` is weighed before it is used.
//!
//! Fuel counts instructions, not bytes: thirty times `x ~ x` is ninety instructions and a gigabyte. The engine has no hook for
//! operators, but it has filters, and a filter binds tighter than every operator: `a + b` becomes `a|__weigh + b|__weigh`. `~` joins
//! texts, which are Python's. The tags `{% generation %}` and `{% endgeneration %}`, by which training finds what the assistant says, become
//! a block with its own names, as they are in transformers.

/// Filter that adds the size of its input to what the rendering has used.
pub(super) const WEIGH: &str = "__weigh";
/// Filter that makes its input text and adds its size.
pub(super) const TEXT: &str = "__text";
/// Filter that escapes text for HTML: Jinja does so with what is joined to text that is marked as safe.
pub(super) const ESCAPE: &str = "__escape";
/// Filter that lets only numbers through: text times a number is refused.
pub(super) const NUMBER: &str = "__number";

/// A template that is ready to compile.
pub(super) struct Guarded {
    pub(super) source: String,
    /// Bytes of the longest stretch of plain text, the `}}` before it counted: one instruction can write it.
    pub(super) longest_text: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'a> {
    Word(&'a str),
    /// A string or a number.
    Literal,
    Open,
    Close,
    /// `.` or `|`: the operand goes on.
    Joint,
    Operator(&'a str),
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind<'a>,
    end: usize,
}

/// Rewrites `source`. What is no valid template stays invalid: the engine says what is wrong with it.
pub(super) fn guard(source: &str) -> Guarded {
    let mut out = String::with_capacity(source.len().saturating_add(1024));
    let mut longest_text = 0;
    let mut at = 0;
    while let Some((start, open)) = next_tag(source, at) {
        longest_text = longest_text.max(start.saturating_sub(at));
        let after = start.saturating_add(2);
        let end = if open == "{#" {
            source.get(after..).and_then(|rest| rest.find("#}")).map_or(source.len(), |n| after.saturating_add(n))
        } else if let Some(end) = raw_block(source, after, open) {
            longest_text = longest_text.max(end.saturating_sub(start));
            end
        } else {
            let (tokens, end) = tokens(source, after, open);
            let mut copied = at;
            if let (Some(block), "{%") = (generation(&tokens), open) {
                let word = tokens.first().map_or(after, |word| word.end);
                let name = if block == "with" { "generation" } else { "endgeneration" };
                out.push_str(source.get(at..word.saturating_sub(name.len())).unwrap_or_default());
                out.push_str(block);
                copied = word;
            }
            for (position, filter) in insertions(&tokens) {
                out.push_str(source.get(copied..position).unwrap_or_default());
                out.push('|');
                out.push_str(filter);
                // A word or number may follow without a space.
                out.push(' ');
                copied = position;
            }
            at = copied;
            end
        };
        out.push_str(source.get(at..end).unwrap_or_default());
        at = end;
    }
    longest_text = longest_text.max(source.len().saturating_sub(at));
    out.push_str(source.get(at..).unwrap_or_default());
    Guarded { source: out, longest_text }
}

/// What stands for a tag around what the assistant says.
fn generation(tokens: &[Token<'_>]) -> Option<&'static str> {
    match tokens {
        [Token { kind: Kind::Word("generation"), .. }] => Some("with"),
        [Token { kind: Kind::Word("endgeneration"), .. }] => Some("endwith"),
        _ => None,
    }
}

/// The next `{{`, `{%` or `{#`.
fn next_tag(source: &str, from: usize) -> Option<(usize, &str)> {
    let mut at = from;
    loop {
        let found = at.saturating_add(source.get(at..)?.find('{')?);
        match source.get(found..found.saturating_add(2)) {
            Some(open @ ("{{" | "{%" | "{#")) => return Some((found, open)),
            _ => at = found.saturating_add(1),
        }
    }
}

/// The end of the text inside `{% raw %}`, when the tag at `after` opens one.
fn raw_block(source: &str, after: usize, open: &str) -> Option<usize> {
    let word = |s: &str| s.trim_start_matches(['-', '+']).trim_start().to_owned();
    let rest = source.get(after..)?;
    if open != "{%" || !word(rest).strip_prefix("raw").is_some_and(|r| r.trim_start().starts_with(['%', '-', '+'])) {
        return None;
    }
    let mut at = after;
    loop {
        let tag = at.saturating_add(source.get(at..)?.find("{%")?).saturating_add(2);
        if word(source.get(tag..)?).starts_with("endraw") {
            return Some(tag);
        }
        at = tag;
    }
}

/// The tokens of a tag and where it ends.
fn tokens<'a>(source: &'a str, from: usize, open: &str) -> (Vec<Token<'a>>, usize) {
    let close = if open == "{{" { "}}" } else { "%}" };
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    // `-` or `+` behind the opening mark belongs to it, like the one in front of the closing mark below.
    let mut at = from.saturating_add(source.get(from..).map_or(0, |rest| usize::from(rest.starts_with(['-', '+']))));
    while let Some(rest) = source.get(at..) {
        let Some(c) = rest.chars().next() else { break };
        if depth == 0 && rest.starts_with(close) {
            break;
        }
        let run = |is: fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
        let (kind, len) = match c {
            c if c.is_whitespace() => {
                at = at.saturating_add(c.len_utf8());
                continue;
            }
            '"' | '\'' => (Kind::Literal, quoted(rest, c)),
            '0'..='9' => (Kind::Literal, run(|c| c.is_ascii_alphanumeric() || c == '_')),
            c if c.is_alphanumeric() || c == '_' => {
                let len = run(|c| c.is_alphanumeric() || c == '_');
                (Kind::Word(rest.get(..len).unwrap_or_default()), len)
            }
            '(' | '[' | '{' => {
                depth = depth.saturating_add(1);
                (Kind::Open, 1)
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                (Kind::Close, 1)
            }
            '.' | '|' => (Kind::Joint, 1),
            c => {
                let len = if rest.starts_with("**") || rest.starts_with("//") { 2 } else { c.len_utf8() };
                (Kind::Operator(rest.get(..len).unwrap_or_default()), len)
            }
        };
        let end = at.saturating_add(len);
        tokens.push(Token { kind, end });
        at = end;
    }
    // `-` or `+` in front of the closing mark belongs to it.
    if let Some(Token { kind: Kind::Operator("-" | "+"), end, .. }) = tokens.last()
        && *end == at
    {
        tokens.pop();
    }
    (tokens, at)
}

/// Bytes of the string literal at the start of `rest`.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at.saturating_add(1),
            _ => {}
        }
    }
    rest.len()
}

const KEYWORDS: &[&str] = &["and", "or", "not", "in", "is", "if", "else", "elif", "set", "for"];

/// Whether an operand can end with this token.
fn ends_operand(kind: Kind<'_>) -> bool {
    match kind {
        Kind::Word(word) => !KEYWORDS.contains(&word),
        Kind::Literal | Kind::Close => true,
        _ => false,
    }
}

/// Where which filter has to stand, in order.
fn insertions(tokens: &[Token<'_>]) -> Vec<(usize, &'static str)> {
    let mut places = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let filter = match token.kind {
            Kind::Operator("+") => WEIGH,
            Kind::Operator("~") => TEXT,
            Kind::Operator("*") => NUMBER,
            _ => continue,
        };
        let before = i.checked_sub(1).and_then(|b| tokens.get(b));
        // Otherwise it is a sign, or the star of an argument list.
        let Some(before) = before.filter(|t| ends_operand(t.kind)) else { continue };
        // The filter would come before the sign.
        let signed = |at: Option<usize>| {
            let is_sign = |at: usize| matches!(tokens.get(at).map(|t| t.kind), Some(Kind::Operator("-" | "+")));
            let ends = |at: usize| tokens.get(at).is_some_and(|t| ends_operand(t.kind));
            filter == TEXT && at.is_some_and(|at| is_sign(at) && !at.checked_sub(1).is_some_and(ends))
        };
        if !signed(i.checked_sub(2)) {
            places.push((before.end, filter));
        }
        let behind = i.saturating_add(1);
        if let Some(end) = operand_end(tokens.get(behind..).unwrap_or_default())
            && !(filter == TEXT && matches!(tokens.get(behind).map(|t| t.kind), Some(Kind::Operator(_))))
        {
            places.push((end, filter));
        }
    }
    places.extend(beside_safe(tokens).into_iter().map(|end| (end, ESCAPE)));
    places.sort_unstable();
    places.dedup();
    places
}

/// Ends of the operands that are joined, by `+` or `~`, with one marked as safe.
fn beside_safe(tokens: &[Token<'_>]) -> Vec<usize> {
    let kind = |at: usize| tokens.get(at).map(|token| token.kind);
    let joins = |at: usize| matches!(kind(at), Some(Kind::Operator("+" | "~")));
    let is_safe =
        |last: usize| kind(last) == Some(Kind::Word("safe")) && last.checked_sub(1).and_then(kind) == Some(Kind::Joint);
    let mut ends = Vec::new();
    let mut at = 1_usize;
    while at < tokens.len() {
        let first = at.saturating_sub(1);
        let mut operands = vec![first];
        while joins(at) && kind(first).is_some_and(ends_operand) {
            let behind = at.saturating_add(1);
            let Some(length) = operand_length(tokens.get(behind..).unwrap_or_default()) else { break };
            let last = at.saturating_add(length);
            operands.push(last);
            at = last.saturating_add(1);
        }
        if operands.len() == 1 {
            at = at.saturating_add(1);
        } else if operands.iter().any(|&last| is_safe(last)) {
            let others = operands.into_iter().filter(|&last| !is_safe(last));
            ends.extend(others.filter_map(|last| tokens.get(last)).map(|token| token.end));
        }
    }
    ends
}

/// The end of the operand that starts with the first of `tokens`.
fn operand_end(tokens: &[Token<'_>]) -> Option<usize> {
    let length = operand_length(tokens)?;
    tokens.get(length.checked_sub(1)?).map(|token| token.end)
}

/// How many of `tokens` are the operand that starts with the first of them, with its calls, attributes and filters.
fn operand_length(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut last: Option<&Token<'_>> = None;
    let mut length = 0_usize;
    for token in tokens {
        let complete = depth == 0 && last.is_some_and(|t| ends_operand(t.kind));
        match token.kind {
            // A bracket behind a complete operand is its call or index.
            Kind::Open => depth = depth.saturating_add(1),
            Kind::Close if depth == 0 => break,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Joint => {}
            Kind::Operator("-" | "+") if last.is_none() => {}
            Kind::Operator(_) if depth == 0 => break,
            Kind::Word(_) | Kind::Literal if complete => break,
            _ => {}
        }
        last = Some(token);
        length = length.saturating_add(1);
    }
    last.filter(|t| ends_operand(t.kind)).map(|_| length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(source: &str) -> String {
        let filters = [(WEIGH, "W"), (NUMBER, "N"), (TEXT, "T"), (ESCAPE, "E")];
        let short =
            |text: String, (name, letter): (&str, &str)| text.replace(&format!("|{name} "), &format!("|{letter}"));
        filters.into_iter().fold(guard(source).source, short)
    }

    #[test]
    fn operands_are_weighed() {
        let cases = [
            ("{{ a ~ b }}", "{{ a|T ~ b|T }}"),
            ("{{ a+b.c[0](d ~ e)|f(1) + 'x' }}", "{{ a|W+b.c[0](d|T ~ e|T)|f(1)|W + 'x'|W }}"),
            ("{%- set ns.x = ns.x + '~' -%}", "{%- set ns.x = ns.x|W + '~'|W -%}"),
            ("{{ 'a}}b' ~ {'k': x}['k'] }}", "{{ 'a}}b'|T ~ {'k': x}['k']|T }}"),
            ("{{ a ~ b if c else d ~ -1 }}", "{{ a|T ~ b|T if c else d|T ~ -1 }}"),
            ("{{ -1 ~ a }}{{ x - 1 ~ a }}", "{{ -1 ~ a|T }}{{ x - 1|T ~ a|T }}"),
            ("{{ 2 * x == f(*y, **z) }}", "{{ 2|N * x|N == f(*y, **z) }}"),
            ("{{ -a }}{{ x - 1 }}{{ 'it\\'s' ~ q }}", "{{ -a }}{{ x - 1 }}{{ 'it\\'s'|T ~ q|T }}"),
            (
                "a ~ b {# c ~ d #} {% raw %}{{ a ~ b }}{% endraw %}{{ a ~ b }}",
                "a ~ b {# c ~ d #} {% raw %}{{ a ~ b }}{% endraw %}{{ a|T ~ b|T }}",
            ),
            ("{{ a ~ b is defined }}", "{{ a|T ~ b|T is defined }}"),
            ("{{- x ~ (y) -}}", "{{- x|T ~ (y)|T -}}"),
            ("{{ a ~ ", "{{ a|T ~ "),
            ("{{ 'a'|safe + b + c(d) + 'e'|safe }}", "{{ 'a'|safe|W + b|E|W + c(d)|E|W + 'e'|safe|W }}"),
            ("{{ a ~ b|safe if c + d else e.safe }}", "{{ a|E|T ~ b|safe|T if c|W + d|W else e.safe }}"),
            ("{%- generation -%}x{% endgeneration %}", "{%- with -%}x{% endwith %}"),
            ("{% set generation = 1 %}{{ generation }}", "{% set generation = 1 %}{{ generation }}"),
        ];
        for (source, expected) in cases {
            assert_eq!(rewritten(source), expected);
        }
    }

    #[test]
    fn longest_text_is_measured() {
        assert_eq!(guard("ab{{ x }}abcde{% if y %}abc").longest_text, 7);
    }
}
