//! The pre-tokenizers that GGUF files name, in the form of tokenizer.json. Names and rules are those of llama.cpp (`llama-vocab.cpp`);
//! where it approximates the pattern of the original tokenizer, the original stands here.

use serde_json::{Value, json};

use super::pattern as p;

/// What a name in `tokenizer.ggml.pre` stands for.
pub(super) struct Pre {
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    /// A word that is a token as a whole is taken as it is, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether `bos` is added when the file does not say.
    pub(super) add_bos: bool,
    /// Tokens are text with `▁` for a space, not bytes in the byte-level alphabet.
    pub(super) is_text: bool,
}

/// Names that mean the same.
struct Row {
    names: &'static [&'static str],
    rule: Rule,
    /// A word that is a token as a whole is taken as it is.
    whole_words: bool,
    add_bos: bool,
}

const fn row(names: &'static [&'static str], rule: Rule) -> Row {
    Row { names, rule, whole_words: false, add_bos: false }
}

const fn whole(names: &'static [&'static str], rule: Rule, add_bos: bool) -> Row {
    Row { names, rule, whole_words: true, add_bos }
}

/// The name of a file that has none.
pub(super) const DEFAULT: &str = "default";

/// The first of several rows with the same rules is the one that is written.
const ROWS: &[Row] = &[
    row(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "mellum",
            "modern-bert",
            "a.x-4.0",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
        ],
        Rule::Gpt2,
    ),
    row(&["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"], Rule::Digits),
    whole(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        Rule::Splits(&[p::LLAMA3]),
        true,
    ),
    whole(&["glm4", "glm5"], Rule::Splits(&[p::LLAMA3]), false),
    row(&["dbrx", "smaug-bpe", "chatglm-bpe"], Rule::Splits(&[p::LLAMA3])),
    row(&["qwen2", "qwen3", "deepseek-r1-qwen", "kormo", "f2llmv2"], Rule::Composed(p::QWEN2)),
    row(&["stablelm2", "megrez", "hunyuan", "solar-open", "grok-2"], Rule::Splits(&[p::QWEN2])),
    row(&["qwen35"], Rule::Composed(p::QWEN35)),
    whole(&["tekken"], Rule::Splits(&[p::TEKKEN]), true),
    row(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], Rule::Splits(&[p::GPT4O])),
    whole(&["granite-embed-multi-97m"], Rule::Splits(&[p::GPT4O]), false),
    row(&["deepseek-llm"], Rule::SplitsAndDigits(p::DEEPSEEK_LLM)),
    row(&["deepseek-coder"], Rule::SplitsAndDigits(p::DEEPSEEK_CODER)),
    row(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], Rule::Splits(p::DEEPSEEK_V3)),
    row(&["spark2_5"], Rule::SplitsAndDigits(p::SPARK)),
    row(&["jais-2"], Rule::Splits(&[p::JAIS2])),
    whole(&["youtu"], Rule::Splits(p::YOUTU), false),
    row(&["falcon"], Rule::Splits(p::FALCON)),
    row(&["poro-chat", "bloom", "gpt3-finnish"], Rule::Splits(&[p::BLOOM])),
    row(&["viking"], Rule::SplitsAndDigits(&[p::BLOOM])),
    Row { names: &["chameleon"], rule: Rule::Splits(p::CHAMELEON), whole_words: false, add_bos: true },
    row(&["tiny_aya", "cohere2moe"], Rule::Splits(&[p::DIGITS_TO_BOUNDARY, p::GPT4O])),
    row(&["kimi-k2"], Rule::Splits(&[p::KIMI_K2])),
    row(&["superbpe"], Rule::Splits(&[p::DIGITS_FROM_RIGHT])),
    row(&["bailingmoe", "bailingmoe2", "llada-moe"], Rule::Splits(&[p::BAILING])),
    row(&["seed-coder"], Rule::Splits(&[p::SEED_CODER])),
    row(&["ufakzeka"], Rule::Splits(&[p::UFAKZEKA])),
    row(&["afmoe"], Rule::Splits(p::AFMOE)),
    row(&["laguna"], Rule::Splits(&[p::LINES, p::QWEN2])),
    row(&["exaone-moe"], Rule::Splits(&[p::EXAONE_MOE])),
    whole(&["minicpm5"], Rule::Splits(p::MINICPM5), false),
    row(&[DEFAULT], Rule::Splits(p::DEFAULT)),
    row(&["gemma4", "granite-embed-multi-311m", "sarvam-moe"], Rule::Spaces),
    row(&["whitespace"], Rule::Words),
];

/// How text is cut into words.
#[derive(Clone, Copy)]
enum Rule {
    Gpt2,
    /// Single digits, then GPT-2.
    Digits,
    /// These patterns, one after the other.
    Splits(&'static [&'static str]),
    /// The same, then single digits.
    SplitsAndDigits(&'static [&'static str]),
    /// Characters composed (NFC), then this pattern.
    Composed(&'static str),
    /// Not cut: spaces become `▁`, tokens are text.
    Spaces,
    /// Cut at white space, tokens are text.
    Words,
}

/// All names, for messages.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().flat_map(|row| row.names).copied()
}

/// The rules behind `name`.
pub(super) fn find(name: &str) -> Option<Pre> {
    let row = ROWS.iter().find(|row| row.names.contains(&name))?;
    let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let digits = || json!({ "type": "Digits", "individual_digits": true });
    let then_bytes = |mut steps: Vec<Value>, use_regex: bool| {
        steps.push(bytes(use_regex));
        json!({ "type": "Sequence", "pretokenizers": steps })
    };
    let splits = |patterns: &[&str]| patterns.iter().map(|p| split(p)).collect::<Vec<_>>();
    let pre_tokenizer = match row.rule {
        Rule::Gpt2 => bytes(true),
        Rule::Digits => then_bytes(vec![digits()], true),
        Rule::Splits(patterns) => then_bytes(splits(patterns), false),
        Rule::SplitsAndDigits(patterns) => then_bytes([splits(patterns), vec![digits()]].concat(), false),
        Rule::Composed(pattern) => then_bytes(splits(&[pattern]), false),
        Rule::Spaces => Value::Null,
        Rule::Words => split(r"\s+"),
    };
    let normalizer = match row.rule {
        Rule::Composed(_) => json!({ "type": "NFC" }),
        Rule::Spaces => json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }),
        _ => Value::Null,
    };
    let is_text = matches!(row.rule, Rule::Spaces | Rule::Words);
    Some(Pre { normalizer, pre_tokenizer, ignore_merges: row.whole_words, add_bos: row.add_bos, is_text })
}

/// What a name says differently from the tokenizer that is written under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The name.
    pub(super) name: &'static str,
    /// The name's characters are composed (NFC) and the tokenizer's are not, or the other way round.
    pub(super) other_composition: bool,
    /// Words that are tokens as a whole are taken as they are for one and not for the other.
    pub(super) other_words: bool,
}

/// The first name whose rules are these, or the one that differs least.
pub(super) fn name(normalizer: &Value, pre_tokenizer: &Value, ignore_merges: bool) -> Option<Named> {
    let composes = |normalizer: &Value| match plain(normalizer) {
        Value::Null => Some(false),
        only if only.get("type").is_some_and(|kind| kind == "NFC") => Some(true),
        _ => None,
    };
    let own = composes(normalizer)?;
    let with = |&name: &&'static str| {
        let pre = find(name).filter(|pre| !pre.is_text && plain(&pre.pre_tokenizer) == plain(pre_tokenizer))?;
        let other_composition = composes(&pre.normalizer) != Some(own);
        Some(Named { name, other_composition, other_words: pre.ignore_merges != ignore_merges })
    };
    ROWS.iter()
        .filter_map(|row| row.names.first().and_then(with))
        .min_by_key(|named| (named.other_words, named.other_composition))
}

/// The stage without what changes no id, and without sequences of one.
fn plain(stage: &Value) -> Value {
    for list in ["normalizers", "pretokenizers"] {
        if let Some(steps) = stage.get(list).and_then(Value::as_array) {
            let steps: Vec<Value> = steps.iter().map(plain).filter(|step| !step.is_null()).collect();
            return match steps.as_slice() {
                [] => Value::Null,
                [only] => only.clone(),
                _ => json!(steps),
            };
        }
    }
    let mut stage = stage.clone();
    if let Some(object) = stage.as_object_mut() {
        // Offsets into the text are not asked for.
        object.remove("trim_offsets");
        if object.get("type").is_some_and(|kind| kind == "ByteLevel") {
            object.entry("use_regex").or_insert(Value::Bool(true));
        }
    }
    stage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once_and_is_found_again() {
        let mut all: Vec<&str> = names().collect();
        all.sort_unstable();
        assert!(all.array_windows().all(|[a, b]| a != b), "{all:?}");
        for row in ROWS {
            let pre = row.names.first().and_then(|name| find(name)).expect("a rule");
            if pre.is_text {
                continue;
            }
            let named = name(&pre.normalizer, &pre.pre_tokenizer, pre.ignore_merges).expect("a name");
            assert!(!named.other_composition && !named.other_words, "{named:?}");
            // Rows differ in `bos` alone, which is written beside.
            let again = find(named.name).expect("a rule");
            assert_eq!(plain(&again.pre_tokenizer), plain(&pre.pre_tokenizer), "{}", named.name);
        }
    }

    #[test]
    fn the_nearest_rules_are_named() {
        let of = |name: &str| find(name).expect("a rule").pre_tokenizer;
        let nfc = json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }] });
        let named = |name, other_composition, other_words| Some(Named { name, other_composition, other_words });
        assert_eq!(name(&Value::Null, &of("qwen2"), false), named("stablelm2", false, false));
        assert_eq!(name(&nfc, &of("llama-bpe"), true), named("llama-bpe", true, false));
        assert_eq!(name(&Value::Null, &of("tekken"), false), named("tekken", false, true));
        assert_eq!(name(&json!({ "type": "NFKC" }), &of("qwen2"), false), None);
        assert_eq!(name(&Value::Null, &json!({ "type": "Metaspace" }), false), None);
    }
}
