//! Another program that is measured in turn with ours, as a child process: `llama-bench` of llama.cpp, or another build of pare.

mod llama_bench;
mod pare_bench;

use super::measure::{Sizes, Turn};
use crate::progress::{Interrupt, Interrupted};
use crate::{Error, bundle};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The peers that are known, as on the command line.
const KNOWN: &str =
    "llama.cpp=PATH, where PATH is llama-bench or the folder that holds it, or pare=PATH of another build of pare";
/// Most bytes that are read of what a peer prints.
const MOST_OUTPUT: u64 = 16 << 20;
/// Characters of a peer's last words that an error quotes.
const QUOTED: usize = 600;
/// Between two looks at a running child: short beside a test, long beside what a look costs.
const LOOK: Duration = Duration::from_millis(20);

/// Who made the program, which decides how it is asked and what it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LlamaCpp,
    Pare,
}

/// A program that measures the same as we do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    kind: Kind,
    /// The program, as it was named.
    pub program: PathBuf,
    /// How another pare runs the weights: the value of its `--weights`.
    weights: String,
}

/// Which build of a peer ran, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Commit of llama.cpp, version of pare.
    pub build_commit: String,
    /// Number of the build; pare has none.
    #[serde(default)]
    pub build_number: Option<u64>,
    /// What computed: `CPU`, or more than that.
    #[serde(default)]
    pub backends: String,
    /// Type of its cache of keys and values.
    #[serde(default)]
    pub type_k: String,
}

impl Peer {
    /// Reads `NAME=PATH`. `weights` is what another pare is given as `--weights`.
    ///
    /// # Errors
    /// A name that is not known, a path that leads to no program.
    pub fn parse(option: &str, weights: &str) -> Result<Self, Error> {
        let refused = |why: String| Err(Error::Refused(format!("--peer {option}: {why}")));
        let Some((name, path)) = option.split_once('=') else { return refused(format!("expected {KNOWN}")) };
        let kind = match name {
            "llama.cpp" => Kind::LlamaCpp,
            "pare" => Kind::Pare,
            _ => return refused(format!("no peer is called {name:?}; expected {KNOWN}")),
        };
        let given = Path::new(path);
        let program = if given.is_dir() { given.join(kind.program()) } else { given.to_owned() };
        if !program.is_file() {
            return refused(format!("{} is no file; expected {KNOWN}", program.display()));
        }
        if !is_executable(&program) {
            return refused(format!("{} is no program that can be run; expected {KNOWN}", program.display()));
        }
        Ok(Self { kind, program, weights: weights.to_owned() })
    }

    /// Its name, as on the command line.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// The file that this peer reads for each model: those of `given` (one for each, or one for all), else the model's own GGUF file.
    ///
    /// # Errors
    /// Too few or too many files, a file that is no GGUF, a model that is no GGUF file where none is given.
    pub fn files(&self, models: &[String], given: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
        for file in given {
            if self.kind == Kind::LlamaCpp && !bundle::is_gguf(file) {
                return Err(Error::Refused(format!("--peer-model {}: is not a GGUF file", file.display())));
            }
        }
        match given {
            [] => models.iter().map(|model| self.own_file(model)).collect(),
            [one] => Ok(vec![one.clone(); models.len()]),
            all if all.len() == models.len() => Ok(all.to_vec()),
            all => Err(Error::Refused(format!(
                "--peer-model: {} files for {} models; expected one for each, in order, or one for all",
                all.len(),
                models.len()
            ))),
        }
    }

    fn own_file(&self, model: &str) -> Result<PathBuf, Error> {
        let file = bundle::gguf_file(model)?;
        if self.kind == Kind::Pare {
            return Ok(file.unwrap_or_else(|| PathBuf::from(model)));
        }
        file.ok_or_else(|| {
            Error::Refused(format!(
                "{model}: is not a GGUF file, which is all that {} reads; give it the same model with --peer-model FILE.gguf",
                self.name()
            ))
        })
    }

    /// Lets the peer measure `file` once.
    ///
    /// # Errors
    /// [`Error::Peer`] when it cannot be started, fails, or does not print what was asked for; the user stops it.
    pub fn turn(
        &self,
        file: &Path,
        sizes: &Sizes,
        threads: usize,
        interrupt: &Interrupt,
    ) -> Result<(Turn, Build), Error> {
        // A name without a folder would be looked for among the programs of the system.
        let mut command = Command::new(std::path::absolute(&self.program).unwrap_or(self.program.clone()));
        match self.kind {
            Kind::LlamaCpp => llama_bench::ask(&mut command, file, sizes, threads),
            Kind::Pare => pare_bench::ask(&mut command, file, sizes, threads, &self.weights),
        }
        let said = run(command, interrupt).map_err(|failure| self.failed(file, failure))?;
        if !said.status.success() {
            let why = format!("{}; it said: {}", said.status, last_words(&said.stderr));
            return Err(self.failed(file, Failure::Why(why)));
        }
        let read = match self.kind {
            Kind::LlamaCpp => llama_bench::read(&said.stdout, sizes),
            Kind::Pare => pare_bench::read(&said.stdout, sizes),
        };
        read.map_err(|why| {
            let why = format!("{why}; it said: {}", last_words(&said.stderr));
            self.failed(file, Failure::Why(why))
        })
    }

    fn failed(&self, file: &Path, failure: Failure) -> Error {
        match failure {
            Failure::Interrupted(interrupted) => interrupted.into(),
            Failure::Why(why) => {
                Error::Peer { program: self.program.display().to_string(), file: file.display().to_string(), why }
            }
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama.cpp",
            Self::Pare => "pare",
        }
    }

    /// Name of the program in a folder.
    fn program(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama-bench",
            Self::Pare => "pare",
        }
    }
}

enum Failure {
    Interrupted(Interrupted),
    Why(String),
}

struct Said {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Runs a command to its end; it is ended when the user stops the work.
fn run(mut command: Command, interrupt: &Interrupt) -> Result<Said, Failure> {
    interrupt.check().map_err(Failure::Interrupted)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |what: &str, error: std::io::Error| Failure::Why(format!("{what}: {error}"));
    let mut child = command.spawn().map_err(|error| failed("cannot be started", error))?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = match wait(&mut child, interrupt) {
        Ok(status) => status.map_err(|error| failed("cannot be waited for", error))?,
        Err(interrupted) => {
            // Gone already when Ctrl-C reached it too.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::Interrupted(interrupted));
        }
    };
    // Ctrl-C ends the child as well: its failure is then not its own.
    interrupt.check().map_err(Failure::Interrupted)?;
    Ok(Said { status, stdout: received(&stdout), stderr: received(&stderr) })
}

fn wait(child: &mut Child, interrupt: &Interrupt) -> Result<std::io::Result<ExitStatus>, Interrupted> {
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Ok(Ok(status)),
            Err(error) => return Ok(Err(error)),
        }
        interrupt.check()?;
        std::thread::sleep(LOOK);
    }
}

/// Reads a stream in a thread of its own, so that a full pipe never stops the child.
fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is all there is to show.
            let _ = (&mut stream).take(MOST_OUTPUT).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
            // What is beyond the limit is thrown away, so that the child can end.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
    }
    receiver
}

/// What a stream held. A child of the child may keep it open for longer than the child lived.
fn received(stream: &Receiver<Vec<u8>>) -> Vec<u8> {
    stream.recv_timeout(Duration::from_secs(5)).unwrap_or_default()
}

/// The JSON that a program printed, or how its output begins instead.
fn json<T: serde::de::DeserializeOwned>(stdout: &[u8], what: &str) -> Result<T, String> {
    let shown = || {
        let start: String = String::from_utf8_lossy(stdout).trim().chars().take(80).collect();
        if start.is_empty() { "nothing".to_owned() } else { format!("{start:?}") }
    };
    serde_json::from_slice(stdout).map_err(|error| format!("printed no JSON of {what} ({error}), but {}", shown()))
}

/// Tokens per second as printed, where they are a speed.
fn speed(tok_s: f64, what: impl Fn() -> String) -> Result<f64, String> {
    if tok_s.is_finite() && tok_s > 0.0 {
        Ok(tok_s)
    } else {
        Err(format!("printed {tok_s} tokens per second as {}", what()))
    }
}

/// The end of what a program wrote to its error stream.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let end = lines[lines.len().saturating_sub(5)..].join(" | ");
    let skipped = end.chars().count().saturating_sub(QUOTED);
    if end.is_empty() { "nothing".to_owned() } else { end.chars().skip(skipped).collect() }
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_lines() {
        assert_eq!(last_words(b" \n\n"), "nothing");
        assert_eq!(last_words(b"1\n2\n3\n\n4\n5\n6\n"), "2 | 3 | 4 | 5 | 6");
        assert_eq!(last_words("x".repeat(5000).as_bytes()).len(), QUOTED);
    }
}
