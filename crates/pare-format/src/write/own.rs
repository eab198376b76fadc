//! Whether pare wrote what is at a path: only that is ever replaced.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::gguf::Gguf;
use crate::json::{Bounds, Json, read_object};
use crate::limits;
use crate::map::MappedFile;
use crate::quote::quoted;

/// The record of a directory that pare wrote.
pub const RECORD: &str = "pare.json";
/// The key of a record, and the first key of any other JSON that pare writes: the version that wrote it.
pub const VERSION_KEY: &str = "pare";
/// The key of a record under which the names of all files of the directory stand.
pub(super) const FILES_KEY: &str = "files";
/// The key of a GGUF file that pare wrote, with the version as text.
pub const GGUF_KEY: &str = "pare.version";
/// How an HTML page that pare wrote says so, in its head.
pub const GENERATOR: &str = "<meta name=\"generator\" content=\"pare ";

/// Bytes at the beginning of a text that show who wrote it.
const HEAD_BYTES: u64 = 1024;

/// Why the file may not be replaced; none when pare wrote it, or when it is empty.
pub(super) fn not_our_file(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    if let Err(error) = read {
        return Some(format!("is a file that cannot be read ({error})"));
    }
    let ours = match head.as_slice() {
        [] => true,
        [b'G', b'G', b'U', b'F', ..] => is_our_gguf(path),
        [b'{', rest @ ..] => begins_with_version(rest),
        html => html.windows(GENERATOR.len()).any(|bytes| bytes == GENERATOR.as_bytes()),
    };
    (!ours).then(|| "is a file that pare did not write, or one that does not show it".to_owned())
}

fn is_our_gguf(path: &Path) -> bool {
    let Ok(file) = MappedFile::open(path) else { return false };
    Gguf::parse(path, file.bytes()).is_ok_and(|gguf| gguf.metadata().iter().any(|(key, _)| key == GGUF_KEY))
}

/// Whether the first key of an object, after its brace, is [`VERSION_KEY`], with a text.
fn begins_with_version(object: &[u8]) -> bool {
    let mut tokens = object.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
    let start: Vec<u8> = tokens.by_ref().take(2).flatten().copied().collect();
    start.starts_with(format!("\"{VERSION_KEY}\":\"").as_bytes())
}

/// Why the directory may not be replaced; none when pare wrote all that is in it, or when it is empty.
///
/// # Errors
/// The system refuses to list it.
pub(super) fn not_our_directory(path: &Path) -> io::Result<Option<String>> {
    let names: Vec<OsString> = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    if names.is_empty() {
        return Ok(None);
    }
    let stranger = || Some(format!("is a directory that pare did not write: it has no {RECORD} that lists its files"));
    let bounds = Bounds { bytes: limits::INDEX_BYTES, ..Bounds::CONFIG };
    let Ok(record) = read_object(&path.join(RECORD), bounds) else { return Ok(stranger()) };
    let (Some(Json::String(_)), Some(Json::Array(files))) = (record.get(VERSION_KEY), record.get(FILES_KEY)) else {
        return Ok(stranger());
    };
    let listed = |name: &OsString| {
        name.as_os_str() == RECORD || files.iter().any(|file| matches!(file, Json::String(file) if **file == **name))
    };
    let foreign = names.iter().find(|name| !listed(name));
    Ok(foreign.map(|name| format!("holds {}, which pare did not write there", quoted(&name.to_string_lossy()))))
}
