//! A hub on this machine: lists of files, and the files.

use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// No test asks for more.
const MOST_REQUESTS: usize = 64;

/// What a repository holds, and how it fails.
#[derive(Default)]
pub(crate) struct Repository {
    files: BTreeMap<String, Vec<u8>>,
    /// The list tells names only.
    pub(crate) bare: bool,
    /// A file that is listed and not there.
    pub(crate) listed_only: Option<String>,
    /// What must be sent to get a file.
    pub(crate) token: Option<String>,
    /// A file whose first answer ends in the middle.
    pub(crate) cut_once: Option<String>,
    /// A file whose first answer has a wrong byte.
    pub(crate) flip_once: Option<String>,
}

impl Repository {
    pub(crate) fn new<N: Into<String>>(files: impl IntoIterator<Item = (N, Vec<u8>)>) -> Self {
        Self { files: files.into_iter().map(|(name, bytes)| (name.into(), bytes)).collect(), ..Self::default() }
    }

    pub(crate) fn add(&mut self, file: &str, bytes: Vec<u8>) {
        self.files.insert(file.to_owned(), bytes);
    }
}

/// A hub that serves until it is dropped.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    pub(crate) commit: String,
    requests: Arc<Mutex<Vec<String>>>,
    parts: Arc<Mutex<Vec<usize>>>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    pub(crate) fn start<const N: usize>(repositories: [(&str, Repository); N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let commit = "0123456789abcdef0123456789abcdef01234567".to_owned();
        let (requests, parts) = (Arc::default(), Arc::default());
        let mut server = Server {
            repositories: repositories.map(|(name, repository)| (name.to_owned(), repository)).into(),
            failed: BTreeSet::new(),
            commit: commit.clone(),
            requests: Arc::clone(&requests),
            parts: Arc::clone(&parts),
        };
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take(MOST_REQUESTS) {
                if !server.answer(stream.unwrap()) {
                    break;
                }
            }
        });
        Self { endpoint, commit, requests, parts, thread: Some(thread) }
    }

    /// The bytes from which parts of files were asked for, in order.
    pub(crate) fn parts(&self) -> Vec<usize> {
        self.parts.lock().unwrap().clone()
    }

    /// The paths that were asked for, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(self.endpoint.trim_start_matches("http://")) {
            let _ = stream.write_all(b"STOP / HTTP/1.1\r\n\r\n");
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    repositories: BTreeMap<String, Repository>,
    failed: BTreeSet<String>,
    commit: String,
    requests: Arc<Mutex<Vec<String>>>,
    parts: Arc<Mutex<Vec<usize>>>,
}

struct Answer {
    status: &'static str,
    code: &'static str,
    body: Vec<u8>,
    /// Bytes of the body that are sent.
    sent: usize,
}

impl Answer {
    fn whole(body: Vec<u8>) -> Self {
        Self { status: "200 OK", code: "", sent: body.len(), body }
    }

    fn error(status: &'static str, code: &'static str) -> Self {
        Self { status, code, body: Vec::new(), sent: 0 }
    }
}

impl Server {
    /// Answers one request; `false` when it is the last.
    fn answer(&mut self, mut stream: TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let header: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if method == "STOP" {
            return false;
        }
        self.requests.lock().unwrap().push(path.to_owned());
        let token = header.iter().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default();
        let mut answer =
            if method == "GET" { self.get(path, token) } else { Answer::error("405 Method Not Allowed", "") };
        let range = header.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        let mut part = String::new();
        if let Some(from) = range.filter(|&from| answer.status == "200 OK" && from < answer.body.len()) {
            part = format!("Content-Range: bytes {from}-{}/{}\r\n", answer.body.len() - 1, answer.body.len());
            let body = answer.body.split_off(from);
            answer = Answer { status: "206 Partial Content", ..Answer::whole(body) };
            self.parts.lock().unwrap().push(from);
        }
        let Answer { status, code, body, sent } = answer;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{part}X-Error-Code: {code}\r\nX-Repo-Commit: {}\r\nConnection: close\r\n\r\n",
            body.len(),
            self.commit
        );
        // A client that hangs up is the test's affair.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
        true
    }

    fn get(&mut self, path: &str, token: &str) -> Answer {
        if let Some(rest) = path.strip_prefix("/api/models/") {
            let (name, revision) = rest.split_once("/revision/").unwrap();
            return match self.repositories.get(name) {
                None => Answer::error("404 Not Found", "RepoNotFound"),
                Some(_) if revision.starts_with("old?") => Answer::error("404 Not Found", "RevisionNotFound"),
                Some(repository) => Answer::whole(listing(&self.commit, repository)),
            };
        }
        let Some((name, file)) = path[1..].split_once(&format!("/resolve/{}/", self.commit)) else {
            return Answer::error("404 Not Found", "");
        };
        let Some(repository) = self.repositories.get(name) else {
            return Answer::error("404 Not Found", "RepoNotFound");
        };
        if repository.token.as_ref().is_some_and(|expected| expected != token) {
            return Answer::error("401 Unauthorized", "GatedRepo");
        }
        let Some(bytes) = repository.files.get(file).filter(|_| repository.listed_only.as_deref() != Some(file)) else {
            return Answer::error("404 Not Found", "EntryNotFound");
        };
        let mut answer = Answer::whole(bytes.clone());
        if repository.cut_once.as_deref() == Some(file) && self.failed.insert(path.to_owned()) {
            answer.sent /= 2;
        }
        if repository.flip_once.as_deref() == Some(file) && self.failed.insert(path.to_owned()) {
            answer.body[0] ^= 1;
        }
        answer
    }
}

/// What the hub says of a repository; weights are large files.
fn listing(commit: &str, repository: &Repository) -> Vec<u8> {
    let files = repository.files.iter().map(|(name, bytes)| {
        let sha256 = format!("{:x}", Sha256::digest(bytes));
        if repository.bare {
            serde_json::json!({"rfilename": name})
        } else if name.ends_with(".safetensors") {
            let lfs = serde_json::json!({"sha256": sha256, "size": bytes.len(), "pointerSize": 134});
            serde_json::json!({"rfilename": name, "size": bytes.len(), "blobId": "f".repeat(40), "lfs": lfs})
        } else {
            serde_json::json!({"rfilename": name, "size": bytes.len(), "blobId": sha256[..40]})
        }
    });
    let files: Vec<serde_json::Value> = files.collect();
    serde_json::json!({"sha": commit, "siblings": files}).to_string().into_bytes()
}
