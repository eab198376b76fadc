//! Recognises what is often found in place of a model file.

use crate::error::{FormatError, FormatErrorKind};

/// Bytes that are enough to recognise a file.
pub(crate) const SNIFF_BYTES: usize = 512;

const LFS: &str = "download the content: `git lfs pull`, or `huggingface-cli download`";

/// Replaces `error` when `head`, the first bytes of the file, shows that the file is another thing altogether.
pub(crate) fn explain(mut error: FormatError, head: &[u8]) -> FormatError {
    let text = head.trim_ascii_start();
    let starts = |prefix: &[u8]| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if starts(b"version https://git-lfs.github.com/spec/") {
        error.kind = FormatErrorKind::LfsPointer;
        error.hint = Some(LFS);
    } else if starts(b"<!doctype html") || starts(b"<html") || starts(b"<head") {
        error.kind = FormatErrorKind::HtmlPage;
        error.hint = Some("download the file again");
    } else if head.starts_with(b"PK\x03\x04") {
        error.hint = Some("this looks like a zip archive or a PyTorch pickle, not safetensors");
        return error;
    } else if head.starts_with(b"GGUF") {
        error.hint = Some("this looks like a GGUF file: give it the name it deserves, ending in .gguf");
        return error;
    } else {
        return error;
    }
    error.item = None;
    error.at_byte = None;
    error
}
