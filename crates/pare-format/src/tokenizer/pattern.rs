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
pub(super) const DEEPSEEK_V3: &[&str] = &[r"\p{N}{1,3}", CJK, DEEPSEEK_V3_WORDS];

/// Qwen 3.5: as Qwen 2, with marks inside the word.
pub(super) const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// GPT-4: as Llama 3, written with repetitions that give nothing back.
pub(super) const CL100K: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
);
/// Bailing: as GPT-4 with single digits.
pub(super) const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
);
/// Seed-Coder: as Qwen 2, with marks and line ends apart.
pub(super) const SEED_CODER: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}",
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// As Qwen 2 without English contractions.
pub(super) const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Jais 2: as Llama 3, with white space in runs of powers of two.
pub(super) const JAIS2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)",
    r"|\s{1,2}(?!\S)|\s{1}"
);
/// Kimi K2: as GPT-4o, with Han characters apart.
pub(super) const KIMI_K2: &str = concat!(
    r"[\p{Han}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// EXAONE MoE: words of several letters with single spaces between them.
pub(super) const EXAONE_MOE: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
);
/// BLOOM: words end at white space and some marks.
pub(super) const BLOOM: &str = " ?[^(\\s|.,!?\u{2026}\u{3002}\u{ff0c}\u{3001}\u{964}\u{6d4}\u{60c})]+";
/// Digits in groups of three, counted from the right.
pub(super) const DIGITS_FROM_RIGHT: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))";
/// The same of decimal digits, where the last of them ends a word; others stay together.
pub(super) const DIGITS_TO_BOUNDARY: &str = r"\d{1,3}(?=(?:\d{3})*\b)";
/// Lines, and the line ends between them.
pub(super) const LINES: &str = r"[^\n]+|[\n]+";
/// GPT-2's words; white space before a word stays what is left over.
const GPT2_OPEN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
/// Falcon, in steps.
pub(super) const FALCON: &[&str] = &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2_OPEN, "[0-9][0-9][0-9]"];
/// What a file without a name is cut by, in steps.
pub(super) const DEFAULT: &[&str] = &[r"[\p{P}\$\+<=>\^~\|]+", GPT2_OPEN, r"\p{N}+", "[0-9][0-9][0-9]"];
/// Chameleon, in steps.
pub(super) const CHAMELEON: &[&str] = &[
    "<sentinel:[0-9]+>",
    "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    GPT2_OPEN,
];
/// DeepSeek LLM, in steps.
pub(super) const DEEPSEEK_LLM: &[&str] = &[
    "[\r\n]",
    concat!(
        "\\s?[A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-",
        "\u{2af}\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-",
        "\u{3a1}\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-",
        "\u{13f5}\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}",
        "\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-",
        "\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}\u{1fc2}-",
        "\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}\u{1ff2}-\u{1ff4}",
        "\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}\u{2126}\u{2128}",
        "\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}\u{2183}\u{2184}",
        "\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}\u{a680}-",
        "\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}\u{fb00}-\u{fb06}",
        "\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-",
        "\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}]+",
    ),
    "\\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+",
    r"\s+$",
    "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+",
];
/// Words of DeepSeek V3.
const DEEPSEEK_V3_WORDS: &str = concat!(
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
);
/// Spark 2.5, in steps: as DeepSeek V3, with line ends apart.
pub(super) const SPARK: &[&str] = &[
    r"\p{N}{1,3}",
    CJK,
    concat!(
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",
        "| ?[\\p{P}\\p{S}]+|[\r\n]|\\s+(?!\\S)|\\s+"
    ),
];
/// Han characters and kana.
const CJK: &str = "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+";
/// Youtu, in steps.
pub(super) const YOUTU: &[&str] = &[
    concat!(
        "[\u{ac00}-\u{d7a3}\u{3131}-\u{318e}]+",
        "|[\u{ff01}\u{2026}\u{201c}\u{201d}\u{2018}\u{2019}\u{2014}\u{ff1a}\u{ff1b}\u{ff0c}\u{3001}-\u{303f}\u{fe30}-\u{fe4f}]+",
        "|[\u{3105}-\u{312f}]+|[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+"
    ),
    concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
];
/// AFMoE, in steps: as DeepSeek V3, with digits from the right and more scripts apart.
pub(super) const AFMOE: &[&str] = &[
    DIGITS_FROM_RIGHT,
    concat!(
        "[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{f900}-\u{faff}\u{3040}-\u{309f}\u{30a0}-\u{30ff}\u{ff65}-",
        "\u{ff9f}\u{2f00}-\u{2fdf}\u{e40}-\u{e7f}\u{e80}-\u{eff}\u{1780}-\u{17ff}\u{1000}-\u{109f}\u{aa60}-",
        "\u{aa7f}\u{a9e0}-\u{a9ff}\u{ac00}-\u{d7af}\u{1100}-\u{11ff}]+",
    ),
    DEEPSEEK_V3_WORDS,
];
/// MiniCPM 5, in steps.
pub(super) const MINICPM5: &[&str] = &[
    r"\p{N}{1,3}",
    concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
];

/// Single patterns that cut words at every letter with white space or a mark behind it.
const WORDS: &[&str] =
    &[GPT2, GPT2_OPEN, LLAMA3, QWEN2, QWEN35, TEKKEN, GPT4O, CL100K, BAILING, SEED_CODER, UFAKZEKA, JAIS2, KIMI_K2];
/// Patterns in steps, of which the last that holds letters does so.
const WORDS_IN_STEPS: &[&[&str]] = &[DEEPSEEK_CODER, DEEPSEEK_V3, SPARK, YOUTU, AFMOE, MINICPM5];
/// Patterns that are known and cut less, or not at letters.
const OTHERS: &[&str] = &[BLOOM, DIGITS_FROM_RIGHT, DIGITS_TO_BOUNDARY, LINES, EXAONE_MOE, r"\s+"];
const OTHERS_IN_STEPS: &[&[&str]] = &[DEEPSEEK_LLM, FALCON, DEFAULT, CHAMELEON];

const MOST_BYTES: usize = 16 << 10;
const MOST_DEPTH: usize = 64;
/// Largest count in `{n,m}`: a count is unrolled when the expression is compiled.
const MOST_REPEATS: u32 = 256;

/// Whether `pattern` is one of the shapes above.
pub(super) fn is_known(pattern: &str) -> bool {
    let steps = || WORDS_IN_STEPS.iter().chain(OTHERS_IN_STEPS).copied().flatten();
    WORDS.contains(&pattern) || OTHERS.contains(&pattern) || steps().any(|step| *step == pattern)
}

/// Whether the known `pattern` cuts words at every letter with white space or a mark behind it.
pub(super) fn cuts_words(pattern: &str) -> bool {
    let in_steps = || WORDS_IN_STEPS.iter().copied().flatten();
    WORDS.contains(&pattern) || (pattern.contains(r"\p{L") && in_steps().any(|step| *step == pattern))
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
