//! Entry points for fuzzing: read bytes and check what must hold of every result.

use std::path::Path;

use crate::safetensors::Header;
use crate::safetensors::header::PREFIX;

/// Reads `bytes` as a safetensors file.
///
/// # Panics
/// When the result breaks a promise: tensors inside the file, in order, without gaps, found under their names, sizes as their shapes say.
pub fn safetensors(bytes: &[u8]) {
    let header = match Header::read(Path::new("fuzz"), bytes) {
        Ok(header) => header,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("fuzz: ") && !message.chars().any(char::is_control), "{message:?}");
            assert!(error.at_byte.is_none_or(|at| at <= bytes.len() as u64), "{message:?}");
            return;
        }
    };
    let declared = bytes.first_chunk().map_or(0, |prefix| u64::from_le_bytes(*prefix));
    let mut end = PREFIX + usize::try_from(declared).unwrap_or(usize::MAX - PREFIX);
    for tensor in header.tensors() {
        assert_eq!(tensor.range.start, end, "{tensor:?} does not follow the one before");
        assert!(tensor.range.end <= bytes.len(), "{tensor:?} runs past the end");
        assert_eq!(tensor.dtype.bytes(&tensor.shape), Some(tensor.range.len() as u64), "{tensor:?}");
        assert_eq!(header.get(&tensor.name), Some(tensor));
        end = tensor.range.end;
    }
    assert_eq!(end, bytes.len(), "bytes after the last tensor");
}
