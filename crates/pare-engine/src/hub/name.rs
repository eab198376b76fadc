//! Names of repositories.

use crate::Error;
use std::fmt;

/// The most characters of `organisation/name`.
const MAX_REPOSITORY: usize = 96;
/// The most characters of a revision.
const MAX_REVISION: usize = 128;

/// A repository at a revision. Every part is safe in a path and in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) organisation: String,
    pub(super) name: String,
    /// A branch, a tag or a commit.
    pub(super) revision: String,
}

impl Name {
    /// `organisation/name` or `organisation/name@revision`; the revision is `main` unless given.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            let shown: String = text.chars().take(MAX_REPOSITORY).collect();
            Err(Error::Refused(format!(
                "hf:{}: {what}; expected hf:organisation/name or hf:organisation/name@revision",
                shown.escape_debug()
            )))
        };
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let Some((organisation, name)) = repository.split_once('/') else {
            return wrong("there is no organisation");
        };
        if repository.len() > MAX_REPOSITORY {
            return wrong(&format!("the name has {} bytes, at most {MAX_REPOSITORY} are allowed", repository.len()));
        }
        if !is_part(organisation) || !is_part(name) || repository.contains("--") || name.ends_with(".git") {
            return wrong(
                "organisation and name are letters, digits, '.', '_' and '-', begin and end with neither '.' nor '-', and have no '..', \
                 '--' or final '.git'",
            );
        }
        if revision.len() > MAX_REVISION || !revision.split('/').all(is_revision_part) {
            return wrong(
                "a revision is a branch, tag or commit of letters, digits, '.', '_', '-' and '/', without '..', of at most 128 bytes",
            );
        }
        Ok(Self { organisation: organisation.to_owned(), name: name.to_owned(), revision: revision.to_owned() })
    }

    /// `organisation/name`.
    pub(super) fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.name)?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && !text.contains("..")
}

fn is_part(text: &str) -> bool {
    is_plain(text) && !text.starts_with(['.', '-']) && !text.ends_with(['.', '-'])
}

fn is_revision_part(text: &str) -> bool {
    is_plain(text) && !text.starts_with(['.', '-']) && !text.ends_with('.')
}

/// Whether `name` is a plain name of a safetensors file, the same on every platform.
pub(super) fn is_shard(name: &str) -> bool {
    is_plain(name) && !name.starts_with(['.', '-']) && name.ends_with(".safetensors") && name.len() <= 255
}

/// Whether `text` is a hash that can name a file: 40 or 64 lower-case hexadecimal digits.
pub(super) fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::{Name, is_hash, is_shard};

    #[test]
    fn names_and_revisions() {
        for (text, organisation, name, revision) in [
            ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB", "SmolLM2-135M", "main"),
            ("a/b@v1.0", "a", "b", "v1.0"),
            ("a_b/c.d@refs/pr/12", "a_b", "c.d", "refs/pr/12"),
        ] {
            let parsed = Name::parse(text).unwrap();
            assert_eq!((&*parsed.organisation, &*parsed.name, &*parsed.revision), (organisation, name, revision));
            assert_eq!(parsed.to_string(), text);
        }
        let long = format!("a/{}", "b".repeat(95));
        let long_revision = format!("a/b@{}", "c".repeat(129));
        for text in [
            "",
            "gpt2",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "a/b..c",
            "a//b",
            "a--b/c",
            "-a/b",
            "a/b-",
            ".a/b",
            "a/b.git",
            "a b/c",
            "a/b?c",
            "a/b#c",
            "a/b%2e",
            "a\\b/c",
            "\u{e4}/b",
            "a/b\n",
            "a/b@",
            "a/b@..",
            "a/b@../c",
            "a/b@/c",
            "a/b@c/",
            "a/b@c//d",
            "a/b@c d",
            "a/b@c@d",
            "a/b@.c",
            "a/b@-c",
            "a/b@c?d",
            &long,
            &long_revision,
        ] {
            let error = Name::parse(text).unwrap_err();
            assert!(error.is_bad_input());
            let error = error.to_string();
            assert!(error.contains("expected hf:organisation/name"), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn shards_and_hashes() {
        assert!(is_shard("model-00001-of-00002.safetensors"));
        for name in [
            "",
            ".safetensors",
            "../x.safetensors",
            "a/x.safetensors",
            "x.bin",
            "a\\x.safetensors",
            "C:x.safetensors",
            "x y.safetensors",
        ] {
            assert!(!is_shard(name), "{name}");
        }
        assert!(is_hash(&"0a".repeat(20)) && is_hash(&"0a".repeat(32)));
        assert!(!is_hash("") && !is_hash(&"0A".repeat(20)) && !is_hash(&"../".repeat(20)) && !is_hash(&"0".repeat(41)));
    }
}
