//! What a result is measured beside: the model as it was read, the dense one, simple methods, and plain bits of the same size.

use super::{Job, Made};
use crate::Error;
use crate::bundle::Bundle;
use crate::figures::Role;
use crate::plain_bits::plain_bits;
use crate::progress::Work;
use crate::verify::Entry;
use crate::write::{WriteAs, write_directory};
use pare_format::write::OutputDir;
use pare_model::model::Model;
use std::path::Path;

/// How the model as it was read is called.
pub const AS_READ: &str = "as read";
/// How the dense model in the result's bytes is called.
pub const PLAIN_BITS: &str = "plain bits";

/// A model that was written to be measured.
pub(super) struct Written {
    output: OutputDir,
    pub(super) bytes: u64,
}

impl Written {
    pub(super) fn path(&self) -> &Path {
        self.output.temporary()
    }
}

/// All of them.
pub(super) struct Beside {
    /// The dense model in the type that plain weights of the result have.
    pub(super) dense: Written,
    /// The files that the user gave, when the model in memory holds other numbers.
    read: Option<Bundle>,
    /// Simple methods at the same keep: name and model.
    simple: Vec<(String, Model)>,
    /// The dense model in about the bytes of the result.
    pub(super) plain: Written,
    plain_model: Bundle,
    /// What is to be said of them.
    pub(super) notes: Vec<String>,
}

impl Beside {
    /// Makes them, inside the unfinished output: what a killed process leaves is found and removed with it.
    pub(super) fn make(job: &Job<'_>, made: &Made, written: &Path, work: Work<'_>) -> Result<Self, Error> {
        let bundle = job.bundle;
        let output = OutputDir::create(written.join("dense"), true)?;
        let bytes = write_directory(&output, bundle, &bundle.model, WriteAs::Type(made.dtype), work)?.bytes;
        let dense = Written { output, bytes };
        let read = match bundle.rewritten {
            true => Some(Bundle::open(&bundle.path.display().to_string(), work)?),
            false => None,
        };
        let (mut simple, mut notes) = (Vec::new(), Vec::new());
        for recipe in job.recipe.baselines() {
            match job.shrink(&recipe, None, work) {
                Ok(shrunk) => simple.push((recipe.name, shrunk.model)),
                // Whole blocks or a pattern may not reach the share; what stays in the way is said.
                Err(Error::Keep { why, .. }) => {
                    notes.push(format!("There is no baseline {:?}: {why}.", recipe.name));
                }
                Err(error) => return Err(error),
            }
        }
        let bits = plain_bits(&bundle.model, made.written.bytes, work)?;
        let output = OutputDir::create(written.join("plain-bits"), true)?;
        let bytes = write_directory(&output, bundle, &bits.model, WriteAs::Kept, work)?.bytes;
        let plain = Written { output, bytes };
        let plain_model = Bundle::open(&plain.path().display().to_string(), work)?;
        let share = if bytes > made.written.bytes { "the least that plain types reach" } else { "the result's size" };
        notes.push(format!(
            "{PLAIN_BITS} is the dense model with nothing cut and every matrix rounded to the nearest, in the types that lose least within \
             the bytes of the result ({}): {:.1} MB, {share}.",
            bits.types(),
            bytes as f64 / 1e6
        ));
        Ok(Self { dense, read, simple, plain, plain_model, notes })
    }

    /// The labels of what lies in files, and where.
    pub(super) fn files<'a>(&'a self, job: &'a Job<'_>, written: &'a Path) -> [(&'a str, &'a Path); 4] {
        let read = job.bundle.path.as_path();
        [("dense", self.dense.path()), (AS_READ, read), (&job.recipe.name, written), (PLAIN_BITS, self.plain.path())]
    }

    /// The entries of a proof: the dense model, the model as it was read, the result, the simple methods, plain bits.
    pub(super) fn entries<'a>(&'a self, job: &'a Job<'_>, made: &Made, result: &'a Bundle) -> Vec<Entry<'a>> {
        let read = self.read.as_ref().unwrap_or(job.bundle);
        let as_stored = job.write_as.is_own();
        let of = |label, role, model, bytes| Entry { label, role, model, bytes, as_stored, speed_only: false };
        let dense = of("dense", Role::Dense, &job.bundle.model, Some(self.dense.bytes));
        let read = of(AS_READ, Role::AsRead, &read.model, Some(read.bytes));
        let mut entries = vec![
            Entry { as_stored: false, ..dense },
            Entry { as_stored: true, speed_only: self.read.is_none(), ..read },
            of(&job.recipe.name, Role::Result, &result.model, Some(made.written.bytes)),
        ];
        entries.extend(self.simple.iter().map(|(label, model)| of(label, Role::Baseline, model, None)));
        let plain = of(PLAIN_BITS, Role::Baseline, &self.plain_model.model, Some(self.plain.bytes));
        entries.push(Entry { as_stored: true, ..plain });
        entries
    }
}
