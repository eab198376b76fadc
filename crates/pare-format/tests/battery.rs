//! Bad input and what must happen: every row makes a file or directory, opens it, and says how that must end.
//!
//! For every row: no panic, no signal, done in ten seconds, memory bounded by the file, the message names the file, and nothing in it can
//! steer a terminal.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use pare_format::FormatError;

#[path = "battery/directory.rs"]
mod directory;
#[path = "battery/safetensors.rs"]
mod safetensors;

/// Time for one row.
const SECONDS: u64 = 10;
/// Memory for one row, beside the size of its files.
const MEMORY: u64 = 256 << 20;

/// How opening must end.
enum Expect {
    /// Without error or warning.
    Fine,
    /// Without error, with warnings that hold these fragments.
    Warns(&'static [&'static str]),
    /// With an error that holds these fragments.
    Fails(&'static [&'static str]),
}

type Outcome = Result<Vec<String>, FormatError>;

struct Row {
    id: &'static str,
    case: String,
    make: Box<dyn FnOnce(&Path) + Send>,
    open: Box<dyn FnOnce(&Path) -> Outcome + Send>,
    expect: Expect,
}

impl Row {
    fn new(
        id: &'static str,
        case: impl Into<String>,
        make: impl FnOnce(&Path) + Send + 'static,
        open: impl FnOnce(&Path) -> Outcome + Send + 'static,
        expect: Expect,
    ) -> Self {
        Self { id, case: case.into(), make: Box::new(make), open: Box::new(open), expect }
    }

    /// What is wrong with the way the row ended, if anything.
    fn run(self) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        (self.make)(dir.path());
        let allowed = size(dir.path()) + MEMORY;
        let before = reset_peak();
        let (send, receive) = mpsc::channel();
        let path = dir.path().to_owned();
        let open = self.open;
        let thread = std::thread::spawn(move || send.send(open(&path)));
        let outcome = match receive.recv_timeout(Duration::from_secs(SECONDS)) {
            Ok(outcome) => outcome,
            Err(mpsc::RecvTimeoutError::Timeout) => return Some(format!("still running after {SECONDS} s")),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Some(format!("panicked: {:?}", thread.join().err())),
        };
        if let (Some(before), Some(peak)) = (before, memory("VmHWM:"))
            && peak.saturating_sub(before) > allowed
        {
            return Some(format!("took {} bytes of memory, {allowed} allowed", peak - before));
        }
        let text = match &outcome {
            Ok(warnings) => warnings.join("\n"),
            Err(error) => error.to_string(),
        };
        if text.chars().any(|c| c.is_control() && c != '\n') || text.contains('\u{202e}') {
            return Some(format!("control characters in {text:?}"));
        }
        if outcome.is_err() && !text.starts_with(&*dir.path().to_string_lossy()) && !text.starts_with("/dev/") {
            return Some(format!("no file in {text}"));
        }
        let fragments = match (&self.expect, &outcome) {
            (Expect::Fine, Ok(warnings)) if warnings.is_empty() => &[],
            (Expect::Warns(fragments), Ok(_)) | (Expect::Fails(fragments), Err(_)) => *fragments,
            _ => return Some(format!("ended with {outcome:?}")),
        };
        let missing = fragments.iter().find(|fragment| !text.contains(**fragment));
        missing.map(|fragment| format!("no {fragment:?} in: {text}"))
    }
}

fn size(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}

/// A line of `/proc/self/status` in bytes, where there is one.
fn memory(line: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|l| l.strip_prefix(line))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Makes the system forget the highest use of memory; returns the present one.
fn reset_peak() -> Option<u64> {
    fs::write("/proc/self/clear_refs", "5").ok()?;
    memory("VmRSS:")
}

#[test]
fn every_row_ends_as_it_must() {
    let rows: Vec<Row> = safetensors::rows().into_iter().chain(directory::rows()).collect();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
    let all = (1..=26).map(|i| format!("S{i:02}")).chain((1..=16).map(|i| format!("I{i:02}")));
    assert_eq!(ids.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), all.collect());
    let failures: Vec<String> = rows
        .into_iter()
        .filter_map(|row| {
            let name = format!("{} {}", row.id, row.case);
            row.run().map(|failure| format!("{name}: {failure}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
}
