//! The hub on the other side of the wire.

use super::Settings;
use super::agent::{agent, unreachable};
use super::name::{Name, is_hash};
use crate::Error;
use pare_format::json::{Bounds, Json, Object, parse};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// The most bytes of a listing.
const MAX_LISTING: u64 = 16_000_000;

/// A repository of a hub.
#[derive(Debug)]
pub(super) struct Remote<'a> {
    agent: Agent,
    name: &'a Name,
    endpoint: &'a str,
    token: Option<&'a str>,
}

/// The files of one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Entry>,
}

/// What the hub says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) size: Option<u64>,
    /// What the shared cache calls its bytes: the SHA-256 of a large file, the hash that git gives to a small one.
    pub(super) hash: Option<String>,
}

impl<'a> Remote<'a> {
    pub(super) fn new(name: &'a Name, settings: &'a Settings) -> Result<Self, Error> {
        let agent = agent(&settings.endpoint)?;
        Ok(Self { agent, name, endpoint: &settings.endpoint, token: settings.token.as_deref() })
    }

    /// The commit that the revision means, and its files.
    pub(super) fn listing(&self) -> Result<Listing, Error> {
        let revision = self.name.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, self.name.repository());
        let mut bytes = Vec::new();
        let body = self.get(&url, "the list of its files")?.into_body();
        body.into_reader().take(MAX_LISTING + 1).read_to_end(&mut bytes).map_err(|error| self.broken(&url, error))?;
        let path = Path::new(&url);
        match parse(path, &bytes, Bounds { bytes: MAX_LISTING, ..Bounds::CONFIG })? {
            Json::Object(object) => read_listing(&object),
            _ => None,
        }
        .ok_or_else(|| self.broken(&url, "is no list of the files of a commit: is HF_ENDPOINT the address of a hub?"))
    }

    /// The bytes of a file of a commit from byte `from` on, or from its beginning where the hub does not send parts: the number says which.
    pub(super) fn open(&self, commit: &str, file: &str, from: u64) -> Result<(u64, impl Read + use<>), Error> {
        let url = self.address(commit, file);
        if from > 0 {
            let answer = self.ask(&url, Some(from))?;
            if answer.status() == StatusCode::PARTIAL_CONTENT && starts_at(&answer, from) {
                return Ok((from, answer.into_body().into_reader()));
            }
        }
        Ok((0, self.get(&url, file)?.into_body().into_reader()))
    }

    /// Where a file is; `file` is a name that is safe in a URL.
    pub(super) fn address(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, self.name.repository())
    }

    /// A failure of the network, not of what was asked.
    pub(super) fn broken(&self, url: &str, why: impl std::fmt::Display) -> Error {
        Error::Io { path: url.to_owned(), source: io::Error::other(why.to_string()) }
    }

    fn ask(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, Error> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::RequireHttpsOnly(_) => self.broken(url, "leads to an address without https"),
            other => self.broken(url, format!("{} {}", self.endpoint, unreachable(&other, "HF_ENDPOINT"))),
        })
    }

    fn get(&self, url: &str, what: &str) -> Result<Response<Body>, Error> {
        let response = self.ask(url, None)?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        Err(self.refused(url, what, response.status(), code))
    }

    /// What an answer other than 200 means. The hub answers 401 for what is not there too, so as not to tell what is private.
    fn refused(&self, url: &str, what: &str, status: StatusCode, code: &str) -> Error {
        let Self { name, endpoint, .. } = self;
        let repository = name.repository();
        let number = status.as_u16();
        let why = match (number, code) {
            (401 | 403, "GatedRepo") if self.token.is_some() => {
                format!(
                    "is gated, and the token (HF_TOKEN, --token) does not open it: accept its terms at {endpoint}/{repository}"
                )
            }
            (401 | 403, "GatedRepo") => format!(
                "is gated: accept its terms at {endpoint}/{repository}, then set HF_TOKEN to a token of yours ({endpoint}/settings/tokens), or give it with `pare pull --token`"
            ),
            (401 | 403, _) if self.token.is_some() => {
                format!("{endpoint} has no such repository that the token (HF_TOKEN, --token) may read ({number})")
            }
            (401 | 403, _) => format!(
                "{endpoint} has no such repository, or it needs a token ({number}): check the name; for a private or gated one set HF_TOKEN"
            ),
            (404, "RevisionNotFound") => format!("{endpoint} has no revision {:?} of it", name.revision),
            (404, "EntryNotFound") => format!("{endpoint} does not have {what} of it"),
            (404, _) if !url.contains("/resolve/") => {
                format!("{endpoint} has no such repository (404): check the name and the revision {:?}", name.revision)
            }
            (404, _) => format!("{endpoint} does not have {what} of it (404)"),
            (429, _) => return self.broken(url, "too many requests (429): wait some minutes, or set HF_TOKEN"),
            _ => return self.broken(url, format!("answers {status}; try again later")),
        };
        Error::Refused(format!("hf:{name}: {why}"))
    }
}

/// Whether the answer says that its bytes begin with byte `from` of the file.
fn starts_at(answer: &Response<Body>, from: u64) -> bool {
    let range = answer.headers().get("content-range").and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

/// The commit and files of an answer; `None` when it is none. Entries that are not as expected are left out, as files not there.
fn read_listing(object: &Object) -> Option<Listing> {
    let Some(Json::String(commit)) = object.get("sha") else { return None };
    let Some(Json::Array(siblings)) = object.get("siblings") else { return None };
    let mut files = BTreeMap::new();
    for sibling in siblings {
        if let Json::Object(sibling) = sibling
            && let Some(Json::String(name)) = sibling.get("rfilename")
        {
            files.insert(name.clone(), read_entry(sibling));
        }
    }
    is_hash(commit).then(|| Listing { commit: commit.clone(), files })
}

fn read_entry(sibling: &Object) -> Entry {
    let hash = |object: &Object, key: &str| match object.get(key) {
        Some(Json::String(hash)) if is_hash(hash) => Some(hash.clone()),
        _ => None,
    };
    let size = |object: &Object| match object.get("size") {
        Some(Json::Number(size)) => size.as_u64(),
        _ => None,
    };
    match sibling.get("lfs") {
        // What git hashes of a large file is a pointer to it.
        Some(Json::Object(lfs)) => Entry { size: size(lfs).or_else(|| size(sibling)), hash: hash(lfs, "sha256") },
        _ => Entry { size: size(sibling), hash: hash(sibling, "blobId") },
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, read_listing};
    use pare_format::json::{Bounds, Json, parse};
    use std::path::Path;

    #[test]
    fn large_files_go_by_their_own_hash() {
        let (commit, git, sha) = ("a".repeat(40), "b".repeat(40), "c".repeat(64));
        let read = |text: &str| match parse(Path::new("x"), text.as_bytes(), Bounds::CONFIG).unwrap() {
            Json::Object(object) => read_listing(&object),
            _ => None,
        };
        let listing = read(&format!(
            r#"{{"sha":"{commit}","siblings":[{{"rfilename":"small","size":3,"blobId":"{git}"}},
            {{"rfilename":"large","size":9,"blobId":"{git}","lfs":{{"sha256":"{sha}","size":9}}}},
            {{"rfilename":"bare"}},{{"rfilename":"odd","size":-1,"blobId":"../x"}},{{"size":1}},7]}}"#
        ))
        .unwrap();
        assert_eq!(listing.commit, commit);
        let expected = [
            ("bare", Entry::default()),
            ("large", Entry { size: Some(9), hash: Some(sha) }),
            ("odd", Entry::default()),
            ("small", Entry { size: Some(3), hash: Some(git) }),
        ];
        assert!(listing.files.into_iter().eq(expected.map(|(name, entry)| (name.to_owned(), entry))));
        for text in [r#"{"sha":"../x","siblings":[]}"#, r#"{"siblings":[]}"#, r#"{}"#] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
