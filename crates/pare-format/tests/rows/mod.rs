//! Runs one row of a battery: a limit of ten seconds, no panic, and the outcome that the row asks for.

use std::sync::mpsc;
use std::time::Duration;

/// What a row must end with.
pub(crate) enum Expect {
    /// Success.
    Fine,
    /// An error whose text holds every one of these.
    Says(&'static [&'static str]),
}

/// A row: its id in the battery, what it does, what must come out.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) run: Box<dyn FnOnce() -> Result<(), String> + Send>,
    pub(crate) expect: Expect,
}

/// A row from a function.
pub(crate) fn row(id: &'static str, expect: Expect, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Row {
    Row { id, run: Box::new(run), expect }
}

/// Runs all rows and fails with the list of those that ended otherwise.
pub(crate) fn run(rows: Vec<Row>) {
    assert!(!rows.is_empty());
    let mut wrong = Vec::new();
    for Row { id, run, expect } in rows {
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            // The receiver is gone when the row was too slow.
            let _ = send.send(outcome);
        });
        let outcome = match receive.recv_timeout(Duration::from_secs(10)) {
            Err(_) => "no answer within 10 s".to_owned(),
            Ok(Err(_)) => "panicked".to_owned(),
            Ok(Ok(Ok(()))) => match expect {
                Expect::Fine => continue,
                Expect::Says(_) => "was accepted".to_owned(),
            },
            Ok(Ok(Err(text))) => match expect {
                Expect::Says(parts) if parts.iter().all(|p| text.contains(p)) => continue,
                Expect::Says(parts) => format!("says {text:?}, expected all of {parts:?}"),
                Expect::Fine => format!("says {text:?}, expected success"),
            },
        };
        wrong.push(format!("{id}: {outcome}"));
    }
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
