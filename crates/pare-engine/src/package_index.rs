//! The Python package index without Python: a wheel is found, fetched, checked by its hash and unpacked.
//!
//! The index is read as PEP 503 and PEP 691 describe it: as JSON, or as a page of links.

use crate::Error;
use crate::hub::agent::{agent, unreachable};
use pare_format::json::{Bounds, Json, Object, parse};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use ureq::{Agent, Body, http};

/// The most bytes of the list of a package's files.
const MAX_LIST_BYTES: u64 = 64_000_000;
/// The most bytes of a wheel, and of what is in it.
const MAX_WHEEL_BYTES: u64 = 4_000_000_000;
/// JSON where the index has it, else a page.
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.1";

/// An index of packages.
#[derive(Debug)]
pub(crate) struct Index {
    agent: Agent,
    /// Without a final `/`.
    address: String,
}

/// A wheel of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    name: String,
    address: String,
    sha256: String,
}

impl Index {
    /// The index of `PIP_INDEX_URL`, else that of the Python packaging authority.
    ///
    /// # Errors
    /// The variable is no address that is read here.
    pub(crate) fn from_environment() -> Result<Self, Error> {
        let given = std::env::var("PIP_INDEX_URL").ok().filter(|address| !address.trim().is_empty());
        Self::at(given.as_deref().unwrap_or("https://pypi.org/simple"))
    }

    fn at(address: &str) -> Result<Self, Error> {
        let address = address.trim().trim_end_matches('/').to_owned();
        let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
        // Who writes a password into the address needs pip.
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#', ' '])) {
            return Err(Error::Refused(
                "PIP_INDEX_URL: expected https://host/path, without user, query or fragment".to_owned(),
            ));
        }
        Ok(Self { agent: agent(&address)?, address })
    }

    /// Fetches the wheel of `package` in `version` that is the same for every machine, and unpacks it into `folder`, which exists.
    ///
    /// # Errors
    /// The index cannot be reached or has no such wheel, the bytes are not those that it lists, the archive is broken or leads out of the
    /// folder, the disk.
    pub(crate) fn unpack(&self, package: &str, version: &str, folder: &Path) -> Result<(), Error> {
        let listed = self.find(package, version)?;
        let wheel = folder.join(&listed.name);
        self.download(&listed, &wheel)?;
        extract(&wheel, folder)
    }

    fn find(&self, package: &str, version: &str) -> Result<Listed, Error> {
        let page = format!("{}/{package}/", self.address);
        let (is_json, bytes) = {
            let answer = self.get(&page)?;
            let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let is_json = kind.contains("json");
            let mut bytes = Vec::new();
            let reader = answer.into_body().into_reader();
            reader.take(MAX_LIST_BYTES).read_to_end(&mut bytes).map_err(|error| broken(&page, error))?;
            (is_json, bytes)
        };
        let listed = if is_json {
            match parse(Path::new(&page), &bytes, Bounds { bytes: MAX_LIST_BYTES, ..Bounds::CONFIG })? {
                Json::Object(object) => from_json(&object),
                _ => Vec::new(),
            }
        } else {
            from_page(&String::from_utf8_lossy(&bytes))
        };
        let start = format!("{}-{version}-", package.replace(['-', '.'], "_").to_lowercase());
        let wanted = |name: &str| name.to_lowercase().starts_with(&start) && name.ends_with("-none-any.whl");
        let Some(found) = listed.into_iter().find(|listed| wanted(&listed.name)) else {
            return Err(Error::Refused(format!("{page}: lists no wheel of version {version} with its sha256")));
        };
        Ok(Listed { address: absolute(&page, &found.address), ..found })
    }

    fn download(&self, listed: &Listed, wheel: &Path) -> Result<(), Error> {
        let disk = |source| Error::Io { path: wheel.display().to_string(), source };
        let mut from = self.get(&listed.address)?.into_body().into_reader().take(MAX_WHEEL_BYTES);
        let mut to = File::create_new(wheel).map_err(disk)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    hash.update(bytes);
                    to.write_all(bytes).map_err(disk)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(broken(&listed.address, format!("the connection broke ({error}); try again")));
                }
            }
        }
        let found = format!("{:x}", hash.finalize());
        if found == listed.sha256 {
            return Ok(());
        }
        Err(broken(&listed.address, format!("sha256 is {found}, expected {}; try again", listed.sha256)))
    }

    fn get(&self, address: &str) -> Result<http::Response<Body>, Error> {
        let request = self.agent.get(address).header("Accept", ACCEPT);
        let answer = request.call().map_err(|error| broken(address, unreachable(&error, "PIP_INDEX_URL")))?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            404 => Err(Error::Refused(format!("{address}: the index has no such package (404)"))),
            _ => Err(broken(address, format!("answers {}; try again later", answer.status()))),
        }
    }
}

/// A failure of the network, not of what was asked.
fn broken(address: &str, why: impl std::fmt::Display) -> Error {
    Error::Io { path: address.to_owned(), source: io::Error::other(why.to_string()) }
}

/// A plain name of a wheel, safe as the name of a file.
fn is_wheel(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+!".contains(&byte);
    name.ends_with(".whl") && !name.starts_with('.') && name.bytes().all(plain)
}

fn is_sha256(hash: &str) -> bool {
    hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The wheels of an answer in JSON; entries without a hash are left out.
fn from_json(object: &Object) -> Vec<Listed> {
    let text = |object: &Object, key: &str| match object.get(key) {
        Some(Json::String(text)) => Some(text.clone()),
        _ => None,
    };
    let Some(Json::Array(files)) = object.get("files") else { return Vec::new() };
    let listed = files.iter().filter_map(|file| {
        let Json::Object(file) = file else { return None };
        let Some(Json::Object(hashes)) = file.get("hashes") else { return None };
        Some(Listed { name: text(file, "filename")?, address: text(file, "url")?, sha256: text(hashes, "sha256")? })
    });
    listed.filter(|listed| is_wheel(&listed.name) && is_sha256(&listed.sha256)).collect()
}

/// The wheels of a page of links, each with its hash behind a `#`.
fn from_page(page: &str) -> Vec<Listed> {
    let mut listed = Vec::new();
    for link in page.split("href=").skip(1) {
        let mut characters = link.chars();
        let Some(quote @ ('"' | '\'')) = characters.next() else { continue };
        let Some((address, _)) = characters.as_str().split_once(quote) else { continue };
        let address = address.replace("&amp;", "&");
        let Some((address, hash)) = address.split_once("#sha256=") else { continue };
        let name = address.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        if is_wheel(name) && is_sha256(hash) {
            listed.push(Listed { name: name.to_owned(), address: address.to_owned(), sha256: hash.to_owned() });
        }
    }
    listed
}

/// Where a link of `page` leads.
fn absolute(page: &str, link: &str) -> String {
    if link.starts_with("https://") || link.starts_with("http://") {
        return link.to_owned();
    }
    let (scheme, rest) = page.split_once("://").unwrap_or(("https", page));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut parts: Vec<&str> = if link.starts_with('/') { Vec::new() } else { path.split('/').collect() };
    if !link.starts_with('/') {
        parts.pop();
    }
    for part in link.trim_start_matches('/').split('/') {
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("{scheme}://{host}/{}", parts.join("/"))
}

/// Unpacks a wheel, which is a zip archive.
fn extract(wheel: &Path, folder: &Path) -> Result<(), Error> {
    let disk = |path: &Path, source| Error::Io { path: path.display().to_string(), source };
    let refused = |why: String| Error::Refused(format!("{}: {why}", wheel.display()));
    let file = File::open(wheel).map_err(|source| disk(wheel, source))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| refused(error.to_string()))?;
    let mut left = MAX_WHEEL_BYTES;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| refused(error.to_string()))?;
        let Some(path) = member.enclosed_name().map(|name: PathBuf| folder.join(name)) else {
            return Err(refused(format!("member {index} leads out of the archive")));
        };
        let parent = if member.is_dir() { path.as_path() } else { path.parent().unwrap_or(folder) };
        fs::create_dir_all(parent).map_err(|source| disk(parent, source))?;
        if member.is_dir() {
            continue;
        }
        let mut to = File::create_new(&path).map_err(|source| disk(&path, source))?;
        let copied = io::copy(&mut (&mut member).take(left), &mut to);
        left = left.saturating_sub(copied.map_err(|source| disk(&path, source))?);
        if left == 0 {
            return Err(refused(format!("holds more than {MAX_WHEEL_BYTES} bytes")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, Cursor};
    use std::net::TcpListener;

    const NAME: &str = "tiny_model-0.1.2-py3-none-any.whl";

    fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            let stored = content.len() < 10;
            let method = if stored { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            archive.start_file(*name, options).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    /// Serves `page` as the list of `tiny-model` and `wheel` as its file, for `requests` requests; its address.
    fn serve(kind: &'static str, page: String, wheel: Vec<u8>, requests: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/simple/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().take(requests) {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let (status, body) = match first.split(' ').nth(1).unwrap_or_default() {
                    "/simple/tiny-model/" => ("200 OK", page.as_bytes()),
                    path if path == format!("/files/{NAME}") => ("200 OK", &wheel[..]),
                    _ => ("404 Not Found", &b""[..]),
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            }
        });
        address
    }

    fn json(sha256: &str) -> String {
        let other = "tiny_model-0.1.1-py3-none-any.whl";
        format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "tiny-model", "files": [
            {{"filename": "{other}", "url": "../../files/{other}", "hashes": {{"sha256": "{sha256}"}}}},
            {{"filename": "{NAME}", "url": "../../files/{NAME}", "hashes": {{}}}},
            {{"filename": "tiny_model-0.1.2.tar.gz", "url": "x", "hashes": {{"sha256": "{sha256}"}}}},
            {{"filename": "{NAME}", "url": "../../files/{NAME}", "hashes": {{"sha256": "{sha256}"}}}}]}}"#
        )
    }

    #[test]
    fn a_wheel_is_found_in_json_and_on_a_page_and_unpacked() {
        let content = b"GGUF and so on, and so on, and so on".repeat(3000);
        let wheel = wheel(&[("tiny_model/model.gguf", &content), ("tiny_model/__init__.py", b"")]);
        let sha256 = format!("{:x}", Sha256::digest(&wheel));
        let page = format!("<!doctype html><a\n href='/files/{NAME}#sha256={sha256}' data-x=\"1\">{NAME}</a>");
        for (kind, list) in [("application/vnd.pypi.simple.v1+json", json(&sha256)), ("text/html", page)] {
            let index = Index::at(&serve(kind, list, wheel.clone(), 3)).unwrap();
            let folder = tempfile::tempdir().unwrap();
            index.unpack("tiny-model", "0.1.2", folder.path()).unwrap();
            assert_eq!(fs::read(folder.path().join("tiny_model/model.gguf")).unwrap(), content);
            let error = index.unpack("other-model", "0.1.2", folder.path()).unwrap_err();
            assert!(error.is_bad_input() && error.to_string().contains("no such package"), "{error}");
        }
    }

    #[test]
    fn other_bytes_and_missing_versions_are_refused() {
        let wheel = wheel(&[("a", b"1")]);
        let index = Index::at(&serve("application/json", json(&"0".repeat(64)), wheel, 3)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error = index.unpack("tiny-model", "0.1.2", folder.path()).unwrap_err();
        assert!(!error.is_bad_input() && error.to_string().contains("sha256 is"), "{error}");
        assert!(!folder.path().join("a").exists());
        let error = index.unpack("tiny-model", "9.9", folder.path()).unwrap_err().to_string();
        assert!(error.contains("no wheel of version 9.9"), "{error}");
        for address in ["pypi.org", "file:///x", "https://", "https://user:secret@host/simple", "https://host/x?y"] {
            let error = Index::at(address).unwrap_err().to_string();
            assert!(error.contains("PIP_INDEX_URL") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_archive_that_leads_out_or_is_broken_writes_nothing_outside() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("in");
        fs::create_dir(&inside).unwrap();
        let path = inside.join("x.whl");
        for bytes in [wheel(&[("../out", b"1")]), wheel(&[("/out", b"1")]), b"PK\x03\x04".to_vec(), Vec::new()] {
            fs::write(&path, &bytes).unwrap();
            let _ = extract(&path, &inside);
            assert!(!folder.path().join("out").exists() && !Path::new("/out").exists());
        }
        let whole = wheel(&[("a/b", &[7; 5000])]);
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert!(extract(&path, &inside).is_err());
    }

    #[test]
    fn links_lead_where_they_say() {
        let page = "https://host/simple/x/";
        for (link, expected) in [
            ("https://files/a.whl", "https://files/a.whl"),
            ("/files/a.whl", "https://host/files/a.whl"),
            ("../../files/a.whl", "https://host/files/a.whl"),
            ("a.whl", "https://host/simple/x/a.whl"),
            ("../../../../a.whl", "https://host/a.whl"),
        ] {
            assert_eq!(absolute(page, link), expected, "{link}");
        }
    }
}
