//! Which regular expressions may split text: known shapes, or shapes that a linear engine runs.

/// GPT-2's words.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3: words with one leading mark, numbers of up to three digits.
pub(super) const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Qwen 2: as Llama 3 with single digits.
pub(super) const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Mistral's Tekken: words end where lower case turns to upper case.
pub(super) const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// GPT-4o: as Tekken, with contractions inside the word and numbers of up to three digits.
pub(super) const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// DeepSeek Coder, in steps.
pub(super) const DEEPSEEK_CODER: &[&str] = &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"];
/// DeepSeek V3, in steps.
pub(super) const DEEPSEEK_V3: &[&str] = &[
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    concat!(
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
    ),
];

const MOST_BYTES: usize = 16 << 10;
const MOST_DEPTH: usize = 64;
/// Largest count in `{n,m}`: a count is unrolled when the expression is compiled.
const MOST_REPEATS: u32 = 256;

/// Whether `pattern` is one of the shapes above, and splits words at every letter that is followed by white space.
pub(super) fn is_known(pattern: &str) -> bool {
    [GPT2, LLAMA3, QWEN2, TEKKEN, GPT4O].contains(&pattern)
        || DEEPSEEK_CODER.contains(&pattern)
        || DEEPSEEK_V3.contains(&pattern)
}

/// Accepts a pattern that a finite automaton can run, or says what is wrong with it.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    if is_known(pattern) {
        return Ok(());
    }
    if pattern.len() > MOST_BYTES {
        return Err(format!("pattern of {} bytes; at most {MOST_BYTES} are read", pattern.len()));
    }
    let refused = |why: &str| Err(format!("pattern {} has {why}", quote(pattern)));
    let mut chars = pattern.chars().peekable();
    // For each open group: whether anything in it repeats without bound.
    let mut open: Vec<bool> = Vec::new();
    // Whether the last item repeats without bound inside; such an item must not repeat again.
    let mut last_repeats = false;
    let mut here_repeats = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                match chars.next() {
                    Some('1'..='9' | 'k' | 'g') => return refused("a back-reference"),
                    Some('G' | 'K') => return refused("an anchor to the search"),
                    _ => {}
                }
                last_repeats = false;
            }
            '[' => {
                skip_class(&mut chars);
                last_repeats = false;
            }
            '(' => {
                if chars.next_if_eq(&'?').is_some() {
                    match chars.next() {
                        Some('=' | '!') => return refused("look-ahead"),
                        Some('>') => return refused("an atomic group"),
                        Some('(') => return refused("a condition"),
                        Some('<') if matches!(chars.peek(), Some('=' | '!')) => return refused("look-behind"),
                        _ => {}
                    }
                }
                open.push(here_repeats);
                here_repeats = false;
                if open.len() > MOST_DEPTH {
                    return refused("more than 64 nested groups");
                }
            }
            ')' => {
                last_repeats = here_repeats;
                here_repeats |= open.pop().unwrap_or(false);
            }
            '*' | '+' | '?' | '{' => {
                let unbounded = match c {
                    '{' => match counts(&mut chars) {
                        None => continue,
                        Some((least, most)) if least.max(most.unwrap_or(0)) > MOST_REPEATS => {
                            return refused("a count above 256");
                        }
                        Some((_, most)) => most.is_none(),
                    },
                    c => c != '?',
                };
                if unbounded && last_repeats {
                    return refused("a repetition inside a repetition");
                }
                if chars.next_if_eq(&'+').is_some() {
                    return refused("a possessive repetition");
                }
                let _ = chars.next_if_eq(&'?');
                last_repeats |= unbounded;
                here_repeats |= unbounded;
            }
            _ => last_repeats = false,
        }
    }
    Ok(())
}

/// The pattern for a message, cut when long.
fn quote(pattern: &str) -> String {
    let short: String = pattern.chars().take(60).collect();
    if short.len() < pattern.len() { format!("{short:?}...") } else { format!("{short:?}") }
}

/// Moves behind the `]` of a class that has just begun.
fn skip_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let _ = chars.next_if_eq(&'^');
    // A `]` in first place is a member.
    let _ = chars.next_if_eq(&']');
    let mut depth = 1_usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '[' => depth = depth.saturating_add(1),
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// Reads `n}`, `n,}` or `n,m}`; `None` when the brace is plain text.
fn counts(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<(u32, Option<u32>)> {
    let inside: String = chars.clone().take_while(|&c| c != '}').take(32).collect();
    let (least, most) = match inside.split_once(',') {
        None => (inside.parse().ok()?, Some(inside.parse().ok()?)),
        Some((n, "")) => (n.parse().ok()?, None),
        Some((n, m)) => (n.parse().ok()?, Some(m.parse().ok()?)),
    };
    for _ in inside.chars().chain(['}']) {
        chars.next();
    }
    Some((least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_linear_shapes() {
        for p in
            [r"\p{N}+", r"[^()]+|\(|\)", r"(?:ab?c){2,5}x*", r"[]a]+", r"a{,3}", r"(a+|b)c", r"(?i:x)+ y+", "[a[bc]]+"]
        {
            assert_eq!(check(p), Ok(()), "{p}");
        }
        // Known although it looks ahead.
        assert_eq!(check(LLAMA3), Ok(()));
    }

    #[test]
    fn refuses_what_can_explode() {
        let cases = [
            ("(a+)+$", "repetition inside"),
            ("((a|b*)c?)*", "repetition inside"),
            ("(?:(?:x{2,}))+", "repetition inside"),
            (r"(a)\1", "back-reference"),
            ("a(?=b)", "look-ahead"),
            ("(?<!a)b", "look-behind"),
            ("(?>a)", "atomic"),
            ("a++b", "possessive"),
            ("a{9999}", "count above"),
        ];
        for (p, why) in cases {
            assert!(check(p).is_err_and(|e| e.contains(why)), "{p}: {:?}", check(p));
        }
        assert!(check(&"(".repeat(10_000)).is_err_and(|e| e.contains("64 nested")));
        assert!(check(&"a".repeat(1 << 20)).is_err_and(|e| e.contains("1048576 bytes")));
    }
}
