//! Progress on the terminal's error stream.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pare_engine::progress::Progress;
use std::sync::Mutex;

/// A bar per stage; nothing when the error stream is no terminal.
pub(crate) struct Bars {
    quiet: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, bar: Mutex::new(None) }
    }

    /// Takes a bar that an error left away.
    pub(crate) fn clear(&self) {
        self.end();
    }

    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        if let Ok(mut bar) = self.bar.lock() {
            act(&mut bar);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, stage: &str, steps: u64) {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let style = ProgressStyle::with_template("{prefix:>22} [{bar:32}] {pos}/{len} {elapsed} left {eta} {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(stage.to_owned());
        self.with(|slot| *slot = Some(bar));
    }

    fn advance(&self, steps: u64, note: &str) {
        self.with(|slot| {
            if let Some(bar) = slot {
                bar.set_message(note.to_owned());
                bar.inc(steps);
            }
        });
    }

    fn end(&self) {
        self.with(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }
}
