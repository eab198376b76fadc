//! Finds the real model that `cargo xtask fetch` puts in the cache.

use std::path::PathBuf;

/// Path and bytes of SmolLM2-135M-Instruct in Q4_1.
///
/// # Panics
/// When it was not fetched: the tests that need it must fail, not pass unseen.
pub(crate) fn smollm2() -> (PathBuf, Vec<u8>) {
    let path = std::env::var_os("PARE_SMOLLM2").map(PathBuf::from).unwrap_or_else(|| {
        let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_default();
        cache.join("pare/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf")
    });
    let bytes = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; run `cargo xtask fetch`, or set PARE_SMOLLM2", path.display()));
    (path, bytes)
}
