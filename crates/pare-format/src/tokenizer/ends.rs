//! Which tokens end a text, by what they are called.

/// Texts of control tokens that end a text, a turn or a file: those at which llama.cpp ends (`llama-vocab.cpp`, end of generation).
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<end_of_utterance>",
    "<eos>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<｜end▁of▁sentence｜>",
    // Between files of a repository, and what fills a gap.
    "<|file_sep|>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
];

/// Texts of tokens that end a turn, in the order in which they are looked for.
const TURN_ENDS: &[&str] = &["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_text|>"];
/// The text of the token that ends a message to a tool.
const MESSAGE_END: &str = "<|eom_id|>";

/// What the texts of control tokens say about the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// Every token at which generation ends, sorted.
    pub(super) all: Vec<u32>,
    /// End of a turn.
    pub(super) turn: Option<u32>,
    /// End of a message to a tool.
    pub(super) message: Option<u32>,
}

impl Ends {
    /// Looks through the control tokens of a vocabulary.
    pub(super) fn of<'a>(controls: impl Iterator<Item = (u32, &'a str)> + Clone) -> Self {
        let id = |text: &str| controls.clone().find(|control| control.1 == text).map(|control| control.0);
        let has = |text: &str| id(text).is_some();
        // Where a format has ends of its own, these two only stand between its parts.
        let end_is_inside = (has("<|return|>") && has("<|call|>")) || (has("<|calls|>") && has("<|flush|>"));
        let s_is_text = has("<|tool_response>") || has("<|plamo:eos|>");
        let inside = |text: &str| (text == "<|end|>" && end_is_inside) || (text == "</s>" && s_is_text);
        let ends = |text: &str| ENDS.contains(&text) && !inside(text);
        let mut all: Vec<u32> = controls.clone().filter(|control| ends(control.1)).map(|control| control.0).collect();
        all.sort_unstable();
        all.dedup();
        let turn = TURN_ENDS.iter().find_map(|text| id(text).filter(|_| !inside(text)));
        Self { all, turn, message: id(MESSAGE_END) }
    }
}

#[cfg(test)]
mod tests {
    use super::Ends;

    fn of(texts: &[&str]) -> Ends {
        Ends::of((0..).zip(texts.iter().copied()))
    }

    #[test]
    fn known_texts_end() {
        let ends = of(&["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eom_id|>", "<|file_sep|>"]);
        assert_eq!((ends.all, ends.turn, ends.message), (vec![1, 3, 4, 5], Some(3), Some(4)));
        assert_eq!(of(&["<s>", "[INST]"]), Ends::default());
    }

    #[test]
    fn what_stands_between_parts_does_not_end() {
        assert_eq!(of(&["<|end|>", "<|return|>", "<|call|>"]).all, [1, 2]);
        assert_eq!(of(&["<|end|>", "<|return|>"]).all, [0, 1]);
        assert_eq!(of(&["<|end|>", "<|calls|>", "<|flush|>"]).all, [1, 2]);
        assert_eq!(of(&["</s>", "<turn|>", "<|tool_response>"]).all, [1, 2]);
        assert_eq!(of(&["</s>"]).all, [0]);
    }
}
