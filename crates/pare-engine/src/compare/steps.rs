//! Progress of a comparison: every stage says which entry it belongs to, and how long the rest will take.

use super::ModelFigures;
use crate::progress::Progress;

/// How many entries are to be measured, and how long the measured ones took.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    /// Entries that were measured now.
    done: usize,
    seconds: f64,
    /// Entries that earlier runs measured, and their time.
    before: usize,
    seconds_before: f64,
}

impl Clock {
    /// Counts an entry that was measured now.
    pub(super) fn measured(&mut self, figures: Option<&ModelFigures>) {
        self.done += 1;
        self.seconds += seconds(figures);
    }

    /// Counts an entry of an earlier run.
    pub(super) fn found(&mut self, figures: Option<&ModelFigures>) {
        self.before += 1;
        self.seconds_before += seconds(figures);
    }

    /// Seconds that `entries` more will take, by those of this run or else by those of earlier ones; none before the first.
    pub(super) fn left(&self, entries: usize) -> Option<f64> {
        let mean = match (self.done, self.before) {
            (0, 0) => return None,
            (0, before) => self.seconds_before / before as f64,
            (done, _) => self.seconds / done as f64,
        };
        Some(mean * entries as f64)
    }
}

fn seconds(figures: Option<&ModelFigures>) -> f64 {
    figures.map_or(0.0, |figures| figures.cost.seconds)
}

/// Passes progress on, with the entry in front of each stage.
pub(super) struct Step<'a> {
    inner: &'a dyn Progress,
    label: String,
}

impl<'a> Step<'a> {
    /// Entry `number` of `count`, called `name`; `left` are seconds.
    pub(super) fn new(inner: &'a dyn Progress, (number, count): (usize, usize), name: &str, left: Option<f64>) -> Self {
        let left = left.map_or(String::new(), |seconds| format!(", all done in {}", duration(seconds)));
        Self { inner, label: format!("{number}/{count} {name}{left}") }
    }
}

impl Progress for Step<'_> {
    fn begin(&self, stage: &str, steps: u64) {
        self.inner.begin(&format!("{}: {stage}", self.label), steps);
    }

    fn advance(&self, steps: u64, note: &str) {
        self.inner.advance(steps, note);
    }

    fn end(&self) {
        self.inner.end();
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }
}

/// As in `45 s`, `12 min` and `3 h 05 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..100 => format!("{whole} s"),
        100..5400 => format!("{} min", (whole + 30) / 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::measured;
    use super::*;
    use std::sync::Mutex;

    fn took(seconds: f64) -> ModelFigures {
        let mut figures = measured(0.1, 1, 1.0);
        figures.cost.seconds = seconds;
        figures
    }

    #[test]
    fn the_time_left_is_that_of_this_run_once_there_is_one() {
        let mut clock = Clock::default();
        assert_eq!(clock.left(3), None);
        clock.found(Some(&took(10.0)));
        clock.found(Some(&took(20.0)));
        assert_eq!(clock.left(2), Some(30.0));
        clock.measured(Some(&took(40.0)));
        assert_eq!(clock.left(2), Some(80.0));
    }

    #[test]
    fn stages_say_their_entry() {
        #[derive(Default)]
        struct Heard(Mutex<Vec<String>>);
        impl Progress for Heard {
            fn begin(&self, stage: &str, steps: u64) {
                self.0.lock().unwrap().push(format!("{stage} {steps}"));
            }
            fn advance(&self, _: u64, _: &str) {}
            fn end(&self) {}
        }
        let heard = Heard::default();
        Step::new(&heard, (2, 9), "slim 0.8", None).begin("cutting", 30);
        Step::new(&heard, (3, 9), "slim 0.7", Some(7500.0)).begin("probing", 4);
        let expected = ["2/9 slim 0.8: cutting 30", "3/9 slim 0.7, all done in 2 h 05 min: probing 4"];
        assert_eq!(*heard.0.lock().unwrap(), expected);
        assert_eq!(
            (duration(99.9), duration(100.0), duration(5399.0)),
            ("99 s".into(), "2 min".into(), "90 min".into())
        );
    }
}
