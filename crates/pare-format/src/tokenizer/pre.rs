//! The pre-tokenizers that GGUF files name, in the form of tokenizer.json.

use serde_json::{Value, json};

use super::pattern::{DEEPSEEK_CODER, DEEPSEEK_V3, GPT4O, LLAMA3, QWEN2, TEKKEN};

/// What a name in `tokenizer.ggml.pre` stands for.
pub(super) struct Pre {
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    /// A word that is a token as a whole is taken as it is, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether `bos` is added when the file does not say.
    pub(super) add_bos: bool,
}

/// Names with the same rules stand on one line.
const NAMES: &[(&[&str], Rule)] = &[
    (&["gpt-2", "phi-2", "mpt", "olmo"], Rule::Gpt2),
    (&["smollm", "starcoder", "refact", "command-r", "codeshell"], Rule::Digits),
    (&["llama-bpe", "llama3", "llama-v3"], Rule::Llama3),
    (&["qwen2", "qwen3", "deepseek-r1-qwen"], Rule::Qwen2),
    (&["tekken"], Rule::Tekken),
    (&["gpt-4o", "llama4"], Rule::Gpt4o),
    (&["deepseek-coder"], Rule::DeepseekCoder),
    (&["deepseek-v3"], Rule::DeepseekV3),
];

#[derive(Clone, Copy)]
enum Rule {
    Gpt2,
    /// Single digits, then GPT-2.
    Digits,
    Llama3,
    Qwen2,
    Tekken,
    Gpt4o,
    DeepseekCoder,
    DeepseekV3,
}

/// All names, for messages.
pub(super) fn known() -> String {
    NAMES.iter().flat_map(|row| row.0).copied().collect::<Vec<_>>().join(" ")
}

/// The rules behind `name`.
pub(super) fn find(name: &str) -> Option<Pre> {
    let rule = NAMES.iter().find(|row| row.0.contains(&name))?.1;
    let bytes = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let digits = || json!({ "type": "Digits", "individual_digits": true });
    let then_bytes = |mut steps: Vec<Value>, use_regex: bool| {
        steps.push(bytes(use_regex));
        json!({ "type": "Sequence", "pretokenizers": steps })
    };
    let splits = |patterns: &[&str]| patterns.iter().map(|p| split(p)).collect::<Vec<_>>();
    let pre_tokenizer = match rule {
        Rule::Gpt2 => bytes(true),
        Rule::Digits => then_bytes(vec![digits()], true),
        Rule::Llama3 => then_bytes(splits(&[LLAMA3]), false),
        Rule::Qwen2 => then_bytes(splits(&[QWEN2]), false),
        Rule::Tekken => then_bytes(splits(&[TEKKEN]), false),
        Rule::Gpt4o => then_bytes(splits(&[GPT4O]), false),
        Rule::DeepseekCoder => then_bytes([splits(DEEPSEEK_CODER), vec![digits()]].concat(), false),
        Rule::DeepseekV3 => then_bytes(splits(DEEPSEEK_V3), false),
    };
    let normalizer = if let Rule::Qwen2 = rule { json!({ "type": "NFC" }) } else { Value::Null };
    let whole_words = matches!(rule, Rule::Llama3 | Rule::Tekken);
    Some(Pre { normalizer, pre_tokenizer, ignore_merges: whole_words, add_bos: whole_words })
}

/// The first name whose rules are these, when there is one.
pub(super) fn name(normalizer: &Value, pre_tokenizer: &Value, ignore_merges: bool) -> Option<&'static str> {
    let same = |name: &str| {
        find(name).is_some_and(|pre| {
            plain(&pre.normalizer) == plain(normalizer)
                && plain(&pre.pre_tokenizer) == plain(pre_tokenizer)
                && pre.ignore_merges == ignore_merges
        })
    };
    NAMES.iter().filter_map(|row| row.0.first()).copied().find(|name| same(name))
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
