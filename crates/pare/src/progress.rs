//! Progress on the error stream: a bar per stage on a terminal, a line per stage anywhere else.

use crate::show;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pare_engine::progress::Progress;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Where nobody sees a bar move, a long stage says this often how far it is.
const STILL_HERE: Duration = Duration::from_secs(60);

/// Shows stages as they pass.
pub(crate) struct Stages {
    display: Display,
    start: Instant,
    stage: Mutex<Option<Stage>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Display {
    Nothing,
    Bars,
    Lines,
}

/// The stage that runs.
struct Stage {
    name: String,
    steps: u64,
    done: u64,
    /// When its last line was written.
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Stages {
    pub(crate) fn new(quiet: bool) -> Self {
        let display = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Display::Nothing,
            (false, true) => Display::Bars,
            (false, false) => Display::Lines,
        };
        Self { display, start: Instant::now(), stage: Mutex::new(None) }
    }

    /// Takes a bar that an error left away.
    pub(crate) fn clear(&self) {
        self.end();
    }

    fn with(&self, act: impl FnOnce(&mut Option<Stage>)) {
        if let Ok(mut stage) = self.stage.lock() {
            act(&mut stage);
        }
    }

    fn line(&self, text: &str) {
        show::remark(&format!("[{:>4.0} s] {text}", self.start.elapsed().as_secs_f64()));
    }
}

fn bar(name: &str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix:>22} [{bar:32}] {pos}/{len} {elapsed} left {eta} {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar
}

impl Progress for Stages {
    fn begin(&self, stage: &str, steps: u64) {
        if self.display == Display::Lines {
            self.line(stage);
        }
        let bar = (self.display == Display::Bars).then(|| bar(stage, steps));
        let stage = Stage { name: stage.to_owned(), steps, done: 0, told: Instant::now(), bar };
        self.with(|slot| *slot = Some(stage));
    }

    fn advance(&self, steps: u64, note: &str) {
        self.with(|slot| {
            let Some(stage) = slot else { return };
            stage.done += steps;
            if let Some(bar) = &stage.bar {
                bar.set_message(note.to_owned());
                bar.inc(steps);
            }
            if self.display == Display::Lines && stage.told.elapsed() >= STILL_HERE {
                stage.told = Instant::now();
                let percent = 100.0 * stage.done as f64 / stage.steps.max(1) as f64;
                let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
                self.line(&format!("{}: {percent:.0} %{note}", stage.name));
            }
        });
    }

    fn end(&self) {
        self.with(|slot| {
            if let Some(bar) = slot.take().and_then(|stage| stage.bar) {
                bar.finish_and_clear();
            }
        });
    }

    fn note(&self, text: &str) {
        let say = || show::remark(&format!("note: {text}"));
        self.with(|slot| match slot.as_ref().and_then(|stage| stage.bar.as_ref()) {
            Some(bar) => bar.suspend(say),
            None => say(),
        });
    }
}
