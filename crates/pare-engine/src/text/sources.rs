//! What is calibrated on and measured on when the user gives no file.

use super::{Amount, ENCYCLOPEDIA, Named, Openings, Packaged, Purpose, SPEECHES, Text, WritingOptions};
use crate::Error;
use crate::bundle::Bundle;
use crate::progress::Work;

/// Name of the text that models write themselves, in tables.
const OWN: &str = "own text";

/// Who writes, and what may be fetched.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The models that write, each as many windows as the others; one at least. Their tokenizers agree.
    pub authors: &'a [&'a Bundle],
    /// Tokens of a window.
    pub length: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Nothing is fetched: everything is written by the models.
    pub own_alone: bool,
}

/// What was found, and what there is to say of it.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The text, or texts.
    pub found: T,
    /// Why a packaged text is missing, in plain words.
    pub notes: Vec<String>,
}

impl Sources<'_> {
    /// The text to calibrate on: speeches, which are long connected prose; what they are too short for, and everything where they cannot be
    /// had, is written by the models. docs/texts.md has the measurement.
    ///
    /// # Errors
    /// As [`Text::self_written`].
    pub fn calibration(&self, windows: usize, apart: &[&Text], work: Work<'_>) -> Result<Found<Text>, Error> {
        let (real, notes) = self.packaged(&SPEECHES, windows, apart, work);
        let missing = windows - real.as_ref().map_or(0, |text| text.sequences.len());
        let Some(real) = real else {
            return Ok(Found { found: self.own(Purpose::Calibration, windows, apart, work)?, notes });
        };
        if missing == 0 {
            return Ok(Found { found: real, notes });
        }
        let own = self.own(Purpose::Calibration, missing, apart, work)?;
        let origin = format!("{}; {}", real.origin, own.origin);
        // In turns, so that any part of the text has both.
        let mut sequences = Vec::with_capacity(windows);
        let (mut real, mut own) = (real.sequences.into_iter(), own.sequences.into_iter());
        loop {
            let before = sequences.len();
            sequences.extend(real.next());
            sequences.extend(own.next());
            if sequences.len() == before {
                return Ok(Found { found: Text { sequences, origin }, notes });
            }
        }
    }

    /// The texts to measure on, as many windows of each: first the encyclopedia, where it can be had, which is of another kind than what is
    /// calibrated on; then text that the first author wrote.
    ///
    /// # Errors
    /// As [`Text::self_written`].
    pub fn verification(&self, windows: usize, apart: &[&Text], work: Work<'_>) -> Result<Found<Vec<Named>>, Error> {
        let (real, notes) = self.packaged(&ENCYCLOPEDIA, windows, apart, work);
        let first = Self { authors: self.authors.get(..1).unwrap_or_default(), ..*self };
        let own = first.own(Purpose::Verification, windows, apart, work)?;
        let real = real.map(|text| Named { name: ENCYCLOPEDIA.name.to_owned(), text });
        let own = Named { name: OWN.to_owned(), text: own };
        Ok(Found { found: real.into_iter().chain([own]).collect(), notes })
    }

    /// The text to measure one model on alone: the encyclopedia, the same for every model.
    ///
    /// # Errors
    /// They cannot be had.
    pub fn reference(&self, windows: usize, work: Work<'_>) -> Result<Named, Error> {
        let (text, notes) = self.packaged(&ENCYCLOPEDIA, windows, &[], work);
        let why = notes.first().map_or("it is too short for one window", String::as_str);
        let text = text.ok_or_else(|| {
            Error::Refused(format!(
                "no text to measure on: on its own text a destroyed model looks as good as any ({why}); give --held-out FILE, or --against MODEL, which then writes the text"
            ))
        })?;
        Ok(Named { name: ENCYCLOPEDIA.name.to_owned(), text })
    }

    /// Windows of a packaged text, or why there are none. Nothing that is wrong with it stops a command that can do without.
    fn packaged(
        &self,
        packaged: &Packaged,
        windows: usize,
        apart: &[&Text],
        work: Work<'_>,
    ) -> (Option<Text>, Vec<String>) {
        let Some(author) = self.authors.first().filter(|_| !self.own_alone) else { return (None, Vec::new()) };
        let amount = Amount { sequences: windows, length: self.length };
        match packaged.windows(&author.tokenizer, amount, self.seed, apart, work.progress) {
            Ok(text) => (Some(text).filter(|text| !text.sequences.is_empty()), Vec::new()),
            Err(why) => {
                let (name, about) = (packaged.name, packaged.about);
                (None, vec![format!("without the packaged text {name} ({about}): {why}")])
            }
        }
    }

    /// Windows that the authors write.
    fn own(&self, purpose: Purpose, windows: usize, apart: &[&Text], work: Work<'_>) -> Result<Text, Error> {
        let mut all = Text { sequences: Vec::new(), origin: String::new() };
        let count = self.authors.len().max(1);
        for (index, author) in self.authors.iter().enumerate() {
            let sequences = (windows + count - 1 - index) / count;
            if sequences == 0 {
                continue;
            }
            let openings = Openings::of(author);
            let options = WritingOptions { openings: &openings, purpose, seed: self.seed };
            let amount = Amount { sequences, length: self.length };
            let own = Text::self_written(&author.model, options, amount, apart, work)?;
            if count > 1 {
                let between = if all.origin.is_empty() { "" } else { "; " };
                all.origin += &format!("{between}{} ({})", own.origin, author.name);
            } else {
                all.origin = own.origin;
            }
            all.sequences.extend(own.sequences);
        }
        Ok(all)
    }
}
