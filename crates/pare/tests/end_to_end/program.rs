//! Running `pare` with a time limit.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest that a command on a tiny model may take, also on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Longest that a command on the real model may take.
const REAL_LIMIT: Duration = Duration::from_secs(600);

/// A cache that cannot be used: a test whose model writes text says where the text goes.
const NO_CACHE: &str = "/dev/null/none";

/// One command line.
pub(crate) struct Pare {
    command: Command,
    limit: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// Without the lines of stages.
    pub(crate) stderr: String,
    /// The lines that say which stage begins, or how far a long one is.
    pub(crate) stages: Vec<String>,
}

/// `pare` with these arguments, the cache of the user out of its reach.
pub(crate) fn pare<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Pare {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pare"));
    command.args(arguments).stdin(Stdio::null());
    apart_from_user(&mut command);
    Pare { command, limit: LIMIT }
}

/// Without the cache of the user, and nothing is fetched: there is no pip, and no package index.
pub(crate) fn apart_from_user(command: &mut Command) {
    command.env("PARE_CACHE", NO_CACHE).env("PARE_PYTHON", NO_CACHE).env("PIP_INDEX_URL", "http://127.0.0.1:9/simple");
}

/// `pare` on the real model, which must be in the user's cache: no test fetches anything.
pub(crate) fn real<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Pare {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("PARE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("pare")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/pare")))
        .unwrap();
    let file = cache.join("smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(file.is_file(), "{}: not there; run cargo xtask fetch", file.display());
    let mut pare = pare(arguments).limit(REAL_LIMIT);
    pare.command.env("PARE_CACHE", cache);
    pare
}

impl Pare {
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Starts it, for tests that do something to it while it runs.
    pub(crate) fn start(mut self) -> Child {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it to its end. Fails when it panics, dies of a signal or takes too long.
    pub(crate) fn run(self) -> Ended {
        let shown = format!("{:?}", self.command);
        let limit = self.limit;
        let mut child = self.start();
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let code = wait(&mut child, limit).unwrap_or_else(|| panic!("{shown}: still running after {limit:?}"));
        let (stderr, stages) = without_stages(&stderr.join().unwrap());
        let ended = Ended { code, stdout: stdout.join().unwrap(), stderr, stages };
        assert!(ended.code.is_some(), "{shown}: died of a signal: {ended:?}");
        assert!(!ended.stderr.contains("panicked") && !ended.stdout.contains("panicked"), "{shown}: {ended:?}");
        ended
    }

    /// Runs it, which must succeed; what it wrote to the output stream.
    pub(crate) fn succeeds(self) -> String {
        let shown = format!("{:?}", self.command);
        let ended = self.run();
        assert_eq!(ended.code, Some(0), "{shown}: {}", ended.stderr);
        ended.stdout
    }

    /// Runs it, which must succeed, and reads what it printed as JSON.
    pub(crate) fn json(self) -> Value {
        let text = self.succeeds();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs it, which must end with code 2 and print nothing but a message with all of `parts`.
    pub(crate) fn refuses(self, parts: &[&str]) -> String {
        let shown = format!("{:?}", self.command);
        let ended = self.run();
        assert_eq!(ended.code, Some(2), "{shown}: {ended:?}");
        assert_eq!(ended.stdout, "", "{shown}");
        for part in parts {
            assert!(ended.stderr.contains(part), "{shown}: {part:?} is not in {:?}", ended.stderr);
        }
        let clauses: Vec<&str> = ended.stderr.trim_end().split(": ").collect();
        assert!(clauses.windows(2).all(|pair| pair[0] != pair[1]), "{shown}: said twice: {:?}", ended.stderr);
        ended.stderr
    }
}

/// What the error stream holds, and the lines of stages, as in `[   3 s] observing`.
pub(crate) fn without_stages(stderr: &str) -> (String, Vec<String>) {
    let is_stage = |line: &str| {
        let seconds = line.strip_prefix('[').and_then(|line| line.split_once(" s] "));
        seconds.is_some_and(|(seconds, _)| seconds.trim().parse::<u32>().is_ok())
    };
    let (stages, rest): (Vec<&str>, Vec<&str>) = stderr.split_inclusive('\n').partition(|line| is_stage(line));
    (rest.concat(), stages.into_iter().map(|line| line.trim_end().to_owned()).collect())
}

/// Reads a stream in its own thread, so that a full pipe never stops the program.
pub(crate) fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut stream = stream.unwrap();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

/// The exit code (none: a signal) within `limit`; after that the program is killed and there is no answer.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        if start.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
